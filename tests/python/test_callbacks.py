"""What the user's callables do wrongly inside a load: whoever asked hears of it, and nothing is lost or left behind."""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from origin import Origin, Table, turns
from samovar import Cache, ConfigError, KeyTypeError, Memory, _bridge
from samovar.testing import CacheClock


class Callback:
    """A callable of any arguments that says what it is told to say, or raises it."""

    def __init__(self, says: object) -> None:
        self.says = says

    def __call__(self, *_: object, **named: object) -> object:
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class NoTruth:
    def __bool__(self) -> bool:
        raise ZeroDivisionError("no truth")


#: The option, what it says while all is well, what it says then, and what the caller hears.
WRONG: dict[str, tuple[str, object, object, type[Exception], str]] = {
    "ttl that raises": ("ttl", 60, ZeroDivisionError("boom"), ZeroDivisionError, "boom"),
    "ttl of a wrong type": ("ttl", 60, "soon", ConfigError, r"result of ttl= of .*soon"),
    "negative ttl": ("ttl", 60, -1, ConfigError, r"result of ttl= of .*-1"),
    "predicate that raises": ("cache_if", True, ZeroDivisionError("boom"), ZeroDivisionError, "boom"),
    "predicate without truth": ("cache_if", True, NoTruth(), ZeroDivisionError, "no truth"),
}
wrong = pytest.mark.parametrize(("option", "well", "badly", "error", "message"), WRONG.values(), ids=WRONG.keys())
both = pytest.mark.parametrize("kind", ["async", "sync"])


async def answer(load: Callable[..., Any], *args: object) -> Any:
    answered = load(*args)
    return await answered if inspect.isawaitable(answered) else answered


@both
@wrong
def test_a_callback_that_goes_wrong_is_heard_of_and_nothing_is_stored(
    cache: Cache, kind: str, option: str, well: object, badly: object, error: type[Exception], message: str
) -> None:
    origin, callback = Origin(), Callback(badly)
    options: Any = {"ttl": 60, option: callback}
    load = cache.cached(**options)(origin.load if kind == "async" else origin.load_now)

    async def main() -> None:
        for calls in (1, 2):
            with pytest.raises(error, match=message):
                await answer(load)
            assert (origin.calls, load.stats().entries, load.stats().load_errors) == (calls, 0, calls)
        if kind == "async":
            heard = await asyncio.gather(*(load() for _ in range(3)), return_exceptions=True)
            assert [type(one) for one in heard] == [error] * 3
        callback.says = well
        calls = origin.calls
        assert [await answer(load), await answer(load)] == [calls + 1] * 2

    asyncio.run(main())


@both
@wrong
def test_a_callback_that_goes_wrong_costs_nobody_the_old_value(
    cache: Cache,
    cache_clock: CacheClock,
    kind: str,
    option: str,
    well: object,
    badly: object,
    error: type[Exception],
    message: str,
) -> None:
    origin, callback = Origin(), Callback(well)
    options: Any = {"ttl": 60, option: callback}
    load = cache.cached(stale_if_error="1h", **options)(origin.load if kind == "async" else origin.load_now)

    async def main() -> None:
        await answer(load)
        cache_clock.advance("61s")
        callback.says = badly
        assert [await answer(load) for _ in range(3)] == [1] * 3
        assert (origin.calls, load.stats().load_errors) == (2, 1), "a failure: not tried again at once"
        callback.says = well
        cache_clock.advance("30s")
        assert [await answer(load), await answer(load)] == [3, 3]

    asyncio.run(main())


@wrong
def test_a_callback_that_goes_wrong_behind_is_said_in_the_log(
    cache: Cache,
    cache_clock: CacheClock,
    caplog: pytest.LogCaptureFixture,
    option: str,
    well: object,
    badly: object,
    error: type[Exception],
    message: str,
) -> None:
    origin, callback = Origin(), Callback(well)
    options: Any = {"ttl": 60, option: callback}
    load = cache.cached(stale_while_revalidate="1h", **options)(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        callback.says = badly
        for _ in range(3):
            assert await load() == 1
            await turns()
        assert origin.calls == 2

    _bridge._quiet_until.clear()
    with caplog.at_level(logging.WARNING, "samovar"):
        asyncio.run(main())
    (said,) = caplog.messages
    assert "the refresh of" in said
    assert error.__name__ in said


@both
@wrong
def test_a_fallback_answers_for_a_callback_that_goes_wrong(
    cache: Cache, kind: str, option: str, well: object, badly: object, error: type[Exception], message: str
) -> None:
    origin = Origin()
    options: Any = {"ttl": 60, option: Callback(badly)}
    load = cache.cached(fallback="instead", **options)(origin.load if kind == "async" else origin.load_now)
    assert asyncio.run(answer(load)) == "instead"
    assert load.stats().entries == 0


@both
def test_a_fallback_that_raises_is_heard_of_with_what_it_was_to_answer_for(cache: Cache, kind: str) -> None:
    origin = Origin()
    origin.error = OSError("down")
    load = cache.cached("5m", fallback=Callback(ZeroDivisionError("boom")))(
        origin.load if kind == "async" else origin.load_now
    )
    with pytest.raises(ZeroDivisionError, match="boom"):
        asyncio.run(answer(load))
    assert load.stats().entries == 0


def test_a_fallback_that_nobody_could_await_is_refused(cache: Cache) -> None:
    async def instead() -> int:
        return 1

    with pytest.raises(ConfigError, match=r"fallback: .*instead.* not async"):
        cache.cached("5m", fallback=instead)(Origin().load_now)
    cache.cached("5m", fallback=instead)(Origin().load)


async def down(a: int, b: int = 2, *, c: int = 3) -> int:
    raise OSError("down")


FITS: list[Any] = [5, lambda *args, **named: 5, lambda a, b=0, c=0: 5, Callback(5), lambda a, b=2, *, c=3: 5]
MISFITS: list[Any] = [lambda: 5, lambda a: 5, lambda a, b, c: 5, lambda a, b=2, c=3, *, d: 5]


@pytest.mark.parametrize("fallback", FITS)
def test_a_fallback_is_called_as_the_function_was(cache: Cache, fallback: Any) -> None:
    class Shop:
        @cache.cached("5m", fallback=lambda self, a: a)
        async def load(self, a: int) -> int:
            raise OSError("down")

    load = cache.cached("5m", fallback=fallback)(down)
    assert asyncio.run(gathered(load(1), load(1, 2, c=4), Shop().load(5))) == [5, 5, 5]


@pytest.mark.parametrize("fallback", MISFITS)
def test_a_fallback_that_could_not_be_called_is_refused_before_it_is_needed(cache: Cache, fallback: Any) -> None:
    with pytest.raises(ConfigError, match=r"called as down was, .*\(a: int, b: int = 2, \*, c: int = 3\)"):
        cache.cached("5m", fallback=fallback)(down)


async def gathered(*answers: Awaitable[Any]) -> list[Any]:
    return await asyncio.gather(*answers)


@both
@pytest.mark.parametrize(
    ("badly", "error"),
    [(ZeroDivisionError("boom"), ZeroDivisionError), (object(), KeyTypeError)],
    ids=["raises", "says"],
)
def test_a_key_function_that_goes_wrong_is_heard_of_and_loads_nothing(
    cache: Cache, kind: str, badly: object, error: type[Exception]
) -> None:
    origin, callback = Origin(), Callback("well")
    load = cache.cached("5m", key=lambda n: callback(n))(load_one(origin, kind))

    async def main() -> None:
        assert await answer(load, 1) == 1
        callback.says = badly
        with pytest.raises(error):
            await answer(load, 1)
        with pytest.raises(error):
            await answer(load.invalidate, 1)
        callback.says = "well"
        assert (await answer(load, 1), origin.calls) == (1, 1)

    asyncio.run(main())


def load_one(origin: Origin, kind: str) -> Any:
    async def load(n: int) -> int:
        return await origin.load()

    def load_now(n: int) -> int:
        return origin.load_now()

    return load if kind == "async" else load_now


@pytest.mark.parametrize("when", ["called", "awaited"])
def test_a_loader_that_raises_behind_even_before_it_is_awaited_leaves_the_lease_to_the_next(
    cache: Cache, cache_clock: CacheClock, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    """FusionCache #647: a factory that raised before it had returned its task kept the lock of its key for ever."""

    async def later() -> int:
        raise ZeroDivisionError("boom")

    def at_once() -> Any:
        raise ZeroDivisionError("boom")

    async def get(factory: Callable[[], Any]) -> Any:
        return await cache.get_or_set("key", factory, "1m", stale_while_revalidate="1h", retry_after="10s")

    async def main() -> None:
        await get(lambda: 1)
        cache_clock.advance("61s")
        for _ in range(3):
            assert await get(at_once if when == "called" else later) == 1
            await turns()
        cache_clock.advance("10s")
        assert await get(lambda: 2) == 1
        await turns()
        assert await get(later) == 2

    _bridge._quiet_until.clear()
    with caplog.at_level(logging.WARNING, "samovar"):
        asyncio.run(main())
    (said,) = caplog.messages
    assert "ZeroDivisionError('boom')" in said


def test_a_refresh_of_its_own_that_raises_leaves_the_old_value_and_is_said_in_the_log(
    cache: Cache, cache_clock: CacheClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def anew(n: int) -> int:
        raise ZeroDivisionError("boom")

    load = cache.cached("1m", stale_while_revalidate="1h", refresh=anew)(load_one(Origin(), "async"))

    async def main() -> None:
        await load(1)
        cache_clock.advance("61s")
        for _ in range(3):
            assert await load(1) == 1
            await turns()

    _bridge._quiet_until.clear()
    with caplog.at_level(logging.WARNING, "samovar"):
        asyncio.run(main())
    (said,) = caplog.messages
    assert "ZeroDivisionError('boom')" in said


@both
@pytest.mark.parametrize("badly", [ZeroDivisionError("boom"), -1, "heavy"], ids=["raises", "negative", "a text"])
def test_a_weigher_that_goes_wrong_is_heard_of_and_nothing_is_stored(kind: str, badly: object) -> None:
    weigher: Any = Callback(badly)
    cache, origin = Cache(name="weighed", memory=Memory(max_bytes="1MB", weigher=weigher)), Origin()
    load = cache.cached("5m")(origin.load if kind == "async" else origin.load_now)

    async def main() -> None:
        for _ in range(2):
            with pytest.raises((ZeroDivisionError, TypeError, ValueError, ConfigError)):
                await answer(load)
        weigher.says = 7
        assert await answer(load) == 3
        assert cache.stats().bytes == 7

    asyncio.run(main())


@both
@wrong
def test_a_callback_that_goes_wrong_for_one_id_is_heard_of_and_the_others_are_stored(
    cache: Cache, kind: str, option: str, well: object, badly: object, error: type[Exception], message: str
) -> None:
    table = Table()
    bad, good = Callback(badly), Callback(well)
    options: Any = {"ttl": 60, option: lambda value, *_: bad() if value[0] == 2 else good()}
    load = cache.cached_many(items="ids", **options)(many(table, kind))

    async def main() -> None:
        with pytest.raises(error, match=message):
            await answer(load, [1, 2, 3])
        assert list(await answer(load.peek, [1, 2, 3])) == [1, 3]

    asyncio.run(main())


def many(table: Table, kind: str) -> Any:
    async def load(ids: list[int]) -> Any:
        return await table.load(ids)

    def load_now(ids: list[int]) -> Any:
        return table.load_now(ids)

    return load if kind == "async" else load_now
