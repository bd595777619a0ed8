"""What is promised of a call to Redis, as bounds on ratios in one run, and whether they are kept."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .contenders import BARE, FACE, FLOOR
from .scenarios import ALONE, BATCH, BATCH_LARGE, CROWD, CROWD_LARGE, Scenario

if TYPE_CHECKING:
    from .frozen import Outage
    from .scenarios import Burst, Figures, Found

#: The names of what is measured.
CPU, P50, RATE, SERVER = "client CPU", "p50", "throughput", "server CPU"


def figure(figures: Figures, what: str) -> float:
    """One of its figures."""
    return {CPU: figures.cpu, P50: figures.p50, RATE: figures.rate, SERVER: figures.server}[what]


Ratio = tuple[float, float, float]


def ratio(found: Found, scenario: Scenario, what: str, one: str, other: str) -> Ratio | None:
    """Median, lowest and highest of the rounds' ratios; None if one of the two took no part."""
    rounds = found.figures[scenario.name]
    if one not in rounds or other not in rounds:
        return None
    made = [figure(a, what) / figure(b, what) for a, b in zip(rounds[one], rounds[other], strict=True)]
    return statistics.median(made), min(made), max(made)


@dataclass(frozen=True)
class Promise:
    """So much of what `whose` spends at most, over what another does."""

    scenario: Scenario
    what: str
    whose: str
    against: str
    bound: float


PROMISES = (
    Promise(CROWD, CPU, FACE, "redis-py", 1 / 20),
    Promise(CROWD, CPU, FACE, "cashews", 1 / 20),
    Promise(CROWD, CPU, FACE, "valkey-glide", 1 / 8),
    Promise(CROWD, SERVER, FACE, "redis-py", 1 / 8),
    Promise(ALONE, P50, FACE, "redis-py", 0.5),
    Promise(ALONE, P50, FACE, "valkey-glide", 0.6),
    Promise(BATCH, CPU, FACE, "redis-py", 1 / 2),
    Promise(BATCH, CPU, FACE, "coredis", 1 / 4),
    Promise(BATCH, CPU, FACE, "cashews", 1 / 4),
    Promise(CROWD, CPU, FACE, FLOOR, 1.5),
    Promise(BATCH, CPU, FACE, FLOOR, 3),
    Promise(CROWD, CPU, BARE, FLOOR, 1.1),
    Promise(ALONE, P50, BARE, FLOOR, 1),
    Promise(BATCH, CPU, BARE, FLOOR, 2),
    Promise(CROWD_LARGE, CPU, BARE, FLOOR, 2),
    Promise(BATCH_LARGE, CPU, BARE, FLOOR, 2),
)

#: A frozen server may cost a process so many seconds of waiting in all, and so many until it is known to be back.
FROZEN_WAIT, BACK_WITHIN = 0.25, 1.0
#: What a busy machine adds to the end of a wait: a caller's turn comes when the loop has one.
TURN = 0.02


def burst_kept(burst: Burst) -> bool:
    """No error, and no connection for it."""
    return burst.errors == 0 and burst.connections == 0


def outage_kept(outage: Outage) -> bool:
    """One time-out, later calls no dearer than a miss, and back in time."""
    back = outage.all_back is not None and outage.all_back <= BACK_WITHIN
    return outage.waited <= FROZEN_WAIT + TURN and outage.later <= outage.miss and back
