"""The public API as users type it: checked by mypy and pyright, never run. A wrong call must be an error."""

from __future__ import annotations

from typing import Any, assert_type

from samovar import (
    Cache,
    CacheManager,
    Entry,
    Event,
    Insight,
    Memory,
    Policy,
    Stats,
    Subscription,
    cached,
    default_cache,
)


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


class Rates:
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


async def use_cache() -> None:
    await cache.set("a", 1, ttl="5m")
    assert_type(await cache.add("a", 1), bool)
    assert_type(await cache.incr("n"), int)
    assert_type(await cache.ttl("n"), float | None)
    assert_type(await cache.get_many(["a"]), dict[str, Any])
    assert_type(cache.sync.delete("a"), bool)
    assert_type(cache.namespace("x"), Cache)
    manager = CacheManager({"app": cache})
    assert_type(manager["app"], Cache)
    assert_type(manager.stats(), dict[str, Stats])
    assert_type(default_cache(), Cache)
    async with manager:
        pass


@cache.on("evict")
def evicted(event: Event) -> int:
    assert_type(event.key, str | None)
    assert_type(event.seconds, float | None)
    assert_type(event.error, BaseException | None)
    return 1


def use_listeners(names: list[Event]) -> None:
    assert_type(evicted(Event("evict", "app", "", None, "a")), int)
    assert_type(cache.on("hit", evicted), Subscription)
    assert_type(cache.on("store", lambda event: names.append(event)), Subscription)
    with cache.on("load_error", names.append) as subscription:
        assert_type(subscription, Subscription)
    assert_type(cache.stats().insight, Insight)
    assert_type(cache.stats().insight.curve[0.5], float)
    assert_type(cache.stats().hits, int)


def takes_no_event() -> None: ...


async def wrong_calls() -> None:
    cache.on("evicted", evicted)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    cache.on("evict", takes_no_event)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    cache.on("evict")(takes_no_event)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
    await rate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await rate.invalidate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Rates().of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sync_user("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.set(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
