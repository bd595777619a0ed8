"""The request log that is replayed: which page is asked for, in which order, and how big each page is."""

import gzip
from dataclasses import dataclass
from pathlib import Path

TRACE = Path(__file__).parents[1] / "data" / "weblog-apache.txt.gz"


@dataclass(frozen=True)
class Trace:
    """Page numbers in the order of the log, and the size of every page in bytes."""

    requests: list[int]
    sizes: dict[int, int]


def read_trace(path: Path = TRACE) -> Trace:
    """Read a log of lines ``key size``; see ``examples/data/README.md``."""
    requests: list[int] = []
    sizes: dict[int, int] = {}
    with gzip.open(path, "rt", encoding="ascii") as lines:
        for line in lines:
            key, size = (int(field) for field in line.split())
            requests.append(key)
            sizes[key] = size
    return Trace(requests, sizes)
