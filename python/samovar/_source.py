"""A cache with a source: keys that are not there are loaded from it, and writes go to it.

Every operation is written once, as a coroutine that is told how to call and to wait: the async face awaits it, and for
the blocking face it runs to its end without being suspended. Loads, single flight and expiry are the cache's as ever.
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
import os
import weakref
from typing import TYPE_CHECKING, Any, TypeVar

from samovar import _core
from samovar._cache import Cache
from samovar._exceptions import ConfigError, NotFound, WouldDeadlock, WritesLost
from samovar._loaders import several
from samovar._options import refuse
from samovar._protect import running_loop
from samovar._sync_cache import SyncCache
from samovar._tags import check_tags
from samovar._views import Entry
from samovar._ways import AWAITING, BLOCKING, blocking, rung
from samovar._writing import WriteBehind, check_function, no_deleter, writes_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import TracebackType

    from samovar._cache import GivenTtl
    from samovar._core import Stamp
    from samovar._policy import Policy
    from samovar._ways import Way
    from samovar._write_behind import Behind
    from samovar._writing import GivenTime, LostWrite

C = TypeVar("C", bound=Cache)

OPTIONS = ("loader", "writer", "deleter")
#: What no value is.
ABSENT: Any = object()
#: All there are.
SOURCES: weakref.WeakSet[Source] = weakref.WeakSet()
#: The turns that the code running here has, or had when it was started.
HELD: contextvars.ContextVar[tuple[Turn, ...]] = contextvars.ContextVar("samovar.held", default=())


class Through:
    """Writes at once, before the cache: what the source refuses, the cache never has."""

    is_behind = False

    def __init__(
        self, core: _core.CacheCore, writer: Callable[..., Any] | None, deleter: Callable[..., Any] | None
    ) -> None:
        self.core = core
        self.writer = writer
        self.deleter = deleter

    async def write(self, way: Way, key: str, value: object) -> None:
        """Write a value."""
        if self.writer is not None:
            await self._call(way, self.writer, key, value)

    async def delete(self, way: Way, key: str) -> None:
        """Delete a key."""
        if self.deleter is not None:
            await self._call(way, self.deleter, key)
        elif self.writer is not None:
            raise no_deleter(key)

    async def _call(self, way: Way, function: Callable[..., Any], key: str, *value: object) -> None:
        try:
            await way.call(function, key, *value)
        except Exception:
            raise
        except BaseException:
            # Cancelled on the way: nobody can say what the source has.
            self.core._delete(key)
            raise

    def pending(self, key: str) -> tuple[bool, Any] | None:
        """Nothing ever is."""
        return None

    async def flush(self, way: Way, limit: GivenTime) -> None:
        """There is nothing to flush."""

    async def close(self, way: Way) -> None:
        """There is nothing to end."""

    def forget(self) -> None:
        """There is nothing to forget."""

    def count(self) -> int:
        """How many writes are pending."""
        return 0


class Source:
    """Where the values of a namespace come from and go to."""

    def __init__(
        self,
        cache: Cache,
        loader: Callable[[str], Any] | None,
        writer: Callable[[str, Any], Any] | WriteBehind | None,
        deleter: Callable[[str], Any] | None,
    ) -> None:
        if loader is not None:
            check_function("loader", loader, "give a function of a key")
        if deleter is not None and isinstance(writer, WriteBehind):
            raise refuse("deleter", deleter, "give it to WriteBehind(writer, deleter): it is called behind too")
        if deleter is not None:
            check_function("deleter", deleter, "give a function of a key")
            if writer is None:
                raise refuse("deleter", deleter, "give a writer= too: deletes go where writes go")
        self.core = _core.SyncCore(_core._state, cache.path, cache)
        self.loader = loader
        #: The policy that was in force last, the guards it means, and the loader as each face calls it within them.
        self.protected: tuple[Policy, Policy, dict[bool, Callable[[str], Any]]] | None = None
        self.writes: Through | Behind
        if isinstance(writer, WriteBehind):
            from samovar._write_behind import Behind

            start = functools.partial(cache._supervisor.start, cache.path)  # pyright: ignore[reportPrivateUsage]
            self.writes = Behind(self.core, writer, start)
        else:
            if writer is not None:
                check_function("writer", writer, "give a function of a key and a value, or WriteBehind(...)")
            self.writes = Through(self.core, writer, deleter)
        self.turns = _core.Turns()
        SOURCES.add(self)

    # --- reading ------------------------------------------------------------------------------------------------------

    def loads(self, way: Way) -> Callable[[str], Any]:
        """The loader as a face calls it; where there is none, what is neither there nor pending is not found."""
        if self.loader is None:
            return not_found
        policy, known = self.core._policy, self.protected
        if known is None or known[0] is not policy:
            known = self.protected = (policy, policy.with_own_guards(), {})
        _, guarded, loaders = known
        if way.blocks not in loaders:
            loaders[way.blocks] = guarded.protects(self.loader, self.core._tell_breaker, awaits=not way.blocks)
        return loaders[way.blocks]

    async def get(self, way: Way, key: str, default: Any) -> Any:
        """What is there, or pending, or what the loader finds."""
        found, missing = self.core._hits((key,))
        return await self.load(way, key, default) if missing else found[key]

    async def load(self, way: Way, key: str, default: Any) -> Any:
        """As `get`, for what is no plain hit."""
        if self.loader is None and self.writes.pending(key) is None:
            return self.core.get(key, default)
        try:
            value = await way.load(self.core, key, functools.partial(self.loads(way), key))
        except NotFound:
            return default
        return default if value is NotFound or isinstance(value, NotFound) else value

    async def get_many(self, way: Way, keys: Iterable[str]) -> dict[str, Any]:
        """Those that are there, or pending, or that the loader finds, several at a time."""
        found, missing = self.core._hits(several(keys, "keys", "get_many"))
        loaded: dict[str, Any] = {}

        async def ask(key: str) -> None:
            value = await self.load(way, key, ABSENT)
            if value is not ABSENT:
                loaded[key] = value

        if self.loader is None or len(missing) < 2:
            for key in missing:
                await ask(key)
        else:
            await way.each(ask, missing)
        # A place is held for each of them.
        found.update(loaded)
        for key in missing:
            if key not in loaded:
                del found[key]
        return found

    def contains(self, key: str) -> bool:
        """True for a copy and for a pending value; asks no loader."""
        return self.core._contains(key) or self.pending(key) is not ABSENT

    def peek(self, key: str) -> Entry | None:
        """The copy, or what is pending."""
        entry = self.core._peek(key)
        value = self.pending(key) if entry is None or entry.state == "missing" else ABSENT
        return entry if value is ABSENT else Entry(value, "fresh", _core._clock_time(), None, None)

    def ttl(self, key: str) -> float | None:
        """How long the copy lives; what is pending has no end."""
        left = self.core._ttl(key)
        return float("inf") if left is None and self.pending(key) is not ABSENT else left

    def pending(self, key: str) -> Any:
        """The value that is on its way to the source, ABSENT if there is none."""
        pending = self.writes.pending(key)
        return ABSENT if pending is None or pending[0] else pending[1]

    # --- writing ------------------------------------------------------------------------------------------------------

    def turn(self, way: Way, key: str) -> Turn:
        """The right to write a key, after all who asked before."""
        return Turn(self, way, key)

    def check(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """What cannot be must not reach the source."""
        if ttl is not ...:
            _core._check_ttl(ttl, True)
        for key in keys:
            self.core._contains(key)

    async def set(self, way: Way, key: str, value: object, ttl: GivenTtl, tags: Iterable[str] = ()) -> None:
        """Write to the source, then to the cache."""
        self.check((key,), ttl)
        checked = check_tags(tags)
        async with self.turn(way, key):
            await self.store(way, key, value, ttl, checked)

    async def store(self, way: Way, key: str, value: object, ttl: GivenTtl, tags: tuple[str, ...] = ()) -> None:
        """As `set`, by whoever has the turn."""
        await self.writes.write(way, key, value)
        try:
            self.core._set(key, value, ttl, tags)
        except BaseException:
            # The source has it and the cache cannot: then not the old one either.
            self.core._delete(key)
            raise
        if self.writes.is_behind and self.writes.pending(key) is None:
            # Written already: the key was invalidated before the copy was there.
            self.core._delete(key)

    def needs_loader(self, what: str, key: str) -> None:
        """What depends on the source's value must not be decided by what happens to be in memory."""
        if self.loader is None:
            raise ConfigError(
                f"cannot {what} {key!r}: the cache has a writer= and no loader=, so it cannot know what the source "
                "has; give a loader"
            )

    async def add(self, way: Way, key: str, value: object, ttl: GivenTtl) -> bool:
        """Write if neither the cache nor the loader knows a value."""
        self.check((key,), ttl)
        self.needs_loader("add", key)
        async with self.turn(way, key):
            absent = await self.get(way, key, ABSENT) is ABSENT
            if absent:
                await self.store(way, key, value, ttl)
            return absent

    async def replace(self, way: Way, key: str, value: object, ttl: GivenTtl) -> bool:
        """Write if the cache or the loader knows a value."""
        self.check((key,), ttl)
        self.needs_loader("replace", key)
        async with self.turn(way, key):
            present = await self.get(way, key, ABSENT) is not ABSENT
            if present:
                await self.store(way, key, value, ttl)
            return present

    async def incr(self, way: Way, key: str, by: int, ttl: GivenTtl) -> int:
        """Add to what the cache or the loader knows, and write the sum."""
        self.check((key,), ttl)
        if type(by) is not int:
            raise TypeError(f"cannot increment {key!r} by {by!r}; give an int")
        self.needs_loader("increment", key)
        async with self.turn(way, key):
            value = await self.get(way, key, ABSENT)
            if value is ABSENT:
                value = 0
            elif type(value) is not int:
                raise TypeError(
                    f"cannot increment {key!r}: its value is {value!r}, not an int; set it to a number first"
                )
            left = self.core._ttl(key)
            if ttl is ... and left is not None:
                ttl = None if left == float("inf") else left
            await self.store(way, key, value + by, ttl)
            return value + by

    async def delete(self, way: Way, key: str) -> bool:
        """Delete in the source, then in the cache; True if the cache had a value or one was pending."""
        self.check((key,))
        async with self.turn(way, key):
            known = self.contains(key)
            await self.writes.delete(way, key)
            return self.core._delete(key) or known

    async def set_many(self, way: Way, items: Mapping[str, object], ttl: GivenTtl) -> None:
        """One after the other, in the order given; all keys are checked before the first is written."""
        items = dict(items)
        self.check(items, ttl)
        for key, value in items.items():
            await self.set(way, key, value, ttl)

    async def delete_many(self, way: Way, keys: Iterable[str]) -> int:
        """One after the other; how many were there."""
        keys = list(several(keys, "keys", "delete_many"))
        self.check(keys)
        count = 0
        for key in keys:
            count += await self.delete(way, key)
        return count

    def touch(self, key: str, ttl: GivenTtl) -> bool:
        """A new life for the copy, made of what is pending if there is none. The source is not told."""
        if self.core._touch(key, ttl):
            return True
        value = self.pending(key)
        if value is not ABSENT:
            self.core._set(key, value, ttl, ())
        return value is not ABSENT

    def set_missing(self, keys: Iterable[str], ttl: GivenTtl) -> None:
        """Note that there is nothing, except of keys whose source is a pending write."""
        keys = list(several(keys, "keys", "set_missing_many"))
        self.core._set_missing([key for key in keys if self.writes.pending(key) is None], ttl)


def not_found(key: str) -> Any:
    """What loads where there is no loader: a pending value answers before it, unless it was just written."""
    raise NotFound(f"nothing is under {key!r}")


class Turn:
    """The right to write a key: writes to it happen one after the other, source and cache together."""

    def __init__(self, source: Source, way: Way, key: str) -> None:
        self.source = source
        self.way = way
        self.key = key
        self.held: contextvars.Token[Any] | None = None

    async def __aenter__(self) -> None:
        if not self.source.turns.take(self.key):
            await self.wait()
        self.held = HELD.set((*HELD.get(), self))

    async def wait(self) -> None:
        """Wait for those who asked before."""
        if any(turn.held and turn.source is self.source and turn.key == self.key for turn in HELD.get()):
            raise WouldDeadlock(f"the write to {self.key!r} writes to it again through the cache; it waits for itself")
        if self.way.blocks and running_loop() is not None:
            raise WouldDeadlock(
                f"another write to {self.key!r} is under way, and waiting for it would block the event loop that it "
                "may need; await the async face of the cache here"
            )
        bell = self.way.bell()
        ticket = self.source.turns.join(self.key, bell)
        if ticket is None:
            return
        try:
            await rung(bell)
        except BaseException:
            if not self.source.turns.leave(self.key, ticket):
                self.pass_on()
            raise

    def pass_on(self) -> None:
        """Let the next one write; whose event loop is closed is passed over."""
        while (bell := self.source.turns.pass_on(self.key)) is not None:
            try:
                bell.wake()
            except RuntimeError:
                continue
            return

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        held, self.held = self.held, None
        if held is not None:
            # Of a coroutine that the collector closes the context is another.
            with contextlib.suppress(ValueError):
                HELD.reset(held)
        self.pass_on()


async def flush(sources: Iterable[Source], way: Way, limit: GivenTime) -> None:
    """Write what is pending now, each within so much time."""
    for source in sources:
        await source.writes.flush(way, limit)


async def close(sources: Iterable[Source], way: Way) -> WritesLost | None:
    """Write what is pending, each within its time; the report of what was lost of all of them."""
    lost: list[LostWrite] = []
    name, cause = "", None
    for source in sources:
        try:
            await source.writes.close(way)
        except WritesLost as error:
            lost += error.lost
            name, cause = source.core.name, error.__cause__
    if not lost:
        return None
    report = writes_lost(name, lost)
    report.__cause__ = cause
    return report


def forget_motion() -> None:
    """In a forked child: what is pending is the parent's to write, and nobody waits here."""
    for source in list(SOURCES):
        source.turns = _core.Turns()
        source.writes.forget()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=forget_motion)


#: Of `Cache` and users' own subclasses of it, those with a source.
CLASSES: dict[type[Any], type[Any]] = {}


def with_source(kind: type[C]) -> type[C]:
    """The class of a cache with a source: the user's own, if it is one, with the methods of `SourceCache` below it."""
    return CLASSES.get(kind) or CLASSES.setdefault(kind, mixed(kind))


def mixed(kind: type[Any]) -> Any:
    """As `with_source`, made anew."""
    if kind is Cache:
        return SourceCache
    if issubclass(kind, SourceCache):
        return kind

    def without_source(_: type[Any]) -> type[Any]:
        return kind

    make: Any = type
    names = {"__slots__": (), "__module__": kind.__module__, "_without_source": classmethod(without_source)}
    return make(kind.__name__, (kind, SourceCache), names)


def flush_now(sources: list[Source], timeout: GivenTime) -> None:
    """As `flush`, by this thread."""
    blocking(flush(sources, BLOCKING, timeout))


# --- the faces --------------------------------------------------------------------------------------------------------


class SourceCache(Cache):
    """A :class:`Cache` with a loader or a writer. Made by ``Cache(...)``; not a name to use."""

    __slots__ = ()

    _source: Source

    def _make_sync(self, given: tuple[Any, Any, Any]) -> SyncCache:
        self._source = self._join(given)
        sync = SyncSourceCache(_core._state, self.path, self)
        sync._source = self._source  # pyright: ignore[reportPrivateUsage]
        return sync

    def _join(self, given: tuple[Any, Any, Any]) -> Source:
        """The source that the namespace has already, or that it is given."""
        options = [(option, value) for option, value in zip(OPTIONS, given, strict=True) if value is not None]
        found = self._sources.get(self.path)
        if found is None:
            return self._sources.setdefault(self.path, Source(self, *given))
        if options:
            name = f"namespace {self.path!r} of cache {self.name!r}"
            raise refuse(
                *options[0], f"{name} has a source already; give it once, and then ask for the namespace alone"
            )
        return found

    @classmethod
    def _without_source(cls) -> type[Any]:
        return Cache

    async def get(self, key: str, default: Any = None, *, at_least: Stamp | None = None) -> Any:
        """Return the value under key, loaded if it is not there, or default if the source has none.

        There is no store that could have given a stamp: `at_least` changes nothing.
        """
        return await self._source.get(AWAITING, key, default)

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that are there or that the source has, by key; some are loaded at a time."""
        return await self._source.get_many(AWAITING, keys)

    async def contains(self, key: str) -> bool:
        """Tell whether there is a copy or a pending value; loads nothing, counts as no use and no lookup."""
        return self._source.contains(key)

    async def peek(self, key: str) -> Entry | None:
        """Return the copy's entry, or one of what is pending, or None; loads nothing and counts as no use."""
        return self._source.peek(key)

    async def ttl(self, key: str) -> float | None:
        """Seconds left to live for the copy: infinity without expiry or while it is pending, None if there is none."""
        return self._source.ttl(key)

    async def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> None:
        """Write a value to the source, or have it written behind, and store it. See :meth:`Cache.set`.

        Raises:
            Exception: What the writer raised; the cache is as it was.
            WriteQueueFull: Behind, and there was no room in time; nothing was written or stored.
        """
        await self._source.set(AWAITING, key, value, ttl, tags)

    async def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Write and store a value if neither the cache nor the loader knows one; True if it did."""
        return await self._source.add(AWAITING, key, value, ttl)

    async def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Write and store a value if the cache or the loader knows one; True if it did."""
        return await self._source.replace(AWAITING, key, value, ttl)

    async def delete(self, key: str) -> bool:
        """Delete a key in the source, then in the cache; True if a copy or a pending value was there.

        Raises:
            ConfigError: There is a writer and no deleter; :meth:`invalidate` drops the copy alone.
        """
        return await self._source.delete(AWAITING, key)

    async def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        """Give the copy a new life, counted from now; the source is not told. True if there was a value."""
        return self._source.touch(key, ttl)

    async def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """Add to a counter that the cache or the loader knows, write the sum and return it."""
        return await self._source.incr(AWAITING, key, by, ttl)

    async def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """Subtract from a counter; see :meth:`incr`."""
        return await self._source.incr(AWAITING, key, -by, ttl)

    async def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> None:
        """Write and store several values, one after the other; all keys are checked before the first.

        If one fails those before it are written and stored, and those after it are not tried.
        """
        await self._source.set_many(AWAITING, items, ttl)

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Delete several keys, one after the other; the number of those that were there."""
        return await self._source.delete_many(AWAITING, keys)

    async def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_missing`; the source is not told, and a key that is pending is left alone."""
        self._source.set_missing((key,), ttl)

    async def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """As :meth:`set_missing` for several names."""
        self._source.set_missing(keys, ttl)


class SyncSourceCache(SyncCache):
    """The blocking face of a cache with a source: its methods are those of :class:`SourceCache`, not awaited."""

    __slots__ = ("_source",)

    _source: Source

    def get(self, key: str, default: Any = None, *, at_least: Stamp | None = None) -> Any:
        """As :meth:`SourceCache.get`."""
        return blocking(self._source.get(BLOCKING, key, default))

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """As :meth:`SourceCache.get_many`, one after the other."""
        return blocking(self._source.get_many(BLOCKING, keys))

    def contains(self, key: str) -> bool:
        """As :meth:`SourceCache.contains`."""
        return self._source.contains(key)

    def peek(self, key: str) -> Entry | None:
        """As :meth:`SourceCache.peek`."""
        return self._source.peek(key)

    def ttl(self, key: str) -> float | None:
        """As :meth:`SourceCache.ttl`."""
        return self._source.ttl(key)

    def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> None:
        """As :meth:`SourceCache.set`, with a writer that is not async or an event loop that is known."""
        blocking(self._source.set(BLOCKING, key, value, ttl, tags))

    def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """As :meth:`SourceCache.add`."""
        return blocking(self._source.add(BLOCKING, key, value, ttl))

    def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """As :meth:`SourceCache.replace`."""
        return blocking(self._source.replace(BLOCKING, key, value, ttl))

    def delete(self, key: str) -> bool:
        """As :meth:`SourceCache.delete`."""
        return blocking(self._source.delete(BLOCKING, key))

    def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        """As :meth:`SourceCache.touch`."""
        return self._source.touch(key, ttl)

    def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """As :meth:`SourceCache.incr`."""
        return blocking(self._source.incr(BLOCKING, key, by, ttl))

    def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """As :meth:`SourceCache.incr`."""
        return blocking(self._source.incr(BLOCKING, key, -by, ttl))

    def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> None:
        """As :meth:`SourceCache.set_many`."""
        blocking(self._source.set_many(BLOCKING, items, ttl))

    def delete_many(self, keys: Iterable[str]) -> int:
        """As :meth:`SourceCache.delete_many`."""
        return blocking(self._source.delete_many(BLOCKING, keys))

    def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        """As :meth:`SourceCache.set_missing`."""
        self._source.set_missing((key,), ttl)

    def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """As :meth:`SourceCache.set_missing_many`."""
        self._source.set_missing(keys, ttl)
