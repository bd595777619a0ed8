"""What does a budget for background refreshes buy? Old answers and waits against loader calls, in simulated time.

Reads of 500 keys by Zipf's law, 50 a second in Poisson's manner, for half an hour after ten minutes to warm up. A value
is fresh for a minute and answers for another while it is loaded anew; a load takes 200 ms. All rows have the same
reads.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from typing import TYPE_CHECKING, NamedTuple

from samovar import Cache, Policy, RefresherStats
from samovar.testing import CacheClock, frozen_clock

if TYPE_CHECKING:
    from collections.abc import Iterator

KEYS = 500
READS_A_SECOND = 50.0
LOAD = 0.2
WARM, MEASURED = 600.0, 1_800.0
BUDGETS = (None, 0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 10.0)


class Counted(NamedTuple):
    """Counters at a moment, or what was added to them."""

    hits: int
    stale: int
    misses: int
    loads: int
    refreshed: int
    saved: int
    put_off: int


class World:
    """A cached function whose loads end when their time has come, its readers, and its refresher, if there is one."""

    def __init__(self, clock: CacheClock, budget: float | None) -> None:
        self.clock = clock
        self.cache = Cache(policy=Policy(ttl=60, stale_while_revalidate=60, jitter=0))
        self.read = self.cache.cached(self.load)
        self.refresher = None if budget is None else self.cache.refresher(top=KEYS, rate=budget)
        self.loads = 0
        self.loading: list[tuple[float, int, asyncio.Future[None]]] = []
        self.reading: set[asyncio.Task[int]] = set()

    async def load(self, key: int) -> int:
        self.loads += 1
        future = asyncio.get_running_loop().create_future()
        heapq.heappush(self.loading, (self.clock.time() + LOAD, self.loads, future))
        await future
        return key

    async def until(self, moment: float) -> None:
        """Time passes, and loads end on the way."""
        while self.loading and self.loading[0][0] <= moment:
            ends, _, future = heapq.heappop(self.loading)
            await self.pass_to(ends)
            future.set_result(None)
        await self.pass_to(moment)

    async def pass_to(self, moment: float) -> None:
        self.clock.advance(max(0.0, moment - self.clock.time()))
        for _ in range(4):
            await asyncio.sleep(0)

    def begin_to_read(self, key: int) -> None:
        async def answered() -> int:
            return await self.read(key)

        task = asyncio.create_task(answered())
        self.reading.add(task)
        task.add_done_callback(self.reading.discard)

    def counted(self) -> Counted:
        own, behind = self.read.stats(), self.refresher.stats() if self.refresher else RefresherStats()
        spent = behind.refreshed, behind.saved, behind.put_off
        return Counted(own.hits, own.stale_hits, own.misses, self.loads, *spent)


def reads(seed: int) -> Iterator[tuple[float, int]]:
    """Moments in seconds, and keys."""
    dice = random.Random(seed)
    weights = list(itertools.accumulate(1 / rank for rank in range(1, KEYS + 1)))
    moment = 0.0
    while moment < WARM + MEASURED:
        moment += dice.expovariate(READS_A_SECOND)
        yield moment, dice.choices(range(KEYS), cum_weights=weights)[0]


async def simulate(clock: CacheClock, budget: float | None) -> Counted:
    """What was counted in the measured time."""
    world, start, warm = World(clock, budget), clock.time(), None
    async with world.cache:
        for moment, key in reads(seed=1):
            await world.until(start + moment)
            if warm is None and moment >= WARM:
                warm = world.counted()
            world.begin_to_read(key)
        end = world.counted()
        await world.until(clock.time() + LOAD)
    return Counted(*(after - before for before, after in zip(warm or end, end, strict=True)))


def main() -> None:
    columns = "budget, loads a second", "old answers", "had to wait", "loads a minute", "of these ahead", "read"
    print("|", " | ".join((*columns, "put off a minute")), "|")
    print("|--:|--:|--:|--:|--:|--:|--:|")
    for budget in BUDGETS:
        with frozen_clock() as clock:
            counted = asyncio.run(simulate(clock, budget))
        lookups, minutes = counted.hits + counted.stale + counted.misses, MEASURED / 60
        cells = [f"{budget or 'none'}", f"{counted.stale / lookups:.2%}", f"{counted.misses / lookups:.1%}"]
        cells.append(f"{counted.loads / minutes:.0f}")
        ahead = f"{counted.refreshed / minutes:.0f}", f"{counted.saved / max(1, counted.refreshed):.0%}"
        cells += [*ahead, f"{counted.put_off / minutes:.0f}"] if budget else ["–"] * 3
        print("|", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
