"""What a cache over a real Redis leaves behind, which is nothing, and what it counts, which is exact."""

import asyncio
import gc
import warnings
import weakref
from typing import Any

import pytest
import uvloop
from faces import Face
from origin import Origin
from samovar import Cache, Memory
from servers import RedisServer
from test_two_tiers_flight import anything
from tiers import Make, a_face, a_make, a_server  # noqa: F401 - fixtures

# --- what is left -----------------------------------------------------------------------------------------------------


def test_a_cache_a_function_and_a_call_in_a_circle_are_collected(server: RedisServer) -> None:
    def make_one() -> list["weakref.ref[Any]"]:
        cache = Cache(server.url, name="circle")

        class Big:
            cache: Any
            function: Any
            call: Any

        big = Big()

        async def f(a: int = 0) -> Any:
            return big

        big.cache, big.function = cache, cache.cached("5m", key="{a}")(f)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            big.call = cache.get_or_set("a", lambda: big)
        return [weakref.ref(one) for one in (cache, big.function, big)]

    gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = make_one()
        gc.collect()
    assert [one() for one in made] == [None] * len(made)


@pytest.mark.parametrize("made_by", [asyncio, uvloop])
def test_what_waited_on_a_loop_goes_when_that_is_closed(make: Make, server: RedisServer, made_by: Any) -> None:
    cache, origin = make(), Origin()
    assert cache.sync.get("a") is None

    class Value:
        pass

    value = Value()
    seen = weakref.ref(value)
    loop = made_by.new_event_loop()
    f = cache.cached(60, key="f", stale_while_revalidate=60)(origin.load)

    async def work(kept: Value) -> None:
        await asyncio.gather(cache.get("a", kept), cache.get_or_set("b", lambda: kept), f(), return_exceptions=True)

    task = loop.create_task(work(value))
    server.freeze()
    try:
        loop.call_soon(loop.call_soon, loop.stop)
        loop.run_forever()
        inside = cache._inspect()
        assert (inside["flights"], inside["tasks"]) == (2, 2), "they wait for what the store says"
        task._log_destroy_pending = False
        loop.close()
        inside = cache._inspect()
        assert (inside["flights"], inside["tasks"]) == (0, 0)
    finally:
        server.thaw()
    del loop, task, value, work
    gc.collect()
    assert seen() is None
    assert (asyncio.run(anything(cache.get_or_set("b", origin.load))), asyncio.run(anything(f()))) == (1, 2)


def test_ten_thousand_operations_leave_nothing(make: Make) -> None:
    cache = make(memory=Memory(max_entries=100))
    origin = Origin()

    async def load(a: int) -> list[int]:
        return [a]

    f = cache.cached(60, key="f:{a}")(load)

    async def main(rounds: int) -> None:
        for n in range(rounds):
            await asyncio.gather(
                f(n % 300),
                cache.get(f"{n % 200}"),
                cache.set(f"{n % 200}", [n]),
                cache.get_or_set(f"o{n % 200}", origin.load),
                cache.delete(f"{(n + 7) % 200}"),
                cache.incr("n"),
                cache.get_many(["n", "x", f"{n % 200}"]),
                f.invalidate((n + 3) % 300),
                cache.contains("x"),
                cache.touch(f"{n % 200}", 60),
            )

    asyncio.run(main(300))
    gc.collect()
    before = len(gc.get_objects())
    asyncio.run(main(1000))
    gc.collect()
    after = len(gc.get_objects())
    assert after - before < 500
    inside = cache._inspect()
    assert (inside["flights"], inside["tasks"], inside["fault"]) == (0, 0, None)
    assert cache.stats().entries <= 100


# --- what is counted --------------------------------------------------------------------------------------------------


def test_simple_stories_are_counted_exactly(face: Face, make: Make) -> None:
    here, there = make(), make()
    origin = Origin()
    load = face.function(origin.load_now)
    for cache in (here, here, there, there, there):
        face.do(cache, "get_or_set", "a", load)
    one, two = here.stats(), there.stats()
    assert (one.hits, one.misses, one.loads, one.remote_hits) == (1, 1, 1, 0)
    assert (two.hits, two.misses, two.loads, two.remote_hits) == (2, 0, 0, 1)
    face.do(there, "get", "b")
    face.do(here, "set", "c", 1)
    face.do(there, "get", "c")
    face.do(there, "get", "c")
    face.do(there, "get_many", ["a", "c", "d"])
    two = there.stats()
    assert (two.hits, two.misses, two.loads, two.remote_hits) == (5, 2, 0, 2)
    assert two.hit_ratio == pytest.approx(7 / 9)
    remote = there.remote_stats()
    assert (remote.reads, remote.claims, remote.found, remote.writes) == (3, 1, 2, 0)
    assert here.remote_stats().writes == 2
    assert (remote.timeouts, remote.unreachable, remote.refused, remote.errors, remote.to_recover) == (0, 0, 0, 0, 0)
    assert remote.connects >= 1
    assert dict(remote.unreadable) == {}


@pytest.mark.parametrize("options", [{}, {"memory": None}], ids=["memory", "no memory"])
@pytest.mark.parametrize("told", [False, True], ids=["nobody", "somebody"])
def test_many_at_once_are_counted_and_told_as_one_by_one(
    face: Face, make: Make, options: dict[str, Any], told: bool
) -> None:
    face.do(make(), "set_many", {"a": 1, "b": 2})
    face.do(make(), "set_missing", "gone", ttl="5m")
    names = ["a", "none", "b", "gone", "a"]
    seen: list[Any] = []
    for many in (False, True):
        cache, events = make(**options), []
        if told:
            cache.on("miss", events.append)
        if many:
            assert face.do(cache, "get_many", names) == {"a": 1, "b": 2}
        else:
            assert [face.do(cache, "get", name) for name in names] == [1, None, 2, None, 1]
        stats, remote = cache.stats(), cache.remote_stats()
        # What is asked for twice is in memory the second time, one by one.
        hits = stats.hits + stats.remote_hits
        seen.append((stats.misses, hits, {event.key for event in events}, remote.errors))
        if options:
            assert (stats.entries, stats.hits, len(events), remote.reads) == (0, 0, len(names) if told else 0, 5)
    assert seen[0] == seen[1]


def test_a_functions_statistics_say_what_the_store_answered(face: Face, make: Make) -> None:
    spy = Origin()
    first, second = (make().cached("5m", key="a")(face.function(lambda: spy.load_now())) for _ in range(2))
    for function in (first, second, second):
        face.call(function)
    stats = second.stats()
    assert (stats.hits, stats.misses, stats.loads, stats.remote_hits) == (1, 0, 0, 1)
    assert (first.stats().loads, first.stats().remote_hits) == (1, 0)


def test_events_tell_of_loads_and_not_of_what_the_store_answered(face: Face, make: Make) -> None:
    here, there, told = make(), make(), []
    there.on("load", told.append)
    there.on("miss", told.append)
    face.do(here, "get_or_set", "a", face.function(lambda: 1))
    face.do(there, "get_or_set", "a", face.function(lambda: 2))
    assert [event.name for event in told] == ["miss"]
    face.do(there, "get_or_set", "b", face.function(lambda: 2))
    assert [event.name for event in told] == ["miss", "miss", "load"]
