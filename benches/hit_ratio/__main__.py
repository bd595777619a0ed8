"""Replays all, prints the tables, draws the picture: `make hit-ratio`, or `python -m benches.hit_ratio --help`."""

from __future__ import annotations

import argparse
import gzip
import os
import subprocess
import sys
from pathlib import Path

from examples.demo.progress import Progress

from . import native, peers, picture, table, traces
from .reference import Reference
from .scores import Scores

OUT = Path("build") / "hit_ratio"


def arguments() -> argparse.Namespace:
    known = [*native.COLUMNS, *peers.COLUMNS]
    parser = argparse.ArgumentParser(prog="python -m benches.hit_ratio", description=__doc__)
    parser.add_argument("--traces", type=Path, help="a folder of *.txt.gz (default: the traces of the project)")
    parser.add_argument("--seeds", type=int, default=1, help="runs of everything that throws dice (default 1)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="replays at once (default: all cores)")
    parser.add_argument("--columns", nargs="+", choices=known, metavar="NAME", help=f"of: {', '.join(known)}")
    parser.add_argument("--out", type=Path, default=OUT, help=f"where table.md and picture.svg go (default {OUT})")
    chosen = parser.parse_args()
    if chosen.seeds < 1 or chosen.threads < 1:
        parser.error("--seeds and --threads are at least 1")
    if chosen.traces and not any(chosen.traces.glob("*.txt.gz")):
        parser.error(f"no *.txt.gz in {chosen.traces}")
    return chosen


def cells_to_run(folder: Path | None, known: Reference) -> list[traces.Cell]:
    """All cells; of a trace that the reference tables have, those they have."""
    found = traces.cells(traces.find(folder))
    if not found:
        raise traces.NotATraceError(f"a quarter of the keys should be {traces.FEWEST} entries or more")
    return [cell for cell in found if known.knows(cell) or not known.knows_trace(cell)]


def replay(cells: list[traces.Cell], chosen: argparse.Namespace) -> Scores:
    """Everything, with a line of progress."""
    wanted = chosen.columns or [*native.COLUMNS, *peers.COLUMNS]
    absent = [column for column in peers.missing() if column in wanted]
    if absent:
        print(f"not installed, left out: {', '.join(absent)}", file=sys.stderr)
    rust = [column for column in native.COLUMNS if column in wanted]
    python = [column for column in peers.COLUMNS if column in wanted and column not in absent]
    scores = Scores()
    if rust:
        print("building the Rust part", file=sys.stderr)
        native.build()
    with Progress("replaying, Rust  ", native.count(cells, chosen.seeds, rust)) as progress:
        for run in native.runs(cells, chosen.seeds, chosen.threads, rust):
            scores.add(run)
            progress.step()
    with Progress("replaying, Python", peers.count(cells, chosen.seeds, python)) as progress:
        for run in peers.runs(cells, chosen.seeds, chosen.threads, python):
            scores.add(run)
            progress.step()
    silent = [column for column in (*rust, *python) if column not in scores.columns]
    if silent:
        print(f"without figures: {', '.join(silent)}", file=sys.stderr)
    scores.columns.sort(key=[*native.COLUMNS, *peers.COLUMNS].index)
    return scores


def report(cells: list[traces.Cell], scores: Scores, known: Reference, seeds: int) -> str:
    """The tables and what they come to."""
    unit, sized = [[cell for cell in cells if cell.sized is by_size] for by_size in (False, True)]
    runs = f"the mean of {seeds} runs where dice are thrown" if seeds > 1 else "one run"
    lines = [f"Hit ratio in percent, entries of one size; `ref`: the reference figure, Δ: the difference; {runs}.", ""]
    lines += table.unit(unit, scores, known)
    lines += ["", *table.summary(unit, scores, known)]
    if any(scores.get(cell, column) is not None for cell in sized for column in scores.columns):
        lines += ["", "Entries with sizes, a bound in bytes: object/byte hit ratio in percent.", ""]
        lines += table.sized(sized, scores, known)
    return "\n".join(lines) + "\n"


def main() -> None:
    chosen = arguments()
    known = Reference()
    try:
        cells = cells_to_run(chosen.traces, known)
        scores = replay(cells, chosen)
    except (traces.NotATraceError, gzip.BadGzipFile) as error:
        sys.exit(f"not a trace: {error}")
    except FileNotFoundError as error:
        sys.exit(f"{error.filename} was not found: the Rust part is built with it")
    except subprocess.CalledProcessError as error:
        sys.exit(f"the Rust part ended with {error.returncode}; what it said stands above")
    except KeyboardInterrupt:
        sys.exit(130)
    text = report(cells, scores, known, chosen.seeds)
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "table.md").write_text(text, encoding="utf-8")
    svg = picture.draw([cell for cell in cells if not cell.sized], scores)
    (chosen.out / "picture.svg").write_text(svg, encoding="utf-8")
    print(text)
    print(f"written: {chosen.out / 'table.md'}, {chosen.out / 'picture.svg'}")


if __name__ == "__main__":
    main()
