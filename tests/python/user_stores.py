"""Opening stores of the user's own, and asking them single steps. Not a place for what is promised of them."""

import asyncio
import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from samovar import _core

#: Fresh and of use for ever, as docs/frame.md has it.
HEAD = b"\1\0\0\0" + b"\xff" * 16
LIFE = 10.0


def frame(text: object) -> bytes:
    return HEAD + str(text).encode()


def stale(text: object) -> bytes:
    expires = int((_core._clock_time() + 60) * 1e6)
    return b"\1\0\0\0" + bytes(8) + expires.to_bytes(8, "big") + str(text).encode()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


#: Opens a store, given a time budget in seconds or none.
Open = Callable[..., "_core.StoreCore"]


def guide_store() -> Any:
    """The class that docs/guide.md shows: a store in a file."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    [example] = [block for block in blocks if "class SqliteStore" in block]
    namespace: dict[str, Any] = {}
    exec(example, namespace)
    return namespace["SqliteStore"]


@contextmanager
def opening() -> Iterator[Open]:
    """Opens stores, and has each closed, its thread at its end, when the block is over."""
    opened: list[_core.StoreCore] = []

    def open_one(store: object, *, timeout: float = 5.0) -> _core.StoreCore:
        opened.append(_core.StoreCore._user(_core._state, store, timeout=timeout))
        return opened[-1]

    yield open_one
    for core in opened:
        core.close()
        assert core._wait_for_end(10)


def ask(core: _core.StoreCore, key: str, action: str, **given: Any) -> tuple[Any, ...]:
    return _core._ask_store(core, [{"key": key, "action": action, **given}])[0]


async def scanned(core: _core.StoreCore, prefix: str) -> list[str]:
    found, place = await core._page(prefix, None)
    while place is not None:
        keys, place = await core._page(prefix, place)
        found += keys
    return found
