"""The decorator: all thinking happens here, once, when a function is decorated. Calls are native.

Reads the signature, checks every option against it, and hands both to `samovar._core`. What is wrong is said when
decorating, with the option, the value and the cure.
"""

from __future__ import annotations

import functools
import types
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ParamSpec,
    Protocol,
    TypeVar,
    Union,
    get_origin,
    overload,
)

from samovar import _core
from samovar._cache_options import check_namespace
from samovar._options import is_name, is_neutral, positive, refuse, unknown
from samovar._policy import OPTIONS as POLICY_OPTIONS
from samovar._policy import Policy
from samovar._tags import tag_rule

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Coroutine, Iterable
    from datetime import timedelta
    from types import EllipsisType
    from typing import TypeAlias, Unpack

    from samovar._cache import Cache
    from samovar._core import Adaptive
    from samovar._policy import PolicyOptions
    from samovar._protect import Tell
    from samovar._views import CacheInfo, Entry, Explanation, Stats
    from samovar._warm import WarmJob
    from samovar.codecs import Codec

    Ttl: TypeAlias = float | timedelta | str | Adaptive | None

    class Options(PolicyOptions, total=False):
        """The options of ``cached``, beside the ttl."""

        key: str | Callable[..., Any] | None
        ignore: Iterable[str]
        self_contained: bool
        version: str | int
        namespace: str
        cache_if: Callable[[Any], bool] | None
        copy: str | bool | None
        refresh: Callable[..., Any] | None
        max_entries: int | None
        maxsize: int | None
        codec: str | Codec | None
        compress: str | None
        encrypt: str | bool | None
        type: Any

    class AllOptions(Options, total=False):
        """The options of ``cached``, ttl by name."""

        ttl: Ttl | EllipsisType | Callable[..., float | timedelta | str | None]


S = TypeVar("S")
S_contra = TypeVar("S_contra", contravariant=True)
C = TypeVar("C", bound=type[Any])
P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)

OPTIONS = (
    *POLICY_OPTIONS,
    "key",
    "ignore",
    "self_contained",
    "version",
    "namespace",
    "cache_if",
    "refresh",
    "max_entries",
    "maxsize",
    "codec",
    "compress",
    "encrypt",
    "type",
)
#: Options of later versions, and what each of them says when it asks for nothing.
LATER: dict[str, tuple[object, ...]] = {}


class NoCacheKey:
    """Marks a parameter that is not part of the key: ``session: Annotated[Session, NoCacheKey]``."""


class TakesFirst(Protocol[S_contra, Q, R_co]):
    """What is called with an S and then whatever Q says. Checkers tell methods of an S from others by it."""

    def __call__(self, first: S_contra, /, *args: Q.args, **kwargs: Q.kwargs) -> R_co: ...


class Stranger:
    """Nobody asks for one, so a parameter that takes one takes everything: it says nothing about what it is for."""


class AsyncCached(Protocol[P, R_co]):
    """A cached ``async def``: called and awaited like the function it wraps."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]
    cache: Cache
    policy: Policy

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]: ...
    async def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result of this call. A load that is under way answers its callers and stores nothing."""

    async def invalidate_all(self) -> None:
        """Forget all results of this function, in O(1)."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Load anew, store, and return the result; until it is there others get the old one."""
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Say what this call would do now, and why. Counts as no use."""
        ...

    async def peek(self, *args: P.args, **kwargs: P.kwargs) -> Entry | None:
        """Return the entry of this call; loads nothing and counts as no use."""

    async def set(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store a value as the result of this call."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the canonical key. Raises KeyTypeError naming the argument that has none."""
        ...

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R_co]:
        """Call the function itself."""
        ...

    def warm(self, calls: Iterable[Any]) -> WarmJob:
        """Load these calls in the background, a few at a time."""
        ...

    def stats(self) -> Stats:
        """This function's counters."""
        ...

    def cache_info(self) -> CacheInfo:
        """As ``functools`` has it."""
        ...

    def cache_clear(self) -> None:
        """Forget all results and set the counters to zero, as ``functools`` does."""

    # By the class: what takes anything, a class method, and all else, with the instance as it says. By an instance: a
    # method, a class method, and what is static.
    @overload
    def __get__(self: TakesFirst[Stranger, ..., Any], instance: None, owner: type[Any], /) -> AsyncCached[P, R_co]: ...
    @overload
    def __get__(self: TakesFirst[C, Q, Coroutine[Any, Any, R]], instance: None, owner: C, /) -> AsyncCached[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> AsyncCached[P, R_co]: ...
    @overload
    def __get__(
        self: TakesFirst[S, Q, Coroutine[Any, Any, R]], instance: S, owner: type[Any] | None = None, /
    ) -> AsyncCached[Q, R]: ...
    @overload
    def __get__(self: TakesFirst[S, Q, Coroutine[Any, Any, R]], instance: object, owner: S, /) -> AsyncCached[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> AsyncCached[P, R_co]: ...


class SyncCached(Protocol[P, R_co]):
    """A cached function that is not async; its methods are not async either."""

    __name__: str
    __qualname__: str
    __wrapped__: Callable[..., Any]
    cache: Cache
    policy: Policy

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R_co: ...
    def invalidate(self, *args: P.args, **kwargs: P.kwargs) -> None:
        """Forget the result of this call."""

    def invalidate_all(self) -> None:
        """Forget all results of this function, in O(1)."""

    def refresh(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Load anew, store, and return the result."""
        ...

    def explain(self, *args: P.args, **kwargs: P.kwargs) -> Explanation:
        """Say what this call would do now, and why. Counts as no use."""
        ...

    def peek(self, *args: P.args, **kwargs: P.kwargs) -> Entry | None:
        """Return the entry of this call; loads nothing and counts as no use."""

    def set(self, value: Any, *args: P.args, **kwargs: P.kwargs) -> None:
        """Store a value as the result of this call."""

    def key(self, *args: P.args, **kwargs: P.kwargs) -> str:
        """Return the canonical key. Raises KeyTypeError naming the argument that has none."""
        ...

    def uncached(self, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function itself."""
        ...

    def warm(self, calls: Iterable[Any]) -> WarmJob:
        """Load these calls now, one after the other."""
        ...

    def stats(self) -> Stats:
        """This function's counters."""
        ...

    def cache_info(self) -> CacheInfo:
        """As ``functools`` has it."""
        ...

    def cache_clear(self) -> None:
        """Forget all results and set the counters to zero, as ``functools`` does."""

    # By the class: what takes anything, a class method, and all else, with the instance as it says. By an instance: a
    # method, a class method, and what is static.
    @overload
    def __get__(self: TakesFirst[Stranger, ..., Any], instance: None, owner: type[Any], /) -> SyncCached[P, R_co]: ...
    @overload
    def __get__(self: TakesFirst[C, Q, R], instance: None, owner: C, /) -> SyncCached[Q, R]: ...
    @overload
    def __get__(self, instance: None, owner: type[Any], /) -> SyncCached[P, R_co]: ...
    @overload
    def __get__(self: TakesFirst[S, Q, R], instance: S, owner: type[Any] | None = None, /) -> SyncCached[Q, R]: ...
    @overload
    def __get__(self: TakesFirst[S, Q, R], instance: object, owner: S, /) -> SyncCached[Q, R]: ...
    @overload
    def __get__(self, instance: object, owner: type[Any] | None = None, /) -> SyncCached[P, R_co]: ...


class Decorator(Protocol):
    """What ``cached(...)`` returns: it keeps a function's signature, async or not."""

    @overload
    def __call__(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncCached[P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> SyncCached[P, R]: ...


@overload
def cached(  # type: ignore[overload-overlap]  # pyright: ignore[reportOverlappingOverload]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncCached[P, R]: ...
@overload
def cached(function: Callable[P, R], /) -> SyncCached[P, R]: ...
@overload
def cached(ttl: Ttl | EllipsisType, /, **options: Unpack[Options]) -> Decorator: ...
@overload
def cached(**options: Unpack[AllOptions]) -> Decorator: ...
def cached(ttl: Any = ..., /, **options: Any) -> Any:
    """Cache a function's results, in the default cache.

    ``@cached``, ``@cached("5m")``, ``@cached(ttl=300, key="user:{user_id}")``; async or not, functions or methods.

    Args:
        ttl: Fresh for: seconds, timedelta, ``"1h30m"``, or a callable ``(value, *args)`` that returns one of these;
            or ``Adaptive("10s", "1h")``, which follows the data. Left out: the cache's policy; None: no expiry. From
            a callable, 0: not stored.
        key: A template ``"user:{user_id}"`` over the parameters, values escaped; or a callable that takes some of
            the parameters by name. Left out: the function and all its arguments, typed.
        ignore: Names of parameters that are not part of the key. The load of such a function never outlives the
            caller whose session it uses, unless ``self_contained=True``.
        version: Part of the function's identity; change it when the result's meaning changes.
        namespace: A part of the cache that can be cleared on its own.
        cache_if: A predicate on the result; what it refuses is returned and not stored.
        refresh: The function that refreshes behind, called with the arguments that make the key, by name; it opens
            what it needs itself. Left out: the function.
        max_entries: A bound of this function's own (``maxsize`` means the same).
        codec, compress, encrypt: How its values are written to the store behind the memory, if the cache has one; left
            out: as the cache's.
        type: What its values are, for that store; left out: what it is annotated to return. An entry that holds
            something else is as good as none, and a result that is something else stays in this process.
        **options: The options above that are given by name, and those of :class:`Policy`.

    Raises:
        ConfigError: An option cannot be, or does not exist.
        TypeError: A generator, or no function at all. In a call: the result is a generator, another builtin iterator
            or not awaited, which its first reader would use up.
    """
    from samovar._manager import default_cache

    return decorate(default_cache(), ttl, options)


def decorate(
    cache: Cache,
    ttl: Any,
    options: dict[str, Any],
    make: Callable[..., Any] | None = None,
    known: tuple[str, ...] = OPTIONS,
    where: str = "@cached",
) -> Any:
    """Either decorate a function given directly, or return the decorator for these options."""
    make = build if make is None else make
    if not options and is_function(ttl):
        return make(cache, ttl, {})
    if ttl is not ...:
        if "ttl" in options:
            raise refuse("ttl", options["ttl"], f"give it once: {where}('5m') or {where}(ttl='5m')")
        options = {**options, "ttl": ttl}
    check_names(options, known, where)
    if not callable(options.get("ttl", ...)) and options.get("ttl", ...) is not ...:
        _core._check_ttl(options["ttl"])
    return functools.partial(make, cache, options=options)


def coding_of(cache: Cache, function: Any, options: dict[str, Any], of_many: bool) -> _core.Coding | None:
    """How a function's values are written to the store behind the memory; None where there is none."""
    behind = cache._behind  # pyright: ignore[reportPrivateUsage]
    if behind is None:
        return None
    kind = options.get("type")
    if kind is None and not of_many:
        from samovar.codecs._types import returned_by

        kind = returned_by(function)
    path = join(cache.path, options.get("namespace", ""))
    return behind.coding_of(path, behind.wire.varied(options), Any if kind is None else kind)


def is_function(candidate: object) -> bool:
    """True for what `@cached` without parentheses gets; a ttl callable is given with `ttl=`."""
    return callable(candidate) or isinstance(candidate, classmethod)


def check_names(options: dict[str, Any], known: tuple[str, ...], where: str) -> None:
    """Every option must be known; those of later versions say so, unless they ask for nothing."""
    later = [name for name in options if name in LATER and not is_neutral(options[name], LATER[name])]
    if later:
        raise refuse(later[0], options[later[0]], "leave it out: this version does not have it yet")
    others = [name for name in options if name not in known and name not in LATER]
    if others:
        raise unknown(others, known, where)


def build(
    cache: Cache,
    function: Any,
    options: dict[str, Any],
    as_loader: Callable[[Any], Any] | None = None,
) -> Any:
    """Make the cached function: read its signature, check the options against it, hand over to native code.

    What `as_loader` makes of a function is called in its place, with all parameters, spelled one way.
    """
    if isinstance(function, classmethod | staticmethod):
        kind: Any = CachedClassMethod if isinstance(function, classmethod) else staticmethod
        return kind(build(cache, function.__func__, options))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
    refuse_odd(function)
    signature = signature_of(function)
    takes, in_key = key_parts(function, options, signature)
    own = own_policy(function, options, signature)
    check_fallback(function, own.fallback, signature, canonical=as_loader is not None)
    below = cache.policy
    policy = own.over(below).within(cache._is_shared)  # pyright: ignore[reportPrivateUsage]
    refresh = check_refresh(function, options.get("refresh"), in_key, signature)
    injected = [name for name in signature.parameters if name not in in_key and name != "self"]
    if own.early and injected and refresh is None and not options.get("self_contained", False):
        cure = f"its load uses its caller's {injected[0]}, so nothing runs behind; add refresh= or self_contained=True"
        raise refuse("early", options["early"], cure)
    load: Callable[[Any], Any] = as_loader or (lambda function: function)
    tell = cache._tell_breaker  # pyright: ignore[reportPrivateUsage]
    protects = functools.partial(loaders_under, function, refresh, load, tell)
    loader, refresher = protects(policy)
    decoration = _core._decorate(
        cache,
        load(function),
        Decoration(
            id=function_id(function, check_version(options.get("version", ""))),
            path=join(cache.path, options.get("namespace", "")),
            is_async=is_async(function),
            parameters=[
                (p.name, int(p.kind), [] if p.default is p.empty else [p.default], p.name in in_key)
                for p in signature.parameters.values()
            ],
            key=options.get("key"),
            key_takes=takes,
            policy=policy,
            loader=loader,
            refresh=refresher,
            protects=protects,
            cache_if=check_callable("cache_if", options.get("cache_if")),
            max_entries=own_bound(options),
            bound=bool(injected) and not options.get("self_contained", False),
            is_method=is_method(function, signature),
            takes_class=next(iter(signature.parameters), None) == "cls" and in_class_body(function),
            canonical=as_loader is not None,
            coding=coding_of(cache, function, options, as_loader is not None),
        ),
    )
    functools.update_wrapper(decoration, function)
    if cache._behind is not None and options.get("key") is None:  # pyright: ignore[reportPrivateUsage]
        own_id = function_id(function, options.get("version", ""))
        cache._behind.register(join(cache.path, options.get("namespace", "")), own_id, function, decoration)  # pyright: ignore[reportPrivateUsage]
    if not hasattr(function, "__qualname__"):
        decoration.__qualname__ = name_of(function)
        decoration.__name__ = name_of(function).rpartition(".")[2]
    decoration.cache = cache
    decoration.policy = policy
    decoration._origin = (own, protects)
    decoration._key_start = key_start(function, options.get("key"))
    cache._functions[id(decoration)] = decoration  # pyright: ignore[reportPrivateUsage]
    if cache.policy is not below:
        # It was changed by another thread before it could know of this function.
        from samovar._live import replanned

        replanned(decoration, cache.policy)()
    return decoration


class CachedClassMethod(classmethod):  # type: ignore[type-arg]  # pyright: ignore[reportMissingTypeArgument]
    """A class method whose own methods know the class: from Python 3.13 on those of a plain one do not."""

    def __get__(self, instance: Any, owner: type[Any] | None = None, /) -> Any:
        function: Any = self.__func__  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return function.__get__(type(instance) if owner is None else owner)


def loaders_under(
    function: Any, refresh: Any, load: Callable[[Any], Any], tell: Tell, policy: Policy
) -> tuple[Any, Any]:
    """What loads a function's values under a policy, and what refreshes behind in its place, if anything does."""
    return load(policy.protects(function, tell)), refresh and load(policy.protects(refresh, tell))


class Decoration:
    """The row of facts that native code reads; see `src/python/decorate.rs`."""

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


def refuse_odd(function: Any) -> None:
    """What cannot be cached, and what to do instead."""
    import inspect

    if not callable(function):
        raise TypeError(f"@cached needs a function, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"@cached cannot cache {name_of(function)}: it is a generator, and a second caller would find it "
            "used up; return a list instead"
        )
    if isinstance(function, type):
        raise TypeError(f"@cached cannot cache the class {function.__qualname__}; cache a function that makes one")


def signature_of(function: Any) -> inspect.Signature:
    """The parameters of a function; some that are written in C tell nobody."""
    import inspect

    try:
        return inspect.signature(function)
    except ValueError:
        cure = "its parameters cannot be read; cache a function with parameters of its own that calls it"
        raise TypeError(f"@cached cannot cache {name_of(function)}: {cure}") from None


def is_method(function: Any, signature: inspect.Signature) -> bool:
    """True for a function with a `self` that a class body defines, wherever it is assigned later."""
    return next(iter(signature.parameters), None) == "self" and in_class_body(function)


def in_class_body(function: Any) -> bool:
    """True for a function that a class body defines."""
    body = getattr(function, "__qualname__", "").rpartition(".")[0]
    return bool(body) and not body.endswith("<locals>")


def function_id(function: Any, version: object) -> str:
    """Module and qualified name; a script is known by its file's name, not as `__main__`."""
    module = getattr(function, "__module__", None) or "unknown"
    if module == "__main__":
        import os
        import sys

        file = getattr(sys.modules.get("__main__"), "__file__", None)
        module = os.path.splitext(os.path.basename(file))[0] if file else "__main__"
    name = name_of(function)
    return f"{module}.{name}:{version}" if version != "" else f"{module}.{name}"


def name_of(function: Any) -> str:
    """The qualified name of a function, of what a partial calls, or of a callable object's class."""
    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type(function).__qualname__


def is_async(function: Any) -> bool:
    """True if calling it gives a coroutine: an async function, an object whose `__call__` is one, an `AsyncMock`."""
    import inspect
    import sys

    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__):
        return True
    mark = getattr(sys.modules.get("asyncio.coroutines"), "_is_coroutine", None)
    return mark is not None and getattr(function, "_is_coroutine", None) is mark


def key_start(function: Any, key: Any) -> str:
    """What all keys of a function start with, as rules see them."""
    if isinstance(key, str):
        return key.partition("{")[0]
    return "" if key is not None else function_id(function, "")


def check_version(version: object) -> str | int:
    """A version is written into the function's name."""
    if isinstance(version, bool) or not (isinstance(version, int) or is_name(version)):
        raise refuse("version", version, "give a text or a whole number, such as version=2")
    return version if isinstance(version, int) else str(version)


def key_parts(function: Any, options: dict[str, Any], signature: inspect.Signature) -> tuple[list[int], list[str]]:
    """What a `key=` callable takes, by position, and the names of the parameters that are part of the key."""
    takes, used = key_parameters(function, options.get("key"), signature)
    ignored = ignored_parameters(function, options.get("ignore", ()), signature)
    return takes, [name for name in signature.parameters if name in used and name not in ignored]


def key_parameters(function: Any, key: object, signature: inspect.Signature) -> tuple[list[int], set[str]]:
    """Which parameters a key rule takes (by position, for a callable) and which it uses."""
    import inspect as inspection

    names = list(signature.parameters)
    if key is None:
        return [], set(names)
    if isinstance(key, str):
        if not is_name(key):
            raise refuse("key", key, "write a template without lone surrogates")
        fields = _core._template_fields(key)
        wrong = [field for field in fields if field not in names]
        if wrong:
            raise refuse(
                "key", key, f"{name_of(function)} has no parameter {wrong[0]!r}, only {', '.join(names) or 'none'}"
            )
        return [], set(fields)
    if not callable(key):
        raise refuse("key", key, "give a template such as 'user:{user_id}', or a callable over some of the parameters")
    try:
        taken = list(inspection.signature(check_plain("key", key)).parameters)
    except (ValueError, TypeError):
        cure = "its parameters cannot be read; write a lambda over some of the function's parameters"
        raise refuse("key", key, cure) from None
    wrong = [name for name in taken if name not in names]
    if wrong:
        raise refuse("key", key, f"it takes {wrong[0]!r}, which is no parameter of {name_of(function)}")
    return [names.index(name) for name in taken], set(taken)


def ignored_parameters(function: Any, ignore: object, signature: inspect.Signature) -> set[str]:
    """Parameters left out of the key, by option or by annotation."""
    given: Any = () if ignore is None else ignore
    names: list[Any] = list(given) if hasattr(given, "__iter__") else [given]
    if isinstance(ignore, str) or not all(isinstance(name, str) for name in names):
        raise refuse("ignore", ignore, "give a list of parameter names, such as ['session']")
    ignored: set[str] = set(names)
    wrong = ignored - set(signature.parameters)
    if wrong:
        raise refuse("ignore", ignore, f"{name_of(function)} has no parameter {min(wrong)!r}")
    return ignored | {name for name, kind in annotations_of(function).items() if marks_no_key(kind)}


def annotations_of(function: Any) -> dict[str, Any]:
    """The annotations of a function, read one by one: a name that is missing spoils nothing but its own."""
    function = described(function)
    raw: dict[str, Any] = getattr(function, "__annotations__", {})
    scope = Names(getattr(function, "__globals__", {}))
    return {name: scope.read(kind) if isinstance(kind, str) else kind for name, kind in raw.items()}


def described(function: Any) -> Any:
    """What a partial calls, a wrapper wraps or a callable object runs: it has annotations, and their globals."""
    import inspect

    while isinstance(function, functools.partial):
        function = function.func  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
    function = inspect.unwrap(function)
    return function if hasattr(function, "__globals__") else type(function).__call__


class Names(dict[str, Any]):
    """The names that annotations may use. Those imported for type checkers alone stand for anything."""

    def __missing__(self, name: str) -> Any:
        return known(name)

    def read(self, text: str) -> Any:
        """What an annotation says, None if it says nothing that can be understood."""
        try:
            return eval(text, {}, self)  # as `typing.get_type_hints` does, but for one annotation
        except Exception:
            # An annotation is any expression at all, of names that may exist for type checkers alone, so it may raise
            # anything; a program that runs without us must not stop for it. Only a mark that we would miss matters.
            if "NoCacheKey" in text:
                raise refuse("annotation", text, "it cannot be read here; use ignore= instead of NoCacheKey") from None
            return None


def known(name: str) -> Any:
    """A name that is not there at run time: a builtin, one of the two we need, or anything."""
    import builtins

    ours = {"Annotated": Annotated, "NoCacheKey": NoCacheKey}
    return ours.get(name) or getattr(builtins, name, None) or Anything()


class Anything:
    """Stands for a name that only type checkers know, whatever is done with it."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return known(name)

    def __getitem__(self, item: object) -> Anything:
        return self

    def __call__(self, *args: object, **kwargs: object) -> Anything:
        return self

    def __or__(self, other: Any) -> Any:
        return Union[Any, other]  # noqa: UP007 - of an object that is no type

    __ror__ = __or__


def marks_no_key(kind: Any) -> bool:
    """True for `Annotated[T, NoCacheKey]`, with or without a call, by an alias, or as one choice of several."""
    kind = getattr(kind, "__value__", kind)
    if get_origin(kind) in (Union, types.UnionType):
        return any(marks_no_key(choice) for choice in kind.__args__)
    marks = getattr(kind, "__metadata__", ())
    return any(mark is NoCacheKey or isinstance(mark, NoCacheKey) for mark in marks)


def check_callable(option: str, value: Any) -> Any:
    """An option that is a function or left out."""
    if value is not None and not callable(value):
        raise refuse(option, value, "give a function of the result that returns True or False")
    return check_plain(option, value)


def check_plain(option: str, value: Any) -> Any:
    """A callable that is asked while a call is answered cannot wait for anything."""
    if callable(value) and is_async(value):
        raise refuse(option, value, "give a function that is not async; await what it needs in the cached function")
    return value


def check_ttl_callable(ttl: Any, signature: inspect.Signature) -> Any:
    """A ttl callable must take the result and then all arguments, in the order of the function's signature."""
    import inspect as inspection

    check_plain("ttl", ttl)
    kinds = {parameter.kind for parameter in signature.parameters.values()}
    if not callable(ttl) or kinds & {inspection.Parameter.VAR_POSITIONAL, inspection.Parameter.VAR_KEYWORD}:
        return ttl
    try:
        taken = inspection.signature(ttl)
    except ValueError:
        return ttl
    try:
        taken.bind(None, *signature.parameters)
    except TypeError:
        call = ", ".join(["value", *signature.parameters])
        raise refuse("ttl", ttl, f"it is called as ttl({call}), so let it take these, or (value, *args)") from None
    return ttl


def own_policy(function: Any, options: dict[str, Any], signature: inspect.Signature) -> Policy:
    """What a function says of its policy itself."""
    said = {name: value for name, value in options.items() if name != "copy" or value is not None}
    check_ttl_callable(said.get("ttl", ...), signature)
    if "tags" in said:
        said["tags"] = tag_rule(check_plain("tags", said["tags"]), list(signature.parameters))
    own = Policy.of(said)
    if own.early and not is_async(function):
        raise refuse(
            "early", options["early"], f"leave it out: {name_of(function)} is not async, nothing can load it behind"
        )
    return own


def check_fallback(function: Any, fallback: Any, signature: inspect.Signature, *, canonical: bool) -> None:
    """What answers for a function is called as that was. In an outage it is too late to learn that it cannot be."""
    import inspect as inspection

    if not callable(fallback):
        return
    if is_async(fallback) and not is_async(function):
        raise refuse("fallback", fallback, f"give one that is not async, as {name_of(function)} is not")
    parameters = list(signature.parameters.values())
    try:
        taken = inspection.signature(fallback)
    except (ValueError, TypeError):
        return
    if any(parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in parameters):
        return
    required = [parameter for parameter in parameters if parameter.default is parameter.empty]
    try:
        for given in (parameters,) if canonical else (parameters, required):
            named = {parameter.name: None for parameter in given if parameter.kind is parameter.KEYWORD_ONLY}
            taken.bind(*[None] * (len(given) - len(named)), **named)
    except TypeError:
        cure = f"it is called as {name_of(function)} was, so let it take {signature} too, or (*args, **kwargs)"
        raise refuse("fallback", fallback, cure) from None


def check_refresh(function: Any, refresh: Any, in_key: list[str], signature: inspect.Signature) -> Any:
    """The function that refreshes behind takes what makes the key, by name."""
    if refresh is None:
        return None
    if not callable(refresh) or is_async(refresh) is not is_async(function):
        kind = "an async function" if is_async(function) else "a function that is not async"
        raise refuse("refresh", refresh, f"give {kind}, as {name_of(function)} is")
    import inspect as inspection

    several = (inspection.Parameter.VAR_POSITIONAL, inspection.Parameter.VAR_KEYWORD)
    if any(signature.parameters[name].kind in several for name in in_key):
        cure = f"{name_of(function)} takes *args or **kwargs, which have no names to be called by"
        raise refuse("refresh", refresh, cure)
    try:
        inspection.signature(refresh).bind(**dict.fromkeys(in_key))
    except TypeError:
        raise refuse("refresh", refresh, f"it is called as refresh({', '.join(f'{n}=...' for n in in_key)})") from None
    return refresh


def own_bound(options: dict[str, Any]) -> int | None:
    """The function's own bound, under either of its names."""
    given = [name for name in ("max_entries", "maxsize") if options.get(name) is not None]
    if len(given) == 2:
        raise refuse("maxsize", options["maxsize"], "max_entries= means the same; give one of them")
    return positive(given[0], options[given[0]]) if given else None


def join(path: str, namespace: str) -> str:
    """A namespace below another."""
    namespace = check_namespace(namespace)
    return f"{path}:{namespace}" if path and namespace else path or namespace
