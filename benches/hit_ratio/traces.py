"""The traces and the cells of the table: which trace is replayed with which bound.

A bound is a share of what a trace asks for in all: of its unique keys, or of their bytes where sizes count.
"""

from __future__ import annotations

import functools
import gzip
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
FOLDERS = (HERE / "data", HERE.parents[1] / "examples" / "data")
SHARES = (0.1, 1.0, 5.0, 10.0, 25.0)  # percent
FEWEST = 16  # entries of the smallest bound


class NotATraceError(Exception):
    """What is wrong with a file, and where."""


@dataclass(frozen=True)
class Trace:
    """What is known of a trace before it is replayed."""

    path: Path
    requests: int
    keys: int
    key_bytes: int  # of all unique keys
    request_bytes: int
    sized: bool

    @property
    def name(self) -> str:
        return self.path.name.removesuffix(".txt.gz")


@dataclass(frozen=True)
class Cell:
    """A trace with a bound: so many entries, or so many bytes."""

    trace: Trace
    share: float  # percent
    capacity: int
    sized: bool

    @property
    def kind(self) -> str:
        return "bytes" if self.sized else "unit"

    @property
    def entries(self) -> int:
        """How many entries of mean size that is."""
        return max(1, self.capacity * self.trace.keys // self.trace.key_bytes) if self.sized else self.capacity


@functools.lru_cache(maxsize=1)  # a process replays one trace after the other
def read(path: Path) -> tuple[list[int], list[int]]:
    """Keys in the order of the requests, and the size of each key."""
    keys: list[int] = []
    sizes: list[int] = []  # keys are numbered in order of first appearance
    with gzip.open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                key, *size = (int(field) for field in line.split())
            except ValueError:
                raise NotATraceError(f"{path}:{number}: {line!r} is not `key [size]`") from None
            if key > len(sizes):
                raise NotATraceError(f"{path}:{number}: key {key} comes before key {len(sizes)}")
            keys.append(key)
            if key == len(sizes):
                sizes.append(size[0] if size else 1)
    return keys, sizes


def look(path: Path) -> Trace:
    keys, sizes = read(path)
    asked = sum(sizes[key] for key in keys)
    return Trace(path, len(keys), len(sizes), sum(sizes), asked, any(size != 1 for size in sizes))


def find(folder: Path | None) -> list[Trace]:
    """Every trace of a folder, or those that come with the project, by name."""
    found = {path.name: path for place in ([folder] if folder else FOLDERS) for path in place.glob("*.txt.gz")}
    return [look(path) for _, path in sorted(found.items())]


def cells(traces: list[Trace]) -> list[Cell]:
    """All cells: entries of one size first, then the sized ones; the bounds of a trace together."""
    unit = [Cell(trace, share, round(trace.keys * share / 100), False) for trace in traces for share in SHARES]
    by_size = [
        Cell(trace, share, int(trace.key_bytes * share / 100), True)
        for trace in traces
        if trace.sized
        for share in SHARES
    ]
    return [cell for cell in unit if cell.capacity >= FEWEST] + by_size
