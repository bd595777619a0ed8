"""A cache with a store behind its memory: both faces of it, and what opens it. What is done is native."""

from __future__ import annotations

import inspect
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from samovar import _core
from samovar._cache import Cache
from samovar._exceptions import ConfigError
from samovar._options import MAX_ENTRIES, Memory, refuse
from samovar._sync_cache import SyncCache
from samovar._tags import check_named, check_tags
from samovar._wire import Wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
    from datetime import timedelta
    from types import EllipsisType

    from samovar._core import Stamp
    from samovar._views import Entry

    GivenTtl = float | timedelta | str | EllipsisType | None

C = TypeVar("C", bound=type[Any])

ON_ERROR = ("degrade", "raise")
STORE_METHODS = ("get_many", "set_many", "delete_many", "scan", "close")


class RemoteStats(NamedTuple):
    """What a cache has asked of its store since it was made, and what came of it."""

    reads: int = 0
    claims: int = 0
    writes: int = 0
    #: Invalidations, and claims that were renewed or given up.
    others: int = 0
    #: Reads and claims that found something.
    found: int = 0
    #: Requests that were sent again.
    retries: int = 0
    #: Requests without an answer in time.
    timeouts: int = 0
    #: Requests that did not reach it, or were not sent since it was known to be out of reach.
    unreachable: int = 0
    #: Requests it refused.
    refused: int = 0
    #: Connections that were opened.
    connects: int = 0
    #: How often it was given up, until it answered again.
    outages: int = 0
    #: Operations that went on without it.
    errors: int = 0
    #: Keys, tags and namespaces of which it has yet to hear that they were invalidated.
    to_recover: int = 0
    #: What this process was told that others have done.
    heard: int = 0
    #: How often something may have been missed: what was in memory is compared with the store before it is served.
    lost: int = 0
    #: Messages on the cache's channel that nobody could read, or that were somebody else's.
    strange: int = 0
    #: Lookups answered from memory by what may have been changed elsewhere, since the store could not be asked.
    unasked: int = 0
    #: Writes of which the store would tell nobody: its ACL forbids to publish.
    untold: int = 0
    #: How often it refused to be listened to.
    unheard: int = 0
    #: Entries that were as good as none, by reason.
    unreadable: Mapping[str, int] = {}


class Behind:
    """The store behind a cache, and how values are written there."""

    __slots__ = ("coding", "functions", "hears", "owned", "raises", "store", "wire")

    def __init__(self, store: Any, owned: bool, wire: Wire, raises: bool, hears: tuple[bool, bool]) -> None:
        self.store, self.owned, self.wire, self.raises = store, owned, wire, raises
        #: Whether others are heard, and those who tell nobody.
        self.hears = hears
        self.coding = wire.coding("")
        #: By namespace and id: the cached function, weakly, and where its code is.
        self.functions: dict[tuple[str, str], tuple[weakref.ref[Any], object]] = {}

    def register(self, namespace: str, own_id: str, function: Any, decorated: Any) -> None:
        """Note whose entries go by this id.

        Raises:
            ConfigError: Another function's do: the two would be given each other's results. One that was loaded again
                from the same place is the same.
        """
        code = getattr(inspect.unwrap(function), "__code__", None)
        where = None if code is None else (code.co_filename, code.co_firstlineno)
        known = self.functions.get((namespace, own_id))
        if known is not None and known[0]() is not None and known[1] != where:
            raise ConfigError(
                f"two functions are called {own_id} and would share their entries in the store; give one of them "
                "another name, a key= or a namespace="
            )
        self.functions[namespace, own_id] = (weakref.ref(decorated), where)

    def coding_of(self, namespace: str, wire: Wire | None = None, type: Any = Any) -> _core.Coding:  # noqa: A002
        """What writes and reads the values of a namespace, and of a function that varies how."""
        return (wire or self.wire).coding(namespace, type, self.coding.framing)

    def options(self, memory: Memory | None) -> Any:
        """As native code takes it."""
        from samovar._core import _seconds

        given = None if memory is None else memory.ttl
        most = None if given is None else _seconds(given)
        return _Options(self.store._core, self.raises, memory is not None, most, *self.hears)

    def close(self) -> None:
        """Give back what was opened for the cache alone."""
        if self.owned:
            self.store._core.close()


class OwnStore:
    """A store of the user's, as `Redis` is one."""

    __slots__ = ("_core",)

    def __init__(self, store: Any) -> None:
        missing = [name for name in STORE_METHODS if not callable(getattr(store, name, None))]
        if missing:
            raise refuse("remote", store, f"give Redis(...), or a store: it has no method {missing[0]}()")
        self._core = _core.StoreCore._user(_core._state, store, timeout=0.25)


class _Options(NamedTuple):
    store: Any
    raises: bool
    keeps: bool
    most: float | None
    listens: bool
    external: bool


def open_behind(url: str, given: dict[str, Any], memory: Memory | None) -> tuple[Behind | None, Any]:
    """The store that a cache's options name, None for one of memory alone; and what seals its memory, if anything.

    Raises:
        ConfigError: They contradict each other, or one cannot be.
    """
    remote = given.pop("remote", None)
    on_error = given.pop("on_error", "degrade")
    if on_error not in ON_ERROR:
        raise refuse("on_error", on_error, "give 'degrade' or 'raise'")
    hears = check_hears(given.pop("bus", "auto"), given.pop("external_writers", False))
    wire = Wire(**given)
    sealing = None
    if memory is not None and memory.sealed:
        if wire.key_ring is None or wire.encrypt in (False, "sign"):
            raise refuse("sealed", True, "give the cache key_ring=, and an encrypt= that encrypts")
        sealing = wire.coding("memory")
    if url != "memory://":
        if remote is not None:
            raise refuse("remote", remote, "give it once: the url names a store already")
        from samovar._redis import Redis

        return Behind(Redis(url), True, wire, on_error == "raise", hears), sealing
    if remote is None:
        wire.coding("")
        return None, sealing
    if not hasattr(remote, "_core"):
        remote = OwnStore(remote)
    return Behind(remote, False, wire, on_error == "raise", hears), sealing


def check_hears(bus: object, external: object) -> tuple[bool, bool]:
    """Whether a cache hears of others who use its store, and of those who tell nobody."""
    if external and bus is None:
        raise refuse("external_writers", external, "leave bus= out: it hears of them")
    return bus == "auto", bool(external)


CLASSES: dict[type[Any], type[Any]] = {}


def with_store(kind: type[Any]) -> type[Any]:
    """The class of a cache with a store: the user's own, if it is one, with the methods of `TwoTierCache` below it."""
    return CLASSES.get(kind) or CLASSES.setdefault(kind, mixed(kind))


def mixed(kind: type[Any]) -> Any:
    """As `with_store`, made anew."""
    if kind is Cache:
        return TwoTierCache
    if issubclass(kind, TwoTierCache):
        return kind
    make: Any = type
    return make(kind.__name__, (kind, TwoTierCache), {"__slots__": (), "__module__": kind.__module__})


def memory_of(memory: Memory | None) -> Memory:
    """The bounds of a memory; of none, those of one in which nothing is kept."""
    return Memory(MAX_ENTRIES, None, "lru") if memory is None else memory


class TwoTierSync(SyncCache):
    """The blocking face of a cache with a store. Made by ``Cache(...)``; not a name to use."""

    __slots__ = ("_far",)

    _far: _core.TwoTiers

    def peek(self, key: str) -> Entry | None:
        return self._far.peek(key, False)

    def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> Stamp:
        return self._far.set(key, value, ttl, check_tags(tags), False)

    def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        return self._far.add(key, value, ttl, False)

    def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        return self._far.replace(key, value, ttl, False)

    def delete(self, key: str) -> bool:
        return self._far.delete(key, False)

    def invalidate(self, key: str) -> Stamp:
        return self._far.invalidate(key, False)

    def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        return self._far.touch(key, ttl, False)

    def contains(self, key: str) -> bool:
        return self._far.contains(key, False)

    def ttl(self, key: str) -> float | None:
        return self._far.ttl(key, False)

    def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        return self._far.incr(key, by, ttl, False)

    def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        return self._far.incr(key, negative(key, by), ttl, False)

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return self._far.get_many(keys, True, False)

    def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> Stamp:
        return self._far.set_many(items, ttl, False)

    def delete_many(self, keys: Iterable[str]) -> int:
        return self._far.delete_many(keys, False)

    def delete_match(self, pattern: str) -> int:
        return self._far.delete_match(pattern, False)

    def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        self._far.set_missing((key,), ttl, False)

    def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        self._far.set_missing(keys, ttl, False)

    def clear(self) -> Stamp:
        return self._far.clear(False)

    def invalidate_tags(self, *tags: str) -> Stamp:
        return self._far.move_tags(check_named(tags, "invalidate_tags"), False, False)

    def expire_tags(self, *tags: str) -> Stamp:
        return self._far.move_tags(check_named(tags, "expire_tags"), True, False)

    def stamp(self) -> Stamp | None:
        return self._far.stamp()

    def keys(self) -> Iterator[str]:
        return (key for key, _ in self.items())

    def items(self) -> Iterator[tuple[str, Any]]:
        place = None
        while True:
            names, place = self._far.names(place, False)
            yield from self._far.get_many(names, False, False).items()
            if place is None:
                return


class TwoTierCache(Cache):
    """A :class:`Cache` with a store behind its memory. Made by ``Cache(...)``; not a name to use."""

    __slots__ = ("_far",)

    _far: _core.TwoTiers

    def _make_sync(self, _given: tuple[Any, Any, Any]) -> SyncCache:
        self._far = _core.TwoTiers(self)
        sync = TwoTierSync(_core._state, self.path, self)
        sync._far = self._far  # pyright: ignore[reportPrivateUsage]
        return sync

    async def peek(self, key: str) -> Entry | None:
        return await self._far.peek(key, True)

    async def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> Stamp:
        return await self._far.set(key, value, ttl, check_tags(tags), True)

    async def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        return await self._far.add(key, value, ttl, True)

    async def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        return await self._far.replace(key, value, ttl, True)

    async def delete(self, key: str) -> bool:
        return await self._far.delete(key, True)

    async def invalidate(self, key: str) -> Stamp:
        return await self._far.invalidate(key, True)

    async def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        return await self._far.touch(key, ttl, True)

    async def contains(self, key: str) -> bool:
        return await self._far.contains(key, True)

    async def ttl(self, key: str) -> float | None:
        return await self._far.ttl(key, True)

    async def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        return await self._far.incr(key, by, ttl, True)

    async def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        return await self._far.incr(key, negative(key, by), ttl, True)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        return await self._far.get_many(keys, True, True)

    async def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> Stamp:
        return await self._far.set_many(items, ttl, True)

    async def delete_many(self, keys: Iterable[str]) -> int:
        return await self._far.delete_many(keys, True)

    async def delete_match(self, pattern: str) -> int:
        return await self._far.delete_match(pattern, True)

    async def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        await self._far.set_missing((key,), ttl, True)

    async def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        await self._far.set_missing(keys, ttl, True)

    async def clear(self) -> Stamp:
        return await self._far.clear(True)

    async def invalidate_tags(self, *tags: str) -> Stamp:
        return await self._far.move_tags(check_named(tags, "invalidate_tags"), False, True)

    async def expire_tags(self, *tags: str) -> Stamp:
        return await self._far.move_tags(check_named(tags, "expire_tags"), True, True)

    def stamp(self) -> Stamp | None:
        return self._far.stamp()

    async def keys(self) -> AsyncIterator[str]:
        async for pair in self.items():
            yield pair[0]

    async def items(self) -> AsyncIterator[tuple[str, Any]]:
        place = None
        while True:
            names, place = await self._far.names(place, True)
            for pair in (await self._far.get_many(names, False, True)).items():
                yield pair
            if place is None:
                return

    def remote_stats(self) -> RemoteStats:
        refusals = {} if self._behind is None else self._behind.coding.framing.refusals
        unreadable = {reason: count for reason, count in refusals.items() if count}
        return RemoteStats(**self._far.report(), unreadable=unreadable)


def negative(key: str, by: int) -> Any:
    """What is added where this is subtracted; what is no int is refused as it is."""
    return -by if type(by) is int else by
