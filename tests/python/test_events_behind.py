"""What listeners hear of the work around a cache: its loaders' circuit breakers, and warming."""

import asyncio
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, CircuitOpen
from samovar.resilience import Breaker
from samovar.testing import CacheClock
from watching import Diary


def breaker() -> Breaker:
    return Breaker(minimum_calls=2, open_for="10s")


def failing() -> Origin:
    origin = Origin()
    origin.error = OSError("down")
    return origin


def turned(diary: Diary) -> list[str | None]:
    return [event.reason for event in diary.take()]


def test_a_breaker_tells_when_it_opens_is_tried_and_closes(cache: Cache, cache_clock: CacheClock) -> None:
    guard, origin = breaker(), failing()
    shop = cache.namespace("shop")
    load = shop.cached(breaker=guard)(origin.load_now)
    diary, beside = Diary(cache, "breaker"), Diary(cache.namespace("other"), "breaker")
    for n in range(2):
        with pytest.raises(OSError, match="down"):
            load(n)
    (opened,) = diary.take()
    assert (opened.reason, opened.value, opened.namespace, opened.key) == ("open", guard, "shop", None)
    assert opened.function is not None
    assert opened.function.endswith("Origin.load_now")
    with pytest.raises(CircuitOpen):
        load(3)
    assert turned(diary) == []
    cache_clock.advance("10s")
    with pytest.raises(OSError, match="down"):
        load(4)
    assert turned(diary) == ["half_open", "open"]
    cache_clock.advance("10s")
    origin.error = None
    load(5)
    assert turned(diary) == ["half_open", "closed"]
    assert beside.take() == []


def test_a_turn_that_somebody_else_saw_first_is_told_all_the_same(cache: Cache, cache_clock: CacheClock) -> None:
    guard, origin = breaker(), failing()
    load = cache.cached(breaker=guard)(origin.load_now)
    for n in range(2):
        with pytest.raises(OSError, match="down"):
            load(n)
    diary = Diary(cache, "breaker")
    cache_clock.advance("10s")
    assert guard.state == "half_open"
    guard.reset()
    origin.error = None
    load(1)
    assert turned(diary) == ["closed"]


def test_a_breaker_of_a_factory_tells_too(cache: Cache) -> None:
    guard, origin, diary = breaker(), failing(), Diary(cache, "breaker")

    async def main() -> None:
        for _ in range(2):
            with pytest.raises(OSError, match="down"):
                await cache.get_or_set("a", origin.load, breaker=guard)

    asyncio.run(main())
    assert turned(diary) == ["open"]


def test_a_breaker_follows_into_another_policy(cache: Cache) -> None:
    guard, origin, diary = breaker(), failing(), Diary(cache, "breaker")
    load = cache.cached(origin.load_now)
    cache.configure(policy=cache.policy.over(type(cache.policy)(breaker=guard)))
    for n in range(2):
        with pytest.raises(OSError, match="down"):
            load(n)
    assert turned(diary) == ["open"]


def test_a_listener_that_raises_stops_no_call(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.unraisablehook", lambda report: None)
    guard, origin = breaker(), failing()
    load = cache.cached(breaker=guard)(origin.load_now)
    cache.on("breaker", lambda event: 1 / 0)
    for n in range(2):
        with pytest.raises(OSError, match="down"):
            load(n)
    assert guard.state == "open"


@pytest.mark.parametrize("fails", [False, True])
def test_warming_tells_how_it_went(cache: Cache, fails: bool) -> None:
    diary, origin = Diary(cache, "warm_completed"), failing() if fails else Origin()

    async def main() -> Any:
        return await cache.cached(origin.load).warm(range(3))

    jobs = [asyncio.run(main()), cache.cached(origin.load_now).warm(range(3))]
    told = diary.take()
    assert [(event.value, event.reason) for event in told] == [(job, "errors" if fails else "success") for job in jobs]
    assert all(event.seconds is not None and event.seconds >= 0 for event in told)
    assert [str(event.function).rpartition(".")[2] for event in told] == ["load", "load_now"]


def test_warming_an_async_function_without_a_loop_says_what_to_do(cache: Cache) -> None:
    @cache.cached("1m")
    async def load(n: int) -> int:
        return n

    with pytest.raises(
        RuntimeError, match=r"load\.warm\(\) loads on an event loop, and none runs here; call it in async"
    ):
        load.warm([1])


def test_warming_that_is_cancelled_says_so(cache: Cache) -> None:
    diary, origin = Diary(cache, "warm_completed"), Origin()

    async def main() -> None:
        origin.gate = asyncio.Event()
        job = cache.cached(origin.load).warm(range(3))
        await turns()
        job.cancel()
        await turns()

    asyncio.run(main())
    assert [event.reason for event in diary.take()] == ["cancelled"]
