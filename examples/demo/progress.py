"""A progress bar on stderr: redrawn in place on a terminal, a line each quarter anywhere else.

It draws; it measures nothing and starts no thread.
"""

import sys
import time
from types import TracebackType
from typing import Self

WIDTH = 28  # characters of the bar
REDRAW = 0.08  # seconds between two drawings on a terminal; faster is not seen and costs the measured run


class Progress:
    """Count up to `total` under a label. As a context manager it ends its line, also after an error."""

    def __init__(self, label: str, total: int) -> None:
        self._label = label
        self._total = max(1, total)
        self._done = 0
        self._began = time.perf_counter()
        self._drawn = 0.0
        self._quarter = 0
        self._live = sys.stderr.isatty()

    def __enter__(self) -> Self:
        if self._live:
            self._draw()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._draw()
            print(file=sys.stderr)

    def step(self, count: int = 1) -> None:
        """Another `count` of the total is done."""
        self._done += count
        if self._live:
            if time.perf_counter() - self._drawn >= REDRAW:
                self._draw()
        elif (quarter := self._done * 4 // self._total) > self._quarter:
            self._quarter = quarter
            print(f"{self._label} {self._figures()}", file=sys.stderr, flush=True)

    def _draw(self) -> None:
        filled = WIDTH * self._done // self._total
        bar = ("#" * filled).ljust(WIDTH, ".")
        print(f"\r{self._label} [{bar}] {self._figures()}\x1b[K", end="", file=sys.stderr, flush=True)
        self._drawn = time.perf_counter()

    def _figures(self) -> str:
        seconds = time.perf_counter() - self._began
        return f"{100 * self._done // self._total:3d} %  {self._done:,} of {self._total:,}  {seconds:.1f} s"
