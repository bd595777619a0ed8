"""The source of caches under test: a table of rows, sync and async, that can fail, refuse, hang and tell."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from origin import turns
from samovar import Cache, NotFound, Policy, WriteBehind

both = pytest.mark.parametrize("face", ["async", "sync"])


class Table:
    def __init__(self, **rows: Any) -> None:
        self.rows: dict[str, Any] = rows
        #: What was done: ("set", {key: value}) or ("delete", [key]).
        self.log: list[tuple[str, Any]] = []
        self.loads: list[str] = []
        #: Raised instead of writing.
        self.error: BaseException | None = None
        #: Values that no row can have.
        self.refused: list[Any] = []
        #: Async calls wait for it.
        self.gate: asyncio.Event | None = None
        #: Async writes under way, and the most there were.
        self.busy = self.busiest = 0

    def load_now(self, key: str) -> Any:
        self.loads.append(key)
        if key not in self.rows:
            raise NotFound(key)
        return self.rows[key]

    async def load(self, key: str) -> Any:
        await self.wait()
        return self.load_now(key)

    def save_many_now(self, items: Mapping[str, Any]) -> None:
        self.log.append(("set", dict(items)))
        self.fail()
        if any(value in self.refused for value in items.values()):
            raise ValueError("the table refuses it")
        self.rows.update(items)

    async def save_many(self, items: Mapping[str, Any]) -> None:
        await self.wait()
        self.save_many_now(items)

    def remove_many_now(self, keys: Sequence[str]) -> None:
        self.log.append(("delete", list(keys)))
        self.fail()
        for key in keys:
            self.rows.pop(key, None)

    async def remove_many(self, keys: Sequence[str]) -> None:
        await self.wait()
        self.remove_many_now(keys)

    def save_now(self, key: str, value: Any) -> None:
        self.save_many_now({key: value})

    async def save(self, key: str, value: Any) -> None:
        await self.save_many({key: value})

    def remove_now(self, key: str) -> None:
        self.remove_many_now([key])

    async def remove(self, key: str) -> None:
        await self.remove_many([key])

    def fail(self) -> None:
        if self.error is not None:
            raise self.error

    async def wait(self) -> None:
        self.busy += 1
        self.busiest = max(self.busy, self.busiest)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.busy -= 1

    def calls(self, face: str) -> tuple[Any, Any, Any]:
        """Its loader, writer and deleter of one key, for a face."""
        if face == "sync":
            return self.load_now, self.save_now, self.remove_now
        return self.load, self.save, self.remove

    def calls_of_many(self, face: str) -> tuple[Any, Any, Any]:
        """Its loader, and its writer and deleter of many keys."""
        if face == "sync":
            return self.load_now, self.save_many_now, self.remove_many_now
        return self.load, self.save_many, self.remove_many


async def do(face: str, cache: Cache, name: str, *args: Any, **options: Any) -> Any:
    """Call a method of a cache on one of its faces."""
    if face == "sync":
        return getattr(cache.sync, name)(*args, **options)
    return await getattr(cache, name)(*args, **options)


def written(table: Table) -> list[dict[str, Any]]:
    """What was set, batch by batch."""
    return [what for how, what in table.log if how == "set"]


def write_behind(table: Table, face: str = "async", *, policy: Policy | None = None, **options: Any) -> Cache:
    """A cache of a table that is written behind."""
    loader, writer, deleter = table.calls_of_many(face)
    return Cache(name="app", loader=loader, writer=WriteBehind(writer, deleter, **options), policy=policy)


def run(main: Callable[[], Any]) -> None:
    """Runs a test, which leaves no task behind."""

    async def checked() -> None:
        await main()
        await turns()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    asyncio.run(checked())
