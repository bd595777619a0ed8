"""What the terminal shows at the end: the table of the runs, and latency over time in a few characters.

Numbers come from `replay.py`; the drawn picture is in `picture.py`.
"""

import math
import statistics
import sys
from collections.abc import Sequence

from .replay import LABEL, Replay

STEP, WINDOW = 100, 16  # the moving median: so many points in a run, each over one part in so many of its requests
COLUMNS = 44  # characters of a sparkline: the duration of the longest run
STEPS, PLAIN_STEPS = "▁▂▃▄▅▆▇█", "_.-:=+*#"  # the second where the terminal cannot show the first


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def table(runs: Sequence[Replay]) -> str:
    """The runs side by side, with the ratio of the last to the first."""
    rows = [
        ("", *(run.label for run in runs), "ratio"),
        _compared_row("requests/s", [len(run.latencies) / run.seconds for run in runs], "{:,.0f}"),
        _latency_row("latency p50", runs, 0.50),
        _latency_row("latency p99", runs, 0.99),
        _compared_row("database queries", [run.counts["queries"] for run in runs], "{:,}"),
        ("hits in memory", *(_share(run, "memory") for run in runs), ""),
        ("hits in Redis", *(_share(run, "remote") for run in runs), ""),
        (f"time for {len(runs[0].latencies):,}", *(f"{run.seconds:.1f} s" for run in runs), ""),
    ]
    shown = [row for row in rows if any(cell not in ("", "-") for cell in row[1:])]
    lines = ["".join([f"{row[0]:<16}", *(f"{cell:>19}" for cell in row[1:])]).rstrip() for row in shown]
    rule = "-" * (16 + 19 * len(rows[0][1:]))
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _latency_row(name: str, runs: Sequence[Replay], share: float) -> tuple[str, ...]:
    return _compared_row(name, [percentile(run.latencies, share) * 1e3 for run in runs], "{:.2f} ms")


def _compared_row(name: str, figures: Sequence[float], form: str) -> tuple[str, ...]:
    return name, *(form.format(figure) for figure in figures), _compared(figures[0], figures[-1])


def _share(run: Replay, where: str) -> str:
    """How many of the app's lookups were answered there."""
    found, lookups = run.counts[where], sum(run.counts[name] for name in ("memory", "remote", "misses"))
    return f"{found:,} ({100 * found / lookups:.1f} %)" if found else "-"


def _compared(left: float, right: float) -> str:
    ratio, word = (right / left, "more") if right >= left else (left / right, "less")
    return f"{ratio:.{1 if ratio < 100 else 0}f} x {word}"


def medians(run: Replay) -> list[tuple[float, float]]:
    """The moving median of a run: when a request was answered, and the median latency of those just before it."""
    count = len(run.latencies)
    step, window = max(1, count // STEP), max(1, count // WINDOW)
    ends = [*range(step, count, step), count]
    return [(run.ended[end - 1], statistics.median(run.latencies[max(0, end - window) : end])) for end in ends]


def sparklines(runs: Sequence[Replay]) -> str:
    """All runs on one time axis, median latency as the height of a character, on a log scale."""
    lines = [medians(run) for run in runs]
    width = max(run.seconds for run in runs) / COLUMNS
    heights = [median for line in lines for _, median in line]
    low, high = min(heights), max(heights)
    head = f"latency over time: moving median, {low * 1e3:.1f} to {high * 1e3:.1f} ms, log scale"
    rows = [
        f"  {run.label:<{LABEL}}  {_sparkline(line, width, low, high)}  done after {run.seconds:.1f} s"
        for run, line in zip(runs, lines, strict=True)
    ]
    return "\n".join([head, *rows])


def _sparkline(line: Sequence[tuple[float, float]], width: float, low: float, high: float) -> str:
    steps = STEPS if _can_show(STEPS) else PLAIN_STEPS
    span = math.log(high / low) or 1.0
    columns = max(1, round(line[-1][0] / width))
    shown = [
        next((median for ended, median in line if ended >= width * (column + 0.5)), line[-1][1])
        for column in range(columns)
    ]
    return "".join(steps[round(math.log(median / low) / span * (len(steps) - 1))] for median in shown)


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return False
    return True
