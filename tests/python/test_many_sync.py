"""Functions of many that are not async, and `get_or_set_many` with and without await."""

import asyncio
import inspect
import logging
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from origin import Table, turns
from samovar import Cache, ConfigError, KeyTypeError, LoadCycle, LoadError, NotFound
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


class Gate:
    """A function of many that stops inside its calls until it is let go on."""

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.inside = threading.Semaphore(0)
        self.leave = threading.Semaphore(0)
        self.error: Exception | None = None

    def load(self, ids: Sequence[int]) -> dict[int, list[int]]:
        self.calls.append(list(ids))
        number = len(self.calls)
        self.inside.release()
        assert self.leave.acquire(timeout=30)
        if self.error is not None:
            raise self.error
        return {one: [one, number] for one in ids}


async def until(happened: Callable[[], bool]) -> None:
    """Give other threads time until something they do has happened."""
    async with asyncio.timeout(30):
        while not happened():  # noqa: ASYNC110 - it is another thread's doing
            await asyncio.sleep(0)


def in_thread(what: Callable[[], Any], answers: list[Any]) -> threading.Thread:
    def body() -> None:
        try:
            answers.append(what())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=body)
    thread.start()
    return thread


# --- functions --------------------------------------------------------------------------------------------------------


def test_only_the_missing_ids_reach_the_function_in_one_call(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", negative_ttl="1m")(table.load_now)
    assert list(users([3, 1, 200])) == [3, 1]
    assert list(users([200, 2, 1, 2, 3]).items()) == [(2, [2, 2]), (1, [1, 1]), (3, [3, 1])]
    assert users([]) == {}
    assert table.calls == [[3, 1, 200], [2]]
    stats = users.stats()
    assert (stats.hits, stats.negative_hits, stats.misses, stats.loads) == (2, 1, 4, 4)
    assert not inspect.iscoroutinefunction(users)


def test_its_methods_are_not_async_either(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load_now)
    assert users([1, 2]) == {1: [1, 1], 2: [2, 1]}
    assert users.refresh([2, 200]) == {2: [2, 2]}
    assert {one: entry.value for one, entry in users.peek([1, 2, 3]).items()} == {1: [1, 1], 2: [2, 2]}
    users.invalidate([1])
    assert list(users.peek([1, 2])) == [2]
    users.set({1: "one"})
    assert users([1]) == {1: "one"}
    assert users.uncached([1, 200]) == {1: [1, 3]}
    assert users.warm([[5, 6]]).success
    assert users.key([5]) == {5: f"{Table.load.__module__}.Table.load_now:i5;t0()"}
    users.invalidate_all()
    assert users.peek([2, 5]) == {}
    assert users.stats().refreshes == 2


def test_methods_of_a_class_are_bound(cache: Cache) -> None:
    class Shop:
        def __init__(self, city: str) -> None:
            self.city = city

        @cache.cached_many("10m", items="names")
        def prices(self, names: Sequence[str], *, suffix: str = "") -> dict[str, str]:
            return {name: f"{name} in {self.city}{suffix}" for name in names}

    tula, perm = Shop("Tula"), Shop("Perm")
    assert tula.prices(["tea"]) == {"tea": "tea in Tula"}
    assert perm.prices(names=["tea"], suffix="!") == {"tea": "tea in Perm!"}
    assert (Shop.prices.stats().entries, list(tula.prices.peek(["tea"])), list(perm.prices.peek(["tea"]))) == (
        2,
        ["tea"],
        [],
    )


def test_what_is_no_mapping_or_a_coroutine_is_refused(cache: Cache) -> None:
    answers: list[Any] = [None]

    @cache.cached_many("10m", items="ids")
    def users(ids: Sequence[int]) -> Any:
        return answers[0]

    with pytest.raises(TypeError, match="users must return a mapping of each id to its value"):
        users([1])

    async def other() -> None: ...

    answers[0] = other()
    with pytest.raises(TypeError, match="users is async but was asked without await"):
        users([1])


def test_a_raise_fails_its_ids_and_stores_nothing(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load_now)
    users([1])
    table.error = error = OSError("down")
    with pytest.raises(OSError, match="down") as caught:
        users([1, 2, 3])
    assert caught.value is error
    assert list(users.peek([1, 2, 3])) == [1]
    table.error = NotFound("one of them")
    with pytest.raises(LoadError, match="leave an id out"):
        users([2])


def test_a_call_that_fails_leaves_what_the_others_of_one_answer_have_stored(cache: Cache) -> None:
    calls: list[list[int]] = []

    @cache.cached_many("10m", items="ids", max_batch=2)
    def users(ids: Sequence[int]) -> dict[int, int]:
        calls.append(list(ids))
        if 3 in ids:
            raise OSError("down")
        return {one: one for one in ids}

    with pytest.raises(OSError, match="down"):
        users([1, 2, 3, 4, 5])
    assert calls == [[1, 2], [3, 4], [5]]
    assert list(users.peek(range(9))) == [1, 2, 5]


def test_an_interrupt_ends_everything_and_gives_all_leases_back(cache: Cache) -> None:
    calls: list[list[int]] = []

    @cache.cached_many("10m", items="ids", max_batch=2)
    def users(ids: Sequence[int]) -> dict[int, int]:
        calls.append(list(ids))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return {one: one for one in ids}

    with pytest.raises(KeyboardInterrupt):
        users([1, 2, 3, 4, 5])
    assert calls == [[1, 2], [3, 4]]
    assert cache._inspect()["flights"] == 0
    assert list(users([1, 3, 5])) == [1, 3, 5]


def test_old_values_answer_for_the_ids_that_have_one(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", stale_if_error="1h")(table.load_now)
    users([1, 2])
    cache_clock.advance("61s")
    table.error = OSError("down")
    assert users([1, 2]) == {1: [1, 1], 2: [2, 1]}
    with pytest.raises(OSError, match="down"):
        users([2, 3])
    assert table.calls == [[1, 2], [1, 2], [3]]


def test_a_fallback_answers_for_each_id(cache: Cache) -> None:
    table = Table()
    table.error = OSError("down")
    users = cache.cached_many("1m", items="ids", fallback=lambda one: -one)(table.load_now)
    assert users([1, 2]) == {1: -1, 2: -2}


def test_loaders_are_asked_in_turn(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    asked: list[tuple[str, list[int]]] = []

    def slow(ids: Sequence[int]) -> dict[int, str]:
        asked.append(("slow", list(ids)))
        return {one: "slow" for one in ids if one < 9}

    @cache.cached_many("10m", items="ids", loaders=[slow], chain_error="skip")
    def fast(ids: Sequence[int]) -> dict[int, str]:
        asked.append(("fast", list(ids)))
        if 5 in ids:
            raise OSError("down")
        return {one: "fast" for one in ids if one < 3}

    assert fast([1, 2, 3, 9]) == {1: "fast", 2: "fast", 3: "slow"}
    with caplog.at_level(logging.WARNING, "samovar"):
        assert fast([4, 5]) == {4: "slow", 5: "slow"}
    assert asked == [("fast", [1, 2, 3, 9]), ("slow", [3, 9]), ("fast", [4, 5]), ("slow", [4, 5])]
    assert "was passed over for 2 ids" in caplog.text


def test_answers_are_isolated(cache: Cache) -> None:
    users = cache.cached_many("10m", items="ids")(Table().load_now)
    users([1])[1].append("mine")
    users([1])[1].append("mine")
    assert users([1]) == {1: [1, 1]}


@pytest.mark.parametrize("orders", [([1, 2, 3], [3, 2, 1]), ([1, 2], [2, 3]), ([1, 2, 3, 4], [4])])
def test_threads_with_ids_in_common_load_each_once_and_never_block_each_other(
    cache: Cache, orders: tuple[list[int], list[int]]
) -> None:
    gate, answers = Gate(), list[Any]()
    users = cache.cached_many("10m", items="ids")(gate.load)
    first = in_thread(lambda: users(orders[0]), answers)
    assert gate.inside.acquire(timeout=30)
    second = in_thread(lambda: users(orders[1]), answers)
    own = [one for one in orders[1] if one not in orders[0]]
    if own:
        assert gate.inside.acquire(timeout=30), "it loads its own while the others are on their way"
        assert gate.calls == [orders[0], own]
    gate.leave.release(2)
    first.join(30)
    second.join(30)
    assert sorted(map(list, answers)) == sorted(orders)
    assert sorted(one for call in gate.calls for one in call) == sorted({*orders[0], *orders[1]})


def test_many_threads_and_many_ids_end(cache: Cache) -> None:
    lock, loaded = threading.Lock(), list[int]()

    @cache.cached_many("10m", items="ids", max_batch=3)
    def users(ids: Sequence[int]) -> dict[int, int]:
        with lock:
            loaded.extend(ids)
        return {one: one for one in ids}

    answers: list[Any] = []
    barrier = threading.Barrier(8)

    def ask(number: int) -> Any:
        barrier.wait(30)
        ids = [(number * 7 + step * (number % 3 + 1)) % 40 for step in range(30)]
        return users(ids) == {one: one for one in ids}

    threads = [in_thread(lambda number=number: ask(number), answers) for number in range(8)]  # type: ignore[misc]
    for thread in threads:
        thread.join(60)
    assert answers == [True] * 8
    assert len(loaded) == len(set(loaded)), "no id was loaded twice"


def test_who_waits_for_a_call_that_fails_gets_a_copy_of_its_error(cache: Cache) -> None:
    gate, answers = Gate(), list[Any]()
    gate.error = OSError("down")
    users = cache.cached_many("10m", items="ids")(gate.load)
    first = in_thread(lambda: users([1, 2]), answers)
    assert gate.inside.acquire(timeout=30)
    second = in_thread(lambda: users([2]), answers)
    run(lambda: until(lambda: users.stats().coalesced > 0))
    gate.leave.release(2)
    first.join(30)
    second.join(30)
    assert [type(answer) for answer in answers] == [OSError, OSError]
    assert answers[0] is not answers[1]


def test_a_blocking_call_takes_over_what_a_loop_leaves(cache: Cache) -> None:
    # Both faces of one name: the async load ends with its only caller, and the blocked one loads what it waits for.
    answers: list[Any] = []

    async def never(keys: list[str]) -> dict[str, str]:
        await asyncio.Event().wait()
        return {}

    async def main() -> None:
        caller = asyncio.ensure_future(cache.get_or_set_many(["a", "b"], never))
        await turns()
        blocked = in_thread(
            lambda: cache.sync.get_or_set_many(["b", "c"], lambda keys: {one: f"{one} now" for one in keys}), answers
        )
        await until(lambda: cache.stats().coalesced > 0)
        running = [task for task in asyncio.all_tasks() if task not in (caller, asyncio.current_task())]
        running[0].cancel()
        with pytest.raises(LoadError):
            await caller
        await until(lambda: not blocked.is_alive())

    run(main)
    assert answers == [{"b": "b now", "c": "c now"}]


def test_a_function_that_asks_for_its_own_ids_loads_them_directly(cache: Cache) -> None:
    calls: list[list[int]] = []

    @cache.cached_many("10m", items="ids")
    def users(ids: Sequence[int]) -> dict[int, int]:
        calls.append(list(ids))
        return users([2, 3]) if len(calls) == 1 else {one: one for one in ids}

    assert users([1, 2]) == {2: 2}
    assert calls == [[1, 2], [2, 3]]
    assert list(users.peek([1, 2, 3])) == [2, 3]


def test_ids_that_share_a_key_are_all_answered(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", key="user:{ids}")(table.load_now)
    assert users([7, "7"]) == {7: [7, 1], "7": ["7", 1]}
    assert table.calls == [[7, "7"]]


def test_an_awaited_cycle_is_found_from_a_blocking_call_too(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def later(ids: Sequence[int]) -> dict[int, int]:
        return {one: await friend(one) for one in ids}

    @cache.cached("10m")
    async def friend(one: int) -> int:
        return (await later([3 - one]))[3 - one]

    async def main() -> None:
        with pytest.raises(LoadCycle):
            await asyncio.wait_for(later([1, 2]), 30)

    run(main)


# --- get_or_set_many --------------------------------------------------------------------------------------------------


def test_the_missing_keys_are_loaded_in_one_call(cache: Cache) -> None:
    calls: list[list[str]] = []

    async def factory(keys: list[str]) -> dict[str, str]:
        calls.append(keys)
        return {key: key.upper() for key in keys if key != "none"}

    async def main() -> None:
        await cache.set("b", "old")
        answer = await cache.get_or_set_many(["a", "b", "none", "c", "a"], factory, ttl="5m")
        assert list(answer.items()) == [("a", "A"), ("b", "old"), ("c", "C")]
        assert calls == [["a", "none", "c"]]
        assert await cache.get_many(["a", "c", "none"]) == {"a": "A", "c": "C"}
        assert await cache.get_or_set_many([], factory) == {}
        assert await cache.ttl("a") == pytest.approx(300, rel=0.06)

    run(main)


def test_a_blocking_call_does_the_same(cache: Cache) -> None:
    calls: list[list[str]] = []

    def factory(keys: list[str]) -> dict[str, str]:
        calls.append(keys)
        return {key: key.upper() for key in keys if key != "none"}

    cache.sync.set("b", "old")
    answer = cache.sync.get_or_set_many(["a", "b", "none", "c", "a"], factory, ttl="5m", max_batch=2)
    assert list(answer.items()) == [("a", "A"), ("b", "old"), ("c", "C")]
    assert calls == [["a", "none"], ["c"]]


def test_keys_that_others_load_are_waited_for(cache: Cache) -> None:
    calls: list[list[str]] = []
    gate = asyncio.Event()

    async def factory(keys: list[str]) -> dict[str, str]:
        calls.append(keys)
        await gate.wait()
        return {key: key.upper() for key in keys}

    async def main() -> None:
        callers = [
            asyncio.ensure_future(cache.get_or_set_many(keys, factory)) for keys in ("ab", "bc") for keys in [[*keys]]
        ]
        one = asyncio.ensure_future(cache.get_or_set("a", lambda: "never"))
        await turns()
        assert calls == [["a", "b"], ["c"]]
        gate.set()
        assert await asyncio.gather(*callers) == [{"a": "A", "b": "B"}, {"b": "B", "c": "C"}]
        assert await one == "A"

    run(main)


def test_its_options_are_those_of_a_call_and_of_a_chain(cache: Cache, cache_clock: CacheClock) -> None:
    calls: list[list[str]] = []

    def fast(keys: list[str]) -> dict[str, int]:
        calls.append(keys)
        return {"a": 1}

    async def slow(keys: list[str]) -> dict[str, int]:
        calls.append(keys)
        return {"b": 2}

    async def main() -> None:
        options: dict[str, Any] = {"negative_ttl": "1m", "loaders": [slow]}
        for _ in range(2):
            assert await cache.get_or_set_many(["a", "b", "c"], fast, **options) == {"a": 1, "b": 2}
        assert calls == [["a", "b", "c"], ["b", "c"]]
        cache_clock.advance("1m")
        assert await cache.get_or_set_many(["c"], lambda keys: {"c": 3, "d": 4}, ttl=0) == {"c": 3}
        assert not await cache.contains("c")
        assert cache.stats().unasked == 1

    run(main)
    assert cache.sync.get_or_set_many(["x"], lambda keys: {}, loaders=[lambda keys: {"x": 9}]) == {"x": 9}


def test_it_counts_each_key_once(cache: Cache) -> None:
    async def main() -> None:
        await cache.set("a", 1)
        await cache.get_or_set_many(["a", "b"], lambda keys: {"b": 2})

    run(main)
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads) == (1, 1, 1)


def test_what_cannot_be_is_named(cache: Cache) -> None:
    async def factory(keys: list[str]) -> dict[str, int]:
        return {}

    async def main() -> None:
        with pytest.raises(KeyTypeError, match="keys of get_or_set_many must be several ids, not 'ab'"):
            await cache.get_or_set_many("ab", factory)
        with pytest.raises(KeyTypeError, match="key must be a str, not 7"):
            await cache.get_or_set_many(["a", 7], factory)  # type: ignore[list-item]
        with pytest.raises(TypeError, match="factory must be a function"):
            await cache.get_or_set_many(["a"], {"a": 1})  # type: ignore[call-overload]
        with pytest.raises(TypeError, match="must return a mapping"):
            await cache.get_or_set_many(["a"], lambda keys: keys)  # type: ignore[call-overload]
        with pytest.raises(
            ConfigError, match="unknown option max_batches= for get_or_set_many; did you mean max_batch"
        ):
            await cache.get_or_set_many(["a"], factory, max_batches=1)  # type: ignore[call-overload]
        with pytest.raises(ConfigError, match="invalid max_batch: 0"):
            await cache.get_or_set_many(["a"], factory, max_batch=0)

    run(main)
    with pytest.raises(TypeError, match="is async but was asked without await"):
        cache.sync.get_or_set_many(["a"], factory)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="give one that is not async"):
        cache.sync.get_or_set_many(["a"], lambda keys: {}, loaders=[factory])


def test_a_disabled_cache_asks_for_all_keys(cache: Cache) -> None:
    async def main() -> None:
        await cache.set("a", 1)
        with cache.disabled():
            assert await cache.get_or_set_many(["a", "b"], lambda keys: dict.fromkeys(keys, 2)) == {"a": 2, "b": 2}
            assert cache.sync.get_or_set_many(["a"], lambda keys: {"a": 3}) == {"a": 3}
        assert await cache.get_many(["a", "b"]) == {"a": 1}

    run(main)
