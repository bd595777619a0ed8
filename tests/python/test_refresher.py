"""The background refresher: what it keeps fresh, what it leaves alone, what it holds, and how it ends."""

import asyncio
import contextvars
import gc
import logging
import os
import weakref
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import pytest
from origin import Origin, Table, turns
from samovar import Cache, ConfigError, NoCacheKey, NotFound, Policy, Refresher, RefresherStats
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


async def later(clock: CacheClock, by: float) -> None:
    """Time passes, and what runs behind gets its turns."""
    clock.advance(by)
    await turns()


async def heat(clock: CacheClock, *reads: Callable[[], Any]) -> None:
    """Load, and read twice in the last part of a life of a minute: tracked, and refreshed at once."""
    for wait in (0, 50, 2):
        clock.advance(wait)
        for read in reads:
            await read()
    await turns()


# --- what it keeps fresh ----------------------------------------------------------------------------------------------


def test_a_hot_key_is_loaded_before_it_ends_and_no_reader_waits(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, load)
            assert refresher.stats() == RefresherStats(tracked=1, refreshed=1)
            for life in range(2, 20):
                assert await load() == life
                await later(cache_clock, 48)
                assert origin.calls == life + 1
            assert refresher.stats() == RefresherStats(tracked=1, refreshed=19, saved=18)
        assert load.stats().misses == 1

    run(main)


def test_a_key_without_readers_stays_fresh_for_a_while_and_is_then_dropped(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        async with cache.refresher(idle="10m") as refresher:
            await heat(cache_clock, load)
            for _ in range(10):
                await later(cache_clock, 50)
                entry = await load.peek()
                assert entry is not None
                assert entry.state == "fresh"
            for _ in range(10):
                await later(cache_clock, 50)
            assert refresher.stats().tracked == 0
            calls = origin.calls
            await later(cache_clock, 3600)
            assert origin.calls == calls
        assert load.stats().misses == 1

    run(main)


def test_without_a_refresher_and_after_it_nothing_is_loaded_ahead(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        await heat(cache_clock, load)
        assert origin.calls == 1
        async with cache.refresher():
            await later(cache_clock, 60)
            await heat(cache_clock, load)
            assert origin.calls == 3
        await later(cache_clock, 59)
        assert (origin.calls, await load()) == (3, 3)

    run(main)


def test_ids_of_a_function_of_many_are_refreshed_in_one_call(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()

    @cache.cached_many("1m", items="ids")
    async def load(ids: Sequence[int]) -> dict[int, Any]:
        return await table.load(ids)

    async def main() -> None:
        async with cache.refresher(rate=100, burst=100) as refresher:
            await heat(cache_clock, lambda: load(range(50)))
            assert [sorted(call) for call in table.calls] == [list(range(50))] * 2
            assert refresher.stats() == RefresherStats(tracked=50, refreshed=50)

    run(main)


def test_the_budget_puts_off_what_it_has_no_room_for(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        async with cache.refresher(rate="1/s", burst=2) as refresher:
            await heat(cache_clock, *(lambda key=key: load(key) for key in range(6)))
            assert refresher.stats() == RefresherStats(tracked=6, refreshed=2, put_off=4)
            for done in (3, 4, 5, 6):
                await later(cache_clock, 1)
                assert refresher.stats().refreshed == done
            assert refresher.stats().put_off == 4

    run(main)


def test_the_most_keys_are_top(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached("1m")(Origin().load)

    async def main() -> None:
        async with cache.refresher(top=3) as refresher:
            await heat(cache_clock, *(lambda key=key: load(key) for key in range(6)))
            assert refresher.stats().tracked == 3

    run(main)


def test_a_lookup_by_name_counts_as_a_read_of_a_tracked_key(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached("1m", key="rate:{code}")(rate_of)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, lambda: load("EUR"))
            assert (await cache.get("rate:EUR"), refresher.stats().saved) == (1.0, 1)
            assert cache.sync.get_many(["rate:EUR"]) == {"rate:EUR": 1.0}
        assert cache.stats().misses == 1

    run(main)


async def rate_of(code: str) -> float:
    return float(bool(code))


def test_loads_run_in_the_context_of_whoever_started_it(cache: Cache, cache_clock: CacheClock) -> None:
    who = contextvars.ContextVar("who", default="nobody")

    @cache.cached("1m")
    async def load() -> str:
        return who.get()

    async def main() -> None:
        who.set("the app")
        async with cache.refresher():
            who.set("a request")
            await heat(cache_clock, load)
            assert await load() == "the app"

    run(main)


def test_another_policy_is_followed_from_the_next_read_on(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached(origin.load)

    async def main() -> None:
        cache.configure(policy=Policy(ttl="1m", jitter=0))
        async with cache.refresher():
            await heat(cache_clock, load)
            cache.configure(policy=Policy(ttl="2m", jitter=0))
            await load()
            await later(cache_clock, 48)
            assert (origin.calls, await load()) == (3, 3)
            await later(cache_clock, 95)
            assert origin.calls == 3
            await later(cache_clock, 1)
            assert origin.calls == 4

    run(main)


def test_it_goes_with_early_refreshes(cache: Cache, cache_clock: CacheClock) -> None:
    calls = 0

    @cache.cached("1m", early=True)
    async def load() -> int:
        nonlocal calls
        calls += 1
        return calls

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, load)
            for _ in range(10):
                assert await load() == calls
                await later(cache_clock, 48)
            assert (calls, refresher.stats().saved) == (12, 10)

    run(main)


def test_listening_to_hits_makes_no_key_hotter(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached("1m")(Origin().load)

    async def main() -> None:
        cache.on("hit", lambda event: None)
        async with cache.refresher() as refresher:
            await load()
            cache_clock.advance(50)
            for _ in range(20):
                await load()
            assert refresher.stats().tracked == 0, "one after the other at the same moment"
            cache_clock.advance(2)
            await load()
            assert refresher.stats().tracked == 1

    run(main)


# --- what it leaves alone ---------------------------------------------------------------------------------------------


def test_what_was_removed_or_written_by_hand_is_dropped(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", key="k:{x}")(origin_of(origin))

    async def main() -> None:
        async with cache.refresher() as refresher:
            keys = range(6)
            await heat(cache_clock, *(lambda key=key: load(key) for key in keys))
            assert refresher.stats().tracked == 6
            await load.invalidate(0)
            await cache.delete("k:1")
            await cache.set("k:2", 7, ttl="1h")
            await load.set(7, 3)
            assert await cache.touch("k:4", "1h")
            calls = origin.calls
            await later(cache_clock, 55)
            assert (refresher.stats().tracked, origin.calls - calls) == (1, 1)
            assert (await cache.get("k:2"), await cache.get("k:3")) == (7, 7)
            await cache.clear()
            await later(cache_clock, 55)
            assert (refresher.stats().tracked, origin.calls - calls) == (0, 1)

    run(main)


def origin_of(origin: Origin) -> Any:
    async def load(x: int) -> int:
        return await origin.load(x)

    return load


def test_a_key_invalidated_while_it_is_refreshed_stays_invalidated(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, load)
            origin.gate = asyncio.Event()
            await later(cache_clock, 48)
            await load.invalidate()
            origin.gate.set()
            await turns()
            assert (await load.peek(), refresher.stats().tracked, refresher.stats().refreshed) == (None, 0, 1)

    run(main)


def test_what_must_not_outlive_its_caller_or_has_no_end_is_never_tracked(cache: Cache, cache_clock: CacheClock) -> None:
    @cache.cached("1m")
    async def injected(key: int, session: Annotated[object, NoCacheKey]) -> int:
        return key

    @cache.cached(None)
    async def endless() -> int:
        return 1

    @cache.cached("1m", negative_ttl="1m")
    async def missing() -> int:
        raise NotFound("no")

    async def look() -> None:
        with pytest.raises(NotFound):
            await missing()

    now = cache.cached("1m")(lambda: 1)

    async def main() -> None:
        async with cache.refresher() as refresher:
            by_name = Origin()
            reads = [
                lambda: injected(1, object()),
                endless,
                look,
                lambda: cache.get_or_set("name", by_name.load, "1m"),
                lambda: asyncio.to_thread(now),
            ]
            await heat(cache_clock, *reads)
            assert refresher.stats() == RefresherStats()

    run(main)


def test_with_a_function_that_refreshes_the_callers_own_are_not_held(cache: Cache, cache_clock: CacheClock) -> None:
    class Session: ...

    own: list[int] = []

    async def refresh(key: int) -> int:
        own.append(key)
        return -key

    @cache.cached("1m", refresh=refresh)
    async def load(key: int, session: Annotated[object, NoCacheKey]) -> int:
        return key

    sessions: list[weakref.ref[Session]] = []

    async def read() -> None:
        session = Session()
        sessions.append(weakref.ref(session))
        await load(7, session)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, read)
            assert (own, refresher.stats().tracked) == ([7], 1)
            gc.collect()
            assert [session() for session in sessions] == [None] * 3
            assert await load(7, None) == -7

    run(main)


def test_an_instance_is_not_kept_alive_by_its_hot_keys(cache: Cache, cache_clock: CacheClock) -> None:
    class Users:
        def __init__(self) -> None:
            self.calls = 0

        @cache.cached(ttl=lambda value, self, key: 60)
        async def name(self, key: int) -> int:
            self.calls += 1
            return key

    async def use(users: Users, refresher: Refresher) -> weakref.ref[Users]:
        await heat(cache_clock, lambda: users.name(1), lambda: users.name(2))
        assert (users.calls, refresher.stats().tracked) == (4, 2)
        return weakref.ref(users)

    async def main() -> None:
        async with cache.refresher() as refresher:
            alive = await use(Users(), refresher)
            gc.collect()
            assert alive() is None
            await later(cache_clock, 48)
            assert refresher.stats().tracked == 0

    run(main)


def test_a_disabled_cache_is_not_refreshed(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, load)
            with cache.disabled():
                await later(cache_clock, 48)
            assert (origin.calls, refresher.stats().tracked) == (2, 0)

    run(main)


# --- failure ----------------------------------------------------------------------------------------------------------


def test_a_load_that_fails_is_logged_and_tried_again_when_the_policy_says(
    cache: Cache, cache_clock: CacheClock, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Origin()

    @cache.cached("1m", stale_if_error="1h", retry_after="5s")
    async def fails_at_times() -> int:
        return await origin.load()

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, fails_at_times)
            assert await fails_at_times() == 2
            origin.error = OSError("down")
            with caplog.at_level(logging.WARNING, "samovar"):
                await later(cache_clock, 48)
            assert "fails_at_times failed, the old value stays in use" in caplog.text
            assert (origin.calls, await fails_at_times(), refresher.stats().failed) == (3, 2, 1)
            await later(cache_clock, 4.9)
            assert origin.calls == 3
            origin.error = None
            await later(cache_clock, 0.1)
            assert (origin.calls, await fails_at_times()) == (4, 4)
            assert refresher.stats() == RefresherStats(tracked=1, refreshed=2, failed=1, saved=2)

    run(main)


# --- how it begins and ends -------------------------------------------------------------------------------------------


def test_it_sets_one_timer_for_when_something_is_due_and_none_when_nothing_is(cache: Cache) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    def timers() -> list[float]:
        loop: Any = asyncio.get_running_loop()
        return [timer.when() - loop.time() for timer in loop._scheduled if not timer.cancelled()]

    async def main() -> None:
        from samovar.testing import frozen_clock

        refresher = cache.refresher()
        assert timers() == []
        with frozen_clock() as clock:
            await heat(clock, load)
            (due,) = timers()
            assert 47.9 < due <= 48.1
        assert len(asyncio.all_tasks()) == 1
        await refresher.close()
        assert timers() == []

    run(main)


def test_closing_ends_its_loads_but_those_that_somebody_waits_for(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin_of(origin))

    async def main() -> None:
        refresher = cache.refresher()
        await heat(cache_clock, lambda: load(1), lambda: load(2))
        origin.gate = asyncio.Event()
        await later(cache_clock, 48)
        assert cache._inspect()["tasks"] == 2
        await later(cache_clock, 20)
        waiting = asyncio.create_task(take(load(1)))
        await turns()
        await refresher.close()
        assert (origin.cancelled, cache._inspect()["tasks"], refresher.running) == (1, 1, False)
        assert refresher.stats() == RefresherStats(tracked=0, refreshed=2)
        origin.gate.set()
        assert await waiting in (5, 6)
        assert origin.calls == 6
        await refresher.close()

    run(main)


async def take(awaitable: Any) -> Any:
    return await awaitable


def test_cancelling_is_closing_without_waiting(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        refresher = cache.refresher()
        await heat(cache_clock, load)
        origin.gate = asyncio.Event()
        await later(cache_clock, 48)
        refresher.cancel()
        assert not refresher.running
        await turns()
        assert origin.cancelled == 1
        assert await load() == 2

    run(main)


@pytest.mark.parametrize("where", ["the cache", "the namespace", "another namespace"])
def test_closing_its_cache_ends_it(cache: Cache, cache_clock: CacheClock, where: str) -> None:
    origin = Origin()
    space = cache.namespace("users")
    load = space.cached("1m")(origin.load)
    closed = {"the cache": cache, "the namespace": space, "another namespace": cache.namespace("other")}[where]

    async def main() -> None:
        async with space.refresher() as refresher:
            await heat(cache_clock, load)
            origin.gate = asyncio.Event()
            await later(cache_clock, 48)
            await closed.close()
            ended = where != "another namespace"
            assert (refresher.running, origin.cancelled) == (not ended, int(ended))

    run(main)


def test_a_cache_has_one_refresher_at_a_time(cache: Cache) -> None:
    async def main() -> None:
        async with cache.refresher():
            with pytest.raises(ConfigError, match='cache "test" has a refresher already'):
                cache.namespace("users").refresher()
        async with cache.refresher() as second:
            assert second.running
            assert repr(second).startswith("<Refresher of cache 'test', running: RefresherStats(tracked=0")

    run(main)


def test_one_whose_loop_was_closed_is_in_nobodys_way(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)
    left: list[Refresher] = []

    async def forgets() -> None:
        left.append(cache.refresher())
        await heat(cache_clock, load)

    async def main() -> None:
        assert await load() == 2
        async with cache.refresher() as refresher:
            assert (left[0].running, refresher.running) == (False, True)
            await later(cache_clock, 60)
            await heat(cache_clock, load)
            assert refresher.stats().refreshed == 1

    run(forgets)
    run(main)


def test_readers_on_another_loop_are_seen_but_track_nothing(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m")(origin.load)

    async def main() -> None:
        async with cache.refresher() as refresher:
            for wait in (0, 50, 2, 2):
                cache_clock.advance(wait)
                await asyncio.to_thread(run, load)
            assert refresher.stats().tracked == 0
            cache_clock.advance(2)
            await load()
            assert refresher.stats().tracked == 1
            await turns()
            await asyncio.to_thread(run, load)
            assert refresher.stats().saved == 1

    run(main)


def test_a_cache_that_is_dropped_with_its_refresher_is_freed(cache_clock: CacheClock) -> None:
    class Value: ...

    values: list[weakref.ref[Value]] = []

    async def main() -> None:
        cache = Cache()

        @cache.cached("1m")
        async def load() -> Value:
            value = Value()
            value.load = load  # type: ignore[attr-defined]
            values.append(weakref.ref(value))
            return value

        cache.refresher()
        await heat(cache_clock, load)
        assert len(values) == 2

    run(main)
    gc.collect()
    assert [value() for value in values] == [None, None]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_none(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached("1m")(Origin().load)

    async def main() -> None:
        async with cache.refresher() as refresher:
            await heat(cache_clock, load)
            assert in_a_child(lambda: not refresher.running)
            assert refresher.running

    run(main)


def in_a_child(holds: Callable[[], bool]) -> bool:
    child = os.fork()
    if child == 0:
        os._exit(int(not holds()))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- bad input --------------------------------------------------------------------------------------------------------


def test_it_needs_a_running_loop(cache: Cache) -> None:
    with pytest.raises(RuntimeError, match=r"call cache\.refresher\(\) in async code"):
        cache.refresher()


BAD: list[tuple[dict[str, Any], str]] = [
    ({"top": 0}, "invalid top: 0; give a whole number"),
    ({"top": 1.5}, r"invalid top: 1\.5; give a whole number"),
    ({"rate": 0}, "invalid rate: 0; give loads a second"),
    ({"rate": True}, "invalid rate: True; give loads a second"),
    ({"rate": None}, "invalid rate: None; give loads a second"),
    ({"rate": "fast"}, "invalid rate: .*fast.*; give calls and time"),
    ({"burst": 0}, "invalid burst: 0; give a whole number"),
    ({"rate": 10_000, "burst": 9}, "invalid burst: 9; give 10 or more"),
    ({"idle": 0}, "invalid idle: 0; give seconds above zero"),
    ({"idle": None}, "invalid idle: None; give seconds above zero"),
    ({"idle": "soon"}, "invalid idle: .*soon"),
    ({"ahead": 0}, "invalid ahead: 0; give the share of the ttl"),
    ({"ahead": 1.0}, "invalid ahead: 1; give the share of the ttl"),
    ({"ahead": float("nan")}, "invalid ahead: NaN; give the share of the ttl"),
    ({"ahead": "0.2"}, "invalid ahead: '0.2'; give the share of the ttl"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=lambda value: str(value) if isinstance(value, dict) else "")
def test_a_wrong_option_is_named_with_its_value_and_the_cure(
    cache: Cache, options: dict[str, Any], message: str
) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=message):
            cache.refresher(**options)
        await cache.refresher().close()

    run(main)


@pytest.mark.parametrize("rate", [10, 0.5, 2.5, "100/m", "1/10s"])
def test_a_rate_is_a_number_a_second_or_a_text(cache: Cache, rate: float | str) -> None:
    async def main() -> None:
        async with cache.refresher(rate=rate) as refresher:
            assert refresher.running

    run(main)
