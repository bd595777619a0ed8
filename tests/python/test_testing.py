"""The testing kit: every test begins with nothing cached, nothing counted, and a clock of its own."""

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
