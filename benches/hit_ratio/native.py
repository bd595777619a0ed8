"""Runs the Rust part, built when it is stale, and reads what it prints."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from .scores import Run
from .traces import HERE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .traces import Cell

# As `columns.rs` has them, in the order of the table; True: two runs may differ.
COLUMNS = {
    "OPT": False,
    "lru": False,
    "lfu": True,
    "fifo": False,
    "s3fifo": True,
    "tinylfu": True,
    "adaptive": True,
    "moka": True,
    "moka strict": True,
    "quick_cache": True,
    "foyer fifo": False,
    "foyer lru": False,
    "foyer lfu": True,
    "foyer s3fifo": True,
    "foyer sieve": False,
}


def count(cells: list[Cell], seeds: int, columns: list[str]) -> int:
    """How many runs there will be."""
    return len(cells) * sum(seeds if COLUMNS[column] else 1 for column in columns)


def build() -> None:
    """Compiles, with cargo's own progress on stderr."""
    subprocess.run([*_cargo("build"), "--quiet"], check=True)


def runs(cells: list[Cell], seeds: int, threads: int, columns: list[str]) -> Iterator[Run]:
    """Every column over every cell, as the counts come."""
    if not columns:
        return
    lines = [f"{cell.trace.path}\t{cell.kind}\t{cell.capacity}\t{cell.entries}\t{seeds}" for cell in cells]
    places = {(str(cell.trace.path), cell.kind, cell.capacity): cell for cell in cells}
    command = [*_cargo("run"), "--quiet", "--", str(threads), *columns]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it ended, and said why
            process.stdin.write("\n".join(lines) + "\n")
            process.stdin.close()
        for line in process.stdout:
            path, kind, capacity, column, hits, hit_bytes = line.rstrip("\n").split("\t")
            cell = places[path, kind, int(capacity)]
            yield Run(cell, column, None) if hits == "-" else Run(cell, column, int(hits), int(hit_bytes))
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)


def _cargo(what: str) -> list[str]:
    target = os.environ.get("CARGO_TARGET_DIR") or str(HERE.parents[1] / "target")
    manifest = str(HERE / "Cargo.toml")
    locked = ["--locked"] if os.environ.get("CI") else []
    return [
        "cargo",
        what,
        "--release",
        "--manifest-path",
        manifest,
        "--target-dir",
        str(Path(target).resolve()),
        *locked,
    ]
