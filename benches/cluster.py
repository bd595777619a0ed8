"""How many loads does one hot key cost eight processes, that expires every second? One each second, if they share them.

Each contender has a Redis of its own and as many processes, which all ask for the key again and again; what is loaded
takes 5 ms. Neither early refreshes nor jitter. What is not installed is left out by name.

    python -P benches/cluster.py [--seconds 60] [--processes 8] [--only samovar] [--json] [--docs]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing import get_context
from typing import Any, NamedTuple

# Where the tests start theirs.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "python"))

from servers import RedisServer

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "redis.md"
MARK = "<!-- benches/cluster -->"

TTL = 1.0
LOAD = 0.005
#: Between two calls of a process.
BREATH = 0.002
#: Until all processes have begun.
START = 3.0

Load = Callable[[], Awaitable[str]]


class Found(NamedTuple):
    """What a process saw."""

    loads: int
    gets: int
    #: The longest call, in seconds.
    longest: float


async def samovar(port: int, load: Load, single_flight: str = "cluster") -> Load:
    """Ours, one load for all."""
    from samovar import Cache

    cache: Any = Cache(f"redis://127.0.0.1:{port}/0", name="bench")
    cached: Load = cache.cached(TTL, key="hot", jitter=0, single_flight=single_flight)(load)
    return cached


async def samovar_each(port: int, load: Load) -> Load:
    """Ours, one load for each process: the default."""
    return await samovar(port, load, "process")


async def cashews(port: int, load: Load) -> Load:
    """Its lock across processes."""
    from cashews import cache

    cache.setup(f"redis://127.0.0.1:{port}/0")
    cached: Load = cache(ttl=TTL, key="hot", lock=True)(load)
    return cached


async def aiocache(port: int, load: Load) -> Load:
    """Its protection against stampedes."""
    from aiocache import Cache, cached_stampede

    options: Any = {"endpoint": "127.0.0.1", "port": port, "key": "hot"}
    cached: Load = cached_stampede(lease=2, ttl=TTL, cache=Cache.REDIS, **options)(load)
    return cached


CONTENDERS = {
    "samovar": ("samovar, single_flight='cluster'", samovar),
    "samovar-process": ("samovar, single_flight='process'", samovar_each),
    "cashews": ("cashews, lock=True", cashews),
    "aiocache": ("aiocache, cached_stampede", aiocache),
}


async def hammer(who: str, port: int, begin: float, seconds: float) -> Found:
    """Asks for the key until the time is over."""
    loads = gets = 0
    longest = 0.0

    async def load() -> str:
        nonlocal loads
        loads += 1
        await asyncio.sleep(LOAD)
        return "tea"

    ask = await CONTENDERS[who][1](port, load)
    await asyncio.sleep(max(0.0, begin - time.time()))
    while time.time() < begin + seconds:
        asked = time.perf_counter()
        assert await ask() == "tea"
        longest = max(longest, time.perf_counter() - asked)
        gets += 1
        await asyncio.sleep(BREATH)
    return Found(loads, gets, longest)


def work(task: tuple[str, int, float, float]) -> Found:
    """The work of one process."""
    return asyncio.run(hammer(*task))


def measured(who: str, seconds: float, processes: int) -> list[Found]:
    """What its processes saw."""
    server = RedisServer()
    try:
        with get_context("spawn").Pool(processes) as pool:
            task = (who, server.port, time.time() + START, seconds)
            # One task for each process: none is free again before the time is over.
            return pool.map(work, [task] * processes, chunksize=1)
    finally:
        server.stop()


def shown(seconds: float, processes: int, rows: list[tuple[str, list[Found]]]) -> str:
    """The table."""
    lines = [
        f"{processes} processes, one key, ttl {TTL:g} s, for {seconds:g} s: one load per window is {seconds / TTL:g}",
        "",
        "| | loads | per window | gets | longest get, median of the processes |",
        "|---|---|---|---|---|",
    ]
    for name, found in rows:
        loads, gets = sum(one.loads for one in found), sum(one.gets for one in found)
        longest = statistics.median(one.longest for one in found)
        lines.append(f"| {name} | {loads} | {loads * TTL / seconds:.2f} | {gets} | {longest * 1000:.0f} ms |")
    return "\n".join(lines)


def main() -> None:
    """Everything, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--only", choices=CONTENDERS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    rows = []
    for who, (name, _) in CONTENDERS.items():
        if options.only in (None, who):
            try:
                rows.append((name, measured(who, options.seconds, options.processes)))
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps({name: [one._asdict() for one in found] for name, found in rows}))
    else:
        table = shown(options.seconds, options.processes, rows)
        print(table)
        if options.docs:
            before, _, rest = DOCS.read_text().partition(MARK)
            _, _, after = rest.partition(MARK)
            DOCS.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}")


if __name__ == "__main__":
    main()
