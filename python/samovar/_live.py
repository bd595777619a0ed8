"""What changes while a cache works: another policy or other rules, for it and for functions decorated before."""

from __future__ import annotations

import functools
import logging
import re
from typing import TYPE_CHECKING, Any

from samovar._cached import name_of
from samovar._exceptions import ConfigError
from samovar._options import Memory, at, refuse
from samovar._policy import check_policy, check_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from types import EllipsisType

    from samovar import _core
    from samovar._cache import Cache
    from samovar._policy import Policy, Rule

log = logging.getLogger("samovar")


def changes(
    cache: Cache, policy: Policy | EllipsisType = ..., rules: Iterable[Rule] | EllipsisType = ...
) -> list[Callable[[], None]]:
    """What puts these in force. What can fail has been done when it returns."""
    found: list[Callable[[], None]] = []
    known = [reference() for reference in cache._functions.valuerefs()]  # pyright: ignore[reportPrivateUsage]
    functions = [function for function in known if function is not None]
    shared = cache._is_shared  # pyright: ignore[reportPrivateUsage]
    below = cache.policy if policy is ... else check_policy(policy).consistent().within(shared)
    if rules is not ...:
        compiled = check_rules(rules, shared)
        found.append(functools.partial(cache._set_rules, compiled))  # pyright: ignore[reportPrivateUsage]
        found.append(functools.partial(warn_of_rules, compiled, functions, below))
    if policy is not ...:
        found.append(functools.partial(cache._set_policy, below))  # pyright: ignore[reportPrivateUsage]
        found += [replanned(function, below) for function in functions]
    return found


def replanned(decoration: Any, below: Policy) -> Callable[[], None]:
    """What puts a cached function under another policy of its cache. What can fail has been done when it returns.

    Raises:
        ConfigError: The function's own options contradict that policy.
    """
    own, protects = decoration._origin
    with at(name_of(decoration)):
        policy = own.over(below)
    before: Policy = decoration.policy
    loaders = None if policy.protects_as(before) else protects(policy)

    def replan() -> None:
        decoration._replan(policy, loaders)
        decoration.policy = policy

    return replan


def warn_of_rules(rules: Iterable[tuple[str, Policy]], functions: Iterable[Any], below: Policy) -> None:
    """Say which rules contradict functions whose keys they may fit.

    No more than that: whether a rule fits is known of a key only, and one that fits none of a function's does no harm.
    """
    for function in functions:
        name, own = name_of(function), function._origin[0].over(below)
        for pattern, policy in rules:
            if may_fit(pattern, function._key_start):
                try:
                    policy.over(own)
                except ConfigError as error:
                    log.warning(
                        "the rule %r contradicts %s, whose calls that it fits will raise: %s", pattern, name, error
                    )


def may_fit(pattern: str, start: str) -> bool:
    """Whether a pattern may fit keys that start like this."""
    fixed = re.split(r"[*?\\]", pattern, maxsplit=1)[0]
    return fixed.startswith(start) or start.startswith(fixed)


def resized(core: _core.CacheCore, given: Mapping[str, Any]) -> Memory:
    """The memory options of a cache that are in force, with these in the place of some."""
    missing = core._bounds_of_missing()
    names = ("max_entries", "max_bytes", "eviction", *(("max_missing", "missing_eviction") if missing else ()))
    present: dict[str, Any] = dict(zip(names, (*core._bounds(), *(missing or ())), strict=True))
    memory = Memory(**{**present, **given})
    if memory.max_missing is None and missing is not None:
        raise refuse("max_missing", None, "give a number: what is bounded apart stays so")
    return memory
