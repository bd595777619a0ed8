"""Prints the table of costs: every figure is a ratio in this run, or a count. Run it with `make bench`."""

from __future__ import annotations

import pathlib
import platform
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import bounds
import hits
import peers


def main() -> None:
    """All benches, one table."""
    print(f"Python {platform.python_version()}, {platform.machine()}; ratio = median, middle half in brackets\n")
    print("| what | against | ratio |")
    print("|---|---|---|")
    for name, floor, (middle, low, high) in hits.rows():
        print(f"| `{name}` | {floor} | **{middle:.2f}** ({low:.2f}-{high:.2f}) |", flush=True)
    for name, floor, (middle, low, high) in peers.rows():
        print(f"| {name} | {floor} | **{middle:.2f}** ({low:.2f}-{high:.2f}) |", flush=True)
    spread = bounds.stampede()
    middle, low, high = spread[len(spread) // 2], spread[0], spread[-1]
    print(f"| 1000 awaits of a cold key | 1000 tasks on one future | **{middle:.2f}** ({low:.2f}-{high:.2f}) |")
    print(f"\nbytes per entry at 1 000 000 entries with a ttl: {bounds.bytes_per_entry():.1f}")
    for forked, busy in ((False, False), (False, True), (True, False), (True, True)):
        where = ("a forked child's " if forked else "") + "main thread " + ("busy" if busy else "idle")
        seconds = bounds.seconds_to_free(busy=busy, forked=forked)
        print(f"1 000 000 expired entries, {where}: 99 % freed after {seconds:.2f} s", flush=True)


if __name__ == "__main__":
    main()
