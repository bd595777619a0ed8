"""The peers from Python, each as its documentation says to build it. One that is not installed is left out by name."""

from __future__ import annotations

import importlib
import importlib.util
import multiprocessing
from typing import TYPE_CHECKING, Any

from . import traces
from .scores import Run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .traces import Cell

    Get = Callable[[int], bool]
    Insert = Callable[[int, int], object]

# The module of each column, in the order of the table; True: two runs may differ.
COLUMNS = {
    "theine": ("theine", True),
    "moka-py": ("moka_py", True),
    "cachebox lru": ("cachebox", False),
    "cachebox lfu": ("cachebox", False),
    "cachetools lru": ("cachetools", False),
    "cachetools lfu": ("cachetools", False),
}


def missing() -> list[str]:
    """The columns whose package is not installed."""
    return [column for column, (module, _) in COLUMNS.items() if importlib.util.find_spec(module) is None]


def count(cells: list[Cell], seeds: int, columns: list[str]) -> int:
    """How many runs there will be."""
    return len(cells) * sum(seeds if COLUMNS[column][1] else 1 for column in columns)


def runs(cells: list[Cell], seeds: int, processes: int, columns: list[str]) -> Iterator[Run]:
    """Every column over every cell, as the counts come."""
    jobs = [(cell, column) for cell in cells for column in columns for _ in range(seeds if COLUMNS[column][1] else 1)]
    if not jobs:
        return
    # Not forked: theine has a thread, and a fork would copy its locks.
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        yield from pool.imap_unordered(_run, jobs)


def _run(job: tuple[Cell, str]) -> Run:
    cell, column = job
    made = build(column, cell)
    if made is None:
        return Run(cell, column, None)
    get, insert = made
    keys, sizes = traces.read(cell.trace.path)
    hits = hit_bytes = 0
    for key in keys:
        if get(key):
            hits += 1
            hit_bytes += sizes[key]
        else:
            insert(key, sizes[key])
    return Run(cell, column, hits, hit_bytes)


def build(column: str, cell: Cell) -> tuple[Get, Insert] | None:
    """How to ask a new cache for a key, and how to store one; None if it knows no sizes and they count."""
    module: Any = importlib.import_module(COLUMNS[column][0])
    builders = {"theine": _theine, "moka_py": _moka, "cachebox": _cachebox, "cachetools": _cachetools}
    return builders[module.__name__](module, column, cell)


def _theine(module: Any, column: str, cell: Cell) -> tuple[Get, Insert] | None:
    if cell.sized:
        return None
    cache = module.Cache(cell.capacity)
    return (lambda key: bool(cache.get(key)[1])), cache.set


def _moka(module: Any, column: str, cell: Cell) -> tuple[Get, Insert]:
    weigher = (lambda _, size: size) if cell.sized else None
    cache = module.Moka(cell.capacity, weigher=weigher)
    return (lambda key: cache.get(key) is not None), cache.set


def _cachebox(module: Any, column: str, cell: Cell) -> tuple[Get, Insert]:
    kind = module.LRUCache if column.endswith("lru") else module.LFUCache
    cache = kind(cell.capacity, getsizeof=lambda _, size: size) if cell.sized else kind(cell.capacity)
    return (lambda key: cache.get(key) is not None), _unless_too_large(cache.insert, cell)


def _cachetools(module: Any, column: str, cell: Cell) -> tuple[Get, Insert]:
    kind = module.LRUCache if column.endswith("lru") else module.LFUCache
    cache = kind(cell.capacity, getsizeof=lambda size: size) if cell.sized else kind(cell.capacity)
    return (lambda key: cache.get(key) is not None), _unless_too_large(cache.__setitem__, cell)


def _unless_too_large(insert: Insert, cell: Cell) -> Insert:
    """These raise for a value that is larger than the cache; others do not store it."""
    if not cell.sized:
        return insert
    return lambda key, size: insert(key, size) if size <= cell.capacity else None
