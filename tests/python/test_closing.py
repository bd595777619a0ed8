"""Closing a cache: what works for it is over when `close` returns, and whoever waits for a load gets an answer."""

import asyncio
import logging
import subprocess
import sys
import threading
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, ConfigError, LoadError
from samovar.testing import CacheClock


def others() -> set[asyncio.Task[Any]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


def works(cache: Cache) -> tuple[int, int, int]:
    inspected = cache._inspect()
    return inspected["tasks"], inspected["flights"], len(cache._supervisor.below(""))


def gated() -> Origin:
    """An origin that answers when its gate is opened."""
    origin = Origin()
    origin.gate = asyncio.Event()
    return origin


def gate_of(origin: Origin) -> asyncio.Event:
    assert origin.gate is not None
    return origin.gate


def test_a_load_that_callers_wait_for_answers_them_and_stores_nothing(cache: Cache) -> None:
    async def main() -> None:
        origin = gated()
        load = cache.cached(origin.load)
        callers = [asyncio.create_task(load(7)) for _ in range(3)]
        await turns()
        closing = asyncio.create_task(cache.close())
        await turns()
        assert not closing.done()
        gate_of(origin).set()
        await closing
        assert [task.result() for task in callers] == [1, 1, 1]
        assert (origin.calls, origin.cancelled, cache.stats().entries) == (1, 0, 0)
        assert works(cache) == (0, 0, 0)
        assert others() == set()

    asyncio.run(main())


def test_a_refresh_that_nobody_waits_for_is_cancelled(cache: Cache, cache_clock: CacheClock) -> None:
    async def main() -> None:
        origin = gated()
        gate_of(origin).set()
        load = cache.cached("1m", stale_while_revalidate="1h")(origin.load)
        assert await load(7) == 1
        cache_clock.advance("2m")
        gate_of(origin).clear()
        assert await load(7) == 1
        await turns()
        assert origin.calls == 2
        await cache.close()
        assert (origin.cancelled, works(cache), others()) == (1, (0, 0, 0), set())

    asyncio.run(main())


def test_the_blocking_face_ends_it_and_waits_for_nothing(cache: Cache, cache_clock: CacheClock) -> None:
    async def main() -> None:
        origin = gated()
        gate_of(origin).set()
        load = cache.cached("1m", stale_while_revalidate="1h")(origin.load)
        assert await load(7) == 1
        cache_clock.advance("2m")
        gate_of(origin).clear()
        assert await load(7) == 1
        await turns()
        cache.sync.close()
        await turns()
        assert (origin.cancelled, works(cache), others()) == (1, (0, 0, 0), set())

    asyncio.run(main())


@pytest.mark.parametrize("grace", [0, 0.01, "10ms"])
def test_a_load_that_takes_too_long_is_cancelled_and_its_waiters_are_told(cache: Cache, grace: float | str) -> None:
    async def main() -> None:
        origin = gated()
        load = cache.cached(origin.load)
        callers = [asyncio.create_task(load(7)) for _ in range(3)]
        await turns()
        await cache.close(grace=grace)
        assert (origin.cancelled, works(cache)) == (1, (0, 0, 0))
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(error) for error in errors] == [LoadError] * 3
        assert "closed" in str(errors[0])

    asyncio.run(main())


def test_a_load_that_does_not_end_when_it_is_cancelled_is_named_in_the_log(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        gate = asyncio.Event()

        @cache.cached
        async def stubborn() -> int:
            while not gate.is_set():
                try:
                    await gate.wait()
                except asyncio.CancelledError:
                    continue
            return 1

        caller = asyncio.create_task(stubborn())
        await turns()
        with caplog.at_level(logging.WARNING, "samovar"):
            await cache.close(grace=0.01)
        assert "stubborn" in caplog.text
        gate.set()
        assert await caller == 1
        assert cache.stats().entries == 0

    asyncio.run(main())


def test_a_namespace_closes_without_what_is_beside_it(cache: Cache) -> None:
    async def main() -> None:
        mine, beside, above = gated(), gated(), gated()
        shop = cache.namespace("shop")
        loads = [
            shop.namespace("tea").cached(mine.load),
            cache.namespace("shopping").cached(beside.load),
            cache.cached(above.load),
        ]
        callers = [asyncio.create_task(load(1)) for load in loads]
        await turns()
        await shop.close(grace=0)
        assert [origin.cancelled for origin in (mine, beside, above)] == [1, 0, 0]
        gate_of(beside).set()
        gate_of(above).set()
        got = await asyncio.gather(*callers, return_exceptions=True)
        assert got[1:] == [1, 1]
        assert cache.stats().entries == 2

    asyncio.run(main())


def test_loads_on_another_loop_end_there(cache: Cache) -> None:
    begun, told = threading.Event(), []

    def elsewhere() -> None:
        async def load() -> None:
            origin = gated()
            caller = asyncio.create_task(cache.cached(origin.load)(7))
            await turns()
            begun.set()
            with pytest.raises(LoadError):
                await caller
            told.append(origin.cancelled)

        asyncio.run(load())

    thread = threading.Thread(target=elsewhere)
    thread.start()
    assert begun.wait(10)
    asyncio.run(cache.close(grace=0))
    thread.join(10)
    assert (told, works(cache)) == ([1], (0, 0, 0))


def test_a_loader_may_close_its_cache(cache: Cache) -> None:
    @cache.cached
    async def load() -> int:
        await cache.close()
        return 1

    async def main() -> None:
        async with asyncio.timeout(4):
            assert await load() == 1
        assert cache.stats().entries == 0

    asyncio.run(main())


def test_a_batch_and_its_window_end(cache: Cache) -> None:
    async def main() -> None:
        cancelled = []

        @cache.cached_many(items="ids", window="1h")
        async def gathering(ids: list[int]) -> dict[int, int]:
            raise AssertionError

        @cache.cached_many(items="ids")
        async def hanging(ids: list[int]) -> dict[int, int]:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancelled.append(list(ids))
                raise
            raise AssertionError

        callers = [asyncio.create_task(gathering([1])), asyncio.create_task(hanging([1, 2]))]
        await turns()
        await cache.close(grace=0)
        errors = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(error) for error in errors] == [LoadError, LoadError]
        assert (cancelled, works(cache), others()) == ([[1, 2]], (0, 0, 0), set())
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in scheduled if not timer.cancelled()] == []

    asyncio.run(main())


def test_a_window_closes_with_the_last_who_waits(cache: Cache) -> None:
    async def main() -> None:
        @cache.cached_many(items="ids", window="1h")
        async def gathering(ids: list[int]) -> dict[int, int]:
            raise AssertionError

        caller = asyncio.create_task(gathering([1]))
        await turns()
        caller.cancel()
        await turns()
        scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
        assert [timer for timer in scheduled if not timer.cancelled()] == []

    asyncio.run(main())


def test_warming_is_cancelled(cache: Cache) -> None:
    async def main() -> None:
        origin = gated()
        load = cache.cached(origin.load)
        job = load.warm(range(100))
        await turns()
        assert 0 < origin.calls < 100
        await cache.close()
        assert (job.loaded, origin.cancelled, works(cache), others()) == (0, origin.calls, (0, 0, 0), set())

    asyncio.run(main())


def test_a_closed_cache_starts_anew(cache: Cache) -> None:
    async def main() -> None:
        origin = gated()
        gate_of(origin).set()
        load = cache.cached(origin.load)
        await load(1)
        await cache.close()
        await cache.close()
        assert cache.closed
        assert [await load(1), await load(1)] == [2, 2]
        assert origin.calls == 2

    asyncio.run(main())


@pytest.mark.parametrize("grace", [-1, "soon", None, float("nan"), float("inf"), True])
def test_a_grace_that_cannot_be_is_refused_before_anything_is_dropped(cache: Cache, grace: Any) -> None:
    async def main() -> None:
        await cache.set("a", 1)
        with pytest.raises(ConfigError, match="grace"):
            await cache.close(grace=grace)
        assert await cache.get("a") == 1

    asyncio.run(main())


SWEEPER = """
import asyncio, time
from samovar import Cache, _core

def ends():
    until = time.monotonic() + 20
    while _core._sweeper_is_running() and time.monotonic() < until:
        time.sleep(0.001)
    return not _core._sweeper_is_running()

async def main():
    one, other = Cache(name="one"), Cache(name="other")
    for cache in (one, other, one):
        await cache.set("a", 1, ttl="1h")
        assert _core._sweeper_is_running()
    await one.close()
    assert _core._sweeper_is_running()
    await other.close()
    assert ends()
    await one.set("a", 1, ttl="1h")
    assert _core._sweeper_is_running()
    await one.close()
    assert ends()

asyncio.run(main())
"""


def test_the_sweeper_ends_with_the_last_cache_that_needs_it() -> None:
    subprocess.run([sys.executable, "-P", "-c", SWEEPER], check=True, timeout=60)
