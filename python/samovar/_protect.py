"""How a protected call is made: layers around a function, written once for those that are async and those that are not.

A layer is ``async def around(inner, call)``. Only the call itself waits: an `AsyncCall` awaits on its event loop, and a
`BlockingCall` blocks its thread, so that the same coroutines run to their end without once being suspended. What is
decided is decided by `samovar._core`; the layers are in `samovar.resilience`.
"""

from __future__ import annotations

import _thread
import functools
import sys
import time
import types
from typing import TYPE_CHECKING, Any, TypeAlias

from samovar import _core
from samovar._bridge import wake
from samovar._cached import is_async, name_of
from samovar._exceptions import LoadTimeout
from samovar._options import refuse

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable, Coroutine, Sequence

    Call: TypeAlias = "AsyncCall | BlockingCall"
    Sleep: TypeAlias = Callable[[float], Awaitable[None] | None]
    Inner: TypeAlias = Callable[[Call], Awaitable[Any]]
    #: Gets the name of the function, the breaker, and its new state.
    Tell: TypeAlias = Callable[[str, Any, str], None]
    Layer: TypeAlias = Callable[[Inner, Call], Coroutine[Any, Any, Any]]


class Begun:
    """One call under way: what its layers know of it."""

    __slots__ = ("_timeout", "began", "deadline", "name", "run", "tell")

    def __init__(self, name: str, run: Callable[[], Any], tell: Tell | None) -> None:
        self.name = name
        self.run = run
        #: Tells whoever listens that a breaker has turned.
        self.tell = tell
        #: When the function itself was called last; None if it was not.
        self.began: int | None = None
        #: Until when the whole call may take, on the line of `_clock_millis`.
        self.deadline: int | None = None
        self._timeout = 0

    def limit(self, timeout: int | None) -> None:
        """Let the call take so many milliseconds from now, unless it has less time anyway."""
        if timeout is not None:
            deadline = _core._clock_millis() + timeout
            if self.deadline is None or deadline < self.deadline:
                self.deadline, self._timeout = deadline, timeout

    def took(self) -> int:
        """Milliseconds since the function was called; 0 if it was not."""
        return 0 if self.began is None else max(0, _core._clock_millis() - self.began)

    def left(self) -> float | None:
        """Seconds until the deadline; None without one."""
        return None if self.deadline is None else max(0, self.deadline - _core._clock_millis()) / 1000

    def check_time(self) -> None:
        """Begin nothing that would have to be stopped at once."""
        if self.left() == 0:
            raise self.timed_out()

    def used_its_time(self) -> bool:
        """True if hardly any time was left: whoever stopped it may count from a moment earlier than we do."""
        left = self.left()
        return left is not None and left * 1000 <= self._timeout / 10

    def timed_out(self) -> LoadTimeout:
        """The error of a call that took too long."""
        return LoadTimeout(
            f"the load of {self.name} took longer than its timeout {self._timeout / 1000:g} s and was stopped; "
            "give it more time with timeout="
        )


class BlockingCall(Begun):
    """A call of a function that is not async: it waits by blocking its thread."""

    __slots__ = ()
    awaits = False

    async def load(self) -> Any:
        """Call the function."""
        self.check_time()
        self.began = _core._clock_millis()
        result = self.run()
        if isinstance(result, types.CoroutineType):
            result.close()
            raise TypeError(f"{self.name} is not async but returns a coroutine; make it `async def`, and await in it")
        return result

    async def pause(self, seconds: float, sleep: Sleep | None) -> None:
        """Sleep in this thread."""
        (sleep or time.sleep)(seconds)

    def waiter(self) -> BlockedThread:
        """What somebody else will wake."""
        return BlockedThread(self)


class BlockedThread:
    """A thread that waits to be woken by any other."""

    __slots__ = ("call", "lock")

    def __init__(self, call: BlockingCall) -> None:
        self.call = call
        self.lock = _thread.allocate_lock()
        self.lock.acquire()

    async def wait(self) -> None:
        """Block until it is woken, or the call's time is over."""
        left = self.call.left()
        if not self.lock.acquire(timeout=-1 if left is None else left):
            raise self.call.timed_out()

    def wake(self) -> None:
        """Let it go on."""
        self.lock.release()


class AsyncCall(Begun):
    """A call of an async function: it waits on its event loop."""

    __slots__ = ()
    awaits = True

    async def load(self) -> Any:
        """Call the function and await it, until the deadline."""
        self.check_time()
        self.began = _core._clock_millis()
        return await self.in_time(self.run)

    async def pause(self, seconds: float, sleep: Sleep | None) -> None:
        """Sleep in this task."""
        if sleep is None:
            import asyncio

            sleep = asyncio.sleep
        paused = sleep(seconds)
        if paused is not None:
            await paused

    async def in_time(self, what: Callable[[], Awaitable[Any]]) -> Any:
        """Await something until the deadline."""
        if self.deadline is None:
            return await what()
        self.check_time()
        scope = Scope(self)
        try:
            async with scope.timeout:
                return await what()
        except TimeoutError:
            if scope.timeout.expired():
                raise self.timed_out() from None
            raise
        finally:
            SCOPES.discard(scope)

    def waiter(self) -> WaitingTask:
        """What somebody else will wake."""
        return WaitingTask(self)


class WaitingTask:
    """A task that waits to be woken by any thread."""

    __slots__ = ("call", "future")

    def __init__(self, call: AsyncCall) -> None:
        import asyncio

        self.call = call
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def wait(self) -> None:
        """Wait until it is woken, or the call's time is over."""
        await self.call.in_time(lambda: self.future)

    def wake(self) -> None:
        """Let it go on; raises RuntimeError if its loop is closed."""
        self.future.get_loop().call_soon_threadsafe(wake, self.future)


class Scope:
    """The time-out of what a task awaits, known to those who move the clock."""

    __slots__ = ("call", "loop", "timeout")

    def __init__(self, call: AsyncCall) -> None:
        import asyncio

        self.call = call
        self.loop = asyncio.get_running_loop()
        # A clock that stands still is moved by hand, and nobody is late because real time passes.
        self.timeout = asyncio.timeout(None if _core._clock_is_frozen() else call.left())
        SCOPES.add(self)

    def expire(self) -> None:
        """End it, if it has begun and its time is over."""
        if self in SCOPES and self.call.left() == 0 and not self.timeout.expired():
            self.timeout.reschedule(self.loop.time())


#: All that have not ended.
SCOPES: set[Scope] = set()


def clock_moved() -> None:
    """End what is late, each on its own loop: a test has moved the clock."""
    for scope in list(SCOPES):
        if not scope.loop.is_closed():
            scope.loop.call_soon_threadsafe(scope.expire)


def would_block_its_loop(call: Call) -> bool:
    """True for a blocking call made by code that runs on an event loop: while it waits, nothing else does there."""
    return not call.awaits and running_loop() is not None


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread. Does not import asyncio."""
    used = sys.modules.get("asyncio")
    return None if used is None else used._get_running_loop()


def protected(
    function: Callable[..., Any], layers: Sequence[Layer], timeout: int | None, tell: Tell | None = None
) -> Any:
    """A function like this one that is called through these layers, the outermost first."""
    refuse_odd(function)
    steps: Inner = make_call
    for layer in reversed(layers):
        steps = functools.partial(layer, steps)
    name = name_of(function)

    if is_async(function):

        async def call_awaited(*args: Any, **kwargs: Any) -> Any:
            call = AsyncCall(name, functools.partial(function, *args, **kwargs), tell)
            call.limit(timeout)
            return await steps(call)

        return functools.update_wrapper(call_awaited, function)

    def call_blocking(*args: Any, **kwargs: Any) -> Any:
        call = BlockingCall(name, functools.partial(function, *args, **kwargs), tell)
        call.limit(timeout)
        return run_blocking(steps(call))

    return functools.update_wrapper(call_blocking, function)


def make_call(call: Call) -> Awaitable[Any]:
    """The innermost layer: the function itself."""
    return call.load()


def run_blocking(steps: Any) -> Any:
    """Run a coroutine that never waits for an event loop."""
    try:
        steps.send(None)
    except StopIteration as end:
        return end.value
    steps.close()
    raise RuntimeError("a protected function that is not async cannot wait for an event loop")


def refuse_odd(function: Any) -> None:
    """What cannot be protected, and what to do instead."""
    import inspect

    kind = type(function).__name__
    if kind in ("classmethod", "staticmethod"):
        raise refuse("function", function, f"put @{kind} above, not below")
    if not callable(function) or isinstance(function, type):
        raise TypeError(f"only a function can be protected, not {function!r}")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{name_of(function)} cannot be protected: it is a generator, whose work begins after the call; "
            "return a list instead"
        )
