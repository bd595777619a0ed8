"""The drill itself: steady callers who ask for known keys, of something whose health follows a script.

Every contestant gets the same script, the same rate and the same keys, one after the other, on a loop of its own. What
follows the script here is an origin; benches/redis has a server that freezes.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Load = Callable[[int], Awaitable[int]]

#: Phases, and how many seconds each lasts.
Script = tuple[tuple[str, float], ...]

#: What the origin does.
SCRIPT: Script = (("up", 2.0), ("slow", 2.0), ("failing", 3.0), ("hanging", 3.0), ("up again", 2.0))
RATE = 400  # callers a second
KEYS = 50
PATIENCE = 1.0  # a caller gives up after so many seconds
TTL = 0.5
USUAL, SLOW = 0.01, 0.8  # seconds that the origin takes


class OriginDownError(Exception):
    """What the origin raises while it fails."""


@dataclass
class Origin:
    """Loads a key, as healthy as it is told to be; counts its calls by phase."""

    phase: str = "up"
    calls: dict[str, int] = field(default_factory=dict)

    async def load(self, key: int) -> int:
        """The value of a key, or what the phase has in store."""
        self.calls[self.phase] = self.calls.get(self.phase, 0) + 1
        if self.phase == "hanging":
            await asyncio.sleep(3600)
        await asyncio.sleep(SLOW if self.phase == "slow" else USUAL)
        if self.phase == "failing":
            raise OriginDownError
        return key


@dataclass
class Asked:
    """One caller: when it came, in which phase, how long it took, and whether it was answered."""

    at: float
    phase: str
    seconds: float
    answered: bool


@dataclass
class Outcome:
    """A contestant's drill."""

    name: str
    asked: list[Asked]
    calls: dict[str, int]

    def answered(self, phase: str) -> float:
        """The share of callers who got a value, 0 to 1."""
        return statistics.fmean(one.answered for one in self.asked if one.phase == phase)

    def p99(self, phase: str) -> float:
        """Seconds that 99 % of the callers took at most."""
        return statistics.quantiles([one.seconds for one in self.asked if one.phase == phase], n=100)[98]


async def drill(name: str, make: Callable[[Load], Load], tick: Callable[[], None]) -> Outcome:
    """Run the script against one contestant; `tick` is told of the end of each phase."""
    origin = Origin()
    load = make(origin.load)
    await asyncio.gather(*(load(key) for key in range(KEYS)))
    origin.calls.clear()

    def enter(phase: str) -> None:
        origin.phase = phase

    return Outcome(name, await ask(load, SCRIPT, enter, tick), origin.calls)


async def ask(
    load: Load, script: Script, enter: Callable[[str], None], tick: Callable[[], None] = lambda: None
) -> list[Asked]:
    """What became of callers at a steady rate through all phases of a script, each of which begins with `enter`."""
    asked: list[Asked] = []
    draws, start = random.Random(7), time.monotonic()
    callers: set[asyncio.Task[None]] = set()

    async def caller(key: int, phase: str) -> None:
        began = time.monotonic()
        answered = False
        try:
            async with asyncio.timeout(PATIENCE):
                answered = await load(key) == key
        except (Exception, asyncio.CancelledError):  # whatever a contestant raises: the caller went away empty-handed
            answered = False
        asked.append(Asked(began - start, phase, time.monotonic() - began, answered))

    ends = start
    for phase, seconds in script:
        enter(phase)
        ends += seconds
        while time.monotonic() < ends:
            due = int((time.monotonic() - start) * RATE)
            while len(asked) + len(callers) < due:
                # Few keys are asked for often, many seldom.
                key = min(int(draws.paretovariate(1.0)) - 1, KEYS - 1)
                task = asyncio.ensure_future(caller(key, phase))
                callers.add(task)
                task.add_done_callback(callers.discard)
            await asyncio.sleep(0.0025)
        tick()
    # Who cannot even be cancelled goes away empty-handed too.
    _, stuck = await asyncio.wait(callers, timeout=2 * PATIENCE) if callers else (set(), set())
    asked.extend(Asked(ends - start, script[-1][0], PATIENCE, False) for _ in stuck)
    return asked
