"""Listening to a cache: what :meth:`samovar.Cache.on` checks and returns. Who is told what, and when, is native."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from samovar import _core
from samovar._cached import is_async
from samovar._options import refuse

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

#: The events of this version.
EventName = Literal[
    "hit",
    "stale",
    "miss",
    "load",
    "load_error",
    "store",
    "evict",
    "expire",
    "invalidate",
    "breaker",
    "warm_completed",
]


class Subscription:
    """A listener at work; :meth:`close` ends that, and so does the end of a ``with`` block.

    It may be thrown away: the listener stays for as long as the cache does.
    """

    __slots__ = ("_core", "_number")

    def __init__(self, core: _core.CacheCore, event: EventName, listener: Any) -> None:
        self._number = core._on(event, check_listener(listener))
        self._core = core

    def close(self) -> None:
        """Tell the listener nothing more. Closing twice is once; a call of it in another thread runs to its end."""
        self._core._off(self._number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_listener(listener: Any) -> Any:
    """A listener is called with the event, there and then: it can neither be awaited nor iterated."""
    import inspect

    if not callable(listener):
        raise refuse("listener", listener, "give a function of one argument, the event")
    lazy = inspect.isgeneratorfunction(listener) or inspect.isasyncgenfunction(listener)
    if lazy or is_async(listener):
        cure = "give a plain function, since the cache waits for nobody; it may hand the event to a task: "
        raise refuse("listener", listener, cure + "loop.call_soon_threadsafe(queue.put_nowait, event)")
    try:
        inspect.signature(listener).bind(None)
    except ValueError:
        pass  # a builtin that does not say what it takes
    except TypeError:
        raise refuse("listener", listener, "it is called with one argument, the event") from None
    return listener


def subscribe(cache: _core.CacheCore, event: EventName, fn: Any) -> Any:
    """A subscription; without a function, a decorator of one."""
    _core._check_event(event)
    if fn is not ...:
        return Subscription(cache, event, fn)

    def listen(fn: Any) -> Any:
        Subscription(cache, event, fn)
        return fn

    return listen
