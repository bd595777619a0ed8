"""Batches: ids that are loaded at about the same time on one event loop go into one call of the user's function.

Each id is a key of its own to the cache, and its load is a future here. Who waits for it, when it is refreshed and
what becomes of its value is decided there; a batch ends when its call does, or when nobody waits for any of its ids.
Also here: waiting for many answers at once without a task for each.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
from itertools import chain, repeat
from operator import is_
from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._exceptions import NotFound
from samovar._loaders import is_absent

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Generator, Hashable

    from samovar._loaders import Loaders, Slot


class Batches:
    """What the cache calls to load one id; it calls the user's function for all that come within the window.

    Calls share a batch if they come from one event loop and their other arguments are alike. Arguments that are part
    of the key are compared as keys are, all others, a session say, by identity.

    Args:
        loaders: Who loads.
        slot: Where the ids stand in a call.
        names: The names of the positional arguments other than the ids; the last stands for all that follow.
        injected: The names of those that are not part of the key.
        window: Seconds for which a batch stays open; 0: for the present pass of the loop.
        limit: The most ids of one batch.
        start: Starts the task of a call: `Supervisor.start` of the namespace.
    """

    def __init__(
        self,
        loaders: Loaders,
        slot: Slot,
        names: tuple[str, ...] = ("",),
        injected: Collection[str] = (),
        *,
        window: float = 0,
        limit: int | None = None,
        start: Callable[..., asyncio.Task[Any]],
    ) -> None:
        self.loaders = loaders
        self.start = start
        self.slot = slot
        self.window = window
        self.limit = limit
        self.open: dict[Hashable, Batch] = {}
        self.latest: Batch | None = None
        self._names = names
        self._injected = injected

    def __call__(self, *args: Any, **kwargs: Any) -> asyncio.Future[Any]:
        """The load of one id."""
        loop = asyncio.get_running_loop()
        one = self.slot.get(args, kwargs)
        others, named = self.slot.take(args, kwargs)
        batch = self.latest
        # The ids of one call come one after the other, with the very same arguments beside them.
        if batch is None or not batch.is_of(loop, others, named):
            batch = self.latest = self._batch_of(loop, others, named)
        return batch.add(one)

    def _batch_of(self, loop: asyncio.AbstractEventLoop, others: tuple[Any, ...], named: dict[str, Any]) -> Batch:
        """The batch that is open for these arguments. It holds them, so that each stays what it is."""
        positional = zip(chain(self._names, repeat(self._names[-1])), others, strict=False)
        marks = ((name, self._mark(name, value)) for name, value in chain(positional, named.items()))
        alike = (loop, *marks)
        batch = self.open.get(alike)
        if batch is None:
            self._forget_closed()
            batch = self.open[alike] = Batch(self, alike, loop, others, named)
        return batch

    def _mark(self, name: str, value: object) -> Hashable:
        encoded = None if name in self._injected else _core._encoded(_core._state, value)
        return id(value) if encoded is None else encoded

    def _forget_closed(self) -> None:
        """A loop that was closed before a batch of its could begin never comes back."""
        for alike, batch in list(self.open.items()):
            if batch.loop.is_closed():
                self.open.pop(alike, None)


class Batch:
    """Ids that one call will load, does load, or has loaded."""

    def __init__(
        self,
        batches: Batches,
        alike: Hashable,
        loop: asyncio.AbstractEventLoop,
        others: tuple[Any, ...],
        named: dict[str, Any],
    ) -> None:
        self.loop = loop
        self._batches = batches
        self._alike = alike
        self._others = others
        self._named = named
        #: The call sees what the first of its loads sees, and does the work of all of them.
        self._context = contextvars.copy_context()
        self._loads: list[_core.Loading] = []
        self._loading: dict[Any, list[Load]] = {}
        self._alive = 0
        self._task: asyncio.Task[None] | None = None
        #: For the call, if ids are loaded behind.
        self._room: _core.HeldRoom | None = None
        begin = self._begin
        self._opened: asyncio.Handle | None = (
            loop.call_later(batches.window, begin) if batches.window else loop.call_soon(begin)
        )

    def is_of(self, loop: asyncio.AbstractEventLoop, others: tuple[Any, ...], named: dict[str, Any]) -> bool:
        """True if it is open for these very arguments."""
        return (
            self.loop is loop
            and len(self._others) == len(others)
            and all(map(is_, self._others, others))
            and self._named.keys() == named.keys()
            and all(map(is_, self._named.values(), named.values()))
        )

    def add(self, one: Any) -> Load:
        """The load of one more id."""
        future = Load(self, self.loop)
        self._alive += 1
        self._loading.setdefault(one, []).append(future)
        load = _core._loading(_core._state)
        if load is not None:
            self._loads.append(load)
        if len(self._loading) == self._batches.limit:
            self._begin()
        return future

    def take_room(self, room: _core.HeldRoom) -> None:
        """Keep the room of one of its loads for the one call of all; it needs no more than that."""
        if self._room is None and self._loading:
            self._room = room
        else:
            room.leave()

    def _leave_room(self) -> None:
        room, self._room = self._room, None
        if room is not None:
            room.leave()

    def leave(self) -> None:
        """Nobody waits for one of its loads any more."""
        self._alive -= 1
        if self._alive:
            return
        if self._task is not None:
            self._task.cancel()
        elif self._opened is not None:
            self._close()
            self._loading.clear()
            self._leave_room()

    def _close(self) -> None:
        """Take no more ids."""
        del self._batches.open[self._alike]
        if self._batches.latest is self:
            self._batches.latest = None
        if self._opened is not None:
            self._opened.cancel()
            self._opened = None

    def _begin(self) -> None:
        self._close()
        ids = [one for one, futures in self._loading.items() if not all(future.done() for future in futures)]
        if not ids:
            self._loading.clear()
            self._leave_room()
            return
        self._context.run(_core._load_together, _core._state, self._loads)
        name = f"{self._batches.loaders.name} of {len(ids)}"
        self._task = self._batches.start(self.loop, self._run(ids), name, self._context)

    async def _run(self, ids: list[Any]) -> None:
        call = self._batches.slot.calling_with(self._others, self._named)
        try:
            # The error is given no name here: its traceback leads to this frame.
            self._settle(*await self._batches.loaders.later(ids, call))
        except Exception as failed:
            self._settle({}, failed)
        except (asyncio.CancelledError, KeyboardInterrupt, SystemExit):
            for future in self._waiting():
                future.cancel()
            raise
        finally:
            # They know the batch: nobody is to wait for the collector to be rid of an instance or a session.
            self._loading.clear()
            self._leave_room()

    def _waiting(self) -> list[Load]:
        return [future for futures in self._loading.values() for future in futures if not future.done()]

    def _settle(self, found: dict[Any, Any], error: Exception | None) -> None:
        """Answer each load: its value, the error, or that there is nothing. The first to fail gets the error itself."""
        copied = False
        for one, futures in self._loading.items():
            for future in futures:
                if future.done():
                    continue
                if one in found:
                    future.set_result(found[one])
                elif error is None:
                    future.set_result(NotFound)
                else:
                    future.set_exception(_core._copy_error(error) if copied else error)
                    copied = True


class Load(asyncio.Future[Any]):
    """One id's load, as the cache waits for it and cancels it."""

    def __init__(self, batch: Batch, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(loop=loop)
        self._batch = batch

    def room_for(self, room: _core.HeldRoom) -> None:
        """It is loaded behind, in this room; called by native code."""
        self._batch.take_room(room)

    def cancel(self, msg: Any | None = None) -> bool:
        """End it; the batch goes on for the others."""
        if not super().cancel(msg):
            return False
        self._batch.leave()
        return True


class Together:
    """Many awaitables, awaited at once in one task; each goes on as soon as it can.

    They are driven by hand, as a task drives a coroutine: what they wait for are futures.
    """

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        self.errors: dict[Any, Exception] = {}
        self._running: dict[Any, Generator[Any, Any, Any]] = {}
        self._futures: dict[Any, asyncio.Future[Any]] = {}
        self._ready: list[Any] = []
        self._bell: asyncio.Future[None] | None = None

    async def gather(self, ids: Collection[Any], ask: Callable[[Any], Awaitable[Any]]) -> None:
        """Ask for each id and wait for all. Whoever is cancelled meanwhile leaves all that is left."""
        try:
            for one in ids:
                self._running[one] = ask(one).__await__()
            if len(self._running) > 1:
                _core._ask_together(_core._state)
            for one in ids:
                self._advance(one)
            while self._running:
                await self._wait()
        finally:
            for one, running in self._running.items():
                future = self._futures.get(one)
                if future is not None and not future.get_loop().is_closed():
                    future.cancel()
                running.close()

    async def _wait(self) -> None:
        if not self._ready:
            self._bell = asyncio.get_running_loop().create_future()
            await self._bell
        ready, self._ready = self._ready, []
        for one in ready:
            self._advance(one)

    def _advance(self, one: Any) -> None:
        """Let one go on until it waits again or is done."""
        try:
            done, got = _core._go_on(self._running[one])
        except Exception as error:
            self.errors[one] = error
            del self._running[one]
            return
        if done:
            self.values[one] = got
            del self._running[one]
        else:
            # As a task does with the future that is yielded to it.
            got._asyncio_future_blocking = False
            got.add_done_callback(functools.partial(self._ring, one))
            self._futures[one] = got

    def _ring(self, one: Any, _: asyncio.Future[Any]) -> None:
        self._ready.append(one)
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)


async def load_into(found: dict[Any, Any], missing: Collection[Any], ask: Callable[[Any], Awaitable[Any]]) -> None:
    """Fill in what is missing, and take out what is not there.

    Raises:
        Exception: The first, in the order asked, when everything else is done.
    """
    together = Together()
    await together.gather(missing, ask)
    errors = (together.errors.get(one) for one in missing)
    failed = next((error for error in errors if error is not None and not is_absent(error)), None)
    try:
        if failed is not None:
            raise failed
    finally:
        # An exception that is raised here must not be held here: its traceback holds this frame.
        together.errors.clear()
        del failed
    for one in missing:
        value = together.values.get(one, NotFound)
        if is_absent(value):
            del found[one]
        else:
            found[one] = value


async def as_task(awaitable: Awaitable[Any]) -> Any:
    """Await in a task of its own what may do more than wait for futures."""
    return await asyncio.ensure_future(awaitable)
