"""The public API as users type it: checked by mypy and pyright, never run. A wrong call must be an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, Literal, assert_type

from samovar import (
    Adaptive,
    Cache,
    CacheManager,
    CircuitOpen,
    Entry,
    Event,
    Insight,
    KeyRing,
    LostWrite,
    Memory,
    Policy,
    RateLimited,
    Refresher,
    RefresherStats,
    RemoteStats,
    Rule,
    Stamp,
    Stats,
    Store,
    Subscription,
    WriteBehind,
    WritesLost,
    cached,
    cached_many,
    codecs,
    default_cache,
)
from samovar.resilience import Breaker, BreakerStats, Concurrency, Rate, Retry, protect
from samovar.testing import DictStore, FaultyStore


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

    @cached("5m")
    @classmethod
    async def below(cls, code: str) -> float:
        return 1.0

    @classmethod
    @cache.cached(ttl=60)
    def now(cls, code: str, *, amount: int = 1) -> float:
        return 1.0

    @staticmethod
    @cached
    def plain(code: str) -> float:
        return 1.0

    @staticmethod
    @cached
    def shown(value: object, width: int) -> str:
        return str(value)

    @staticmethod
    @cached
    def made(kind: type[Memory], size: int) -> Memory:
        return kind(max_entries=size)

    @cached("5m")
    async def own(self, code: str) -> float:
        return 1.0


class More(Rates):
    pass


async def use_class_methods() -> None:
    assert_type(await Rates.of("EUR"), float)
    assert_type(await More.of("EUR"), float)
    assert_type(await Rates().of("EUR"), float)
    assert_type(await Rates.below("EUR"), float)
    assert_type(await More().below("EUR"), float)
    assert_type(Rates.now("EUR", amount=2), float)
    assert_type(More.now("EUR"), float)
    assert_type(More().now("EUR"), float)
    assert_type(await Rates.of.refresh("EUR"), float)
    assert_type(await Rates.of.peek("EUR"), Entry | None)
    assert_type(Rates.now.key("EUR"), str)
    await Rates.below.invalidate("EUR")
    Rates.now.invalidate("EUR", amount=2)


def use_static_methods() -> None:
    assert_type(Rates.plain("EUR"), float)
    assert_type(Rates().plain("EUR"), float)
    assert_type(Rates.shown(1, 2), str)
    assert_type(Rates.made(Memory, 2), Memory)
    assert_type(Rates().made(Memory, 2), Memory)


async def use_methods() -> None:
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
    stamp = await cache.set("a", 1, ttl="5m", tags=["users", "user:7"])
    assert_type(stamp, Stamp | None)
    assert_type(await cache.invalidate("a"), Stamp | None)
    assert_type(await cache.invalidate_tags("users", "user:7"), Stamp | None)
    assert_type(await cache.expire_tags("users"), Stamp | None)
    assert_type(await cache.refresh_tags("users"), Stamp | None)
    assert_type(await cache.clear(), Stamp | None)
    assert_type(cache.stamp(), Stamp | None)
    assert_type(cache.sync.set("a", 1, tags=("users",)), Stamp | None)
    assert_type(cache.sync.invalidate_tags("users"), Stamp | None)
    assert_type(await cache.get("a", at_least=stamp), Any)
    assert_type(cache.sync.get("a", None, at_least=Stamp(1)), Any)
    assert_type(Stamp(2).version, int)
    assert_type(Stamp(2, applied=False).applied, bool)
    assert_type(max(Stamp(2), Stamp(1)), Stamp)
    if entry := await cache.peek("a"):
        assert_type((entry.tags, entry.version), tuple[tuple[str, ...], int])
    if (figures := cache.remote_stats()) is not None:
        assert_type(figures, RemoteStats)
        assert_type((figures.heard, figures.lost, figures.strange, figures.unasked), tuple[int, int, int, int])
    await cache.get("a", at_least=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.invalidate_tags(["users"])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
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
    assert_type(CacheManager.from_toml("samovar.toml"), CacheManager)
    assert_type(CacheManager.from_env({"SAMOVAR_TTL": "5m"}), CacheManager)
    manager.configure({"app": {"policy": {"ttl": "30m"}, "rules": [Rule("a*", ttl=5)]}}, policy=Policy(ttl="1m"))
    manager.configure(toml="samovar.toml")
    cache.configure(policy=Policy(ttl=Adaptive("10s", "1h")))
    assert_type(await cache.get_or_set("a", lambda: 1, ttl=Adaptive(10, max=timedelta(hours=1))), int)
    assert_type(await adapted(7), str)
    assert_type(cache.policy, Policy)
    async with cache.refresher(100, rate="100/m", idle=timedelta(minutes=10)) as refresher:
        assert_type(refresher, Refresher)
        assert_type(refresher.stats(), RefresherStats)
    cache.refresher(top="100")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@cached(ttl=Adaptive("10s", "1h"))
async def adapted(number: int) -> str:
    return str(number)


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


def wrong_listeners() -> None:
    cache.on("evicted", evicted)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    cache.on("evict", takes_no_event)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    cache.on("evict")(takes_no_event)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


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
    await Rates.of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Rates.of.invalidate(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Rates.now(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Rates.plain(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await Rates().of(1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sync_user("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.set("a", 1, ttl=Adaptive(1, 2))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await cache.set(1, 2)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


keys = KeyRing({2: bytes(32), 1: bytes(32)}, algorithm="aes-gcm", algorithms={1: "sign"}, primary=2)
assert_type(keys.ids, list[int])
assert_type(keys.primary, int)
KeyRing({1: "a password"})  # type: ignore[dict-item]  # pyright: ignore[reportArgumentType]
KeyRing({1: bytes(32)}, algorithm="rot13")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

database = Breaker(name="database", slow_call=timedelta(seconds=1))


@Retry(attempts=3, base="100ms", on=(OSError, TimeoutError))
@database
async def load_user(user_id: int, *, deep: bool = False) -> str:
    return str(user_id)


@Rate("100/s", burst=5, wait=1)
@Concurrency(10, queue=5)
def load_now(user_id: int) -> bytes:
    return b""


async def load_row(key: str) -> bytes:
    return key.encode()


def save_row(key: str, value: bytes) -> None: ...


async def save_rows(items: dict[str, int]) -> int:
    return len(items)


def remove_rows(keys: Sequence[str]) -> None: ...


def log_lost(write: LostWrite) -> None:
    assert_type(write.key, str)
    assert_type(write.deleted, bool)
    assert_type(write.attempts, int)
    assert_type(write.error, BaseException | None)


async def use_sources() -> None:
    through = Cache(name="rows", loader=load_row, writer=save_row, deleter=lambda key: None)
    assert_type(through, Cache)
    assert_type(through.namespace("users", loader=load_row), Cache)
    behind = WriteBehind(save_rows, remove_rows, delay=timedelta(seconds=1), retry=Retry(5), on_lost=log_lost)
    counts = Cache(loader=load_row, writer=behind)
    await counts.set("a", 1)
    assert_type(await counts.flush(timeout="5s"), None)
    assert_type(counts.pending(), int)
    assert_type(counts.sync.flush(), None)
    await counts.invalidate("a")
    counts.sync.invalidate("a")
    try:
        await counts.close()
    except WritesLost as error:
        assert_type(error.lost, tuple[LostWrite, ...])


def wrong_sources() -> None:
    Cache(loader=save_row)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Cache(writer=save_rows)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    WriteBehind(save_row)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    WriteBehind(save_rows, on_lost=save_row)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Repository:
    @Retry(on=lambda error: "busy" in str(error))
    async def find(self, user_id: int) -> str:
        return str(user_id)


async def use_guards() -> None:
    assert_type(await load_user(7, deep=True), str)
    assert_type(load_now(7), bytes)
    assert_type(await Repository().find(7), str)
    assert_type(database.state, Literal["closed", "open", "half_open"])
    assert_type(database.stats(), BreakerStats)
    protected = protect(load_now, retry=3, breaker=True, rate="5/s", concurrency=2, timeout="5s")
    assert_type(protected(7), bytes)
    assert_type(await protect(load_user, breaker=database)(7), str)
    assert_type(await cached("5m")(protect(load_user, retry=2))(7), str)
    try:
        load_now(7)
    except (CircuitOpen, RateLimited) as error:
        assert_type(error.retry_after, float | None)


async def wrong_guards() -> None:
    await load_user("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    load_now(7, 8)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    protect(load_now)("7")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Retry(on=KeyboardInterrupt)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


class Reversed:
    """A codec of one's own."""

    name = "reversed"
    id = 130

    def encode(self, value: bytes, /) -> bytes:
        return value[::-1]

    def decode(self, data: bytes, /) -> bytes:
        return data[::-1]


def codecs_as_users_type_them() -> None:
    own: codecs.Codec = Reversed()
    assert_type(codecs.encode([1], "json"), bytes)
    assert_type(codecs.decode(b"\x01"), Any)
    assert_type(codecs.decode(b"\x01", int), int)
    assert_type(codecs.decode(b"\x01", bytes, own), bytes)
    coder = codecs.Coder(codecs.Pickle(allow=[Reversed]), type=list[int], max_value_bytes=100, on_too_large="skip")
    assert_type(coder.encode([1]), bytes | None)
    codecs.Coder("msgpack", on_too_large="drop")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for each in (codecs.MsgPack(), codecs.Json(), codecs.Raw(), codecs.Pickle()):
        own = each
    codecs.register(Reversed)


class OwnStore:
    async def get_many(self, names: Sequence[str]) -> dict[str, bytes]:
        return {}

    async def set_many(self, items: Mapping[str, tuple[bytes, float | None]]) -> None: ...

    async def delete_many(self, names: Sequence[str]) -> None: ...

    async def scan(self, begin: str) -> AsyncIterator[str]:
        yield begin

    async def close(self) -> None: ...


class NoStore:
    async def get_many(self, names: Sequence[str]) -> dict[str, str]:
        return {}


def stores_as_users_type_them() -> None:
    stores: list[Store] = [OwnStore(), DictStore(), FaultyStore(OwnStore(), seed=7, errors=0.1, down=True)]
    assert_type(FaultyStore(stores[0]).counts["errors"], int)
    FaultyStore(NoStore())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
