"""Closing a cache: what works for it comes to its end, or is ended, on whichever event loops it runs."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from samovar._supervisor import Work

log = logging.getLogger("samovar")


async def end(works: Iterable[Work], name: str, grace: float) -> None:
    """End all of it, on whichever loops it runs. What a caller waits for has so many seconds to end by itself."""
    here, closer = asyncio.get_running_loop(), asyncio.current_task()
    # Whoever closes a cache from within a load of it is not waited for.
    works = [work for work in works if work.future is not closer]
    waits: list[asyncio.Future[None]] = []
    for loop, there in by_loop(works).items():
        if loop is here:
            waits.append(asyncio.ensure_future(end_here(there, name, grace)))
        elif loop.is_running():
            ending = asyncio.run_coroutine_threadsafe(end_here(there, name, grace), loop)
            waits.append(asyncio.wrap_future(ending))
    await asyncio.gather(*waits)


def end_behind(works: Iterable[Work]) -> None:
    """End all that nobody waits for, and wait for nothing: for callers without a loop."""
    for loop, there in by_loop(works).items():
        if not loop.is_closed():
            for work in there:
                if not work.wanted:
                    loop.call_soon_threadsafe(work.future.cancel)


def by_loop(works: Iterable[Work]) -> dict[asyncio.AbstractEventLoop, list[Work]]:
    """All of it, by where it runs."""
    found: dict[asyncio.AbstractEventLoop, list[Work]] = {}
    for work in works:
        found.setdefault(work.future.get_loop(), []).append(work)
    return found


async def end_here(works: list[Work], name: str, grace: float) -> None:
    """As `end`, for what runs on this loop."""
    for work in works:
        if not work.wanted:
            work.future.cancel()
    late = await waited_for(works, grace)
    for work in late:
        work.future.cancel()
    for work in await waited_for(late, grace):
        log.warning("cache %r is closed, and %r goes on: it does not end when it is cancelled", name, work.future)


async def waited_for(works: list[Work], grace: float) -> list[Work]:
    """Those that are not done after so many seconds."""
    if works:
        await asyncio.wait([work.future for work in works], timeout=grace)
    return [work for work in works if not work.future.done()]
