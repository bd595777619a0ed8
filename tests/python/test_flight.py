"""One load per key, whoever asks, leaves, fails or invalidates meanwhile."""

import asyncio
import contextvars
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import Any

import pytest
from samovar import Cache, LoadCycle, LoadError
from samovar.testing import CacheClock


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


class Gate:
    """A loader that waits until it is let through, and notes what happened to it."""

    def __init__(self) -> None:
        self.calls: list[Any] = []
        self.cancelled = 0
        self.open = asyncio.Event()

    async def pass_through(self, value: Any) -> Any:
        self.calls.append(value)
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return value


def test_a_thousand_awaits_of_a_cold_key_are_one_load(cache: Cache) -> None:
    @cache.cached("5m")
    async def load(n: int) -> int:
        await asyncio.sleep(0)
        return n

    async def main() -> None:
        assert await asyncio.gather(*(load(7) for _ in range(1000))) == [7] * 1000

    asyncio.run(main())
    assert load.stats().loads == 1
    assert load.stats().coalesced == 999


@pytest.mark.parametrize("leaver", [0, 1])
def test_a_caller_that_is_cancelled_leaves_the_load_to_the_others(cache: Cache, leaver: int) -> None:
    async def main() -> None:
        gate = Gate()

        @cache.cached("5m")
        async def load(n: int) -> Any:
            return await gate.pass_through(n)

        tasks = [asyncio.ensure_future(load(1)) for _ in range(3)]
        await turns()
        tasks[leaver].cancel()
        await turns()
        gate.open.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results.pop(leaver), asyncio.CancelledError)
        assert results == [1, 1]
        assert gate.calls == [1]
        assert gate.cancelled == 0
        assert await load(1) == 1

    asyncio.run(main())


def test_a_load_that_everybody_left_is_cancelled(cache: Cache) -> None:
    async def main() -> None:
        gate = Gate()

        @cache.cached("5m")
        async def load(n: int) -> Any:
            return await gate.pass_through(n)

        tasks = [asyncio.ensure_future(load(1)) for _ in range(3)]
        await turns()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await turns()
        assert gate.cancelled == 1
        gate.open.set()
        assert await load(1) == 1
        assert gate.calls == [1, 1]

    asyncio.run(main())
    assert cache._inspect()["flights"] == 0


def test_a_loader_that_raises_reaches_everyone_and_the_next_call_loads_again(cache: Cache) -> None:
    async def main() -> None:
        error, calls = ValueError("no"), 0

        @cache.cached("5m")
        async def load() -> int:
            nonlocal calls
            calls += 1
            await asyncio.sleep(0)
            if calls == 1:
                raise error
            return calls

        results: list[Any] = await asyncio.gather(*(load() for _ in range(3)), return_exceptions=True)
        assert results[0] is error
        assert all(type(other) is ValueError and other.args == ("no",) for other in results[1:])
        assert len({id(result) for result in results}) == 3
        assert await load() == 2

    asyncio.run(main())


def test_a_load_cancelled_by_others_is_a_load_error(cache: Cache) -> None:
    async def main() -> None:
        gate = Gate()
        inner: list[asyncio.Task[Any]] = []

        @cache.cached("5m")
        async def load() -> Any:
            task = asyncio.current_task()
            assert task is not None
            inner.append(task)
            return await gate.pass_through(1)

        tasks = [asyncio.ensure_future(load()) for _ in range(2)]
        await turns()
        assert inner[0] not in tasks
        inner[0].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [LoadError, LoadError]

    asyncio.run(main())


def test_a_load_that_asks_for_its_own_key_loads_directly(cache: Cache) -> None:
    depth = 0

    @cache.cached("5m")
    async def later(n: int) -> int:
        nonlocal depth
        depth += 1
        return n if depth % 2 == 0 else await later(n)

    @cache.cached("5m")
    def now(n: int) -> int:
        nonlocal depth
        depth += 1
        return n if depth % 2 == 0 else now(n)

    assert asyncio.run(asyncio.wait_for(later(1), 30)) == 1
    assert now(1) == 1
    assert cache._inspect()["flights"] == 0


def test_loads_that_wait_for_each_other_raise_load_cycle(cache: Cache) -> None:
    @cache.cached("5m")
    async def first() -> int:
        await asyncio.sleep(0)
        return await second()

    @cache.cached("5m")
    async def second() -> int:
        await asyncio.sleep(0)
        return await first()

    with pytest.raises(LoadCycle, match=r"first.*second.*first"):
        asyncio.run(asyncio.wait_for(first(), 30))


def test_blocking_threads_share_one_load(cache: Cache) -> None:
    calls, barrier, inside, go = [], threading.Barrier(4), threading.Event(), threading.Event()

    @cache.cached("5m")
    def load() -> int:
        calls.append(1)
        inside.set()
        assert go.wait(30)
        return 5

    answers: list[int] = []

    def ask() -> None:
        barrier.wait(30)
        answers.append(load())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert inside.wait(30)
    go.set()
    for thread in threads:
        thread.join(30)
    assert answers == [5] * 4
    assert len(calls) == 1


def test_one_function_serves_two_loops_in_two_threads(cache: Cache) -> None:
    barrier, answers = threading.Barrier(2), []

    @cache.cached("5m")
    async def load(n: int) -> int:
        await turns()
        return n

    async def main() -> None:
        barrier.wait(30)
        answers.extend([await asyncio.wait_for(load(n), 30) for n in range(50)])

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(answers) == sorted([*range(50)] * 2)
    assert cache._inspect()["flights"] == 0


class Elsewhere:
    """A loop on a thread of its own, which can be stopped with work on it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def begin(self, awaitable: Awaitable[Any]) -> Future[Any]:
        """Run it until it waits, and leave it there."""
        result = asyncio.run_coroutine_threadsafe(awaited(awaitable), self.loop)
        asyncio.run_coroutine_threadsafe(turns(), self.loop).result(30)
        return result

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30)

    def go_on(self) -> None:
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.wait(tasks))
        self.loop.close()


@pytest.mark.slow
def test_a_load_on_a_loop_that_stops_keeps_nobody_elsewhere_waiting(cache: Cache) -> None:
    calls = []

    @cache.cached("5m")
    async def load() -> int:
        calls.append(1)
        if len(calls) == 1:
            await asyncio.Event().wait()
        return len(calls)

    elsewhere = Elsewhere()
    elsewhere.begin(load())

    async def main() -> int:
        waiter = asyncio.ensure_future(load())
        await turns()
        # No lookup finds the load any more: only those who wait for it know of it.
        await load.invalidate()
        elsewhere.stop()
        return await asyncio.wait_for(waiter, 30)

    assert asyncio.run(main()) == 2
    elsewhere.close()
    assert cache._inspect()["flights"] == cache._inspect()["tasks"] == 0


def test_a_waiter_that_is_to_load_on_a_loop_that_stopped_keeps_nobody_from_loading(cache: Cache) -> None:
    loads: list[asyncio.Task[Any] | None] = []

    @cache.cached("5m")
    async def load() -> int:
        loads.append(asyncio.current_task())
        if len(loads) == 1:
            await asyncio.Event().wait()
        return len(loads)

    leader, follower = Elsewhere(), Elsewhere()
    leader.begin(load())
    answer = follower.begin(load())
    follower.stop()

    async def end_the_load() -> None:
        assert loads[0] is not None
        loads[0].cancel()

    leader.begin(end_the_load())
    assert asyncio.run(asyncio.wait_for(awaited(load()), 30)) == 2
    follower.go_on()
    assert answer.result(30) == 2, "it looks again"
    for loop in (leader, follower):
        loop.stop()
        loop.close()
    assert cache._inspect()["flights"] == cache._inspect()["tasks"] == 0


def test_a_leader_with_a_session_takes_its_load_along_and_the_next_starts_anew(cache: Cache) -> None:
    async def main() -> None:
        gate = Gate()

        @cache.cached("5m", ignore=["session"])
        async def load(n: int, session: str) -> Any:
            return await gate.pass_through(session)

        leader, waiter = asyncio.ensure_future(load(1, "a")), asyncio.ensure_future(load(1, "b"))
        await turns()
        assert gate.calls == ["a"]
        leader.cancel()
        await turns()
        assert gate.cancelled == 1
        gate.open.set()
        assert await waiter == "b"
        assert gate.calls == ["a", "b"]

    asyncio.run(main())


@pytest.mark.parametrize("how", ["invalidate", "clear"])
def test_an_invalidation_during_a_load_stores_nothing_and_a_later_call_starts_anew(cache: Cache, how: str) -> None:
    async def main() -> None:
        gate = Gate()
        version = 0

        @cache.cached("5m")
        async def load(n: int) -> Any:
            seen = version
            await gate.pass_through(n)
            return seen

        old = asyncio.ensure_future(load(1))
        await turns()
        version = 1
        await (load.invalidate(1) if how == "invalidate" else cache.clear())
        new = asyncio.ensure_future(load(1))
        await turns()
        assert len(gate.calls) == 2
        gate.open.set()
        assert [await old, await new, await load(1)] == [0, 1, 1]

    asyncio.run(main())


def test_a_loaded_value_is_fresh_for_its_ttl_and_then_loaded_again(cache: Cache, cache_clock: CacheClock) -> None:
    load = counting(cache)

    async def main() -> None:
        assert await load() == 1
        cache_clock.advance(299.999)
        assert await load() == 1
        cache_clock.advance(0.001)
        assert await load() == 2

    asyncio.run(main())
    assert (load.stats().hits, load.stats().misses, load.stats().loads) == (1, 2, 2)


def test_an_explicit_write_outlives_an_older_load(cache: Cache) -> None:
    async def main() -> None:
        gate = Gate()
        for write in (cache.set, cache.add):
            old = asyncio.ensure_future(cache.get_or_set("k", lambda: gate.pass_through(1)))
            await turns()
            await write("k", 7)
            gate.open.set()
            assert [await old, await cache.get("k")] == [1, 7]
            await cache.delete("k")
            gate.open.clear()

    asyncio.run(main())


def test_a_key_asked_for_again_after_an_invalidation_by_its_own_loader_is_a_load_of_its_own(cache: Cache) -> None:
    calls: list[int] = []

    @cache.cached("5m")
    async def load() -> int:
        calls.append(1)
        if len(calls) == 2:
            return 2
        await load.invalidate()
        return await load()

    async def main() -> None:
        assert [await load(), await load(), len(calls)] == [2, 2, 2]

    asyncio.run(main())


def test_a_call_that_is_never_awaited_warns_and_takes_no_lease(cache: Cache) -> None:
    @cache.cached("5m")
    async def load() -> int:
        return 1

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            load()
        assert cache._inspect()["flights"] == 0
        assert await load() == 1

    asyncio.run(main())
    assert load.stats().loads == 1


def test_a_second_await_of_one_call_is_refused(cache: Cache) -> None:
    @cache.cached("5m")
    async def load() -> int:
        return 1

    async def main() -> None:
        for _ in range(2):
            call = load()
            assert await call == 1
            with pytest.raises(RuntimeError):
                await call

    asyncio.run(main())


def test_a_loader_sees_the_context_of_its_starter(cache: Cache) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user")

    @cache.cached("5m")
    async def load() -> str:
        return user.get()

    async def main() -> None:
        user.set("ann")
        assert await load() == "ann"

    asyncio.run(main())


def counting(cache: Cache) -> Any:
    calls = 0

    @cache.cached("5m")
    async def load() -> int:
        nonlocal calls
        calls += 1
        return calls

    return load


def test_a_refresh_loads_anew(cache: Cache) -> None:
    load = counting(cache)

    async def main() -> None:
        assert [await load(), await load.refresh(), await load()] == [1, 2, 2]

    asyncio.run(main())


def test_refreshes_that_arrive_during_one_share_the_next(cache: Cache) -> None:
    async def main() -> None:
        gates = [asyncio.Event() for _ in range(3)]
        begun = 0

        @cache.cached("5m")
        async def load() -> int:
            nonlocal begun
            begun += 1
            mine = begun
            await gates[mine - 1].wait()
            return mine

        first = asyncio.ensure_future(awaited(load.refresh()))
        await turns()
        later = [asyncio.ensure_future(awaited(load.refresh())) for _ in range(5)]
        await turns()
        assert begun == 1
        gates[0].set()
        assert await first == 1
        await turns()
        assert (begun, await load()) == (2, 1), "what a refresh has loaded is stored, whoever wants a newer value"
        gates[1].set()
        assert await asyncio.gather(*later) == [2] * 5
        assert (begun, await load(), load.stats().loads) == (2, 2, 2)

    asyncio.run(main())


def test_refreshes_faster_than_their_load_still_bring_new_values(cache: Cache) -> None:
    async def main() -> None:
        begun = 0

        @cache.cached("5m")
        async def load() -> int:
            nonlocal begun
            begun += 1
            mine = begun
            await turns(20)
            return mine

        asking, seen = [], set()
        for _ in range(40):
            asking.append(asyncio.ensure_future(awaited(load.refresh())))
            await turns(5)
            entry = await load.peek()
            seen.add(entry and entry.value)
        assert len(seen) > 5, "each load is stored when it ends"
        assert await asyncio.gather(*asking) == sorted(task.result() for task in asking)

    asyncio.run(main())


def test_a_refresh_after_an_invalidation_waits_for_no_older_load(cache: Cache) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        begun = 0

        @cache.cached("5m")
        async def load() -> int:
            nonlocal begun
            begun += 1
            mine = begun
            if mine == 1:
                await gate.wait()
            return mine

        first = asyncio.ensure_future(awaited(load.refresh()))
        await turns()
        await load.invalidate()
        assert await load.refresh() == 2
        gate.set()
        assert (await first, await load()) == (1, 2)

    asyncio.run(main())


def test_a_refresh_that_waited_for_another_gets_its_own_error_and_no_old_value(cache: Cache) -> None:
    async def main() -> None:
        gate = asyncio.Event()
        fails = False

        @cache.cached("5m", stale_if_error="1h")
        async def load() -> int:
            if fails:
                await gate.wait()
                raise OSError("away")
            return 1

        assert await load() == 1
        fails = True
        asking = [asyncio.ensure_future(awaited(load.refresh())) for _ in range(2)]
        await turns()
        gate.set()
        answers = await asyncio.gather(*asking, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError, OSError]
        assert (await load(), load.stats().loads) == (1, 3)

    asyncio.run(main())


def test_a_refresh_from_within_its_own_load_loads_directly(cache: Cache) -> None:
    async def main() -> None:
        depth = 0

        @cache.cached("5m")
        async def load() -> int:
            nonlocal depth
            depth += 1
            return 1 + await load.refresh() if depth < 3 else 0

        assert await load() == 2

    asyncio.run(main())


def test_a_disabled_cache_loads_always(cache: Cache) -> None:
    load = counting(cache)

    async def main() -> None:
        await load()
        with cache.disabled():
            assert [await load(), await load()] == [2, 3]

    asyncio.run(main())


def test_a_load_that_is_taken_over_counts_and_a_refresh_is_no_miss(cache: Cache) -> None:
    async def main() -> None:
        gate = Gate()

        @cache.cached("5m", ignore=["session"])
        async def load(n: int, session: str) -> Any:
            return await gate.pass_through(session)

        tasks = [asyncio.ensure_future(load(1, session)) for session in "ab"]
        await turns()
        tasks[0].cancel()
        await turns()
        gate.open.set()
        assert await tasks[1] == "b"
        assert gate.calls == ["a", "b"]
        assert load.stats().loads == 2
        misses = load.stats().misses
        await load.refresh(1, "c")
        assert [load.stats().loads, load.stats().refreshes, load.stats().misses] == [3, 1, misses]

    asyncio.run(main())


def test_a_disabled_cache_loads_what_is_asked_for_and_stores_nothing(cache: Cache) -> None:
    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    @cache.cached("5m")
    async def aload(n: int) -> int:
        return n

    async def seven() -> int:
        return 7

    async def main() -> None:
        for key in ("k", "r"):
            await cache.set(key, 1)
        load(1), await aload(1)
        with cache.disabled():
            assert [await cache.get_or_set("k", lambda: 7), await cache.get_or_set("k", seven)] == [7, 7]
            assert cache.sync.get_or_set("k", lambda: 7) == 7
            with pytest.raises(TypeError, match="async"):
                cache.sync.get_or_set("k", seven)
            load.set(5, 1), await aload.set(5, 1)
            assert [await aload.refresh(2), load.refresh(2)] == [2, 2]
            assert not await cache.replace("r", 2)
        assert [load.peek(1), await aload.peek(1), load.peek(2)] == [None] * 3
        assert [await cache.get("k"), await cache.get("r")] == [1, None]

    asyncio.run(main())


def test_a_disabled_namespace_leaves_the_others_alone(cache: Cache) -> None:
    names = {"": cache, "a": cache.namespace("a"), "a:b": cache.namespace("a:b"), "ab": cache.namespace("ab")}

    def seen() -> list[str]:
        return [path for path, part in names.items() if part.sync.get("k")]

    for part in names.values():
        part.sync.set("k", 1)
    with names["a"].disabled():
        assert seen() == ["", "ab"]
        inner = cache.namespace("a:c").sync
        inner.set("k", 1)
        assert inner.get("k") is None
        with cache.disabled(), names["a"].disabled():
            assert seen() == []
        assert seen() == ["", "ab"]
    assert seen() == list(names)


def test_a_sync_call_on_the_thread_of_the_loading_loop_does_not_hang(cache: Cache) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        async def slow() -> int:
            await gate.wait()
            return 1

        task = asyncio.ensure_future(cache.get_or_set("k", slow))
        await turns()
        assert cache.sync.get_or_set("k", lambda: 2) == 2
        gate.set()
        assert await task in (1, 2)

    asyncio.run(main())


def test_a_sync_call_does_not_wait_for_a_load_that_was_handed_to_the_loop_it_blocks(cache: Cache) -> None:
    """It waits for a load on another loop, where it is ended; who is to take it over lives on the blocked loop."""
    elsewhere = Elsewhere()
    running: list[asyncio.Task[Any] | None] = []

    async def hangs() -> int:
        running.append(asyncio.current_task())
        await asyncio.Event().wait()
        return 0

    async def loads() -> int:
        return 2

    async def end_it_when_both_wait() -> None:
        while cache.stats().coalesced < 2:  # noqa: ASYNC110 - other threads bring it about
            await asyncio.sleep(0)
        assert running[0] is not None
        running[0].cancel()

    async def main() -> tuple[int, int]:
        task = asyncio.ensure_future(cache.get_or_set("k", loads))
        await turns()
        asyncio.run_coroutine_threadsafe(end_it_when_both_wait(), elsewhere.loop)
        return cache.sync.get_or_set("k", lambda: 1), await task

    elsewhere.begin(cache.get_or_set("k", hangs))
    answers: list[tuple[int, int]] = []
    # A thread that could be left behind, should it hang.
    thread = threading.Thread(target=lambda: answers.append(asyncio.run(main())), daemon=True)
    thread.start()
    thread.join(30)
    assert answers == [(1, 2)]
    elsewhere.stop()
    elsewhere.close()


def test_a_load_that_is_a_future_needs_no_task(cache: Cache) -> None:
    async def main() -> None:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        callers = [asyncio.ensure_future(cache.get_or_set("k", lambda: future)) for _ in range(3)]
        await turns()
        assert asyncio.all_tasks() == {*callers, asyncio.current_task()}
        future.set_result(7)
        assert await asyncio.gather(*callers) == [7, 7, 7]
        assert await cache.get("k") == 7
        left: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        caller = asyncio.ensure_future(cache.get_or_set("l", lambda: left))
        await turns()
        caller.cancel()
        await turns()
        assert left.cancelled(), "a load that everybody left is cancelled"

    asyncio.run(main())
