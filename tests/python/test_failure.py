"""What a load that fails or hangs does to an old value, and what is remembered or answered instead."""

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, CircuitOpen, ConfigError, KeyTypeError, LoadTimeout, NotFound, Policy, _bridge
from samovar.resilience import Breaker, Concurrency, Rate, Retry
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


# --- stale-if-error ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("callers", [1, 5])
def test_if_the_load_fails_the_old_value_answers_everyone(cache: Cache, cache_clock: CacheClock, callers: int) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        assert await asyncio.gather(*(load() for _ in range(callers))) == [1] * callers
        assert (origin.calls, load.stats().load_errors) == (2, 1)

    run(main)


def test_a_failed_load_is_not_tried_again_before_its_time_and_never_makes_the_value_fresh(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", retry_after="30s")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        assert [await load() for _ in range(20)] == [1] * 20
        assert origin.calls == 2
        entry = await load.peek()
        assert entry is None or entry.state == "stale"
        cache_clock.advance("29s")
        assert (await load(), origin.calls) == (1, 2)
        cache_clock.advance("1s")
        assert (await load(), origin.calls) == (1, 3)
        origin.error = None
        cache_clock.advance("30s")
        assert (await load(), origin.calls) == (4, 4)

    run(main)


def test_the_window_of_the_last_resort_ends(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="5m", retry_after="1h")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        assert await load() == 1
        cache_clock.advance("5m")
        with pytest.raises(OSError, match="down"):
            await load()

    run(main)


def test_a_refresh_behind_that_fails_is_said_in_the_log_and_gated(
    cache: Cache, cache_clock: CacheClock, caplog: pytest.LogCaptureFixture
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h", retry_after="30s")(origin.load)

    async def main() -> None:
        origin.error = None
        await load.invalidate()
        await load()
        calls = origin.calls
        cache_clock.advance("61s")
        origin.error = OSError("down")
        for _ in range(20):
            assert await load() == calls
            await turns(3)
        assert origin.calls == calls + 1, "a soft mode that loads on each stale read would be an outage of its own"

    _bridge._quiet_until.clear()
    with caplog.at_level(logging.WARNING, "samovar"):
        run(main)
        run(main)
    assert [record.getMessage() for record in caplog.records] == [
        f"the refresh of {Origin.load.__module__}.Origin.load failed, the old value stays in use: OSError('down')"
    ]


def test_a_sync_function_falls_back_to_the_old_value_too(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h")(origin.load_now)
    assert load() == 1
    cache_clock.advance("61s")
    origin.error = OSError("down")
    assert [load() for _ in range(5)] == [1] * 5
    assert origin.calls == 2


def test_dropping_on_error_ends_the_old_value_and_raises(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", on_refresh_error="drop")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        with pytest.raises(OSError, match="down"):
            await load()
        assert await load.peek() is None

    run(main)


def test_an_explicit_refresh_that_fails_raises_and_leaves_the_value(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h")(origin.load)

    async def main() -> None:
        await load()
        origin.error = OSError("down")
        with pytest.raises(OSError, match="down"):
            await load.refresh()
        assert await load() == 1

    run(main)


def test_a_refresh_that_is_not_to_be_kept_ends_the_old_value(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h", cache_if=lambda value: value == 1)(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        assert await load() == 1
        await turns()
        assert (await load.peek(), await load()) == (None, 3)

    run(main)


# --- time-outs --------------------------------------------------------------------------------------------------------


def test_a_caller_who_has_waited_long_enough_gets_the_old_value_and_the_load_goes_on(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", soft_timeout="1s")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(load()) for _ in range(3)]
        await turns()
        cache_clock.advance("1s")
        assert await asyncio.gather(*waiting) == [1] * 3
        assert (origin.calls, origin.cancelled) == (2, 0)
        origin.gate.set()
        await turns()
        assert (await load(), origin.calls) == (2, 2)

    run(main)


def test_patience_without_an_old_value_is_of_no_use(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", soft_timeout="1s")(origin.load)

    async def main() -> None:
        origin.gate = asyncio.Event()
        waiting = asyncio.ensure_future(load())
        await turns()
        cache_clock.advance("10s")
        await turns()
        assert not waiting.done()
        origin.gate.set()
        assert await waiting == 1

    run(main)


def test_patience_for_an_old_value_that_was_removed_meanwhile_is_of_no_use(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", soft_timeout="1s")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        waiting = asyncio.ensure_future(load())
        await turns()
        await load.invalidate()
        cache_clock.advance("10s")
        await turns()
        assert not waiting.done()
        origin.gate.set()
        assert (await waiting, await load.peek()) == (2, None)

    run(main)


def test_what_uses_its_callers_session_ends_when_the_caller_is_answered(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()

    @cache.cached("1m", ignore=["session"], stale_if_error="1h", soft_timeout="1s")
    async def load(session: str) -> int:
        return await origin.load()

    async def main() -> None:
        await load("a")
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        waiting = asyncio.ensure_future(load("b"))
        await turns()
        cache_clock.advance("1s")
        assert await waiting == 1
        await turns()
        assert (origin.calls, origin.cancelled) == (2, 1)

    run(main)


@pytest.mark.parametrize("window", [None, "1h"])
def test_a_load_that_takes_too_long_is_cancelled_and_everyone_answered(
    cache: Cache, cache_clock: CacheClock, window: str | None
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error=window, timeout="5s")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        waiting = [asyncio.ensure_future(load()) for _ in range(3)]
        await turns()
        cache_clock.advance("5s")
        answers = await asyncio.gather(*waiting, return_exceptions=True)
        await turns()
        assert origin.cancelled == 1
        if window:
            assert answers == [1] * 3
            assert (await load(), origin.calls) == (1, 2), "a time-out is a failure: not tried again at once"
        else:
            assert all(isinstance(answer, LoadTimeout) for answer in answers)
            assert "timeout 5 s" in str(answers[0])
            assert "Origin.load" in str(answers[0])

    run(main)


def test_a_refresh_that_takes_too_long_is_stopped_though_nobody_waits_for_it(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h", timeout="5s")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        assert await load() == 1
        await turns()
        cache_clock.advance("5s")
        await turns()
        assert (origin.cancelled, load.explain().waiting) == (1, None)
        assert (await load(), origin.calls) == (1, 2)

    run(main)


def test_time_limits_hold_on_the_real_clock_too(cache: Cache) -> None:
    origin = Origin()
    load = cache.cached("1m", timeout=0.02)(origin.load)

    async def main() -> None:
        origin.gate = asyncio.Event()
        with pytest.raises(LoadTimeout):
            await load()
        assert origin.cancelled == 1
        origin.gate = None
        assert await load() == 2

    run(main)


def test_a_blocked_thread_waits_no_longer_than_the_load_may_take(cache: Cache) -> None:
    inside, leave = threading.Event(), threading.Event()

    @cache.cached("1m", timeout=0.05)
    def load() -> str:
        inside.set()
        leave.wait(10)
        return "late"

    got: list[Any] = []
    leader = threading.Thread(target=lambda: got.append(load()))
    leader.start()
    assert inside.wait(10)
    with pytest.raises(LoadTimeout):
        load()
    leave.set()
    leader.join(10)
    assert (got, load()) == (["late"], "late"), "a thread cannot be stopped: what it brings is kept"


def test_a_load_that_is_done_leaves_no_timer(cache: Cache) -> None:
    load = cache.cached("1m", timeout="1h", soft_timeout="30m", stale_if_error="1h")(Origin().load)

    async def main() -> None:
        await load()
        loop: Any = asyncio.get_running_loop()
        assert [timer for timer in loop._scheduled if not timer.cancelled()] == []

    run(main)


# --- "not found", kept errors, fallbacks ------------------------------------------------------------------------------


def test_not_found_is_remembered_for_its_own_time_and_raised_anew(cache: Cache, cache_clock: CacheClock) -> None:
    calls: list[int] = []

    @cache.cached("1h", negative_ttl="1m")
    async def load(key: int) -> int:
        calls.append(key)
        raise NotFound(f"no {key}")

    async def main() -> None:
        raised = []
        for _ in range(3):
            with pytest.raises(NotFound, match="no 7") as caught:
                await load(7)
            raised.append(caught.value)
        assert (len(calls), len(set(map(id, raised)))) == (1, 3)
        entry = await load.peek(7)
        assert entry is not None
        assert (entry.state, entry.value) == ("missing", None)
        cache_clock.advance("1m")
        with pytest.raises(NotFound):
            await load(7)
        assert len(calls) == 2

    run(main)
    assert (load.stats().negative_hits, load.stats().misses, load.stats().load_errors) == (2, 2, 0)


def test_not_found_that_is_returned_is_returned_again(cache: Cache) -> None:
    calls: list[int] = []

    @cache.cached("1h", negative_ttl="1m")
    def load(key: int) -> Any:
        calls.append(key)
        return NotFound

    assert (load(7), load(7), len(calls)) == (NotFound, NotFound, 1)


@pytest.mark.parametrize("argument", [1, dict], ids=["encoded", "compared by Python"])
def test_not_found_that_is_set_is_one_whatever_its_key(cache: Cache, argument: object) -> None:
    @cache.cached("5m", negative_ttl="1m")
    def load(thing: object) -> object:
        return thing

    load.set(NotFound("none"), argument)
    load(argument)
    assert load.peek(argument).state == "missing"
    assert (load.stats().hits, load.stats().negative_hits) == (0, 1)


def test_without_a_time_for_it_not_found_is_not_remembered(cache: Cache) -> None:
    calls: list[int] = []

    @cache.cached("1h")
    def load(key: int) -> int:
        calls.append(key)
        raise NotFound(key)

    for _ in range(3):
        with pytest.raises(NotFound):
            load(7)
    assert len(calls) == 3


def test_not_found_ends_an_old_value_whatever_its_window(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", negative_ttl="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = NotFound("gone")
        for _ in range(2):
            with pytest.raises(NotFound, match="gone"):
                await load()
        assert origin.calls == 2

    run(main)


@pytest.mark.parametrize("negative_ttl", [None, "1m"])
def test_not_found_behind_is_no_failure_and_not_said_in_the_log(
    cache: Cache, cache_clock: CacheClock, caplog: pytest.LogCaptureFixture, negative_ttl: str | None
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h", negative_ttl=negative_ttl)(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = NotFound("gone")
        assert await load() == 1
        await turns()
        with pytest.raises(NotFound, match="gone"):
            await load()

    _bridge._quiet_until.clear()
    with caplog.at_level(logging.DEBUG, "samovar"):
        run(main)
    assert caplog.messages == []


def test_names_of_what_is_not_there_are_not_listed_and_get_gives_the_default(cache: Cache) -> None:
    @cache.cached("1h", key="user:{n}", negative_ttl="1m")
    def load(n: int) -> int:
        raise NotFound(n)

    with pytest.raises(NotFound):
        load(7)
    before = cache.stats()
    assert cache.sync.get("user:7", "default") == "default"
    assert list(cache.sync.keys()) == []
    assert not cache.sync.contains("user:7")
    assert cache.sync.get_many(["user:7"]) == {}
    after = cache.stats()
    assert (after.negative_hits - before.negative_hits, after.misses - before.misses) == (2, 0)


def test_kept_errors_are_raised_again_as_copies_that_hold_on_to_nothing(cache: Cache, cache_clock: CacheClock) -> None:
    calls: list[int] = []

    class GoneError(Exception):
        pass

    @cache.cached("1h", cache_errors={GoneError: "1m"})
    async def load() -> None:
        calls.append(1)
        try:
            raise KeyError("inner")
        except KeyError:
            raise GoneError("for good") from None

    def depth(error: BaseException) -> int:
        trace, count = error.__traceback__, 0
        while trace is not None:
            trace, count = trace.tb_next, count + 1
        return count

    async def main() -> None:
        depths = set()
        for number in range(1000):
            with pytest.raises(GoneError, match="for good") as caught:
                await load()
            if number:
                depths.add(depth(caught.value))
                assert caught.value.__context__ is None
        assert (len(calls), len(depths)) == (1, 1), "its traceback does not grow"
        cache_clock.advance("1m")
        with pytest.raises(GoneError):
            await load()
        assert len(calls) == 2

    run(main)


def test_an_old_value_is_better_than_a_kept_error(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_if_error="1h", cache_errors={OSError: "1m"})(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        assert [await load(), await load()] == [1, 1]
        assert origin.calls == 2

    run(main)


@pytest.mark.parametrize("fallback", [None, 5, lambda *_: 5])
def test_a_fallback_answers_when_nothing_else_can_and_is_not_kept(cache: Cache, fallback: Any) -> None:
    origin = Origin()
    origin.error = OSError("down")
    load = cache.cached("1m", fallback=fallback)(origin.load)
    expected = None if fallback is None else 5

    async def main() -> None:
        assert await asyncio.gather(load(), load()) == [expected] * 2
        assert await load.peek() is None
        origin.error = None
        assert await load() == 2

    run(main)


def test_a_fallback_may_be_async_and_gets_the_arguments(cache: Cache) -> None:
    async def instead(key: int, factor: int = 2) -> int:
        await asyncio.sleep(0)
        return key * factor

    @cache.cached("1m", fallback=instead)
    async def load(key: int, factor: int = 2) -> int:
        raise OSError

    async def main() -> None:
        assert [await load(7), await load(7, factor=3)] == [14, 21]

    run(main)


def test_not_found_is_no_failure_for_a_fallback(cache: Cache) -> None:
    @cache.cached("1m", fallback=5)
    def load() -> int:
        raise NotFound

    with pytest.raises(NotFound):
        load()


# --- what is known not to be there, said by hand ----------------------------------------------------------------------


def test_what_is_set_missing_is_not_found_by_whoever_would_load_it(cache: Cache, cache_clock: CacheClock) -> None:
    calls: list[int] = []

    @cache.cached("1h", key="user:{n}")
    def load(n: int) -> int:
        calls.append(n)
        return n

    cache.sync.set_missing_many(["user:7", "user:8"], ttl="1m")
    for n in (7, 8):
        with pytest.raises(NotFound, match=f"user:{n}"):
            load(n)
    assert (cache.sync.get("user:7", "default"), calls, list(cache.sync.keys())) == ("default", [], [])
    cache_clock.advance("1m")
    assert (load(7), calls) == (7, [7])
    cache.sync.set_missing("user:7", "1m")
    with pytest.raises(NotFound):
        load(7)
    cache.sync.set("user:7", 70)
    assert load(7) == 70


def test_missing_for_how_long_has_to_be_said_by_somebody(cache: Cache, cache_clock: CacheClock) -> None:
    async def main() -> None:
        with pytest.raises(ConfigError, match=r"ttl.*negative_ttl"):
            await cache.set_missing("a")
        patient = Cache(name="patient", policy=Policy(negative_ttl="1m"))
        await patient.set_missing("a")
        entry = await patient.peek("a")
        assert entry is not None
        assert entry.state == "missing"

    run(main)


def test_a_name_that_cannot_be_leaves_none_of_several_missing(cache: Cache) -> None:
    keys: Any = ["a", 5]
    with pytest.raises(KeyTypeError):
        cache.sync.set_missing_many(keys, ttl="1m")
    assert cache.sync.peek("a") is None


# --- loaders that are protected ---------------------------------------------------------------------------------------


def test_with_the_breaker_open_the_old_value_answers_and_no_call_reaches_the_origin_but_probes(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin, breaker = Origin(), Breaker(minimum_calls=3, window="1m", open_for="10s")
    load = cache.cached("1s", stale_if_error="1h", retry_after="1s", breaker=breaker)(origin.load)

    async def main() -> None:
        assert await load() == 1
        origin.error = OSError("down")
        for _ in range(100):
            cache_clock.advance("1s")
            assert await load() == 1
        assert breaker.state == "open"
        # One that was well, then failures until the rate is over a half, then a probe every ten seconds.
        assert 10 <= origin.calls <= 15
        origin.error = None
        cache_clock.advance("10s")
        await load()
        cache_clock.advance("2s")
        assert await load() > 1
        assert breaker.state == "closed"

    run(main)


def test_an_open_breaker_is_an_error_where_nothing_old_is_left(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    origin.error = OSError("down")
    load = cache.cached("1m", breaker=Breaker(minimum_calls=1))(origin.load)

    async def main() -> None:
        with pytest.raises(OSError, match="down"):
            await load(1)
        with pytest.raises(CircuitOpen) as caught:
            await load(2)
        assert (origin.calls, caught.value.retry_after) == (1, 10.0)

    run(main)


def test_a_hanging_origin_opens_the_breaker_through_the_time_out(cache: Cache, cache_clock: CacheClock) -> None:
    origin, breaker = Origin(), Breaker(minimum_calls=2)
    load = cache.cached("1s", stale_if_error="1h", retry_after="1s", timeout="1s", breaker=breaker)(origin.load)

    async def main() -> None:
        assert await load() == 1
        origin.gate = asyncio.Event()
        for _ in range(5):
            cache_clock.advance("2s")
            asking = asyncio.ensure_future(load())
            await turns()
            cache_clock.advance("1s")
            assert await asking == 1
            await turns()
        assert breaker.state == "open"
        assert origin.calls < 6

    run(main)


def test_a_retry_is_part_of_the_load(cache: Cache) -> None:
    calls: list[int] = []

    @cache.cached("1m", retry=Retry(3, sleep=lambda _: None))
    def load() -> int:
        calls.append(1)
        if len(calls) < 3:
            raise OSError
        return len(calls)

    assert (load(), load(), load.stats().loads, load.stats().load_errors) == (3, 3, 1, 0)
    assert load.__wrapped__ is not None
    assert load.uncached() == 4


def test_a_policy_protects_all_functions_of_a_cache_and_get_or_set(cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=1)
    cache = Cache(name="guarded", policy=Policy(ttl="1m", breaker=breaker))

    async def fails() -> int:
        raise OSError("down")

    async def main() -> None:
        with pytest.raises(OSError, match="down"):
            # Not async itself, but what it returns is awaited.
            await cache.get_or_set("a", lambda: fails())
        with pytest.raises(CircuitOpen):
            await cache.get_or_set("b", fails)
        with pytest.raises(CircuitOpen):
            await cache.cached(fails)()

    run(main)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retry": "often"}, "retry: 'often'; give Retry"),
        ({"breaker": 5}, "breaker: 5; give Breaker"),
        ({"rate": 5}, "rate: 5; give Rate"),
        ({"concurrency": 0}, "concurrency: 0; give"),
    ],
)
def test_what_cannot_protect_is_refused_by_name(cache: Cache, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        cache.cached("1m", **options)(Origin().load)


def test_what_would_hold_up_a_load_is_explained(cache: Cache, cache_clock: CacheClock) -> None:
    breaker = Breaker(name="database", minimum_calls=1, open_for="5s")
    seen: list[tuple[str, ...]] = []

    @cache.cached(retry=1, breaker=breaker, rate=Rate("1/m", burst=2))
    @Concurrency(1, name="table")
    def load(number: int) -> int:
        seen.append(load.explain(number).gates)
        if number:
            raise OSError("down")
        return number

    assert load.explain(0).gates == ()
    load(0)
    assert load.explain(1).gates == ()
    with pytest.raises(OSError, match="down"):
        load(1)
    held = "<Concurrency 'table': 1 of 1 run, 0 of 1000 wait>"
    rate = "<Rate 1/m, burst 2: 0 available>"
    assert seen == [(held,), (rate, held)]
    explained = load.explain(1)
    assert explained.gates == ("<Breaker 'database': open, opened 1 times>", rate)
    assert f"a load would be held up by <Breaker 'database': open, opened 1 times>, {rate}" in str(explained)
    cache_clock.advance("1m")
    assert load.explain(1).gates == ()
