"""The cache as users hold it: an async face, a blocking face over the same entries, and namespaces.

Thin on purpose: entries, expiry and single flight are native (`samovar._core`); this file checks options and awaits.
"""

from __future__ import annotations

import functools
import sys
import weakref
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar, overload

from samovar import _core
from samovar._cached import Decorator, decorate, replanned
from samovar._events import Subscription
from samovar._loaders import Slot, several
from samovar._many import OneById, chain_of, decorate_many
from samovar._options import Memory, is_name, is_neutral, refuse, unknown
from samovar._policy import OPTIONS as POLICY_OPTIONS
from samovar._policy import Policy, Rule, check_policy, check_rules, pause
from samovar._supervisor import Supervisor, Work

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator, Iterable, Iterator, Mapping
    from datetime import timedelta
    from types import EllipsisType, TracebackType
    from typing import ParamSpec, Self, Unpack

    from samovar._cached import AllOptions, AsyncCached, Options, SyncCached
    from samovar._core import Adaptive
    from samovar._events import EventName
    from samovar._loaders import Loaders
    from samovar._many import AllManyOptions, ManyDecorator, ManyOptions, ManyPolicyOptions
    from samovar._policy import PolicyOptions
    from samovar._refresher import Refresher
    from samovar._views import Entry, Event, Explanation, Insight, Stats

    Ttl = float | timedelta | str | None
    GivenTtl = Ttl | EllipsisType
    PolicyTtl = GivenTtl | Adaptive

    P = ParamSpec("P")

T = TypeVar("T")
L = TypeVar("L", bound="Callable[[Event], object]")

#: Options of later versions, and what each of them says when it asks for nothing.
LATER: dict[str, tuple[object, ...]] = {
    "remote": (None,),
    "codec": ("msgpack",),
    "compress": (None,),
    "key_ring": (None,),
    "encrypt": ("auto",),
    "bus": ("auto",),
    "external_writers": (False,),
    "on_error": ("degrade",),
}
OPTIONS = ("url", "name", "memory", "policy", "namespace", "rules", *LATER)


class SyncCache(_core.SyncCore):
    """The blocking face of a cache: the same entries, the same loads, no await.

    A call that has to wait for a load releases the interpreter. Get it from :attr:`Cache.sync`.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def get(self, key: str, default: Any = None) -> Any:
            """As :meth:`Cache.get`."""
            raise AssertionError

    def peek(self, key: str) -> Entry | None:
        """As :meth:`Cache.peek`."""
        return self._peek(key)

    if TYPE_CHECKING:

        def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> None:
            """As :meth:`Cache.set`."""

    def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """As :meth:`Cache.add`."""
        return self._add(key, value, ttl)

    def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """As :meth:`Cache.replace`."""
        return self._replace(key, value, ttl)

    def delete(self, key: str) -> bool:
        """As :meth:`Cache.delete`."""
        return self._delete(key)

    def touch(self, key: str, ttl: GivenTtl = ...) -> bool:
        """As :meth:`Cache.touch`."""
        return self._touch(key, ttl)

    def contains(self, key: str) -> bool:
        """As :meth:`Cache.contains`."""
        return self._contains(key)

    def ttl(self, key: str) -> float | None:
        """As :meth:`Cache.ttl`."""
        return self._ttl(key)

    def incr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """As :meth:`Cache.incr`."""
        return self._incr(key, by, ttl)

    def decr(self, key: str, by: int = 1, ttl: GivenTtl = ...) -> int:
        """As :meth:`Cache.decr`."""
        return self._incr(key, -by, ttl)

    def get_or_set(
        self, key: str, factory: Callable[[], T], ttl: PolicyTtl = ..., **options: Unpack[PolicyOptions]
    ) -> T:
        """As :meth:`Cache.get_or_set`, with a factory that is not async."""
        policy = policy_of(self._policy_of(key), ttl, options)
        value: T = self._get_or_set(key, policy.protects(factory, self._tell_breaker), policy, False)
        return value

    def get_many(self, keys: Iterable[str]) -> dict[str, Any]:
        """As :meth:`Cache.get_many`."""
        return self._get_many(keys)

    def get_or_set_many(
        self,
        keys: Iterable[str],
        factory: Callable[[list[str]], Mapping[str, T]],
        ttl: GivenTtl = ...,
        **options: Unpack[ManyPolicyOptions],
    ) -> dict[str, T]:
        """As :meth:`Cache.get_or_set_many`, with a factory that is not async."""
        loaders, limit, policy = loading_many(self, factory, ttl, options, False)
        call = SLOT.calling(([],), {})
        load = functools.partial(loaders.now, call=call)
        names = several(keys, "keys", "get_or_set_many")
        return self._answer_all(names, load, limit or sys.maxsize, OneById(loaders, SLOT), policy)

    def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_many`."""
        self._set_many(items, ttl)

    def delete_many(self, keys: Iterable[str]) -> int:
        """As :meth:`Cache.delete_many`."""
        return self._delete_many(keys)

    def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_missing`."""
        self._set_missing((key,), ttl)

    def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_missing_many`."""
        self._set_missing(keys, ttl)

    def clear(self) -> None:
        """As :meth:`Cache.clear`."""
        self._clear()

    def keys(self) -> Iterator[str]:
        """As :meth:`Cache.keys`."""
        return (key for key, _ in scan(self))

    def items(self) -> Iterator[tuple[str, Any]]:
        """As :meth:`Cache.items`."""
        return scan(self)


class Cache(_core.CacheCore):
    """A named cache: a memory tier, a default policy, and the functions that use it.

    Works in any number of event loops and threads, before anything is opened and after a fork. Calls that only
    touch memory complete at their first await, without the event loop.

    Args:
        url: ``"memory://"``; remote tiers come later.
        name: The cache's name, in messages and in a manager.
        memory: Bounds of the memory tier.
        policy: What functions and calls use where they say nothing else.
        namespace: Keys live in this namespace, apart from those of others.
        rules: Policies for the keys that fit a pattern; the first that fits counts.

    Raises:
        ConfigError: An option has a value it cannot have, or does not exist.
    """

    __slots__ = ("_functions", "_supervisor", "_sync", "closed")

    closed: bool

    def __new__(
        cls,
        url: str = "memory://",
        *,
        name: str = "default",
        memory: Memory | EllipsisType = ...,
        policy: Policy | None = None,
        namespace: str = "",
        rules: Iterable[Rule] = (),
        **others: object,
    ) -> Self:
        check_option("url", url)
        check_option("name", name)
        if memory is None:  # pyright: ignore[reportUnnecessaryComparison]
            raise refuse("memory", None, "leave it out: a cache without a memory tier is not possible yet")
        if memory is not ... and not isinstance(memory, Memory):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("memory", memory, "give Memory(max_entries=..., max_bytes=...)")
        check_later(others)
        memory = Memory() if memory is ... else memory
        compiled = check_rules(rules)
        cache = cls._make(name, memory, check_policy(policy), check_namespace(namespace), None)
        cache._set_rules(compiled)
        return cache

    @classmethod
    def _make(cls, name: str, memory: Memory, policy: Policy, path: str, parent: Cache | None) -> Self:
        policy.consistent()
        cache = super().__new__(cls, _core._state, name, memory, policy, path, parent)
        cache.closed = False
        cache._sync = SyncCache(_core._state, path, cache)
        cache._functions = weakref.WeakValueDictionary() if parent is None else parent._functions
        cache._supervisor = Supervisor() if parent is None else parent._supervisor
        return cache

    if TYPE_CHECKING:
        _sync: SyncCache
        #: Those decorated here and in all namespaces, by identity.
        _functions: weakref.WeakValueDictionary[int, Any]
        #: What works behind, here and in all namespaces.
        _supervisor: Supervisor

        def get(self, key: str, default: Any = None) -> Awaitable[Any]:
            """Return the value under key, or default. A hit in memory never touches the event loop."""
            raise AssertionError

    async def peek(self, key: str) -> Entry | None:
        """Return the entry under key, or None; counts as no use and no lookup."""
        return self._peek(key)

    async def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> None:
        """Store a value. A load of this key that is under way answers its callers and stores nothing.

        Args:
            key: The name.
            value: Anything; None is a value.
            ttl: Fresh for: seconds, timedelta, ``"5m"``. Left out: the policy's; None: no expiry; 0: removed.
            tags: Not yet supported.
        """
        no_tags(tags)
        self._set(key, value, ttl)

    async def add(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Store a value if there is none; True if it was stored."""
        return self._add(key, value, ttl)

    async def replace(self, key: str, value: object, ttl: GivenTtl = ...) -> bool:
        """Store a value if there is one already; True if it was stored."""
        return self._replace(key, value, ttl)

    async def delete(self, key: str) -> bool:
        """Remove a key; True if a value was there. A load of it that is under way stores nothing."""
        return self._delete(key)

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
        policy = policy_of(self._policy_of(key), ttl, options)
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
            await load_into(
                found,
                missing,
                lambda key: self._get_or_set(key, functools.partial(batches, key), policy, True),
            )
        return found

    async def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> None:
        """Store several values; all keys are checked before the first is stored."""
        self._set_many(items, ttl)

    async def delete_many(self, keys: Iterable[str]) -> int:
        """Remove several keys; the number of those that were there."""
        return self._delete_many(keys)

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

    async def clear(self) -> None:
        """Forget everything in this namespace and those below it, cached functions included, in O(1) per function."""
        self._clear()

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
        changes: list[Callable[[], None]] = []
        if rules is not ...:
            changes.append(functools.partial(self._set_rules, check_rules(rules)))
        if policy is not ...:
            below = check_policy(policy).consistent()
            functions = [reference() for reference in self._functions.valuerefs()]
            changes.append(functools.partial(self._set_policy, below))
            changes += [replanned(function, below) for function in functions if function is not None]
        return changes

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
    ) -> None:
        """Change the memory tier while it works; what is left out stays as it is.

        A smaller bound lets the least valuable leave, a few at a time; another eviction drops nothing. What was stored
        while only the number of entries was bounded counts as one byte until it is replaced.

        Raises:
            ConfigError: Naming the option, its value and the cure; nothing has changed then.
        """
        given = {"max_entries": max_entries, "max_bytes": max_bytes, "eviction": eviction}
        self._resize(self._resized({name: value for name, value in given.items() if value is not ...}))

    def _resized(self, given: Mapping[str, Any]) -> Memory:
        """The memory options in force, with these in the place of some."""
        present: dict[str, Any] = dict(zip(("max_entries", "max_bytes", "eviction"), self._bounds(), strict=True))
        return Memory(**{**present, **given})

    def stats(self) -> Stats:
        """The counters of this namespace and those below it; its ``insight`` is :meth:`insight`."""
        return self._stats()

    @overload
    def on(self, event: EventName) -> Callable[[L], L]: ...
    @overload
    def on(self, event: EventName, fn: Callable[[Event], object]) -> Subscription: ...
    def on(self, event: EventName, fn: Any = ...) -> Any:
        """Have a function called with each :class:`samovar.Event` of a name, in this namespace and those below it.

        ``cache.on("evict", fn)`` returns the subscription, which can be closed. ``@cache.on("evict")`` is a
        decorator that leaves the function as it is, for as long as the cache lives. The events are

        - ``hit``, a lookup was answered from memory; ``miss``, a lookup found nothing usable
        - ``load``, a load ended with a value; ``load_error``, it ended with an error
        - ``store``, a value was put into memory, by a load or by hand
        - ``evict``, an entry was dropped before its time; ``expire``, an entry was dropped whose time was over
        - ``invalidate``, a key was removed, or all of a function or a namespace

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
        _core._check_event(event)
        if fn is not ...:
            return Subscription(self, event, fn)

        def listen(fn: L) -> L:
            Subscription(self, event, fn)
            return fn

        return listen

    def namespace(self, name: str) -> Self:
        """The part of this cache under a name: the same memory and bounds, keys of its own."""
        name = check_namespace(name)
        if not name:
            raise refuse("namespace", name, "give a text that is not empty")
        path = f"{self.path}:{name}" if self.path else name
        return type(self)._make(self.name, Memory(), self.policy, path, self)

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

        Values of cached async functions that are read often are loaded anew in the last part of their life, the key
        with the most reads first. A key is tracked once two reads have come in one such part, a tenth of it apart,
        and until it is read less than once in a life, left unread for `idle`, removed, written by hand, or pushed
        out by hotter ones. Reads on other event loops and by name count for a tracked key, and track none.

        Never tracked: values without a ttl, "not found", sync functions, factories of :meth:`get_or_set`, and
        functions with injected parameters, unless ``refresh=`` says how to load without them and the ttl is not
        computed. A key whose load fails is left alone for its `retry_after`. `min_refresh_interval` holds.

        Loads run in a copy of this caller's context. Without a refresher hits cost what they always cost; with one,
        the few that it has to know of take the way of a miss that finds its value.

        Args:
            top: The most keys kept fresh.
            rate: The most loads: a number a second, or a text such as ``"100/m"``. In any stretch of time t at most
                ``burst + rate × t`` begin (GCRA, ITU-T I.371).
            burst: How many may begin at once. Left out: ten, or as many as `rate` brings in its time if those are
                fewer; above a thousand a second what ten milliseconds bring.
            idle: A key left unread for so long is not kept fresh any more: seconds, a timedelta or a text. It may be
                kept for half as long again: not every read is seen.
            ahead: The share of the ttl, at its end, in which a value is loaded anew: above 0 and below 1. More is
                safer and costs loads: a key that is always refreshed in time takes ``1 / (1 - ahead)`` loads a ttl.
                What takes long to load is begun earlier, twice its load time before the end, at most half of the ttl.

        Raises:
            ConfigError: An option cannot be, or the cache has a refresher already.
            RuntimeError: No event loop runs here.
        """
        from samovar._refresher import Refresher

        return Refresher(self, top, rate, burst, idle, ahead)

    async def close(self, *, grace: float | timedelta | str = 5) -> None:
        """Drop all entries and end all that works for this cache. Closing twice is once; a closed cache starts anew.

        Refreshes that run behind, warming and loads that nobody waits for are cancelled. Loads that callers wait for
        come to their end, answer them and store nothing. When this returns they are over, on all event loops.

        Args:
            grace: How long those may take, in real time; then they are cancelled, and who waits for them gets
                LoadError.

        Raises:
            ConfigError: `grace` is no duration; nothing has changed then.
        """
        seconds = pause("grace", grace, "give seconds, a timedelta or a text such as '5s'; 0: wait for nobody")
        refreshing = [Work(task) for task in self._stop_refresher()]
        self._clear()
        self.closed = True
        works = [*refreshing, *self._supervisor.below(self.path), *(Work(*load) for load in self._loads())]
        if works:
            from samovar._closing import end

            await end(works, self.name, seconds)
        _core._let_sweeper_end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        where = f", namespace={self.path!r}" if self.path else ""
        return f"<Cache {self.name!r}{where}: {self.stats().entries} entries>"


def scan(core: _core.CacheCore) -> Iterator[tuple[str, Any]]:
    """All names and values of a namespace, a few at a time, so that a long walk blocks nobody."""
    at = None
    while True:
        pairs, at = core._scan(at)
        yield from pairs
        if at is None:
            return


def check_namespace(name: object) -> str:
    """A namespace is a text; its parts are separated by colons."""
    if not is_name(name) or (name and "" in str(name).split(":")):
        raise refuse("namespace", name, "give a text such as 'users' or 'app:users'")
    return str(name)


def check_option(option: str, value: object) -> None:
    """An option of a cache that is a plain value."""
    if option == "url" and value != "memory://":
        raise refuse(option, value, "give 'memory://'; this version has no remote tier yet")
    if option == "name" and (not is_name(value) or not value):
        raise refuse(option, value, "give a text that is not empty")
    if option == "namespace":
        check_namespace(value)
    if not is_neutral(value, LATER.get(option, (value,))):
        raise refuse(option, value, "leave it out: this version has no remote tier yet")


def check_later(others: Mapping[str, object]) -> None:
    """Every option must be known; those of later versions may say what they would say if left out."""
    for option, value in others.items():
        if option not in LATER:
            raise unknown([option], OPTIONS, "Cache")
        check_option(option, value)


#: The options of a call for many that are no policy's.
CHAIN = ("max_batch", "loaders", "chain_error")
#: Where a factory of many gets its keys.
SLOT = Slot("keys", 0)


def loading_many(
    core: _core.CacheCore, factory: Any, ttl: PolicyTtl, options: ManyPolicyOptions, awaits: bool
) -> tuple[Loaders, int | None, Policy]:
    """Who loads in a call for many, how many at once, and how the values are kept."""
    if not callable(factory):
        raise TypeError(f"factory must be a function that takes a list of keys and returns a mapping, not {factory!r}")
    others: Any = {name: value for name, value in options.items() if name not in CHAIN}
    policy = policy_of(core._policy, ttl, others, (*POLICY_OPTIONS, *CHAIN), "get_or_set_many")
    loaders, limit = chain_of(factory, options, awaits, core._count_unasked)
    return loaders, limit, policy


def policy_of(
    below: Policy,
    ttl: PolicyTtl,
    options: PolicyOptions,
    known: tuple[str, ...] = POLICY_OPTIONS,
    where: str = "get_or_set",
) -> Policy:
    """What a call says, over what its cache says."""
    if ttl is ... and not options:
        return below
    for name in options:
        if name not in POLICY_OPTIONS:
            raise unknown([name], known, where)
    given: dict[str, Any] = {"ttl": ttl if keeps(ttl) else not_kept, **options}
    return Policy(**given).over(below)


def keeps(ttl: PolicyTtl) -> bool:
    """False for the ttl that says: do not store."""
    if ttl is ... or ttl is None or isinstance(ttl, _core.Adaptive):
        return True
    _core._check_span(ttl, "ttl", True)
    return _core._seconds(ttl) > 0


def not_kept(*_: object) -> int:
    """A policy has no ttl of 0, but what its ttl function returns may be 0."""
    return 0


def no_tags(tags: Iterable[str]) -> None:
    """Tags are a promise that this version cannot keep."""
    if tuple(tags):
        raise refuse("tags", tuple(tags), "leave them out: this version has no tags yet")
