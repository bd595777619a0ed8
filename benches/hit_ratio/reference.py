"""The figures this project did not compute, from `data/reference.tsv` and `data/reference-sized.tsv`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .traces import HERE

if TYPE_CHECKING:
    from .traces import Cell

# The columns a user can have today; OPT is beyond reach, `dens` and Mini-D are prototypes.
REACHABLE = (
    "LRU",
    "FIFO",
    "LFU",
    "ARC",
    "LIRS",
    "2Q",
    "S3-FIFO",
    "SIEVE",
    "LHD",
    "Cacheus",
    "WTLFU 1%",
    "WTLFU climb",
)
# Ours, and the column it should be equal to.
SAME = {"lru": "LRU", "fifo": "FIFO", "s3fifo": "S3-FIFO"}
SIZED = ("LRU", "S3-FIFO", "GDSF", "WTLFU dens freq/byte")


class Reference:
    """Looks figures up by cell; a trace that is not in the tables has none."""

    def __init__(self) -> None:
        self._unit = _read("reference.tsv", ids=3)
        self._sized = _read("reference-sized.tsv", ids=2)

    def get(self, cell: Cell, column: str) -> float | None:
        """Percent of the requests."""
        found = self._unit.get((cell.trace.name, cell.share), {}).get(column)
        return None if found is None else float(found)

    def best(self, cell: Cell) -> float | None:
        """The best of what a user can have today."""
        found = [self.get(cell, column) for column in REACHABLE]
        return max((figure for figure in found if figure is not None), default=None)

    def sized(self, cell: Cell, column: str) -> tuple[float, float] | None:
        """Percent of the requests and percent of the bytes."""
        found = self._sized.get((cell.trace.name, cell.share), {}).get(column)
        if found is None:
            return None
        objects, _, by_bytes = found.partition("/")
        return float(objects), float(by_bytes)

    def knows(self, cell: Cell) -> bool:
        """Whether the tables have the cell."""
        return (cell.trace.name, cell.share) in (self._sized if cell.sized else self._unit)

    def knows_trace(self, cell: Cell) -> bool:
        """Whether the tables have the trace."""
        return any(name == cell.trace.name for name, _ in (self._sized if cell.sized else self._unit))


def _read(name: str, ids: int) -> dict[tuple[str, float], dict[str, str]]:
    first, *rest = (HERE / "data" / name).read_text(encoding="utf-8").splitlines()
    columns = first.split("\t")[ids:]
    lines = [line.split("\t") for line in rest]
    return {(line[0], float(line[1])): dict(zip(columns, line[ids:], strict=True)) for line in lines}
