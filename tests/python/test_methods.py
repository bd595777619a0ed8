"""Functions of classes: class methods and static methods in either order, and the methods they have themselves."""

import asyncio
import inspect
import pickle
import sys
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
