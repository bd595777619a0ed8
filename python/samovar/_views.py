"""What a cache shows of itself: an entry, and counters. Plain named tuples, made by native code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping


class Entry(NamedTuple):
    """One entry as it is now.

    Times are seconds since 1970 (UTC); ``None`` means that there is no such moment.
    """

    value: Any
    #: ``"fresh"``, ``"stale"`` or ``"missing"``.
    state: str
    created: float
    fresh_until: float | None
    expires: float | None
    tags: tuple[str, ...] = ()
    version: int = 0


class Stats(NamedTuple):
    """Counters since the start; ``entries`` and ``bytes`` are of now."""

    hits: int = 0
    stale_hits: int = 0
    negative_hits: int = 0
    misses: int = 0
    loads: int = 0
    load_errors: int = 0
    #: Lookups that waited for another caller's load.
    coalesced: int = 0
    refreshes: int = 0
    evictions: int = 0
    expired: int = 0
    invalidations: int = 0
    entries: int = 0
    #: As the weigher counts them; 0 without ``max_bytes``.
    bytes: int = 0
    #: Not let in: heavier than the cache, or worth less than what would have had to leave.
    refused: int = 0
    #: Ids that a function of many returned though it was not asked for them; they are not used.
    unasked: int = 0

    @property
    def hit_ratio(self) -> float:
        """Hits of every kind as a share of all lookups; 0.0 when there was none."""
        hits = self.hits + self.stale_hits + self.negative_hits
        return hits / (hits + self.misses) if hits + self.misses else 0.0


class Insight(NamedTuple):
    """What a memory tier's order of eviction knows about itself; estimates come from small shadows of the cache."""

    #: The order by name, as in :class:`samovar.Memory`.
    eviction: str
    #: The setting in force; empty for an order that has none.
    setting: str = ""
    #: How often it has changed.
    switches: int = 0
    #: Estimated hit ratio, 0.0 to 1.0, of each setting.
    settings: Mapping[str, float] = {}
    #: Estimated hit ratio at multiples of the present size: 0.5, 1.0 and 2.0.
    curve: Mapping[float, float] = {}


class CacheInfo(NamedTuple):
    """What ``functools.lru_cache`` calls it."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int
