"""What do a million entries cost, how fast do they go when their time is over, and what does a stampede cost?"""

from __future__ import annotations

import asyncio
import os
import time
import warnings
from typing import TYPE_CHECKING

from samovar import Cache, Memory, cached

if TYPE_CHECKING:
    from collections.abc import Callable


def bytes_per_entry(entries: int = 1_000_000) -> float:
    """Bytes of slots, records and index per entry with a ttl, beyond key and value."""
    cache = Cache(name="bytes", memory=Memory(max_entries=entries))
    for n in range(entries):
        cache.sync.set(f"key{n}", None, 300)
    return float(cache._inspect()["bytes"]) / entries


def seconds_to_free(entries: int = 1_000_000, busy: bool = False, forked: bool = False) -> float:
    """From the expiry of all entries until 99 % are gone, untouched; `forked`: in a child forked before that."""
    cache = Cache(name="expiry", memory=Memory(max_entries=entries))
    life = 4.0
    until = time.monotonic() + life
    for n in range(entries):
        cache.sync.set(f"key{n}", n, max(0.001, until - time.monotonic()))
    if forked:
        return in_child(lambda: seconds_until_gone(cache, entries, max(until, time.monotonic()), busy))
    return seconds_until_gone(cache, entries, max(until, time.monotonic()), busy)


def seconds_until_gone(cache: Cache, entries: int, until: float, busy: bool) -> float:
    while cache.stats().entries > entries // 100:
        if time.monotonic() > until + 60:
            return float("inf")
        if busy:
            sum(range(10_000))
        else:
            time.sleep(0.01)
    return max(0.0, time.monotonic() - until)


def in_child(measure: Callable[[], float]) -> float:
    """The same, measured in a forked child, while the parent only waits."""
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        # From 3.12 on Python warns of any thread there is; the sweeper is one, and a fork is what is measured.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        try:
            os.write(writer, repr(measure()).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="ascii") as told:
        seconds = float(told.read() or "nan")
    os.waitpid(child, 0)
    return seconds


def stampede(waiters: int = 1000, rounds: int = 5) -> list[float]:
    """CPU of that many awaits of a cold key ÷ that many tasks awaiting one future."""

    @cached
    async def load(n: int) -> int:
        await asyncio.sleep(0.01)
        return n

    async def ours(n: int) -> float:
        began = time.thread_time()
        await asyncio.gather(*(load(n) for _ in range(waiters)))
        return time.thread_time() - began

    async def floor() -> float:
        began = time.thread_time()
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def wait() -> int:
            return await future

        asyncio.get_running_loop().call_later(0.01, future.set_result, 1)
        await asyncio.gather(*(wait() for _ in range(waiters)))
        return time.thread_time() - began

    async def run() -> list[float]:
        await floor()
        return [await ours(n) / await floor() for n in range(rounds)]

    return sorted(asyncio.run(run()))
