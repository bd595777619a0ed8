"""The tables, in markdown: times as multiples of the floor's in the same run; promises beside what came of them."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

from .contenders import BARE, FACE, FLOOR
from .promises import CPU, P50, PROMISES, RATE, SERVER, Promise, Ratio, burst_kept, figure, outage_kept, ratio
from .scenarios import CALLERS, SCENARIOS, Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .frozen import Outage
    from .scenarios import Found

WHATS = (CPU, P50, RATE, SERVER)


def row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def shown(made: Ratio | None, digits: int = 2) -> str:
    """A median, and between what it lay."""
    if made is None:
        return "not there"
    middle, low, high = (f"{one:.{0 if one >= 20 else digits}f}" for one in made)
    return f"**{middle}** ({low}-{high})"


def costs(found: dict[str, Found], scenario: Scenario) -> Iterator[str]:
    """A scenario: the floor in µs, the others as multiples of it."""
    heads = [f"{what}, {loop}" for loop in found for what in WHATS]
    yield row([scenario.name, *heads])
    yield row(["---", *["--:"] * len(heads)])
    names = dict.fromkeys(name for one in found.values() for name in one.figures[scenario.name])
    for name in names:
        cells = []
        for one in found.values():
            for what in WHATS:
                if name == FLOOR:
                    middle = statistics.median(figure(turn, what) for turn in one.figures[scenario.name][FLOOR])
                    cells.append(f"{middle:,.0f} /s" if what == RATE else f"{middle:.3g} µs")
                else:
                    cells.append(shown(ratio(one, scenario, what, name, FLOOR)))
        yield row([name, *cells])


def promises(found: dict[str, Found]) -> Iterator[str]:
    """Each promise, and what came of it on each loop."""
    yield row(["promised", "of", "at most", *found])
    yield row(["---", "---", "--:", *["---"] * len(found)])
    for promise in (promise for promise in PROMISES if has(found, promise.scenario)):
        about = f"{promise.scenario.name}: {promise.what} of {promise.whose}"
        cells = [verdict(promise, one) for one in found.values()]
        yield row([about, promise.against, f"{promise.bound:.3g}", *cells])


def has(found: dict[str, Found], scenario: Scenario) -> bool:
    """Whether it was played."""
    return all(scenario.name in one.figures for one in found.values())


def verdict(promise: Promise, found: Found) -> str:
    made = ratio(found, promise.scenario, promise.what, promise.whose, promise.against)
    if made is None:
        return shown(made)
    return f"{shown(made, 3)} {met(made[0] <= promise.bound)}"


def met(kept: bool) -> str:
    return "met" if kept else "missed"


def bursts(found: dict[str, Found]) -> Iterator[str]:
    """What came of many callers at once."""
    yield row([f"{CALLERS} callers at once", *(f"errors, {loop} | connections added" for loop in found)])
    yield row(["---", *["---", "--:"] * len(found)])
    for name in dict.fromkeys(name for one in found.values() for name in one.bursts):
        cells = []
        for one in found.values():
            burst = one.bursts.get(name)
            if burst is None:
                cells += [shown(None), ""]
                continue
            told = f"{burst.errors}: `{burst.first[:60]}`" if burst.errors else "none"
            kept = f" {met(burst_kept(burst))}" if name in (BARE, FACE) else ""
            cells += [told, f"{burst.connections}{kept}"]
        yield row([name, *cells])


def outages(seen: dict[str, Outage]) -> Iterator[str]:
    """What a frozen server has cost."""
    yield row(
        ["frozen for 4 s", "time somebody waited", "longest wait", "later calls ÷ a miss", "first, all back after"]
    )
    yield row(["---", "--:", "--:", "--:", "--:"])
    for name, outage in seen.items():
        back = ", ".join(
            "not in 2 s" if one is None else f"{one:.2f} s" for one in (outage.first_back, outage.all_back)
        )
        kept = f" {met(outage_kept(outage))}" if name in (BARE, FACE) else ""
        yield row(
            [
                f"{name}{kept}",
                f"{outage.waited * 1000:.0f} ms",
                f"{outage.longest * 1000:.0f} ms",
                f"{outage.later / outage.miss:.2f}",
                back,
            ]
        )


def tables(found: dict[str, Found], seen: dict[str, Outage]) -> str:
    """All of them."""
    parts = [costs(found, scenario) for scenario in SCENARIOS if has(found, scenario)]
    parts = [promises(found), *parts, bursts(found), outages(seen)]
    return "\n\n".join("\n".join(part) for part in parts)
