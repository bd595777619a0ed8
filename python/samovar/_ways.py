"""How the two faces of a cache call a user's function and wait: on their event loop, or in their thread.

What a cache with a source does is written once, as coroutines that are told the way. The blocking way is never
suspended, so such a coroutine runs to its end at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from samovar._exceptions import ConfigError, LoadTimeout
from samovar._loaders import is_awaitable
from samovar._protect import AsyncCall, BlockingCall, run_blocking, running_loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from typing import TypeAlias

    from samovar import _core

    Way: TypeAlias = "Awaiting | Blocking"

T = TypeVar("T")


class NotAwaited(ConfigError):  # noqa: N818 - says what happened
    """An async function is to be called where nobody can await it."""

    @classmethod
    def of(cls, function: object) -> NotAwaited:
        """The error about a function."""
        return cls(
            f"cannot call {function!r} here: it is async and no event loop is known to run it; await the async face of "
            "the cache under asyncio, or give a function that is not async"
        )


#: Calls of `Awaiting.each` at a time.
CONCURRENCY = 16


class Awaiting:
    """How the async face calls and waits: on its event loop."""

    blocks = False

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function, async or not."""
        result = function(*args)
        return await result if is_awaitable(result) else result

    def bell(self, until: int | None = None) -> Any:
        """What somebody else rings, or the time of `_clock_millis`."""
        call = AsyncCall("a write", nothing, None)
        call.deadline = until
        return call.waiter()

    async def load(self, core: _core.CacheCore, key: str, loader: Callable[[], Any]) -> Any:
        """What is there, or what the loader finds."""
        return await core._get_or_set(key, loader, core._policy_of(key), True)

    async def breathe(self) -> None:
        """Let others on the loop have their turn."""
        import asyncio

        await asyncio.sleep(0)

    async def each(self, ask: Callable[[str], Awaitable[None]], keys: list[str]) -> None:
        """Ask for some keys, several at a time; the first error ends all."""
        if running_loop() is None:
            # Not under asyncio: what has to be awaited there says so.
            await BLOCKING.each(ask, keys)
            return

        import asyncio

        waiting = iter(keys)

        async def work() -> None:
            for key in waiting:
                await ask(key)

        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(CONCURRENCY, len(keys))):
                    group.create_task(work())
        except BaseExceptionGroup as errors:
            raise errors.exceptions[0] from None


class Blocking:
    """How the blocking face calls and waits: in its thread. Its coroutines are never suspended."""

    blocks = True

    async def call(self, function: Callable[..., Any], *args: Any) -> Any:
        """The result of a function that is not async."""
        result = function(*args)
        if is_awaitable(result):
            if hasattr(result, "close"):
                result.close()
            raise NotAwaited.of(function)
        return result

    def bell(self, until: int | None = None) -> Any:
        """As :meth:`Awaiting.bell`."""
        call = BlockingCall("a write", nothing, None)
        call.deadline = until
        return call.waiter()

    async def load(self, core: _core.CacheCore, key: str, loader: Callable[[], Any]) -> Any:
        """As :meth:`Awaiting.load`."""
        return core._get_or_set(key, loader, core._policy_of(key), False)

    async def breathe(self) -> None:
        """Other threads have theirs."""

    async def each(self, ask: Callable[[str], Awaitable[None]], keys: list[str]) -> None:
        """Ask for some keys, one after the other."""
        for key in keys:
            await ask(key)


AWAITING, BLOCKING = Awaiting(), Blocking()


def nothing() -> None:
    """What waits calls nothing."""


async def rung(bell: Any) -> bool:
    """Wait for a bell; False if the time came first."""
    try:
        await bell.wait()
    except LoadTimeout:
        return False
    return True


def blocking(steps: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine of the blocking way to its end."""
    result: T = run_blocking(steps)
    return result
