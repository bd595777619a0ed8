"""The demo from beginning to end: database, replays of one log, table, picture. The order of things, no detail."""

import argparse
import os
import sqlite3
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from . import database
from .picture import draw
from .problems import DemoError
from .replay import Replay, replay
from .report import sparklines, table
from .server import ROOT, running_servers
from .store import running_redis
from .trace import Trace, read_trace

FOLDER = ROOT / "build" / "demo"
REQUESTS = 4_000  # of the log's 9 988: enough to see it, and half a minute on two cores
MEASURED = 101  # pages
WORKERS = 2  # processes of the web server, where there is a Redis for them to share


def run(arguments: Sequence[str]) -> None:
    """Run the demo; raises DemoError if it cannot go on."""
    options = _options(arguments)
    try:
        with ExitStack() as stack:
            redis = stack.enter_context(running_redis()) if options.redis else None
            _run(options, redis)
    except (OSError, sqlite3.Error) as error:
        raise DemoError(f"{error}; the demo writes to {_shown(FOLDER)} and needs about 40 MB there") from error


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="A web app without and with Samovar.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many of the log, 0 = all (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="of the client, kept alive (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of the web server, 0 = a free one (%(default)s)")
    parser.add_argument("--redis", action="store_true", help="two server processes, and a Redis of the demo's own")
    options = parser.parse_args(arguments)
    if options.requests < 0 or options.connections < 1 or not 0 <= options.port <= 65_535:
        parser.error("--requests takes 0 or more, --connections 1 or more, --port 0 to 65535")
    return options


def _run(options: argparse.Namespace, redis: str | None) -> None:
    trace = read_trace()
    pages = trace.requests[: options.requests or None]
    path = _prepare(trace)
    count = WORKERS if redis else 1
    web = f"web server:  {count} processes over {redis}\n" if redis else ""
    print(f"{web}request log: {_extent(pages, trace)}, {options.connections} connections\n", flush=True)
    runs = []
    for label, cache in _caches(redis):
        with running_servers(count, path, cache=cache, port=options.port) as ports:
            runs.append(replay(ports, pages, connections=options.connections, label=label))
    _show(runs, FOLDER / ("latency-redis.svg" if redis else "latency.svg"))


def _caches(redis: str | None) -> list[tuple[str, str]]:
    """What is compared: what each run is called, and the URL of its cache."""
    if redis is None:
        return [("without Samovar", ""), ("with Samovar", "memory://")]
    return [("without Samovar", ""), ("memory", "memory://"), ("memory over Redis", redis)]


def _prepare(trace: Trace) -> Path:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n", encoding="ascii")
    path = database.ensure_database(FOLDER, trace.sizes)
    seconds = database.measure_query(path, sorted(trace.sizes)[:: len(trace.sizes) // MEASURED])
    print(f"database:    {_shown(path)}, {len(trace.sizes):,} pages; page query {seconds * 1e3:.1f} ms (median)")
    return path


def _extent(pages: Sequence[int], trace: Trace) -> str:
    total = len(trace.requests)
    share = f"all {total:,} requests" if len(pages) == total else f"the first {len(pages):,} of {total:,} requests"
    return f"{share}, {len(set(pages)):,} different pages"


def _show(runs: Sequence[Replay], picture: Path) -> None:
    picture.write_text(draw(runs), encoding="utf-8")
    print(f"\n{table(runs)}\n")
    plain = runs[0].digests
    differing = sum(plain[page] != digest for run in runs[1:] for page, digest in run.digests.items())
    if differing:
        raise DemoError(f"{differing} pages differ between the runs; that is a bug of Samovar, please report it")
    print(f"every page the same in all runs, byte for byte ({len(plain):,} compared)\n")
    print(f"{sparklines(runs)}\n\npicture: {_shown(picture)}")


def _shown(path: Path) -> str:
    return os.path.relpath(path)
