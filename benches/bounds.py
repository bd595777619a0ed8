"""What do a million entries cost, how fast do they go when their time is over, and what does a stampede cost?"""

from __future__ import annotations

import asyncio
import time

from samovar import Cache, Memory, cached


def bytes_per_entry(entries: int = 1_000_000) -> float:
    """Bytes of slots, records and index per entry with a ttl, beyond key and value."""
    cache = Cache(name="bytes", memory=Memory(max_entries=entries))
    for n in range(entries):
        cache.sync.set(f"key{n}", None, 300)
    return float(cache._inspect()["bytes"]) / entries


def seconds_to_free(entries: int = 1_000_000, busy: bool = False) -> float:
    """From the expiry of all entries until 99 % are gone, nobody touching them."""
    cache = Cache(name="expiry", memory=Memory(max_entries=entries))
    life = 4.0
    began = time.monotonic()
    for n in range(entries):
        cache.sync.set(f"key{n}", n, max(0.001, began + life - time.monotonic()))
    until = began + max(life, time.monotonic() - began)
    while cache._inspect()["entries"] > entries // 100:
        if busy:
            sum(range(10_000))
        else:
            time.sleep(0.01)
    return max(0.0, time.monotonic() - until)


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
