"""Each loop's scenarios and each contender's outage in a process of its own, with a server of its own.

Some clients know but one loop, and leave threads behind.
"""

from __future__ import annotations

import asyncio
import pathlib
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TYPE_CHECKING, TypeVar

# Where the tests start theirs.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent.parent / "tests" / "python"))

from servers import RedisServer

from . import frozen
from .scenarios import Found, measured

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def run(loop: str, only: str) -> Found:
    """The scenarios whose names have this in them, on a loop of this kind."""
    factory = None
    if loop == "uvloop":
        import uvloop

        factory = uvloop.new_event_loop
    server = RedisServer()
    try:
        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(measured(server, only))
    finally:
        server.stop()


def freeze(name: str) -> frozen.Outage | None:
    """One contender's outage."""
    server = RedisServer()
    try:
        return frozen.drilled(server, name)
    finally:
        server.stop()


def apart(work: Callable[..., T], *names: str) -> T:
    """What this does with these names, in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *names).result()
