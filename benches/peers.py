"""What does a set with eviction cost, against cachebox? Peers that are not installed are left out by name."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any

import hits
from samovar import Cache, Memory

if TYPE_CHECKING:
    from collections.abc import Callable

ENTRIES = 1000


def sets(store: Callable[[str, Any], object], value: Any) -> Callable[[], None]:
    """New keys for ever: every set evicts once the cache is full."""
    numbers = itertools.count()

    def run() -> None:
        for _ in range(hits.CALLS):
            store(f"key{next(numbers)}", value)

    return run


def rows() -> list[tuple[str, str, tuple[float, float, float]]]:
    """Question, peer, and ratio."""
    try:
        import cachebox
    except ImportError:
        print("cachebox is not installed: left out", file=sys.stderr)
        return []
    ours = Cache(name="sets", memory=Memory(ENTRIES, max_bytes=None, eviction="lru"))
    lru: Any = cachebox.LRUCache(ENTRIES)
    ttl: Any = cachebox.VTTLCache(ENTRIES)
    table = {str(n): n for n in range(10)}
    plain = hits.ratio(sets(ours.sync.set, "value"), sets(lru.insert, "value"))
    own = hits.ratio(
        sets(lambda key, value: ours.sync.set(key, value, 300), table),
        sets(lambda key, value: ttl.insert(key, value, ttl=300), table),
    )
    return [
        ("set with eviction, str values", "cachebox LRUCache", plain),
        ("set with eviction and ttl, 10-key dicts", "cachebox VTTLCache", own),
    ]
