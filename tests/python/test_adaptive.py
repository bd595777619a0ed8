"""Ttls that follow the data: what counts as its age, what as a use, and where an `Adaptive` may be given."""

import asyncio
import copy
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samovar import Adaptive, Cache, ConfigError, Memory, NotFound, Policy, Rule, _core
from samovar.testing import CacheClock, frozen_clock

TEN_TO_HOUR = Adaptive("10s", "1h")


@pytest.fixture
def cache_clock() -> Iterator[CacheClock]:
    """As the plugin's, at a whole second: since when data is the same is known in these."""
    with frozen_clock() as clock:
        clock.advance((1000 - _core._clock_millis() % 1000) / 1000)
        yield clock


@pytest.fixture
def cache() -> Cache:
    # "lfu" counts every use, one after the other too, and never forgets one.
    return Cache(name="adaptive", memory=Memory(eviction="lfu"), policy=Policy(jitter=0))


class Source:
    """What is loaded: a value that a test changes."""

    def __init__(self, value: Any = 1) -> None:
        self.value = value
        self.calls = 0

    def load(self) -> Any:
        self.calls += 1
        return self.value


def ttl_of(function: Any) -> float:
    """How long the value that is there was fresh when it was stored."""
    entry = function.peek()
    life: float = entry.fresh_until - entry.created
    return round(life, 3)


def used(seconds: float, uses: int) -> float:
    """What uses make of a ttl, in whole milliseconds."""
    return math.floor(seconds * (1 + math.log2(1 + uses)) * 1000) / 1000


def test_the_longer_the_data_stays_as_it_is_the_longer_it_is_fresh(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source()
    load = cache.cached(ttl=TEN_TO_HOUR)(source.load)
    load()
    assert ttl_of(load) == 10, "nothing is known yet"
    cache_clock.advance("10m")
    load()
    assert ttl_of(load) == 60, "a tenth of ten minutes"
    cache_clock.advance("20m")
    load()
    # The first load, the second and this one: two uses beside the store itself, of which the table had counted one.
    assert ttl_of(load) == used(180, 1)
    source.value = 2
    cache_clock.advance("30m")
    load()
    assert ttl_of(load) == used(10, 2), "it has changed: its age is zero"
    cache_clock.advance("20m")
    load()
    assert ttl_of(load) == used(120, 3), "and counts from that change"
    assert source.calls == 5


def test_the_more_a_value_is_used_the_longer_the_next_is_fresh(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source()
    load = cache.cached(ttl=TEN_TO_HOUR)(source.load)
    for _ in range(8):
        load()
    assert source.calls == 1
    source.value = 2
    cache_clock.advance("10s")
    load()
    assert ttl_of(load) == used(10, 7)
    for _ in range(99):
        load()
    source.value = 3
    cache_clock.advance("1m")
    load()
    assert ttl_of(load) == used(10, 14), "fifteen are counted at most, the store itself included"


@pytest.mark.parametrize("eviction", ["lru", "fifo", "ttl"])
def test_where_no_uses_are_counted_age_alone_says(eviction: str, cache_clock: CacheClock) -> None:
    cache = Cache(name="plain", memory=Memory(eviction=eviction), policy=Policy(jitter=0))
    source = Source()
    load = cache.cached(ttl=TEN_TO_HOUR)(source.load)
    for _ in range(8):
        load()
    cache_clock.advance("10m")
    load()
    assert ttl_of(load) == 60


def test_nothing_is_fresh_for_more_than_the_most(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached(ttl=Adaptive(10, "5m"))(Source().load)
    for _ in range(40):
        load()
        assert 10 <= ttl_of(load) <= 300
        cache_clock.advance("4m59s")
    load.refresh()
    assert ttl_of(load) == 300


def test_a_value_of_no_use_any_more_is_kept_to_be_compared_and_never_answers(
    cache: Cache, cache_clock: CacheClock
) -> None:
    source = Source()
    load = cache.cached(ttl=TEN_TO_HOUR, key="k")(source.load)
    load()
    cache_clock.advance("10s")
    assert load.explain().state == "dead"
    assert cache.sync.get("k") is None
    source.value = 2
    assert load() == 2
    cache_clock.advance("1h")
    load()
    assert ttl_of(load) == 10, "after an hour nobody remembers it"


class Odd:
    """Equal to none, says who is asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def __eq__(self, other: object) -> bool:
        if isinstance(self.answer, BaseException):
            raise self.answer
        answer: bool = self.answer
        return answer

    __hash__ = None  # type: ignore[assignment]


ONE = object()
SAME: dict[str, tuple[Callable[[], Any], bool]] = {
    "equal": (lambda: {"a": [1, 2.5, "x"]}, True),
    "identical": (lambda: ONE, True),
    "none": (lambda: None, True),
    "objects without __eq__": (lambda: object(), False),
    "says so": (lambda: Odd(True), True),
    "denies it": (lambda: Odd(False), False),
    "raises": (lambda: Odd(ValueError("no")), False),
    "nan": (lambda: float("nan"), False),
}


@pytest.mark.parametrize(("make", "same"), SAME.values(), ids=SAME)
def test_data_is_the_same_if_it_is_identical_or_of_one_type_and_equal(
    cache: Cache, cache_clock: CacheClock, make: Callable[[], Any], same: bool
) -> None:
    load = cache.cached(ttl=TEN_TO_HOUR)(make)
    load()
    cache_clock.advance("10m")
    load()
    assert ttl_of(load) == (60 if same else 10)


def test_values_of_other_types_are_others_though_they_are_equal(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source(1)
    load = cache.cached(ttl=TEN_TO_HOUR)(source.load)
    load()
    source.value = True
    cache_clock.advance("10m")
    load()
    assert ttl_of(load) == 10


def test_what_ends_the_program_is_not_swallowed_by_a_comparison(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached(ttl=TEN_TO_HOUR)(lambda: Odd(KeyboardInterrupt()))
    load()
    cache_clock.advance("10m")
    with pytest.raises(KeyboardInterrupt):
        load()


def test_a_comparison_may_use_the_cache(cache: Cache, cache_clock: CacheClock) -> None:
    class Busy:
        def __eq__(self, other: object) -> bool:
            cache.sync.set("k", 5)
            cache.sync.clear()
            return True

        __hash__ = None  # type: ignore[assignment]

    load = cache.cached(ttl=TEN_TO_HOUR)(lambda: Busy())
    load()
    cache_clock.advance("10m")
    assert isinstance(load(), Busy)
    assert load.peek() is None, "it was cleared meanwhile"
    assert cache._inspect()["fault"] is None


def test_functions_without_one_compare_nothing(cache: Cache, cache_clock: CacheClock) -> None:
    load = cache.cached("1m")(lambda: Odd(KeyboardInterrupt()))
    for _ in range(3):
        load()
        cache_clock.advance("2m")
    assert load.stats().loads == 3


def test_refreshes_behind_adapt_too(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source()

    @cache.cached(ttl=TEN_TO_HOUR, stale_while_revalidate="1h")
    async def load() -> int:
        value: int = source.load()
        return value

    async def main() -> tuple[int, float]:
        await load()
        cache_clock.advance("20m")
        assert await load() == 1
        for _ in range(10):
            await asyncio.sleep(0)
        entry = await load.peek()
        assert entry is not None
        assert entry.fresh_until is not None
        return source.calls, round(entry.fresh_until - entry.created, 3)

    assert asyncio.run(main()) == (2, used(120, 1))


def test_an_old_value_that_a_failed_load_leaves_in_use_keeps_its_age(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source()

    @cache.cached(ttl=TEN_TO_HOUR, stale_if_error="1h")
    def load() -> Any:
        value = source.load()
        if value is None:
            raise OSError("down")
        return value

    load()
    cache_clock.advance("10m")
    source.value = None
    assert load() == 1
    cache_clock.advance("10m")
    source.value = 1
    load()
    assert ttl_of(load) >= 120


def test_not_found_ends_an_age(cache: Cache, cache_clock: CacheClock) -> None:
    source = Source()

    @cache.cached(ttl=TEN_TO_HOUR, negative_ttl="1m")
    def load() -> Any:
        value = source.load()
        if value is None:
            raise NotFound("none")
        return value

    load()
    cache_clock.advance("10m")
    source.value = None
    with pytest.raises(NotFound):
        load()
    cache_clock.advance("1m")
    source.value = 1
    load()
    assert ttl_of(load) == 10


def test_it_may_be_given_to_a_cache_a_rule_and_a_call(cache_clock: CacheClock) -> None:
    cache = Cache(
        name="given",
        memory=Memory(eviction="lru"),
        policy=Policy(ttl=TEN_TO_HOUR, jitter=0),
        rules=[Rule("r*", ttl=Adaptive(20, 40))],
    )

    def lives() -> list[float | None]:
        for key in ("k", "r"):
            cache.sync.get_or_set(key, lambda: 1)
        cache.sync.get_or_set("c", lambda: 1, ttl=Adaptive(5, 6))
        cache.sync.get_or_set("plain", lambda: 1, ttl=7)
        return [cache.sync.ttl(key) for key in ("k", "r", "c", "plain")]

    assert lives() == [10, 20, 5, 7]
    cache_clock.advance("35s")
    assert lives() == [10, 20, 5, 7]
    cache_clock.advance("8m")
    assert lives() == [51.5, 20, 5, 7], "the others were not kept so long"


def test_what_is_written_by_hand_has_just_changed(cache: Cache, cache_clock: CacheClock) -> None:
    cache = Cache(name="hand", memory=Memory(eviction="lru"), policy=Policy(ttl=TEN_TO_HOUR, jitter=0))
    cache.sync.set("k", 1)
    assert cache.sync.ttl("k") == 10

    load = cache.cached(key="f")(Source().load)
    load()
    cache_clock.advance("10m")
    load()
    load.set(1)
    assert ttl_of(load) == 10
    cache_clock.advance("9s")
    load.refresh()
    assert ttl_of(load) == 10, "what was written ages from then on"
    with pytest.raises(ConfigError, match=r"ttl: Adaptive\(min=10, max=3600\); give seconds"):
        cache.sync.set("k", 1, ttl=TEN_TO_HOUR)  # type: ignore[arg-type]


def test_jitter_shortens_these_too(cache_clock: CacheClock) -> None:
    cache = Cache(name="jittered", policy=Policy(ttl=Adaptive(100, 200), jitter=0.5))
    lives = []
    for number in range(200):
        cache.sync.get_or_set(f"{number}", lambda: 1)
        lives.append(cache.sync.ttl(f"{number}"))
    assert 50 <= min(lives) < 60 < 90 < max(lives) <= 100


def test_two_of_the_same_durations_are_equal_and_can_be_sent() -> None:
    assert TEN_TO_HOUR == Adaptive(min=10, max=3600) != Adaptive(10, 3601)
    assert hash(TEN_TO_HOUR) == hash(Adaptive(10, 3600))
    assert (TEN_TO_HOUR.min, TEN_TO_HOUR.max) == (10, 3600)
    assert pickle.loads(pickle.dumps(TEN_TO_HOUR)) == copy.deepcopy(TEN_TO_HOUR) == TEN_TO_HOUR
    assert repr(Adaptive("1.5s", 3)) == "Adaptive(min=1.5, max=3)"


@pytest.mark.parametrize(
    ("low", "high", "message"),
    [
        (0, 1, "min: 0; give the shortest ttl"),
        (None, 1, "min: None; give the shortest ttl"),
        ("5x", 1, "min: .*5x"),
        (1, float("inf"), "max: inf; give the longest ttl"),
        (2, 1, "max: 1s; give at least min, which is 2s"),
    ],
)
def test_durations_that_cannot_be_are_refused_by_name(low: Any, high: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Adaptive(low, high)
