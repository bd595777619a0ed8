"""Values that are sealed where they lie, in memory and in a store; keys that are on their way out; dictionaries."""

import asyncio
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samovar import Adaptive, Cache, CodecError, ConfigError, KeyRing, Memory, Policy, cached
from samovar.codecs import train_dictionary
from servers import RedisServer

OLD, NEW = {1: b"o" * 32}, {2: b"n" * 32, 1: b"o" * 32}
SECRET = "4111-1111-1111-1111"


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


def sealed(**options: Any) -> Cache:
    return Cache(memory=Memory(sealed=True), key_ring=KeyRing(OLD), **options)


def held(secret: object) -> bool:
    """True if some object of this process still is that value, or a dict or list that holds it."""
    gc.collect()
    return any(secret in one for one in gc.get_objects() if type(one) is list)


def test_memory_holds_no_value_that_nobody_uses_and_gives_each_reader_one_of_his_own() -> None:
    async def main() -> None:
        cache = sealed()
        await cache.set("card", ["".join(SECRET)], 60)
        first, second = await cache.get("card"), cache.sync.get("card")
        assert first == second == [SECRET]
        assert first is not second
        del first, second
        assert not held(SECRET)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        (lambda cache: cache.sync.incr("n", 2), 7),
        (lambda cache: cache.sync.get_many(["n", "no"]), {"n": 5}),
        (lambda cache: list(cache.sync.items()), [("n", 5)]),
        (lambda cache: cache.sync.peek("n").value, 5),
        (lambda cache: cache.sync.get_or_set("n", lambda: 9), 5),
        (lambda cache: cache.sync.get_or_set_many(["n"], lambda keys: dict.fromkeys(keys, 9)), {"n": 5}),
    ],
    ids=["incr", "get_many", "items", "peek", "get_or_set", "get_or_set_many"],
)
def test_whatever_reads_it_gets_the_value(way: Callable[[Cache], Any], expected: object) -> None:
    cache = sealed()
    cache.sync.set("n", 5, 60)
    assert way(cache) == expected


def test_functions_events_and_ttls_that_follow_the_data_see_values() -> None:
    cache = sealed()
    seen = []
    cache.on("evict", lambda event: seen.append(event.value))
    calls = iter(range(9))

    @cache.cached(Adaptive("1m", "1h"), key="f:{n}")
    def f(n: int) -> list[int]:
        next(calls)
        return [n]

    assert (f(1), f(1), f.refresh(1), next(calls)) == ([1], [1], [1], 2)
    f.invalidate(1)
    cache.resize(max_entries=1)
    cache.sync.set("a", 1, 60)
    cache.sync.set("b", 2, 60)
    assert seen in ([1], [2])


def test_what_has_no_form_is_not_kept_and_the_caller_is_told() -> None:
    cache = sealed()
    with pytest.raises(CodecError, match="object of type object"):
        cache.sync.set("k", object(), 60)
    assert cache.sync.get("k") is None
    calls = []

    @cache.cached("1m")
    def f() -> object:
        calls.append(1)
        return object()

    with pytest.warns(UserWarning, match="cannot be stored"):
        f()
    f()
    assert len(calls) == 2


def test_a_memory_is_sealed_by_a_key_ring_only() -> None:
    for options in ({}, {"key_ring": OLD, "encrypt": "sign"}, {"key_ring": OLD, "encrypt": False}):
        with pytest.raises(ConfigError, match="sealed: True; give the cache key_ring="):
            Cache(memory=Memory(sealed=True), **options)
    with pytest.raises(ConfigError, match="sealed: 1; give True or False"):
        Memory(sealed=1)  # type: ignore[arg-type]


def test_what_is_sealed_in_memory_travels_as_any_other_value(server: RedisServer) -> None:
    async def main() -> None:
        options: dict[str, Any] = {"name": "travels", "key_ring": OLD}
        one = Cache(server.url, memory=Memory(sealed=True), **options)
        other = Cache(server.url, memory=Memory(sealed=True), **options)

        @one.cached("1m", key="f:{n}")
        async def f(n: int) -> dict[str, int]:
            return {"n": n}

        await one.set("a", {"x": [1]}, 60)
        assert (await f(1), await other.get("f:1"), await other.get("a")) == ({"n": 1}, {"n": 1}, {"x": [1]})
        assert (await other.get("a"), other.stats().hits) == ({"x": [1]}, 1)
        assert await one.incr("n", 2) == 2
        assert (await other.incr("n", 5), await other.get("n")) == (7, 7)
        await one.close()
        await other.close()

    asyncio.run(main())


def test_an_entry_of_an_old_key_is_read_and_written_again_with_the_new_one(server: RedisServer) -> None:
    async def main() -> None:
        before = Cache(server.url, name="rotates", memory=None, key_ring=KeyRing(OLD))
        after = Cache(server.url, name="rotates", memory=None, key_ring=KeyRing(NEW, primary=2))
        only = Cache(server.url, name="rotates", memory=None, key_ring=KeyRing({2: NEW[2]}))
        await before.set("a", 1, 60)
        await before.set("b", 2)
        assert await only.get("a") is None
        stats = only.remote_stats()
        assert stats is not None
        assert stats.unreadable == {"unknown_key": 1}
        assert (await after.get("a"), await after.get_or_set("b", lambda: 9)) == (1, 2)
        # The next call follows on the same connection.
        assert (await after.get("a"), await only.get("a"), await only.get("b")) == (1, 1, 2)
        left, forever = await only.ttl("a"), await only.ttl("b")
        assert left is not None
        assert 50 < left <= 60
        assert forever == float("inf")
        for cache in (before, after, only):
            await cache.close()

    asyncio.run(main())


def test_values_that_look_alike_take_less_room_with_a_dictionary_and_are_read_by_whoever_has_it(
    server: RedisServer,
) -> None:
    def record(n: int) -> dict[str, object]:
        return {"id": n, "name": f"customer number {n}", "email": f"customer{n}@example.com", "country": "Portugal"}

    dictionary = train_dictionary((record(n) for n in range(2_000)), 4096)

    async def main() -> None:
        options: dict[str, Any] = {"name": "small", "memory": None, "compress": "zstd"}
        plain = Cache(server.url, **options)
        small = Cache(server.url, dictionaries=[dictionary], **options)
        await plain.set("plain", record(3_000), 60)
        await small.set("small", record(3_000), 60)
        sizes = [int(server.ask("STRLEN", f"small::{key}")[1:]) for key in ("plain", "small")]
        assert sizes[1] < 0.8 * sizes[0]
        assert (await small.get("small"), await small.get("plain")) == (record(3_000), record(3_000))
        assert await plain.get("small") is None
        await plain.close()
        await small.close()

    asyncio.run(main())


def test_a_policy_and_the_decorator_of_the_default_cache_know_nothing_of_it() -> None:
    @cached("1m")
    def f() -> int:
        return 1

    assert (f(), Policy(ttl=5).ttl) == (1, 5)
