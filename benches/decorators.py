"""What does a hit cost behind the decorators of others, async against an empty `async def`, sync against `lru_cache`?

Each keeps at most 1024 entries for five minutes and is asked for one. A peer that is not installed is left out by name.
"""

from __future__ import annotations

import asyncio
import datetime
import importlib.metadata
import sys
import time
from typing import Any

import hits
from samovar import Cache, Memory

ENTRIES = 1024
TTL = 300
# Seconds for one decorator: the slow ones get fewer rounds.
BUDGET = 0.6


def samovar(function: Any) -> Any:
    return Cache(name=function.__name__, memory=Memory(max_entries=ENTRIES)).cached(TTL)(function)


def aiocache(function: Any) -> Any:
    import aiocache

    return aiocache.cached(ttl=TTL)(function)


def async_lru(function: Any) -> Any:
    import async_lru

    return async_lru.alru_cache(maxsize=ENTRIES, ttl=TTL)(function)


def cachebox(function: Any) -> Any:
    import cachebox

    return cachebox.cached(cachebox.TTLCache(ENTRIES, TTL))(function)


def cachetools(function: Any) -> Any:
    import cachetools

    return cachetools.cached(cachetools.TTLCache(ENTRIES, TTL))(function)


def cashews(function: Any) -> Any:
    import cashews

    cache = cashews.Cache()
    cache.setup("mem://", size=ENTRIES)
    return cache(ttl=TTL)(function)


def moka_py(function: Any) -> Any:
    import moka_py

    return moka_py.cached(maxsize=ENTRIES, ttl=TTL)(function)


def theine(function: Any) -> Any:
    import theine

    return theine.Memoize(ENTRIES, datetime.timedelta(seconds=TTL))(function)


# Package, decorator, and whether it takes functions that are async and such that are not.
DECORATORS = (
    ("samovar", samovar, True, True),
    ("moka-py", moka_py, True, True),
    ("cachebox", cachebox, True, True),
    ("async-lru", async_lru, True, False),
    ("theine", theine, True, True),
    ("aiocache", aiocache, True, False),
    ("cashews", cashews, True, False),
    ("cachetools", cachetools, False, True),
)


async def awaits(function: Any) -> float:
    """CPU seconds of that many hits."""
    began = time.thread_time()
    for _ in range(hits.CALLS):
        await function(1)
    return time.thread_time() - began


def calls(function: Any) -> float:
    began = time.thread_time()
    for _ in range(hits.CALLS):
        function(1)
    return time.thread_time() - began


def enough(rounds: list[float], until: float) -> bool:
    return len(rounds) >= 5 and (len(rounds) >= hits.ROUNDS or time.monotonic() > until)


async def awaited(decorate: Any) -> tuple[float, float, float]:
    """In a running loop, which some of them need for a hit."""
    loads = []

    async def function(x: int) -> int:
        loads.append(x)
        return x

    cached = decorate(function)
    await cached(1)
    rounds: list[float] = []
    until = time.monotonic() + BUDGET
    while not enough(rounds, until):
        floor = await awaits(hits.empty)
        rounds.append(await awaits(cached) / floor)
    assert loads == [1], "not a hit"
    return hits.spread(rounds)


def called(decorate: Any) -> tuple[float, float, float]:
    loads = []

    def function(x: int) -> int:
        loads.append(x)
        return x

    cached = decorate(function)
    cached(1)
    hits.lru_one(1)
    rounds: list[float] = []
    until = time.monotonic() + BUDGET
    while not enough(rounds, until):
        floor = calls(hits.lru_one)
        rounds.append(calls(cached) / floor)
    assert loads == [1], "not a hit"
    return hits.spread(rounds)


def rows() -> list[tuple[str, tuple[float, float, float] | None, tuple[float, float, float] | None]]:
    """Package with version, and the ratios of `await f(1)` and `f(1)`; None where its decorator is not for that."""
    found = []
    for package, decorate, is_async, is_sync in DECORATORS:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            print(f"{package} is not installed: left out", file=sys.stderr)
            continue
        ours = asyncio.run(awaited(decorate)) if is_async else None
        found.append((f"{package} {version}", ours, called(decorate) if is_sync else None))
    return found
