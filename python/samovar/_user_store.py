"""The thread of a user's store: it awaits the user's methods and tells native code, which decides, what they gave."""

from __future__ import annotations

import asyncio
import atexit
import inspect
import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from . import _core

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from ._core import StoreCall, StoreDesk
    from ._store import Store

#: Keys in a page of a scan, and how many scans may be left in the middle.
PAGE = 1000
SCANS = 64
#: Seconds for what is cancelled at the end.
LAST = 1.0

_log = logging.getLogger("samovar")


class _WrongTypeError(Exception):
    """A method of the user's gave what is none of the things it may give."""


def serve(desk: StoreDesk) -> None:
    """Do what comes to the desk, until it is to end. The life of the thread, which is a store's own."""
    asyncio.run(_Server(desk).run())


class _Server:
    """The calls that are under way on this thread's loop."""

    def __init__(self, desk: StoreDesk) -> None:
        self.desk = desk
        self.tasks: dict[int, asyncio.Task[None]] = {}
        self.scans: dict[int, AsyncIterator[str]] = {}

    async def run(self) -> None:
        """Until the end is asked for."""
        self.loop = asyncio.get_running_loop()
        self.end: asyncio.Future[Store | None] = self.loop.create_future()
        self.loop.add_reader(self.desk.fd, self.wake)
        store = await self.end
        self.loop.remove_reader(self.desk.fd)
        tasks = list(self.tasks.values())
        for task in tasks:
            task.cancel()
        if store is not None:
            await self.close(store, tasks)

    def wake(self) -> None:
        """There is something to do."""
        self.do(self.desk.take())

    def do(self, jobs: Iterable[tuple[str, Any]]) -> None:
        """Begin with it; nothing here waits."""
        for what, subject in jobs:
            if what == "do" and self.end.done():
                subject.closed()
            elif what == "do":
                task = self.loop.create_task(self.answer(subject))
                self.tasks[subject.id] = task
                task.add_done_callback(partial(self.left, subject))
            elif what == "cancel":
                if subject in self.tasks:
                    self.tasks[subject].cancel()
            elif not self.end.done():
                self.end.set_result(subject)

    def left(self, call: StoreCall, task: asyncio.Task[None]) -> None:
        """A call is at its end: others may have waited for its keys."""
        del self.tasks[call.id]
        if task.cancelled():
            # Before it had begun.
            call.closed()
        self.do(self.desk.leave(call))

    async def answer(self, call: StoreCall) -> None:
        """Have the store do what a call asks. Whatever it raises is the call's."""
        try:
            if (keys := call.keys) is None:
                await self.page(call)
            else:
                await _work(call, keys)
        except _WrongTypeError as error:
            call.wrong(str(error))
        except BaseException as error:
            if self.end.done():
                call.closed()
            else:
                call.failed(*_blame(error))

    async def page(self, call: StoreCall) -> None:
        """Some keys of a scan, which goes on with the next page."""
        assert call.page is not None
        prefix, place = call.page
        scan = self.scans.pop(place, None) if place else await _asked("scan", _iterator, call.store, prefix)
        if scan is None:
            text = f"it was forgotten, in a forked process or since {SCANS} others went on after it; scan anew"
            raise _MethodError("scan", RuntimeError(text))
        keys, is_over = await self.some(scan, call.budget / 2)
        if not is_over:
            self.scans[place or call.id] = scan
        while len(self.scans) > SCANS:
            await _close(self.scans.pop(next(iter(self.scans))))
        call.scanned(keys, not is_over)

    async def some(self, scan: AsyncIterator[str], seconds: float) -> tuple[list[str], bool]:
        """The next keys, fewer where they come slowly, since each page has its time; and whether these were all."""
        until = self.loop.time() + seconds
        keys: list[str] = []
        try:
            async for key in scan:
                keys.append(key)
                if len(keys) >= PAGE or self.loop.time() >= until:
                    return keys, False
        except Exception as error:
            raise _MethodError("scan", error) from error
        return keys, True

    async def close(self, store: Store, tasks: list[asyncio.Task[None]]) -> None:
        """Have the store close itself, when nothing of it is under way any more."""
        if tasks:
            await asyncio.wait(tasks, timeout=LAST)
        while self.scans:
            await _close(self.scans.popitem()[1])
        try:
            await _awaited("close", store.close())
        except Exception as error:
            _log.warning("closing the store %r failed: %r", store, error)


class _MethodError(Exception):
    """An exception of the user's, and the method that raised it."""

    def __init__(self, method: str, error: BaseException) -> None:
        super().__init__(method, error)


def _blame(error: BaseException) -> tuple[str, BaseException]:
    return error.args if isinstance(error, _MethodError) else ("it", error)


async def _work(call: StoreCall, keys: list[str]) -> None:
    """Read, and write what follows from what was there."""
    store = call.store
    found = await _asked("get_many", store.get_many, keys)
    try:
        sets, swaps, gone = call.found(found)
    except Exception as error:
        raise _MethodError("get_many", error) from error
    if gone:
        await _asked("delete_many", store.delete_many, gone)
    if sets and not call.is_over:
        await _asked("set_many", store.set_many, sets)
    call.written()
    if len(swaps) == 1:
        await _swap(call, *swaps[0])
    elif swaps:
        await asyncio.gather(*(_swap(call, *swap) for swap in swaps))


async def _swap(
    call: StoreCall, place: int, key: str, expected: bytes | None, data: bytes | None, ttl: float | None
) -> None:
    """Swap one key's bytes, as often as something else is there than was read."""
    try:
        while data is not None:
            if call.is_over:
                return
            again = call.swapped(place, await _asked("swap", call.store.swap, key, expected, data, ttl))
            if again is None:
                return
            _, _, expected, data, ttl = again
        await _asked("delete_many", call.store.delete_many, [key])
        call.written(place)
    except _WrongTypeError as error:
        call.wrong(str(error), place)
    except _MethodError as error:
        call.failed(*_blame(error), place)


async def _asked(method: str, call: Any, *given: Any) -> Any:
    """What a method of the user's gives. What it raises is said to be that method's."""
    try:
        return await _awaited(method, call(*given))
    except (asyncio.CancelledError, _WrongTypeError):
        raise
    except BaseException as error:
        raise _MethodError(method, error) from error


async def _awaited(method: str, made: Any) -> Any:
    if not inspect.isawaitable(made):
        raise _WrongTypeError(f"{method} gave a {type(made).__qualname__}, nothing to await; define it by async def")
    return await made


async def _iterator(store: Store, prefix: str) -> AsyncIterator[str]:
    made: Any = store.scan(prefix)
    if not hasattr(made, "__aiter__"):
        if inspect.iscoroutine(made):
            made.close()
        text = f"scan gave a {type(made).__qualname__}, no async iterator; define it by async def with yield"
        raise _WrongTypeError(text)
    iterator: AsyncIterator[str] = aiter(made)
    return iterator


async def _close(scan: AsyncIterator[str]) -> None:
    if closing := getattr(scan, "aclose", None):
        try:
            await closing()
        except Exception as error:
            _log.debug("closing a scan failed: %r", error)


atexit.register(_core._end_user_stores)
