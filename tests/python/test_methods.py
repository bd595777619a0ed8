"""Functions of classes: class methods and static methods in either order, and the methods they have themselves."""

import asyncio
import copy
import gc
import inspect
import pickle
import sys
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from samovar import Cache, cached

ORDERS: dict[str, Callable[[Any, Any], Any]] = {
    "cached above": lambda kind, cache: lambda function: cache.cached("5m")(kind(function)),
    "cached below": lambda kind, cache: lambda function: kind(cache.cached("5m")(function)),
}


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS.keys())
def test_a_class_method_has_entries_of_each_class(cache: Cache, order: Any) -> None:
    class Rates:
        @order(classmethod, cache)
        def of(cls, code: str) -> tuple[str, str]:  # noqa: N805 - the order stands for `classmethod`
            return cls.__name__, code

        @order(classmethod, cache)
        async def later(cls, code: str) -> tuple[str, str]:  # noqa: N805
            return cls.__name__, code

    class More(Rates):
        pass

    for _ in range(2):
        assert Rates.of("EUR") == Rates().of("EUR") == ("Rates", "EUR")
        assert More.of("EUR") == More().of(code="EUR") == ("More", "EUR")
        assert asyncio.run(Rates.later("EUR")) == ("Rates", "EUR")
    assert Rates.of.stats().loads == 2
    assert Rates.later.stats().loads == 1
    assert inspect.iscoroutinefunction(Rates.later)
    assert str(inspect.signature(Rates.of)) == "(code: str) -> tuple[str, str]"


@pytest.mark.parametrize("kind", [classmethod, staticmethod])
def test_what_cached_stands_above_knows_its_class_in_its_methods(cache: Cache, kind: Any) -> None:
    if kind is classmethod:

        class Rates:
            @cache.cached("5m")
            @classmethod
            def of(cls, code: str = "EUR") -> str:
                return code
    else:

        class Rates:  # type: ignore[no-redef]
            @cache.cached
            @staticmethod
            def of(code: str = "EUR") -> str:
                return code

    Rates.of("EUR"), Rates.of("USD")
    Rates.of.invalidate("USD")
    assert Rates.of.peek("USD") is None
    assert Rates().of.peek("EUR").value == "EUR"
    Rates.of.set("two", "USD")
    assert Rates.of("USD") == "two"
    assert Rates.of.refresh("USD") == Rates.of.uncached("USD") == "USD"
    assert Rates.of.__name__ == "of"
    assert isinstance(inspect.getattr_static(Rates, "of"), kind)


class Pickled:
    @cached("5m")
    @classmethod
    def of(cls, code: str) -> str:
        return code


def test_a_class_method_is_pickled_with_its_class(monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules.get(__name__) or type(sys)(__name__)
    monkeypatch.setitem(sys.modules, __name__, module)
    monkeypatch.setattr(module, "Pickled", Pickled, raising=False)
    assert pickle.loads(pickle.dumps(Pickled.of)) == Pickled.of


def test_a_method_of_a_class_method_that_does_not_know_the_class_says_what_to_do(cache: Cache) -> None:
    class Rates:
        @cache.cached("5m")
        def of(cls, code: str = "EUR") -> str:  # noqa: N805 - as `classmethod` calls it from 3.13 on
            return code

    unbound: Any = Rates.of
    assert unbound(Rates, "USD") == "USD"
    for ask in (unbound.invalidate, unbound.peek, unbound.refresh, unbound.key):
        with pytest.raises(TypeError, match="put @cached above @classmethod"):
            ask("USD")
    assert unbound.peek(Rates, "USD") is not None
    unbound.invalidate(Rates, "USD")
    assert unbound.peek(cls=Rates, code="USD") is None


OWN = {
    "invalidate": "({}) -> None",
    "peek": "({}) -> samovar._views.Entry | None",
    "refresh": "({}) -> list[str]",
    "uncached": "({}) -> list[str]",
    "key": "({}) -> str",
    "set": "(value, /, {}) -> None",
}


@pytest.mark.parametrize("name", OWN)
def test_a_method_of_a_function_shows_the_parameters_of_the_function(cache: Cache, name: str) -> None:
    @cache.cached("5m")
    async def plain(code: str, *, amount: int = 1) -> list[str]:
        return [code] * amount

    class Shop:
        @cache.cached("5m")
        def rates(self, code: str, *, amount: int = 1) -> list[str]:
            return [code] * amount

        @cache.cached("5m")
        @classmethod
        def common(cls, code: str, *, amount: int = 1) -> list[str]:
            return [code] * amount

    expected = OWN[name].format("code: str, *, amount: int = 1")
    for function in (plain, Shop().rates, Shop.common):
        method = getattr(function, name)
        assert str(inspect.signature(method)) == expected
        assert method.__name__ == name
        assert method.__doc__ == getattr(type(plain), name).__doc__
    whole = str(inspect.signature(getattr(Shop.rates, name)))
    assert whole == OWN[name].format("self, code: str, *, amount: int = 1")


def test_a_method_of_a_function_is_like_any_method(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules.get(__name__) or type(sys)(__name__)
    monkeypatch.setitem(sys.modules, __name__, module)
    monkeypatch.setattr(module, "Pickles", Pickles, raising=False)

    @cache.cached("5m")
    def load(value: int) -> int:
        return value

    load(1)
    assert load.invalidate == load.invalidate
    assert load.invalidate != load.peek
    assert len({load.peek, load.peek, load.key}) == 2
    assert load.peek.__self__ is load
    assert "peek" in repr(load.peek)
    assert str(inspect.signature(load.set)) == "(_value, /, value: int) -> None"
    again = pickle.loads(pickle.dumps(Pickles.load.peek))
    assert again == copy.copy(Pickles.load.peek) == Pickles.load.peek
    kept = load.peek
    watched = weakref.ref(kept)
    assert watched() is kept
    assert kept(1).value == 1
    assert kept(value=1).value == 1
    with pytest.raises(TypeError):
        kept(1, 2, 3)
    load.sort = sorted
    assert load.sort is sorted


class Pickles:
    @staticmethod
    @cached("5m")
    def load(n: int) -> int:
        return n


def test_a_cycle_through_a_method_of_a_function_is_collected() -> None:
    class Node:
        forget: Any = None

    cache, node = Cache(name="cycle"), Node()

    @cache.cached(copy=False)
    def load() -> Node:
        return node  # noqa: F821 - deleted below, after the call

    node.forget = load().forget = load.invalidate
    seen = weakref.ref(node)
    del node, load, cache
    gc.collect()
    assert seen() is None
