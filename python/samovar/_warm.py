"""Warming a function: loading calls before they are asked for, a few at a time, through the usual door.

Each of them needs room in the budget of the cache for what runs behind, and stands in line for it.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from contextlib import asynccontextmanager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, cast

from samovar import _core
from samovar._cached import name_of
from samovar._protect import running_loop

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Iterable
    from contextlib import AbstractAsyncContextManager

#: Loads at a time.
CONCURRENCY = 8


class WarmJob:
    """Loads under way: await it for its end, or cancel it.

    Attributes:
        success: True when it is over and no load failed.
        queued: Calls that have not been started.
        keys: Calls in all.
        loaded: Calls that ended well.
        errors: The exceptions of those that did not, at most 100.
    """

    def __init__(self, function: Any, calls: Iterable[Any]) -> None:
        self.calls = [as_arguments(call) for call in calls]
        self.keys = len(self.calls)
        self.queued = self.keys
        self.loaded = 0
        self.errors: list[BaseException] = []
        self._function = function
        self._cache = function.cache
        self._name = name_of(function)
        self._began = time.monotonic()
        self._task: asyncio.Task[None] | None = None
        self._has_room = False

    @property
    def success(self) -> bool:
        """True when it is over and no load failed."""
        return self.loaded == self.keys

    def cancel(self) -> None:
        """Start no more loads and give up those under way."""
        if self._task is not None:
            self._task.cancel()

    def __await__(self) -> Generator[Any, None, WarmJob]:
        if self._task is not None:
            yield from asyncio.shield(self._task).__await__()
        return self

    def __repr__(self) -> str:
        return f"<WarmJob {self.loaded}/{self.keys} loaded, {self.queued} queued, {len(self.errors)} errors>"

    def note(self, error: BaseException) -> None:
        """Keep an error, but not without bound."""
        if len(self.errors) < 100:
            self.errors.append(error)

    def run(self) -> None:
        """Load all calls of a function that is not async."""
        with self._telling():
            for args, kwargs in self.calls:
                self.queued -= 1
                try:
                    self._function(*args, **kwargs)
                    self.loaded += 1
                except Exception as error:
                    self.note(error)

    @contextmanager
    def _telling(self) -> Generator[None]:
        """Tell listeners how it went, at the end."""
        how = "cancelled"
        try:
            yield
            how = "success" if self.success else "errors"
        finally:
            took = time.monotonic() - self._began
            self._cache._tell_warmed(self._name, self, how, round(took, 3))

    def start(self) -> None:
        """Load all calls of an async function, behind the caller's back."""
        loop = running_loop()
        if loop is None:
            text = f"{self._name}.warm() loads on an event loop, and none runs here; call it in async code"
            raise RuntimeError(text)
        # What runs in a load has that one's room; waiting for another, it might wait for itself.
        self._has_room = _core._loading(_core._state) is not None
        self._task = self._cache._supervisor.start(self._cache.path, loop, self._all(), "samovar warm")

    async def _all(self) -> None:
        waiting = iter(self.calls)
        with self._telling():
            await asyncio.gather(*(self._worker(waiting) for _ in range(min(CONCURRENCY, self.keys))))

    async def _worker(self, waiting: Any) -> None:
        for args, kwargs in waiting:
            async with self._room():
                self.queued -= 1
                try:
                    await self._function(*args, **kwargs)
                    self.loaded += 1
                except Exception as error:
                    self.note(error)

    def _room(self) -> AbstractAsyncContextManager[None]:
        return nullcontext() if self._has_room else room_in(_core._budget_of(self._cache))


@asynccontextmanager
async def room_in(budget: _core.BudgetCore) -> AsyncGenerator[None]:
    """Room for one load among those that run behind; who comes first is served first."""
    bell = asyncio.Event()
    queued = budget.line_up(asyncio.get_running_loop(), bell.set)
    try:
        while (room := queued.take()) is None:
            await bell.wait()
            bell.clear()
    finally:
        queued.leave()
    try:
        yield
    finally:
        room.leave()


def as_arguments(call: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """A tuple is positional arguments, a dict keyword ones, anything else the only argument."""
    if isinstance(call, tuple):
        return call, {}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(call, dict):
        return (), cast("dict[str, Any]", call)
    return (call,), {}


def warm(function: Any, calls: Iterable[Any]) -> WarmJob:
    """Start warming; called by native code for ``f.warm(calls)``."""
    job = WarmJob(function, calls)
    if inspect.iscoroutinefunction(function):
        job.start()
    else:
        job.run()
    return job
