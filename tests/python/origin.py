"""What tests load from, and the time they give to what runs behind."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def until(done: Callable[[], bool]) -> bool:
    """Lets all else run until that is so; False if it has not come to be in some seconds."""
    for _ in range(5000):
        if done():
            return True
        await asyncio.sleep(0.001)
    return False


class Origin:
    """What is loaded from: it counts, it can fail, and it can be made to wait."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def load(self, *_: object) -> int:
        self.calls += 1
        number = self.calls
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        return number

    def load_now(self, *_: object) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls


class Table:
    """What many ids are loaded from at once. Below a hundred they are there: a list of the id and the call's number."""

    def __init__(self) -> None:
        self.calls: list[list[Any]] = []
        self.cancelled = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def load(self, ids: Sequence[Any], *_: object) -> dict[Any, list[Any]]:
        found = self._found(ids)
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        return self._given(found)

    def load_now(self, ids: Sequence[Any], *_: object) -> dict[Any, list[Any]]:
        return self._given(self._found(ids))

    def _found(self, ids: Sequence[Any]) -> dict[Any, list[Any]]:
        self.calls.append(list(ids))
        return {one: [one, len(self.calls)] for one in ids if not isinstance(one, int) or one < 100}

    def _given(self, found: dict[Any, list[Any]]) -> dict[Any, list[Any]]:
        if self.error is not None:
            raise self.error
        return found
