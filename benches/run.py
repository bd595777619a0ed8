"""Prints the tables of costs as README carries them: every figure is a ratio in this run, or a count: `make bench`."""

from __future__ import annotations

import os
import pathlib
import platform
import sys
import sysconfig

# Last: benches/redis is not the redis that others import.
sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import bounds
import decorators
import hits
import orders
import peers


def optimised() -> str:
    """How this Python was built, which moves the floors more than anything else here.

    Debian builds with profiles in its own way and blanks the flags, lest extensions be built like that; elsewhere they
    are there, used or not.
    """
    arguments = str(sysconfig.get_config_var("CONFIG_ARGS") or "")
    words = [word for flag, word in (("--enable-optimizations", "PGO"), ("--with-lto", "LTO")) if flag in arguments]
    if not words and sysconfig.get_config_var("PGO_PROF_USE_FLAG") == "":
        return "with PGO, by its distribution"
    return "with " + " and ".join(words) if words else "without PGO"


def shown(ratio: tuple[float, float, float] | None) -> str:
    """Two decimals, but none where the ratio is large."""
    if ratio is None:
        return "–"
    middle, low, high = (f"{figure:.0f}" if figure >= 20 else f"{figure:.2f}" for figure in ratio)
    return f"**{middle}** ({low}-{high})"


def main() -> None:
    """All benches, one table each."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    print(f"CPython {platform.python_version()} {optimised()}, {platform.machine()}, {cores} cores; ", end="")
    print("a ratio is a median, its middle half in brackets.\n")
    print("| what | against | ratio |")
    print("|---|---|---|")
    for name, floor, ratio in hits.rows():
        print(f"| `{name}` | {floor} | {shown(ratio)} |", flush=True)
    for name, floor, ratio in peers.rows():
        print(f"| {name} | {floor} | {shown(ratio)} |", flush=True)
    for name, floor, ratio in orders.rows():
        print(f'| {name} | eviction="{floor}" | {shown(ratio)} |', flush=True)
    spread = bounds.stampede()
    stampede = spread[len(spread) // 2], spread[0], spread[-1]
    print(f"| 1000 awaits of a cold key | 1000 tasks on one future | {shown(stampede)} |\n")
    print("| a decorator's hit | `await f(1)` ÷ await of an empty async def | `f(1)` ÷ lru_cache |")
    print("|---|---|---|")
    for package, awaited, called in decorators.rows():
        print(f"| {package} | {shown(awaited)} | {shown(called)} |", flush=True)
    print("\n–: its decorator is not for such functions.\n")
    print(f"- bytes per entry at 1 000 000 entries with a ttl: {bounds.bytes_per_entry():.1f}")
    for forked, busy in ((False, False), (False, True), (True, False), (True, True)):
        where = ("a forked child's " if forked else "") + "main thread " + ("busy" if busy else "idle")
        seconds, load = bounds.seconds_to_free(busy=busy, forked=forked), os.getloadavg()[0]
        print(f"- 1 000 000 expired entries, {where}: 99 % freed after {seconds:.2f} s (load {load:.1f})", flush=True)


if __name__ == "__main__":
    main()
