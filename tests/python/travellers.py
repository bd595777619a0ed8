"""Classes whose instances travel, and what tells two values apart in every respect that a user could see."""

import dataclasses
import datetime
import enum
import math
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, NamedTuple


class Colour(enum.Enum):
    RED = "r"
    BLUE = 2
    CRIMSON = "r"  # noqa: PIE796 - another name for red


class Size(enum.IntEnum):
    SMALL = 1
    LARGE = 2


class Rights(enum.Flag):
    READ = 1
    WRITE = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    name: str
    children: "tuple[Node, ...]" = ()
    colour: Colour | None = None


class Pair(NamedTuple):
    key: str
    values: list[int]


def traits(value: Any) -> Any:
    """What a value is, all the way down: two values have the same traits only if nobody could tell them apart."""
    kind = type(value)
    if isinstance(value, enum.Enum):
        return kind, value.name, value.value
    if kind is float:
        return kind, "nan" if math.isnan(value) else value.hex()
    if kind is complex:
        return kind, traits(value.real), traits(value.imag)
    if kind is Decimal:
        return kind, value.as_tuple()
    if kind in (datetime.datetime, datetime.time):
        return kind, value.isoformat(), value.fold, repr(value.tzinfo)
    if kind in (set, frozenset):
        return kind, frozenset(traits(item) for item in value)
    if isinstance(value, dict):
        return kind, tuple((traits(key), traits(item)) for key, item in value.items())
    if isinstance(value, list | tuple):
        return kind, tuple(traits(item) for item in value)
    names = names_of(value)
    if names is not None:
        return kind, tuple((name, traits(getattr(value, name))) for name in names)
    return kind, value


def names_of(value: Any) -> Iterable[str] | None:
    """The names of an object's fields, whatever made its class."""
    if dataclasses.is_dataclass(value):
        return [field.name for field in dataclasses.fields(value)]
    for name in ("__attrs_attrs__", "__struct_fields__", "__pydantic_fields__"):
        if found := getattr(type(value), name, None):
            return [getattr(one, "name", one) for one in found]
    return None
