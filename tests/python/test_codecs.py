"""Values that leave as bytes and come back: of equal value and exact type all the way down, by every codec."""

import collections
import dataclasses
import datetime as dt
import json
import math
import pathlib
import pickle
import subprocess
import sys
from decimal import Decimal, localcontext
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import msgpack
import msgspec
import orjson
import pydantic
import pytest
import travellers
from hypothesis import given
from hypothesis import strategies as st
from samovar import CodecError, ConfigError
from samovar.codecs import Codec, Coder, Json, MsgPack, Pickle, Raw, codec, decode, encode, register
from travellers import Colour, Node, Pair, Point, Rights, Size, traits

VECTORS = pathlib.Path(__file__).parents[1] / "vectors" / "msgpack.tsv"


def vectors() -> list[tuple[str, bytes, Any]]:
    names = {
        **vars(travellers),
        "dt": dt.datetime,
        "inf": math.inf,
        "nan": math.nan,
        "ZoneInfo": ZoneInfo,
        "UUID": UUID,
    }
    names |= {name: getattr(dt, name) for name in ("date", "time", "timedelta", "timezone")}
    rows = [line.split("\t") for line in VECTORS.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    return [(row[0], bytes.fromhex(row[1]), eval(row[2], names)) for row in rows]


offsets = st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23))
zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.sampled_from(["Europe/Berlin", "UTC", "America/St_Johns", "Pacific/Apia"]).map(ZoneInfo),
    offsets.map(dt.timezone),
    st.builds(dt.timezone, offsets, st.text(max_size=5)),
)
moments = st.one_of(
    st.builds(
        lambda moment, fold, zone: moment.replace(fold=fold, tzinfo=zone), st.datetimes(), st.integers(0, 1), zones
    ),
    st.dates(),
    st.builds(lambda time, fold, zone: time.replace(fold=fold, tzinfo=zone), st.times(), st.integers(0, 1), zones),
    st.timedeltas(),
)
#: What can be a key: whatever equals itself.
keys = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    moments,
    st.decimals(allow_nan=False),
    st.uuids(),
    st.complex_numbers(allow_nan=False),
    st.sampled_from([Colour.RED, Size.LARGE, Rights.READ, Rights.READ | Rights.WRITE, Rights(0)]),
    st.builds(Node, st.text()),
)
leaves = st.one_of(keys, st.floats(), st.decimals(), st.complex_numbers(), st.builds(Point, st.integers(), st.floats()))
values = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner),
        st.lists(inner).map(tuple),
        st.dictionaries(st.one_of(keys, st.tuples(keys, keys)), inner),
        st.sets(keys),
        st.frozensets(keys),
        st.builds(Pair, st.text(), st.lists(st.integers())),
        st.builds(Node, st.text(), st.lists(st.builds(Node, st.text())).map(tuple), st.sampled_from(Colour)),
    ),
    max_leaves=30,
)
plain = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**64 - 1),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=40,
)


@pytest.mark.slow
@given(values)
def test_msgpack_brings_back_what_it_was_given(value: Any) -> None:
    assert traits(decode(encode(value))) == traits(value)


@pytest.mark.slow
@given(values)
def test_pickle_brings_back_what_it_was_given(value: Any) -> None:
    assert traits(decode(encode(value, "pickle"), Any, "pickle")) == traits(value)


@pytest.mark.slow
@given(plain)
def test_json_brings_back_what_it_was_given(value: Any) -> None:
    for ours in (Json(), Json(orjson=False)):
        data = ours.encode(value)
        for reader in (Json().decode, Json(orjson=False).decode, json.loads):
            assert traits(reader(data)) == traits(value)


@pytest.mark.slow
@given(plain)
def test_json_by_anybody_else_is_read_too(value: Any) -> None:
    own = Json(orjson=False)
    for data in (json.dumps(value), json.dumps(value, indent=2, ensure_ascii=False), orjson.dumps(value).decode()):
        assert traits(own.decode(data.encode())) == traits(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_json_brings_back_every_bit_of_a_float(value: float) -> None:
    own = Json(orjson=False)
    assert own.decode(own.encode(value)).hex() == value.hex()
    assert own.decode(repr(value).encode()).hex() == value.hex()
    assert json.loads(own.encode(value)).hex() == value.hex()


@pytest.mark.slow
@given(st.one_of(st.binary(), st.text()))
def test_raw_brings_back_bytes_and_text(value: bytes | str) -> None:
    data = encode(value, "raw")
    assert data[1:] == (value.encode() if isinstance(value, str) else value)
    assert traits(decode(data, Any, "raw")) == traits(value)


@pytest.mark.slow
@given(plain)
def test_plain_values_are_the_bytes_that_other_writers_of_msgpack_write(value: Any) -> None:
    data = encode(value)
    assert data == msgpack.packb(value)
    assert traits(msgpack.unpackb(data, strict_map_key=False)) == traits(value)
    assert traits(msgspec.msgpack.decode(data)) == traits(value)


@pytest.mark.slow
@given(st.dictionaries(st.one_of(st.integers(0, 2**64 - 1), st.text(), st.binary()), st.binary()))
def test_bytes_and_other_keys_are_plain_too(value: dict[Any, Any]) -> None:
    assert msgpack.unpackb(encode(value), strict_map_key=False) == value


@pytest.mark.slow
@given(st.datetimes(timezones=st.just(dt.UTC)))
def test_a_moment_in_utc_is_the_timestamp_that_others_know(value: dt.datetime) -> None:
    value = value.replace(fold=0)
    assert msgpack.unpackb(encode(value), timestamp=3) == value
    assert traits(decode(msgpack.packb(value, datetime=True))) == traits(value)


@pytest.mark.parametrize(("name", "data", "value"), vectors(), ids=[name for name, *_ in vectors()])
def test_the_vectors_that_rust_has_too(name: str, data: bytes, value: Any) -> None:
    register(Point), register(Pair), register(Colour), register(Rights)
    assert encode(value) == data
    assert traits(decode(data)) == traits(value)
    assert traits(decode(memoryview(bytearray(data)))) == traits(value)


def test_an_extension_is_what_another_reader_finds_in_it() -> None:
    """The layouts of docs/msgpack.md, read by hand."""

    def hook(code: int, data: bytes) -> Any:
        if code in (2, 3, 4, 12, 13):
            return {code: msgpack.unpackb(data, ext_hook=hook, strict_map_key=False)}
        if code == 1:
            return int.from_bytes(data, "big", signed=True)
        return Decimal(data.decode()) if code == 9 else UUID(bytes=data)

    value = [(1, (2,)), {3}, frozenset({4}), 2**64, -(2**70), Decimal("1.50"), UUID(int=5), Colour.BLUE, Point(1, 2.0)]
    assert msgpack.unpackb(encode(value), ext_hook=hook) == [
        {2: [1, {2: [2]}]},
        {3: [3]},
        {4: [4]},
        2**64,
        -(2**70),
        Decimal("1.50"),
        UUID(int=5),
        {12: ["travellers.Colour", "BLUE"]},
        {13: ["travellers.Point", {"x": 1, "y": 2.0}]},
    ]


@attrs.define
class Cup:
    tea: str
    lemon: bool = False


@attrs.frozen(cache_hash=True)
class Hashed:
    x: int


class Kettle(msgspec.Struct):
    litres: float
    lid: Node | None = None


class Account(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="allow")
    name: str
    since: dt.date = dt.date(2020, 1, 1)
    _seen: int = pydantic.PrivateAttr(default=0)


@dataclasses.dataclass
class Derived:
    width: int
    area: int = dataclasses.field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.area = self.width * self.width

    @property
    def double(self) -> int:
        return 2 * self.width


@pytest.mark.parametrize(
    "value",
    [Cup("green", True), Hashed(3), Kettle(1.5, Node("lid")), Account(name="Ada"), Derived(3)],
    ids=lambda value: type(value).__name__,
)
def test_objects_come_back_whatever_made_their_class(value: Any) -> None:
    back = decode(encode([value]))[0]
    assert back == value
    assert traits(back) == traits(value)


def test_an_object_is_made_without_its_constructor() -> None:
    value = Derived(3)
    value.area = 7
    assert decode(encode(value)).area == 7


def test_a_frozen_class_that_keeps_its_hash_can_be_hashed() -> None:
    assert hash(decode(encode(Hashed(3)))) == hash(Hashed(3))


def test_a_pydantic_model_keeps_what_it_has_beside_its_fields() -> None:
    value = Account(name="Ada", extra=(1,))  # type: ignore[call-arg]
    value._seen = 5
    back = decode(encode(value))
    assert back == value
    assert (back._seen, back.extra, back.model_fields_set) == (5, (1,), {"name", "extra"})


def test_a_decimal_is_the_same_in_any_context() -> None:
    with localcontext() as context:
        context.capitals, context.prec = 0, 3
        data = encode(Decimal("1.23456E+7"))
        assert decode(data).as_tuple() == Decimal("1.23456E+7").as_tuple()
    assert data == encode(Decimal("1.23456E+7"))


def renamed(value: Any, name: str) -> bytes:
    """The bytes of a value whose class's name, of as many letters, is another."""
    return encode(value).replace(type(value).__qualname__.encode(), name.encode())


@pytest.mark.parametrize("data", [renamed(Point(1, 2.0), "Paint"), renamed(Colour.RED, "Colors")])
def test_a_class_that_this_process_does_not_know_is_an_error(data: bytes) -> None:
    with pytest.raises(CodecError, match="is not known in this process, and nothing is imported"):
        decode(data)


@pytest.mark.slow
def test_a_class_that_is_there_is_not_made_before_it_is_registered() -> None:
    program = """
import sys, travellers
from samovar import CodecError
from samovar.codecs import decode, encode, register
data = bytes.fromhex(sys.argv[1])
try:
    print(decode(data))
except CodecError as error:
    print("refused" if "not known" in str(error) else error)
register(travellers.Point)
print(decode(data))
"""
    here = pathlib.Path(__file__).parent
    source = f"import sys; sys.path.insert(0, {str(here)!r})\n{program}"
    command = [sys.executable, "-P", "-c", source, encode(Point(1, 2.0)).hex()]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout == "refused\nPoint(x=1, y=2.0)\n"


def test_nothing_is_imported_for_bytes() -> None:
    before = set(sys.modules)
    for name in (b"antigravity.Point", b"os.system", b"this.x"):
        record = b"\x92" + bytes([0xA0 | len(name)]) + name + b"\x80"
        with pytest.raises(CodecError, match="not known"):
            decode(bytes([0xC7, len(record), 13]) + record)
    assert set(sys.modules) == before


def test_an_object_written_with_other_fields_is_an_error() -> None:
    data = encode(Point(1, 2.0)).replace(b"\xa1x", b"\xa1z")
    with pytest.raises(CodecError, match=r"travellers.Point has other fields here: x, y; written with z, y"):
        decode(data)
    with pytest.raises(CodecError, match="has no member 'RAD' here"):
        decode(encode(Colour.RED).replace(b"RED", b"RAD"))


class Sneaky:
    def __repr__(self) -> str:
        raise AssertionError("nobody shows what it is")

    def __hash__(self) -> int:
        return 1


class Text(str):
    __slots__ = ()


loop: list[Any] = [1]
loop.append({"self": loop})
deep: Any = None
for _ in range(129):
    deep = [deep]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Sneaky(), r"^value: object of type .*test_codecs\.Sneaky, for which"),
        ({"user": {"roles": [1, 2, 3, Sneaky()]}}, r"^value\['user'\]\['roles'\]\[3\]: object of type"),
        (Node("a", (Node("b", (Sneaky(),)),)), r"^value\.children\[0\]\.children\[0\]: object of type"),
        ({7: {True: Sneaky()}}, r"^value\[7\]\[True\]: object of type"),
        ({(1, Sneaky()): 1}, r"^value \(a key\)\[1\]: object of type"),
        ([{1, Sneaky()}], r"^value\[0\] \(a member\): object of type"),
        ({(1, 2): Sneaky()}, r"^value\[<tuple>\]: object of type"),
        (loop, r"^value\[1\]\['self'\]: the container itself again, 2 up"),
        (deep, r"^value: nested deeper than 128"),
        (["ok", "a\ud800"], r"^value\[1\]: text with a lone surrogate at 1"),
        (["ok", "\U0001f600\udfff"], r"^value\[1\]: text with a lone surrogate at 1"),
        ({"\ud800": 1}, r"^value \(a key\): text with a lone surrogate at 0"),
        ({math.nan: 1}, r"^value \(a key\): nan where a key"),
        ({"a": {(1, math.nan)}}, r"^value\['a'\] \(a member\)\[1\]: nan where"),
        ({complex(0, math.nan)}, r"^value \(a member\): nan where"),
        ({Decimal("NaN"): 1}, r"^value \(a key\): nan where"),
        ([Text("a")], r"^value\[0\]: object of type .*test_codecs\.Text"),
        (collections.OrderedDict(a=1), r"^value: object of type collections.OrderedDict"),
        (collections.defaultdict(int), r"^value: object of type collections.defaultdict"),
        (bytearray(b"a"), r"^value: object of type bytearray"),
        (
            dt.datetime(2024, 1, 1, tzinfo=type("Own", (dt.tzinfo,), {})()),
            r"^value: a zone of type .*Own; use zoneinfo",
        ),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_msgpack_names_the_path_to_what_has_no_form(value: Any, message: str) -> None:
    with pytest.raises(CodecError, match=message):
        encode(value)


NO_JSON: list[tuple[Any, str]] = [
    ({"a": [1, (2,)]}, r"^value\['a'\]\[1\]: object of type tuple, which JSON would not bring back"),
    ([math.inf], r"^value\[0\]: a float that is not finite"),
    ({"a": math.nan}, r"^value\['a'\]: a float that is not finite"),
    ([2**64], r"^value\[0\]: an int beyond 64 bits"),
    ({1: 2}, r"^value \(a key\): object of type int, where JSON has only text"),
    (["\ud800"], r"^value\[0\]: text with a lone surrogate"),
    ({"\ud800": 1}, r"^value \(a key\): text with a lone surrogate"),
    ([Colour.RED], r"^value\[0\]: object of type travellers.Colour"),
    ([UUID(int=1)], r"^value\[0\]: object of type uuid.UUID"),
    (b"a", r"^value: object of type bytes"),
    (loop, r"^value\[1\]\['self'\]: the container itself again"),
    (deep, r"^value: nested deeper than 128"),
]


@pytest.mark.parametrize("ours", [Json(), Json(orjson=False)], ids=["orjson", "own"])
@pytest.mark.parametrize(("value", "message"), NO_JSON, ids=[message[:40] for _, message in NO_JSON])
def test_json_names_the_path_to_what_it_would_not_bring_back(value: Any, message: str, ours: Json) -> None:
    with pytest.raises(CodecError, match=message):
        encode(value, ours)


JUNK = [
    *(
        b"",
        b"{",
        b"[1,]",
        b"[1 2]",
        b"[,1]",
        b'"\xff"',
        b"nan",
        b"[NaN]",
        b"1 2",
        b"[" * 100_000,
        b"\xef\xbb\xbf1",
        b'{"a":1',
    ),
    *(b"01", b"-", b"1.", b".5", b"1e", b"+1", b"1e+", b"--1", b"0x1", b"Infinity", b"tru", b"nulll", b"'a'", b'{"a"}'),
    *(
        b'"',
        b'"\\',
        b'"\\"',
        b'"\\x"',
        b'"\\u12"',
        b'"\\ud800"',
        b'"\\udc00\\ud800"',
        b'"\\ud800\\u0041"',
        b'"a\nb"',
        b'"\0"',
    ),
    *(b"{1:2}", b'{"a":1,}', b'{"a" 1}', b"[1]]", b"]", b"\0", b"// a\n1", b"\x0c1", b'["a\tb"]'),
]


@pytest.mark.parametrize("data", JUNK, ids=lambda data: repr(data[:12]))
def test_json_that_is_none_is_an_error_by_either_reader(data: bytes) -> None:
    for ours in (Json(), Json(orjson=False)):
        with pytest.raises(CodecError, match=r"^no JSON: "):
            ours.decode(data)


def test_json_is_read_as_the_standard_has_it() -> None:
    own = Json(orjson=False)
    texts = [
        " [ ] ",
        "{ }",
        "[1 , -0, -0.0, 1E5, 1e-5, 0.1e+2]",
        '"\\u00e9\\ud83e\\uded6\\n\\/\\b\\f\\r\\t\\"\\\\"',
        '{"a":{"a":[true,false,null]}}',
    ]
    texts += [
        str(2**63),
        str(-(2**63)),
        str(2**64),
        "9" * 40,
        '"' + "é" * 20 + '"',
        '{"a":1,"a":2}',
        '"' + "x" * 7 + '"',
    ]
    for text in texts:
        assert traits(own.decode(text.encode())) == traits(json.loads(text))
    assert traits(own.decode(memoryview(b"[1]"))) == traits([1])
    with pytest.raises(CodecError, match="beyond all floats"):
        own.decode(b"1e999")
    with pytest.raises(CodecError, match="nested deeper than 128"):
        own.decode(b"[" * 129 + b"]" * 129)


@given(st.binary(max_size=60))
def test_json_of_any_bytes_is_a_value_that_others_read_too_or_an_error(data: bytes) -> None:
    try:
        value = Json(orjson=False).decode(data)
    except CodecError:
        return
    assert traits(json.loads(data)) == traits(value)


@dataclasses.dataclass
class Trap:
    """Does something while it is being written."""

    change: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "change":
            object.__getattribute__(self, "change")()
            return None
        return object.__getattribute__(self, name)


def test_a_container_that_changes_while_it_is_written_is_an_error() -> None:
    items: list[Any] = [1, 2, 3]
    items[1] = Trap(items.clear)
    pairs: dict[Any, Any] = {n: [n] for n in range(5)}
    pairs[2] = Trap(pairs.clear)
    grown: dict[Any, Any] = {"a": 1}
    grown["b"] = Trap(lambda: grown.update({n: n for n in range(1000)}))
    for value in (items, pairs, grown):
        with pytest.raises(CodecError, match="changed while it was being written"):
            encode([value])


def test_what_a_class_raises_has_the_path_and_is_the_cause() -> None:
    def fail() -> None:
        raise ZeroDivisionError("of its own")

    with pytest.raises(CodecError, match=r"^value\['a'\]: of its own") as caught:
        encode({"a": Trap(fail)})
    assert isinstance(caught.value.__cause__, ZeroDivisionError)

    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode({"a": Trap(stop)})


def test_an_attribute_that_would_be_lost_is_an_error() -> None:
    value = Point(1, 2.0)
    value.colour = "red"  # type: ignore[attr-defined]
    with pytest.raises(CodecError, match=r"attribute 'colour' is no field of travellers.Point"):
        encode(value)


def test_writing_leaves_no_copy_in_the_users_text() -> None:
    text = "é" * 1000
    before = sys.getsizeof(text)
    encode(text)
    assert sys.getsizeof(text) == before


class Opened:
    def __reduce__(self) -> Any:
        return print, ("code that ran",)


def test_pickle_with_a_list_of_what_is_allowed_makes_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    careful = Pickle(allow=[Point, Colour])
    value = [
        Point(1, 2.0),
        Colour.RED,
        {1},
        dt.datetime(2024, 1, 1, tzinfo=ZoneInfo("Europe/Berlin")),
        Decimal(1),
        UUID(int=1),
    ]
    assert traits(careful.decode(careful.encode(value))) == traits(value)
    for refused in (Opened(), Node("a"), print, Node):
        with pytest.raises(CodecError, match="is not in allow="):
            careful.encode(refused)
        with pytest.raises(CodecError, match="is not in allow="):
            careful.decode(pickle.dumps(refused))
    assert capsys.readouterr().out == ""
    for refused in (eval, Colour.RED):
        with pytest.raises(CodecError, match="is not in allow="):
            Pickle(allow=[]).decode(pickle.dumps(refused))


def test_pickle_says_that_it_has_to_be_authenticated() -> None:
    assert Coder("pickle").authenticated_only
    assert not any(Coder(name).authenticated_only for name in ("msgpack", "json", "raw"))


@pytest.mark.parametrize("data", [b"", b"\x02a", b"\x01\xff"])
def test_raw_bytes_that_nobody_wrote_are_an_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data, Any, "raw")


def test_raw_takes_bytes_and_text_only() -> None:
    for value in (1, bytearray(b"a"), Text("a"), "\ud800"):
        with pytest.raises(CodecError, match=r"^value: "):
            encode(value, "raw")


class Hex:
    name, id = "hex", 200

    def encode(self, value: Any) -> bytes:
        return value.hex().encode()

    def decode(self, data: bytes) -> bytes:
        return bytes.fromhex(data.decode())


def test_a_codec_of_ones_own_is_two_names_and_two_methods() -> None:
    assert isinstance(Hex(), Codec)
    assert encode(b"tea", Hex()) == b"746561"
    assert decode(b"746561", Any, Hex()) == b"tea"
    with pytest.raises(CodecError, match=r"^value: codec 'hex' cannot write it"):
        encode(1, Hex())
    with pytest.raises(CodecError, match="codec 'hex' cannot read it"):
        decode(b"zz", Any, Hex())


def test_codecs_have_names_and_bad_ones_are_refused() -> None:
    assert [type(codec(name)) for name in ("msgpack", "json", "pickle", "raw")] == [MsgPack, Json, Pickle, Raw]
    assert len({codec(name).id for name in ("msgpack", "json", "pickle", "raw")}) == 4
    own = Hex()
    own.id = 1
    for bad in ("yaml", 7, object(), own):
        with pytest.raises(ConfigError, match=r"^invalid (id of )?codec"):
            Coder(bad)  # type: ignore[arg-type]


def test_a_value_that_is_too_large_is_refused_or_skipped() -> None:
    small = Coder(max_value_bytes=10)
    assert small.encode("123456789") == b"\xa9123456789"
    with pytest.raises(CodecError, match=r"^value: 11 bytes, more than max_value_bytes=10"):
        small.encode("1234567890")
    assert Coder(max_value_bytes=10, on_too_large="skip").encode("1234567890") is None
    for options in ({"max_value_bytes": 0}, {"max_value_bytes": "1MB"}, {"on_too_large": "drop"}):
        with pytest.raises(ConfigError, match=f"^invalid {next(iter(options))}"):
            Coder(**options)  # type: ignore[arg-type]
