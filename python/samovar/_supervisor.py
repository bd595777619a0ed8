"""What works for a cache on event loops beside the loads of its table: known while it runs, so that it can be ended.

Tasks that the package starts by itself (the call of a batch, warming) are started here. The thread that frees expired
entries is not here but in `src/work.rs`.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine
    from contextvars import Context


class Work(NamedTuple):
    """Something that runs."""

    future: asyncio.Future[Any]
    #: True if a caller waits for it.
    wanted: bool = False


class Supervisor:
    """The tasks of one cache and its namespaces."""

    def __init__(self) -> None:
        #: A task of a loop that was closed never ends, and is not to be kept for it.
        self._paths: weakref.WeakKeyDictionary[asyncio.Task[Any], str] = weakref.WeakKeyDictionary()

    def start(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        name: str,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Run it as a task that ends with its namespace at the latest."""
        task = loop.create_task(work, name=name, context=context)
        self._paths[task] = path
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._paths.pop(task, None)

    def below(self, namespace: str) -> list[Work]:
        """What it has started there."""
        return [Work(task) for task, path in list(self._paths.items()) if is_below(path, namespace)]


def is_below(path: str, namespace: str) -> bool:
    """True for the namespace itself and those in it."""
    return not namespace or path == namespace or path.startswith(f"{namespace}:")
