"""What works for a cache on event loops beside the loads of its table: known while it runs, so that it can be ended.

Tasks that the package starts by itself (the call of a batch, warming) are started here. The thread that frees expired
entries is not here but in `src/work.rs`.
"""

from __future__ import annotations

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
        #: By their loops, which hold tasks weakly: one that waits for what only it knows of would be collected.
        self._paths: dict[asyncio.AbstractEventLoop, dict[asyncio.Task[Any], str]] = {}

    def start(
        self,
        path: str,
        loop: asyncio.AbstractEventLoop,
        work: Coroutine[Any, Any, Any],
        name: str,
        context: Context | None = None,
    ) -> asyncio.Task[Any]:
        """Run it as a task that ends with its namespace at the latest."""
        # What is left of a loop that was closed never ends, and is not to be kept for it.
        for known in list(self._paths):
            if known.is_closed():
                self._paths.pop(known, None)
        task = loop.create_task(work, name=name, context=context)
        self._paths.setdefault(loop, {})[task] = path
        task.add_done_callback(self._forget)
        return task

    def _forget(self, task: asyncio.Task[Any]) -> None:
        loop = task.get_loop()
        tasks = self._paths.get(loop, {})
        tasks.pop(task, None)
        if not tasks:
            self._paths.pop(loop, None)

    def below(self, namespace: str) -> list[Work]:
        """What it has started there."""
        running = [tasks for loop, tasks in list(self._paths.items()) if not loop.is_closed()]
        there = (item for tasks in running for item in list(tasks.items()))
        return [Work(task) for task, path in there if is_below(path, namespace)]


def is_below(path: str, namespace: str) -> bool:
    """True for the namespace itself and those in it."""
    return not namespace or path == namespace or path.startswith(f"{namespace}:")
