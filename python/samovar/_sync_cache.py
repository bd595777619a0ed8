"""The blocking face of a cache: the same entries, no await. Thin: what it does is native (`samovar._core`)."""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any, TypeVar

from samovar import _core
from samovar._calls import SLOT, loading_many, policy_of
from samovar._loaders import several
from samovar._many import OneById
from samovar._sources import below, check_limit, scan
from samovar._supervisor import Supervisor, Work
from samovar._tags import check_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import timedelta
    from types import EllipsisType
    from typing import Unpack

    from samovar._core import Adaptive, Stamp
    from samovar._many import ManyPolicyOptions
    from samovar._policy import PolicyOptions
    from samovar._source import Source
    from samovar._views import Entry
    from samovar._writing import GivenTime

    GivenTtl = float | timedelta | str | EllipsisType | None
    PolicyTtl = GivenTtl | Adaptive

T = TypeVar("T")


class SyncCache(_core.SyncCore):
    """The blocking face of a cache: the same entries, the same loads, no await.

    A call that has to wait for a load releases the interpreter. Get it from :attr:`Cache.sync`.
    """

    __slots__ = ("_sources", "_supervisor")

    _sources: dict[str, Source]
    _supervisor: Supervisor

    if TYPE_CHECKING:

        def get(self, key: str, default: Any = None, *, at_least: Stamp | None = None) -> Any:
            """As :meth:`Cache.get`."""
            raise AssertionError

    def peek(self, key: str) -> Entry | None:
        """As :meth:`Cache.peek`."""
        return self._peek(key)

    if TYPE_CHECKING:

        def set(self, key: str, value: object, ttl: GivenTtl = ..., tags: Iterable[str] = ()) -> Stamp | None:
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

    def invalidate(self, key: str) -> Stamp | None:
        """As :meth:`Cache.invalidate`."""
        self._delete(key)
        return None

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
        there = self._there(key, False)
        if there is not None:
            known: T = there[0]
            return known
        policy = policy_of(self, self._policy_of(key), ttl, options)
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

    def set_many(self, items: Mapping[str, object], ttl: GivenTtl = ...) -> Stamp | None:
        """As :meth:`Cache.set_many`."""
        self._set_many(items, ttl)
        return None

    def delete_many(self, keys: Iterable[str]) -> int:
        """As :meth:`Cache.delete_many`."""
        return self._delete_many(keys)

    def delete_match(self, pattern: str) -> int:
        """As :meth:`Cache.delete_match`."""
        return self._delete_match(pattern)

    def set_missing(self, key: str, ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_missing`."""
        self._set_missing((key,), ttl)

    def set_missing_many(self, keys: Iterable[str], ttl: GivenTtl = ...) -> None:
        """As :meth:`Cache.set_missing_many`."""
        self._set_missing(keys, ttl)

    def invalidate_tags(self, *tags: str) -> Stamp | None:
        """As :meth:`Cache.invalidate_tags`."""
        self._move(check_named(tags, "invalidate_tags"), False)
        return None

    def expire_tags(self, *tags: str) -> Stamp | None:
        """As :meth:`Cache.expire_tags`."""
        self._move(check_named(tags, "expire_tags"), True)
        return None

    def refresh_tags(self, *tags: str) -> Stamp | None:
        """As :meth:`Cache.refresh_tags`."""
        return self.expire_tags(*tags)

    def stamp(self) -> Stamp | None:
        """As :meth:`Cache.stamp`."""
        return None

    def clear(self) -> Stamp | None:
        """As :meth:`Cache.clear`."""
        self._clear()
        return None

    def keys(self) -> Iterator[str]:
        """As :meth:`Cache.keys`."""
        return (key for key, _ in scan(self))

    def items(self) -> Iterator[tuple[str, Any]]:
        """As :meth:`Cache.items`."""
        return scan(self)

    def flush(self, timeout: GivenTime = None) -> None:
        """As :meth:`Cache.flush`. Without an event loop it is this thread that writes."""
        check_limit(timeout)
        if sources := below(self._sources, self.path):
            from samovar._source import flush_now

            flush_now(sources, timeout)

    def close(self) -> None:
        """As :meth:`Cache.close`, but only what is pending is waited for: what works on event loops ends behind."""
        lost = None
        if sources := below(self._sources, self.path):
            from samovar._source import close
            from samovar._ways import BLOCKING, blocking

            lost = blocking(close(sources, BLOCKING))
        self._clear()
        if works := [*self._supervisor.below(self.path), *(Work(*load) for load in self._loads())]:
            from samovar._closing import end_behind

            end_behind(works)
        _core._let_sweeper_end()
        if lost is not None:
            raise lost
