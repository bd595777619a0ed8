"""What an answer is apart from its value: an object that is dropped, collected, and looked at."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from samovar import Cache


class Node:
    """Something a weak reference can watch, and a plain argument."""

    me: Any = None

    def __cache_key__(self) -> int:
        return id(self)


def loader(cache: Cache) -> Any:
    @cache.cached("5m")
    async def load(node: Node) -> int:
        return 1

    return load


WAYS: dict[str, Callable[[Cache, Any, Node], Any]] = {
    "a call": lambda cache, load, node: load(node),
    "a call by keyword": lambda cache, load, node: load(node=node),
    "invalidate": lambda cache, load, node: load.invalidate(node),
    "refresh": lambda cache, load, node: load.refresh(node),
    "peek": lambda cache, load, node: load.peek(node),
    "set": lambda cache, load, node: load.set(node, Node()),
    "a factory": lambda cache, load, node: cache.get_or_set("k", lambda: node),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_a_cycle_through_an_answer_that_nobody_awaited_is_collected(cache: Cache, way: Any) -> None:
    load, node = loader(cache), Node()
    node.me = way(cache, load, node)
    seen = weakref.ref(node)
    del node
    with pytest.warns(RuntimeWarning, match="never awaited"):
        gc.collect()
    assert seen() is None
    assert cache._inspect()["flights"] == 0


def test_a_cycle_through_a_function_and_what_it_was_asked_to_forget_is_collected() -> None:
    cache = Cache(name="cycle")
    load, node = loader(cache), Node()
    load.node, node.me = node, load.invalidate_all()
    seen = weakref.ref(node)
    del load, node, cache
    with pytest.warns(RuntimeWarning, match="never awaited"):
        gc.collect()
    assert seen() is None


def test_a_cycle_through_an_answer_whose_caller_was_told_of_the_end_is_collected(cache: Cache) -> None:
    load, node = loader(cache), Node()

    async def main(node: Node) -> None:
        node.me = load(node)
        node.me.send(None)
        for _ in range(10):
            await asyncio.sleep(0)
        assert load.stats().entries == 1

    asyncio.run(main(node))
    seen = weakref.ref(node)
    del node
    gc.collect()
    assert seen() is None


def test_what_an_answer_still_needs_outlives_a_collection(cache: Cache) -> None:
    load = loader(cache)

    async def main() -> None:
        first, second = load(Node()), load(Node())
        gc.collect()
        task = asyncio.ensure_future(second)
        await asyncio.sleep(0)
        gc.collect()
        assert [await first, await task] == [1, 1]

    asyncio.run(main())


def test_only_an_answer_that_is_not_there_yet_costs_the_collector_anything(cache: Cache) -> None:
    @cache.cached("5m")
    async def load(n: int) -> int:
        return n

    miss = load(1)
    assert gc.is_tracked(miss)
    assert asyncio.run(asyncio.wait_for(miss, 5)) == 1
    hit = load(1)
    assert not gc.is_tracked(hit)
    assert asyncio.run(asyncio.wait_for(hit, 5)) == 1


@pytest.mark.parametrize("there", [True, False])
def test_an_answer_speaks_a_coroutines_language(cache: Cache, there: bool) -> None:
    @cache.cached("5m")
    async def load(n: int) -> int:
        return n

    async def main() -> None:
        for use in (lambda: load(1), lambda: load(1).__await__(), lambda: iter(load(1))):
            if not there:
                await load.invalidate(1)
            assert await asyncio.ensure_future(wrap(use())) == 1
        if not there:
            await load.invalidate(1)
        load(1).close()
        with pytest.raises(ZeroDivisionError):
            load(1).throw(ZeroDivisionError("thrown"))
        with pytest.raises(ZeroDivisionError):
            load(1).throw(ZeroDivisionError, ZeroDivisionError("thrown"), None)
        with pytest.raises(TypeError):
            load(1).throw()
        call = load(1)
        assert await call == 1
        with pytest.raises(RuntimeError, match="second time"):
            await call
        with pytest.raises(RuntimeError, match="second time"):
            call.send(None)

    async def wrap(answer: Any) -> Any:
        class Once:
            def __await__(self) -> Any:
                return (yield from answer)

        return await Once()

    asyncio.run(main())


def test_an_answer_that_is_dropped_while_an_error_is_raised_leaves_the_error_alone(cache: Cache) -> None:
    @cache.cached("5m")
    async def load(n: int) -> int:
        return n

    with pytest.warns(RuntimeWarning, match="never awaited"), pytest.raises(AttributeError, match="missing"):
        load(1).missing
