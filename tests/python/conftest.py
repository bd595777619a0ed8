"""What is checked at the end of every test: a cache has ended all that it began.

No load, task or thread is left, no table disagrees with itself, and asyncio has had nothing to complain of, such as a
task that was destroyed or an exception that nobody retrieved.
"""

import asyncio
import gc
import logging
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from samovar import Cache

#: All caches there are, and namespaces.
CACHES: "weakref.WeakSet[Cache]" = weakref.WeakSet()
make = Cache._make.__func__  # type: ignore[attr-defined]


def make_known(cls: type[Cache], *facts: Any) -> Cache:
    cache: Cache = make(cls, *facts)
    CACHES.add(cache)
    return cache


Cache._make = classmethod(make_known)  # type: ignore[assignment]


class Complaints(logging.Handler):
    """What asyncio logs as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def tasks() -> set["asyncio.Task[Any]"]:
    """Tasks that are not done, of whatever loop."""
    # Before 3.12 it had another name, and no tasks that begin at once.
    scheduled: Any = getattr(asyncio.tasks, "_scheduled_tasks", None) or getattr(asyncio.tasks, "_all_tasks", ())
    eager: Any = getattr(asyncio.tasks, "_eager_tasks", ())
    return {task for task in (*scheduled, *eager) if not task.done()}


def threads() -> set[threading.Thread]:
    """Threads of Python's; one of ours that has called a listener is none."""
    return {thread for thread in threading.enumerate() if not isinstance(thread, threading._DummyThread)}


def in_motion() -> set[str]:
    """What of its caches is not over."""
    found = ((cache, cache._inspect()) for cache in list(CACHES))
    signs = ("flights", "tasks", "fault")
    return {f"{cache!r}: {sign} {inside[sign]}" for cache, inside in found for sign in signs if inside[sign]}


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    before = (in_motion(), tasks(), threads())
    complaints = Complaints()
    logger = logging.getLogger("asyncio")
    logger.addHandler(complaints)

    def left() -> list[object]:
        now = (in_motion(), tasks(), threads())
        return [one for new, old in zip(now, before, strict=True) for one in new - old]

    try:
        yield
        if left():
            # What only the collector can end is not left behind.
            gc.collect()
    finally:
        logger.removeHandler(complaints)
    assert left() == []
    assert complaints.texts == []
