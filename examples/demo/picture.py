"""Latency over time as an SVG, written by hand: a dot for each request, a line for the moving median, a log scale.

One file without scripts or fonts of its own; it follows a reader's dark mode where the viewer does.
"""

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import count

from .replay import Replay
from .report import medians, percentile

WIDTH, HEIGHT = 960, 500
LEFT, RIGHT, TOP, BOTTOM = 76, 28, 84, 62  # margins around the plot; above it a line more for each run
LINE = 22  # pixels
STYLES = ("plain", "cached", "shared")  # of the first, second and third run

STYLE = """
  .ground { fill: #ffffff } .frame { fill: none; stroke: #d4d4d8 }
  text { font-family: "Inter", "Segoe UI", "Helvetica Neue", "DejaVu Sans", sans-serif; font-size: 13px; fill: #52525b }
  .title { font-size: 20px; font-weight: 600; fill: #18181b } .key { font-size: 14px; fill: #18181b }
  .grid { stroke: #e4e4e7 } .fine { stroke: #f4f4f5 }
  .dots { fill: none; stroke-width: 2.4; stroke-linecap: round; stroke-opacity: .28 }
  .line { fill: none; stroke-width: 2.6; stroke-linejoin: round; stroke-linecap: round }
  .end { stroke-width: 1.5; stroke-dasharray: 3 4 }
  .plain { stroke: #c2410c } .cached { stroke: #0f766e } .shared { stroke: #4338ca }
  .plain-fill { fill: #c2410c } .cached-fill { fill: #0f766e } .shared-fill { fill: #4338ca }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #18181b } .frame { stroke: #3f3f46 } text { fill: #a1a1aa } .title, .key { fill: #fafafa }
    .grid { stroke: #3f3f46 } .fine { stroke: #27272a }
    .plain { stroke: #fb923c } .cached { stroke: #2dd4bf } .shared { stroke: #a5b4fc }
    .plain-fill { fill: #fb923c } .cached-fill { fill: #2dd4bf } .shared-fill { fill: #a5b4fc }
  }
"""


class Axes:
    """Where a moment (seconds) and a latency (seconds, log scale) lie in the picture."""

    def __init__(self, runs: Sequence[Replay]) -> None:
        self.end = max(run.seconds for run in runs)
        self.top = TOP + LINE * len(runs)
        latencies = [latency for run in runs for latency in run.latencies]
        self.low = _nice_below(min(latencies))
        self.high = _nice_above(percentile(latencies, 1.0))

    def x(self, seconds: float) -> float:
        """Pixels from the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.end

    def y(self, latency: float) -> float:
        """Pixels from the top."""
        share = math.log(latency / self.low) / math.log(self.high / self.low)
        return HEIGHT - BOTTOM - (HEIGHT - self.top - BOTTOM) * share


def draw(runs: Sequence[Replay]) -> str:
    """The picture of the runs, as the text of an SVG file."""
    axes = Axes(runs)
    title = f"Latency of {len(runs[0].latencies):,} real requests, without and with Samovar"
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    styled = list(zip(runs, STYLES, strict=False))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(title)}">',
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>",
        f'<rect class="ground" width="{WIDTH}" height="{HEIGHT}" rx="10"/>',
        f'<text class="title" x="{LEFT}" y="40">{escape(title)}</text>',
        *_legend(styled),
        *_grid(axes),
        *(part for run, style in styled for part in _series(axes, run, style)),
        *_ends(axes, styled),
        "</svg>\n",
    ]
    return "\n".join(parts)


def _legend(styled: Sequence[tuple[Replay, str]]) -> Iterator[str]:
    for (run, style), y in zip(styled, count(65, LINE), strict=False):
        queries, median = run.counts["queries"], percentile(run.latencies, 0.5)
        text = f"{run.label}: {queries:,} database queries, p50 {_milliseconds(median)}"
        yield f'<path class="line {style}" d="M{LEFT} {y}h22"/>'
        yield f'<circle class="{style}-fill" cx="{LEFT + 11}" cy="{y}" r="4"/>'
        yield f'<text class="key" x="{LEFT + 30}" y="{y + 5}">{escape(text)}</text>'


def _grid(axes: Axes) -> Iterator[str]:
    bottom, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    for latency, labelled in _log_ticks(axes.low, axes.high):
        y = axes.y(latency)
        yield f'<path class="{"grid" if labelled else "fine"}" d="M{LEFT} {y:.1f}H{right}"/>'
        if labelled:
            yield f'<text x="{LEFT - 10}" y="{y + 4.5:.1f}" text-anchor="end">{_milliseconds(latency)}</text>'
    for seconds in _time_ticks(axes.end):
        x = axes.x(seconds)
        yield f'<path class="grid" d="M{x:.1f} {bottom}v6"/>'
        yield f'<text x="{x:.1f}" y="{bottom + 23}" text-anchor="middle">{seconds:g} s</text>'
    yield f'<rect class="frame" x="{LEFT}" y="{axes.top}" width="{right - LEFT}" height="{bottom - axes.top}"/>'
    middle = (LEFT + right) / 2
    yield f'<text x="{middle:.0f}" y="{HEIGHT - 14}" text-anchor="middle">time since the start of the run</text>'
    caption = "latency, log scale; a dot is a request, the line a moving median"
    yield f'<text x="{LEFT}" y="{axes.top - 10}">{caption}</text>'


def _series(axes: Axes, run: Replay, style: str) -> Iterator[str]:
    moments = zip(run.ended, run.latencies, strict=True)
    cells = {(round(axes.x(ended)), round(axes.y(latency))) for ended, latency in moments}  # a dot per pixel is enough
    dots = "".join(f"M{x} {y}h0" for x, y in sorted(cells))
    points = [f"{axes.x(ended):.1f} {axes.y(median):.1f}" for ended, median in medians(run)]
    yield f'<path class="dots {style}" d="{dots}"/>'
    yield f'<path class="line {style}" d="M{"L".join(points)}"/>'


def _ends(axes: Axes, styled: Sequence[tuple[Replay, str]]) -> Iterator[str]:
    """A mark where each run but the longest was done, the first of them lowest."""
    *shorter, _ = sorted(styled, key=lambda pair: pair[0].seconds)
    for (run, style), y in zip(shorter, count(HEIGHT - BOTTOM - 14, -LINE), strict=False):
        x = axes.x(run.seconds)
        side, shift = ("start", 9) if x < WIDTH * 0.7 else ("end", -9)
        yield f'<path class="end {style}" d="M{x:.1f} {axes.top}V{HEIGHT - BOTTOM}"/>'
        yield (
            f'<text class="key" x="{x + shift:.1f}" y="{y}" text-anchor="{side}">'
            f"{escape(run.label)}: the same requests done after {run.seconds:.1f} s</text>"
        )


def _log_ticks(low: float, high: float) -> Iterator[tuple[float, bool]]:
    """1, 2 … 9 of each power of ten between the ends; the powers themselves are labelled."""
    for exponent in range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1):
        for digit in range(1, 10):
            if low * 0.999 <= (tick := digit * 10.0**exponent) <= high * 1.001:
                yield tick, digit == 1


def _time_ticks(end: float) -> list[float]:
    step = next(step for step in (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, 120, 300) if end / step <= 10)
    return [index * step for index in range(int(end / step) + 1)]


def _nice_below(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * max(digit for digit in (1, 2, 5) if digit * power <= value * 1.000001)


def _nice_above(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * min(digit for digit in (1, 2, 5, 10) if digit * power >= value)


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 0.9995 else f"{seconds:.3g} s"
