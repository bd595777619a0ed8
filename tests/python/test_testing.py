"""The testing kit: every test begins with nothing cached, nothing counted, and a clock of its own."""

import asyncio

import pytest
from samovar import Cache, ConfigError, cached
from samovar.testing import CacheClock, frozen_clock


@cached("5m")
def profile(user_id: int) -> int:
    return user_id


@pytest.mark.parametrize("again", [1, 2])
def test_a_function_of_a_module_starts_each_test_empty_and_uncounted(cache: Cache, again: int) -> None:
    assert profile(7) == profile(7) == 7
    assert profile.stats()[:5] == (1, 0, 0, 1, 1)
    assert profile.stats().invalidations == 0


@cached("5m", jitter=0.5)
def jittered(number: int) -> int:
    return number


@cached("5m", early=1000)
async def eager() -> int:
    CacheClock().advance("1m")
    return 1


def test_how_long_a_function_of_a_module_is_fresh_is_not_left_to_chance(cache: Cache, cache_clock: CacheClock) -> None:
    for number in range(100):
        jittered(number), profile(number)
    entries = [function.peek(number) for function in (jittered, profile) for number in range(100)]
    assert {round(entry.expires - cache_clock.time()) for entry in entries if entry and entry.expires} == {300}

    async def main() -> None:
        for _ in range(100):
            await eager()
        cache_clock.advance("4m59s")
        await eager()

    asyncio.run(main())
    assert eager.stats().loads == 1


def test_after_the_test_ttls_are_jittered_again() -> None:
    with frozen_clock() as clock:
        jittered.invalidate_all()
        for number in range(100):
            jittered(number)
        entries = [jittered.peek(number) for number in range(100)]
        assert len({entry.expires for entry in entries if entry and entry.expires != clock.time() + 300}) > 10


def test_a_clock_that_was_stopped_twice_runs_after_both(cache: Cache, cache_clock: CacheClock) -> None:
    cache.sync.set("k", 1, ttl="5m")
    with frozen_clock() as inner:
        before = inner.time()
        inner.advance("1m")
    cache_clock.advance("3m")
    assert cache_clock.time() == before + 240
    assert cache.sync.get("k") == 1
    cache_clock.advance("1m")
    assert cache.sync.get("k") is None


def test_a_clock_that_runs_cannot_be_moved() -> None:
    with frozen_clock() as clock:
        clock.advance(1)
    with pytest.raises(RuntimeError, match="frozen_clock"):
        clock.advance(1)


@pytest.mark.parametrize("by", [None, float("inf"), -1, "soon"])
def test_a_step_that_cannot_be_is_refused(cache_clock: CacheClock, by: object) -> None:
    before = cache_clock.time()
    with pytest.raises(ConfigError, match="advance"):
        cache_clock.advance(by)  # type: ignore[arg-type]
    assert cache_clock.time() == before
