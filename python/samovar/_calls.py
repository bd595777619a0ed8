"""What a call by name says beside the name: a ttl and options, checked and laid over what its cache says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._loaders import Slot
from samovar._many import chain_of
from samovar._options import is_neutral, refuse, unknown
from samovar._policy import OPTIONS, Policy

if TYPE_CHECKING:
    from samovar._cache import PolicyTtl
    from samovar._loaders import Loaders
    from samovar._many import ManyPolicyOptions
    from samovar._policy import PolicyOptions

#: The options of a call for many that are no policy's.
CHAIN = ("max_batch", "loaders", "chain_error")
#: What one call alone cannot have.
KINDS = {"breaker": "Breaker(...)", "rate": "Rate(...)", "concurrency": "Concurrency(...)"}
#: Where a factory of many gets its keys.
SLOT = Slot("keys", 0)


def loading_many(
    core: _core.CacheCore, factory: Any, ttl: PolicyTtl, options: ManyPolicyOptions, awaits: bool
) -> tuple[Loaders, int | None, Policy]:
    """Who loads in a call for many, how many at once, and how the values are kept."""
    if not callable(factory):
        raise TypeError(f"factory must be a function that takes a list of keys and returns a mapping, not {factory!r}")
    others: Any = {name: value for name, value in options.items() if name not in CHAIN}
    policy = policy_of(core, core._policy, ttl, others, (*OPTIONS, *CHAIN), "get_or_set_many")
    loaders, limit = chain_of(factory, options, awaits, core._count_unasked)
    return loaders, limit, policy


def policy_of(
    core: _core.CacheCore,
    below: Policy,
    ttl: PolicyTtl,
    options: PolicyOptions,
    known: tuple[str, ...] = OPTIONS,
    where: str = "get_or_set",
) -> Policy:
    """What a call says, over what its cache says."""
    if ttl is ... and not options:
        return below.shared()
    for name, value in options.items():
        if name not in OPTIONS:
            raise unknown([name], known, where)
        if name in KINDS and not is_neutral(value, (None, False)) and isinstance(value, bool | int | str):
            cure = f"make a {KINDS[name]} once and give it to each call: one of a call's own limits nothing"
            raise refuse(name, value, cure)
    given: dict[str, Any] = {"ttl": ttl if keeps(ttl) else not_kept, **options}
    return Policy(**given).over(below).within(core._is_shared).shared()


def keeps(ttl: PolicyTtl) -> bool:
    """False for the ttl that says: do not store."""
    if ttl is ... or ttl is None or isinstance(ttl, _core.Adaptive):
        return True
    _core._check_ttl(ttl, True)
    return _core._seconds(ttl) > 0


def not_kept(*_: object) -> int:
    """A policy has no ttl of 0, but what its ttl function returns may be 0."""
    return 0
