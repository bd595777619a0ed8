"""What does a hit cost? Ratios to a floor in the same run: an empty `async def`, `functools.lru_cache`, `dict.get`.

Each ratio is the median of paired rounds, the two cases in turn; the spread is the middle half of the rounds.
"""

from __future__ import annotations

import asyncio
import functools
import random
import statistics
import time
from typing import TYPE_CHECKING, Any

from samovar import Cache, Memory, cached

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

CALLS = 2000
ROUNDS = 60


def timed(run: Callable[[], object]) -> float:
    """CPU seconds of this thread."""
    began = time.thread_time()
    run()
    return time.thread_time() - began


def ratio(case: Callable[[], object], floor: Callable[[], object]) -> tuple[float, float, float]:
    """The median of case ÷ floor, and the middle half."""
    rounds = []
    for _ in range(ROUNDS):
        below = timed(floor)
        rounds.append(timed(case) / below)
    return spread(rounds)


def spread(rounds: list[float]) -> tuple[float, float, float]:
    """The median, and the middle half."""
    low, middle, high = statistics.quantiles(rounds, n=4)
    return middle, low, high


def driven(loop: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    """Runs a coroutine that never suspends, without an event loop."""

    def run() -> None:
        try:
            loop().send(None)
        except StopIteration:
            return
        raise AssertionError("a hit must not suspend")

    return run


@cached("5m")
async def one(x: int) -> int:
    return x


@cached("5m")
async def keyword(a: str, x: int = 1) -> int:
    return x


@cached("5m")
async def table(x: int) -> dict[str, int]:
    return {str(n): n for n in range(10)}


class Holder:
    @cached("5m")
    async def method(self, x: int) -> int:
        return x


async def empty(x: int) -> int:
    return x


@cached("5m")
def sync_one(x: int) -> int:
    return x


@cached("5m")
def sync_keyword(a: str, x: int = 1) -> int:
    return x


@functools.lru_cache(1024)
def lru_one(x: int) -> int:
    return x


@functools.lru_cache(1024)
def lru_keyword(a: str, x: int = 1) -> int:
    return x


cache = Cache(name="bench")
holder = Holder()


async def fill() -> None:
    await asyncio.gather(one(1), keyword("a", x=2), table(1), holder.method(1))
    for n in range(1000):
        await cache.set(f"key{n}", n, 300)


async def loop_empty() -> None:
    for _ in range(CALLS):
        await empty(1)


async def loop_one() -> None:
    for _ in range(CALLS):
        await one(1)


async def loop_keyword() -> None:
    for _ in range(CALLS):
        await keyword("a", x=2)


async def loop_method() -> None:
    for _ in range(CALLS):
        await holder.method(1)


async def loop_get() -> None:
    for _ in range(CALLS):
        await cache.get("key1")


async def loop_table() -> None:
    for _ in range(CALLS):
        await table(1)


def sync_loop(function: Callable[..., object], *args: object, **kwargs: object) -> Callable[[], None]:
    """A loop over one call, spelled as users spell it."""
    if kwargs:

        def run() -> None:
            for _ in range(CALLS):
                function("a", x=2)
    else:

        def run() -> None:
            for _ in range(CALLS):
                function(1)

    return run


def get_loop(get: Callable[[str], object], keys: list[str]) -> Callable[[], None]:
    def run() -> None:
        for key in keys:
            get(key)

    return run


def gets(
    entries: int, eviction: str = "adaptive", ttl: int | None = 300
) -> tuple[Callable[[], None], Callable[[], None]]:
    """`cache.sync.get` against `dict.get`, the same keys in the same random order."""
    big = Cache(name=f"bench {entries} {eviction} {ttl}", memory=Memory(max_entries=entries, eviction=eviction))
    keys = [f"key{n}" for n in range(entries)]
    plain = dict.fromkeys(keys, 1)
    for key in keys:
        big.sync.set(key, 1, ttl)
    order = random.Random(1).choices(keys, k=20_000)
    return get_loop(big.sync.get, order), get_loop(plain.get, order)


def rows() -> list[tuple[str, str, tuple[float, float, float]]]:
    """Question, floor, and ratio."""
    asyncio.run(fill())
    for function in (sync_one, lru_one):
        function(1)
    for function in (sync_keyword, lru_keyword):
        function("a", x=2)
    floor = driven(loop_empty)
    awaited: list[tuple[str, Callable[[], Coroutine[Any, Any, None]]]] = [
        ("await f(1)", loop_one),
        ('await f("a", x=2)', loop_keyword),
        ("await obj.method(1)", loop_method),
        ("await cache.get(key)", loop_get),
        ("await f(1), a 10-key dict, copied", loop_table),
    ]
    found = [(name, "await of an empty async def", ratio(driven(loop), floor)) for name, loop in awaited]
    found.append(("f(1), not async", "lru_cache", ratio(sync_loop(sync_one), sync_loop(lru_one))))
    with_keyword = ratio(sync_loop(sync_keyword, "a", x=2), sync_loop(lru_keyword, "a", x=2))
    found.append(('f("a", x=2), not async', "lru_cache", with_keyword))
    found.extend((f"cache.sync.get, {n} entries", "dict.get", ratio(*gets(n))) for n in (1_000, 100_000))
    bare = ratio(*gets(1_000, "fifo", None))
    found.append(('the same without ttl, "fifo": no clock, no order', "dict.get", bare))
    return found
