"""What the tests of resilience call: functions of either kind that say what they are told to say."""

import asyncio
import inspect
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

both = pytest.mark.parametrize("kind", ["sync", "async"])


class Scripted:
    """What is called: it says what it is told to say, in this order, and then "done"."""

    def __init__(self, kind: str, *says: object) -> None:
        self.kind = kind
        self.says = list(says)
        self.calls = 0
        #: Called by each call, before it answers.
        self.during: Callable[[], object] = lambda: None

    @property
    def load(self) -> Callable[[], Any]:
        def load() -> object:
            self.calls += 1
            self.during()
            said = self.says.pop(0) if self.says else "done"
            if isinstance(said, BaseException):
                raise said
            return said

        async def load_async() -> object:
            return load()

        return load_async if self.kind == "async" else load


def call(function: Callable[[], Any]) -> Any:
    """The result of a function of either kind."""
    result = function()
    return asyncio.run(awaited(result)) if inspect.isawaitable(result) else result


async def awaited(result: Awaitable[Any]) -> Any:
    return await result


def fails(function: Callable[[], Any], times: int = 1, error: type[Exception] = OSError) -> None:
    for _ in range(times):
        with pytest.raises(error):
            call(function)


def in_threads(work: list[Callable[[], object]]) -> None:
    threads = [threading.Thread(target=each) for each in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
