"""Where "not found" and kept errors are: among the values, or under a bound of their own."""

import asyncio
from typing import Any

import pytest
from samovar import Cache, CacheManager, ConfigError, Memory, NotFound, Policy
from watching import whole


def present(cache: Cache, names: list[str]) -> int:
    return sum(cache.sync.contains(name) for name in names)


def test_many_lookups_of_what_does_not_exist_displace_nothing() -> None:
    cache = Cache(name="apart", memory=Memory(max_entries=100, max_bytes=None, max_missing=10))
    names = [f"n{n}" for n in range(100)]
    for name in names:
        cache.sync.set(name, name)

    calls: list[int] = []

    @cache.cached(key="row:{n}", negative_ttl="1h", cache_errors={KeyError: "1h"})
    def row(n: int) -> int:
        calls.append(n)
        raise NotFound if n % 2 else KeyError(n)

    for n in range(1000):
        with pytest.raises((NotFound, KeyError)):
            row(n)
    asyncio.run(cache.set_missing_many([f"gone{n}" for n in range(1000)], ttl="1h"))
    assert present(cache, names) == 100
    assert cache.stats().entries == 110
    with pytest.raises(NotFound):
        cache.sync.get_or_set("gone999", lambda: 1)
    assert cache.sync.get_or_set("gone0", lambda: 1) == 1
    whole(cache)


def test_they_share_the_bound_if_they_have_none() -> None:
    cache = Cache(name="shared", memory=Memory(max_entries=100, max_bytes=None, eviction="lru"))
    names = [f"n{n}" for n in range(100)]
    for name in names:
        cache.sync.set(name, name)
    asyncio.run(cache.set_missing_many([f"gone{n}" for n in range(40)], ttl="1h"))
    assert (present(cache, names), cache.stats().entries) == (60, 100)


def test_a_value_for_what_was_missing_is_a_value_among_others() -> None:
    cache = Cache(name="apart", memory=Memory(max_entries=3, max_bytes=None, eviction="lru", max_missing=1))
    cache.sync.set_many({"a": 1, "b": 2, "c": 3})
    asyncio.run(cache.set_missing("d", ttl="1h"))
    assert cache.stats().entries == 4
    cache.sync.set("d", 4)
    assert (cache.stats().entries, cache.sync.contains("a"), cache.sync.get("d")) == (3, False, 4)
    asyncio.run(cache.set_missing("d", ttl="1h"))
    assert (cache.stats().entries, cache.sync.get("d")) == (3, None)
    whole(cache)


def test_the_bound_can_be_changed_and_made_while_it_works() -> None:
    cache = Cache(name="live", memory=Memory(max_entries=100, max_bytes=None, eviction="lru"))
    cache.resize(max_missing=5)
    asyncio.run(cache.set_missing_many([f"gone{n}" for n in range(50)], ttl="1h"))
    assert cache.stats().entries == 5
    cache.resize(max_missing=20, missing_eviction="fifo")
    asyncio.run(cache.set_missing_many([f"gone{n}" for n in range(50)], ttl="1h"))
    assert cache.stats().entries == 20
    cache.resize(max_entries=50)
    assert cache._bounds_of_missing() == (20, "fifo")
    with pytest.raises(ConfigError, match="max_missing"):
        cache.resize(max_missing=None)  # type: ignore[arg-type]
    whole(cache)


def test_settings_may_say_it() -> None:
    manager = CacheManager.from_env({"SAMOVAR_DEFAULT_MAX_MISSING": "7"})
    assert manager["default"]._bounds_of_missing() == (7, "lru")
    manager.configure({"default": {"memory": {"max_missing": 9}}})
    assert manager["default"]._bounds_of_missing() == (9, "lru")


@pytest.mark.parametrize(("option", "value"), [("max_missing", 0), ("max_missing", "7"), ("missing_eviction", "best")])
def test_what_cannot_be_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"invalid {option}: {value!r}"):
        Memory(**{option: value})


def test_a_function_with_a_bound_of_its_own_has_that_alone() -> None:
    cache = Cache(name="apart", memory=Memory(max_entries=100, max_missing=2), policy=Policy(negative_ttl="1h"))

    @cache.cached(max_entries=10)
    def row(n: int) -> int:
        raise NotFound

    for n in range(20):
        with pytest.raises(NotFound):
            row(n)
    assert cache.stats().entries == 10


@pytest.mark.parametrize("face", ["async", "sync"])
def test_what_has_a_name_that_fits_goes_and_nothing_else_does(face: str) -> None:
    cache = Cache()
    apart = cache.namespace("apart")

    @cache.cached("5m", key="user:{n}:name")
    def name(n: int) -> int:
        return n

    for n in range(2_500):
        cache.sync.set(f"user:{n}", n, 60)
    name(7)
    cache.sync.set("users", 1, 60)
    cache.sync.set_missing("user:gone", 60)
    apart.sync.set("user:1", 1, 60)
    gone = cache.sync.delete_match("user:*") if face == "sync" else asyncio.run(cache.delete_match("user:*"))
    assert gone == 2_501
    assert (list(cache.sync.keys()), apart.sync.get("user:1")) == (["users"], 1)
    with pytest.raises(ConfigError, match=r"pattern: .user:\[12\].; classes are not known here"):
        cache.sync.delete_match("user:[12]")
