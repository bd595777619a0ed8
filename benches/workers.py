"""What do the workers of a host cost the Redis that they share? Commands, server time and bytes, by number of workers.

Each worker reads the same hundred keys again and again from its memory, where the contender has one, and one of them
writes ten keys a second. Redis says what that has cost it. At rest nobody reads or writes. What is not installed is
left out by name.

    python -P benches/workers.py [--seconds 5] [--workers 1,2,4,8] [--only samovar] [--json] [--docs]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import pathlib
import sys
import time
from collections.abc import Awaitable, Callable
from multiprocessing import get_context
from typing import Any, NamedTuple

# Where the tests start theirs.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "python"))

from servers import RedisServer

DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "bus.md"
MARK = "<!-- benches/workers -->"

KEYS = [f"k{number}" for number in range(100)]
VALUE = "tea" * 33
TTL = 600
#: Writes a second, of one worker.
WRITES = 10
#: Reads at a time, and between two such bursts: some thousand reads a second.
BURST, BREATH = 10, 0.01
#: Until all workers have begun, and have read each key once or twice.
START, SETTLE = 3.0, 2.5

Get = Callable[[str], Awaitable[Any]]
Set = Callable[[str], Awaitable[Any]]


async def samovar(port: int, **options: Any) -> tuple[Get, Set]:
    """Ours; memory is told of what others write."""
    from samovar import Cache

    cache: Any = Cache(f"redis://127.0.0.1:{port}/0", name="bench", **options)
    return cache.get, lambda key: cache.set(key, VALUE, TTL)


async def samovar_external(port: int) -> tuple[Get, Set]:
    """Ours; Redis tracks what anybody writes."""
    return await samovar(port, external_writers=True)


async def samovar_bare(port: int) -> tuple[Get, Set]:
    """Ours, without memory: each get asks Redis."""
    return await samovar(port, memory=None)


async def cashews(port: int) -> tuple[Get, Set]:
    """Its memory, which Redis tells of what is written."""
    from cashews import Cache

    cache = Cache()
    cache.setup(f"redis://127.0.0.1:{port}/0", client_side=True)
    return cache.get, lambda key: cache.set(key, VALUE, TTL)


async def redis_py(port: int) -> tuple[Get, Set]:
    """Its client, without memory: on asyncio it has none."""
    from redis.asyncio import Redis

    client = Redis(port=port, protocol=3)
    return client.get, lambda key: client.set(key, VALUE, ex=TTL)


CONTENDERS = {
    "samovar": ("samovar", samovar),
    "samovar-external": ("samovar, external_writers", samovar_external),
    "samovar-bare": ("samovar, memory=None", samovar_bare),
    "cashews": ("cashews, client_side", cashews),
    "redis-py": ("redis-py, no memory", redis_py),
}


class Cost(NamedTuple):
    """What a second has cost the server, and how many gets there were in it."""

    gets: float
    commands: float
    #: Of processor time, in milliseconds.
    server_ms: float
    #: Sent by it.
    kilobytes: float
    connections: float


async def serve(who: str, port: int, number: int, times: tuple[float, float], rests: bool) -> int:
    """The work of one worker; how many gets it did in the time that counts."""
    get, put = await CONTENDERS[who][1](port)
    begin, end = times
    for key in KEYS:
        await put(key)
    await asyncio.sleep(max(0.0, begin - SETTLE - time.time()))
    gets = turn = 0
    due = begin
    while (now := time.time()) < end:
        # At rest a worker has its entries in memory, and looks at them now and then so that it would hear.
        for _ in range(BURST):
            turn += 1
            assert await get(KEYS[turn % len(KEYS)]) is not None
            gets += now >= begin
        if number == 0 and not rests and now >= due:
            due += 1 / WRITES
            await put(KEYS[turn % len(KEYS)])
        await asyncio.sleep(max(0.0, end - time.time()) if rests and now >= begin - SETTLE / 2 else BREATH)
    return gets


def work(task: tuple[str, int, int, tuple[float, float], bool]) -> int:
    """The same, in a process."""
    return asyncio.run(serve(*task))


def told(server: RedisServer) -> dict[str, float]:
    """What the server has counted."""
    lines = server.ask("INFO", "everything").decode(errors="replace").splitlines()
    pairs = (line.partition(":")[::2] for line in lines if ":" in line)
    names = "total_commands_processed", "used_cpu_user", "used_cpu_sys", "total_net_output_bytes", "connected_clients"
    return {name: float(value) for name, value in pairs if name in names}


def measured(who: str, workers: int, seconds: float, rests: bool) -> Cost:
    """What so many workers have cost."""
    server = RedisServer()
    try:
        begin = time.time() + START + SETTLE
        times = (begin, begin + seconds)
        tasks = [(who, server.port, number, times, rests) for number in range(workers)]
        with get_context("spawn").Pool(workers) as pool:
            running = pool.map_async(work, tasks, chunksize=1)
            while time.time() < begin:
                running.wait(begin - time.time())
                if running.ready():
                    running.get()
            before = told(server)
            running.wait(max(0.0, times[1] - 0.1 - time.time()))
            after = told(server)
            gets = sum(running.get())
        took = seconds - 0.1
        spent = {name: (after[name] - before[name]) / took for name in before}
        cpu = spent["used_cpu_user"] + spent["used_cpu_sys"]
        # One of these commands was the question itself.
        commands = spent["total_commands_processed"] - 1 / took
        return Cost(
            gets / seconds, commands, 1000 * cpu, spent["total_net_output_bytes"] / 1000, after["connected_clients"] - 1
        )
    finally:
        server.stop()


Row = tuple[str, int, Cost]


def shown(rows: list[Row]) -> str:
    """The table."""
    lines = [
        f"A second, of {len(KEYS)} keys of {len(VALUE)} bytes; one worker writes {WRITES} of them in it.",
        "",
        "| | workers | gets | commands of Redis | its CPU | it sends | connections |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, workers, cost in rows:
        counts = f"{cost.gets:,.0f} | {cost.commands:,.1f} | {cost.server_ms:,.1f} ms | {cost.kilobytes:,.1f} kB"
        lines.append(f"| {name} | {workers} | {counts} | {cost.connections:.0f} |")
    return "\n".join(lines)


def run(who: str, workers: list[int], seconds: float) -> list[Row]:
    """One contender."""
    name = CONTENDERS[who][0]
    found = [(name, number, measured(who, number, seconds, False)) for number in workers]
    if who == "samovar":
        found.append((f"{name}, at rest", workers[-1], measured(who, workers[-1], seconds, True)))
    return found


def main() -> None:
    """Everything, or one of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--workers", type=lambda text: [int(one) for one in text.split(",")], default=[1, 2, 4, 8])
    parser.add_argument("--only", choices=CONTENDERS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    rows: list[Row] = []
    for who, (name, _) in CONTENDERS.items():
        if options.only in (None, who):
            try:
                rows += run(who, options.workers, options.seconds)
            except ImportError as error:
                print(f"{name} is left out: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps([(name, workers, cost._asdict()) for name, workers, cost in rows]))
        return
    table = shown(rows)
    print(table)
    if options.docs:
        before, _, rest = DOCS.read_text().partition(MARK)
        _, _, after = rest.partition(MARK)
        DOCS.write_text(f"{before}{MARK}\n{table}\n{MARK}{after}")


if __name__ == "__main__":
    main()
