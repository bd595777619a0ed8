"""The public API as users type it: checked by mypy and pyright, never run. A wrong call must be an error."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, assert_type

from samovar import Cache, CacheManager, Entry, Memory, Policy, Stats, cached, cached_many, default_cache


@cached
async def bare(code: str) -> float:
    return 1.0


@cached("5m")
async def rate(code: str, amount: int = 1) -> float:
    return 1.0


@cached(ttl=300, key="user:{user_id}")
def sync_user(user_id: int) -> dict[str, int]:
    return {"id": user_id}


cache = Cache(name="app", memory=Memory(max_entries=10), policy=Policy(ttl="5m"))


@cache.cached("5m", ignore=["session"])
async def profile(user_id: int, session: object) -> str:
    return str(user_id)


@cached_many("10m", items="ids")
async def users(ids: Sequence[int], lang: str = "en") -> Mapping[int, str]:
    return {}


@cache.cached_many(ttl="10m", items="names", max_batch=100, loaders=[], chain_error="stop")
def prices(names: Sequence[str]) -> dict[str, float]:
    return {}


def sync_text(ids: Sequence[int]) -> str:
    return ""


class Rates:
    @cached_many("5m", items="codes", window="5ms")
    async def many(self, codes: Sequence[str]) -> dict[str, float]:
        return {}

    @classmethod
    @cached("5m")
    async def of(cls, code: str) -> float:
        return 1.0

    @staticmethod
    @cached
    def plain(code: str) -> float:
        return 1.0

    @cached("5m")
    async def own(self, code: str) -> float:
        return 1.0


async def use_methods() -> None:
    assert_type(await Rates().of("EUR"), float)
    assert_type(Rates.plain("EUR"), float)
    assert_type(await Rates.own(Rates(), "EUR"), float)
    assert_type(await Rates().own("EUR"), float)
    await Rates().own.invalidate("EUR")
    assert_type(rate.__name__, str)
    assert_type(rate.__qualname__, str)
    assert_type(sync_user.__doc__, str | None)


async def use_functions() -> None:
    assert_type(await bare("EUR"), float)
    assert_type(await rate("EUR"), float)
    assert_type(await rate("EUR", amount=2), float)
    assert_type(sync_user(7), dict[str, int])
    assert_type(await profile(7, object()), str)
    assert_type(await rate.refresh("EUR"), float)
    assert_type(await rate.peek("EUR"), Entry | None)
    assert_type(rate.stats(), Stats)
    assert_type(rate.key("EUR", 2), str)
    await rate.invalidate("EUR")
    await rate.invalidate_all()
    sync_user.invalidate(7)


async def use_functions_of_many() -> None:
    assert_type(await users([1, 2]), dict[int, str])
    assert_type(await users(ids=[1], lang="de"), dict[int, str])
    assert_type(await users.refresh([1]), dict[int, str])
    assert_type(await users.uncached([1]), dict[int, str])
    assert_type(await users.peek([1]), dict[int, Entry])
    assert_type(users.key([1]), dict[int, str])
    assert_type(users.stats(), Stats)
    assert_type(users.__name__, str)
    await users.invalidate([1], lang="de")
    await users.set({1: "one"}, "de")
    assert_type(prices(["tea"]), dict[str, float])
    prices.invalidate(["tea"])
    prices.set({"tea": 1.0})
    assert_type(await Rates().many(["EUR"]), dict[str, float])
    assert_type(await Rates.many(Rates(), ["EUR"]), dict[str, float])
    await Rates().many.invalidate(["EUR"])


async def use_cache() -> None:
    await cache.set("a", 1, ttl="5m")
    assert_type(await cache.add("a", 1), bool)
    assert_type(await cache.incr("n"), int)
    assert_type(await cache.ttl("n"), float | None)
    assert_type(await cache.get_many(["a"]), dict[str, Any])
    assert_type(await cache.get_or_set_many(["a"], length_of, ttl="5m", max_batch=9), dict[str, int])
    assert_type(await cache.get_or_set_many(["a"], length_of_later), dict[str, int])
    assert_type(cache.sync.get_or_set_many(["a"], length_of), dict[str, int])
    assert_type(cache.sync.delete("a"), bool)
    assert_type(cache.namespace("x"), Cache)
    manager = CacheManager({"app": cache})
    assert_type(manager["app"], Cache)
    assert_type(manager.stats(), dict[str, Stats])
    assert_type(default_cache(), Cache)
    async with manager:
        pass


def length_of(keys: list[str]) -> dict[str, int]:
    return {key: len(key) for key in keys}


async def length_of_later(keys: list[str]) -> Mapping[str, int]:
    return length_of(keys)


async def wrong_calls() -> None:
    await users(["1"])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    await users.invalidate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await users.set({1: 1})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
    await Rates().many([1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
    cached_many("5m")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
    cached_many("5m", items="ids")(sync_text)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    cache.sync.get_or_set_many(["a"], length_of_later)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rate.invalidate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Rates().of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sync_user("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.set(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
