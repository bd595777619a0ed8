"""Several processes, one Redis, and everything that may go wrong between them: does anybody ever read what is too old?

Each process has a proxy of its own before the Redis. Some change a source of truth that all share, and invalidate; all
read, and note when each read began and which version it gave. Meanwhile faults are done to them by a seed. Afterwards
every read is judged: what the process itself has changed it never reads in an older version, and what others have
changed no later than the bound of docs/bus.md after the store has it and can be reached.

    python -P tests/soak/soak.py [--seconds 600] [--seed 1] [--processes 6] [--faults cut,mute] [--deaf]

Ends with 1 if there was a violation. `--deaf` hears nobody: then there have to be some.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "python")]

from faults import FAULTS, Field, schedule  # noqa: E402
from history import BOUND, MARGIN, Change, Read, Verdict, Violation, judge  # noqa: E402
from process import KEYS, READ, WAYS, Orders, Source  # noqa: E402
from proxy import Proxy  # noqa: E402
from servers import RedisServer  # noqa: E402

#: A replica of such a server has all at once.
PROMPT = ("--repl-diskless-sync-delay", "0")
#: So many of the processes change something.
WRITERS = 2
#: At the end nothing happens for so long: all there is to hear has been heard then.
QUIET = 6.0
#: No more violations are written out.
SHOWN = 20


@dataclass
class Soaked:
    """What came of it."""

    verdict: Verdict = field(default_factory=Verdict)
    changes: list[Change] = field(default_factory=list)
    #: Changes that the store had not heard of at once.
    queued: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    faults: dict[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> list[Change]:
        return [change for change in self.changes if change.there == math.inf]

    @property
    def is_good(self) -> bool:
        return not self.verdict.violations and not self.lost

    def table(self) -> str:
        verdict, counts = self.verdict, self.counts
        rows: list[tuple[str, object]] = [
            ("reads", verdict.reads),
            ("… answered by memory", counts["hits"]),
            ("… by Redis, by a load", f"{counts['remote_hits']}, {counts['loads']}"),
            ("changes, each followed by an invalidation", len(self.changes)),
            ("… that Redis heard of later", self.queued),
            ("… that it never heard of", len(self.lost)),
            ("faults", sum(self.faults.values())),
            ("… of these", ", ".join(f"{name} {number}" for name, number in sorted(self.faults.items()))),
            ("connections", counts["connects"]),
            ("stale reads of others", verdict.stale),
            ("… the longest after Redis had something newer", f"{verdict.longest:.3f} s of {BOUND:g}"),
            ("… while Redis was away, or since", verdict.away),
            ("… the longest after it was back", f"{verdict.longest_back:.3f} s of {BOUND:g}"),
            ("violations", len(verdict.violations)),
        ]
        return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows)])


async def soak(options: argparse.Namespace, folder: str) -> tuple[Field, list[dict[str, int]]]:
    """The processes do their work, and faults are done to them; what those were, and what the processes counted."""
    Source.make(folder)
    pair = [RedisServer(*PROMPT) for _ in range(2)]
    pair[1].ask("REPLICAOF", "127.0.0.1", str(pair[0].port))
    draws = random.Random(options.seed)
    proxies: list[Proxy] = []
    processes: list[asyncio.subprocess.Process] = []
    try:
        for number in range(options.processes):
            proxies.append(await Proxy.open(pair[0].port))
            orders = Orders(
                number=number,
                url=f"redis://127.0.0.1:{proxies[number].port}/0",
                folder=folder,
                seed=draws.getrandbits(32),
                writes=(number, WRITERS) if number < WRITERS else None,
                options={"bus": None} if options.deaf else {},
            )
            command = [sys.executable, "-P", str(HERE / "process.py"), json.dumps(orders._asdict())]
            pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            processes.append(await asyncio.create_subprocess_exec(*command, **pipes))
        for process in processes:
            assert process.stdout is not None
            assert await process.stdout.readline() == b"ready\n"
        field = Field(options.seed, pair, proxies, processes)
        await schedule(field, options.faults, time.monotonic() + options.seconds)
        await asyncio.sleep(QUIET)
        counted = []
        for process in processes:
            out, _ = await process.communicate(b"enough\n")
            assert process.returncode == 0, f"a process has ended with {process.returncode}"
            counted.append(json.loads(out))
        return field, counted
    finally:
        for process in processes:
            if process.returncode is None:
                process.kill()
                await process.wait()
        for proxy in proxies:
            await proxy.close()
        for redis in pair:
            redis.stop()


def read_back(folder: str, number: int) -> Iterator[Read]:
    data = (Path(folder) / f"reads-{number}").read_bytes()
    for began, version, key, way in READ.iter_unpack(data):
        yield Read(began, version, key, way)


def changes_of(folder: str, number: int) -> tuple[list[Change], int]:
    """What a process has changed, and how many of that the store has heard of later."""
    found: list[Change] = []
    waiting: list[Change] = []
    queued = 0
    for line in (Path(folder) / f"changes-{number}").read_text().splitlines():
        noted = json.loads(line)
        if "recovered" in noted:
            heard = [change for change in waiting if change.ended <= noted["asked"]]
            found += [change._replace(there=noted["recovered"]) for change in heard]
            waiting = [change for change in waiting if change.ended > noted["asked"]]
            continue
        versions = {int(key): version for key, version in noted["versions"].items()}
        there = noted["ended"] if noted["applied"] else math.inf
        change = Change(number, noted["how"], noted["began"], noted["ended"], versions, there)
        queued += not noted["applied"]
        (found if noted["applied"] else waiting).append(change)
    return found + waiting, queued


def judged(folder: str, happened: Field, counted: list[dict[str, int]]) -> Soaked:
    soaked = Soaked(faults=dict(happened.counts))
    soaked.counts = {name: sum(one[name] for one in counted) for name in counted[0]}
    for number in range(len(counted)):
        if (Path(folder) / f"changes-{number}").exists():
            changes, queued = changes_of(folder, number)
            soaked.changes += changes
            soaked.queued += queued
    for number, outages in enumerate(happened.outages):
        judge(soaked.verdict, number, read_back(folder, number), soaked.changes, outages)
    return soaked


def write_down(path: Path, soaked: Soaked, happened: Field, folder: str) -> None:
    """What led to each violation: the changes of its key, all faults and what its process read, in order."""
    lines = []
    for number, change in enumerate(soaked.lost):
        lines.append(f"lost {number}: {change}")
    found: dict[object, list[Violation]] = {}
    for one in soaked.verdict.violations:
        found.setdefault((one.process, one.read.key, one.change.began), []).append(one)
    for same in list(found.values())[:SHOWN]:
        violation = same[0]
        read, change = violation.read, violation.change
        zero, end = change.began - 3, same[-1].read.began + 0.5
        late = read.began - violation.due
        where = f"process {violation.process}, key {read.key}, by {WAYS[read.way]}"
        lines.append(f"\n{where}: version {read.version}, {late:.3f} s too late, the first of {len(same)}")
        events = [(read.began, ">>> this read")]
        for made in soaked.changes:
            if read.key in made.versions:
                there = "at once" if made.there == made.ended else f"at {made.there - zero:.4f}"
                text = f"process {made.process}: {made.how} to {made.versions[read.key]}, there {there},"
                events += [(made.began, f"{text} begins"), (made.ended, f"{text} has returned")]
        for what, began, ended in happened.done:
            events += [(began, f"fault: {what} begins"), (ended, f"fault: {what} is over")]
        events += [(began, "out of its reach") for began, _ in happened.outages[violation.process]]
        events += [(ended, "in its reach again") for _, ended in happened.outages[violation.process]]
        for one_read in read_back(folder, violation.process):
            if one_read.key == read.key:
                events.append((one_read.began, f"reads {one_read.version} by {WAYS[one_read.way]}"))
        lines += [f"{when - zero:9.4f} {text}" for when, text in sorted(events) if zero <= when <= end]
    path.write_text("\n".join(lines) + "\n")


def run(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--processes", type=int, default=6)
    parser.add_argument("--faults", type=lambda text: [name for name in text.split(",") if name], default=list(FAULTS))
    parser.add_argument("--deaf", action="store_true", help="nobody is heard: there have to be violations")
    parser.add_argument("--history", type=Path, default=Path("build/soak.txt"), help="what led to violations, if any")
    options = parser.parse_args(arguments)
    folder = tempfile.mkdtemp(prefix="samovar-soak-")
    try:
        happened, counted = asyncio.run(soak(options, folder))
        soaked = judged(folder, happened, counted)
        print(f"{options.processes} processes, {WRITERS} of which write, {KEYS} keys, ", end="")
        print(f"{options.seconds:g} s, seed {options.seed}; margin {MARGIN:g} s\n\n{soaked.table()}")
        if not soaked.is_good:
            options.history.parent.mkdir(parents=True, exist_ok=True)
            write_down(options.history, soaked, happened, folder)
            print(f"\nwhat led to it is in {options.history}")
        return 0 if soaked.is_good else 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
