"""Runs all of it, prints the tables.

    python -m benches.redis [--docs] [--only TEXT]

`--docs` writes them into docs/redis.md; `--only` plays no more than the scenarios whose names have this in them.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import subprocess
import sys

from . import report
from .apart import apart, freeze, run
from .frozen import WHO

DOCS = pathlib.Path(__file__).resolve().parent.parent.parent / "docs" / "redis.md"
MARK = "<!-- benches/redis -->"
LOOPS = ("asyncio", "uvloop")


def server_version() -> str:
    """What the server calls itself."""
    told = subprocess.run(["redis-server", "--version"], capture_output=True, text=True, check=True).stdout
    return "Redis " + told.partition("v=")[2].split()[0]


def main() -> None:
    """Everything, or what was asked for."""
    parser = argparse.ArgumentParser(prog="benches.redis")
    parser.add_argument("--docs", action="store_true", help="write the tables into docs/redis.md")
    parser.add_argument("--only", default="", metavar="TEXT", help="play the scenarios whose names have this in them")
    options = parser.parse_args()
    if options.docs and options.only:
        parser.error("--docs writes all tables, so it wants all scenarios: leave out --only")
    found = {}
    for loop in LOOPS:
        print(f"on {loop}", file=sys.stderr)
        found[loop] = apart(run, loop, options.only)
    seen = {}
    if not options.only:
        print("a frozen server", file=sys.stderr)
        seen = {name: outage for name in WHO if (outage := apart(freeze, name))}
    about = f"CPython {platform.python_version()}, {platform.machine()}, {server_version()}, {os.cpu_count()} cores."
    tables = f"{about}\n\n{report.tables(found, seen)}"
    print(tables)
    if options.docs:
        before, _, rest = DOCS.read_text().partition(MARK)
        _, _, after = rest.partition(MARK)
        DOCS.write_text(f"{before}{MARK}\n{tables}\n{MARK}{after}")


if __name__ == "__main__":
    main()
