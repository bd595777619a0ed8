"""Defects that other caches have published, one test each: what breaks them must leave this one whole."""

import asyncio
import copy
import functools
import gc
import inspect
import math
import os
import pickle
import random
import sys
import threading
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from samovar import Cache, ConfigError, Memory, cached

MODULUS = 2**61 - 1


def whole(cache: Any) -> None:
    """The cache's own check of its invariants finds nothing."""
    assert cache._inspect()["fault"] is None


class Sly:
    """Hashes to what it is told, and calls back whenever it is compared."""

    def __init__(self, name: str, on_eq: Callable[[], object] = lambda: None) -> None:
        self.name = name
        self.on_eq = on_eq

    def __hash__(self) -> int:
        return 7

    def __eq__(self, other: object) -> bool:
        self.on_eq()
        return isinstance(other, Sly) and self.name == other.name


def test_an_eq_that_reenters_the_cache_finds_it_whole(cache: Cache) -> None:
    @cache.cached("5m", max_entries=8)
    def load(key: Any) -> str:
        return str(getattr(key, "name", key))

    depth = 0

    def reenter() -> None:
        nonlocal depth
        if depth < 3:
            depth += 1
            try:
                load(Sly("inner"))
                load.invalidate(Sly("b"))
                load(depth)
            finally:
                depth -= 1

    for _ in range(20):
        for name in "abcdefghijkl":
            assert load(Sly(name, reenter)) == name
    whole(cache)


def test_an_eq_that_clears_the_function_answers_all_the_same(cache: Cache) -> None:
    @cache.cached("5m")
    def load(key: Any) -> str:
        return str(key.name)

    for _ in range(20):
        for name in "abcd":
            assert load(Sly(name, load.invalidate_all)) == name
    whole(cache)


def test_an_eq_that_raises_reaches_the_caller(cache: Cache) -> None:
    @cache.cached("5m")
    def load(key: Any) -> str:
        return str(key.name)

    def fail() -> None:
        raise ZeroDivisionError("eq")

    stored = Sly("a")
    load(stored)
    stored.on_eq = fail
    with pytest.raises(ZeroDivisionError, match="eq"):
        load(Sly("b", fail))
    whole(cache)
    stored.on_eq = lambda: None
    assert load(Sly("a")) == "a"
    assert load(Sly("c")) == "c"


def test_an_eq_that_blocks_stops_nobody_else(cache: Cache) -> None:
    @cache.cached("5m")
    def load(key: Any) -> str:
        return str(getattr(key, "name", key))

    inside, go = threading.Event(), threading.Event()

    def block() -> None:
        inside.set()
        assert go.wait(30)

    stored = Sly("a")
    load(stored)
    stored.on_eq = block
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(load(Sly("a", block))))
    thread.start()
    try:
        assert inside.wait(10)
        stored.on_eq = lambda: None
        assert load(1) == "1"
        load.invalidate_all()
        cache.sync.set("k", 1)
        assert cache.sync.get("k") == 1
    finally:
        go.set()
        thread.join(30)
    assert answers == ["a"]
    whole(cache)


def test_a_hash_that_raises_reaches_the_caller(cache: Cache) -> None:
    class Odd:
        def __hash__(self) -> int:
            raise ZeroDivisionError("hash")

    @cache.cached("5m")
    def load(key: Any) -> int:
        return 1

    with pytest.raises(ZeroDivisionError, match="hash"):
        load(Odd())
    assert load.stats().loads == 0
    assert load(1) == 1
    whole(cache)


def test_a_del_that_touches_the_cache_at_eviction_finds_it_whole() -> None:
    cache = Cache(name="small", memory=Memory(max_entries=4))
    gone: list[int] = []

    class Closing:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            gone.append(self.number)
            cache.sync.get("k0")
            cache.sync.set(f"del{self.number % 3}", self.number)
            cache.sync.delete("del1")

    for number in range(100):
        cache.sync.set(f"k{number}", Closing(number))
    assert len(gone) >= 90
    whole(cache)


@pytest.mark.parametrize(
    "ttl", [math.nan, -1, -0.5, -math.inf, "5 parsecs", "", "-5m", "nan", timedelta(-1), True, b"5"]
)
def test_a_ttl_that_cannot_be_is_refused_with_its_value(cache: Cache, ttl: Any) -> None:
    with pytest.raises(ConfigError, match="ttl"):
        cache.cached(ttl=ttl)(lambda: 1)
    with pytest.raises(ConfigError, match="ttl"):
        cache.sync.set("k", 1, ttl=ttl)
    assert cache.sync.get("k") is None
    whole(cache)


@pytest.mark.parametrize("ttl", [math.inf, 1e300, 1e18, 2**70])
def test_an_endless_ttl_never_ends_and_never_wraps(cache: Cache, cache_clock: Any, ttl: float) -> None:
    cache.sync.set("k", 1, ttl=ttl)
    assert cache.sync.get("k") == 1
    cache_clock.advance(timedelta(days=3650))
    assert cache.sync.get("k") == 1
    whole(cache)


def test_a_tiny_ttl_ends(cache: Cache, cache_clock: Any) -> None:
    cache.sync.set("k", 1, ttl=1e-300)
    cache_clock.advance(1)
    assert cache.sync.get("k") is None


def test_a_literal_ttl_of_zero_is_refused_when_decorating(cache: Cache) -> None:
    with pytest.raises(ConfigError, match="ttl: 0"):
        cache.cached(0)(lambda: 1)


def test_a_ttl_of_zero_from_a_callable_stores_nothing(cache: Cache) -> None:
    @cache.cached(ttl=lambda value: 0)
    def load() -> int:
        return 1

    assert [load(), load()] == [1, 1]
    assert load.stats().loads == 2


def test_a_ttl_of_zero_for_a_set_removes_what_was_there(cache: Cache) -> None:
    cache.sync.set("k", 1)
    cache.sync.set("k", 2, ttl=0)
    assert cache.sync.get("k", "none") == "none"


class Node:
    """Something a weak reference can watch."""

    me: Any = None


def test_a_cycle_through_the_decorated_function_is_collected(cache: Cache) -> None:
    own = Cache(name="cycle")
    node = Node()
    held = [node]

    @own.cached("5m", copy=False)
    def load() -> Node:
        return held[0]  # noqa: F821 - deleted below, after the call

    node.me = load
    assert load() is node
    seen = weakref.ref(node)
    del node, held, load, own
    gc.collect()
    assert seen() is None


def test_a_cycle_through_an_async_function_is_collected() -> None:
    own = Cache(name="cycle")
    node = Node()
    held = [node]

    @own.cached("5m", copy=False)
    async def load(n: int) -> Node:
        return held[0]  # noqa: F821 - deleted below, after the call

    node.me = load
    asyncio.run(load(1))
    seen = weakref.ref(node)
    del node, held, load, own
    gc.collect()
    assert seen() is None


def test_keys_of_equal_hash_are_different_calls(cache: Cache) -> None:
    assert hash(-1) == hash(-2)

    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    for _ in range(2):
        assert [load(-1), load(-2), load(MODULUS - 1), load(0), load(MODULUS)] == [-1, -2, MODULUS - 1, 0, MODULUS]
    assert load.stats().loads == 5
    load.invalidate(-1)
    assert load.peek(-1) is None
    assert load.peek(-2) is not None


def test_three_thousand_crafted_keys_of_one_hash_all_work(cache: Cache) -> None:
    keys = [i * MODULUS for i in range(3000)]
    assert len({hash(key) for key in keys}) == 1

    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    for _ in range(2):
        assert [load(key) for key in keys] == keys
    assert load.stats().loads <= 6000
    assert cache._inspect()["entries_touched_at_most"] <= 64
    whole(cache)
    for key in keys:
        load.invalidate(key)
    assert load.stats().entries == 0
    whole(cache)


def test_random_operations_in_four_threads_keep_the_cache_whole() -> None:
    cache = Cache(name="threads", memory=Memory(max_entries=64))
    errors: list[BaseException] = []
    barrier = threading.Barrier(4)

    @cache.cached("5m", max_entries=16)
    def load(n: int) -> list[int]:
        return [n]

    def one(rng: random.Random) -> None:
        key, number = f"k{rng.randrange(100)}", rng.randrange(40)
        match rng.randrange(11):
            case 0:
                cache.sync.set(key, [key], ttl=rng.choice([None, 1e-4, 60]))
            case 1:
                cache.sync.delete(key)
            case 2:
                cache.sync.add(key, [key])
            case 3:
                cache.sync.touch(key, ttl="1m")
            case 4:
                assert load(number) == [number]
            case 5:
                load.invalidate(number)
            case 6:
                assert cache.sync.get_or_set(key, lambda: [key]) == [key]
            case 7:
                assert load.refresh(number) == [number]
            case 8 if rng.random() < 0.02:
                cache.sync.clear()
            case 9 if rng.random() < 0.02:
                assert all(value == [name] for name, value in cache.sync.items())
            case _:
                assert cache.sync.get(key) in (None, [key])

    def work(seed: int) -> None:
        rng = random.Random(seed)
        barrier.wait(30)
        try:
            for _ in range(2500):
                one(rng)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    assert errors == []
    whole(cache)
    assert cache.stats().entries <= 64 + 16
    assert cache._inspect()["flights"] == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_while_another_thread_writes_leaves_the_child_a_working_cache(cache: Cache) -> None:
    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    stop, started = threading.Event(), threading.Event()

    def write() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            cache.sync.set(f"k{n % 50}", n, ttl=60)
            load(n % 500)
            started.set()

    thread = threading.Thread(target=write)
    thread.start()
    codes: list[int] = []
    try:
        assert started.wait(30)
        for _ in range(10):
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    cache.sync.set("child", 1, ttl=60)
                    fine = cache.sync.get("child") == 1 and [load(n) for n in range(600)] == list(range(600))
                    cache.sync.clear()
                    code = 0 if fine and cache._inspect()["fault"] is None else 2
                finally:
                    os._exit(code)
            codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    finally:
        stop.set()
        thread.join(30)
    assert codes == [0] * 10
    assert cache.sync.get("child") is None
    whole(cache)


def test_methods_of_short_lived_instances_never_share_results(cache: Cache) -> None:
    class Account:
        def __init__(self, number: int) -> None:
            self.number = number

        @cache.cached("5m")
        def balance(self) -> int:
            return self.number

        @cache.cached("5m")
        async def later(self) -> int:
            return self.number

    addresses = set()
    for number in range(300):
        account = Account(number)
        addresses.add(id(account))
        assert account.balance() == account.balance() == number
        assert asyncio.run(account.later()) == number if number < 20 else True
        del account
    assert len(addresses) < 300
    gc.collect()
    assert Account.balance.stats().entries == 0
    whole(cache)


def test_an_instance_is_not_kept_alive_by_its_results(cache: Cache) -> None:
    class Account:
        @cache.cached("5m")
        def balance(self) -> int:
            return 1

    account = Account()
    account.balance()
    seen = weakref.ref(account)
    del account
    gc.collect()
    assert seen() is None


def test_a_function_that_a_class_body_names_stays_what_it_was(cache: Cache) -> None:
    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    load(1)

    class Registry:
        loader = load

    @dataclass
    class Config:
        loader: Callable[[int], int] = load

    assert [load(1), load(n=5), Registry.loader(1), Config().loader(1)] == [1, 5, 1, 1]
    assert load.stats().loads == 2
    load.invalidate(1)
    assert load.peek(1) is None


def test_a_method_is_one_however_the_class_got_it(cache: Cache) -> None:
    class Later:
        def get(self, n: int) -> int:
            return n

    Later.get = cache.cached("5m")(Later.get)  # type: ignore[method-assign]

    def logged(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any) -> Any:
            return function(*args)

        return call

    class Wrapped:
        @logged
        @cache.cached("5m")
        def get(self, n: int) -> int:
            return n

        also = get

    class Inline:
        get = cache.cached("5m")(lambda self, n: n)
        also = get

    for loads, kind in enumerate((Later, Wrapped, Inline), 1):
        one = kind()
        one.get(1), getattr(one, "also", one.get)(1)
        assert cache.stats().loads == loads
        seen = weakref.ref(one)
        del one
        assert seen() is None
        assert cache.stats().entries == 0


def test_an_instance_without_weak_references_is_refused_with_the_cure(cache: Cache) -> None:
    class Slotted:
        __slots__ = ()

        @cache.cached("5m")
        def balance(self) -> int:
            return 1

    with pytest.raises(ConfigError, match="__weakref__"):
        Slotted().balance()


def test_a_mutated_result_does_not_reach_the_next_caller(cache: Cache) -> None:
    @cache.cached("5m")
    def load() -> dict[str, list[int]]:
        return {"a": [1]}

    first = load()
    first["a"].append(2)
    first["b"] = []
    second = load()
    assert second == {"a": [1]}
    second["a"].clear()
    assert load() == {"a": [1]}
    assert load.stats().loads == 1


def test_a_value_mutated_after_set_does_not_change_the_entry(cache: Cache) -> None:
    value = [1, [2]]
    cache.sync.set("k", value)
    value[1].append(3)  # type: ignore[attr-defined]
    assert cache.sync.get("k") == [1, [2]]


def test_waiters_of_one_load_do_not_share_a_mutable_result(cache: Cache) -> None:
    @cache.cached("5m")
    async def load() -> list[int]:
        await asyncio.sleep(0)
        return [1]

    async def main() -> None:
        results = await asyncio.gather(*(load() for _ in range(5)))
        assert len({id(result) for result in results}) == 5
        results[0].append(2)
        assert results[1] == await load() == [1]

    asyncio.run(main())


def test_none_is_a_value_and_is_cached(cache: Cache) -> None:
    @cache.cached("5m")
    def load() -> None:
        return None

    load(), load()
    assert load.stats().loads == 1
    cache.sync.set("k", None)
    assert cache.sync.get("k", "default") is None
    assert cache.sync.contains("k")
    assert cache.sync.get_or_set("k", lambda: 1) is None


@cached("5m")
def module_level(n: int) -> int:
    """Double."""
    return n * 2


def test_a_function_is_pickled_and_copied_by_reference() -> None:
    assert copy.copy(module_level) is module_level
    assert copy.deepcopy([module_level])[0] is module_level
    assert module_level.__name__ == "module_level"
    assert module_level.__doc__ == "Double."
    assert module_level.__reduce__() == "module_level"


def test_a_pickled_function_is_the_function_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, module_level.__module__, inspect.getmodule(module_level) or type(sys)("none"))
    monkeypatch.setattr(sys.modules[module_level.__module__], "module_level", module_level, raising=False)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(module_level, protocol)) is module_level


class Kept:
    @cached("5m")
    def get(self, n: int) -> int:
        """Get it."""
        return n


def test_a_bound_method_is_like_a_plain_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or types.ModuleType(__name__))
    monkeypatch.setattr(sys.modules[__name__], "Kept", Kept, raising=False)
    one, other = Kept(), Kept()
    assert (one.get.__doc__, one.get.__name__, one.get.__module__) == ("Get it.", "get", __name__)
    assert (Kept.get.__doc__, one.get.__qualname__) == ("Get it.", "Kept.get")
    assert one.get == one.get
    assert hash(one.get) == hash(one.get)
    assert one.get != other.get
    assert one.get != Kept.get
    assert len({one.get, one.get, other.get, Kept.get, Kept.get}) == 3
    with pytest.raises(TypeError):
        sorted([one.get, other.get])  # type: ignore[type-var]
    again = pickle.loads(pickle.dumps(one.get))
    assert again(5) == 5
    assert isinstance(again.__self__, Kept)
    assert again.__self__ is not one
    assert pickle.loads(pickle.dumps(Kept.get)) is Kept.get


def test_the_methods_of_a_function_have_signatures(cache: Cache) -> None:
    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    shown = {name: str(inspect.signature(getattr(load, name))) for name in ("invalidate", "set", "warm", "stats")}
    assert shown == {
        "invalidate": "(n: int) -> None",
        "set": "(value, /, n: int) -> None",
        "warm": "(calls, /)",
        "stats": "()",
    }
    for name in ("refresh", "peek", "key", "uncached", "invalidate_all", "cache_clear", "cache_info"):
        assert inspect.signature(getattr(load, name))
        assert "--" not in (getattr(load, name).__doc__ or "--")


def test_frameworks_see_what_the_function_is(cache: Cache) -> None:
    @cache.cached("5m")
    async def later(a: int, *, b: str = "x") -> int:
        return a

    @cache.cached("5m")
    def now(a: int) -> int:
        return a

    class Service:
        @cache.cached("5m")
        async def method(self, a: int) -> int:
            return a

    assert inspect.iscoroutinefunction(later)
    assert inspect.iscoroutinefunction(Service().method)
    assert not inspect.iscoroutinefunction(now)
    assert str(inspect.signature(later)) == "(a: int, *, b: str = 'x') -> int"
    assert str(inspect.signature(Service().method)) == "(a: int) -> int"


def test_generators_are_refused_when_decorating(cache: Cache) -> None:
    def numbers() -> Any:
        yield 1

    async def later() -> Any:
        yield 1

    for function in (numbers, later):
        with pytest.raises(TypeError, match="generator"):
            cache.cached("5m")(function)


def test_a_misspelt_option_is_refused_with_the_right_one(cache: Cache) -> None:
    with pytest.raises(ConfigError, match=r"ignor=.*ignore="):
        cache.cached("5m", ignor=["a"])


def test_a_predicate_that_raises_reaches_the_caller_and_stores_nothing(cache: Cache) -> None:
    def fail(value: object) -> bool:
        raise ZeroDivisionError("predicate")

    @cache.cached("5m", cache_if=fail)
    def load() -> int:
        return 1

    for _ in range(2):
        with pytest.raises(ZeroDivisionError, match="predicate"):
            load()
    assert load.stats().entries == 0
    whole(cache)
    assert cache._inspect()["flights"] == 0


@pytest.mark.parametrize("face", ["cache", "sync"])
def test_a_cycle_from_a_value_back_to_its_cache_is_collected(face: str) -> None:
    own = Cache(name="cycle")
    node = Node()
    node.me = own if face == "cache" else own.sync
    own.sync.set("k", node)
    seen = weakref.ref(node)
    del node, own
    gc.collect()
    assert seen() is None


def test_a_finalizer_that_awaits_while_an_answer_is_handed_over_disturbs_nobody(cache: Cache) -> None:
    @cache.cached
    async def answer(n: int) -> list[int]:
        return [n]

    def taken(n: int) -> Any:
        try:
            answer(n).send(None)
        except StopIteration as stop:
            return stop.value
        raise AssertionError("a hit must not suspend")

    class Meddler:
        def __del__(self) -> None:
            gave.append([taken(n) for n in (2, 3, 2, 3)])

    def leave_a_traceback_that_holds_a_meddler() -> None:
        meddler = Meddler()
        try:
            answer(1).send(None)
        except StopIteration:
            assert meddler is not None  # this frame, and so the traceback, holds it

    async def fill() -> None:
        for n in (1, 2, 3):
            await answer(n)

    gave: list[list[list[int]]] = []
    asyncio.run(fill())
    for _ in range(200):
        leave_a_traceback_that_holds_a_meddler()
        assert taken(1) == [1]
    gc.collect()
    assert all(given == [[2], [3], [2], [3]] for given in gave)
    whole(cache)


def stop(*_: Any) -> Any:
    raise StopIteration("stopped")


class Stops:
    """Raises StopIteration when it is compared or copied."""

    def __hash__(self) -> int:
        return 7

    __eq__ = __deepcopy__ = __cache_key__ = stop


STOPS: dict[str, tuple[dict[str, Any], Any]] = {
    "cache_if": ({"cache_if": stop}, 1),
    "ttl": ({"ttl": stop}, 1),
    "key": ({"key": lambda n: stop()}, 1),
    "copy": ({"copy": "deep"}, 1),
    "cache key": ({}, Stops()),
}


@pytest.mark.parametrize(("options", "argument"), STOPS.values(), ids=STOPS.keys())
def test_a_stop_iteration_never_passes_for_an_answer(cache: Cache, options: Any, argument: Any) -> None:
    value = Stops() if "copy" in options else 1

    @cache.cached(**options)
    def load(n: Any) -> Any:
        return value

    @cache.cached(**options)
    async def aload(n: Any) -> Any:
        return value

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(RuntimeError, match="StopIteration"):
                await aload(argument)

    asyncio.run(main())
    for _ in range(2):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(map(load, [argument]))


def test_a_dict_that_its_keys_change_while_it_is_copied_is_no_panic(cache: Cache) -> None:
    value: dict[Any, Any] = {}

    class Key:
        def __hash__(self) -> int:
            if len(value) > 2:
                value.pop("a", None)
                value.update({f"n{n}": [] for n in range(50)})
            return 7

    value.update({Key(): [1], "a": [2], Key(): [3]})
    for _ in range(3):
        cache.sync.set("k", value)
        assert [1] in cache.sync.get("k").values()
    whole(cache)


def test_a_stop_iteration_of_a_comparison_or_a_factory_is_an_error(cache: Cache) -> None:
    class Stopping:
        def __hash__(self) -> int:
            return 7

        __eq__ = stop

    @cache.cached("5m")
    def load(key: Any) -> int:
        return 1

    load(Stopping())
    with pytest.raises(RuntimeError, match="StopIteration"):
        list(map(load, [Stopping()]))

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration") as raised:
            await cache.get_or_set("k", stop)
        assert isinstance(raised.value.__cause__, StopIteration)
        assert await cache.get("k") is None

    asyncio.run(main())
