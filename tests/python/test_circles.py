"""Loads that wait for each other: in a circle, across loops and threads, and for a loop that is blocked or gone."""

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, LoadCycle
from samovar.testing import CacheClock
from watching import settled


def crossed(caches: list[Cache]) -> list[Callable[[], Any]]:
    """Loads each of which asks for the next, once all of them have begun."""
    begun, all_begun = [0], asyncio.Event()
    loads: list[Any] = []

    def make(number: int) -> Any:
        async def load() -> int:
            begun[0] += 1
            if begun[0] == len(caches):
                all_begun.set()
            await all_begun.wait()
            return 1 + await loads[(number + 1) % len(loads)]()

        load.__qualname__ = f"load_{number}"
        return caches[number].cached("5m")(load)

    loads.extend(make(number) for number in range(len(caches)))
    return loads


@pytest.mark.parametrize("count", [2, 3, 7])
def test_crossed_loads_of_several_callers_and_caches_are_told_of_their_circle(cache: Cache, count: int) -> None:
    async def main() -> None:
        caches = [cache if number % 2 else Cache(name=f"other {number}") for number in range(count)]
        loads = crossed(caches)
        answers = await asyncio.gather(*(load() for load in loads), return_exceptions=True)
        # One of them finds the circle; its error is what the others' loads end with.
        assert all(isinstance(answer, LoadCycle) for answer in answers)
        path = str(answers[0]).partition(" wait for")[0].split(" -> ")
        assert path[0] == path[-1]
        assert len(set(path)) == len(path) - 1 == count

    asyncio.run(main())


def test_two_that_ask_for_a_third_are_no_circle(cache: Cache) -> None:
    origin = Origin()
    third = cache.cached("5m")(origin.load)

    @cache.cached("5m")
    async def load(n: int) -> int:
        return n + await third()

    async def main() -> None:
        origin.gate = asyncio.Event()
        tasks = [asyncio.ensure_future(load(n)) for n in (10, 20, 30)]
        await turns()
        origin.gate.set()
        assert (await asyncio.gather(*tasks), origin.calls) == ([11, 21, 31], 1)

    asyncio.run(main())


def test_a_caller_that_was_cancelled_waits_for_nobody_any_more(cache: Cache) -> None:
    origin, impatient = Origin(), Origin()

    @cache.cached("5m")
    async def slow() -> int:
        return await origin.load() + await first()

    @cache.cached("5m")
    async def first() -> int:
        task = asyncio.ensure_future(slow())
        await turns()
        task.cancel()
        await turns()
        return await impatient.load()

    async def main() -> None:
        origin.gate, impatient.gate = asyncio.Event(), asyncio.Event()
        asking = [asyncio.ensure_future(slow()), asyncio.ensure_future(first())]
        await turns(40)
        assert (origin.calls, impatient.calls) == (1, 1)
        origin.gate.set()
        await turns()
        impatient.gate.set()
        assert await asyncio.gather(*asking) == [2, 1], "had it still been waiting, this would have been a circle"

    asyncio.run(main())


def test_a_blocking_call_whose_load_joins_a_load_of_its_callers_loop_loads_itself(cache: Cache) -> None:
    """The loop's thread blocks on a load in a worker, which waits for a load on that loop."""
    on_the_loop, in_the_worker = Origin(), threading.Event()
    slow = cache.cached("5m")(on_the_loop.load)
    loop: asyncio.AbstractEventLoop
    loaded_by: list[str] = []

    @cache.cached("5m")
    def blocking() -> str:
        me = threading.current_thread()
        loaded_by.append(me.name)
        if me is not threading.main_thread():
            in_the_worker.set()
            asyncio.run(join())
        return "loaded"

    async def join() -> Any:
        return await slow()

    async def main() -> None:
        nonlocal loop
        loop = asyncio.get_running_loop()
        on_the_loop.gate = asyncio.Event()
        leading = asyncio.ensure_future(slow())
        await turns()
        with ThreadPoolExecutor(1, thread_name_prefix="worker") as pool:
            worker = pool.submit(blocking)
            assert in_the_worker.wait(10)
            assert blocking() == "loaded", "the loop would stand still for ever otherwise"
            on_the_loop.gate.set()
            assert await leading == 1
            assert await asyncio.wrap_future(worker) == "loaded"
        assert min(loaded_by) == "MainThread"
        assert len(loaded_by) == 2

    asyncio.run(main())


def test_the_lead_is_not_handed_to_a_waiter_whose_loop_is_gone(cache: Cache) -> None:
    origin = Origin()

    @cache.cached("5m", ignore=["session"])
    async def load(session: str) -> int:
        return await origin.load()

    gone = asyncio.new_event_loop()

    async def main() -> None:
        origin.gate = asyncio.Event()
        leader = asyncio.ensure_future(load("leader"))
        await turns()

        def wait_elsewhere() -> None:
            async def join() -> None:
                task = asyncio.ensure_future(load("gone"))
                await turns()
                assert not task.done()

            gone.run_until_complete(join())

        await asyncio.to_thread(wait_elsewhere)
        last = asyncio.ensure_future(load("last"))
        await turns()
        leader.cancel()
        await turns()
        origin.gate.set()
        assert await asyncio.wait_for(last, 10) == 2

    asyncio.run(main())
    for task in asyncio.all_tasks(gone):
        task.cancel()
    gone.run_until_complete(turns())
    gone.close()


@pytest.mark.parametrize("waiter", ["on a loop", "blocked"])
def test_a_loop_that_closes_with_a_load_running_leaves_it_to_who_waits_elsewhere(cache: Cache, waiter: str) -> None:
    begun, joined = threading.Event(), threading.Event()
    calls: list[str] = []

    async def later() -> str:
        calls.append(threading.current_thread().name)
        if len(calls) == 1:
            begun.set()
            await asyncio.Event().wait()
        return "loaded"

    async def closes() -> None:
        callers = [asyncio.ensure_future(cache.get_or_set("key", later)) for _ in range(2)]
        await asyncio.to_thread(joined.wait, 10)
        assert not any(caller.done() for caller in callers)

    closing = threading.Thread(target=lambda: asyncio.run(closes()), name="closing")
    closing.start()
    assert begun.wait(10)
    coalesced = cache.stats().coalesced

    async def main() -> str:
        waiting = asyncio.ensure_future(cache.get_or_set("key", later))
        await turns()
        joined.set()
        return await asyncio.wait_for(waiting, 10)

    def blocks() -> str:
        watch = threading.Thread(target=lambda: (settled(lambda: cache.stats().coalesced > coalesced), joined.set()))
        watch.start()
        answer = cache.sync.get_or_set("key", lambda: calls.append("blocked") or "loaded")
        watch.join(10)
        return answer

    assert (asyncio.run(main()) if waiter == "on a loop" else blocks()) == "loaded"
    closing.join(10)
    assert calls == ["closing", "MainThread" if waiter == "on a loop" else "blocked"]
    assert cache.sync.get("key") == "loaded"


def test_a_loop_that_closes_with_a_load_running_ends_it_in_silence_and_the_next_loop_loads(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h")(origin.load)
    asyncio.run(awaited(load()))
    cache_clock.advance("61s")
    origin.gate = asyncio.Event()

    async def closes() -> None:
        assert await load() == 1  # a refresh runs behind
        other = asyncio.ensure_future(load(2))  # and somebody waits for a load
        await turns()
        assert not other.done()

    asyncio.run(closes())
    assert (origin.calls, origin.cancelled) == (3, 2)
    origin.gate = None

    async def main() -> None:
        assert await load() == 1, "the old value is still of use"
        await turns()
        assert [await load(2), await load()] == [5, 4]

    asyncio.run(main())


async def awaited(awaitable: Awaitable[Any]) -> Any:
    return await awaitable
