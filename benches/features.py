"""Does a feature cost a hit anything while it has nothing to do? Instructions of a hit, beside one under a bare policy.

`make features` counts them under callgrind, prints the table, and fails where one takes 1 % more than the bare policy.
"""

from __future__ import annotations

import asyncio
import gc
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from samovar import Adaptive, Cache, Policy, Rule

if TYPE_CHECKING:
    from collections.abc import Callable

BOUND = 1.01
CALLS = 2_000
WARM = 100
KEY = "key1"

#: Options of a policy, none of which has anything to do with a fresh value.
OPTIONS: dict[str, dict[str, Any]] = {
    "stale_while_revalidate": {"stale_while_revalidate": "1m"},
    "stale_if_error": {"stale_if_error": "1h"},
    "early": {"early": True},
    "jitter": {"jitter": 0.5},
    "an adaptive ttl": {"ttl": Adaptive("5m", "1h")},
    "negative_ttl": {"negative_ttl": "1m"},
    "soft_timeout and timeout": {"soft_timeout": 1, "timeout": 2, "stale_if_error": "1h"},
    "cache_errors": {"cache_errors": {OSError: "1m"}},
    "fallback": {"fallback": 0},
    "retry": {"retry": 3},
    "breaker": {"breaker": True},
    "rate": {"rate": "100/s"},
    "concurrency": {"concurrency": 8},
}
LISTENERS = "listeners to all but hits"
FEATURES = ["a bare policy", *OPTIONS, "1 rule", "100 rules", LISTENERS]


def made(feature: str) -> Cache:
    """A cache with this feature."""
    rules = {"1 rule": 1, "100 rules": 100}.get(feature, 0)
    cache = Cache(
        name=feature,
        policy=Policy(**{"ttl": "5m", "jitter": 0, **OPTIONS.get(feature, {})}),
        rules=[Rule(f"word{n}:*", ttl=60) for n in range(rules)],
    )
    if feature == LISTENERS:
        for event in ("miss", "load", "load_error", "store", "evict", "expire", "invalidate"):
            cache.on(event, lambda _: None)
    return cache


def awaited(cache: Cache) -> None:
    """Awaits a decorated function."""

    @cache.cached
    async def load(x: int) -> int:
        return x

    async def hit(calls: int) -> None:
        for _ in range(calls):
            await load(1)

    async def run() -> None:
        await hit(WARM)
        mark()
        await hit(CALLS)
        mark()
        assert load.stats().hits == WARM - 1 + CALLS

    asyncio.run(run())


def called(cache: Cache) -> None:
    """Gets by name."""

    def hit(calls: int) -> None:
        for _ in range(calls):
            get(KEY)

    get = cache.sync.get
    cache.sync.set(KEY, 1)
    hit(WARM)
    mark()
    hit(CALLS)
    mark()
    assert cache.stats().hits == WARM + CALLS


HITS: dict[str, Callable[[Cache], None]] = {"await f(1)": awaited, "cache.sync.get(key)": called}


def mark() -> None:
    """Has callgrind write down what it has counted, and begin anew: it watches for this call of the C library."""
    os.getppid()


def counted() -> list[int]:
    """Instructions between two marks, for all marks of a run under valgrind."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "counts"
        tool = ["valgrind", "--tool=callgrind", "--dump-before=getppid", f"--callgrind-out-file={out}"]
        child = [sys.executable, "-P", __file__, "under valgrind"]
        run = subprocess.run([*tool, *child], capture_output=True, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})
        if run.returncode:
            raise SystemExit(run.stderr)
        written = sorted(out.parent.glob("counts.*"), key=lambda file: int(file.suffix[1:]))
        found = [re.search(r"^(?:summary|totals): (\d+)", file.read_text(), re.MULTILINE) for file in written]
    return [int(total[1]) for total in found if total]


def main() -> None:
    """One row a feature."""
    if not shutil.which("valgrind"):
        raise SystemExit("valgrind is not installed: on Debian, apt-get install valgrind")
    # Every second one is from before a loop to after it.
    counts = iter(counted()[1::2])
    print(f"| instructions of a hit | {' | '.join(f'`{hit}`' for hit in HITS)} |")
    print(f"|---|{'--:|' * len(HITS)}")
    bare: list[float] = []
    worst = 0.0
    for feature in FEATURES:
        found = [next(counts) / CALLS for _ in HITS]
        bare = bare or found
        worst = max(worst, *(count / least for count, least in zip(found, bare, strict=True)))
        print(f"| {feature} | {' | '.join(f'{count:.1f}' for count in found)} |")
    print(f"\nAt most {worst:.3f} times the bare policy.")
    if worst > BOUND:
        raise SystemExit(f"beyond {BOUND}: a feature that has nothing to do costs a hit something")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        gc.disable()
        for feature in FEATURES:
            for hit in HITS.values():
                hit(made(feature))
    else:
        main()
