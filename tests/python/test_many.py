"""Functions of many: what is asked of them, what their answers mean, and what is kept; batches have their own file."""

import asyncio
import dataclasses
import inspect
import logging
import pickle
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest
from origin import Table, turns
from samovar import (
    AsyncCachedMany,
    Cache,
    LoadError,
    NotFound,
    cached_many,
)
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


# --- what reaches the function ----------------------------------------------------------------------------------------


def test_only_the_missing_ids_reach_the_function_and_the_answer_follows_the_order_asked(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        assert list(await users([3, 1, 2])) == [3, 1, 2]
        assert list((await users([2, 9, 1, 8])).items()) == [(2, [2, 1]), (9, [9, 2]), (1, [1, 1]), (8, [8, 2])]
        assert table.calls == [[3, 1, 2], [9, 8]]

    run(main)
    assert (users.stats().hits, users.stats().misses, users.stats().loads) == (2, 5, 5)


def test_no_ids_are_answered_with_nothing_and_nobody_is_called(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)
    run(lambda: expect(users([]), {}))
    assert table.calls == []


async def expect(answer: Any, expected: object) -> None:
    assert await answer == expected


def test_an_id_that_is_asked_for_twice_is_loaded_once_and_counts_once(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)
    run(lambda: expect(users(one for one in (1, 1, 2, 1)), {1: [1, 1], 2: [2, 1]}))
    assert (table.calls, users.stats().misses) == ([[1, 2]], 2)


def test_ids_that_are_equal_are_one_in_a_dict_and_two_entries_in_the_cache(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        assert await users([1, True]) == {1: [1, 1]}
        assert await users([True]) == {True: [True, 2]}
        assert (await asyncio.gather(users([7]), users([7.0])))[1] == {7.0: [7, 3]}
        assert table.calls == [[1], [True], [7]]

    run(main)


def test_the_ids_come_as_a_list_of_the_functions_own(cache: Cache) -> None:
    kinds: list[type] = []

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        kinds.append(type(ids))
        found = {one: one for one in ids}
        ids.clear()  # type: ignore[attr-defined]
        return found

    given = (1, 2)
    run(lambda: expect(users(given), {1: 1, 2: 2}))
    assert kinds == [list]


def test_the_other_arguments_are_part_of_every_ids_key_however_they_are_spelled(cache: Cache) -> None:
    calls: list[tuple[list[int], str, bool]] = []

    @cache.cached_many("10m", items="ids")
    async def names(lang: str, ids: Sequence[int], *, formal: bool = False) -> dict[int, str]:
        calls.append((list(ids), lang, formal))
        return {one: f"{lang}{one}{formal}" for one in ids}

    async def main() -> None:
        assert await names("en", [1, 2]) == {1: "en1False", 2: "en2False"}
        assert await names(ids=[1], lang="en") == {1: "en1False"}
        assert await names("en", formal=False, ids=[2]) == {2: "en2False"}
        assert await names("de", [1], formal=True) == {1: "de1True"}
        assert calls == [([1, 2], "en", False), ([1], "de", True)]

    run(main)


def test_ids_may_have_a_default(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int] = (1, 2), suffix: str = "!") -> dict[int, str]:
        return {one: f"{one}{suffix}" for one in ids}

    run(lambda: expect(users(), {1: "1!", 2: "2!"}))
    run(lambda: expect(users(suffix="?"), {1: "1?", 2: "2?"}))


def test_several_positional_and_keyword_parameters_are_passed_on(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int], *more: str, **named: str) -> dict[int, tuple[Any, ...]]:
        return {one: (more, sorted(named.items())) for one in ids}

    async def main() -> None:
        both = await asyncio.gather(users([1], "a", "b", x="y"), users([1, 2], "a"))
        assert both == [{1: (("a", "b"), [("x", "y")])}, {1: (("a",), []), 2: (("a",), [])}]

    run(main)


def test_equal_arguments_of_any_type_share_a_call(cache: Cache) -> None:
    calls: list[list[int]] = []

    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int], tenant: UUID, *, x: int = 0) -> dict[int, int]:
        calls.append(list(ids))
        return {one: one for one in ids}

    async def main() -> None:
        seven, eight = UUID(int=7), UUID(int=8)
        alike = (users([1], seven), users([2], UUID(int=7)))
        await asyncio.gather(*alike, users([3], eight), users([4], seven, x=1), users([5], seven, x=2))

    run(main)
    assert calls == [[1, 2], [3], [4], [5]]


@pytest.mark.parametrize("template", [True, False])
def test_an_id_shares_its_entry_with_whatever_has_its_name(cache: Cache, template: bool) -> None:
    table = Table()
    key: Any = "user:{ids}" if template else (lambda ids: f"user:{ids}")
    users = cache.cached_many("10m", items="ids", key=key, negative_ttl="1m")(table.load)

    @cache.cached("10m", key="user:{user_id}", negative_ttl="1m")
    async def user(user_id: int) -> list[int]:
        if user_id > 99:
            raise NotFound(user_id)
        return [user_id, 0]

    async def main() -> None:
        await user(1)
        with pytest.raises(NotFound):
            await user(200)
        assert await users([1, 2, 200]) == {1: [1, 0], 2: [2, 1]}
        assert await user(2) == await cache.get("user:2") == [2, 1]
        assert table.calls == [[2]]
        assert users.key([1, 2]) == {1: "user:1", 2: "user:2"}

    run(main)


# --- what an answer means ---------------------------------------------------------------------------------------------


def test_an_id_that_is_absent_is_left_out_and_forgotten_without_a_time_for_it(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        assert await users([200, 1, 300]) == {1: [1, 1]}
        assert await users([200, 1]) == {1: [1, 1]}
        assert table.calls == [[200, 1, 300], [200]]

    run(main)


def test_an_id_that_is_absent_is_remembered_for_its_own_time(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", negative_ttl="1m")(table.load)

    async def main() -> None:
        assert await users([200, 1]) == {1: [1, 1]}
        assert await users([1, 200]) == {1: [1, 1]}
        assert {one: entry.state for one, entry in (await users.peek([1, 200])).items()} == {1: "fresh", 200: "missing"}
        cache_clock.advance("1m")
        assert await users([200]) == {}
        assert table.calls == [[200, 1], [200]]

    run(main)
    assert users.stats().negative_hits == 1


def test_none_is_a_value_and_not_found_is_none(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids", negative_ttl="1m")
    async def users(ids: Sequence[int]) -> dict[int, Any]:
        return {1: None, 2: NotFound, 3: NotFound("gone")}

    async def main() -> None:
        for _ in range(2):
            assert await users([1, 2, 3]) == {1: None}
        assert await users.uncached([1, 2, 3]) == {1: None}

    run(main)


def test_ids_that_were_not_asked_for_are_ignored_and_counted(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        return {one: one for one in range(10)}

    async def main() -> None:
        assert await users([1, 2]) == {1: 1, 2: 2}
        assert list(await users.peek(range(10))) == [1, 2]

    with caplog.at_level(logging.WARNING, "samovar"):
        run(main)
    assert (users.stats().unasked, cache.stats().unasked, users.stats().entries) == (8, 8, 2)
    assert caplog.records == [], "an answer with everything in it is nothing to complain of"
    users.cache_clear()
    assert users.stats().unasked == 0


def test_ids_of_the_wrong_type_are_said_once_in_the_log(cache: Cache, caplog: pytest.LogCaptureFixture) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> dict[Any, int]:
        return {str(one): one for one in ids}

    async def main() -> None:
        assert await users([1, 2]) == {}
        assert await users([1, 2]) == {}

    with caplog.at_level(logging.WARNING, "samovar"):
        run(main)
    assert len(caplog.records) == 1
    message = caplog.records[0].getMessage()
    assert "users was not asked for '1' and left out 1" in message
    assert users.stats().unasked == 4


@pytest.mark.parametrize("answer", [None, [1, 2], "ab", object()])
def test_what_is_no_mapping_is_refused_with_the_functions_name(cache: Cache, answer: object) -> None:
    # aiocache #366: a bulk function without a return fails somewhere inside the decorator.
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> Any:
        return answer

    async def main() -> None:
        with pytest.raises(TypeError, match=r"users must return a mapping of each id to its value.*not ") as caught:
            await users([1, 2])
        assert repr(answer) in str(caught.value)
        assert await users.peek([1, 2]) == {}

    run(main)


def test_any_mapping_will_do(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int]) -> Mapping[int, int]:
        return MappingProxyType({one: one for one in ids})

    run(lambda: expect(users([1]), {1: 1}))


def test_a_raise_fails_that_calls_ids_and_stores_nothing(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        await users([1])
        table.error = error = OSError("down")
        calls = (users([1, 2, 3]), users([3, 4]), users([5]))
        first, *others = await asyncio.gather(*calls, return_exceptions=True)
        assert first is error
        for other in others:
            assert isinstance(other, OSError)
            assert other is not error, "raised in two places, its traceback would grow"
            assert other.args == error.args
        assert table.calls == [[1], [2, 3, 4, 5]]
        assert list(await users.peek(range(9))) == [1]
        table.error = None
        assert list(await users([1, 2, 3, 4])) == [1, 2, 3, 4]
        assert table.calls[2:] == [[2, 3, 4]]

    run(main)
    assert users.stats().load_errors == 4


def test_a_call_that_fails_fails_only_who_asked_for_its_ids_and_the_others_are_stored(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids", max_batch=2)
    async def users(ids: Sequence[int]) -> dict[int, int]:
        await asyncio.sleep(0)
        if 3 in ids:
            raise OSError("down")
        return {one: one for one in ids}

    async def main() -> None:
        both = await asyncio.gather(users([1, 2, 3, 4, 5]), users([1, 5]), return_exceptions=True)
        assert isinstance(both[0], OSError)
        assert both[1] == {1: 1, 5: 5}
        assert list(await users.peek(range(9))) == [1, 2, 5]

    run(main)


def test_not_found_that_is_raised_is_no_answer_about_every_id(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids", negative_ttl="1h")
    async def users(ids: Sequence[int]) -> dict[int, int]:
        raise NotFound("one of them")

    async def main() -> None:
        with pytest.raises(LoadError, match="leave an id out of the mapping") as caught:
            await users([1, 2])
        assert isinstance(caught.value.__cause__, NotFound)

    run(main)
    assert users.stats().entries == 0


def test_a_stop_iteration_ends_nobodys_loop(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids", loaders=[lambda ids: next(iter(()))])
    async def users(ids: Sequence[int]) -> dict[int, int]:
        return {}

    async def main() -> None:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await users([1])

    run(main)


# --- loaders in a chain -----------------------------------------------------------------------------------------------


def chain(cache: Cache, **options: Any) -> tuple[Any, list[tuple[str, list[int]]], dict[str, Any]]:
    """A function and two loaders after it, what they were asked for, and what they answer."""
    asked: list[tuple[str, list[int]]] = []
    answers: dict[str, Any] = {"fast": {}, "slow": {}, "last": {}}

    def answer(name: str, ids: Sequence[int]) -> Any:
        asked.append((name, list(ids)))
        if isinstance(answers[name], Exception):
            raise answers[name]
        return answers[name]

    async def slow(ids: Sequence[int]) -> Any:
        await asyncio.sleep(0)
        return answer("slow", ids)

    def last(ids: Sequence[int]) -> Any:
        return answer("last", ids)

    @cache.cached_many("10m", items="ids", loaders=[slow, last], **options)
    async def fast(ids: Sequence[int]) -> Any:
        return answer("fast", ids)

    return fast, asked, answers


def test_each_loader_gets_only_what_is_still_missing(cache: Cache) -> None:
    fast, asked, answers = chain(cache)
    answers["fast"] = dict.fromkeys(range(7), "fast")
    answers["slow"] = dict.fromkeys(range(7, 10), "slow")
    run(lambda: expect(fast(range(10)), {**answers["fast"], **answers["slow"]}))
    assert asked == [("fast", list(range(10))), ("slow", [7, 8, 9])], "nothing was left to ask the last for"


def test_of_two_loaders_that_return_an_id_the_later_wins(cache: Cache) -> None:
    fast, _, answers = chain(cache)
    answers["fast"] = {1: "fast"}
    answers["slow"] = {1: "slow", 2: "slow", 99: "nobody asked"}
    run(lambda: expect(fast([1, 2, 3]), {1: "slow", 2: "slow"}))
    assert fast.stats().unasked == 1


def test_an_error_stops_the_chain_and_nothing_of_it_is_kept(cache: Cache) -> None:
    fast, asked, answers = chain(cache)
    answers["fast"] = {1: "fast"}
    answers["slow"] = OSError("down")

    async def main() -> None:
        with pytest.raises(OSError, match="down"):
            await fast([1, 2])
        assert await fast.peek([1, 2]) == {}
        assert [name for name, _ in asked] == ["fast", "slow"]

    run(main)


def test_a_loader_that_fails_is_passed_over_if_so_wished_and_said_in_the_log(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    fast, asked, answers = chain(cache, chain_error="skip", negative_ttl="1m")
    answers["fast"] = OSError("down")
    answers["slow"] = {1: "slow"}
    answers["last"] = {2: "last"}
    with caplog.at_level(logging.WARNING, "samovar"):
        run(lambda: expect(fast([1, 2, 3]), {1: "slow", 2: "last"}))
    assert asked == [("fast", [1, 2, 3]), ("slow", [1, 2, 3]), ("last", [2, 3])]
    assert [record.getMessage() for record in caplog.records if "fast failed and was passed over" in record.message]
    run(lambda: expect(fast([1, 2, 3]), {1: "slow", 2: "last"}))
    assert len(asked) == 3, "the last one's word was that 3 is not there"


def test_the_last_ones_error_counts_even_so_for_what_nobody_found(cache: Cache) -> None:
    fast, _, answers = chain(cache, chain_error="skip", negative_ttl="1m")
    answers["fast"] = {1: "fast"}
    answers["last"] = OSError("down")

    async def main() -> None:
        with pytest.raises(OSError, match="down"):
            await fast([1, 2])
        assert list(await fast.peek([1, 2])) == [1], "what is not known to be absent is not remembered as absent"
        assert await fast([1]) == {1: "fast"}

    run(main)


# --- the options that speak of one value ------------------------------------------------------------------------------


def test_callables_are_told_of_one_id_and_its_value(cache: Cache, cache_clock: CacheClock) -> None:
    told: list[tuple[Any, ...]] = []

    def ttl(value: str, ids: int, lang: str) -> int:
        told.append((value, ids, lang))
        return 60 * ids

    @cache.cached_many(items="ids", ttl=ttl, cache_if=lambda value: value != "en3")
    async def users(ids: Sequence[int], lang: str = "en") -> dict[int, str]:
        return {one: f"{lang}{one}" for one in ids}

    async def main() -> None:
        assert await users([1, 2, 3]) == {1: "en1", 2: "en2", 3: "en3"}
        assert told == [("en1", 1, "en"), ("en2", 2, "en")]
        assert list(await users.peek([1, 2, 3])) == [1, 2]
        cache_clock.advance("1m")
        assert list(await users.peek([1, 2, 3])) == [2]

    run(main)


@pytest.mark.parametrize("is_async", [False, True])
def test_a_fallback_answers_for_each_id_that_failed(cache: Cache, is_async: bool) -> None:
    table = Table()

    def plain(one: int, lang: str) -> str:
        return f"no {one} in {lang}"

    async def awaited(one: int, lang: str) -> str:
        async with asyncio.timeout(10):
            await asyncio.sleep(0)
        return plain(one, lang)

    @cache.cached_many("10m", items="ids", fallback=awaited if is_async else plain)
    async def users(ids: Sequence[int], lang: str = "en") -> dict[int, Any]:
        return await table.load(ids)

    async def main() -> None:
        await users([1])
        table.error = OSError("down")
        assert await users([1, 2, 3]) == {1: [1, 1], 2: "no 2 in en", 3: "no 3 in en"}
        assert list(await users.peek([1, 2, 3])) == [1]

    run(main)


def test_a_caller_who_is_cancelled_takes_its_fallbacks_along(cache: Cache) -> None:
    ended: list[str] = []

    async def fallback(one: int) -> Any:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(f"fallback of {one}")

    @cache.cached_many("10m", items="ids", fallback=fallback)
    async def users(ids: Sequence[int]) -> dict[int, Any]:
        raise OSError("down")

    async def main() -> None:
        caller = asyncio.ensure_future(users([1, 2]))
        await turns()
        caller.cancel()
        await turns()
        assert caller.cancelled()
        assert ended == ["fallback of 1", "fallback of 2"]

    run(main)


def test_errors_to_be_kept_are_kept_for_each_id(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids", cache_errors={OSError: "1m"})(table.load)

    async def main() -> None:
        table.error = OSError("down")
        for ids in ([1, 2], [2], [1]):
            with pytest.raises(OSError, match="down"):
                await users(ids)
        assert table.calls == [[1, 2]]

    run(main)


def test_old_values_answer_for_the_ids_that_have_one_when_a_call_fails(cache: Cache, cache_clock: CacheClock) -> None:
    table = Table()
    users = cache.cached_many("1m", items="ids", stale_if_error="1h")(table.load)

    async def main() -> None:
        await users([1, 2])
        cache_clock.advance("61s")
        table.error = OSError("down")
        assert await users([1, 2]) == {1: [1, 1], 2: [2, 1]}
        assert table.calls[1:] == [[1, 2]]
        with pytest.raises(OSError, match="down"):
            await users([1, 3])
        assert table.calls[2:] == [[3]], "1 is not tried again before its time"

    run(main)


@pytest.mark.parametrize("copy", ["auto", "deep"])
def test_every_caller_has_a_dict_and_values_of_its_own(cache: Cache, copy: str) -> None:
    users = cache.cached_many("10m", items="ids", copy=copy)(Table().load)

    async def main() -> None:
        answers = [*await asyncio.gather(users([1, 2]), users([2, 1])), await users([1, 2])]
        for answer in answers:
            answer[1].append("mine")
            del answer[2]
        assert await users([1, 2]) == {1: [1, 1], 2: [2, 1]}

    run(main)


def test_without_copies_all_share_the_value_but_not_the_dict(cache: Cache) -> None:
    users = cache.cached_many("10m", items="ids", copy=False)(Table().load)

    async def main() -> None:
        first, second = await users([1]), await users([1])
        assert first[1] is second[1]
        assert first is not second

    run(main)


def test_a_disabled_cache_asks_for_all_ids_in_one_call_and_stores_nothing(cache: Cache) -> None:
    table, now = Table(), Table()
    users = cache.cached_many("10m", items="ids")(table.load)
    users_now = cache.cached_many("10m", items="ids")(now.load_now)

    async def main() -> None:
        await users([1])
        with cache.disabled():
            assert list(await users([1, 2, 200])) == [1, 2]
            assert list(users_now([1, 2, 200])) == [1, 2]
            table.gate = asyncio.Event()
            leaving = asyncio.ensure_future(users([3, 4]))
            await turns()
            leaving.cancel()
            await turns()
            assert table.cancelled == 1
        assert (table.calls, now.calls) == ([[1], [1, 2, 200], [3, 4]], [[1, 2, 200]])
        assert list(await users.peek([1, 2])) == [1]

    run(main)


# --- what the function has --------------------------------------------------------------------------------------------


def test_its_methods_take_what_the_call_takes(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        assert await users.refresh([1, 2]) == {1: [1, 1], 2: [2, 1]}
        assert await users.refresh([2, 1, 200]) == {2: [2, 2], 1: [1, 2]}
        assert list(await users([1, 2])) == [1, 2]
        assert {one: entry.value for one, entry in (await users.peek([1, 2, 3])).items()} == {1: [1, 2], 2: [2, 2]}
        await users.invalidate([1, 3])
        assert list(await users.peek([1, 2])) == [2]
        await users.set({7: "seven", 8: "eight"})
        assert await users([8, 7]) == {8: "eight", 7: "seven"}
        assert await users.uncached([7, 7, 200]) == {7: [7, 3]}
        await users.invalidate_all()
        assert await users.peek([2, 7]) == {}
        job = users.warm([[1, 2], ([3],), {"ids": [4]}])
        await job
        assert job.success, job.errors
        assert list(await users.peek(range(9))) == [1, 2, 3, 4]

    run(main)
    assert users.key([1]) == {1: f"{Table.load.__module__}.Table.load:i1;t0()"}
    assert (users.cache_info().currsize, users.cache, users.policy.ttl) == (4, cache, "10m")
    users.cache_clear()
    assert users.stats().entries == 0


def test_results_are_set_with_the_other_arguments_as_in_a_call(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(lang: str, ids: Sequence[int], *, formal: bool = False) -> dict[int, str]:
        return {}

    async def main() -> None:
        await users.set({1: "one"}, "en")
        await users.set({2: "two"}, lang="en")
        await users.set({3: "three"}, "en", formal=True)
        assert await users("en", [1, 2, 3]) == {1: "one", 2: "two"}
        assert await users("en", [1, 2, 3], formal=True) == {3: "three"}
        with pytest.raises(TypeError, match="mapping"):
            await users.set([1], "en")  # type: ignore[arg-type]

    run(main)


def test_it_looks_like_the_function_it_wraps(cache: Cache) -> None:
    @cache.cached_many("10m", items="ids")
    async def users(ids: Sequence[int], lang: str = "en") -> dict[int, str]:
        """Users by id."""
        return {}

    assert isinstance(users, AsyncCachedMany)
    assert inspect.iscoroutinefunction(users)
    assert asyncio.iscoroutinefunction(users)
    assert str(inspect.signature(users)).startswith("(ids: ")
    assert (users.__name__, users.__doc__, users.__wrapped__.__name__) == ("users", "Users by id.", "users")
    assert repr(users).startswith("<cached async function ")
    assert pickle.loads(pickle.dumps(module_level)) is module_level


@cached_many("10m", items="ids")
def module_level(ids: Sequence[int]) -> dict[int, int]:
    return {one: one for one in ids}


def test_hits_need_no_event_loop(cache: Cache) -> None:
    users = cache.cached_many("10m", items="ids")(Table().load)
    run(lambda: users([1, 2]))
    with pytest.raises(StopIteration) as stop:
        users([2, 1]).send(None)
    assert stop.value.value == {2: [2, 1], 1: [1, 1]}


def test_a_miss_without_an_event_loop_says_so(cache: Cache) -> None:
    users = cache.cached_many("10m", items="ids")(Table().load)
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        users([1, 2]).send(None)


def test_a_call_that_is_never_awaited_warns_once_and_loads_nothing(cache: Cache) -> None:
    table = Table()
    users = cache.cached_many("10m", items="ids")(table.load)

    async def main() -> None:
        with pytest.warns(RuntimeWarning, match="never awaited") as warned:
            users([1, 2])
        assert len(warned) == 1
        await turns()
        assert table.calls == []

    run(main)


class Shop:
    def __init__(self, city: str) -> None:
        self.city = city
        self.asked: list[list[str]] = []

    @cached_many("10m", items="names")
    async def prices(self, names: Sequence[str]) -> dict[str, str]:
        self.asked.append(list(names))
        return {name: f"{name} in {self.city}" for name in names}

    @classmethod
    @cached_many("10m", items="names")
    async def by_class(cls, names: Sequence[str]) -> dict[str, str]:
        return {name: f"{name} of {cls.__name__}" for name in names}

    @staticmethod
    @cached_many("10m", items="names")
    def plain(names: Sequence[str]) -> dict[str, str]:
        return {name: name for name in names}


def test_methods_have_entries_and_batches_of_their_own_instance(cache: Cache) -> None:
    tula, perm = Shop("Tula"), Shop("Perm")

    async def main() -> None:
        answers = await asyncio.gather(tula.prices(["tea"]), perm.prices(["tea"]), tula.prices(names=["jam"]))
        assert answers == [{"tea": "tea in Tula"}, {"tea": "tea in Perm"}, {"jam": "jam in Tula"}]
        assert (tula.asked, perm.asked) == ([["tea", "jam"]], [["tea"]])
        await tula.prices.invalidate(["tea"])
        assert (list(await tula.prices.peek(["tea"])), list(await perm.prices.peek(["tea"]))) == ([], ["tea"])
        await tula.prices.set({"tea": "dear"})
        assert await Shop.prices(tula, ["tea"]) == {"tea": "dear"}
        assert await tula.prices.uncached(["tea"]) == {"tea": "tea in Tula"}
        await tula.prices.warm([["salt"]])
        assert list(await tula.prices.refresh(["salt"])) == ["salt"]
        assert await Shop.by_class(["tea"]) == await tula.by_class(["tea"]) == {"tea": "tea of Shop"}
        assert Shop.plain(["tea"]) == tula.plain(["tea"]) == {"tea": "tea"}

    Shop.prices.cache_clear()
    run(main)


@dataclasses.dataclass(eq=True, frozen=True)
class Account:
    owner: str
    session: object = dataclasses.field(compare=False)

    @cached_many("10m", items="names")
    async def rows(self, names: Sequence[str]) -> dict[str, object]:
        return dict.fromkeys(names, self.session)


def test_instances_that_are_equal_share_no_call(cache: Cache) -> None:
    first, second = Account("ann", "a"), Account("ann", "b")

    async def main() -> None:
        assert first == second
        answers = await asyncio.gather(first.rows(["x"]), second.rows(["x", "y"]))
        assert answers == [{"x": "a"}, {"x": "b", "y": "b"}]

    run(main)


def test_a_bound_method_behaves_like_a_plain_one(cache: Cache) -> None:
    tula, perm = Shop("Tula"), Shop("Perm")
    assert tula.prices == tula.prices
    assert hash(tula.prices) == hash(tula.prices)
    assert tula.prices != perm.prices
    assert tula.prices != Shop.prices
    assert str(inspect.signature(tula.prices)).startswith("(names: ")
    assert str(inspect.signature(Shop.prices)).startswith("(self, names: ")
    assert inspect.iscoroutinefunction(tula.prices)
    bound: Any = tula.prices
    assert (bound.__self__, bound.__func__) == (tula, Shop.prices)
    assert (bound.__name__, bound.cache) == ("prices", Shop.prices.cache)
    assert "of a" in repr(tula.prices)


def test_the_entries_of_a_method_die_with_their_instance(cache: Cache) -> None:
    shops = [Shop("Omsk")]
    Shop.prices.cache_clear()
    run(lambda: shops[0].prices(["tea", "jam"]))
    assert Shop.prices.stats().entries == 2
    shops.clear()
    assert Shop.prices.stats().entries == 0
