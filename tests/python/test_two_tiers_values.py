"""What travels through a real Redis: every type is alike from memory and from the store, by both faces.

Codecs, compression, seals, types and sizes as options of a cache and of its functions; and what never travels.
"""

import dataclasses
import json
import os
import warnings
from typing import Annotated, Any

import pydantic
import pytest
from faces import Face
from samovar import Cache, CodecError, ConfigError, KeyRing, Memory, NoCacheKey
from samovar.codecs import encode
from servers import RedisServer
from test_codecs import vectors
from tiers import Make, a_face, a_make, a_server, is_trusted, keys_of  # noqa: F401 - fixtures
from travellers import Colour, Node, Pair, Point, Rights, Size, traits
from watching import settled

A, B, C = (bytes([n]) * 32 for n in range(3))


def unreadable(cache: Cache) -> dict[str, int]:
    stats = cache.remote_stats()
    assert stats is not None
    return dict(stats.unreadable)


# --- every type -------------------------------------------------------------------------------------------------------

OWN = [
    Point(1, 2.5),
    Node("a", (Node("b"),), Colour.BLUE),
    Pair("k", [1, 2]),
    Size.LARGE,
    Rights.READ | Rights.WRITE,
    {"deep": [{"er": (1, {2}, frozenset({3}))}]},
    b"\0" * 100_000,
    "ü" * 100_000,
    list(range(50_000)),
]
VALUES = [(name, value) for name, _, value in vectors()] + [(f"own {n}", value) for n, value in enumerate(OWN)]


@pytest.mark.parametrize(("name", "value"), VALUES, ids=[name for name, _ in VALUES])
def test_a_value_is_the_same_from_memory_and_from_the_store(make: Make, name: str, value: Any) -> None:
    for face in (Face("async"), Face("sync")):
        here, there, none = make(), make(), make(memory=None)
        f = here.cached("5m", key="f")(face.function(lambda: value))
        face.do(here, "set", "a", value)
        face.call(f)
        for cache in (here, there, there, none):
            for key in ("a", "f"):
                assert traits(face.do(cache, "get", key)) == traits(value)
                assert traits(face.do(cache, "get_many", [key])[key]) == traits(value)
                assert traits(face.do(cache, "peek", key).value) == traits(value)
        face.do(here, "clear")


# --- options of a cache -----------------------------------------------------------------------------------------------


class Shouting:
    """A codec of a user's own."""

    name = "shouting"
    id = 200

    def encode(self, value: object) -> bytes:
        return json.dumps(value).upper().encode()

    def decode(self, data: bytes) -> Any:
        return json.loads(data.decode().lower())


RINGS = {
    "auto": {"key_ring": {1: A}},
    "aes-gcm": {"key_ring": {1: A}, "encrypt": "aes-gcm"},
    "sign": {"key_ring": {1: A}, "encrypt": "sign"},
}
WAYS: dict[str, dict[str, Any]] = {
    "json": {"codec": "json"},
    "own codec": {"codec": Shouting()},
    "pickle": {"codec": "pickle", "key_ring": {1: A}},
    **{f"compress {name}": {"compress": name} for name in ("auto", "zstd", "lz4", "gzip", "snappy")},
    **RINGS,
    "all": {"codec": "json", "compress": "zstd", "key_ring": {2: B, 1: A}},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_cache_writes_and_reads_its_way(face: Face, make: Make, way: str) -> None:
    here, there = make(**WAYS[way]), make(**WAYS[way])
    value = {"name": "x" * 5000, "n": [1, 2, None, True]}
    face.do(here, "set", "a", value)
    f = here.cached("5m", key="f")(face.function(lambda: value))
    assert face.call(f) == value
    assert face.do(there, "get_many", ["a", "f"]) == {"a": value, "f": value}
    assert face.do(there, "incr", "n") == 1
    assert face.do(here, "incr", "n") == 2
    assert face.do(there, "touch", "a", 60) is True
    face.do(here, "set_missing", "m", ttl=60)
    assert face.do(there, "peek", "m").state == "missing"
    assert unreadable(there) == {}


def test_raw_bytes_and_text_travel_as_they_are(face: Face, make: Make, server: RedisServer) -> None:
    here, there = make(codec="raw"), make(codec="raw")
    face.do(here, "set_many", {"b": b"\0\xff", "t": "ü"})
    assert face.do(there, "get_many", ["b", "t"]) == {"b": b"\0\xff", "t": "ü"}
    assert b"\xc3\xbc" in server.ask("GET", "app::t")
    with pytest.raises(CodecError):
        face.do(here, "set", "n", 1)
    assert face.do(here, "get", "n") is None


@pytest.mark.parametrize("way", RINGS)
def test_what_is_sealed_can_be_read_by_who_has_the_key_alone(
    face: Face, make: Make, server: RedisServer, way: str
) -> None:
    options = RINGS[way]
    face.do(make(**options), "set", "a", "a secret")
    raw = server.ask("GET", "app::a")
    assert (b"a secret" in raw) == (way == "sign")
    for wrong in ({**options, "key_ring": {1: B}}, {**options, "key_ring": {2: A}}):
        other = make(**wrong)
        assert face.do(other, "get", "a", "none") == "none"
        assert sum(unreadable(other).values()) == 1
    without = make()
    face.do(without, "get", "a")
    assert face.do(make(**options), "get", "a") == "a secret"


def test_a_cache_with_a_key_takes_nothing_that_is_not_sealed(face: Face, make: Make) -> None:
    face.do(make(), "set", "a", "forged")
    cache = make(key_ring={1: A})
    assert face.do(cache, "get", "a") is None
    assert unreadable(cache) == {"unsealed": 1}
    spy: list[int] = []
    f = cache.cached("5m", key="a")(face.function(lambda: spy.append(1) or "true"))
    assert face.call(f) == face.call(f) == "true"
    assert spy == [1]
    assert face.do(make(key_ring={1: A}), "get", "a") == "true", "what could not be read was replaced"


def test_keys_are_rotated_without_a_miss(face: Face, make: Make) -> None:
    face.do(make(key_ring={1: A}), "set", "a", 1)
    both = make(key_ring=KeyRing({1: A, 2: B}, primary=2))
    assert face.do(both, "get", "a") == 1
    face.do(both, "set", "b", 2)
    new = make(key_ring={2: B}, memory=None)
    assert settled(lambda: face.do(new, "get_many", ["a", "b"]) == {"a": 1, "b": 2}), "what is read is sealed anew"
    assert face.do(make(key_ring={1: A}), "get_many", ["a", "b"]) == {}


def test_each_namespace_and_name_has_seals_of_its_own(face: Face, make: Make, server: RedisServer) -> None:
    cache = make(key_ring={1: A})
    face.do(cache, "set", "a", 1)
    face.do(cache.namespace("n"), "set", "a", 2)
    for source, target in (("app::a", "app::b"), ("app:n:a", "app::c"), ("app::a", "app:n:d"), ("app::a", "other::a")):
        assert server.ask("COPY", source, target) == b":1\r\n"
    other = make(key_ring={1: A})
    assert face.do(other, "get_many", ["b", "c"]) == {}
    assert face.do(other.namespace("n"), "get", "d") is None
    assert face.do(make(name="other", key_ring={1: A}), "get", "a") is None
    assert unreadable(other).get("not_authentic", 0) >= 2
    assert face.do(other, "get", "a") == 1
    assert face.do(other.namespace("n"), "get", "a") == 2


def test_pickle_needs_a_key(server: RedisServer) -> None:
    with pytest.raises(ConfigError, match="key_ring"):
        Cache(server.url, codec="pickle")
    with pytest.raises(ConfigError, match="key_ring"):
        Cache(server.url, codec="pickle", key_ring={1: A}, encrypt=False)


class Bomb:
    def __reduce__(self) -> Any:
        return os.abort, ()


def test_a_pickle_that_was_not_written_here_is_never_read(face: Face, make: Make) -> None:
    import pickle

    class Sender:
        name, id = "sender", 205

        def encode(self, value: object) -> bytes:
            return pickle.dumps(Bomb())

        def decode(self, data: bytes) -> Any:
            raise AssertionError

    face.do(make(codec=Sender()), "set", "a", 1)
    face.do(make(codec="pickle", key_ring={1: B}), "set", "b", 1)
    for cache in (make(), make(codec="pickle", key_ring={1: A})):
        assert face.do(cache, "get_many", ["a", "b"]) == {}
        assert sum(unreadable(cache).values()) == 2


@pytest.mark.parametrize(
    "option", [{"codec": "yaml"}, {"compress": "rar"}, {"encrypt": "rot13"}, {"key_ring": {1: b"x"}}]
)
def test_an_option_that_cannot_be_is_refused_when_it_is_made(server: RedisServer, option: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(option))):
        Cache(server.url, **{"key_ring": {1: A}, **option} if "encrypt" in option else option)


def test_a_value_of_another_codec_of_ours_is_read(face: Face, make: Make) -> None:
    value = {"a": [1, "x"]}
    ways: list[dict[str, Any]] = [{}, {"codec": "json"}, {"compress": "zstd"}, {"compress": "snappy"}]
    for n, way in enumerate(ways):
        face.do(make(**way), "set", f"{n}", value)
    for way in ways:
        assert face.do(make(**way), "get_many", [f"{n}" for n in range(4)]) == {f"{n}": value for n in range(4)}
    foreign = make(codec=Shouting())
    face.do(foreign, "set", "s", {"a": 1})
    cache = make()
    assert face.do(cache, "get", "s") is None
    assert unreadable(cache) == {"unknown_serializer": 1}


def test_compression_makes_frames_smaller_and_never_larger(face: Face, make: Make, server: RedisServer) -> None:
    def size(key: str) -> int:
        return int(server.ask("STRLEN", f"app::{key}")[1:])

    dice = os.urandom(3000)
    for name, compress in (("plain", None), ("auto", "auto")):
        cache = make(compress=compress)
        face.do(cache, "set_many", {f"{name} text": "x" * 3000, f"{name} dice": dice, f"{name} short": "x" * 100})
    assert size("auto text") < size("plain text") / 10
    assert size("auto dice") == size("plain dice")
    assert size("auto short") == size("plain short")


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_value_beyond_the_bound_raises_before_anything_is_stored(face: Face, make: Make) -> None:
    cache = make(max_value_bytes=100)
    face.do(cache, "set", "a", "old")
    for method, *args in (("set", "a", "x" * 101), ("set_many", {"b": 1, "a": "x" * 101}), ("replace", "a", "x" * 101)):
        with pytest.raises(CodecError, match="max_value_bytes"):
            face.do(cache, method, *args)
    for looked in (cache, make()):
        assert face.do(looked, "get_many", ["a", "b"]) == {"a": "old"}


def test_a_value_beyond_the_bound_may_be_skipped(face: Face, make: Make) -> None:
    cache = make(max_value_bytes=100, on_too_large="skip")
    # What is kept before anybody was asked about others is looked at again.
    face.do(cache, "get", "nothing")
    face.do(cache, "set_many", {"a": "old", "c": "old"})
    face.do(cache, "set", "a", "x" * 101)
    face.do(cache, "set_many", {"b": "new", "c": "x" * 101})
    for looked in (cache, make()):
        assert face.do(looked, "get_many", ["a", "b", "c"]) == {"b": "new"}, "what is old is no more"
    spy: list[int] = []
    f = cache.cached("5m", key="f")(face.function(lambda: spy.append(1) or "x" * 101))
    assert face.call(f) == face.call(f) == "x" * 101
    assert spy == [1], "in memory it is"
    assert face.do(make(), "get", "f") is None


def test_a_frame_beyond_the_readers_bound_is_a_miss(face: Face, make: Make) -> None:
    face.do(make(), "set", "a", "x" * 1000)
    face.do(make(compress="zstd"), "set", "b", "x" * 100_000)
    cache = make(max_value_bytes=500)
    assert face.do(cache, "get_many", ["a", "b"]) == {}
    assert unreadable(cache) == {"too_large": 2}


# --- types ------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class User:
    name: str
    age: int


class Account(pydantic.BaseModel):
    name: str
    age: int = pydantic.Field(ge=0)


def user() -> User:
    return User("x", 7)


def account() -> Account:
    return Account(name="x", age=7)


def users() -> dict[str, list[User]]:
    return {"a": [User("x", 7)]}


@pytest.mark.parametrize("function", [user, account, users])
@pytest.mark.parametrize("codec", ["msgpack", "json"])
def test_the_return_annotation_is_what_comes_back(face: Face, make: Make, function: Any, codec: str) -> None:
    expected = function()
    for _ in range(2):
        f = make(codec=codec).cached("5m", key="u")(face.function(function))
        got = face.call(f)
        assert got == expected
        assert traits(got) == traits(expected)


def test_a_map_that_another_program_wrote_is_read_as_the_class(face: Face, make: Make) -> None:
    face.do(make(codec="json"), "set", "u", {"name": "other", "age": 3})
    calls: list[int] = []

    def function() -> User:
        calls.append(1)
        return User("x", 7)

    f = make(codec="json").cached("5m", key="u")(face.function(function))
    assert face.call(f) == User("other", 3)
    assert calls == []


def test_what_is_of_another_type_in_the_store_is_a_miss_and_replaced(face: Face, make: Make) -> None:
    for wrong in ("text", {"name": 1, "age": "x"}, {"name": "x"}, None, [1]):
        face.do(make(), "set", "u", wrong)
        cache = make()
        f = cache.cached("5m", key="u")(face.function(user))
        assert face.call(f) == User("x", 7)
        assert sum(unreadable(cache).values()) == 1, wrong
        assert face.call(make().cached("5m", key="u")(face.function(user))) == User("x", 7)


def test_a_type_may_be_given(face: Face, make: Make) -> None:
    face.do(make(), "set", "u", {"name": "other", "age": 3})
    f = make().cached("5m", key="u", type=User)(face.function(lambda: User("x", 7)))
    assert face.call(f) == User("other", 3)


def test_a_result_of_another_type_stays_in_memory_with_one_warning(face: Face, make: Make, server: RedisServer) -> None:
    cache = make()
    calls: list[Any] = []

    def lying(a: int) -> User:
        calls.append(a)
        return {"name": 3}  # type: ignore[return-value]

    lying.__qualname__ = f"lying_{face}"
    f = cache.cached("5m", key="u:{a}")(face.function(lying))
    with pytest.warns(UserWarning, match="lying") as told:
        assert [face.call(f, n) for n in (1, 2, 1, 2)] == [{"name": 3}] * 4
    assert len(told) == 1
    assert calls == [1, 2]
    assert settled(lambda: keys_of(server) == []), "no claim is left"


# --- what never travels -----------------------------------------------------------------------------------------------


class Odd:
    pass


def test_what_has_no_form_is_refused_by_set_before_anything_is_stored(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "a", 1)
    for method, *args in (
        ("set", "a", Odd()),
        ("add", "new", Odd()),
        ("replace", "a", [Odd()]),
        ("set_many", {"b": 1, "a": Odd()}),
    ):
        with pytest.raises(CodecError, match="Odd"):
            face.do(cache, method, *args)
    for looked in (cache, make()):
        assert face.do(looked, "get_many", ["a", "b", "new"]) == {"a": 1}


def test_a_result_without_a_form_stays_in_memory_with_one_warning(face: Face, make: Make, server: RedisServer) -> None:
    cache, calls = make(), []

    def odd(a: int) -> Any:
        calls.append(a)
        return Odd()

    odd.__qualname__ = f"odd_{face}"
    f = cache.cached("5m", key="o:{a}")(face.function(odd))
    with pytest.warns(UserWarning, match=f"odd_{face}") as told:
        got = [face.call(f, n) for n in (1, 2, 1, 2)]
    assert [type(one) for one in got] == [Odd] * 4
    assert (len(told), calls) == (1, [1, 2])
    assert settled(lambda: keys_of(server) == []), "no claim is left"
    with pytest.raises(CodecError):
        face.call(f.set, Odd(), 1)
    face.call(f.invalidate, 1)
    assert isinstance(face.call(f, 1), Odd)
    assert calls == [1, 2, 1]


def test_a_factory_whose_value_has_no_form_answers_its_caller(face: Face, make: Make) -> None:
    cache = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first = face.do(cache, "get_or_set", "a", face.function(Odd))
        assert isinstance(first, Odd)
        assert isinstance(face.do(cache, "get", "a"), Odd)
        assert face.do(make(), "get", "a") is None


def test_a_parameter_that_is_no_key_is_none_in_the_store(face: Face, make: Make) -> None:
    calls: list[int] = []

    def f(a: int, session: Annotated[object, NoCacheKey]) -> int:
        calls.append(a)
        return a

    for _ in range(2):
        assert face.call(make().cached("5m")(face.function(f)), 1, object()) == 1
    assert calls == [1]


# --- how much is in memory --------------------------------------------------------------------------------------------


def test_without_a_memory_the_store_answers_everything(face: Face, make: Make) -> None:
    cache, calls = make(memory=None), []
    face.do(cache, "set_many", {"a": [1], "b": 2})
    f = cache.cached("5m", key="f")(face.function(lambda: calls.append(1) or [2]))
    for _ in range(3):
        assert face.do(cache, "get", "a") == [1]
        assert face.do(cache, "get_many", ["a", "b"]) == {"a": [1], "b": 2}
        assert face.call(f) == [2]
        assert face.do(cache, "incr", "n") > 0
    assert (cache.stats().entries, calls) == (0, [1])
    other = make()
    face.do(other, "set", "a", "new")
    assert face.do(cache, "get", "a") == "new"
    face.do(other, "delete", "f")
    assert face.call(f) == [2]
    assert calls == [1, 1]


def test_a_bound_on_the_life_in_memory_has_the_store_asked_again(face: Face, make: Make) -> None:
    short, other = make(memory=Memory(ttl=0.02)), make()
    face.do(other, "set", "a", "old", ttl=60)
    assert face.do(short, "get", "a") == "old"
    face.do(other, "set", "a", "new", ttl=60)
    assert settled(lambda: face.do(short, "get", "a") == "new")
    face.do(short, "set", "b", "own", ttl=60)
    face.do(other, "set", "b", "new", ttl=60)
    assert settled(lambda: face.do(short, "get", "b") == "new")
    calls: list[int] = []
    f = short.cached(60, key="f")(face.function(lambda: calls.append(1) or 1))
    assert face.call(f) == 1
    face.do(other, "set", "f", 2)
    assert settled(lambda: face.call(f) == 2)
    assert calls == [1]
    assert 50 < face.do(short, "ttl", "a") <= 60 or face.do(short, "ttl", "a") <= 0.02


def test_nothing_is_encoded_for_memory_alone() -> None:
    cache = Cache(name="alone")
    cache.sync.set("a", Odd())
    assert isinstance(cache.sync.get("a"), Odd)


def test_a_value_is_encoded_once_for_all_tiers(face: Face, make: Make) -> None:
    class Counting(Shouting):
        id = 201
        written = 0
        read = 0

        def encode(self, value: object) -> bytes:
            Counting.written += 1
            return super().encode(value)

        def decode(self, data: bytes) -> Any:
            Counting.read += 1
            return super().decode(data)

    here, there = make(codec=Counting()), make(codec=Counting())
    face.do(here, "set", "first", "x")
    for cache in (here, there):
        assert settled(lambda cache=cache: is_trusted(face, cache, "first"))
    Counting.written = Counting.read = 0
    face.do(here, "set", "a", "x")
    f = here.cached("5m", key="f")(face.function(lambda: "y"))
    for _ in range(3):
        face.do(here, "get", "a")
        face.call(f)
        face.do(there, "get", "a")
    assert (Counting.written, Counting.read) == (2, 1)
    assert encode("x") == b"\xa1x"
