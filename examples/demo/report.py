"""What the terminal shows at the end: the table of the two runs, and latency over time in a few characters.

Numbers come from `replay.py`; the drawn picture is in `picture.py`.
"""

import math
import statistics
import sys
from collections.abc import Sequence

from .replay import Replay

STEP, WINDOW = 100, 16  # the moving median: so many points in a run, each over one part in so many of its requests
COLUMNS = 44  # characters of a sparkline: the duration of the longer run
STEPS, PLAIN_STEPS = "▁▂▃▄▅▆▇█", "_.-:=+*#"  # the second where the terminal cannot show the first


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of the values does not exceed (nearest rank)."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(share * len(ranked)) - 1)]


def table(plain: Replay, cached: Replay) -> str:
    """The two runs side by side, with their ratio."""
    count = len(plain.latencies)
    rates = [len(run.latencies) / run.seconds for run in (plain, cached)]
    rows = [
        ("", "without", "with Samovar", "ratio"),
        ("requests/s", f"{rates[0]:,.0f}", f"{rates[1]:,.0f}", _compared(*rates)),
        _latency_row("latency p50", plain, cached, 0.50),
        _latency_row("latency p99", plain, cached, 0.99),
        _queries_row(plain.stats["queries"], cached.stats["queries"]),
        ("hit ratio", "-", f"{100 * cached.stats['samovar']['hit_ratio']:.1f} %", ""),
        (f"time for {count:,}", f"{plain.seconds:.1f} s", f"{cached.seconds:.1f} s", ""),
    ]
    lines = [f"{name:<18}{left:>14}{right:>16}{ratio:>16}".rstrip() for name, left, right, ratio in rows]
    rule = "-" * 64
    return "\n".join([lines[0], rule, *lines[1:], rule])


def _latency_row(name: str, plain: Replay, cached: Replay, share: float) -> tuple[str, str, str, str]:
    left, right = (percentile(run.latencies, share) for run in (plain, cached))
    return name, f"{left * 1e3:.2f} ms", f"{right * 1e3:.2f} ms", _compared(left, right)


def _queries_row(left: int, right: int) -> tuple[str, str, str, str]:
    return "database queries", f"{left:,}", f"{right:,}", _compared(left, right)


def _compared(left: float, right: float) -> str:
    ratio, word = (right / left, "more") if right >= left else (left / right, "less")
    return f"{ratio:.{1 if ratio < 100 else 0}f} x {word}"


def medians(run: Replay) -> list[tuple[float, float]]:
    """The moving median of a run: when a request was answered, and the median latency of those just before it."""
    count = len(run.latencies)
    step, window = max(1, count // STEP), max(1, count // WINDOW)
    ends = [*range(step, count, step), count]
    return [(run.ended[end - 1], statistics.median(run.latencies[max(0, end - window) : end])) for end in ends]


def sparklines(plain: Replay, cached: Replay) -> str:
    """Both runs on one time axis, median latency as the height of a character, on a log scale."""
    lines = [medians(run) for run in (plain, cached)]
    width = max(plain.seconds, cached.seconds) / COLUMNS
    heights = [median for line in lines for _, median in line]
    low, high = min(heights), max(heights)
    rows = [_sparkline(line, width, low, high) for line in lines]
    return "\n".join(
        [
            f"latency over time: moving median, {low * 1e3:.1f} to {high * 1e3:.1f} ms, log scale",
            f"  without       {rows[0]}  done after {plain.seconds:.1f} s",
            f"  with Samovar  {rows[1]}  done after {cached.seconds:.1f} s",
        ]
    )


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
