"""Rate and concurrency limits: how many calls begin in a time, and how many run at once."""

import asyncio
import contextlib
import functools
import gc
import os
import threading
import weakref

import pytest
from origin import turns
from samovar import Cache, LoadCycle, LoadTimeout, RateLimited
from samovar.resilience import Breaker, Concurrency, Rate, protect
from samovar.testing import CacheClock
from scripted import Scripted, both, call, fails, in_threads

pytestmark = pytest.mark.usefixtures("cache_clock")


# --- rate -------------------------------------------------------------------------------------------------------------


@both
def test_beyond_the_burst_calls_are_refused_and_told_when_to_come_back(kind: str, cache_clock: CacheClock) -> None:
    rate = Rate("3/s", burst=2)
    origin = Scripted(kind)
    load = rate(origin.load)
    assert [call(load), call(load)] == ["done", "done"]
    with pytest.raises(RateLimited, match=r"rate limit of .*load.*, 3/s, is used up.*0\.334 s") as caught:
        call(load)
    assert caught.value.retry_after == 0.334
    assert (rate.stats(), str(rate)) == ((0, 2, 1), "<Rate 3/s, burst 2: 0 available>")
    cache_clock.advance(caught.value.retry_after)
    assert (call(load), origin.calls) == ("done", 3)


def test_ten_seconds_at_a_hundred_a_second_let_a_thousand_through(cache_clock: CacheClock) -> None:
    origin = Scripted("sync")
    load = Rate("100/s")(origin.load)
    refused = 0
    for _ in range(2_000):
        cache_clock.advance("5ms")
        try:
            load()
        except RateLimited:
            refused += 1
    assert 980 <= origin.calls <= 1020
    assert origin.calls + refused == 2_000


@both
def test_who_may_wait_gets_the_next_turn(kind: str, cache_clock: CacheClock) -> None:
    waits: list[float] = []
    origin = Scripted(kind)
    load = Rate("10/s", burst=1, wait="250ms", sleep=waits.append)(origin.load)
    for _ in range(3):
        call(load)
    assert waits == [0.1, 0.2]
    fails(load, error=RateLimited)
    assert origin.calls == 3


def test_a_cancelled_wait_gives_its_turn_back() -> None:
    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    rate = Rate("10/s", burst=1, wait="1s", sleep=forever)

    @rate
    async def load() -> None:
        pass

    async def main() -> None:
        await load()
        task = asyncio.ensure_future(load())
        await turns()
        assert rate.stats().allowed == 2
        task.cancel()
        await asyncio.wait([task])
        assert rate.stats().allowed == 1

    asyncio.run(main())


def test_threads_share_one_rate() -> None:
    origin = Scripted("sync")
    load = Rate("1/h", burst=50)(origin.load)

    def many() -> None:
        for _ in range(100):
            with contextlib.suppress(RateLimited):
                load()

    in_threads([many] * 8)
    assert origin.calls == 50


# --- concurrency ------------------------------------------------------------------------------------------------------


class Running:
    """Calls that run until they are let go, one after the other."""

    def __init__(self, limit: Concurrency) -> None:
        self.now: list[object] = []
        self.most = 0
        self.gates: dict[object, asyncio.Event] = {}
        self.load = limit(self._load)

    async def _load(self, name: object) -> object:
        self.now.append(name)
        self.most = max(self.most, len(self.now))
        try:
            await self.gates.setdefault(name, asyncio.Event()).wait()
        finally:
            self.now.remove(name)
        return name

    def let_go(self, name: object) -> None:
        self.gates.setdefault(name, asyncio.Event()).set()


def test_no_more_than_the_limit_run_and_the_longest_waiting_is_next() -> None:
    limit = Concurrency(2, name="database")
    running = Running(limit)

    async def main() -> None:
        tasks = [asyncio.ensure_future(running.load(n)) for n in range(5)]
        await turns()
        assert (running.now, limit.stats()) == ([0, 1], (2, 3, 0))
        assert str(limit) == "<Concurrency 'database': 2 of 2 run, 3 of 1000 wait>"
        running.let_go(1)
        await turns()
        assert running.now == [0, 2]
        for n in range(5):
            running.let_go(n)
        assert await asyncio.gather(*tasks) == [0, 1, 2, 3, 4]
        assert (running.most, limit.stats()) == (2, (0, 0, 0))

    asyncio.run(main())


def test_who_finds_the_queue_full_is_refused() -> None:
    limit = Concurrency(1, queue=1)
    running = Running(limit)

    async def main() -> None:
        tasks = [asyncio.ensure_future(running.load(n)) for n in range(2)]
        await turns()
        with pytest.raises(RateLimited, match=r"limit of Running\._load is used up: 1 calls run and 1 wait") as caught:
            await running.load(2)
        assert (caught.value.retry_after, limit.stats()) == (None, (1, 1, 1))
        running.let_go(0)
        running.let_go(1)
        await asyncio.gather(*tasks)

    asyncio.run(main())


@pytest.mark.parametrize("cancelled", ["who runs", "who waits", "who was just woken"])
def test_a_cancelled_caller_leaves_its_place_to_the_others(cancelled: str) -> None:
    limit = Concurrency(1)
    running = Running(limit)

    async def main() -> None:
        tasks = [asyncio.ensure_future(running.load(n)) for n in range(3)]
        await turns()
        if cancelled == "who runs":
            tasks[0].cancel()
            await turns()
            assert (running.now, limit.stats()) == ([1], (1, 1, 0))
        elif cancelled == "who waits":
            tasks[1].cancel()
            await turns()
            assert (running.now, limit.stats()) == ([0], (1, 1, 0))
        else:
            running.let_go(0)
            await tasks[0]
            tasks[1].cancel()
            await turns()
            assert (running.now, limit.stats()) == ([2], (1, 0, 0))
        for n in range(3):
            running.let_go(n)
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limit.stats() == (0, 0, 0)

    asyncio.run(main())


def test_threads_wait_for_each_other() -> None:
    limit = Concurrency(2)
    lock, most, now = threading.Lock(), 0, 0

    @limit
    def load() -> None:
        nonlocal most, now
        with lock:
            now += 1
            most = max(most, now)
        for _ in range(100):
            pass
        with lock:
            now -= 1

    def many() -> None:
        for _ in range(200):
            load()

    in_threads([many] * 6)
    assert most <= 2
    assert limit.stats() == (0, 0, 0)


def test_a_task_is_woken_by_a_thread_and_a_thread_by_a_task() -> None:
    limit = Concurrency(1)
    runs, may_end = threading.Event(), threading.Event()

    @limit
    def blocks() -> None:
        runs.set()
        may_end.wait()

    @limit
    async def awaits() -> str:
        assert limit.stats().waiting == 1
        return "done"

    async def main() -> None:
        first, last = threading.Thread(target=blocks), threading.Thread(target=blocks)
        first.start()
        runs.wait()
        task = asyncio.ensure_future(awaits())
        await turns()
        last.start()
        while limit.stats().waiting < 2:
            await turns(1)
        may_end.set()
        assert await task == "done"
        first.join()
        last.join()

    # In debug mode a loop refuses to be called by another thread, unless it is asked in the way that wakes it.
    asyncio.run(main(), debug=True)
    assert limit.stats() == (0, 0, 0)


def test_who_waits_on_a_loop_that_was_closed_is_passed_over() -> None:
    limit = Concurrency(1)
    running = Running(limit)
    closed = asyncio.new_event_loop()
    holder = limit._core.try_enter(1)
    assert holder is not None
    stuck = closed.create_task(running.load("stuck"))
    closed.run_until_complete(turns())
    assert limit.stats() == (1, 1, 0)
    closed.close()

    async def main() -> None:
        task = asyncio.ensure_future(running.load("alive"))
        await turns()
        limit._core.leave(holder)
        await turns()
        assert running.now == ["alive"]
        running.let_go("alive")
        assert await task == "alive"

    asyncio.run(main())
    stuck._log_destroy_pending = False  # type: ignore[attr-defined]
    del stuck
    gc.collect()
    assert limit.stats() == (0, 0, 0)


def test_who_waits_on_a_loop_that_is_gone_is_freed_with_all_that_it_holds() -> None:
    limit = Concurrency(1)
    seen = weakref.ref(limit)
    gone = asyncio.new_event_loop()
    holder = limit._core.try_enter(1)
    stuck = gone.create_task(Running(limit).load("stuck"))
    gone.run_until_complete(turns())
    assert limit.stats() == (1, 1, 0)
    gone.close()
    stuck._log_destroy_pending = False  # type: ignore[attr-defined]
    del limit, stuck, gone, holder
    gc.collect()
    assert seen() is None


@both
def test_who_holds_all_permits_does_not_wait_for_itself(kind: str) -> None:
    limit = Concurrency(2)

    @limit
    def again(depth: int) -> int:
        return again(depth + 1) if depth < 9 else depth

    @limit
    async def again_async(depth: int) -> int:
        return await again_async(depth + 1) if depth < 9 else depth

    with pytest.raises(LoadCycle, match=r"again.* would wait for itself: .*2 calls run"):
        call(functools.partial(again_async if kind == "async" else again, 0))
    assert limit.stats() == (0, 0, 0)


def test_a_call_that_would_block_the_loop_which_others_need_is_refused() -> None:
    limit = Concurrency(1)
    running = Running(limit)
    blocks = limit(Scripted("sync").load)

    async def main() -> None:
        task = asyncio.ensure_future(running.load(1))
        await turns()
        with pytest.raises(RateLimited, match="would block the event loop"):
            blocks()
        running.let_go(1)
        await task
        assert blocks() == "done"

    asyncio.run(main())


def test_time_in_the_queue_counts_for_the_timeout_but_not_against_the_loader(cache_clock: CacheClock) -> None:
    limit, breaker, origin = Concurrency(1), Breaker(minimum_calls=1), Scripted("async")
    holder = limit._core.try_enter(1)
    assert holder is not None

    async def main() -> None:
        task = asyncio.ensure_future(protect(origin.load, breaker=breaker, concurrency=limit, timeout="5s")())
        await turns()
        cache_clock.advance("5s")
        with pytest.raises(LoadTimeout):
            await task
        assert (origin.calls, breaker.stats(), limit.stats()) == (0, (0, 0, 0, 0, 0), (1, 0, 0))

    asyncio.run(main())


@both
def test_a_turn_that_comes_when_the_time_is_over_is_not_taken(kind: str, cache_clock: CacheClock) -> None:
    origin = Scripted(kind)
    rate = Rate("1/5s", burst=1, wait="1m", sleep=cache_clock.advance)
    load = protect(origin.load, rate=rate, timeout="5s")
    assert call(load) == "done"
    fails(load, error=LoadTimeout)
    cache_clock.advance("4s")
    assert (call(load), origin.calls) == ("done", 2)


def test_a_thread_waits_in_the_queue_until_the_timeout_too() -> None:
    limit, origin = Concurrency(1), Scripted("sync")
    assert limit._core.try_enter(1) is not None
    with pytest.raises(LoadTimeout):
        protect(origin.load, concurrency=limit, timeout=0.001)()
    assert (origin.calls, limit.stats()) == (0, (1, 0, 0))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_has_all_permits_and_no_probe_under_way(cache_clock: CacheClock) -> None:
    limit, breaker = Concurrency(1, queue=0), Breaker(minimum_calls=1, open_for="1s")
    fails(breaker(Scripted("sync", OSError()).load))
    cache_clock.advance("1s")
    status = []

    def fork() -> str:
        if child := os.fork():
            status.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return "parent"
        code = 1
        try:
            works = limit(Scripted("sync").load)() == breaker(Scripted("sync").load)() == "done"
            code = 0 if works and breaker.state == "closed" else 1
        finally:
            os._exit(code)

    assert limit(breaker(fork))() == "parent"
    assert status == [0]
    assert breaker.state == "closed"


@pytest.mark.parametrize("limit", [1, 2])
def test_a_load_that_needs_itself_through_the_cache_is_told_so_and_hangs_nobody(limit: int, cache: Cache) -> None:
    guard = Concurrency(limit)

    @cache.cached(concurrency=guard)
    async def depth(n: int) -> int:
        return 0 if n == 0 else 1 + await depth(n - 1)

    async def main() -> None:
        with pytest.raises(LoadCycle, match="made by the caller, or wait for it"):
            await depth(limit)
        assert guard.stats()[:2] == (0, 0)
        assert await depth(0) == 0
        assert await depth(1) == 1

    asyncio.run(main())


def test_loads_that_nobody_in_front_waits_for_stand_in_line(cache: Cache) -> None:
    guard, gate = Concurrency(1), asyncio.Event()

    @cache.cached(concurrency=guard)
    async def load(n: int) -> int:
        await gate.wait()
        return n

    @cache.cached
    async def pair() -> list[int]:
        return list(await asyncio.gather(load(1), load(2)))

    async def main() -> None:
        waiting = asyncio.create_task(pair())
        await turns()
        assert guard.stats()[:2] == (1, 1)
        gate.set()
        assert await waiting == [1, 2]

    asyncio.run(main())
