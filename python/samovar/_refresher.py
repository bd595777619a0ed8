"""What keeps hot keys fresh behind: its face. Which key is loaded, and when, is decided natively."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from samovar._options import positive, refuse
from samovar._supervisor import Work

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Self

    from samovar._core import CacheCore


class RefresherStats(NamedTuple):
    """Counters of a :class:`Refresher`: the first of now, the others since it was started."""

    #: Keys that are kept fresh.
    tracked: int = 0
    #: Values loaded and stored: what was spent.
    refreshed: int = 0
    #: Loads that ended without a value.
    failed: int = 0
    #: Refreshes that were due and found the budget used up, or no room behind, each counted once.
    put_off: int = 0
    #: Values it had loaded that somebody then read: what was saved. The others were for nothing.
    saved: int = 0


class Refresher:
    """Loads the hot keys of a cache before their values end, within a budget. :meth:`samovar.Cache.refresher` makes it.

    Values of cached async functions that are read often are loaded anew in the last part of their life, the key with
    the most reads first, as there is room behind (`background` of :func:`samovar.configure`). A key is tracked once two
    reads have come in one such part, a tenth of it apart, and until readers find it unread for a whole life twice in a
    row, it is left unread for `idle`, removed, written by hand, or pushed out by hotter ones. Reads on other event
    loops and by name count for a tracked key, and track none.

    Never tracked: values without a ttl, "not found", sync functions, factories of ``get_or_set``, and functions with
    injected parameters, unless ``refresh=`` says how to load without them and the ttl is not computed. A key whose
    load fails is left alone for its `retry_after`, and `min_refresh_interval` holds.

    Without a refresher hits cost what they always cost; with one, the few that it has to know of take the way of a
    miss that finds its value.

    It ends with :meth:`close` or :meth:`cancel`, at the end of an ``async with`` block, and with its cache.
    """

    __slots__ = ("_cache", "_core")

    def __init__(
        self, cache: CacheCore, top: int, rate: float | str, burst: int | None, idle: Any, ahead: float
    ) -> None:
        if isinstance(ahead, bool) or not isinstance(ahead, (int, float)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("ahead", ahead, "give the share of the ttl in which to refresh, above 0 and below 1")
        burst = None if burst is None else positive("burst", burst)
        self._core = cache._refresher(positive("top", top), rate, burst, idle, ahead)
        self._cache = cache

    @property
    def running(self) -> bool:
        """True until it was ended."""
        return self._core.counted()[-1]

    def stats(self) -> RefresherStats:
        """The counters; they stay when it has ended."""
        return RefresherStats._make(self._core.counted()[:-1])

    def cancel(self) -> None:
        """End it, from any thread: it keeps no key fresh any more and its loads are cancelled.

        Loads that a caller waits for by now go on for that caller.
        """
        self._core.stop()

    async def close(self) -> None:
        """End it as :meth:`cancel` does, and wait until its loads are gone. Closing twice is once."""
        if tasks := self._core.stop():
            from samovar._closing import end

            await end([Work(task) for task in tasks], self._cache.name, 5)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        state = "running" if self.running else "ended"
        return f"<Refresher of cache {self._cache.name!r}, {state}: {self.stats()}>"
