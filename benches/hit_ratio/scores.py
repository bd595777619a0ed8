"""Counts of hits as they come in, and what they mean: the mean of the runs of a column over a cell, in percent."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .traces import Cell

OPT = "OPT"
OURS = ("lru", "lfu", "fifo", "s3fifo", "tinylfu", "adaptive")


@dataclass(frozen=True)
class Run:
    """One replay of one column over one cell; no hits means that the column has nothing to say there."""

    cell: Cell
    column: str
    hits: int | None
    hit_bytes: int = 0


@dataclass
class Scores:
    """All runs, by cell and column."""

    hits: dict[tuple[Cell, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    bytes: dict[tuple[Cell, str], list[float]] = field(default_factory=lambda: defaultdict(list))
    columns: list[str] = field(default_factory=list)

    def add(self, run: Run) -> None:
        if run.hits is None:
            return
        place = (run.cell, run.column)
        self.hits[place].append(100 * run.hits / run.cell.trace.requests)
        self.bytes[place].append(100 * run.hit_bytes / run.cell.trace.request_bytes)
        if run.column not in self.columns:
            self.columns.append(run.column)

    def get(self, cell: Cell, column: str) -> float | None:
        """The object hit ratio in percent."""
        return mean(self.hits.get((cell, column), []))

    def get_bytes(self, cell: Cell, column: str) -> float | None:
        """The byte hit ratio in percent."""
        return mean(self.bytes.get((cell, column), []))

    def mean(self, cells: list[Cell], column: str) -> float | None:
        """Over all cells, or nothing if one is missing."""
        found = [self.get(cell, column) for cell in cells]
        return mean([figure for figure in found if figure is not None]) if None not in found else None

    def mean_bytes(self, cells: list[Cell], column: str) -> float | None:
        found = [self.get_bytes(cell, column) for cell in cells]
        return mean([figure for figure in found if figure is not None]) if None not in found else None

    def best_peer(self, cells: list[Cell]) -> str | None:
        """The peer with the highest mean."""
        means = {name: self.mean(cells, name) for name in self.columns if name not in (OPT, *OURS)}
        known = {name: figure for name, figure in means.items() if figure is not None}
        return max(known, key=known.__getitem__) if known else None


def mean(figures: list[float]) -> float | None:
    return sum(figures) / len(figures) if figures else None
