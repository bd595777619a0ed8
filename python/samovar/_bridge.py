"""The few lines of Python that a miss needs: native code calls them, users never do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable


def wake(future: asyncio.Future[None]) -> None:
    """Set the result of a future that another thread may have cancelled meanwhile."""
    if not future.done():
        future.set_result(None)


async def awaited(awaitable: Awaitable[Any]) -> Any:
    """Await anything awaitable, as a coroutine that a task can run."""
    return await awaitable


def refresh_failed(name: str, error: BaseException) -> None:
    """Say in the log why a refresh that nobody waited for has failed: as a warning once a minute for each function."""
    import logging
    import time

    now = time.monotonic()
    level = logging.DEBUG if now < _quiet_until.get(name, 0.0) else logging.WARNING
    if level == logging.WARNING:
        _quiet_until[name] = now + 60
    text = "the refresh of %s failed, the old value stays in use: %r"
    logging.getLogger("samovar").log(level, text, name, error)


def unstorable(name: str, error: BaseException) -> None:
    """Warn, once for each function, that its values stay in this process since no store can have them."""
    if name in _unstorable:
        return
    _unstorable.add(name)
    import warnings

    text = f"{name} returns values that cannot be stored remotely, they stay in this process alone: {error}"
    warnings.warn(text, stacklevel=2)


def store_failed(name: str, error: str) -> None:
    """Say in the log that a cache goes on without its store, and why."""
    import logging

    logging.getLogger("samovar").warning("cache %r goes on without its store: %s", name, error)


_unstorable: set[str] = set()
_quiet_until: dict[str, float] = {}
