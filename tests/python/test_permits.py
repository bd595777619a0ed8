"""Permits of concurrency limits among the waits of loads: who would wait for ever is told so, and the others go on."""

import asyncio
import contextvars
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from origin import turns
from samovar import Cache, LoadCycle
from samovar.resilience import Concurrency


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_loads_that_hold_permits_and_gather_protected_ones_hang_nobody(limit: int, cache: Cache) -> None:
    guard = Concurrency(limit)

    @cache.cached(concurrency=guard)
    async def leaf(n: int) -> int:
        return n

    @cache.cached(concurrency=guard)
    async def tree(n: int) -> int:
        await asyncio.sleep(0)
        return sum(await asyncio.gather(leaf(2 * n), leaf(2 * n + 1)))

    async def main() -> None:
        trees = await asyncio.gather(*(tree(n) for n in range(limit)), return_exceptions=True)
        # The last to ask is told; its permit lets the others end.
        assert [type(answer) for answer in trees].count(LoadCycle) >= 1
        assert guard.stats()[:2] == (0, 0)
        await asyncio.gather(*(leaf(n) for n in range(2 * limit)))
        assert await asyncio.gather(*(tree(n) for n in range(limit))) == [4 * n + 1 for n in range(limit)]

    asyncio.run(asyncio.wait_for(main(), 30))


def test_permits_of_two_limits_that_are_wanted_crosswise_hang_nobody(cache: Cache) -> None:
    here, there = Concurrency(1), Concurrency(1)

    @cache.cached(concurrency=here)
    async def one(n: int) -> int:
        await asyncio.sleep(0)
        return n if n == 0 else 1 + await two(0)

    @cache.cached(concurrency=there)
    async def two(n: int) -> int:
        await asyncio.sleep(0)
        return n if n == 0 else 1 + await one(0)

    async def main() -> None:
        answers = await asyncio.gather(one(1), two(1), return_exceptions=True)
        assert sorted(type(answer).__name__ for answer in answers) == ["LoadCycle", "int"]
        assert (here.stats()[:2], there.stats()[:2]) == ((0, 0), (0, 0))

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_load_that_joins_one_which_waits_for_its_permit_is_told_with_the_path(cache: Cache) -> None:
    guard, gate = Concurrency(1), asyncio.Event()

    @cache.cached(concurrency=guard)
    async def holder() -> int:
        await gate.wait()
        return await waiter()

    @cache.cached(concurrency=guard)
    async def waiter() -> int:
        return 1

    async def main() -> None:
        first, second = asyncio.ensure_future(holder()), asyncio.ensure_future(waiter())
        await turns()
        assert guard.stats()[:2] == (1, 1)
        gate.set()
        with pytest.raises(LoadCycle, match=r"waiter.* -> a permit of .*waiter.* -> .*waiter"):
            await first
        assert await second == 1
        assert guard.stats()[:2] == (0, 0)

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_protected_call_that_gathers_calls_of_its_own_limit_is_told_so() -> None:
    guard = Concurrency(2)

    @guard
    async def call(depth: int) -> int:
        await asyncio.sleep(0)
        return 1 if depth == 0 else sum(await asyncio.gather(call(depth - 1), call(depth - 1)))

    async def main() -> None:
        with pytest.raises(LoadCycle, match="would wait for itself"):
            await call(2)
        await turns()
        assert guard.stats()[:2] == (0, 0)
        assert await call(1) == 2, "one after the other, with the other permit"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_a_task_that_is_no_part_of_the_call_which_starts_it_waits_its_turn() -> None:
    guard = Concurrency(1)
    started: list[asyncio.Task[int]] = []

    @guard
    async def call(depth: int) -> int:
        if depth:
            started.append(asyncio.create_task(call(depth - 1), context=contextvars.Context()))
            await turns()
        return depth

    async def main() -> None:
        assert await call(2) == 2
        assert [await task for task in started] == [1, 0], "each when its parent had ended"

    asyncio.run(asyncio.wait_for(main(), 30))


def test_threads_that_hold_permits_and_want_more_hang_nobody(cache: Cache) -> None:
    guard, both = Concurrency(2), threading.Barrier(2)

    @cache.cached(concurrency=guard)
    def leaf(n: int) -> int:
        return n

    @cache.cached(concurrency=guard)
    def outer(n: int) -> int:
        both.wait(30)
        return leaf(n)

    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(outer, n) for n in range(2)]
        errors = [answer.exception(30) for answer in answers]
    assert sorted(type(error).__name__ for error in errors) == ["LoadCycle", "NoneType"]
    assert guard.stats()[:2] == (0, 0)


async def awaited(call: Any) -> Any:
    return await call


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs_of_nested_protected_calls_always_end(seed: int, cache: Cache) -> None:
    dice = random.Random(seed)
    guards = [Concurrency(dice.randint(1, 3)) for _ in range(dice.randint(1, 3))]
    nodes = dice.randint(3, 9)
    # What asks for itself loads directly, and would do so without end.
    others = [[other for other in range(nodes) if other != node] for node in range(nodes)]
    needs = [dice.sample(others[node], dice.randint(0, 2)) for node in range(nodes)]
    functions: list[Any] = []

    def add(node: int) -> None:
        @cache.cached(concurrency=dice.choice([None, *guards]), ttl=0.001)
        async def load(salt: int) -> int:
            for _ in range(dice.randint(0, 3)):
                await asyncio.sleep(0)
            try:
                async with asyncio.TaskGroup() as group:
                    for other in needs[node]:
                        group.create_task(awaited(functions[other](salt)))
            except* LoadCycle as told:
                raise told.exceptions[0] from None
            return node

        functions.append(load)

    for node in range(nodes):
        add(node)

    async def main() -> None:
        for _ in range(20):
            asking = [functions[dice.randrange(nodes)](dice.randint(0, 1)) for _ in range(dice.randint(1, 12))]
            answers = await asyncio.gather(*asking, return_exceptions=True)
            assert {type(answer) for answer in answers} <= {int, LoadCycle}
            await turns()
        assert [guard.stats()[:2] for guard in guards] == [(0, 0)] * len(guards)

    asyncio.run(asyncio.wait_for(main(), 30))
