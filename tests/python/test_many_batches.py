"""What goes into one call of a function of many, who it belongs to, and when it ends."""

import asyncio
import contextlib
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from origin import Table, turns
from samovar import Cache, LoadCycle, LoadError, LoadTimeout
from samovar._batch import Batch
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


class SteppedLoop(asyncio.SelectorEventLoop):
    """A loop whose time is moved by hand."""

    now = 0.0

    def time(self) -> float:
        return self.now


# --- gathering --------------------------------------------------------------------------------------------------------


def test_concurrent_calls_gather_into_one_and_nobody_asks_for_what_is_on_its_way(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        await users(range(20))
        table.gate = asyncio.Event()
        first = [asyncio.ensure_future(users(range(start, 50))) for start in (0, 10, 40)]
        await turns()
        one = asyncio.ensure_future(users([30]))
        await turns()
        assert table.calls[1:] == [list(range(20, 50))]
        table.gate.set()
        assert list(await first[0]) == list(range(50))
        assert await one == {30: [30, 2]}
        assert [len(await answer) for answer in first] == [50, 40, 10]
        assert len(table.calls) == 2

    run(main)


@pytest.mark.parametrize("window", ["5ms", 0.005])
def test_a_window_gathers_what_comes_within_it(cache: Cache, window: Any) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", window=window)(table.load)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        waiting = [asyncio.ensure_future(users([1]))]
        await turns()
        loop.now += 0.004
        waiting.append(asyncio.ensure_future(users([2, 1])))
        await turns()
        assert table.calls == []
        loop.now += 0.002
        await turns()
        assert table.calls == [[1, 2]]
        assert await asyncio.gather(*waiting) == [{1: [1, 1]}, {2: [2, 1], 1: [1, 1]}]
        waiting = [asyncio.ensure_future(users([3]))]
        await turns()
        assert table.calls == [[1, 2]], "the next one has a window of its own"
        loop.now += 0.006
        await asyncio.gather(*waiting)

    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main())


def test_a_full_batch_waits_for_no_window(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", window="1h", max_batch=2)(table.load)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        waiting = [asyncio.ensure_future(users(ids)) for ids in ([1, 2, 3], [3, 4, 5])]
        await turns()
        assert table.calls == [[1, 2], [3, 4]]
        loop.now += 3601
        assert [list(answer) for answer in await asyncio.gather(*waiting)] == [[1, 2, 3], [3, 4, 5]]
        assert table.calls == [[1, 2], [3, 4], [5]]
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main())


def test_stale_ids_are_answered_at_once_and_refreshed_in_one_call(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", stale_while_revalidate="1h")(table.load)

    async def main() -> None:
        await users(range(100))
        cache_clock.advance("61s")
        table.gate = asyncio.Event()
        answers = await asyncio.gather(*(users([one]) for one in range(100)))
        assert all(answer == {one: [one, 1]} for one, answer in enumerate(answers))
        assert await users(range(50)) == {one: [one, 1] for one in range(50)}
        await turns()
        assert table.calls[1:] == [list(range(100))]
        table.gate.set()
        await turns()
        assert await users([7]) == {7: [7, 2]}

    run(main)
    assert users.stats().refreshes == 100


def test_a_refresh_of_its_own_is_asked_for_many_and_opens_what_it_needs(cache: Cache, cache_clock: CacheClock) -> None:
    refreshed: list[tuple[list[int], str]] = []

    async def renew(ids: Sequence[int], lang: str) -> dict[int, str]:
        refreshed.append((list(ids), lang))
        return {one: f"new {lang}{one}" for one in ids}

    @cache.cached_many("1m", items="ids", ignore=["session"], stale_while_revalidate="1h", refresh=renew)
    async def users(ids: Sequence[int], session: object, lang: str = "en") -> dict[int, str]:
        return {one: f"{lang}{one}" for one in ids}

    async def main() -> None:
        await users([1, 2], "session")
        cache_clock.advance("61s")
        assert await users([1], "a") == {1: "en1"}
        await asyncio.gather(users([1], "b"), users([2], "c"))
        await turns()
        assert refreshed == [([1], "en"), ([2], "en")]
        assert await users([1, 2], "d") == {1: "new en1", 2: "new en2"}
        cache_clock.advance("61s")
        await asyncio.gather(users([1], "e"), users([2], "f"))
        await turns()
        assert refreshed[2:] == [([1, 2], "en")]

    run(main)


def test_loads_that_ask_for_different_ids_share_a_call(cache: Cache) -> None:
    table = Table()
    authors = cache.cached_many("10m", items="ids")(table.load)

    @cache.cached("10m")
    async def article(number: int) -> Any:
        return await authors([number // 2])

    async def main() -> None:
        await asyncio.gather(*(article(number) for number in range(6)))
        assert table.calls == [[0, 1, 2]]

    run(main)


def test_a_call_of_many_makes_one_task_however_many_ids_it_loads(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        table.gate = asyncio.Event()
        caller = asyncio.ensure_future(users(range(50)))
        await turns()
        tasks = asyncio.all_tasks() - {caller, asyncio.current_task()}
        assert [task.get_name() for task in tasks] == ["Table.load of 50"]
        table.gate.set()
        await caller

    run(main)


def test_the_function_sees_the_context_of_the_first_that_asked(cache: Cache) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
    seen: list[str] = []

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        seen.append(user.get())
        user.set("changed")
        return {one: one for one in ids}

    async def main() -> None:
        async def ask(name: str, one: int) -> str:
            user.set(name)
            await users([one])
            return user.get()

        assert await asyncio.gather(ask("ann", 1), ask("bea", 2)) == ["ann", "bea"]
        assert seen == ["ann"]

    run(main)


# --- who it belongs to ------------------------------------------------------------------------------------------------


def test_sessions_are_never_mixed_and_one_session_shares_a_call(cache: Cache) -> None:
    calls: list[tuple[list[int], Any]] = []

    class Session:
        def __cache_key__(self) -> str:
            return "all alike"

    @cache.cached_many("10m", items="ids", ignore=["session"])
    async def users(ids: Sequence[int], session: Session) -> dict[int, int]:
        calls.append((list(ids), session))
        await asyncio.sleep(0)
        return {one: one for one in ids}

    async def main() -> None:
        mine, other = Session(), Session()
        await asyncio.gather(users([1, 2], mine), users([2, 3], other), users([4], mine))
        assert calls == [([1, 2, 4], mine), ([3], other)]

    run(main)


def test_who_leaves_takes_its_session_along_and_the_next_loads_with_its_own(cache: Cache) -> None:
    table, sessions = Table(), []

    @cache.cached_many("10m", items="ids", ignore=["session"])
    async def users(ids: Sequence[int], session: str) -> dict[int, Any]:
        sessions.append(session)
        return await table.load(ids)

    async def main() -> None:
        table.gate = asyncio.Event()
        first, second = asyncio.ensure_future(users([1, 2], "a")), asyncio.ensure_future(users([2, 3], "b"))
        await turns()
        assert table.calls == [[1, 2], [3]]
        first.cancel()
        await turns()
        assert table.cancelled == 1
        assert table.calls == [[1, 2], [3], [2]], "it leads at once, though it waits for 3 as well"
        table.gate.set()
        assert await second == {2: [2, 3], 3: [3, 2]}
        assert sessions == ["a", "b", "b"]

    run(main)


def test_a_session_that_is_shared_outlives_the_one_that_leaves(cache: Cache) -> None:
    table = Table()

    @cache.cached_many("10m", items="ids", ignore=["session"])
    async def users(ids: Sequence[int], session: str) -> dict[int, Any]:
        return await table.load(ids)

    async def main() -> None:
        table.gate = asyncio.Event()
        first, second = asyncio.ensure_future(users([1], "a")), asyncio.ensure_future(users([2], "a"))
        await turns()
        first.cancel()
        await turns()
        assert (table.calls, table.cancelled) == ([[1, 2]], 0)
        table.gate.set()
        assert await second == {2: [2, 1]}
        assert await users.peek([1], "a") == {}, "nobody waited for it any more"

    run(main)


def test_a_cancelled_caller_leaves_the_call_to_the_others(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        table.gate = asyncio.Event()
        first, second = asyncio.ensure_future(users([1, 2])), asyncio.ensure_future(users([2, 3]))
        await turns()
        first.cancel()
        await turns()
        assert first.cancelled()
        assert table.cancelled == 0
        table.gate.set()
        assert await second == {2: [2, 1], 3: [3, 1]}
        assert table.calls == [[1, 2, 3]]

    run(main)


def test_a_call_is_cancelled_when_nobody_waits_for_any_of_its_ids(cache: Cache) -> None:
    # Strawberry #3606: the batch of a data loader ran on for requests that were gone, with sessions that were closed.
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        table.gate = asyncio.Event()
        callers = [asyncio.ensure_future(users(ids)) for ids in ([1, 2], [2, 3])]
        await turns()
        callers[0].cancel()
        await turns()
        callers[1].cancel()
        await turns()
        assert (table.calls, table.cancelled) == ([[1, 2, 3]], 1)
        assert len(asyncio.all_tasks()) == 1
        table.gate = None
        assert await users([1, 2, 3]) == {one: [one, 2] for one in (1, 2, 3)}

    run(main)


def test_who_is_gone_before_the_call_begins_is_not_asked_for(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", window="1s")(table.load)

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        callers = [asyncio.ensure_future(users(ids)) for ids in ([1, 2], [2, 3])]
        await turns()
        callers[0].cancel()
        await turns()
        loop.now += 2
        await callers[1]
        assert table.calls == [[2, 3]]
        gone = asyncio.ensure_future(users([4]))
        await turns()
        gone.cancel()
        await turns()
        loop.now += 2
        await turns()
        assert table.calls == [[2, 3]], "with nobody left there is no call"

    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(main())


def test_a_refresh_behind_goes_on_when_its_callers_are_gone(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", stale_while_revalidate="1h")(table.load)

    async def main() -> None:
        await users([1, 2])
        cache_clock.advance("61s")
        table.gate = asyncio.Event()
        caller = asyncio.ensure_future(users([1, 2, 3]))
        await turns()
        caller.cancel()
        await turns()
        assert (table.calls[1:], table.cancelled) == ([[1, 2, 3]], 0)
        table.gate.set()
        await turns()
        assert await users([1, 2]) == {1: [1, 2], 2: [2, 2]}
        assert list(await users.peek([3])) == []

    run(main)


def test_a_call_that_takes_too_long_is_cancelled_and_each_id_answered(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", timeout="5s", stale_if_error="1h")(table.load)

    async def main() -> None:
        await users([1])
        cache_clock.advance("61s")
        table.gate = asyncio.Event()
        old, new = asyncio.ensure_future(users([1])), asyncio.ensure_future(users([1, 2]))
        await turns()
        cache_clock.advance("5s")
        await turns()
        assert (table.calls[1:], table.cancelled) == ([[1, 2]], 1)
        assert await old == {1: [1, 1]}
        with pytest.raises(LoadTimeout):
            await new

    run(main)


def test_who_has_waited_long_enough_gets_old_values_and_the_call_goes_on(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", soft_timeout="1s", stale_if_error="1h")(table.load)

    async def main() -> None:
        await users([1, 2])
        cache_clock.advance("61s")
        table.gate = asyncio.Event()
        caller = asyncio.ensure_future(users([1, 2]))
        await turns()
        cache_clock.advance("1s")
        assert await caller == {1: [1, 1], 2: [2, 1]}
        table.gate.set()
        await turns()
        assert table.cancelled == 0
        assert await users([1, 2]) == {1: [1, 2], 2: [2, 2]}

    run(main)


def test_a_call_that_others_cancel_is_a_load_error_for_each_id(cache: Cache) -> None:
    running: list[asyncio.Task[Any]] = []

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        task = asyncio.current_task()
        assert task is not None
        running.append(task)
        await asyncio.Event().wait()
        return {}

    async def main() -> None:
        callers = [asyncio.ensure_future(users(ids)) for ids in ([1, 2], [2, 3])]
        await turns()
        running[0].cancel()
        answers = await asyncio.gather(*callers, return_exceptions=True)
        assert [type(answer) for answer in answers] == [LoadError, LoadError]

    run(main)


# --- what happens meanwhile -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["invalidate", "clear", "set"])
def test_what_is_invalidated_during_a_call_is_answered_and_not_stored(cache: Cache, how: str) -> None:
    # FusionCache #535, HybridCache #7771: a load from before an invalidation must not be served to who comes after it.
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        table.gate = asyncio.Event()
        old = asyncio.ensure_future(users([1, 2]))
        await turns()
        if how == "invalidate":
            await users.invalidate([1])
        elif how == "clear":
            await cache.clear()
        else:
            await users.set({1: "set"})
        new = asyncio.ensure_future(users([1, 2]))
        await turns()
        asked = {"invalidate": [[1]], "clear": [[1, 2]], "set": []}[how]
        assert table.calls[1:] == asked, "who comes after it does not join the call from before"
        table.gate.set()
        assert await old == {1: [1, 1], 2: [2, 1]}
        after = {"invalidate": [[1, 2], [2, 1]], "clear": [[1, 2], [2, 2]], "set": ["set", [2, 1]]}[how]
        assert await new == await users([1, 2]) == dict(zip([1, 2], after, strict=True))

    run(main)


def test_a_function_that_asks_for_its_own_ids_loads_them_directly(cache: Cache) -> None:
    calls: list[list[int]] = []

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        calls.append(list(ids))
        if len(calls) == 1:
            return {one: -found for one, found in (await users([2, 1])).items()}
        return {one: one for one in ids}

    async def main() -> None:
        assert await asyncio.wait_for(users([1, 2, 3]), 30) == {1: -1, 2: -2}
        assert calls == [[1, 2, 3], [2, 1]]

    run(main)


def test_ids_of_one_call_that_need_each_other_raise_instead_of_waiting_for_ever(cache: Cache) -> None:
    # Payload #1887: a data loader's batch waits for a second batch that waits for a key of the first.
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, Any]:
        return {one: await friend_of(9) if one == 8 else one for one in ids}

    @cache.cached("10m")
    async def friend_of(one: int) -> Any:
        return (await users([one]))[one]

    async def main() -> None:
        with pytest.raises(LoadCycle, match=r"users -> .*friend_of -> .*users"):
            await asyncio.wait_for(users([8, 9]), 30)

    run(main)


def test_a_load_is_found_behind_every_id_of_a_call(cache: Cache) -> None:
    # The call for 1 and 2 works for both loads that asked; it may wait for neither.
    @cache.cached("10m")
    async def asks(one: int) -> Any:
        return await users([one])

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, Any]:
        return {one: await asks(3 - one) for one in ids if len(ids) == 2}

    async def main() -> None:
        answers = await asyncio.wait_for(asyncio.gather(asks(1), asks(2), return_exceptions=True), 30)
        assert [type(answer) for answer in answers] == [LoadCycle, LoadCycle]

    run(main)


def test_each_loop_has_calls_of_its_own_and_all_share_the_entries(cache: Cache) -> None:
    table, barrier = Table(), threading.Barrier(2)
    users = cache.cached_many("10m", items="ids")(table.load)
    answers: list[Any] = []

    async def main() -> None:
        barrier.wait(30)
        tens = range(0, 100, 10)
        answers.extend([await asyncio.wait_for(users(range(start, start + 10)), 30) for start in tens])

    threads = [threading.Thread(target=asyncio.run, args=(main(),)) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(min(answer) for answer in answers) == sorted([*range(0, 100, 10)] * 2)
    assert sorted(one for call in table.calls for one in call) == list(range(100)), "no id was loaded twice"


@pytest.mark.parametrize("window", [0, "1h"])
def test_a_call_of_a_loop_that_was_closed_is_made_on_another_and_forgotten(cache: Cache, window: Any) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", window=window, max_batch=2)(table.load)

    def strand() -> None:
        loop = asyncio.new_event_loop()
        table.gate = asyncio.Event()
        caller = loop.create_task(users([1]))
        loop.run_until_complete(turns())
        for task in asyncio.all_tasks(loop):
            # As the thread that is killed leaves it: asyncio would complain.
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        assert not caller.done()

    strand()
    table.gate = None
    run(lambda: expect_keys(users([1, 2]), [1, 2]))
    assert table.calls[-1] == [1, 2]
    gc.collect()
    assert [one for one in gc.get_objects() if isinstance(one, Batch)] == []


async def expect_keys(answer: Any, keys: list[int]) -> None:
    assert list(await answer) == keys


def test_a_call_that_failed_holds_on_to_nothing(cache: Cache) -> None:
    class Session: ...

    @cache.cached_many("10m", items="ids", ignore=["session"])
    async def users(ids: Sequence[int], session: Session) -> dict[int, int]:
        raise OSError("down")

    @cache.cached_many("10m", items="ids", ignore=["session"])
    def users_now(ids: Sequence[int], session: Session) -> dict[int, int]:
        raise OSError("down")

    async def main() -> None:
        session = Session()
        gone = weakref.ref(session)
        for ask in (users, users.refresh, users.uncached):
            with contextlib.suppress(OSError):
                await ask([1, 2], session)
        for ask_now in (users_now, users_now.refresh, users_now.uncached):
            with contextlib.suppress(OSError):
                ask_now([1, 2], session)
        await turns()
        del session
        assert gone() is None

    gc.collect()
    gc.disable()
    try:
        run(main)
    finally:
        gc.enable()
