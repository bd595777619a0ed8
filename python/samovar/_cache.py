"""The cache as users hold it: an async face, a blocking face over the same entries, and namespaces.

Thin on purpose: entries, expiry and single flight are native (`samovar._core`); this file checks options and awaits.
"""

from __future__ import annotations

import functools
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from samovar import _core
from samovar._cache_options import check_namespace, check_option, check_tiers
from samovar._cached import Decorator, decorate
from samovar._calls import SLOT, loading_many, policy_of
from samovar._events import subscribe
from samovar._loaders import several
from samovar._many import decorate_many
from samovar._options import Memory, refuse
from samovar._policy import Policy, Rule, check_policy, check_rules, pause
from samovar._sources import below, check_limit, scan
from samovar._supervisor import Supervisor, Work
from samovar._sync_cache import SyncCache
from samovar._tags import check_named, check_tags

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Mapping
    from datetime import timedelta
    from types import EllipsisType, TracebackType
    from typing import ParamSpec, Self, Unpack

    from samovar._cache_options import TierOptions
    from samovar._cached import AllOptions, AsyncCached, Options, SyncCached
    from samovar._core import Adaptive, Stamp
    from samovar._events import EventName, Subscription
    from samovar._many import AllManyOptions, ManyDecorator, ManyOptions, ManyPolicyOptions
    from samovar._policy import PolicyOptions
    from samovar._refresher import Refresher
    from samovar._source import Source
    from samovar._two_tiers import Behind, RemoteStats
    from samovar._views import Entry, Event, Explanation, Insight, Stats
    from samovar._writing import GivenTime, WriteBehind

    Ttl = float | timedelta | str | None
    GivenTtl = Ttl | EllipsisType
    PolicyTtl = GivenTtl | Adaptive

    P = ParamSpec("P")

T = TypeVar("T")
L = TypeVar("L", bound="Callable[[Event], object]")


class Cache(_core.CacheCore):
    """A named cache: a memory tier, a default policy, and the functions that use it.

    Works in any number of event loops and threads, before anything is opened and after a fork. Calls that only
    touch memory complete at their first await, without the event loop.

    Args:
        url: ``"memory://"``; or a store behind the memory that other processes share: ``"redis://..."`` and the other
            forms of :class:`Redis`.
        name: The cache's name, in messages and in a manager.
        memory: Bounds of the memory tier; ``None``: none, every get asks the store.
        policy: What functions and calls use where they say nothing else.
        namespace: Keys live in this namespace, apart from those of others.
        rules: Policies for the keys that fit a pattern; the first that fits counts.
        loader: A function of a key, async or not: `get` loads with it what is not there (read-through). Raising
            `NotFound` says that there is no such thing.
        writer: A function of a key and a value, async or not: `set` calls it before the value is stored
            (write-through); or :class:`samovar.WriteBehind`, to write later and many at a time.
        deleter: A function of a key, async or not: `delete` calls it before the key is removed.
        remote: A store in the place of the url's: ``Redis(...)`` with options of its own.
        codec: How values are written for the store: ``"msgpack"``, ``"json"``, ``"raw"``, ``"pickle"`` (with a key
            ring), or a codec of one's own; see `samovar.codecs`.
        compress: ``"auto"``: zstd from 1 KiB; ``"zstd"``, ``"lz4"``, ``"gzip"``, ``"snappy"``, or ``None``.
        key_ring: A :class:`KeyRing`, or its keys by id: what is stored is sealed, and nothing else is read.
        encrypt: ``"auto"`` (XChaCha20-Poly1305), ``"aes-gcm"``, ``"sign"``: authenticated only; ``False``: no more.
        max_value_bytes: No larger value is written to the store.
        on_too_large: ``"raise"`` a CodecError for one, or ``"skip"`` it.
        dictionaries: Of `samovar.codecs.train_dictionary`: the first writes, all read.
        on_error: ``"degrade"``: where the store fails, calls go on without it; ``"raise"`` its StoreError.

    Raises:
        ConfigError: An option has a value it cannot have, or does not exist.
    """

    __slots__ = ("_behind", "_functions", "_source", "_sources", "_supervisor", "_sync", "closed")

    closed: bool
    _behind: Behind | None
    #: By namespace; one dict for all faces of a cache.
    _sources: dict[str, Source]

    def __new__(
        cls,
        url: str = "memory://",
        *,
        name: str = "default",
        memory: Memory | EllipsisType | None = ...,
        policy: Policy | None = None,
        namespace: str = "",
        rules: Iterable[Rule] = (),
        loader: Callable[[str], Any] | None = None,
        writer: Callable[[str, Any], Any] | WriteBehind | None = None,
        deleter: Callable[[str], Any] | None = None,
        **others: Unpack[TierOptions],
    ) -> Self:
        check_option("url", url)
        check_option("name", name)
        if memory is not ... and memory is not None and not isinstance(memory, Memory):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("memory", memory, "give Memory(max_entries=..., max_bytes=...)")
        options = check_tiers(others)
        memory = Memory() if memory is ... else memory
        behind, sealing = None, None
        if options or url != "memory://" or (memory is not None and memory.sealed):
            from samovar._two_tiers import open_behind

            behind, sealing = open_behind(url, options, memory)
        if memory is None and behind is None:
            raise refuse("memory", None, "leave it out, or give the cache a store: 'redis://...'")
        compiled = check_rules(rules, behind is not None)
        given, tiers = (loader, writer, deleter), (behind, sealing)
        cache = cls._make(name, memory, check_policy(policy), check_namespace(namespace), None, given, tiers)
        cache._set_rules(compiled)
        return cache

    @classmethod
    def _make(
        cls,
        name: str,
        memory: Memory | None,
        policy: Policy,
        path: str,
        parent: Cache | None,
        given: tuple[Any, Any, Any],
        tiers: tuple[Behind | None, Any] = (None, None),
    ) -> Self:
        policy.consistent().within(tiers[0] is not None)
        sources = {} if parent is None else parent._sources
        has_source = path in sources or any(option is not None for option in given)
        kind: type[Any] = cls
        (behind, sealing), remote, coding = tiers, None, None
        if has_source:
            if behind is not None:
                cure = "leave it out: a cache with a store behind its memory has no loader or writer of its own yet"
                raise refuse("loader", next(option for option in given if option is not None), cure)
            from samovar._source import with_source

            kind = with_source(cls)
        if behind is not None:
            from samovar._two_tiers import memory_of, with_store

            kind, coding = with_store(cls), behind.coding_of(path)
            remote, memory = behind.options(memory), memory_of(memory)
        cache: Self = super().__new__(kind, _core._state, name, memory, policy, path, parent, remote, coding, sealing)
        cache.closed = False
        cache._behind = behind
        cache._functions = weakref.WeakValueDictionary() if parent is None else parent._functions
        cache._supervisor = Supervisor() if parent is None else parent._supervisor
        cache._sources = sources
        cache._sync = sync = cache._make_sync(given)
        sync._sources, sync._supervisor = sources, cache._supervisor  # pyright: ignore[reportPrivateUsage]
        return cache

    def _make_sync(self, _given: tuple[Any, Any, Any]) -> SyncCache:
        return SyncCache(_core._state, self.path, self)

    @classmethod
    def _without_source(cls) -> type[Any]:
        return cls

    if TYPE_CHECKING:
        _sync: SyncCache
        #: Those decorated here and in all namespaces, by identity.
        _functions: weakref.WeakValueDictionary[int, Any]
        #: What works behind, here and in all namespaces.
        _supervisor: Supervisor

        def get(self, key: str, default: Any = None, *, at_least: Stamp | None = None) -> Awaitable[Any]:
            """Return the value under key, or default. A hit in memory never touches the event loop."""
            raise AssertionError

    async def peek(self, key: str) -> Entry | None:
        """Return the entry under key, or None; counts as no use and no lookup."""
        return self._peek(key)

    async def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> Stamp | None:
        """Store a value. A load of this key that is under way answers its callers and stores nothing.

        Args:
            key: The name.
            value: Anything; None is a value.
            ttl: Fresh for: seconds, timedelta, ``"5m"``. Left out: the policy's; None: no expiry; 0: removed.
            tags: Names under which it can be invalidated together with others, at most 16.
        """
        self._set(key, value, ttl, check_tags(tags))
        return None

    async def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Store a value if there is none; True if it was stored."""
        return self._add(key, value, ttl)

    async def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Store a value if there is one already; True if it was stored."""
        return self._replace(key, value, ttl)

    async def delete(self, key: str) -> bool:
        """Remove a key; True if a value was there. A load of it that is under way stores nothing."""
        return self._delete(key)

    async def invalidate(self, key: str) -> Stamp | None:
        """Forget the copy of a key. Unlike :meth:`delete` it tells no source, and what is pending stays pending."""
        self._delete(key)
        return None

    async def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        """Give an entry a new life, counted from now; True if it was there."""
        return self._touch(key, ttl)

    async def contains(self, key: str) -> bool:
        """Tell whether a get would hit; counts as no use and no lookup."""
        return self._contains(key)

    async def ttl(self, key: str) -> float | None:
        """Seconds left to live: infinity without expiry, None if the key is not there."""
        return self._ttl(key)

    async def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """Add to a counter and return the sum. An absent one starts at 0; a ttl that is left out stays as it is.

        Raises:
            TypeError: The value under key is no int; nothing was changed.
        """
        return self._incr(key, by, ttl)

    async def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """Subtract from a counter; see :meth:`incr`."""
        return self._incr(key, -by, ttl)

    @overload
    def get_or_set(
        self,
        key: str,
        factory: Callable[[], Awaitable[T]],
        ttl: PolicyTtl = ...,
        **options: Unpack[PolicyOptions],
    ) -> Awaitable[T]: ...
    @overload
    def get_or_set(
        self, key: str, factory: Callable[[], T], ttl: PolicyTtl = ..., **options: Unpack[PolicyOptions]
    ) -> Awaitable[T]: ...
    def get_or_set(
        self, key: str, factory: Callable[[], Any], ttl: PolicyTtl = ..., **options: Unpack[PolicyOptions]
    ) -> Awaitable[Any]:
        """Return the value under key, or load it once and share it with everyone who waits.

        Args:
            key: The name.
            factory: Called without arguments, by one caller at a time per key and process; async or not.
            ttl: As in :meth:`set`, or an :class:`Adaptive`; 0: the value is returned and not stored.
            **options: Those of :class:`Policy`, for this call.

        Raises:
            LoadError: The load was cancelled from outside; nothing is stored.
            Exception: Whatever factory raised, to whoever started the load; the others get a copy.

        Cancelling one caller leaves the load to the others; with the last one it is cancelled.
        """
        there: Awaitable[Any] | None = self._there(key, True)
        if there is not None:
            return there
        policy = policy_of(self, self._policy_of(key), ttl, options)
        load = policy.protects(factory, self._tell_breaker, awaits=True)
        reply: Awaitable[Any] = self._get_or_set(key, load, policy, True)
        return reply

    async def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return the values that are there, by key."""
        return self._get_many(keys)

    @overload
    async def get_or_set_many(
        self,
        keys: Iterable[str],
        factory: Callable[[list[str]], Awaitable[Mapping[str, T]]],
        ttl: GivenTtl = ...,
        **options: Unpack[ManyPolicyOptions],
    ) -> dict[str, T]: ...
    @overload
    async def get_or_set_many(
        self,
        keys: Iterable[str],
        factory: Callable[[list[str]], Mapping[str, T]],
        ttl: GivenTtl = ...,
        **options: Unpack[ManyPolicyOptions],
    ) -> dict[str, T]: ...
    async def get_or_set_many(
        self,
        keys: Iterable[str],
        factory: Callable[[list[str]], Any],
        ttl: GivenTtl = ...,
        **options: Unpack[ManyPolicyOptions],
    ) -> dict[str, Any]:
        """Return the values under several keys, by key in the order asked; load those that are missing in one call.

        A key that the factory's mapping does not have is not there: it is left out, and that is remembered for
        `negative_ttl`. A key that another caller loads is waited for, not loaded again.

        Args:
            keys: The names; each is asked for once.
            factory: Called with a list of the keys that nobody loads yet; returns a mapping; async or not.
            ttl: As in :meth:`set`; 0: the values are returned and not stored.
            **options: Those of :class:`Policy`, for this call; and `max_batch`, `loaders` and `chain_error` as in
                :func:`samovar.cached_many`.

        Raises:
            TypeError: The factory returned no mapping.
            Exception: Whatever factory raised; nothing is stored of that call.

        Cancelling one caller leaves the keys to others who wait for them.
        """
        loaders, limit, policy = loading_many(self, factory, ttl, options, True)
        found, missing = self._hits(several(keys, "keys", "get_or_set_many"))
        if missing:
            from samovar._batch import Batches, load_into

            start = functools.partial(self._supervisor.start, self.path)
            batches = Batches(loaders, SLOT, limit=limit, start=start)
            prepared = self._prepared(policy)
            await load_into(
                found,
                missing,
                lambda key: self._get_or_set(key, functools.partial(batches, key), prepared, True),
            )
        return found

    async def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> Stamp | None:
        """Store several values; all keys are checked before the first is stored."""
        self._set_many(items, ttl)
        return None

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove several keys; the number of those that were there."""
        return self._delete_many(keys)

    async def delete_match(self, pattern: str) -> int:
        """Remove the names of this namespace that fit a pattern; the number of those that were there.

        Args:
            pattern: ``*`` stands for any characters, ``?`` for one, a backslash takes that meaning from the next.
        """
        return self._delete_match(pattern)

    async def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        """Remember that there is nothing under key: `get` gives the default, whoever would load it gets `NotFound`.

        Args:
            key: The name. It is not listed by :meth:`keys`.
            ttl: Remembered for; left out: the policy's ``negative_ttl``.

        Raises:
            ConfigError: Neither says how long.
        """
        self._set_missing((key,), ttl)

    async def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """As :meth:`set_missing` for several names; all are checked before the first is noted."""
        self._set_missing(keys, ttl)

    async def invalidate_tags(self, *tags: str) -> Stamp | None:
        """Forget everything that has one of these tags, in this namespace and those below it, in O(tags).

        A value whose load began before is never served after, whoever loads it.

        Raises:
            ConfigError: No tag was named, or it is no text.
        """
        self._move(check_named(tags, "invalidate_tags"), False)
        return None

    async def expire_tags(self, *tags: str) -> Stamp | None:
        """End the freshness of everything that has one of these tags: it is of use only where something stale is.

        With ``stale_while_revalidate`` the next caller gets the old value and has it loaded anew behind; with
        ``stale_if_error`` it answers should that load fail. Elsewhere it is gone, as with :meth:`invalidate_tags`.
        """
        self._move(check_named(tags, "expire_tags"), True)
        return None

    async def refresh_tags(self, *tags: str) -> Stamp | None:
        """Have all that has one of these tags loaded anew, each when it is next asked for: :meth:`expire_tags`."""
        return await self.expire_tags(*tags)

    def stamp(self) -> Stamp | None:
        """The newest of what this process has written or invalidated in the store; None: nothing, or no store."""
        return None

    async def clear(self) -> Stamp | None:
        """Forget everything in this namespace and those below it, cached functions included, in O(1) per function."""
        self._clear()
        return None

    async def keys(self) -> AsyncIterator[str]:
        """The names in this namespace, oldest first; entries that come or go meanwhile may be missed."""
        for key, _ in scan(self):
            yield key

    async def items(self) -> AsyncIterator[tuple[str, Any]]:
        """The names and values in this namespace; see :meth:`keys`."""
        for pair in scan(self):
            yield pair

    @property
    def policy(self) -> Policy:
        """What functions and calls use where they say nothing else; :meth:`configure` changes it."""
        return self._policy

    def configure(self, *, policy: Policy | EllipsisType = ..., rules: Iterable[Rule] | EllipsisType = ...) -> None:
        """Put another policy or other rules in force at once, for this cache and all its namespaces.

        Functions that are decorated already follow a new policy from their next miss on, in what they do not say
        themselves; where their loader is protected in another way now, that begins anew. What is stored keeps the ttl
        it was given; windows, time-outs and what is loaded from now on follow. A load under way ends as it began.

        Args:
            policy: In place of the whole policy before; left out, that stays.
            rules: In place of all rules before; left out, those stay.

        Raises:
            ConfigError: One of them cannot be, or contradicts a function's own options; nothing has changed then.
        """
        for change in self._changes(policy=policy, rules=rules):
            change()

    def _changes(
        self, *, policy: Policy | EllipsisType = ..., rules: Iterable[Rule] | EllipsisType = ...
    ) -> list[Callable[[], None]]:
        """What puts these in force. What can fail has been done when it returns."""
        from samovar._live import changes

        return changes(self, policy, rules)

    def explain(self, key: str) -> Explanation:
        """Say what is known of a name and why a lookup of it, under this cache's policy, would do what it does.

        Counts as no use. A cached function with options of its own has ``f.explain(*args)``.
        """
        return self._explain(key)

    def insight(self) -> Insight:
        """Say who leaves when there is no room, how that is going, and what half or twice the size would hit.

        Entries of functions with a bound of their own (``max_entries=``) are not part of it.
        """
        return self._insight()

    def resize(
        self,
        max_entries: int | EllipsisType | None = ...,
        max_bytes: int | str | EllipsisType | None = ...,
        eviction: str | EllipsisType = ...,
        max_missing: int | EllipsisType = ...,
        missing_eviction: str | EllipsisType = ...,
    ) -> None:
        """Change the memory tier while it works; what is left out stays as it is.

        A smaller bound lets the least valuable leave, a few at a time; another eviction drops nothing. Where entries
        were counted and are weighed from now on, those that are there are weighed before this returns. A missing one
        that was not apart stays where it is until it is replaced.

        Raises:
            ConfigError: Naming the option, its value and the cure; nothing has changed then.
        """
        given = {
            "max_entries": max_entries,
            "max_bytes": max_bytes,
            "eviction": eviction,
            "max_missing": max_missing,
            "missing_eviction": missing_eviction,
        }
        from samovar._live import resized

        self._resize(resized(self, {name: value for name, value in given.items() if value is not ...}))

    def stats(self) -> Stats:
        """The counters of this namespace and those below it; its ``insight`` is :meth:`insight`."""
        return self._stats()

    def remote_stats(self) -> RemoteStats | None:
        """What was asked of the store behind the memory and came of it; None for a cache of memory alone."""
        return None

    @overload
    def on(self, event: EventName) -> Callable[[L], L]: ...
    @overload
    def on(self, event: EventName, fn: Callable[[Event], object]) -> Subscription: ...
    def on(self, event: EventName, fn: Any = ...) -> Any:
        """Have a function called with each :class:`samovar.Event` of a name, in this namespace and those below it.

        ``cache.on("evict", fn)`` returns the subscription, which can be closed. ``@cache.on("evict")`` is a
        decorator that leaves the function as it is, for as long as the cache lives. The events are

        - ``hit``, ``stale``, ``miss``: a lookup was answered from memory, with a value past its ttl, or not at all
        - ``load``, a load ended with a value; ``load_error``, it ended with an error
        - ``store``, a value was put into memory, by a load or by hand
        - ``evict``, an entry was dropped before its time; ``expire``, an entry was dropped whose time was over
        - ``invalidate``, a key was removed, or all of a function or a namespace
        - ``breaker``, a loader's circuit breaker has another state; ``warm_completed``, ``f.warm(...)`` came to its end

        The function is called after the operation, under no lock, on the thread that did it; for what the cache frees
        behind, on a thread of the cache. Whoever waits for the operation waits for the function too, so keep it
        short. It may use the cache, and is not told of what it does there itself; other listeners are. What it
        raises harms nothing: the first time it goes to :func:`sys.unraisablehook`. A forked child keeps its listeners.

        Entries that go with their function, their instance or the cache are told to nobody. Where nobody listens,
        events cost nothing; listening to hits makes those some ten times as dear.

        Args:
            event: One of the names above.
            fn: A function of one argument, the event; not async. What it returns is ignored.

        Raises:
            ConfigError: There is no such event, or the function cannot listen.
        """
        return subscribe(self, event, fn)

    def namespace(
        self,
        name: str,
        *,
        loader: Callable[[str], Any] | None = None,
        writer: Callable[[str, Any], Any] | WriteBehind | None = None,
        deleter: Callable[[str], Any] | None = None,
    ) -> Self:
        """The part of this cache under a name: the same memory and bounds, keys of its own.

        Keys of its own have a source of their own: it has the loader, writer and deleter that it is given here, when
        it is first asked for, and never those of the cache around it.
        """
        name = check_namespace(name)
        if not name:
            raise refuse("namespace", name, "give a text that is not empty")
        path = f"{self.path}:{name}" if self.path else name
        kind: type[Self] = self._without_source()
        return kind._make(self.name, Memory(), self.policy, path, self, (loader, writer, deleter), (self._behind, None))

    @property
    def sync(self) -> SyncCache:
        """The blocking face of the same entries."""
        return self._sync

    @contextmanager
    def disabled(self) -> Generator[None]:
        """Within this block, in every thread, lookups miss and nothing is stored, here and in the namespaces below.

        A write removes its key, so that no older value comes back afterwards. Costs other hits nothing.
        """
        self._disable(True)
        try:
            yield
        finally:
            self._disable(False)

    @overload
    def cached(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, T]], /
    ) -> AsyncCached[P, T]: ...
    @overload
    def cached(self, function: Callable[P, T], /) -> SyncCached[P, T]: ...
    @overload
    def cached(self, ttl: PolicyTtl, /, **options: Unpack[Options]) -> Decorator: ...
    @overload
    def cached(self, /, **options: Unpack[AllOptions]) -> Decorator: ...
    def cached(self, ttl: Any = ..., /, **options: Any) -> Any:
        """Cache a function's results here; the options are those of :func:`samovar.cached`."""
        if not isinstance(self, Cache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("cache", self, "make one first: cache = Cache(), then @cache.cached(...); or use @cached")
        return decorate(self, ttl, options)  # pyright: ignore[reportArgumentType]

    @overload
    def cached_many(self, ttl: GivenTtl, /, **options: Unpack[ManyOptions]) -> ManyDecorator: ...
    @overload
    def cached_many(self, /, **options: Unpack[AllManyOptions]) -> ManyDecorator: ...
    def cached_many(self, ttl: Any = ..., /, **options: Any) -> Any:
        """Cache a function that loads many at once here; the options are those of :func:`samovar.cached_many`."""
        if not isinstance(self, Cache):  # pyright: ignore[reportUnnecessaryIsInstance]
            cure = "make one first: cache = Cache(), then @cache.cached_many(...); or use @cached_many"
            raise refuse("cache", self, cure)
        return decorate_many(self, ttl, options)  # pyright: ignore[reportArgumentType]

    def refresher(
        self,
        top: int = 100,
        rate: float | str = 10,
        *,
        burst: int | None = None,
        idle: float | timedelta | str = "10m",
        ahead: float = 0.2,
    ) -> Refresher:
        """Keep the hottest keys of the whole cache fresh, on the running event loop: nobody waits for their loads.

        Which keys those are is said at :class:`Refresher`. Loads run in a copy of this caller's context.

        Args:
            top: The most keys kept fresh.
            rate: The most loads: a number a second, or a text such as ``"100/m"``; in any time t at most
                ``burst + rate × t`` begin.
            burst: How many may begin at once; left out: as of :class:`samovar.resilience.Rate`.
            idle: A key left unread for so long, or half as long again, is kept fresh no more: seconds or a text.
            ahead: The share of the ttl, at its end, in which a value is loaded anew, above 0 and below 1; sooner if a
                load takes half of that time or more. More is safer and costs loads, ``1 / (1 - ahead)`` a ttl.

        Raises:
            ConfigError: An option cannot be, or the cache has a refresher already.
            RuntimeError: No event loop runs here.
        """
        from samovar._refresher import Refresher

        return Refresher(self, top, rate, burst, idle, ahead)

    def pending(self) -> int:
        """How many writes of this namespace and those below it the source has yet to get."""
        return sum(source.writes.count() for source in below(self._sources, self.path))

    async def flush(self, timeout: GivenTime = None) -> None:  # noqa: ASYNC109 - the face without await has it too
        """Write now what is pending; nothing is without a `WriteBehind`. Returns when it is written, or lost.

        Args:
            timeout: For at most so long: seconds, a timedelta, a text. ``None``: as long as it takes.

        Raises:
            WritesPending: It took longer; the rest stays pending.
            WouldDeadlock: The writer itself asks for it.

        Cancelling the caller leaves the writing going.
        """
        check_limit(timeout)
        if sources := below(self._sources, self.path):
            from samovar._source import flush
            from samovar._ways import AWAITING

            await flush(sources, AWAITING, timeout)

    async def close(self, *, grace: float | timedelta | str = 5) -> None:
        """Drop all entries and end all that works for this cache. Closing twice is once; a closed cache starts anew.

        First what is pending is written, or given up after the `close_timeout` of its `WriteBehind`. Refreshes that
        run behind, warming and loads that nobody waits for are cancelled. Loads that callers wait for come to their
        end, answer them and store nothing. When this returns they are over, on all event loops.

        Args:
            grace: How long those may take, in real time; then they are cancelled, and who waits for them gets
                LoadError.

        Raises:
            ConfigError: `grace` is no duration; nothing has changed then.
            WritesLost: Writes were given up; it names them, and all else is done.

        Cancelling the caller while it waits for writes leaves the cache open and the writes pending.
        """
        seconds = pause("grace", grace, "give seconds, a timedelta or a text such as '5s'; 0: wait for nobody")
        lost = None
        if sources := below(self._sources, self.path):
            from samovar._source import close
            from samovar._ways import AWAITING

            lost = await close(sources, AWAITING)
        refreshing = [Work(task) for task in self._stop_refresher()]
        self._clear()
        self.closed = True
        works = [*refreshing, *self._supervisor.below(self.path), *(Work(*load) for load in self._loads())]
        if works:
            from samovar._closing import end

            await end(works, self.name, seconds)
        if self._behind is not None and not self.path:
            self._behind.close()
        _core._let_sweeper_end()
        if lost is not None:
            raise lost

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = f", namespace={self.path!r}" if self.path else ""
        return f"<Cache {self.name!r}{where}: {self.stats().entries} entries>"
