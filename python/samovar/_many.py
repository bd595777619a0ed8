"""The decorator for functions that load many at once: an id is a cached call of its own, the function gets many.

What is there is answered natively; the rest is asked for one by one, and meets in calls of the function (`_batch`, or
on one thread `_core`). All thinking happens when a function is decorated.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, overload

from samovar import _core
from samovar._cached import OPTIONS as CACHED_OPTIONS
from samovar._cached import (
    build,
    decorate,
    described,
    is_async,
    is_method,
    key_parts,
    name_of,
    refuse_odd,
    signature_of,
)
from samovar._exceptions import NotFound
from samovar._loaders import Loaders, Slot, is_awaitable, is_iterable, only, several, unique
from samovar._options import positive, refuse
from samovar._policy import pause

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from datetime import timedelta
    from types import EllipsisType
    from typing import Literal, Required, Unpack

    from samovar._cache import Cache
    from samovar._cached import Options, Ttl
    from samovar._loaders import Call
    from samovar._policy import Policy, PolicyOptions
    from samovar._views import CacheInfo, Entry, Stats
    from samovar._warm import WarmJob

    class ManyOptions(Options, total=False):
        """The options of ``cached_many``, beside the ttl."""

        items: Required[str]
        window: float | timedelta | str
        max_batch: int | None
        loaders: Sequence[Callable[..., Any]]
        chain_error: Literal["stop", "skip"]

    class ManyPolicyOptions(PolicyOptions, total=False):
        """The options of ``get_or_set_many``."""

        max_batch: int | None
        loaders: Sequence[Callable[..., Any]]
        chain_error: Literal["stop", "skip"]

    class AllManyOptions(ManyOptions, total=False):
        """The options of ``cached_many``, ttl by name."""

        ttl: Ttl | EllipsisType | Callable[..., Ttl]


S = TypeVar("S")
P = ParamSpec("P")
Q = ParamSpec("Q")
K = TypeVar("K")
V = TypeVar("V")

#: What ids mostly come in.
PLAIN = frozenset({list, tuple, set, frozenset, range, dict})

OPTIONS = (*CACHED_OPTIONS, "items", "window", "max_batch", "loaders", "chain_error")


class CachedMany(Generic[P, K, V]):
    """What the two kinds have in common; see :class:`AsyncCachedMany` and :class:`SyncCachedMany`."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]
    cache: Cache

    def __init__(self, function: Any, inner: _core.CachedFunction, loaders: Loaders, slot: Slot, limit: int) -> None:
        wrapper: Any = self
        functools.update_wrapper(wrapper, function)
        if not hasattr(function, "__qualname__"):
            self.__qualname__ = name_of(function)
            self.__name__ = name_of(function).rpartition(".")[2]
        # Tools look here to tell whether it is async.
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            setattr(self, name, getattr(described(function), name, None))
        self.cache = inner.cache
        self._inner = inner
        self._loaders = loaders
        self._slot = slot
        self._limit = limit
        #: The instance it is bound to.
        self._own: tuple[Any, ...] = ()

    @property
    def policy(self) -> Policy:
        """How its values are kept: what it says itself, over its cache's policy."""
        policy: Policy = self._inner.policy
        return policy

    def key(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, str]:
        """Return the canonical key of each id. Raises KeyTypeError naming the argument that has none."""
        return {one: self._inner.key(*given, **named) for one, given, named in self._each(args, kwargs)}

    def warm(self, calls: Iterable[Any]) -> WarmJob:
        """Load the ids of these calls; see :meth:`samovar.AsyncCached.warm`."""
        from samovar._warm import warm

        return warm(self, calls)

    def stats(self) -> Stats:
        """This function's counters: each id counts as a lookup, and as a load."""
        return self._inner.stats()

    def cache_info(self) -> CacheInfo:
        """As ``functools`` has it."""
        return self._inner.cache_info()

    def cache_clear(self) -> None:
        """Forget all results and set the counters to zero, as ``functools`` does."""
        self._inner.cache_clear()

    def _asked(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, int, Any, dict[str, Any]]:
        """The ids of a call, where they stand in it, and all its arguments."""
        args = self._own + args
        slot = self._slot
        if not kwargs and slot.at is not None and slot.at < len(args) and type(args[slot.at]) in PLAIN:
            return args[slot.at], slot.at, args, kwargs
        place = slot.find(args, kwargs)
        if place < 0:
            import inspect

            # A default, or the TypeError that says what is missing.
            bound = inspect.signature(self.__wrapped__).bind(*args, **kwargs)
            bound.apply_defaults()
            args, kwargs = bound.args, bound.kwargs
            place = slot.find(args, kwargs)
        return several(slot.get(args, kwargs), slot.name, self._loaders.name), place, args, kwargs

    def _each(
        self, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
        """Every id once, and the call for it alone."""
        ids, _, args, kwargs = self._asked(args, kwargs)
        return ((one, *self._slot.put(args, kwargs, one)) for one in unique(ids))

    def _settable(
        self, values: Mapping[Any, Any], others: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Iterable[tuple[Any, tuple[Any, ...], dict[str, Any]]]:
        """Every value, and the call whose result it is."""
        if not isinstance(values, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"set() needs a mapping of each id to its value, not {values!r}")
        given = self._own + others
        return ((value, *self._slot.insert(given, kwargs, one)) for one, value in values.items())

    def _past_the_cache(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Call]:
        """Every id once, and how to call for them."""
        ids, _, args, kwargs = self._asked(args, kwargs)
        return list(unique(ids)), self._slot.calling(args, kwargs)

    def _bind(self, instance: object) -> Any:
        if instance is None or self._own:
            return self
        bound = object.__new__(type(self))
        bound.__dict__ = {**self.__dict__, "_own": (instance,), "__self__": instance, "__func__": self}
        return bound

    def __getattr__(self, name: str) -> Any:
        if name == "__signature__" and self.__dict__.get("_own"):
            import inspect

            whole = inspect.signature(self.__wrapped__)
            return whole.replace(parameters=list(whole.parameters.values())[1:])
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def __set_name__(self, owner: type[Any], name: str) -> None:
        self._inner.__set_name__(owner, name)

    def __reduce__(self) -> str | tuple[Any, ...]:
        return (getattr, (self._own[0], self.__name__)) if self._own else self.__qualname__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, CachedMany) or not self._own or not other._own:
            return self is other
        return self._own[0] is other._own[0] and self._inner is other._inner

    def __hash__(self) -> int:
        return hash((id(self._inner), id(self._own[0]) if self._own else 0))

    def __repr__(self) -> str:
        kind = "async function" if isinstance(self, AsyncCachedMany) else "function"
        bound = f" of a {type(self._own[0])}" if self._own else ""
        return f"<cached {kind} {self.__module__}.{self.__qualname__} of many{bound}>"


class AsyncCachedMany(CachedMany[P, K, V]):
    """A cached ``async def`` that loads many at once: called with ids, it gives a dict of those that are there."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, dict[K, V]]:
        """Answer with what is there, and load the rest."""
        return self._answer(args, kwargs)

    async def _answer(self, args: Any, kwargs: Any) -> dict[K, V]:
        ids, place, args, kwargs = self._asked(args, kwargs)
        found, missing = self._inner._hits(place, ids, *args, **kwargs)
        if missing:
            await self._load(self._inner, found, missing, args, kwargs)
        return found

    async def _load(self, ask: Any, found: dict[Any, Any], missing: list[Any], args: Any, kwargs: Any) -> None:
        from samovar._batch import load_into

        def one(wanted: Any) -> Any:
            given, named = self._slot.put(args, kwargs, wanted)
            return ask(*given, **named)

        await load_into(found, missing, one)

    async def refresh(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, V]:
        """Load these ids anew, store, and return the results; until they are there others get the old ones."""
        ids, _, given, named = self._asked(args, kwargs)
        found: dict[Any, Any] = unique(ids)
        await self._load(self._inner.refresh, found, list(found), given, named)
        return found

    async def uncached(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, V]:
        """Call the function itself, and those asked after it."""
        return only(await self._loaders.later(*self._past_the_cache(args, kwargs)))

    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the results of these ids. Loads that are under way answer their callers and store nothing."""
        for _, given, named in self._each(args, kwargs):
            await self._inner.invalidate(*given, **named)

    async def invalidate_all(self) -> None:
        """Forget all results of this function, in O(1)."""
        await self._inner.invalidate_all()

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, Entry]:
        """Return the entries that are there, by id; loads nothing and counts as no use."""
        entries = {one: await self._inner.peek(*given, **named) for one, given, named in self._each(args, kwargs)}
        return {one: entry for one, entry in entries.items() if entry is not None}

    async def set(self, values: Mapping[K, V], /, *others: Any, **kwargs: Any) -> None:
        """Store results by id; the arguments other than the ids follow as in a call."""
        for value, given, named in self._settable(values, others, kwargs):
            await self._inner.set(value, *given, **named)

    # Of the class, of an instance; then by an instance what is a class method, and what is static.
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> AsyncCachedMany[P, K, V]: ...
    @overload
    def __get__(
        self: AsyncCachedMany[Concatenate[S, Q], K, V], instance: S, owner: type[Any] | None = None, /
    ) -> AsyncCachedMany[Q, K, V]: ...
    @overload
    def __get__(
        self: AsyncCachedMany[Concatenate[S, Q], K, V], instance: object, owner: S, /
    ) -> AsyncCachedMany[Q, K, V]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> AsyncCachedMany[P, K, V]: ...
    def __get__(self, instance: object, owner: object = None, /) -> Any:
        """The same function, bound to an instance."""
        return self._bind(instance)


class SyncCachedMany(CachedMany[P, K, V]):
    """A cached function that loads many at once and is not async; its methods are not async either."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, V]:
        """Answer with what is there, and load the rest."""
        return self._answer(False, args, kwargs)

    def _answer(self, refresh: bool, args: Any, kwargs: Any) -> dict[K, V]:
        ids, place, args, kwargs = self._asked(args, kwargs)
        load = functools.partial(self._loaders.now, call=self._slot.calling(args, kwargs))
        found: dict[K, V] = self._inner._answer_all(place, ids, load, self._limit, refresh, *args, **kwargs)
        return found

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, V]:
        """Load these ids anew, store, and return the results."""
        return self._answer(True, args, kwargs)

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, V]:
        """Call the function itself, and those asked after it."""
        return only(self._loaders.now(*self._past_the_cache(args, kwargs)))

    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the results of these ids."""
        for _, given, named in self._each(args, kwargs):
            self._inner.invalidate(*given, **named)

    def invalidate_all(self) -> None:
        """Forget all results of this function, in O(1)."""
        self._inner.invalidate_all()

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> dict[K, Entry]:
        """Return the entries that are there, by id; loads nothing and counts as no use."""
        entries = {one: self._inner.peek(*given, **named) for one, given, named in self._each(args, kwargs)}
        return {one: entry for one, entry in entries.items() if entry is not None}

    def set(self, values: Mapping[K, V], /, *others: Any, **kwargs: Any) -> None:
        """Store results by id; the arguments other than the ids follow as in a call."""
        for value, given, named in self._settable(values, others, kwargs):
            self._inner.set(value, *given, **named)

    # Of the class, of an instance; then by an instance what is a class method, and what is static.
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> SyncCachedMany[P, K, V]: ...
    @overload
    def __get__(
        self: SyncCachedMany[Concatenate[S, Q], K, V], instance: S, owner: type[Any] | None = None, /
    ) -> SyncCachedMany[Q, K, V]: ...
    @overload
    def __get__(
        self: SyncCachedMany[Concatenate[S, Q], K, V], instance: object, owner: S, /
    ) -> SyncCachedMany[Q, K, V]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> SyncCachedMany[P, K, V]: ...
    def __get__(self, instance: object, owner: object = None, /) -> Any:
        """The same function, bound to an instance."""
        return self._bind(instance)


class ManyDecorator(Protocol):
    """What ``cached_many(...)`` returns: it keeps a function's signature, async or not."""

    @overload
    def __call__(self, function: Callable[P, Coroutine[Any, Any, Mapping[K, V]]], /) -> AsyncCachedMany[P, K, V]: ...
    @overload
    def __call__(self, function: Callable[P, Mapping[K, V]], /) -> SyncCachedMany[P, K, V]: ...


@overload
def cached_many(ttl: Ttl | EllipsisType, /, **options: Unpack[ManyOptions]) -> ManyDecorator: ...
@overload
def cached_many(**options: Unpack[AllManyOptions]) -> ManyDecorator: ...
def cached_many(ttl: Any = ..., /, **options: Any) -> Any:
    """Cache a function that loads many at once, in the default cache.

    ``@cached_many("10m", items="ids")`` decorates ``async def users(ids: Sequence[int]) -> Mapping[int, User]``, async
    or not. Each id is an entry of its own. Only those that are missing reach the function, each of them once however
    many callers ask, and what concurrent calls of an async function miss is gathered into one call. The answer is a
    dict in the order asked. An id that the function's mapping does not have is not there: it is left out, and that is
    remembered for `negative_ttl`.

    Args:
        ttl: As in :func:`samovar.cached`; a callable is told the value, then the arguments with one id in the place of
            the ids.
        items: The name of the parameter that takes the ids. In a ``key=`` template or callable it is one id.
        window: For how long the ids of concurrent calls of an async function gather: seconds, timedelta, ``"5ms"``.
            0, the default: for one pass of the event loop.
        max_batch: The most ids that one call of the function gets; None: no limit.
        loaders: Functions with the same parameters that are asked in turn for what the function did not find. Each
            gets only what is still missing; if two return the same id, the later wins.
        chain_error: What a raise in that chain does: ``"stop"``: it fails all ids of its call. ``"skip"``: the next is
            asked in its stead, and only the error of the last counts, for the ids that nobody found.
        **options: Those of :func:`samovar.cached`. `fallback` and `cache_if` speak of one id and its value; `refresh`
            is a function of many, too.

    Raises:
        ConfigError: An option cannot be, or does not exist.
        TypeError: A generator, or no function at all.

    A caller who is cancelled leaves the loads to others. A call of the function is cancelled when nobody waits for any
    of its ids any more. If it raises, all of its ids fail, and nothing is stored.
    """
    from samovar._manager import default_cache

    return decorate_many(default_cache(), ttl, options)


def decorate_many(cache: Cache, ttl: Any, options: dict[str, Any]) -> Any:
    """The decorator for these options."""
    return decorate(cache, ttl, options, build_many, OPTIONS, "@cached_many")


def build_many(cache: Cache, function: Callable[..., Any], options: dict[str, Any]) -> Any:
    """Make the cached function of many: check what it has more than others, and hand the rest over."""
    refuse_odd(function)
    signature = signature_of(function)
    _, in_key = key_parts(function, options, signature)
    slot = slot_of(function, options.get("items"), signature, in_key)
    window = check_window(function, options.get("window", 0))

    def note_unasked(number: int) -> None:
        inner._count_unasked(number)

    loaders, limit = chain_of(function, options, is_async(function), note_unasked)

    def as_loader(loads: Any) -> Any:
        own = loaders if loads is function else Loaders(name_of(loads), [loads], False, note_unasked)
        one: Any = OneById(own, slot)
        if is_async(function):
            from samovar._batch import Batches

            names, injected = names_of(function, slot, signature, in_key)
            start = functools.partial(cache._supervisor.start, cache.path)  # pyright: ignore[reportPrivateUsage]
            one = Batches(own, slot, names, injected, window=window, limit=limit, start=start)
        return functools.update_wrapper(one, loads)

    options = {name: value for name, value in options.items() if name in CACHED_OPTIONS}
    if is_async(function) and callable(options.get("fallback")):
        options["fallback"] = in_a_task(options["fallback"])
    inner: _core.CachedFunction = build(cache, function, options, as_loader)
    kind: Any = AsyncCachedMany if is_async(function) else SyncCachedMany
    return kind(function, inner, loaders, slot, limit or sys.maxsize)


class OneById:
    """What the cache calls to load one id alone, on this thread."""

    def __init__(self, loaders: Loaders, slot: Slot) -> None:
        self._loaders = loaders
        self._slot = slot

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        one = self._slot.get(args, kwargs)
        return only(self._loaders.now([one], self._slot.calling(args, kwargs))).get(one, NotFound)


def slot_of(function: Any, items: Any, signature: inspect.Signature, in_key: list[str]) -> Slot:
    """Where the ids stand, from the name that `items=` gives."""
    names = list(signature.parameters)
    if not isinstance(items, str) or items not in names:
        known = ", ".join(names) or "none"
        raise refuse("items", items, f"name the parameter of {name_of(function)} that takes the ids: {known}")
    kind = signature.parameters[items].kind
    if kind in (kind.VAR_POSITIONAL, kind.VAR_KEYWORD):
        raise refuse("items", items, "name a parameter that takes a list of ids, not *args or **kwargs")
    if items not in in_key:
        raise refuse("items", items, "let it be part of the key, else all ids would share one entry")
    return Slot(items, None if kind is kind.KEYWORD_ONLY else names.index(items))


def chain_of(
    function: Any, options: Mapping[str, Any], awaits: bool, note_unasked: Callable[[int], object]
) -> tuple[Loaders, int | None]:
    """A function and those asked after it, and the most ids that each gets at once."""
    chain = [function, *check_loaders(function, options.get("loaders", ()), awaits)]
    limit = None if options.get("max_batch") is None else positive("max_batch", options["max_batch"])
    return Loaders(name_of(function), chain, check_chain_error(options, chain), note_unasked), limit


def check_loaders(function: Any, given: Any, awaits: bool) -> list[Any]:
    """Functions that can be called as the first is; async ones only where somebody awaits them."""
    import inspect as inspection

    cure = f"give a list of functions with the parameters of {name_of(function)}"
    if isinstance(given, str) or not is_iterable(given):
        raise refuse("loaders", given, cure)
    loaders = list(given)
    if not loaders:
        return []
    signature = inspection.signature(function)
    kinds = inspection.Parameter
    positional = [
        p.name for p in signature.parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    named = [p.name for p in signature.parameters.values() if p.kind is kinds.KEYWORD_ONLY]
    for loader in loaders:
        if not callable(loader):
            raise refuse("loaders", loader, cure)
        if is_async(loader) and not awaits:
            raise refuse("loaders", loader, f"give one that is not async: nobody awaits {name_of(function)}")
        try:
            inspection.signature(loader).bind(*positional, **dict.fromkeys(named))
        except TypeError:
            call = ", ".join([*positional, *(f"{name}=..." for name in named)])
            raise refuse("loaders", loader, f"it is called as {name_of(loader)}({call})") from None
        except ValueError:
            pass  # a builtin that does not say what it takes
    return loaders


def check_chain_error(options: Mapping[str, Any], chain: list[Any]) -> bool:
    """True if loaders that raise are passed over."""
    given = options.get("chain_error", "stop")
    if given not in ("stop", "skip"):
        raise refuse("chain_error", given, "give 'stop' or 'skip'")
    if given == "skip" and len(chain) == 1:
        raise refuse("chain_error", given, "add loaders=: there is no other to ask")
    return bool(given == "skip")


def check_window(function: Any, given: Any) -> float:
    """For how many seconds a batch stays open."""
    cure = "give seconds, a timedelta or a text such as '5ms'; 0: one pass of the event loop"
    window = pause("window", given, cure)
    if window and not is_async(function):
        raise refuse("window", given, f"leave it out: {name_of(function)} is not async, its calls cannot be gathered")
    return window


def names_of(
    function: Any, slot: Slot, signature: inspect.Signature, in_key: list[str]
) -> tuple[tuple[str, ...], set[str]]:
    """The names of the positional arguments beside the ids, and of all those that are compared by identity."""
    parameters = signature.parameters.values()
    positional = [p.name for p in parameters if p.name != slot.name and p.kind not in (p.KEYWORD_ONLY, p.VAR_KEYWORD)]
    injected = set(signature.parameters) - set(in_key)
    if is_method(function, signature):
        # Its entries are its own, whatever it is equal to.
        injected.add("self")
    return (*positional,) or ("",), injected


def in_a_task(fallback: Any) -> Any:
    """A fallback that is awaited beside others, hence in a task of its own."""

    @functools.wraps(fallback)
    def begun(*args: Any, **kwargs: Any) -> Any:
        made = fallback(*args, **kwargs)
        if not is_awaitable(made):
            return made
        from samovar._batch import as_task

        return as_task(made)

    return begun
