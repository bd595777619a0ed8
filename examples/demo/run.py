"""The demo from beginning to end: database, two replays of one log, table, picture. The order of things, no detail."""

import argparse
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from . import database
from .picture import draw
from .problems import DemoError
from .replay import Replay, replay
from .report import sparklines, table
from .server import ROOT, running_server
from .trace import Trace, read_trace

FOLDER = ROOT / "build" / "demo"
REQUESTS = 4_000  # of the log's 9 988: enough to see it, and half a minute on two cores
MEASURED = 101  # pages


def run(arguments: Sequence[str]) -> None:
    """Run the demo; raises DemoError if it cannot go on."""
    options = _options(arguments)
    try:
        _run(options.requests, options.connections, options.port)
    except (OSError, sqlite3.Error) as error:
        raise DemoError(f"{error}; the demo writes to {_shown(FOLDER)} and needs about 40 MB there") from error


def _options(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description="A web app without and with Samovar.")
    parser.add_argument("--requests", type=int, default=REQUESTS, help="how many of the log, 0 = all (%(default)s)")
    parser.add_argument("--connections", type=int, default=16, help="of the client, kept alive (%(default)s)")
    parser.add_argument("--port", type=int, default=0, help="of the web server, 0 = a free one (%(default)s)")
    options = parser.parse_args(arguments)
    if options.requests < 0 or options.connections < 1 or not 0 <= options.port <= 65_535:
        parser.error("--requests takes 0 or more, --connections 1 or more, --port 0 to 65535")
    return options


def _run(count: int, connections: int, port: int) -> None:
    trace = read_trace()
    pages = trace.requests[: count or None]
    path = _prepare(trace)
    print(f"request log: {_extent(pages, trace)}, {connections} connections\n", flush=True)
    runs = []
    for with_samovar, label in ((False, "without Samovar"), (True, "with Samovar   ")):
        with running_server(path, with_samovar=with_samovar, port=port) as opened:
            runs.append(replay(opened, pages, connections=connections, label=label))
    _show(*runs)


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


def _show(plain: Replay, cached: Replay) -> None:
    picture = FOLDER / "latency.svg"
    picture.write_text(draw(plain, cached), encoding="utf-8")
    print(f"\n{table(plain, cached)}\n")
    differing = sum(plain.digests[page] != digest for page, digest in cached.digests.items())
    if differing:
        raise DemoError(f"{differing} pages differ between the two runs; that is a bug of Samovar, please report it")
    print(f"every page the same in both runs, byte for byte ({len(plain.digests):,} compared)\n")
    print(f"{sparklines(plain, cached)}\n\npicture: {_shown(picture)}")


def _shown(path: Path) -> str:
    return os.path.relpath(path)
