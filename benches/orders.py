"""What does the default order of eviction cost beside plain LRU? Ratios of the same calls on two caches in one run."""

from __future__ import annotations

import itertools
import random
from typing import TYPE_CHECKING

import hits
from samovar import Cache, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

SIZES = (500, 10_000, 1_000_000)
Ratio = tuple[float, float, float]


def filled(entries: int, eviction: str) -> Cache:
    """A full cache."""
    cache = Cache(name=f"{eviction} {entries}", memory=Memory(entries, max_bytes=None, eviction=eviction))
    for n in range(entries):
        cache.sync.set(f"key{n}", n, 300)
    return cache


def gets(cache: Cache, order: list[str]) -> Callable[[], None]:
    """Hits, in this order."""
    get = cache.sync.get

    def run() -> None:
        for key in order:
            get(key)

    return run


def sets(cache: Cache) -> Callable[[], None]:
    """New keys for ever: every set evicts."""
    store, numbers = cache.sync.set, itertools.count()

    def run() -> None:
        for _ in range(hits.CALLS):
            store(f"new{next(numbers)}", 1, 300)

    return run


def rows() -> list[tuple[str, str, Ratio]]:
    """Question, floor, and ratio."""
    found: list[tuple[str, str, Ratio]] = []
    for entries in SIZES:
        adaptive, lru = filled(entries, "adaptive"), filled(entries, "lru")
        order = random.Random(1).choices([f"key{n}" for n in range(entries)], k=20_000)
        found.append((f"hit, adaptive, {entries} entries", "lru", hits.ratio(gets(adaptive, order), gets(lru, order))))
        found.append((f"set with eviction, adaptive, {entries} entries", "lru", hits.ratio(sets(adaptive), sets(lru))))
    return found
