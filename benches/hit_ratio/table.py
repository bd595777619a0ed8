"""The tables in markdown, and in a few lines what they come to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import reference
from .scores import OPT, OURS, mean

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .reference import Reference
    from .scores import Scores
    from .traces import Cell

DEFAULT = "adaptive"  # the policy that is measured against the rest


def unit(cells: list[Cell], scores: Scores, known: Reference) -> Iterator[str]:
    """Entries of one size: object hit ratios; beside ours the figure they should be equal to, and the difference."""
    columns = _columns(cells, scores)
    head = ["trace", "size", "entries"]
    for column in columns:
        head += [column, "ref", "Δ"] if column in reference.SAME else [column]
    yield _line(head)
    yield _line(["---", *["--:"] * (len(head) - 1)])
    for cell in cells:
        row = [cell.trace.name, f"{cell.share:g} %", str(cell.capacity)]
        best = _percent(max((scores.get(cell, name) or 0 for name in columns if name != OPT), default=None))
        for column in columns:
            figure = scores.get(cell, column)
            row.append(_bold(_percent(figure), column != OPT and _percent(figure) == best))
            row += _beside(figure, known.get(cell, reference.SAME[column])) if column in reference.SAME else []
        yield _line(row)
    yield _line(_means(cells, scores, known, columns))


def _means(cells: list[Cell], scores: Scores, known: Reference, columns: list[str]) -> list[str]:
    row = [f"**mean of {len(cells)}**", "", ""]
    for column in columns:
        figure = scores.mean(cells, column)
        row.append(_percent(figure, 2))
        if column in reference.SAME:
            found = [known.get(cell, reference.SAME[column]) for cell in cells]
            there = [value for value in found if value is not None]
            row += _beside(figure, mean(there) if None not in found else None, 2)
    return row


def sized(cells: list[Cell], scores: Scores, known: Reference) -> Iterator[str]:
    """Entries with sizes: object/byte hit ratio; the reference figures at the right."""
    columns = _columns(cells, scores)
    yield _line(["trace", "bytes cap", *columns, *(f"ref {name}" for name in reference.SIZED)])
    yield _line(["---", *["--:"] * (len(columns) + len(reference.SIZED) + 1)])
    for cell in cells:
        row = [cell.trace.name, f"{cell.share:g} %"]
        row += [_pair(scores.get(cell, column), scores.get_bytes(cell, column)) for column in columns]
        row += [_pair(*(known.sized(cell, name) or (None, None))) for name in reference.SIZED]
        yield _line(row)
    row = [f"**mean of {len(cells)}**", ""]
    row += [_pair(scores.mean(cells, column), scores.mean_bytes(cells, column), 2) for column in columns]
    for name in reference.SIZED:
        found = [known.sized(cell, name) for cell in cells]
        there = [pair for pair in found if pair is not None]
        whole = len(there) == len(cells)
        objects, by_bytes = (mean([pair[at] for pair in there]) if whole else None for at in (0, 1))
        row.append(_pair(objects, by_bytes, 2))
    yield _line(row)


def summary(cells: list[Cell], scores: Scores, known: Reference) -> Iterator[str]:
    """What the first table comes to."""
    for ours, theirs in reference.SAME.items():
        yield from _distances(
            f"`{ours}` to the reference's {theirs}",
            [
                (cell, abs(a - b))
                for cell in cells
                if (a := scores.get(cell, ours)) is not None and (b := known.get(cell, theirs)) is not None
            ],
        )
    default = {cell: figure for cell in cells if (figure := scores.get(cell, DEFAULT)) is not None}
    yield from _distances(
        f"`{DEFAULT}` behind the best of the reference's columns LRU to WTLFU climb",
        [(cell, best - figure) for cell, figure in default.items() if (best := known.best(cell)) is not None],
    )
    yield from _distances(
        f"`{DEFAULT}` behind `lru`",
        [(cell, lru - figure) for cell, figure in default.items() if (lru := scores.get(cell, "lru")) is not None],
    )
    peer = scores.best_peer(cells)
    if peer is None:
        return
    yield f"- best peer by mean: {peer}, {_percent(scores.mean(cells, peer), 2)}"
    yield from _distances(
        f"`{DEFAULT}` behind {peer}",
        [(cell, other - figure) for cell, figure in default.items() if (other := scores.get(cell, peer)) is not None],
    )


def _distances(what: str, found: list[tuple[Cell, float]]) -> Iterator[str]:
    """The mean and the worst of some distances in points. A lead is a negative distance."""
    if not found:
        return
    cell, worst = max(found, key=lambda pair: pair[1])
    signed = sum(distance for _, distance in found) / len(found)
    clipped = sum(max(0.0, distance) for _, distance in found) / len(found)
    place = f"{cell.trace.name} at {cell.share:g} %"
    leads = f" ({clipped:.2f} with every lead counted as 0)" if clipped - signed > 0.005 else ""
    yield f"- {what}: mean {signed:.2f} points{leads}, worst {worst:.2f} ({place}); {len(found)} cells"


def _columns(cells: list[Cell], scores: Scores) -> list[str]:
    """Those that have something to say here, ours first."""
    there = [name for name in scores.columns if any(scores.get(cell, name) is not None for cell in cells)]
    return [name for name in (OPT, *OURS) if name in there] + [name for name in there if name not in (OPT, *OURS)]


def _beside(figure: float | None, expected: float | None, digits: int = 1) -> list[str]:
    if figure is None or expected is None:
        return [_percent(expected, digits), "–"]
    difference = round(figure - expected, digits)
    return [_percent(expected, digits), f"{difference:+.{digits}f}" if difference else "0"]


def _percent(figure: float | None, digits: int = 1) -> str:
    return "–" if figure is None else f"{figure:.{digits}f}"


def _pair(objects: float | None, by_bytes: float | None, digits: int = 1) -> str:
    return "–" if objects is None else f"{_percent(objects, digits)}/{_percent(by_bytes, digits)}"


def _bold(text: str, best: bool) -> str:
    return f"**{text}**" if best else text


def _line(fields: list[str]) -> str:
    return f"| {' | '.join(fields)} |"
