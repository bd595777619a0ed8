"""What makes two calls the same call: typed keys, spellings, templates, and what is left out."""

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections import OrderedDict
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict
from samovar import Cache, ConfigError, KeyTypeError, NoCacheKey


@dataclass(frozen=True)
class P:
    x: Any


class SameRepr:
    def __init__(self, value: int) -> None:
        self.value = value

    def __repr__(self) -> str:
        return "SameRepr()"


class Ordered(OrderedDict[str, int]):
    pass


class Extra(BaseModel):
    model_config = ConfigDict(extra="allow")
    _own: int = 0

    def _with(self, own: int) -> "Extra":
        self._own = own
        return self

    def __repr__(self) -> str:
        return f"{super().__repr__()} {self._own}"


class Tagged(str):
    __slots__ = ("tag",)

    def __new__(cls, text: str, tag: int) -> "Tagged":
        made = super().__new__(cls, text)
        made.tag = tag  # type: ignore[attr-defined]
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Tagged) and (str(self), self.tag) == (str(other), other.tag)  # type: ignore[attr-defined]

    __hash__ = str.__hash__

    def __repr__(self) -> str:
        return f"{super().__repr__()} {self.tag}"  # type: ignore[attr-defined]


class Money(int):
    def __new__(cls, amount: int, currency: str) -> "Money":
        made = super().__new__(cls, amount)
        made.currency = currency  # type: ignore[attr-defined]
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Money) and vars(self) == vars(other) and int(self) == int(other)

    __hash__ = int.__hash__

    def __repr__(self) -> str:
        return f"{int(self)} {vars(self)}"


class Odd(int):
    def __int__(self) -> int:
        return 0


class OddFloat(float):
    def __float__(self) -> float:
        return 0.0


class Row(tuple[int, ...]):
    def __iter__(self) -> Any:
        return iter(())


class Opaque:
    pass


NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

PAIRS: dict[str, tuple[Any, Any]] = {
    "int and text": (1, "1"),
    "int and bool": (1, True),
    "int and float": (1, 1.0),
    "zero and minus zero": (0.0, -0.0),
    "None and empty text": (None, ""),
    "bytes and text": (b"a", "a"),
    "tuple and joined text": ((1, 2), "1:2"),
    "delimiter in a text": (("a", "b"), ("a,b",)),
    "one moment in two zones": (NOON, NOON.astimezone(timezone(timedelta(hours=2)))),
    "exponents of a Decimal": (Decimal("1.0"), Decimal("1.00")),
    "members of a frozenset": (frozenset({1}), frozenset({True})),
    "equal repr": (SameRepr(1), SameRepr(2)),
    "fields of a dataclass": (P(1), P(True)),
    "nested in tuples": (((1,), 0), ((True,), 0)),
    "nested in dicts": ({"a": 1}, {"a": True}),
    "list and tuple": ([1], (1,)),
    "set and frozenset": ({1}, frozenset({1})),
    "order of an OrderedDict": (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
    "order of its subclass": (Ordered(a=1, b=2), Ordered(b=2, a=1)),
    "extra fields of a model": (Extra(a=1, b=2), Extra(a=1, b=3)),
    "private attributes of a model": (Extra(a=1, b=2)._with(1), Extra(a=1, b=2)._with(2)),
    "slots of a str": (Tagged("a", 1), Tagged("a", 2)),
    "attributes of an int": (Money(5, "EUR"), Money(5, "USD")),
    "an int with an __int__ of its own": (Odd(1), Odd(2)),
    "a float with a __float__ of its own": (OddFloat(1.0), OddFloat(2.0)),
    "members of a tuple subclass": (Row((1,)), Row((True,))),
    "lone surrogate": ("\ud800", "?"),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.filterwarnings("ignore:.*compared by identity:UserWarning")
def test_two_arguments_that_differ_are_two_calls(cache: Cache, one: Any, other: Any) -> None:
    @cache.cached("5m")
    def echo(value: Any) -> list[Any]:
        return [value]

    for _ in range(2):
        assert echo(one)[0] is one or repr(echo(one)[0]) == repr(one)
        assert type(echo(other)[0]) is type(other)
    assert echo.stats().loads == 2
    if not isinstance(one, SameRepr | Tagged | Money):
        assert echo.key(one) != echo.key(other)


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS.keys())
@pytest.mark.filterwarnings("ignore:.*compared by identity:UserWarning")
def test_they_differ_beside_and_inside_what_has_no_encoding(cache: Cache, one: Any, other: Any) -> None:
    @cache.cached("5m")
    def echo(value: Any, kind: Any = int) -> str:
        return repr(value)

    shapes: list[Callable[[Any], Any]] = [
        lambda value: value,
        lambda value: (value, int),
        lambda value: P((value, int)),
        lambda value: {"k": (value, int)},
        lambda value: [int, value],
    ]
    for shape in shapes:
        echo.cache_clear()
        first, second = shape(one), shape(other)
        for _ in range(2):
            assert [echo(first), echo(second)] == [repr(first), repr(second)]
        assert echo.stats().loads == 2


def test_members_without_an_encoding_are_compared_by_type_and_value_in_any_order(cache: Cache) -> None:
    @cache.cached("5m")
    def echo(value: Any) -> int:
        return len(value)

    echo(frozenset({int, (1, str)}))
    echo(frozenset({(1, str), int}))
    echo({int: 1, str: 2})
    echo({str: 2, int: 1})
    assert echo.stats().loads == 2
    echo(frozenset({int, (True, str)}))
    echo({int: True, str: 2})
    assert echo.stats().loads == 4


def test_a_delimiter_inside_an_argument_does_not_move_the_border_between_two(cache: Cache) -> None:
    @cache.cached("5m")
    def join(a: str, b: str) -> tuple[str, str]:
        return a, b

    for a, b in (("a:b", "c"), ("a", "b:c"), ("a;s1:b", "c"), ("a", "s1:b;c"), ("", "a:b:c")):
        assert join(a, b) == (a, b)
    assert join.stats().loads == 5


def test_two_closures_of_one_name_do_not_share_results(cache: Cache) -> None:
    def make(factor: int) -> Any:
        @cache.cached("5m")
        def times(n: int) -> int:
            return n * factor

        return times

    double, triple = make(2), make(3)
    assert [double(5), triple(5), double(5), triple(5)] == [10, 15, 10, 15]


def test_five_spellings_of_one_call_are_one_entry(cache: Cache) -> None:
    @cache.cached("5m")
    def add(a: int, b: int = 2, *, c: int = 3) -> int:
        return a + b + c

    spellings: list[Callable[[], int]] = [
        lambda: add(1),
        lambda: add(1, 2),
        lambda: add(a=1, b=2),
        lambda: add(b=2, a=1, c=3),
        lambda: add(1, c=3),
    ]
    for _ in range(2):
        assert [spelling() for spelling in spellings] == [6] * 5
    assert add.stats().loads == 1
    assert len({add.key(1), add.key(1, 2), add.key(a=1, b=2), add.key(b=2, a=1, c=3), add.key(1, c=3)}) == 1


def test_invalidating_one_spelling_invalidates_all(cache: Cache) -> None:
    @cache.cached("5m")
    def add(a: int, b: int = 2) -> int:
        return a + b

    add(1), add(1, 2), add(b=2, a=1)
    add.invalidate(b=2, a=1)
    assert add.peek(1) is None
    assert add.peek(1, 2) is None
    add(1)
    assert add.stats().loads == 2


def test_keyword_arguments_in_any_order_are_one_call(cache: Cache) -> None:
    @cache.cached("5m")
    def collect(**names: int) -> dict[str, int]:
        return names

    collect(a=1, b=2)
    assert collect(b=2, a=1) == {"a": 1, "b": 2}
    assert collect.stats().loads == 1
    assert collect.key(a=1, b=2) == collect.key(b=2, a=1)


def test_positional_extras_are_not_keyword_extras(cache: Cache) -> None:
    @cache.cached("5m")
    def collect(*values: Any, **names: Any) -> tuple[Any, Any]:
        return values, names

    assert collect("a", 1) == (("a", 1), {})
    assert collect(a=1) == ((), {"a": 1})
    assert collect(("a", 1)) == ((("a", 1),), {})
    assert collect.stats().loads == 3


def test_equal_dicts_and_sets_are_one_call_in_any_order(cache: Cache) -> None:
    @cache.cached("5m")
    def size(value: Any) -> int:
        return len(value)

    size({"a": 1, "b": 2}), size({"b": 2, "a": 1})
    assert size.stats().loads == 1
    assert size.key({3, 1, 2}) == size.key({2, 3, 1})


def test_a_wrong_call_raises_what_the_function_raises(cache: Cache) -> None:
    @cache.cached("5m")
    def one(a: int) -> int:
        return a

    for args, kwargs in (((), {}), ((1, 2), {}), ((1,), {"a": 1}), ((1,), {"z": 1})):
        with pytest.raises(TypeError):
            one(*args, **kwargs)
    assert one.stats().loads == 0


def test_a_template_names_the_entry(cache: Cache) -> None:
    @cache.cached("5m", key="user:{user_id}")
    def profile(user_id: int, verbose: bool = False) -> str:
        return f"user {user_id}"

    assert profile(7) == "user 7"
    assert profile.key(7) == "user:7"
    assert profile(7, verbose=True) == "user 7"
    assert cache.sync.get("user:7") == "user 7"
    cache.sync.delete("user:7")
    assert profile.peek(7) is None


def test_values_in_a_template_are_escaped(cache: Cache) -> None:
    @cache.cached("5m", key="pair:{a}:{b}")
    def pair(a: str, b: str) -> tuple[str, str]:
        return a, b

    assert pair("x:y", "z") == ("x:y", "z")
    assert pair("x", "y:z") == ("x", "y:z")
    assert pair("x%3Ay", "z") == ("x%3Ay", "z")
    assert pair("{b}", "z") == ("{b}", "z")
    assert len({pair.key("x:y", "z"), pair.key("x", "y:z"), pair.key("x%3Ay", "z"), pair.key("{b}", "z")}) == 4
    assert pair.stats().loads == 4


def test_a_very_long_name_is_stored_under_a_short_one(cache: Cache) -> None:
    @cache.cached("5m", key="page:{url}")
    def page(url: str) -> str:
        return url[-1]

    assert page("x" * 5000 + "1") == "1"
    assert page("x" * 5000 + "2") == "2"
    assert page.stats().loads == 2


@pytest.mark.parametrize("template", ["user:{id}", "user:{}", "user:{0}", "user:}{user_id}"])
def test_a_template_that_cannot_be_filled_is_refused_when_decorating(cache: Cache, template: str) -> None:
    with pytest.raises(ConfigError, match="key"):

        @cache.cached("5m", key=template)
        def profile(user_id: int) -> int:
            return user_id


def test_the_error_about_an_unknown_field_names_it_and_the_parameters(cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"'id'.*user_id"):

        @cache.cached("5m", key="user:{id}")
        def profile(user_id: int) -> int:
            return user_id


def test_the_error_about_an_argument_without_a_key_names_it(cache: Cache) -> None:
    @cache.cached("5m")
    def load(first: int, session: object) -> int:
        return first

    with pytest.raises(KeyTypeError, match=r"argument 'session' of .*load.*ignore=") as caught:
        load.key(1, Opaque())
    assert isinstance(caught.value, TypeError)


def test_an_unhashable_argument_without_encoding_is_named(cache: Cache) -> None:
    class Unhashable:
        __hash__ = None  # type: ignore[assignment]

    @cache.cached("5m")
    def load(thing: object) -> int:
        return 1

    with pytest.raises(KeyTypeError, match="argument 'thing'"):
        load(Unhashable())


def test_an_argument_that_contains_itself_is_refused(cache: Cache) -> None:
    @cache.cached("5m")
    def load(thing: object) -> int:
        return 1

    loop: list[Any] = []
    loop.append(loop)
    with pytest.raises(KeyTypeError, match="argument 'thing'"):
        load(loop)


def test_an_argument_compared_by_identity_warns_once(cache: Cache) -> None:
    @cache.cached("5m")
    def load(thing: object) -> int:
        return 1

    one, other = Opaque(), Opaque()
    with pytest.warns(UserWarning, match="ignore="):
        load(one)
    load(other), load(one)
    assert load.stats().loads == 2


def test_ignored_parameters_are_no_part_of_the_key(cache: Cache) -> None:
    @cache.cached("5m", ignore=["session"])
    def load(user_id: int, session: object = None) -> int:
        return user_id

    assert [load(1, Opaque()), load(1, Opaque()), load(1), load(1, session=Opaque())] == [1] * 4
    assert load.stats().loads == 1


def test_parameters_annotated_with_no_cache_key_are_no_part_of_the_key(cache: Cache) -> None:
    @cache.cached("5m")
    def load(user_id: int, session: Annotated[object, NoCacheKey], log: Annotated[object, NoCacheKey()] = None) -> int:
        return user_id

    assert [load(1, Opaque()), load(1, Opaque(), log=Opaque())] == [1, 1]
    assert load.stats().loads == 1


ANNOTATED = """
from __future__ import annotations
from typing import TYPE_CHECKING, Annotated, Optional
from samovar import NoCacheKey
if TYPE_CHECKING:
    import models
    from models import Session, User
Dependency = Annotated[object, "marked", NoCacheKey()]
def load(n: int, session: {annotation} = None) -> dict[str, User]:
    return {{}}
"""


@pytest.mark.parametrize(
    "annotation",
    [
        "Annotated[Session, NoCacheKey]",
        "Annotated[models.Session, NoCacheKey]",
        "Annotated[object, NoCacheKey] | None",
        "None | Annotated[Session, NoCacheKey]",
        "Annotated[Session | None, NoCacheKey]",
        "Optional[Annotated[Session[User], NoCacheKey()]]",
        "Dependency",
        "models.Annotated[Session, models.NoCacheKey]",
    ],
)
def test_the_mark_counts_whatever_else_cannot_be_resolved(cache: Cache, annotation: str) -> None:
    module: dict[str, Any] = {"__name__": "annotated"}
    exec(ANNOTATED.format(annotation=annotation), module)
    load = cache.cached("5m")(module["load"])
    load(1, object()), load(1, object())
    assert load.stats().loads == 1


def test_an_optional_parameter_can_be_marked(cache: Cache) -> None:
    @cache.cached("5m")
    def load(n: int, session: Annotated[object, NoCacheKey] | None = None) -> int:
        return n

    load(1, object()), load(1)
    assert load.stats().loads == 1


def test_a_mark_that_cannot_be_read_is_refused(cache: Cache) -> None:
    def load(n: int, session: "Annotated[int.nothing, NoCacheKey]") -> int:
        return n

    with pytest.raises(ConfigError, match=r"NoCacheKey.*ignore="):
        cache.cached("5m")(load)


@pytest.mark.parametrize("ignore", ["session", ["sesion"], [1]])
def test_an_ignore_that_cannot_be_is_refused(cache: Cache, ignore: Any) -> None:
    with pytest.raises(ConfigError, match="ignore"):

        @cache.cached("5m", ignore=ignore)
        def load(user_id: int, session: object) -> int:
            return user_id


def test_a_callable_key_takes_some_parameters_and_keeps_their_types(cache: Cache) -> None:
    @cache.cached("5m", key=lambda a: a)
    def load(a: Any, b: Any = 0) -> Any:
        return [a, b]

    assert load(1, 1) == [1, 1]
    assert load(1, 2) == [1, 1]
    assert load(True) == [True, 0]
    assert load.stats().loads == 2


def test_a_callable_key_is_asked_at_every_call(cache: Cache) -> None:
    tenant: ContextVar[str] = ContextVar("tenant")

    @cache.cached("5m", key=lambda n: f"{tenant.get()}:{n}")
    def load(n: int) -> str:
        return f"{tenant.get()} {n}"

    @cache.cached("5m", key=lambda n: (tenant.get(), n))
    async def aload(n: int) -> str:
        return f"{tenant.get()} {n}"

    async def main() -> None:
        for _ in range(2):
            for name in ("red", "blue"):
                tenant.set(name)
                assert [load(1), await aload(1)] == [f"{name} 1"] * 2

    asyncio.run(main())
    assert [load.stats().loads, aload.stats().loads] == [2, 2]
    assert [load.stats().hits, aload.stats().hits] == [2, 2]


def test_two_closures_with_a_callable_key_share_names_and_no_values(cache: Cache) -> None:
    def make(factor: int, key: Any) -> Any:
        @cache.cached("5m", key=key)
        def times(n: int) -> int:
            return n * factor

        return times

    double, triple = make(2, lambda n: (n,)), make(3, lambda n: (n,))
    assert [double(5), triple(5), double(5), triple(5)] == [10, 15, 10, 15]
    assert double.peek(5).value == 10
    double.invalidate(5)
    assert [double.peek(5), triple.peek(5).value, double.stats().loads] == [None, 15, 1]
    double(5)
    double.invalidate_all()
    assert [double.peek(5), triple.stats().entries] == [None, 1]
    by_name = make(4, lambda n: f"times:{n}")
    assert [by_name(5), make(5, lambda n: f"times:{n}")(5), cache.sync.get("times:5")] == [20, 20, 20]


def test_what_only_a_gone_function_could_find_goes_with_it(cache: Cache) -> None:
    def use() -> None:
        @cache.cached("5m", key=lambda n: (n,) if n else "nil")
        def load(n: int) -> int:
            return n

        load(0), load(1)
        assert cache.stats().entries == 2

    use()
    gc.collect()
    assert [cache.stats().entries, cache.sync.get("nil")] == [1, 0]


def test_a_callable_key_with_an_unknown_parameter_is_refused(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="'z'"):
        cache.cached("5m", key=lambda z: z)(lambda a: a)


def test_versions_are_different_functions(cache: Cache) -> None:
    def load(a: int) -> int:
        return a

    old, new = cache.cached("5m", version=1)(load), cache.cached("5m", version=2)(load)
    assert old.key(1) != new.key(1)
    old(1), new(1)
    assert old.stats().loads == new.stats().loads == 1


def test_a_namespace_is_cleared_alone(cache: Cache) -> None:
    @cache.cached("5m", namespace="users", key="{n}")
    def user(n: int) -> str:
        return f"user {n}"

    @cache.cached("5m", namespace="pages", key="{n}")
    def page(n: int) -> str:
        return f"page {n}"

    assert [user(1), page(1), user(1), page(1)] == ["user 1", "page 1"] * 2
    assert cache.namespace("users").sync.get("1") == "user 1"
    asyncio.run(cache.namespace("users").clear())
    assert user.peek(1) is None
    assert page.peek(1) is not None


@pytest.mark.parametrize("name", [1, None, b"k", ("a",)])
def test_a_name_that_is_no_text_is_refused(cache: Cache, name: Any) -> None:
    with pytest.raises(KeyTypeError):
        cache.sync.get(name)
    with pytest.raises(KeyTypeError):
        cache.sync.set(name, 1)


def test_a_class_with_a_cache_key_speaks_for_its_instances(cache: Cache) -> None:
    class Tenant:
        def __init__(self, name: str) -> None:
            self.name = name

        def __cache_key__(self) -> str:
            return self.name

        @cache.cached("5m")
        def plan(self, year: int) -> str:
            return f"{self.name} {year}"

    assert Tenant("a").plan(1) == "a 1"
    assert Tenant("a").plan(1) == "a 1"
    assert Tenant("b").plan(1) == "b 1"
    assert Tenant.plan.stats().loads == 2


def test_an_unclosed_field_is_refused(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="key"):

        @cache.cached("5m", key="user:{user_id")
        def load(user_id: int) -> int:
            return user_id


def test_a_template_cannot_name_an_object_without_an_encoding(cache: Cache) -> None:
    class Opaque:
        pass

    @cache.cached("5m", key="thing:{thing}")
    def load(thing: object) -> int:
        return 1

    with pytest.raises(KeyTypeError, match="thing"):
        load(Opaque())


def test_equal_sets_and_dicts_have_one_key_in_every_process() -> None:
    program = (
        "from samovar import Cache\n"
        "f = Cache().cached('5m')(lambda a, b: 1)\n"
        "print(f.key({'x', 'yy', 'zzz', 3, (1, 2)}, {'b': [1, {2.5}], 'a': b'raw'}))\n"
    )
    keys = set()
    for seed in ("0", "1", "2"):
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(
            [sys.executable, "-P", "-c", program], env=environment, capture_output=True, text=True, check=True
        )
        keys.add(done.stdout)
    assert len(keys) == 1


def test_a_ttl_callable_is_told_the_call_in_the_order_of_the_signature(cache: Cache) -> None:
    told: list[Any] = []

    def ttl(*call: Any, **more: Any) -> str:
        told.append((*call, more))
        return "5m"

    @cache.cached(ttl=ttl)
    def load(a: int, b: int = 2, *, c: int = 3) -> str:
        return "value"

    @cache.cached(ttl=ttl)
    def spread(a: int, *rest: int, **more: int) -> str:
        return "value"

    load(b=5, a=1), load(1), load(c=7, a=0), spread(1, 2, 3, x=4)
    assert told == [
        ("value", 1, 5, 3, {}),
        ("value", 1, 2, 3, {}),
        ("value", 0, 2, 7, {}),
        ("value", 1, 2, 3, {"x": 4}),
    ]


def test_what_is_wrong_with_a_ttl_callable_names_the_option(cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"ttl.*ttl\(value, a, b\)"):

        @cache.cached(ttl=lambda value: 5)
        def load(a: int, b: int) -> int:
            return a

    @cache.cached(ttl=lambda value, n: "soon")
    def other(n: int) -> int:
        return n

    with pytest.raises(ConfigError, match=r"ttl= of .*other: .soon"):
        other(1)


@pytest.mark.parametrize("character", ["k", "é", "ж", "茶", "🫖"])
@pytest.mark.parametrize("length", [20, 50, 51, 66, 67, 100, 101, 200, 201, 5000])
def test_a_name_of_any_length_finds_what_a_template_stored(cache: Cache, character: str, length: int) -> None:
    name = character * length

    @cache.cached("5m", key="{name}")
    def load(name: str) -> int:
        return 7

    @cache.cached("5m", key=lambda name: name)
    def other(name: str) -> int:
        return 8

    load(name)
    assert [cache.sync.get(name), cache.sync.get(key=name), other(name)] == [7, 7, 7]
    assert cache.sync.get_many([name]) == {name: 7}
    cache.sync.set(name, 9)
    assert [load(name), other(name), cache.sync.contains(name)] == [9, 9, True]
    cache.sync.set_many({name: 10})
    assert load(name) == 10
    assert cache.sync.delete(name)
    assert load.peek(name) is None


class Named(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"


@pytest.mark.parametrize("name", ["\ud800", "key" + "\udfff" * 300, "🫖\ud800", Named("\ud800")])
def test_a_lone_surrogate_in_a_name_is_refused_with_the_key(cache: Cache, name: str) -> None:
    @cache.cached("5m", key="user:{name}")
    def load(name: str) -> int:
        return 1

    @cache.cached("5m", key=lambda name: name)
    def other(name: str) -> int:
        return 1

    for use in (cache.sync.get, cache.sync.delete, *((load, other) if type(name) is str else ())):
        with pytest.raises(KeyTypeError, match=r"ud(800|fff)"):
            use(name)
    with pytest.raises(KeyTypeError, match="surrogate"):
        cache.sync.set(name, 1)
    with pytest.raises(ConfigError, match="key: "):
        cache.cached(key="\ud800{n}")(lambda n: n)


def test_a_name_of_a_str_subclass_is_its_characters(cache: Cache) -> None:
    cache.sync.set(Named("name"), 1)
    assert cache.sync.get("name") == 1


def test_a_whole_number_of_any_length_is_an_argument(cache: Cache) -> None:
    @cache.cached("5m")
    def load(numbers: Any) -> int:
        return len(numbers)

    @cache.cached("5m", key="n:{n}")
    def named(n: int) -> int:
        return n

    big = 10**5000
    load([big]), load([big]), load([-big]), load([big + 1]), load([2**63]), load([2**63 - 1]), load([-(2**63) - 1])
    assert load.stats().loads == 6
    assert [named(big), named(big), named(-big), named.stats().loads] == [big, big, -big, 2]


@pytest.mark.parametrize("by", [1.5, "1", True, None])
def test_a_counter_is_moved_by_whole_numbers_only(cache: Cache, by: Any) -> None:
    with pytest.raises(TypeError, match=r"'n'.*give an int"):
        cache.sync.incr("n", by)
    cache.sync.set("n", 1)
    with pytest.raises(TypeError, match=r"'n'.*give an int"):
        cache.sync.incr("n", by)
    assert cache.sync.get("n") == 1


def test_a_counter_ends_when_it_would_have_ended_however_often_it_is_moved(cache: Cache) -> None:
    cache.sync.set("n", 0, ttl="1h")
    left, before = cache.sync.ttl("n"), time.monotonic()
    assert left is not None
    for _ in range(1000):
        cache.sync.incr("n")
    after = cache.sync.ttl("n")
    assert after is not None
    assert abs(after + (time.monotonic() - before) - left) < 0.25
    cache.sync.set("endless", 0)
    assert cache.sync.incr("endless") == 1
    assert cache.sync.ttl("endless") == float("inf")


def test_a_cache_key_that_cannot_be_encoded_names_its_class(cache: Cache) -> None:
    class Bad:
        def __cache_key__(self) -> object:
            return object()

    @cache.cached("5m")
    def load(value: Any, kind: Any = None) -> int:
        return 1

    for call in (lambda: load(Bad()), lambda: load((Bad(),), int), lambda: load.key(Bad())):
        with pytest.raises(KeyTypeError, match=r"__cache_key__ of .*Bad.*return a str"):
            call()
    assert load.stats().loads == 0
