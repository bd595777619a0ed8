"""Runs the drill for everyone, prints the table, draws the picture."""

from __future__ import annotations

import asyncio
import logging
import pathlib
import sys

from .contestants import CONTESTANTS, installed
from .drill import KEYS, RATE, SCRIPT, Outcome, drill
from .picture import draw

PICTURE = pathlib.Path("build/outage.svg")


def table(outcomes: list[Outcome]) -> str:
    """Share of callers answered, p99 and calls of the origin in each phase."""
    phases = [phase for phase, _ in SCRIPT]
    lines = ["| | " + " | ".join(phases) + " |", "|---|" + "--:|" * len(phases)]
    for outcome in outcomes:
        cells = [
            f"{100 * outcome.answered(phase):.1f} %, {1000 * outcome.p99(phase):.0f} ms, {outcome.calls.get(phase, 0)}"
            for phase in phases
        ]
        lines.append(f"| {outcome.name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """All contestants, one after the other."""
    ready = installed()
    for name in CONTESTANTS.keys() - ready.keys():
        print(f"{name} is not installed: left out", file=sys.stderr)
    # What fails is the origin's affair here, and known.
    logging.disable(logging.WARNING)
    outcomes = []
    for name, make in ready.items():
        print(f"{name:10}", end="", file=sys.stderr, flush=True)
        outcome = asyncio.run(drill(name, make, lambda: print(".", end="", file=sys.stderr, flush=True)))
        print(file=sys.stderr)
        outcomes.append(outcome)
    print(f"{RATE} callers a second, {KEYS} known keys: answered, p99, calls that reached the origin\n")
    print(table(outcomes))
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text(draw(outcomes), encoding="utf-8")
    print(f"\n{PICTURE}: the same over time", file=sys.stderr)


if __name__ == "__main__":
    main()
