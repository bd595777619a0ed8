"""Odd things for `exercise.py` to use: keys of every kind, keys and values that fail or call back, and what raises."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID


class Color(Enum):
    RED = 1


class Value:
    """Anything that can be watched while it dies."""

    def __init__(self, on_end: Callable[[], object] = lambda: None) -> None:
        self.on_end = on_end
        self.more: Any = None

    def __del__(self) -> None:
        self.on_end()


class Odd:
    """A key without encoding that fails or calls back when it is hashed or compared."""

    def __init__(self, hashed: Callable[[], int] = lambda: 7, equal: Callable[[], bool] = lambda: True) -> None:
        self.hashed = hashed
        self.equal = equal

    def __hash__(self) -> int:
        return self.hashed()

    def __eq__(self, other: object) -> bool:
        return self.equal()


def fails(kind: type[BaseException] = ValueError) -> Any:
    raise kind("on purpose")


def raises(kind: type[BaseException] | tuple[type[BaseException], ...], call: Any, *args: Any) -> BaseException:
    try:
        call(*args)
    except kind as error:
        return error
    raise AssertionError(f"{kind} was not raised")


KEYS: list[Any] = [
    *(None, True, 1, -1, 2**70, 1.5, "text", "ünï", "", b"bytes", (1, ("a", None)), Color.RED, [1, [2]], {"k": {1, 2}}),
    *(datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1), timedelta(1), Decimal("1.5"), UUID(int=7), frozenset({1})),
]
