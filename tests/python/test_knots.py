"""Results of methods that refer to their instance: they keep it no longer than anybody else does."""

import asyncio
import gc
import random
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from samovar import Cache


class Owned:
    """Something that knows its owner."""

    def __init__(self, owner: Any) -> None:
        self.owner = owner


def closure(owner: Any) -> Callable[[], Any]:
    return lambda: owner


RESULTS: dict[str, Callable[[Any], Any]] = {
    "the instance": lambda self: self,
    "a list of it": lambda self: [self],
    "a dict of it": lambda self: {"me": (self, 1)},
    "a part that knows it": Owned,
    "parts that know each other": lambda self: [Owned([Owned(self)]) for _ in range(3)],
    "a method of it": lambda self: self.plain,
    "a cached method of it": lambda self: [self.now, self.later.invalidate],
    "a closure over it": closure,
    "what is its own too": lambda self: self.part,
}


def kind(cache: Cache, result: Callable[[Any], Any]) -> type:
    class Shop:
        def __init__(self) -> None:
            self.part = Owned(self)

        @cache.cached("5m")
        def now(self, n: int = 1) -> Any:
            return result(self)

        @cache.cached("5m", copy=False)
        async def later(self, other: Any = None) -> Any:
            return result(self)

        def plain(self) -> None:
            pass

    return Shop


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())
def test_an_instance_and_what_refers_to_it_among_its_results_are_collected(cache: Cache, result: Any) -> None:
    shops: Any = kind(cache, result)
    shop = shops()
    shop.now(), shop.now(2), asyncio.run(shop.later())
    seen = [weakref.ref(shop), weakref.ref(shop.part)]
    assert cache.stats().entries == 3
    del shop
    gc.collect()
    assert [end() for end in seen] == [None, None]
    assert cache.stats().entries == 0
    assert cache._inspect()["fault"] is None


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())
def test_an_instance_that_somebody_has_keeps_its_results(cache: Cache, result: Any) -> None:
    shop: Any = kind(cache, result)()
    shop.now(), asyncio.run(shop.later())
    gc.collect()
    shop.now(), asyncio.run(shop.later())
    assert (type(shop).now.stats().loads, type(shop).later.stats().loads) == (1, 1)


def test_who_has_a_result_has_the_instance_that_it_refers_to_with_its_results(cache: Cache) -> None:
    shops: Any = kind(cache, Owned)
    shop = shops()
    part, seen = shop.now(), weakref.ref(shop)
    del shop
    gc.collect()
    assert part.owner.now() is part
    part = None
    gc.collect()
    assert seen() is None


def test_instances_that_only_each_others_results_have_are_collected(cache: Cache) -> None:
    class Node:
        @cache.cached
        def parts(self) -> Any:
            return (Node(), Node())

        @cache.cached
        def parent(self) -> Any:
            return None

    top = Node()
    seen = [weakref.ref(node) for node in (top, *top.parts())]
    for part in top.parts():
        part.parent.set(top)
    del top
    gc.collect()
    assert part.parent().parts()[1] is part
    del part
    gc.collect()
    assert [end() for end in seen] == [None] * 3
    assert cache.stats().entries == 0


@pytest.mark.parametrize("seed", range(20))
def test_what_is_left_is_what_can_be_reached_by_attributes_and_by_results_of_what_is_left(
    cache: Cache, seed: int
) -> None:
    class Node:
        def __init__(self) -> None:
            self.others: list[Any] = []

        @cache.cached
        def one(self, n: int) -> Any:
            raise AssertionError("it was set")

        @cache.cached(copy=False)
        async def two(self, n: int) -> Any:
            raise AssertionError("it was set")

    rng = random.Random(seed)
    count, nodes = 40, [Node() for _ in range(40)]
    leads: list[set[int]] = [set() for _ in nodes]
    for _ in range(rng.randrange(20, 60)):
        start, end, how = rng.randrange(count), rng.randrange(count), rng.randrange(4)
        leads[start].add(end)
        node, other = nodes[start], nodes[end]
        if how == 0:
            node.others.append(other)
        elif how == 1:
            vars(node)[f"other{end}"] = {end: [other]}
        elif how == 2:
            node.one.set(rng.choice([other, [other, other], Owned(other), (lambda found: lambda: found)(other)]), end)
        else:
            asyncio.run(node.two.set({"found": Owned([other])}, end))
    seen = [weakref.ref(node) for node in nodes]
    kept = rng.sample(range(count), 4)
    held = [nodes[number] for number in kept]
    del nodes, node, other
    reached, front = set(kept), list(kept)
    while front:
        new = leads[front.pop()] - reached
        reached |= new
        front += new
    left: set[int] = set(range(count))
    for _ in range(4):
        # Instances in a cycle of attributes go with a collection, and what only their results had with the next.
        gc.collect()
        left = {number for number, end in enumerate(seen) if end() is not None}
        assert left >= reached
    assert left == reached
    assert cache._inspect()["fault"] is None
    del held


def test_an_instance_without_a_dict_is_collected_too(cache: Cache) -> None:
    class Slotted:
        __slots__ = ("__weakref__",)

        @cache.cached("5m")
        def me(self) -> Any:
            return [self]

    one = Slotted()
    one.me()
    gc.collect()
    assert Slotted.me.stats().entries == 1
    seen = weakref.ref(one)
    del one
    gc.collect()
    assert seen() is None


def test_a_thousand_instances_in_a_ring_of_results_are_collected_together(cache: Cache) -> None:
    class Link:
        @cache.cached
        def next(self) -> Any:
            return None

    links = [Link() for _ in range(1000)]
    for one, other in zip(links, links[1:] + links[:1], strict=True):
        one.next.set(other)
    seen = weakref.WeakSet(links)
    kept = links[500]
    del links, one, other
    gc.collect()
    assert len(seen) == 1000
    assert kept.next() is not None
    del kept
    gc.collect()
    assert len(seen) == 0
    assert cache.stats().entries == 0


def test_more_instances_than_one_collection_looks_at_are_left_to_the_next(cache: Cache) -> None:
    class Item:
        @cache.cached
        def me(self) -> Any:
            return [self]

    for _ in range(6000):
        Item().me()
    assert cache.stats().entries == 6000
    for _ in range(3):
        gc.collect()
    assert cache.stats().entries == 0


def test_a_knot_is_found_beside_a_cache_and_a_list_too_large_to_be_looked_into(cache: Cache) -> None:
    cache.sync.set_many({f"key{n}": [n] for n in range(60_000)})
    large = [[n] for n in range(60_000)]

    class Shop:
        def __init__(self) -> None:
            self.cache, self.large = cache, large

        @cache.cached
        def me(self, n: int = 0) -> Any:
            return [self]

    shops = [Shop(), Shop()]
    shops[0].me()
    shops[1].me()
    for n in range(30_000):
        shops[1].me.set(n, n)
    seen = weakref.ref(shops[0])
    shops.pop(0)
    gc.collect()
    assert seen() is None
    assert shops[0].me.peek(5) is not None


def test_what_goes_with_an_instance_may_use_the_cache_as_it_goes(cache: Cache) -> None:
    class Shop:
        @cache.cached
        def part(self) -> Any:
            return Closing(self)

        @cache.cached
        def size(self) -> int:
            return 1

    class Closing:
        def __init__(self, owner: Any) -> None:
            self.owner = owner

        def __del__(self) -> None:
            said.append(self.owner.size())
            cache.sync.set("closed", 1)

    said: list[int] = []
    shop = Shop()
    shop.part(), shop.size()
    del shop
    gc.collect()
    gc.collect()
    assert said == [1]
    assert cache._inspect()["fault"] is None
