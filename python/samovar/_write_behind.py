"""The driver of a write-behind queue: calls the writer with what `samovar._core.WriteQueue` says, when it says so.

On an event loop a task writes, for as long as something is pending; no thread is made. Where there is no loop whoever
writes, flushes or closes does it. What is pending, what goes together and when it is tried again is decided natively.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import contextvars
import logging
import os
import sys
from collections import deque
from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._cached import is_async
from samovar._exceptions import CircuitOpen, RateLimited, WouldDeadlock, WriteQueueFull, WritesLost, WritesPending
from samovar._protect import running_loop
from samovar._ways import AWAITING, BLOCKING, NotAwaited, blocking, rung
from samovar._writing import LostWrite, no_deleter, writes_lost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from samovar._ways import Way
    from samovar._writing import GivenTime, WriteBehind

log = logging.getLogger("samovar")

#: The queues and batches that the code running here was called to write, or by which it was started.
WRITING: contextvars.ContextVar[tuple[tuple[Behind, int], ...]] = contextvars.ContextVar("samovar.writing", default=())
#: Those with something to write, whoever else has forgotten them.
UNWRITTEN: set[Behind] = set()
#: Milliseconds that are beyond all time.
FAR = 1 << 40


class Worker:
    """A task that writes on an event loop while there is something to write."""

    def __init__(self, behind: Behind, loop: asyncio.AbstractEventLoop) -> None:
        self.behind = behind
        self.loop = loop
        #: The batch it has under way.
        self.batch: int | None = None

    def start(self) -> None:
        """Begin, on its loop; in a context of its own, not that of whoever happened to write first."""
        name = f"samovar write-behind {self.behind.core.name}"
        self.behind.start(self.loop, self.behind.work_here(self), name, contextvars.Context())


class Behind:
    """What writes behind for one namespace."""

    is_behind = True

    def __init__(self, core: _core.CacheCore, options: WriteBehind, start: Callable[..., asyncio.Task[Any]]) -> None:
        self.core = core
        #: Starts a task that ends with the namespace at the latest, when what is pending is written or given up.
        self.start = start
        self.options = options
        self.awaits = is_async(options.writer) or is_async(options.deleter)
        self.queue = _core.WriteQueue(core, options)
        self.forget()

    def forget(self) -> None:
        """Begin anew, with nobody at work: at first, and in a forked child."""
        self.workers: set[Worker] = set()
        #: Rung when something has changed.
        self.bells: deque[Any] = deque()
        #: Rung when there is room, the first first.
        self.room: deque[Any] = deque()
        #: Where somebody wrote last.
        self.home: asyncio.AbstractEventLoop | None = None
        #: The batch that the writer is called with.
        self.batch: int | None = None
        #: What it raised last, None once it went well.
        self.error: BaseException | None = None
        UNWRITTEN.discard(self)

    def count(self) -> int:
        """How many writes are pending."""
        return len(self.queue)

    # --- what a source asks of it -------------------------------------------------------------------------------------

    def pending(self, key: str) -> tuple[bool, Any] | None:
        """Whether the pending write of a key is a delete, and its value."""
        return self.queue.get(key)

    async def write(self, way: Way, key: str, value: object) -> None:
        """Have a value written."""
        await self.put(way, key, value, deletes=False)

    async def delete(self, way: Way, key: str) -> None:
        """Have a key deleted."""
        if self.options.deleter is None:
            raise no_deleter(key)
        await self.put(way, key, None, deletes=True)

    async def put(self, way: Way, key: str, value: object, *, deletes: bool) -> None:
        """Put a write into the queue, when there is room for it."""
        if not way.blocks:
            self.home = running_loop() or self.home
        loop = self.place()
        if loop is None and self.awaits:
            raise NotAwaited.of(self.options.writer)
        if loop is None:
            # Nobody awaits here, as on trio, or in a program without a loop.
            way = BLOCKING
        # Who comes now does not go before those who wait for room; a key that is pending needs none.
        ring = None if self.room and self.queue.get(key) is None else self.accept(key, value, deletes)
        if ring is None:
            await self.put_when_there_is_room(way, key, value, deletes)
        elif loop is not None:
            self.call_on(loop, ring)
        else:
            await self.write_one(way)

    def accept(self, key: str, value: object, deletes: bool) -> bool | None:
        """None if there is no room, else whether those at work should look again."""
        ring = self.queue.put(key, value, deletes)
        if ring is not None and self not in UNWRITTEN:
            UNWRITTEN.add(self)
            write_at_the_end_of_a_worker()
        return ring

    def settle_up(self) -> None:
        """Nobody has to remember what has nothing to write."""
        if not len(self.queue):
            UNWRITTEN.discard(self)
            if len(self.queue):
                UNWRITTEN.add(self)

    async def put_when_there_is_room(self, way: Way, key: str, value: object, deletes: bool) -> None:
        """Wait for room, but not for longer than `max_wait`."""
        until = _core._clock_millis() + millis(self.options.max_wait)
        bell, in_time = way.bell(until), True
        self.room.append(bell)
        try:
            while in_time:
                ring = self.accept(key, value, deletes) if first(self.room, bell) is bell else None
                if ring is not None:
                    self.call_on(self.place(), ring)
                    return
                in_time = await self.wait_for_room(way, bell, until)
                discard(self.room, bell)
                bell = way.bell(until)
                self.room.appendleft(bell)
        finally:
            # Whoever goes may have been called, or have stood before others.
            discard(self.room, bell)
            self.make_room()
        raise self.is_full(key)

    async def wait_for_room(self, way: Way, bell: Any, until: int) -> bool:
        """Wait, or make room oneself where nobody else does; False if it is too late."""
        loop, here = self.place(), running_loop()
        self.call_on(loop, True)
        if way.blocks and not self.awaits and await self.write_one(way):
            return True
        if way.blocks and here is not None:
            # Who would make room runs on the loop that waiting here would block.
            return False
        if loop is not None:
            return await rung(bell)
        step = self.queue.next()
        if isinstance(step, tuple):
            await self.call_writer(way, step)
        elif step is not None:
            await rung(way.bell(min(step, until)))
        return _core._clock_millis() < until

    def is_full(self, key: str) -> WriteQueueFull:
        """The error of who has waited long enough."""
        error = WriteQueueFull(
            f"cannot write {key!r}: the write-behind queue of cache {self.core.name!r} was full with {len(self.queue)} "
            f"keys for max_wait={self.options.max_wait!r}; nothing was written or stored. The source is slow or away "
            "(see the cause), or max_pending= is too small"
        )
        error.__cause__ = self.error
        return error

    async def flush(self, way: Way, limit: GivenTime) -> None:
        """Write what is pending now."""
        until = None if limit is None else _core._clock_millis() + millis(limit)
        if not await self.settle(way, self.hurry(), until):
            raise WritesPending(
                f"flushing cache {self.core.name!r} took longer than {limit!r}: {len(self.queue)} still pending, to "
                "be tried again"
            ) from self.error

    async def close(self, way: Way) -> None:
        """Write what is pending, and give up what cannot be written in time. Whoever writes then ends, or is ended."""
        until = _core._clock_millis() + millis(self.options.close_timeout)
        while len(self.queue) and await self.settle(way, self.hurry(), until):
            pass
        lost = self.lose(self.queue.give_up(), self.error)
        self.settle_up()
        self.make_room()
        self.ring()
        if lost:
            raise writes_lost(self.core.name, lost) from self.error

    def hurry(self) -> int:
        """Have what is pending written now, by those at work if there are any."""
        mark = self.queue.hurry()
        self.ring()
        return mark

    async def settle(self, way: Way, mark: int, until: int | None) -> bool:
        """Wait until what was pending at a mark is written or lost; False if it is too late."""
        if any(behind is self and batch == self.batch for behind, batch in WRITING.get()):
            raise WouldDeadlock("a writer cannot flush or close the cache that called it: it would wait for itself")
        while not self.queue.is_settled(mark):
            loop = self.place()
            if not self.awaits and (way.blocks or loop is None):
                return await self.work(BLOCKING, mark=mark, until=until)
            if loop is None or (way.blocks and loop is running_loop()):
                raise NotAwaited.of(self.options.writer)
            bell = way.bell()
            self.bells.append(bell)
            self.call_on(loop, False)
            if self.queue.is_settled(mark):
                # Before there was a bell to ring.
                discard(self.bells, bell)
            elif not await self.wait_until(bell, FAR, until):
                return False
        return True

    # --- who writes ---------------------------------------------------------------------------------------------------

    def place(self) -> asyncio.AbstractEventLoop | None:
        """An event loop to write on: where somebody writes, the present one, or the last that was written from."""
        for worker in tuple(self.workers):
            if worker.loop.is_closed():
                self.workers.discard(worker)
                if worker.batch is not None:
                    self.ended(worker.batch, "unknown", None)
            elif worker.loop.is_running():
                return worker.loop
        here = running_loop()
        if here is None and self.home is not None and self.home.is_running():
            return self.home
        return here

    def call_on(self, loop: asyncio.AbstractEventLoop | None, ring: bool) -> None:
        """See that somebody writes on a loop; whoever does looks again if there is reason to.

        A worker whose loop stands still does not count. Should it go on, the queue keeps the two apart.
        """
        if loop is None:
            return
        if any(worker.loop is loop for worker in tuple(self.workers)):
            if ring:
                self.ring()
            return
        worker = Worker(self, loop)
        self.workers.add(worker)
        if loop is running_loop():
            worker.start()
            return
        try:
            loop.call_soon_threadsafe(worker.start)
        except RuntimeError:
            self.workers.discard(worker)

    async def work_here(self, worker: Worker) -> None:
        """Write until nothing is pending. Whoever ends the task, as a closing loop does, has it write that first."""
        try:
            await self.work(AWAITING, worker)
        except asyncio.CancelledError:
            await self.write_off(worker)
            raise
        finally:
            self.workers.discard(worker)
            self.ring()
        if len(self.queue):
            # It came after the last look, and found somebody at work.
            self.call_on(worker.loop, True)

    async def write_off(self, worker: Worker) -> None:
        """Write what can be written without a pause."""
        self.queue.hurry()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(millis(self.options.close_timeout) / 1000):
                while isinstance(step := self.queue.next(), tuple):
                    await self.call_writer(AWAITING, step, worker)

    async def work(
        self, way: Way, worker: Worker | None = None, mark: int | None = None, until: int | None = None
    ) -> bool:
        """Write until nothing is pending, or what was at a mark is settled; False if it is too late."""
        while mark is None or not self.queue.is_settled(mark):
            # Before the look: whoever changes something afterwards rings it.
            bell = way.bell()
            self.bells.append(bell)
            step = self.queue.next()
            if isinstance(step, tuple):
                discard(self.bells, bell)
                await self.call_writer(way, step, worker)
                await way.breathe()
            elif step is None:
                discard(self.bells, bell)
                return True
            elif not await self.wait_until(bell, step, until):
                return False
        return True

    async def wait_until(self, bell: Any, moment: int, until: int | None) -> bool:
        """Wait for a bell or a moment; False if it is too late by then."""
        moment = moment if until is None else min(moment, until)
        bell.call.deadline = None if moment >= FAR else moment
        try:
            await rung(bell)
        finally:
            discard(self.bells, bell)
        return until is None or _core._clock_millis() < until

    async def write_one(self, way: Way) -> bool:
        """Write a batch, if there is one to be written now."""
        step = self.queue.next()
        if not isinstance(step, tuple):
            return False
        await self.call_writer(way, step)
        return True

    async def call_writer(
        self, way: Way, batch: tuple[int, bool, dict[str, Any]], worker: Worker | None = None
    ) -> None:
        """Have the user's function write a batch, and note how it ended."""
        number, deletes, items = batch
        how = "unknown"
        error: BaseException | None = None
        inside = WRITING.set((*WRITING.get(), (self, number)))
        self.batch = number
        if worker is not None:
            worker.batch = number
        try:
            if deletes and self.options.deleter is not None:
                await way.call(self.options.deleter, list(items))
            else:
                await way.call(self.options.writer, items)
            how = "written"
        except NotAwaited:
            self.awaits = True
            raise
        except asyncio.CancelledError as cancelled:
            if is_cancelled():
                raise
            how, error = "failed", cancelled
        except Exception as failed:
            how, error = self.verdict(failed), failed
        finally:
            with contextlib.suppress(ValueError):
                WRITING.reset(inside)
            self.batch = None
            if worker is not None:
                worker.batch = None
            self.ended(number, how, error)

    def verdict(self, error: Exception) -> str:
        """What an error of the writer says about the next try."""
        if isinstance(error, CircuitOpen | RateLimited):
            return "not asked"
        try:
            return "failed" if self.options.is_passing(error) else "refused"
        except Exception:
            log.exception("on= of the retry of cache %r failed; the write is tried again", self.core.name)
            return "failed"

    # --- what comes of it ---------------------------------------------------------------------------------------------

    def ended(self, batch: int, how: str, error: BaseException | None) -> None:
        """Note how a batch ended: what is written is invalidated, so that the next read asks the source."""
        written, lost = self.queue.finish(batch, how)
        if how == "written":
            self.error = None
        elif error is not None:
            if self.error is None:
                text = "the source of cache %r does not take what is written behind; it is tried again: %r"
                log.warning(text, self.core.name, error)
            self.error = error
        for key in written:
            self.core._delete(key)
        if lost:
            log.error("%s", writes_lost(self.core.name, self.lose(lost, error)))
        self.settle_up()
        self.make_room()
        self.ring()

    def lose(self, lost: Iterable[tuple[str, Any, bool, int]], error: BaseException | None) -> list[LostWrite]:
        """Tell of writes that were given up. The cache does not keep what the source never got."""
        told = [LostWrite(key, value, deleted, attempts, error) for key, value, deleted, attempts in lost]
        for write in told:
            self.core._delete(write.key)
            if self.options.on_lost is not None:
                try:
                    self.options.on_lost(write)
                except Exception:
                    log.exception("on_lost= of cache %r failed", self.core.name)
        return told

    def ring(self) -> None:
        """Have everybody look again who waits for a change."""
        while (bell := taken(self.bells)) is not None:
            wake(bell)

    def make_room(self) -> None:
        """Let in as many of those who wait for room as there is room for."""
        for _ in range(self.options.max_pending - len(self.queue)):
            bell = taken(self.room)
            if bell is None:
                return
            wake(bell)


def millis(span: Any) -> int:
    """A duration in milliseconds; one without end is a long one."""
    return round(min(_core._seconds(span) * 1000, FAR))


def taken(bells: deque[Any]) -> Any:
    """The first bell, not there any more; None if there is none."""
    try:
        return bells.popleft()
    except IndexError:
        return None


def first(bells: deque[Any], otherwise: Any) -> Any:
    """The first bell; the other one if there is none."""
    try:
        return bells[0]
    except IndexError:
        return otherwise


def discard(bells: deque[Any], bell: Any) -> None:
    """Take a bell away, if it is there."""
    with contextlib.suppress(ValueError):
        bells.remove(bell)


def wake(bell: Any) -> None:
    """Ring a bell; nobody hears it where the loop is closed."""
    with contextlib.suppress(RuntimeError):
        bell.wake()


def is_cancelled() -> bool:
    """True if somebody wants the task that runs here to end."""
    task = asyncio.current_task() if running_loop() is not None else None
    return task is not None and task.cancelling() > 0


def write_at_exit() -> None:
    """What is pending when the process ends is written where no event loop is needed; the rest is told to be lost."""
    for behind in list(UNWRITTEN):
        try:
            if not behind.awaits:
                blocking(behind.close(BLOCKING))
            elif lost := behind.lose(behind.queue.give_up(), behind.error):
                raise writes_lost(behind.core.name, lost)
        except WritesLost as error:
            log.error("%s", error)


def write_at_the_end_of_a_worker() -> None:
    """Have the same done where a process of `multiprocessing` ends: a forked one leaves by `os._exit`, past atexit."""
    processes: Any = sys.modules.get("multiprocessing.process")
    if processes is None or processes.parent_process() is None or os.getpid() in WORKERS:
        return
    from multiprocessing.util import Finalize

    WORKERS.add(os.getpid())
    # Before what else is to end there: a writer may use it.
    Finalize(None, write_at_exit, exitpriority=100)


#: The processes of `multiprocessing` that know of `write_at_exit`.
WORKERS: set[int] = set()

atexit.register(write_at_exit)
