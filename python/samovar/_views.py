"""What a cache shows of itself: an entry, counters, and what just happened. Named tuples, made by native code."""

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
    #: The names under which it is invalidated together with others.
    tags: tuple[str, ...] = ()
    #: When it was written, in the order of the store behind the memory; 0 without one, and where that has not got it.
    version: int = 0


class Insight(NamedTuple):
    """What a memory tier's order of eviction knows about itself; estimates come from small shadows of the cache."""

    #: The order by name, as in :class:`samovar.Memory`.
    eviction: str = ""
    #: The setting in force; empty for an order that has none.
    setting: str = ""
    #: How often it has changed.
    switches: int = 0
    #: Estimated hit ratio, 0.0 to 1.0, of each setting.
    settings: Mapping[str, float] = {}
    #: Estimated hit ratio at multiples of the present size: 0.5, 1.0 and 2.0.
    curve: Mapping[float, float] = {}


class _Counters(NamedTuple):
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
    #: Lookups that the store behind the memory answered; they are no misses.
    remote_hits: int = 0

    @property
    def hit_ratio(self) -> float:
        """Hits of every kind as a share of all lookups; 0.0 when there was none."""
        hits = self.hits + self.stale_hits + self.negative_hits + self.remote_hits
        return hits / (hits + self.misses) if hits + self.misses else 0.0


class Stats(_Counters):
    """Counters since the start; ``entries`` and ``bytes`` are of now.

    As a tuple it is the counters alone: two are equal if these are.
    """

    #: Who leaves when there is no room, how that goes, and what other settings and sizes would hit; at that moment.
    insight: Insight = Insight()

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, insight={self.insight!r})"


class Event(NamedTuple):
    """Something that happened in a cache, as listeners are told of it: see :meth:`samovar.Cache.on`."""

    #: What happened, by the name under which it is listened to.
    name: str
    #: The cache's name.
    cache: str
    #: The namespace it happened in, ``""`` for the whole cache.
    namespace: str
    #: The cached function, by module and qualified name; ``None`` for entries that were stored by name. Of breaker:
    #: whichever function was called.
    function: str | None
    #: The key as ``f.key()`` or the name in the cache. ``None`` for a call that has none, such as one on an instance
    #: without ``__cache_key__``, and where all of a function or namespace was invalidated.
    key: str | None
    #: What was stored, evicted, expired or invalidated, as a reader would get it. Of breaker: the breaker; of
    #: warm_completed: the job.
    value: Any = None
    #: Of evict: ``"capacity"``, ``"resize"``, ``"cleared"`` or ``"refused"``; of expire: ``"ttl"``; of load and
    #: load_error: ``"miss"`` or ``"refresh"``; of breaker: its new state; of warm_completed: ``"success"``,
    #: ``"errors"`` or ``"cancelled"``.
    reason: str | None = None
    #: Of load, load_error and warm_completed: how long it took, in whole milliseconds.
    seconds: float | None = None
    #: Of load_error: what the loader raised.
    error: BaseException | None = None


class CacheInfo(NamedTuple):
    """What ``functools.lru_cache`` calls it."""

    hits: int
    misses: int
    maxsize: int | None
    currsize: int


class Explanation(NamedTuple):
    """Why a lookup does what it does: what is there, until when it is of use, and what would happen now.

    Moments are seconds since 1970, None where there is none.
    """

    #: As ``f.key()`` or the name in the cache; the function's name for a call that has no key.
    key: str
    #: "fresh", "stale" (answers, and is loaded anew), "grace" (answers if a load fails), "dead", "missing", "absent".
    state: str
    #: What a lookup would do now.
    would: str
    created: float | None
    fresh_until: float | None
    #: Under the policy in force it answers until then.
    useful_until: float | None
    #: It is dropped then.
    expires: float | None
    #: After a load that failed: no other before.
    retry_at: float | None
    #: Seconds its load took; 0.0 if it was set.
    load_time: float
    #: How many callers wait for the load under way; None if there is none.
    waiting: int | None
    now: float
    #: Of a cached function: what would refuse a load now or have it wait, as `samovar.resilience` shows it.
    gates: tuple[str, ...] = ()

    def __str__(self) -> str:
        def ago(moment: float | None, past: str, future: str) -> str:
            if moment is None:
                return ""
            gap = self.now - moment
            return f"{past} {gap:.3f} s ago" if gap >= 0 else f"{future} in {-gap:.3f} s"

        said = [
            f"a load is under way, {self.waiting} wait for it" if self.waiting is not None else "",
            ago(self.created, "stored", "stored"),
            ago(self.fresh_until, "stopped being fresh", "stops being fresh"),
            ago(self.useful_until, "stopped being of use", "stops being of use"),
            f"a load failed, the next is tried in {self.retry_at - self.now:.3f} s" if self.retry_at else "",
            f"its load took {self.load_time:.3f} s" if self.load_time else "",
            f"a load would be held up by {', '.join(self.gates)}" if self.gates else "",
        ]
        return f"{self.key!r} is {self.state}: a lookup would {self.would}. " + "; ".join(part for part in said if part)
