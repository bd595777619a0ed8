"""Runs all of it, prints the tables; `--docs` writes them into docs/redis.md."""

from __future__ import annotations

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
    """Everything."""
    found = {}
    for loop in LOOPS:
        print(f"on {loop}", file=sys.stderr)
        found[loop] = apart(run, loop)
    print("a frozen server", file=sys.stderr)
    seen = {name: outage for name in WHO if (outage := apart(freeze, name))}
    about = f"CPython {platform.python_version()}, {platform.machine()}, {server_version()}, {os.cpu_count()} cores."
    tables = f"{about}\n\n{report.tables(found, seen)}"
    print(tables)
    if "--docs" in sys.argv[1:]:
        before, _, rest = DOCS.read_text().partition(MARK)
        _, _, after = rest.partition(MARK)
        DOCS.write_text(f"{before}{MARK}\n{tables}\n{MARK}{after}")


if __name__ == "__main__":
    main()
