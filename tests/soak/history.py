"""What was changed and what was read, and which reads gave something too old. Pure: times are those that were noted.

All times are those of CLOCK_MONOTONIC, which processes of one machine have in common. Versions of a key only grow.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

#: Nothing older than this after the store has something newer: docs/bus.md.
BOUND = 2.0
#: What may pass between two steps of a process on a busy machine. Not given to the process that changed something.
MARGIN = 0.25


class Change(NamedTuple):
    """A change of the source, and the invalidation that followed it."""

    process: int
    how: str
    began: float
    #: When its caller went on.
    ended: float
    #: The versions that the keys have since.
    versions: dict[int, int]
    #: By then the store has it; infinite: never, as far as is known.
    there: float


class Read(NamedTuple):
    """A read, noted when it began."""

    began: float
    version: int
    key: int
    way: int


#: From when to when the store was out of reach of a process.
Outage = tuple[float, float]


@dataclass
class Violation:
    """A read of something older than it may be."""

    process: int
    read: Read
    change: Change
    due: float


@dataclass
class Verdict:
    """What comes of a history."""

    reads: int = 0
    #: Reads of another process that gave what had been changed already, within what is allowed.
    stale: int = 0
    #: Those of them since whose change the store was out of reach for a time.
    away: int = 0
    #: The longest time, in seconds, after which anything stale was read, of a store that could be reached.
    longest: float = 0.0
    #: The same of those since whose change the store was out of reach, counted from when it was back.
    longest_back: float = 0.0
    violations: list[Violation] = field(default_factory=list)


class Limit(NamedTuple):
    """Of a version of a key in a process: until when it may be read, and what ends that."""

    due: float
    change: Change
    #: Since when the store has had something newer.
    there: float


def due_of(change: Change, process: int, outages: Sequence[Outage]) -> float:
    """From when on a process must give nothing older. The process that made the change: as soon as its caller goes on.

    What is suspect is served while the store is out of reach, so the bound begins again when it is back.
    """
    if process == change.process:
        return change.ended
    due = change.there + BOUND
    for began, ended in sorted(outages):
        if began <= due:
            due = max(due, ended + BOUND)
    return due + MARGIN


def limits_of(changes: Iterable[Change], process: int, outages: Sequence[Outage]) -> dict[int, list[Limit | None]]:
    """By key and version the limit of what is older than any later one, if there is a later one."""
    by_key: dict[int, dict[int, Change]] = defaultdict(dict)
    for change in changes:
        for key, version in change.versions.items():
            by_key[key][version] = change
    limits: dict[int, list[Limit | None]] = {}
    for key, versions in by_key.items():
        newest = max(versions)
        found: list[Limit | None] = [None] * (newest + 1)
        for version in range(newest, 0, -1):
            later, change = found[version], versions.get(version)
            if change is None:
                found[version - 1] = later
                continue
            own = change.process == process
            limit = Limit(due_of(change, process, outages), change, change.ended if own else change.there)
            if later is not None:
                there = min(limit.there, later.there)
                limit = (limit if limit.due <= later.due else later)._replace(there=there)
            found[version - 1] = limit
        limits[key] = found
    return limits


def judge(
    verdict: Verdict, process: int, reads: Iterable[Read], changes: Iterable[Change], outages: Sequence[Outage]
) -> None:
    """Adds what is to be said of the reads of one process."""
    limits = limits_of(changes, process, outages)
    for read in reads:
        verdict.reads += 1
        found = limits.get(read.key, [])
        limit = found[read.version] if read.version < len(found) else None
        if limit is None or read.began <= limit.there:
            continue
        if read.began > limit.due:
            verdict.violations.append(Violation(process, read, limit.change, limit.due))
            continue
        if process == limit.change.process:
            continue
        verdict.stale += 1
        # What had begun when it was changed, or has since.
        back = max((ended for began, ended in outages if ended > limit.there and began < read.began), default=-inf)
        if back == -inf:
            verdict.longest = max(verdict.longest, read.began - limit.there)
        else:
            verdict.away += 1
            verdict.longest_back = max(verdict.longest_back, read.began - back)
