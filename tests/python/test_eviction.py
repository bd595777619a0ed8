"""Who leaves when there is no room, as Python users see it. The orders themselves are tested in Rust."""

import pickle
import random
from typing import Any

import pytest
from samovar import Cache, ConfigError, Memory, Stats
from watching import settled, whole

ORDERS = ("adaptive", "lru", "lfu", "fifo", "s3fifo", "tinylfu", "ttl")


@pytest.mark.parametrize("order", ORDERS)
def test_no_order_lets_a_cache_outgrow_its_bounds(order: str) -> None:
    cache = Cache(name=order, memory=Memory(100, max_bytes=50_000, eviction=order, weigher=len))
    for n in range(3_000):
        cache.sync.set(f"key{n % 700}", b"x" * (n * 37 % 2_000 + 1), 300)
        cache.sync.get(f"key{n * 31 % 700}")
        stats = cache.stats()
        assert stats.entries <= 100
        assert stats.bytes <= 50_000 * 1.004
    whole(cache)
    assert cache._inspect()["entries_touched_at_most"] <= 64


def test_lru_keeps_what_was_used_last() -> None:
    cache = Cache(name="lru", memory=Memory(3, eviction="lru"))
    for key in "abc":
        cache.sync.set(key, key)
    cache.sync.get("a")
    cache.sync.set("d", "d")
    assert sorted(cache.sync.keys()) == ["a", "c", "d"]


def test_ttl_keeps_what_lives_longest() -> None:
    cache = Cache(name="ttl", memory=Memory(3, eviction="ttl"))
    for key, ttl in (("a", 500), ("b", 100), ("c", None), ("d", 300)):
        cache.sync.set(key, key, ttl)
    assert sorted(cache.sync.keys()) == ["a", "c", "d"]
    cache.sync.touch("a", 50)
    cache.sync.set("e", "e", 400)
    assert sorted(cache.sync.keys()) == ["c", "d", "e"]


def test_bytes_are_bounded_by_the_memory_that_values_take() -> None:
    cache = Cache(name="bytes", memory=Memory(max_entries=None, max_bytes="2MiB"))
    for n in range(20_000):
        cache.sync.set(f"key{n}", {"id": n, "text": "x" * 200})
    stats = cache.stats()
    assert 0.9 * 2**21 < stats.bytes <= 2**21 * 1.004
    assert 2_000 < stats.entries < 7_000
    whole(cache)


def test_a_value_heavier_than_the_cache_is_not_stored_and_displaces_nothing() -> None:
    cache = Cache(name="heavy", memory=Memory(max_bytes=1_000, weigher=len))
    cache.sync.set("a", b"x" * 500)
    cache.sync.set("b", b"x" * 5_000)
    assert (cache.sync.get("a"), cache.sync.get("b"), cache.stats().refused) == (b"x" * 500, None, 1)
    whole(cache)


def test_a_value_heavier_than_the_cache_takes_the_one_it_was_to_replace_with_it_and_nobody_else() -> None:
    cache = Cache(name="heavy", memory=Memory(max_bytes=1_000, weigher=len))
    cache.sync.set("a", b"x" * 500)
    cache.sync.set("b", b"x" * 100)
    cache.sync.set("a", b"x" * 5_000)
    assert (cache.sync.get("a"), cache.sync.get("b")) == (None, b"x" * 100)
    assert (cache.stats().refused, cache.stats().evictions) == (1, 0)
    whole(cache)


@pytest.mark.parametrize("weight", [-1, 1.5, "7", None, 2**70])
def test_a_weigher_that_tells_no_weight_is_refused_by_name(weight: Any) -> None:
    cache = Cache(name="scale", memory=Memory(weigher=lambda value: weight))
    with pytest.raises(ConfigError, match=r"weigher of cache .scale.*whole number of bytes"):
        cache.sync.set("a", 1)
    assert (cache.sync.get("a"), cache.stats().entries) == (None, 0)
    whole(cache)


def test_a_weigher_that_raises_reaches_the_caller_and_stores_nothing() -> None:
    def weigher(value: object) -> int:
        raise ZeroDivisionError(value)

    cache = Cache(name="scale", memory=Memory(weigher=weigher))

    @cache.cached
    def load(n: int) -> int:
        return n

    with pytest.raises(ZeroDivisionError):
        cache.sync.set("a", 1)
    with pytest.raises(ZeroDivisionError):
        load(1)
    assert cache.stats().entries == 0
    whole(cache)


def test_a_weigher_is_asked_once_for_each_value() -> None:
    weights = iter([100, 900, 5])
    cache = Cache(name="mind", memory=Memory(max_bytes=1_000, weigher=lambda value: next(weights)))
    cache.sync.set("a", 1)
    assert cache.stats().bytes == 100
    cache.sync.set("a", 2)
    assert cache.stats().bytes == pytest.approx(900, rel=0.005)
    assert cache.sync.delete("a")
    assert cache.stats().bytes == 0
    whole(cache)


def test_a_smaller_bound_lets_the_least_valuable_leave() -> None:
    cache = Cache(name="resize", memory=Memory(10_000, eviction="lru"))
    for n in range(10_000):
        cache.sync.set(f"key{n}", n)
    cache.resize(max_entries=100)
    assert settled(lambda: cache.stats().entries <= 100)
    assert sorted(cache.sync.keys()) == sorted(f"key{n}" for n in range(9_900, 10_000))
    cache.resize(max_bytes=None)
    assert cache._bounds() == (100, None, "lru")
    whole(cache)


@pytest.mark.parametrize("order", ORDERS)
def test_another_order_drops_nothing(order: str) -> None:
    cache = Cache(name="reorder", memory=Memory(500))
    for n in range(500):
        cache.sync.set(f"key{n}", n, 100 + n)
    for name in (order, "adaptive", order):
        cache.resize(eviction=name)
        assert cache.insight().eviction == name
        assert all(cache.sync.get(f"key{n}") == n for n in range(500))
        whole(cache)
    for n in range(2_000):
        cache.sync.set(f"new{n}", n)
    assert cache.stats().entries == 500
    whole(cache)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"max_entries": 0}, "max_entries: 0"),
        ({"max_entries": -5}, "max_entries: -5"),
        ({"max_bytes": "5 parsecs"}, "max_bytes: '5 parsecs'"),
        ({"max_entries": None, "max_bytes": None}, "give max_entries or max_bytes"),
        ({"eviction": "mru"}, "eviction: 'mru'; give one of adaptive, lru, lfu, fifo, s3fifo, tinylfu, ttl"),
    ],
)
def test_bounds_that_cannot_be_are_refused_and_nothing_changes(options: dict[str, Any], names: str) -> None:
    with pytest.raises(ConfigError, match=names):
        Memory(**options)
    cache = Cache(name="bounds")
    before = cache._bounds()
    with pytest.raises(ConfigError, match=names):
        cache.resize(**options)
    assert cache._bounds() == before


def test_the_estimates_agree_with_what_is_measured() -> None:
    draw = random.Random(3)
    names = [f"key{rank}" for rank in range(20_000)]
    keys = draw.choices(names, [1 / (rank + 1) ** 0.8 for rank in range(20_000)], k=120_000)

    def replayed(entries: int) -> tuple[Cache, float]:
        cache, hits = Cache(name="curve", memory=Memory(entries, max_bytes=None)), 0
        for at, key in enumerate(keys):
            if cache.sync.get(key) is not None:
                hits += at >= 60_000
            else:
                cache.sync.set(key, 1)
        return cache, hits / 60_000

    measured = [replayed(entries)[1] for entries in (1_000, 2_000, 4_000)]
    # Which keys are sampled differs from cache to cache; a single estimate may be a little further off.
    insights = [replayed(2_000)[0].insight() for _ in range(4)]
    estimated = [sum(insight.curve[at] for insight in insights) / 4 for at in (0.5, 1.0, 2.0)]
    assert estimated == pytest.approx(measured, abs=0.02)
    assert all(insight.setting in insight.settings for insight in insights)


def test_stats_show_who_leaves_and_what_other_sizes_would_hit() -> None:
    cache = Cache(name="shown", memory=Memory(200, max_bytes=None))

    @cache.cached(max_entries=50)
    def own(n: int) -> int:
        return n

    @cache.cached
    def shared(n: int) -> int:
        return n

    draw = random.Random(5)
    for _ in range(20_000):
        shared(int(draw.paretovariate(0.6)) % 2_000)
    stats = cache.stats()
    assert stats.insight == cache.insight()
    assert stats.insight.eviction == "adaptive"
    assert set(stats.insight.curve) == {0.5, 1.0, 2.0}
    assert stats.insight.setting in stats.insight.settings
    assert shared.stats().insight == stats.insight
    assert own.stats().insight.curve == {}
    assert "insight=Insight(eviction='adaptive', setting=" in repr(stats)

    cache.resize(eviction="lru")
    assert (cache.stats().insight.eviction, stats.insight.eviction) == ("lru", "adaptive")
    assert (shared.stats().insight.eviction, own.stats().insight.eviction) == ("lru", "adaptive")


def test_stats_are_equal_if_their_counters_are_and_survive_pickling() -> None:
    cache = Cache(name="counted", memory=Memory(10, eviction="fifo"))
    stats = cache.stats()
    assert stats == Stats() == Stats(*stats) == stats._replace(hits=0)
    assert hash(stats) == hash(Stats())
    assert Stats().insight.eviction == ""
    again = pickle.loads(pickle.dumps(stats))
    assert (again, again.insight, type(again)) == (stats, stats.insight, Stats)


def test_what_was_counted_is_weighed_when_a_cache_is_bounded_in_bytes() -> None:
    cache = Cache(name="weighed", memory=Memory(1_000, max_bytes=None, eviction="lru"))
    for n in range(200):
        cache.sync.set(f"k{n}", b"x" * 1_000)
    cache.sync.set_missing("nothing", ttl="1m")
    cache.resize(max_bytes="10MiB")
    assert 200_000 < cache.stats().bytes < 300_000
    cache.resize(max_bytes=50_000)
    assert settled(lambda: cache.stats().bytes <= 50_000)
    assert cache.sync.get("k199") is not None, "the least valuable leave"
    assert 30 < cache.stats().entries < 60
    cache.resize(max_bytes=None)
    whole(cache)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_what_a_weigher_refuses_keeps_its_weight_and_the_others_are_weighed() -> None:
    def weigh(value: int) -> int:
        if value == 7:
            raise ValueError("odd")
        return 100

    cache = Cache(name="odd", memory=Memory(1_000, max_bytes=None, weigher=weigh))
    for n in range(10):
        cache.sync.set(f"k{n}", n)
    cache.resize(max_bytes="1MiB")
    assert cache.stats().bytes == pytest.approx(901, rel=0.02)
    whole(cache)
