"""Values read as the type that was asked for. One of another type is refused: writing raises, reading is a miss."""

import collections.abc
import dataclasses
import datetime as dt
import enum
import typing
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, NotRequired, Optional, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgspec
import pydantic
import pytest
from samovar import CodecError, ConfigError
from samovar.codecs import Coder, decode, encode
from samovar.codecs._types import returned_by
from travellers import Colour, Node, Pair, Point, Rights, Size, traits


class Movie(TypedDict):
    title: str
    year: NotRequired[int]


@attrs.define
class Cup:
    tea: str
    size: Size = Size.SMALL


@attrs.frozen
class Tray:
    cups: list[Cup]


class Kettle(msgspec.Struct):
    litres: float
    since: dt.date | None = None


class Account(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)
    since: dt.datetime
    parent: "Account | None" = None


class Aliased(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str = pydantic.Field(alias="NAME")


@dataclasses.dataclass
class Row:
    at: dt.datetime
    price: Decimal
    ids: list[UUID]
    kind: Colour
    by: dict[int, tuple[str, ...]]
    left: dt.timedelta = dt.timedelta(0)
    note: str | None = None


class Place(NamedTuple):
    x: int
    y: int = 0


UserId = NewType("UserId", int)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 5)  # noqa: DTZ001 - naive, and so it comes back
UTC_NOON = NOON.replace(tzinfo=dt.UTC)
ROW = Row(NOON, Decimal("1.50"), [UUID(int=7)], Colour.RED, {1: ("a", "b")}, dt.timedelta(-1, 5, 7))

#: Types, and values that are of them.
GOOD: list[tuple[Any, Any]] = [
    (int, 1),
    (float, 1.5),
    (float, 2),
    (bool, True),
    (str, "a"),
    (None, None),
    (bytes, b"a\xff"),
    (complex, 1 - 2j),
    (Optional[int], None),  # noqa: UP045 - both spellings are types
    (int | str, "a"),
    (list[int], [1, 2]),
    (list[Point], [Point(1, 2.0)]),
    (collections.abc.Sequence[int], [1, 2]),
    (set[str], {"a"}),
    (frozenset[int], frozenset([1])),
    (tuple[int, str], (1, "a")),
    (tuple[int, ...], (1, 2, 3)),
    (tuple[()], ()),
    (tuple, (1, "a")),
    (dict[str, int], {"a": 1}),
    (dict[int, list[str]], {1: ["a"]}),
    (collections.abc.Mapping[str, Any], {"a": [1]}),
    (UserId, 5),
    (Annotated[int, "positive"], 5),
    (Literal["a", 3], 3),
    (Literal[Colour.RED, "b"], Colour.RED),
    (Colour, Colour.BLUE),
    (Rights, Rights.READ | Rights.WRITE),
    (Size, Size.LARGE),
    (dt.datetime, NOON),
    (dt.datetime, UTC_NOON),
    (dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=3)))),
    (dt.date, dt.date(2024, 2, 29)),
    (dt.time, dt.time(1, 2, 3)),
    (dt.timedelta, dt.timedelta(-1, 5, 7)),
    (Decimal, Decimal("1E+5")),
    (UUID, UUID(int=5)),
    (Movie, {"title": "Solaris", "year": 1972}),
    (Movie, {"title": "Stalker"}),
    (Point, Point(1, 2.0)),
    (Place, Place(1, 2)),
    (Pair, Pair("a", [1])),
    (Node, Node("a", (Node("b"),), Colour.RED)),
    (Row, ROW),
    (Cup, Cup("green", Size.LARGE)),
    (Tray, Tray([Cup("green")])),
    (Kettle, Kettle(1.5, dt.date(2020, 1, 1))),
    (Account, Account(name="Ada", age=36, since=UTC_NOON)),
    (Aliased, Aliased.model_validate({"NAME": "a", "more": [1]})),
    (Account, Account(name="Ada", age=36, since=UTC_NOON, parent=Account(name="B", age=70, since=UTC_NOON))),
    (list[Account | None], [None]),
    (dict[Colour, set[tuple[int, int]]], {Colour.RED: {(1, 2)}}),
    (Any, {"anything": (1,)}),
]


@pytest.mark.parametrize(("hint", "value"), GOOD, ids=lambda each: str(each)[:50])
def test_a_value_of_a_type_comes_back_as_it_was_by_msgpack(hint: Any, value: Any) -> None:
    coder = Coder(type=hint)
    data = coder.encode(value)
    assert data == encode(value)
    assert traits(coder.decode(data)) == traits(value)


@pytest.mark.parametrize(
    ("hint", "value"), [pair for pair in GOOD if pair[0] is not Any], ids=lambda each: str(each)[:50]
)
def test_a_value_of_a_type_comes_back_as_it_was_by_json(hint: Any, value: Any) -> None:
    coder = Coder("json", type=hint)
    data = coder.encode(value)
    assert data is not None
    assert traits(coder.decode(data)) == traits(value)


#: Types, values that are not of them, and what is said of it.
WRONG: list[tuple[Any, Any, str]] = [
    (int, "1", "^value: object of type builtins.str, expected int"),
    (int, True, "^value: object of type builtins.bool, expected int"),
    (float, "1.5", "expected float"),
    (str, 1, "expected str"),
    (None, 0, "expected NoneType"),
    (int | None, "a", "expected int or NoneType"),
    (list[int], [1, "2"], r"^value\[1\]: object of type builtins.str, expected int"),
    (list[int], {1}, "expected list"),
    (set[int], {"a"}, r"^value \(a member\): object of type builtins.str, expected int"),
    (tuple[int, str], (1, 2), r"^value\[1\]: object of type builtins.int, expected str"),
    (tuple[int, str], (1,), "a tuple of 1, expected one of 2"),
    (dict[str, int], {"a": "b"}, r"^value\['a'\]: object of type builtins.str, expected int"),
    (dict[str, int], {1: 1}, r"^value \(a key\): object of type builtins.int, expected str"),
    (Literal["a", 1], True, "^value: True, expected one of 'a', 1"),
    (Colour, "GREEN", "expected travellers.Colour|has no member 'GREEN'"),
    (dt.date, NOON, "expected datetime.date"),
    (Movie, {"year": 1972}, "without 'title'"),
    (Movie, {"title": "a", "length": 5}, "'length' is no key of .*Movie"),
    (Movie, {"title": 5}, r"^value\['title'\]: "),
    (Point, Place(1, 2), "expected travellers.Point"),
    (Point, Point("1", 2.0), r"^value\.x: object of type builtins.str, expected int"),
    (Node, Node("a", (Node(5),)), r"^value\.children\[0\]\.name: "),
    (list[Cup | None], [Cup("a", 7)], r"^value\[0\]\.size: "),
    (Kettle, Kettle("a"), r"^value\.litres: "),
]


@pytest.mark.parametrize("name", ["msgpack", "json"])
@pytest.mark.parametrize(("hint", "value", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_writing_a_value_of_another_type_raises(hint: Any, value: Any, message: str, name: str) -> None:
    with pytest.raises(CodecError, match=message):
        Coder(name, type=hint).encode(value)


@pytest.mark.parametrize(("hint", "value", "message"), WRONG, ids=[message for *_, message in WRONG])
def test_reading_a_value_of_another_type_raises(hint: Any, value: Any, message: str) -> None:
    with pytest.raises(CodecError, match=r"^value"):
        decode(encode(value), hint)


#: Types, plain values that another language may have written, and what is made of them.
MADE: list[tuple[Any, Any, Any]] = [
    (Point, {"x": 1, "y": 2.5}, Point(1, 2.5)),
    (Place, {"x": 1}, Place(1, 0)),
    (Node, {"name": "a", "children": [{"name": "b"}], "colour": "BLUE"}, Node("a", (Node("b"),), Colour.BLUE)),
    (Cup, {"tea": "green"}, Cup("green")),
    (Tray, {"cups": [{"tea": "green"}]}, Tray([Cup("green")])),
    (Kettle, {"litres": 1.5, "since": "2020-01-01"}, Kettle(1.5, dt.date(2020, 1, 1))),
    (
        Account,
        {"name": "A", "age": 1, "since": "2024-02-29T12:00:00.000005Z"},
        Account(name="A", age=1, since=UTC_NOON),
    ),
    (tuple[int, str], [1, "a"], (1, "a")),
    (set[int], [1, 2], {1, 2}),
    (list[int], (1, 2), [1, 2]),
    (Colour, "CRIMSON", Colour.RED),
    (dt.datetime, "2024-02-29T12:00:00.000005", NOON),
    (list[Decimal], ["1.50"], [Decimal("1.50")]),
    (dict[str, UUID], {"a": str(UUID(int=5))}, {"a": UUID(int=5)}),
    (bytes, "YQ==", b"a"),
    (Any, {"x": 1}, {"x": 1}),
]


@pytest.mark.parametrize("name", ["msgpack", "json"])
@pytest.mark.parametrize(("hint", "plain", "value"), MADE, ids=lambda each: str(each)[:40])
def test_plain_values_are_read_as_the_type_that_is_asked_for(hint: Any, plain: Any, value: Any, name: str) -> None:
    made = decode(encode(list(plain) if isinstance(plain, tuple) else plain, name), hint, name)
    assert traits(made) == traits(value)


def test_an_offset_of_pydantics_travels_and_comes_back_as_the_standard_librarys() -> None:
    for text, zone in (("Z", dt.UTC), ("-05:30", dt.timezone(-dt.timedelta(hours=5, minutes=30)))):
        value = Account(name="A", age=1, since=f"2024-02-29T12:00:00.000005{text}")  # type: ignore[arg-type]
        back = decode(encode(value))
        assert back == value
        assert traits(back.since) == traits(NOON.replace(tzinfo=zone))


@pytest.mark.parametrize(
    ("hint", "plain", "message"),
    [
        (Point, {"x": 1, "z": 2}, "'z' is no field of travellers.Point"),
        (Point, {"x": 1}, "cannot be made of x: .*missing"),
        (Point, {"x": "1", "y": 2.0}, r"^value\.x: "),
        (Node, {"name": "a", "children": [{"name": 5}]}, r"^value\.children\[0\]\.name: "),
        (Account, {"name": "A", "age": -1, "since": "2024-02-29"}, "no .*Account: .*age"),
        (Kettle, {"litres": "much"}, "no .*Kettle: Expected `float`"),
        (dt.datetime, "yesterday", "text that is no datetime.datetime"),
        (Decimal, "a", "text that is no decimal.Decimal"),
        (UUID, "a", "text that is no uuid.UUID"),
        (bytes, "é", "text that is no bytes"),
        (dict[int, int], [[1]], "expected dict"),
        (set[str], [["a"]], r"^value\[0\]: object of type builtins.list, expected str"),
    ],
)
def test_plain_values_that_make_none_are_an_error(hint: Any, plain: Any, message: str) -> None:
    for name in ("msgpack", "json"):
        with pytest.raises(CodecError, match=message):
            decode(encode(plain, name), hint, name)


@pytest.mark.parametrize(
    ("hint", "value"),
    [
        (dt.datetime | str, NOON),
        (dt.datetime, NOON.replace(fold=1)),
        (dt.datetime, dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin"))),
        (dt.datetime, dt.datetime(2024, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1), "CET"))),
        (dict[str, Any], {"a": (1,)}),
        (collections.abc.Sequence[int], (1, 2)),
        (str | Colour, Colour.RED),
        (list[object], [{1}]),
        (Literal["RED", Colour.RED], Colour.RED),
        (Account, Account.model_construct(name="A", age=-1, since=NOON)),
    ],
)
def test_json_refuses_what_it_would_bring_back_as_something_else(hint: Any, value: Any) -> None:
    with pytest.raises(CodecError):
        Coder("json", type=hint).encode(value)
    assert traits(decode(encode(value, type=hint), hint)) == traits(value)


def test_a_class_named_by_its_type_needs_no_other_introduction() -> None:
    made = enum.Enum("Made", ["ONE"])
    made.__qualname__ = "Made"
    data = encode(made.ONE).replace(b"Made", b"Mode")
    with pytest.raises(CodecError, match="not known"):
        decode(data)
    mode = enum.Enum("Mode", ["ONE"], module=made.__module__)
    assert decode(data, mode) is mode.ONE


def test_of_two_classes_of_one_name_the_one_asked_for_is_read_or_none() -> None:
    def made() -> Any:
        @dataclasses.dataclass
        class Local:
            x: int

        return Local

    first, second = made(), made()
    data = encode(first(1))
    assert decode(data, first) == first(1)
    assert decode(data, second) == second(1)
    # The last one that was written or asked for has the name.
    assert type(decode(data)) is second
    for_first = Coder(type=first)
    encode(second(1))
    with pytest.raises(CodecError, match=r"expected .*Local"):
        for_first.decode(data)


async def answers() -> "list[Point]": ...
async def unknown() -> "Nowhere": ...  # type: ignore[name-defined]  # noqa: F821
def silent(): ...  # type: ignore[no-untyped-def]


def test_a_function_says_what_it_returns() -> None:
    assert returned_by(answers) == list[Point]
    assert returned_by(unknown) is Any
    assert returned_by(silent) is Any
    assert returned_by(len) is Any


def test_a_type_that_is_none_is_a_bad_option() -> None:
    for bad in ("int", 5, [int], {"a": int}):
        with pytest.raises(ConfigError, match=r"^invalid type: "):
            Coder(type=bad)


def test_a_type_is_resolved_when_the_coder_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    coder = Coder(type=dict[str, list[Point]])
    coder.encode({"a": [Point(1, 2.0)]})
    monkeypatch.setattr(typing, "get_type_hints", None)
    assert coder.decode(encode({"a": [Point(1, 2.0)]})) == {"a": [Point(1, 2.0)]}
