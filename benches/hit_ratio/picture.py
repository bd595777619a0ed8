"""Hit ratio over cache size as an SVG, written by hand: a small picture for each trace, the same five lines in all.

One file without scripts or fonts of its own; it follows a reader's dark mode where the viewer does.
"""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from .scores import OPT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .scores import Scores
    from .traces import Cell

ACROSS = 4  # pictures in a row
WIDE, HIGH = 280, 210  # a picture with its margins
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 30, 34  # of a picture
HEAD, EDGE = 106, 14  # above all pictures, and around them

STYLE = """
  .ground { fill: #ffffff } .frame { fill: none; stroke: #d4d4d8 }
  text { font-family: "Inter", "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; font-size: 11px; fill: #52525b }
  .title { font-size: 20px; font-weight: 600; fill: #18181b } .key, .name { font-size: 13px; fill: #18181b }
  .grid { stroke: #f0f0f2 }
  .line { fill: none; stroke-width: 1.8; stroke-linejoin: round; stroke-linecap: round }
  .opt { stroke: #a1a1aa; stroke-dasharray: 4 4 } .lru { stroke: #c2410c } .s3fifo { stroke: #7c3aed }
  .peer { stroke: #2563eb } .ours { stroke: #0f766e; stroke-width: 3.2 } .dot { stroke-width: 6 }
  .ours.dot { stroke-width: 7 } .opt.dot { stroke-width: 0 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #18181b } .frame { stroke: #3f3f46 } text { fill: #a1a1aa }
    .title, .key, .name { fill: #fafafa } .grid { stroke: #27272a }
    .opt { stroke: #71717a } .lru { stroke: #fb923c } .s3fifo { stroke: #a78bfa }
    .peer { stroke: #60a5fa } .ours { stroke: #2dd4bf }
  }
"""


class Panel:
    """Where the shares and hit ratios of one trace lie."""

    def __init__(self, number: int, cells: list[Cell], most: float) -> None:
        self.cells = cells
        self.left = EDGE + (number % ACROSS) * WIDE + LEFT
        self.top = HEAD + (number // ACROSS) * HIGH + TOP
        self.width, self.height = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM
        self.step = next(step for step in (1, 2, 5, 10, 20, 25) if most / step <= 5 or step == 25)
        self.most = self.step * math.ceil(max(most, 0.1) / self.step)
        self.low, self.high = math.log(cells[0].share), math.log(cells[-1].share)

    def x(self, share: float) -> float:
        """Pixels from the left; a log scale."""
        if self.high == self.low:
            return self.left + self.width / 2
        return self.left + self.width * (math.log(share) - self.low) / (self.high - self.low)

    def y(self, percent: float) -> float:
        """Pixels from the top."""
        return self.top + self.height * (1 - percent / self.most)


def draw(cells: list[Cell], scores: Scores) -> str:
    """The picture of all unit cells, as the text of an SVG file."""
    series = _series(cells, scores)
    groups = _by_trace(cells)
    rows = math.ceil(len(groups) / ACROSS)
    width, height = 2 * EDGE + min(ACROSS, len(groups)) * WIDE, HEAD + rows * HIGH + EDGE
    width = max(width, 2 * EDGE + 3 * WIDE)  # the line of keys wants its room
    title = "Hit ratio over cache size, on real requests"
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>",
        f'<rect class="ground" width="{width}" height="{height}" rx="10"/>',
        f'<text class="title" x="{EDGE + LEFT}" y="38">{escape(title)}</text>',
        *_legend(series),
        f'<text x="{EDGE + LEFT}" y="92">hits in % of the requests, over size in % of the keys (log scale)</text>',
    ]
    for number, group in enumerate(groups):
        ratios = [figure for cell in group for column, _, _ in series if (figure := scores.get(cell, column))]
        panel = Panel(number, group, max(ratios, default=1.0))
        parts += [*_frame(panel), *_lines(panel, scores, series)]
    return "\n".join([*parts, "</svg>\n"])


def _series(cells: list[Cell], scores: Scores) -> list[tuple[str, str, str]]:
    """Column, class and label of each line; what was not replayed has none. Ours is drawn last, on top."""
    peer = scores.best_peer(cells)
    wanted = [(OPT, "opt", "best possible"), ("lru", "lru", "LRU"), ("s3fifo", "s3fifo", "S3-FIFO")]
    wanted += [(peer, "peer", f"best peer: {peer}")] if peer else []
    wanted.append(("adaptive", "ours", "Samovar, adaptive"))
    return [line for line in wanted if line[0] in scores.columns]


def _by_trace(cells: list[Cell]) -> list[list[Cell]]:
    names = dict.fromkeys(cell.trace.name for cell in cells)
    return [sorted((c for c in cells if c.trace.name == name), key=lambda cell: cell.share) for name in names]


def _legend(series: list[tuple[str, str, str]]) -> Iterator[str]:
    left = float(EDGE + LEFT)
    for _, name, label in reversed(series):
        yield f'<path class="line {name}" d="M{left:.0f} 64h24"/>'
        yield f'<text class="key" x="{left + 31:.0f}" y="68.5">{escape(label)}</text>'
        left += 31 + 7 * len(label) + 24


def _frame(panel: Panel) -> Iterator[str]:
    bottom, right = panel.top + panel.height, panel.left + panel.width
    for tick in range(0, panel.most + 1, panel.step):
        y = panel.y(tick)
        yield f'<path class="grid" d="M{panel.left} {y:.1f}H{right}"/>'
        yield f'<text x="{panel.left - 6}" y="{y + 4:.1f}" text-anchor="end">{tick}</text>'
    for cell in panel.cells:
        x = panel.x(cell.share)
        yield f'<path class="frame" d="M{x:.1f} {bottom}v4"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle">{cell.share:g}</text>'
    yield f'<rect class="frame" x="{panel.left}" y="{panel.top}" width="{panel.width}" height="{panel.height}"/>'
    name = escape(panel.cells[0].trace.name)
    yield f'<text class="name" x="{panel.left}" y="{panel.top - 8}">{name}</text>'


def _lines(panel: Panel, scores: Scores, series: list[tuple[str, str, str]]) -> Iterator[str]:
    for column, name, _ in series:
        found = [(cell.share, figure) for cell in panel.cells if (figure := scores.get(cell, column)) is not None]
        points = [f"{panel.x(share):.1f} {panel.y(figure):.1f}" for share, figure in found]
        if points:
            yield f'<path class="line {name}" d="M{"L".join(points)}"/>'
            yield f'<path class="line dot {name}" d="{"".join(f"M{point}h0" for point in points)}"/>'
