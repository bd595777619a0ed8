"""A policy as users write it: how values are kept, and of what use they are after their ttl. Checked when made.

What is left out is taken from the policy below: a function's from its cache's, a cache's from the defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._exceptions import ConfigError, LoadTimeout
from samovar._options import is_name, is_neutral, refuse, unknown
from samovar._tags import tag_rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import timedelta
    from types import EllipsisType
    from typing import Literal, TypedDict

    from samovar._core import Adaptive
    from samovar._protect import Tell
    from samovar._tags import TagRule
    from samovar.resilience import Breaker, Concurrency, Rate, Retry

    Span = float | timedelta | str | None

    class PolicyOptions(TypedDict, total=False):
        """The options of a policy that a decorator and a call take too, beside ttl and copy."""

        stale_while_revalidate: Span
        stale_if_error: Span
        retry_after: Span
        on_refresh_error: Literal["keep", "drop"]
        soft_timeout: Span
        timeout: Span
        early: bool | float
        jitter: float
        negative_ttl: Span
        min_refresh_interval: Span
        cache_errors: Mapping[type[Exception], Span]
        fallback: Any
        retry: Retry | int | bool | None
        breaker: Breaker | bool | None
        rate: Rate | str | None
        concurrency: Concurrency | int | None
        tags: Iterable[str] | Callable[..., Iterable[str]] | None
        single_flight: Literal["process", "cluster"]
        wait: Span


#: What is in force where nobody says anything.
DEFAULTS: dict[str, Any] = {
    "ttl": None,
    "copy": "auto",
    "stale_while_revalidate": None,
    "stale_if_error": None,
    "retry_after": 30,
    "on_refresh_error": "keep",
    "soft_timeout": None,
    "timeout": None,
    "early": 0.0,
    "jitter": 0.05,
    "negative_ttl": None,
    "min_refresh_interval": None,
    "cache_errors": {},
    "fallback": ...,
    "retry": None,
    "breaker": None,
    "rate": None,
    "concurrency": None,
    "tags": (),
    "single_flight": "process",
    "wait": 10,
}
OPTIONS = tuple(DEFAULTS)
SPANS = ("stale_while_revalidate", "stale_if_error", "retry_after", "min_refresh_interval")
#: How a loader is protected: see `samovar.resilience.protect`.
GUARDS = ("retry", "breaker", "rate", "concurrency")
LIMITS = ("soft_timeout", "timeout", "negative_ttl", "wait")


class Policy:
    """How values are kept, where a function or call says nothing else.

    Durations are seconds, a timedelta or a text such as ``"1h30m"``.

    Args:
        ttl: Fresh for; ``None``: no expiry; ``Adaptive("10s", "1h")``: as the data's age and popularity say.
        copy: Isolation of mutable results: ``"auto"``, ``"deep"``, ``"write"``, ``"both"`` or ``False``.
        stale_while_revalidate: After the ttl, answer at once for this long while the value is loaded anew behind
            (RFC 5861). On a sync function the first caller loads and the others get the old value.
        stale_if_error: After the ttl, answer with the old value for this long if the load fails (RFC 5861).
        retry_after: After a load that failed: how long no other is tried while the old value answers (30 s).
        on_refresh_error: ``"keep"`` the old value when a load fails, or ``"drop"`` it and raise.
        soft_timeout: A caller who has waited this long gets the old value, if there is one; the load goes on.
        timeout: A load that takes longer is cancelled: everybody gets the old value, or `LoadTimeout`. A sync
            function cannot be stopped; its waiters are.
        early: Refresh hot values behind before they end, at random: ``True``, or the beta of XFetch (Vattani et al.,
            VLDB 2015); more than 1 is earlier.
        jitter: The share of the ttl that is taken away at random, so that what was loaded together does not end
            together: ttl × [1 − jitter, 1]. Never for an explicit ``set``.
        negative_ttl: How long "not found" is remembered; ``None``: not at all.
        min_refresh_interval: No refresh begins within this time of the last load.
        cache_errors: Exceptions that are kept and raised again, and for how long: ``{Gone: "1m"}``.
        fallback: A value, or a function of the call's arguments, used when a load fails and nothing old is left.
        retry: `samovar.resilience.Retry`, or a number of attempts: a load is tried again before it has failed.
        breaker: `samovar.resilience.Breaker`, or True for one of the function's own: what is down is not called.
        rate: `samovar.resilience.Rate`, or a text such as ``"100/s"``: no more loads than that.
        concurrency: `samovar.resilience.Concurrency`, or a number: no more loads at once than that.
        tags: Tags of its values, at most 16: texts, templates of the result such as ``"owner:{result.owner}"`` (and of
            the arguments, where a function is decorated), or a callable ``(value, *args)``.
        single_flight: One load at a time for each ``"process"``, or one for the ``"cluster"``: all processes with the
            same store behind their memory. The others answer with an old value while `stale_while_revalidate` lets
            them, and else wait for what is loaded. A process that dies or stands still keeps them for 3 s at most.
            Without the store each process loads.
        wait: So long the load of another process is waited for; then it is loaded here too, and the first to end is
            what all get (10 s). ``None``: as long as it runs.

    Raises:
        ConfigError: Naming the option, its value and the cure.
    """

    __slots__ = ("_given", "_made")

    def __init__(
        self,
        ttl: Adaptive | Span | EllipsisType = ...,
        *,
        copy: str | bool | EllipsisType = ...,
        stale_while_revalidate: Span | EllipsisType = ...,
        stale_if_error: Span | EllipsisType = ...,
        retry_after: Span | EllipsisType = ...,
        on_refresh_error: str | EllipsisType = ...,
        soft_timeout: Span | EllipsisType = ...,
        timeout: Span | EllipsisType = ...,
        early: bool | float | EllipsisType = ...,
        jitter: float | EllipsisType = ...,
        negative_ttl: Span | EllipsisType = ...,
        min_refresh_interval: Span | EllipsisType = ...,
        cache_errors: Mapping[type[Exception], Span] | EllipsisType = ...,
        fallback: Any = ...,
        retry: Retry | int | bool | EllipsisType | None = ...,
        breaker: Breaker | bool | EllipsisType | None = ...,
        rate: Rate | str | EllipsisType | None = ...,
        concurrency: Concurrency | int | EllipsisType | None = ...,
        tags: Iterable[str] | Callable[..., Iterable[str]] | EllipsisType | None = ...,
        single_flight: str | EllipsisType = ...,
        wait: Span | EllipsisType = ...,
        **others: object,
    ) -> None:
        if others:
            raise unknown(others, OPTIONS, "Policy")
        given = {name: value for name, value in locals().items() if name in DEFAULTS and value is not ...}
        self._given = {name: checked(name, value) for name, value in given.items()}
        #: The guards that calls by name share, by option and what it says.
        self._made: dict[tuple[str, str], Any] = {}

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> Policy:
        """The policy that these options make; those that are no policy's are not looked at."""
        return cls(**{name: value for name, value in options.items() if name in DEFAULTS})

    def over(self, below: Policy) -> Policy:
        """This policy where it says something, and elsewhere the one below it."""
        both = Policy()
        both._given = {**below._given, **self._given}
        both._made = below._made
        return both.consistent()

    def consistent(self) -> Policy:
        """Itself, if its options go together.

        Raises:
            ConfigError: Two options contradict each other.
        """
        self.in_order()
        useful = seconds(self.stale_while_revalidate) or seconds(self.stale_if_error)
        if limit(self.soft_timeout) is not None and not useful:
            raise refuse(
                "soft_timeout",
                self.soft_timeout,
                "add stale_if_error=: without an old value there is nothing to answer with",
            )
        if self.early and self.ttl is None:
            raise refuse("early", self.early, "add a ttl=: a value without expiry needs no refresh")
        return self

    def in_order(self) -> Policy:
        """Itself, if its options do not contradict each other, whatever else is laid over or below it.

        Raises:
            ConfigError: A caller's patience would end after the load does.
        """
        soft, hard = limit(self.soft_timeout), limit(self.timeout)
        if soft is not None and hard is not None and soft >= hard:
            raise refuse(
                "soft_timeout", self.soft_timeout, f"give less than timeout={self.timeout!r}, which ends the load"
            )
        return self

    def within(self, shared: bool) -> Policy:
        """Itself, if it can be kept by a cache, with a store behind its memory that processes share or without one.

        Raises:
            ConfigError: One load for all processes, where they share nothing.
        """
        if self.single_flight == "cluster" and not shared:
            cure = "give the cache a store that processes share, such as Cache('redis://...'), or leave it out"
            raise refuse("single_flight", self.single_flight, cure)
        return self

    def __getattr__(self, name: str) -> Any:
        if name not in DEFAULTS:
            raise AttributeError(f"Policy has no option {name!r}")
        return self._given.get(name, DEFAULTS[name])

    def protects_as(self, other: Policy) -> bool:
        """True if a loader is protected under this policy as it is under the other one."""
        guards = [name for name in GUARDS if self._given.get(name) is not None or other._given.get(name) is not None]
        compared = [*guards, "timeout"] if guards else []
        return all(getattr(self, name) == getattr(other, name) for name in compared)

    def protects(self, loader: Callable[..., Any], tell: Tell, *, awaits: bool = False) -> Callable[..., Any]:
        """The loader as it is called under this policy: with retries and within limits, if there are any.

        Where a loader is awaited, one that is not async may still return an awaitable. `tell` hears of its breaker.
        """
        retry, breaker, rate, concurrency = (self._given.get(name) for name in GUARDS)
        if retry is breaker is rate is concurrency is None:
            return loader
        from samovar.resilience import protect_and_tell

        loader = awaited(loader) if awaits else loader
        return protect_and_tell(loader, (retry, breaker, rate, concurrency), self.timeout, tell)

    def shared(self) -> Policy:
        """The same policy for calls by name: they share the limits and the breaker that it says how to make."""
        short = {name: self._given[name] for name in GUARDS if isinstance(self._given.get(name), bool | int | str)}
        if not short:
            return self
        from samovar.resilience import guards_of

        same = Policy()
        same._given, same._made = dict(self._given), self._made
        for name, given in short.items():
            # True is not 1 here.
            key = (name, repr(given))
            if key not in self._made:
                self._made.setdefault(key, guards_of({name: given})[name])
            same._given[name] = self._made[key]
        return same

    def with_own_guards(self) -> Policy:
        """The same policy, but what it protects from now on shares its retries and limits: one of each, made here."""
        if all(self._given.get(name) is None for name in GUARDS):
            return self
        from samovar.resilience import guards_of

        same = Policy()
        same._given = {**self._given, **guards_of(self._given)}
        return same

    @property
    def _tags(self) -> TagRule | None:
        """What gives a value its tags, if it has any."""
        return self._given.get("tags") or None

    @property
    def _fallback(self) -> tuple[Any, ...]:
        """None or one: None is a value."""
        return (self._given["fallback"],) if "fallback" in self._given else ()

    def __eq__(self, other: object) -> bool:
        return self._given == other._given if isinstance(other, Policy) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Policy({', '.join(f'{name}={value!r}' for name, value in self._given.items())})"


class Rule:
    """A policy for the keys that fit a pattern, over what their function or cache says and below what a call says.

    Args:
        match: A pattern that fits a whole canonical key: ``*`` is any text, ``?`` one character, a backslash takes the
            meaning of the next one. ``"product:*"``, or ``"shop.views.price:*"`` for a function without ``key=``.
        **options: Those of `Policy`. All that fits shares the rule's limits and its breaker: ``rate="10/s"`` is for all
            of it together.

    Raises:
        ConfigError: Naming the option, its value and the cure.
    """

    __slots__ = ("match", "policy")

    def __init__(self, match: str, /, ttl: Any = ..., **options: Any) -> None:
        if not is_name(match) or not match:
            raise refuse("rule", match, "give a pattern such as 'product:*'")
        _core._check_pattern(match)
        for name in options:
            if name not in OPTIONS:
                raise unknown([name], OPTIONS, "Rule")
        if callable(ttl):
            raise refuse("ttl", ttl, "give a duration: a rule knows no function's arguments")
        self.match = match
        self.policy = Policy(ttl, **options).in_order().with_own_guards()

    def __repr__(self) -> str:
        return f"Rule({self.match!r}, {self.policy!r})"


def check_rules(rules: Any, shared: bool) -> list[tuple[str, Policy]]:
    """Rules as native code takes them, for a cache whose store processes share, or that has none."""
    given: list[Any] = list(rules) if hasattr(rules, "__iter__") and not isinstance(rules, str) else [rules]
    for rule in given:
        if not isinstance(rule, Rule):
            raise refuse("rules", rule, "give a list of rules: [Rule('product:*', ttl=30)]")
    return [(rule.match, rule.policy.within(shared)) for rule in given]


def checked(name: str, value: Any) -> Any:
    """An option's value as it is kept, or the error about it."""
    if name == "ttl":
        if not callable(value):
            _core._check_ttl(value)
    elif name == "copy":
        if not is_neutral(value, ("auto", "deep", "write", "both", False)):
            raise refuse(name, value, "give 'auto', 'deep', 'write', 'both' or False")
    elif name == "on_refresh_error":
        if value not in ("keep", "drop"):
            raise refuse(name, value, "give 'keep' or 'drop'")
    elif name == "single_flight":
        if value not in ("process", "cluster"):
            raise refuse(name, value, "give 'process' or 'cluster'")
    elif name == "early":
        return beta(value)
    elif name == "jitter":
        if isinstance(value, bool) and not value:
            return 0.0
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise refuse(name, value, "give the share of the ttl that may be taken away, from 0 to 1")
    elif name == "cache_errors":
        return kept_errors(value)
    elif name == "tags":
        return tag_rule(value, None)
    elif name in GUARDS:
        from samovar.resilience import protect

        protect(check_loader, **{name: value})
    elif name in SPANS:
        _core._check_span(value, name, True)
    elif name in LIMITS:
        _core._check_span(value, name, False)
    return value


def awaited(loader: Callable[..., Any]) -> Callable[..., Any]:
    """The same loader as an async function, whatever it returns."""
    import functools
    import inspect

    @functools.wraps(loader)
    async def load(*args: Any, **kwargs: Any) -> Any:
        made = loader(*args, **kwargs)
        return await made if inspect.isawaitable(made) else made

    return load


def check_loader() -> None:
    """Stands for a loader while options are checked."""


def beta(value: Any) -> float:
    """How early to refresh: the beta of XFetch, 0 for not at all."""
    if isinstance(value, bool):
        return 1.0 if value else 0.0
    if not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise refuse("early", value, "give True, False, or the beta of XFetch such as 1.0")
    return float(value)


def kept_errors(value: Any) -> dict[type[Exception], Any]:
    """Classes of exceptions and how long each is kept."""
    cure = "give exception classes and how long each is kept: {LookupError: '1m'}"
    late = (
        "leave it out: a load that is stopped brings nothing to keep. Stop it yourself (asyncio.timeout) and name the "
        "TimeoutError of that, or have stale_if_error= and retry_after= answer"
    )
    if not hasattr(value, "items"):
        raise refuse("cache_errors", value, cure)
    for kind, life in value.items():
        if not isinstance(kind, type) or not issubclass(kind, Exception) or life is None:
            raise refuse("cache_errors", value, cure)
        if issubclass(kind, LoadTimeout):
            raise refuse("cache_errors", value, late)
        try:
            _core._check_span(life, "cache_errors", False)
        except ConfigError:
            raise refuse("cache_errors", value, cure) from None
    return dict(value)


def seconds(span: Any) -> float | None:
    """A duration in seconds, None if there is none."""
    return None if span is None else _core._seconds(span)


def pause(option: str, span: Any, cure: str) -> float:
    """A time in seconds for which something is waited for; 0 for not at all.

    Raises:
        ConfigError: It is no duration, or without end.
    """
    try:
        found = math.inf if span is None else _core._seconds(span)
    except ConfigError:
        found = math.inf
    if found == math.inf:
        raise refuse(option, span, cure)
    return found


def limit(span: Any) -> float | None:
    """A time limit in seconds, None if there is none or it is without end."""
    found = seconds(span)
    return None if found == math.inf else found


def check_policy(policy: object) -> Policy:
    """The policy given, or one that says nothing."""
    if policy is None:
        return Policy()
    if not isinstance(policy, Policy):
        raise refuse("policy", policy, "give Policy(ttl=...)")
    return policy
