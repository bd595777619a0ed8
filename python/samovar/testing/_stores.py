"""Stores for tests: one in a dict, and one that goes wrong as it is told to."""

from __future__ import annotations

import os
import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from samovar import _core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from samovar._store import Store

_T = TypeVar("_T")


class DictStore:
    """A store in a dict of this process: the smallest that does everything, `swap` included.

    Several caches may share one, as processes share a server. Its ttls go by the clock of the caches, which the fixture
    `cache_clock` moves.

    Args:
        swap: False: without ``swap``, as stores are that cannot compare.
    """

    def __init__(self, *, swap: bool = True) -> None:
        self.data: dict[str, tuple[bytes, float | None]] = {}
        self._locks: dict[int, threading.Lock] = {}
        self.swap: Callable[[str, bytes | None, bytes, float | None], Awaitable[bytes | None]] | None
        self.swap = self._swap if swap else None

    @property
    def _lock(self) -> threading.Lock:
        # A process of its own each: what another thread holds at a fork is held for ever in the child.
        return self._locks.setdefault(os.getpid(), threading.Lock())

    def _get(self, key: str) -> bytes | None:
        data, end = self.data.get(key, (None, None))
        return data if end is None or _core._clock_time() < end else None

    def _set(self, key: str, data: bytes, ttl: float | None) -> None:
        self.data[key] = (data, None if ttl is None else _core._clock_time() + ttl)

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """What is there of these."""
        return {key: data for key in keys if (data := self._get(key)) is not None}

    async def set_many(self, items: Mapping[str, tuple[bytes, float | None]]) -> None:
        """Keep these, (data, seconds or None) by key."""
        with self._lock:
            for key, (data, ttl) in items.items():
                self._set(key, data, ttl)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """Forget these."""
        with self._lock:
            for key in keys:
                self.data.pop(key, None)

    async def _swap(self, key: str, expected: bytes | None, data: bytes, ttl: float | None) -> bytes | None:
        """Set it if *expected* is there: None if so, else what is there."""
        with self._lock:
            if (there := self._get(key)) != expected:
                return there or b""
            self._set(key, data, ttl)
        return None

    async def scan(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin so."""
        for key in [key for key in list(self.data) if key.startswith(prefix)]:
            if self._get(key) is not None:
                yield key

    async def close(self) -> None:
        """Forget everything."""
        self.data.clear()


class FaultyStore:
    """Another store, with faults: it fails, loses answers, is slow, or is down until it is told otherwise.

    Give it to what is tested in the other's place. Dice are thrown in the order of the calls, so a seed gives the same
    faults again as long as the calls come in the same order.

    Args:
        inner: The store that does the work.
        seed: Of the dice.
        errors: How often, from 0 to 1, a call raises ConnectionError and has done nothing.
        lost: How often a call is done and raises ConnectionError all the same: its answer is lost.
        delay: Seconds before each call is done.
        down: Every call raises ConnectionError. May be set at any time: ``store.down = True``.

    Attributes:
        counts: How many calls there were by method, and ``errors``, ``lost``, ``down``: how many ended so.
    """

    def __init__(
        self,
        inner: Store,
        *,
        seed: int = 0,
        errors: float = 0.0,
        lost: float = 0.0,
        delay: float = 0.0,
        down: bool = False,
    ) -> None:
        for option, chance in (("errors", errors), ("lost", lost)):
            if not 0 <= chance <= 1:
                raise _refused(option, chance, "give a probability, from 0 to 1")
        if not 0 <= delay < float("inf"):
            raise _refused("delay", delay, "give seconds, 0 for none")
        self.inner = inner
        self.errors, self.lost, self.delay, self.down = errors, lost, delay, down
        self.counts: Counter[str] = Counter()
        self._dice = random.Random(seed)
        self.swap: Callable[[str, bytes | None, bytes, float | None], Awaitable[bytes | None]] | None
        self._inner_swap: Callable[..., Awaitable[bytes | None]] | None = getattr(inner, "swap", None)
        self.swap = self._swap if self._inner_swap is not None else None

    def __repr__(self) -> str:
        return f"FaultyStore({self.inner!r})"

    async def get_many(self, keys: Sequence[str]) -> dict[str, bytes]:
        """As the other, or a fault."""
        return await self._do("get_many", self.inner.get_many, keys)

    async def set_many(self, items: Mapping[str, tuple[bytes, float | None]]) -> None:
        """As the other, or a fault."""
        await self._do("set_many", self.inner.set_many, items)

    async def delete_many(self, keys: Sequence[str]) -> None:
        """As the other, or a fault."""
        await self._do("delete_many", self.inner.delete_many, keys)

    async def _swap(self, key: str, expected: bytes | None, data: bytes, ttl: float | None) -> bytes | None:
        """As the other, or a fault."""
        assert self._inner_swap is not None
        return await self._do("swap", self._inner_swap, key, expected, data, ttl)

    async def scan(self, prefix: str) -> AsyncIterator[str]:
        """As the other, with a fault before the first key."""
        is_lost = await self._begin("scan")
        async for key in self.inner.scan(prefix):
            yield key
        self._end(is_lost)

    async def close(self) -> None:
        """Close the other; never a fault."""
        await self.inner.close()

    async def _do(self, name: str, call: Callable[..., Awaitable[_T]], *given: object) -> _T:
        is_lost = await self._begin(name)
        done = await call(*given)
        self._end(is_lost)
        return done

    async def _begin(self, name: str) -> bool:
        """Fails, or tells whether the answer will be lost."""
        self.counts[name] += 1
        # Thrown always, so that what is switched on later finds the same dice.
        fails, is_lost = self._dice.random() < self.errors, self._dice.random() < self.lost
        if self.delay:
            import asyncio

            await asyncio.sleep(self.delay)
        if self.down:
            self._fail("down", "the store is down")
        if fails:
            self._fail("errors", "the store failed")
        return is_lost

    def _end(self, is_lost: bool) -> None:
        if is_lost:
            self._fail("lost", "the store's answer was lost")

    def _fail(self, count: str, text: str) -> None:
        self.counts[count] += 1
        raise ConnectionError(text)


def _refused(option: str, value: object, cure: str) -> Exception:
    from samovar import ConfigError

    return ConfigError(f"invalid {option}: {value!r}; {cure}")
