"""Both faces of a cache, awaited and blocking, behind one word: a test says what is done, and runs once with each."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from samovar import Cache


class Face:
    """One of them. Each thing that is awaited has an event loop of its own, as after a second `asyncio.run`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.waits = name == "async"

    def __repr__(self) -> str:
        return self.name

    def do(self, cache: Cache, method: str, *args: Any, **options: Any) -> Any:
        """Call a method of a cache; what it iterates over, as a list."""
        if not self.waits:
            made = getattr(cache.sync, method)(*args, **options)
            return list(made) if inspect.isgenerator(made) else made
        return asyncio.run(self._awaited(getattr(cache, method), args, options))

    async def _awaited(self, function: Callable[..., Any], args: Any, options: Any) -> Any:
        made = function(*args, **options)
        return [one async for one in made] if hasattr(made, "__aiter__") else await made

    def function(self, function: Callable[..., Any]) -> Any:
        """A function as this face has it: a coroutine function, or as it is. The signature is the same."""
        if not self.waits:
            return function

        @functools.wraps(function)
        async def awaited(*args: Any, **options: Any) -> Any:
            return function(*args, **options)

        return awaited

    def call(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call what was made of such a function, or of one of its methods."""
        if not self.waits:
            return function(*args, **options)
        return asyncio.run(self._awaited(function, args, options))
