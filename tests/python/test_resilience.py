"""Retry and breaker, and all that protects a loader together, around functions that are async or not."""

import asyncio
import contextlib
import copy
import functools
import gc
import inspect
import pickle
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import AsyncMock

import pytest
import trio
from origin import turns
from samovar import Cache, CircuitOpen, ConfigError, LoadTimeout, NotFound, RateLimited, cached
from samovar._protect import SCOPES
from samovar.resilience import Breaker, Concurrency, Guard, Rate, Retry, protect
from samovar.testing import CacheClock
from scripted import Scripted, awaited, both, call, fails, in_threads

pytestmark = pytest.mark.usefixtures("cache_clock")


# --- retry ------------------------------------------------------------------------------------------------------------


@both
def test_what_fails_is_tried_again_after_a_random_pause_below_a_ceiling_that_doubles(kind: str) -> None:
    seen = []
    for _ in range(50):
        pauses: list[float] = []
        origin = Scripted(kind, OSError(), OSError(), OSError(), "at last")
        assert call(Retry(4, base="100ms", cap="300ms", sleep=pauses.append)(origin.load)) == "at last"
        assert origin.calls == 4
        assert all(0 <= pause <= ceiling for pause, ceiling in zip(pauses, (0.1, 0.2, 0.3), strict=True))
        seen += pauses
    assert len(set(seen)) == len(seen)
    assert max(seen) > 0.2


@both
def test_when_no_attempt_is_left_the_last_error_itself_is_raised(kind: str) -> None:
    last = OSError("third")
    origin = Scripted(kind, OSError("first"), OSError("second"), last)
    retry = Retry(3, sleep=lambda _: None)
    with pytest.raises(OSError, match="third") as caught:
        call(retry(origin.load))
    assert caught.value is last
    assert (origin.calls, retry.stats()) == (3, (1, 2, 1))


@both
@pytest.mark.parametrize(
    ("on", "error", "calls"),
    [
        (OSError, ValueError(), 1),
        (OSError, ConnectionError(), 2),
        ((KeyError, OSError), OSError(), 2),
        (lambda error: "busy" in str(error), OSError("busy"), 2),
        (lambda error: "busy" in str(error), OSError("gone"), 1),
        (Exception, NotFound(), 1),
        (LookupError, NotFound(), 1),
        (Exception, RateLimited("elsewhere"), 1),
        (Exception, KeyboardInterrupt(), 1),
    ],
)
def test_only_errors_that_count_are_tried_again(kind: str, on: Any, error: BaseException, calls: int) -> None:
    origin = Scripted(kind, error, error, error)
    with pytest.raises(type(error)):
        call(Retry(2, on=on, sleep=lambda _: None)(origin.load))
    assert origin.calls == calls


@both
def test_no_pause_goes_beyond_the_timeout(kind: str, cache_clock: CacheClock) -> None:
    for _ in range(30):
        began = cache_clock.time()
        origin = Scripted(kind, *[OSError(str(n)) for n in range(100)])
        with pytest.raises(OSError, match=r"\d") as caught:
            call(Retry(100, base=1, cap=1, timeout=5, sleep=cache_clock.advance)(origin.load))
        assert cache_clock.time() - began < 5
        assert 5 <= origin.calls < 100
        assert str(caught.value) == str(origin.calls - 1)


def test_an_attempt_that_runs_at_the_timeout_is_cancelled(cache_clock: CacheClock) -> None:
    ended: list[BaseException] = []

    @Retry(3, timeout="2s")
    async def hang() -> None:
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            ended.append(error)
            await turns()
            raise

    async def main() -> None:
        odd: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: odd.append(context))
        task = asyncio.ensure_future(hang())
        await turns()
        assert [scope.timeout.when() for scope in SCOPES] == [None], "the clock stands still"
        cache_clock.advance("1999ms")
        await turns()
        assert not ended
        cache_clock.advance("1ms")
        await turns(4)
        assert [type(error) for error in ended] == [asyncio.CancelledError]
        cache_clock.advance("1ms")
        with pytest.raises(LoadTimeout, match=r"hang took longer than its timeout 2 s"):
            await task
        assert not ended[1:]
        assert not odd

    asyncio.run(main())
    assert not SCOPES


def test_the_timeout_comes_in_real_time_while_the_clock_runs() -> None:
    from samovar import _core

    _core._freeze_clock(False)
    try:

        @Retry(1, timeout=0.001)
        async def hang() -> None:
            await asyncio.Event().wait()

        with pytest.raises(LoadTimeout):
            asyncio.run(hang())
    finally:
        _core._freeze_clock(True)


@both
def test_a_time_out_of_the_function_itself_is_an_error_like_others(kind: str) -> None:
    origin = Scripted(kind, TimeoutError("its own"))
    with pytest.raises(TimeoutError, match="its own"):
        call(Retry(1, timeout="1m")(origin.load))


def test_a_function_that_is_not_async_may_end_late_but_is_not_tried_again(cache_clock: CacheClock) -> None:
    origin = Scripted("sync", OSError("late"), "never asked")
    origin.during = lambda: cache_clock.advance("3s")
    fails(Retry(5, timeout="2s", sleep=lambda _: None)(origin.load))
    assert (origin.calls, call(Retry(5, timeout="2s")(Scripted("sync", "late, but there").load))) == (
        1,
        "late, but there",
    )


@pytest.mark.parametrize("where", ["pause", "attempt"])
def test_a_cancelled_caller_is_not_tried_again(where: str) -> None:
    calls = []

    async def forever(_: float = 0) -> None:
        await asyncio.Event().wait()

    @Retry(5, sleep=forever)
    async def load() -> None:
        calls.append(1)
        if where == "attempt":
            await forever()
        raise OSError

    async def main() -> None:
        task = asyncio.ensure_future(load())
        await turns()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert len(calls) == 1


def test_an_error_is_freed_with_its_last_reader() -> None:
    class Odd(Exception):  # noqa: N818
        pass

    def fail() -> None:
        raise Odd

    def counts(error: Exception) -> bool:
        seen.append(weakref.ref(error))
        return True

    seen: list[weakref.ref[Exception]] = []
    retry = Retry(2, on=counts, sleep=lambda _: None)
    load = protect(fail, retry=retry, breaker=True, rate="9/s", concurrency=1)
    gc.collect()
    gc.disable()
    try:
        with contextlib.suppress(Odd):
            load()
        assert [error() for error in seen] == [None, None], "there is a circle that only the collector can free"
    finally:
        gc.enable()


# --- breaker ----------------------------------------------------------------------------------------------------------


@both
def test_an_open_breaker_calls_nothing_until_a_probe_closes_it(kind: str, cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=4, open_for="10s", name="database")
    origin = Scripted(kind, OSError(), "fine", OSError(), "fine")
    load = breaker(origin.load)
    fails(load)
    assert call(load) == "fine"
    assert (breaker.state, str(breaker)) == ("closed", "<Breaker 'database': closed, 1 of 2 calls failed>")
    fails(load)
    call(load)
    assert (breaker.state, origin.calls) == ("open", 4)
    cache_clock.advance("9999ms")
    with pytest.raises(CircuitOpen, match=r"breaker of database is open.*again in 0\.001 s") as caught:
        call(load)
    assert caught.value.retry_after == 0.001
    assert origin.calls == 4
    cache_clock.advance("1ms")
    assert breaker.state == "half_open"
    assert (call(load), breaker.state, breaker.stats()) == ("done", "closed", (0, 0, 0, 1, 1))


@both
def test_a_probe_that_fails_opens_it_again(kind: str, cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=1, open_for="10s")
    load = breaker(Scripted(kind, OSError(), OSError()).load)
    fails(load)
    cache_clock.advance("10s")
    fails(load)
    assert (breaker.state, breaker.stats().opened) == ("open", 2)
    fails(load, error=CircuitOpen)


def test_a_probe_that_hangs_keeps_the_others_out_for_its_time_only(cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=1, open_for="10s", probe_timeout="5s")
    gate = asyncio.Event()

    @breaker
    async def load(hangs: bool) -> str:
        if hangs:
            await gate.wait()
        return "fine"

    async def main() -> None:
        breaker(Scripted("sync", OSError()).load)  # another function, the same breaker
        with pytest.raises(OSError):  # noqa: PT011
            breaker(Scripted("sync", OSError()).load)()
        cache_clock.advance("10s")
        probe = asyncio.ensure_future(load(True))
        await turns()
        with pytest.raises(CircuitOpen, match=r"waits for its probes.*5\.000 s"):
            await load(False)
        cache_clock.advance("5s")
        assert breaker.state == "open"
        cache_clock.advance("10s")
        assert (await load(False), breaker.state) == ("fine", "closed")
        gate.set()
        assert await probe == "fine"

    asyncio.run(main())


@both
def test_functions_share_the_breaker_that_decorates_them(kind: str) -> None:
    breaker = Breaker(minimum_calls=1)
    one, other = Scripted(kind, OSError()), Scripted(kind)
    first, second = breaker(one.load), breaker(other.load)
    fails(first)
    fails(second, error=CircuitOpen)
    assert other.calls == 0


@both
def test_not_found_and_errors_that_do_not_count_are_answers(kind: str) -> None:
    breaker = Breaker(minimum_calls=1, on=OSError)
    load = breaker(Scripted(kind, NotFound(), ValueError(), KeyError()).load)
    for error in (NotFound, ValueError, KeyError):
        fails(load, error=error)
    assert (breaker.state, breaker.stats()) == ("closed", (3, 0, 0, 0, 0))


def test_a_cancelled_call_says_nothing_unless_its_time_was_used_up(cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=1)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def cancelled_after(time: str) -> str:
        task = asyncio.ensure_future(protect(hang, breaker=breaker, timeout="10s")())
        await turns()
        cache_clock.advance(time)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return breaker.state

    async def main() -> None:
        assert await cancelled_after("8s") == "closed"
        assert breaker.stats().calls == 0
        assert await cancelled_after("9500ms") == "open"

    asyncio.run(main())


def test_a_load_that_times_out_has_failed(cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=1)

    async def hang() -> None:
        await asyncio.Event().wait()

    async def main() -> None:
        task = asyncio.ensure_future(protect(hang, retry=3, breaker=breaker, timeout="10s")())
        await turns()
        cache_clock.advance("10s")
        with pytest.raises(LoadTimeout):
            await task
        assert (breaker.state, breaker.stats().opened) == ("open", 1)

    asyncio.run(main())


@both
def test_slow_calls_open_it_and_waiting_before_the_call_is_not_slow(kind: str, cache_clock: CacheClock) -> None:
    breaker = Breaker(minimum_calls=2, slow_call="1s", slow_rate=1.0)
    origin = Scripted(kind)
    load = protect(origin.load, breaker=breaker, rate=Rate("1/5s", burst=1, wait="1m", sleep=cache_clock.advance))
    for _ in range(3):
        call(load)
    assert breaker.stats()[:3] == (3, 0, 0)
    breaker.reset()
    origin.during = lambda: cache_clock.advance("1s")
    call(load)
    assert (breaker.stats()[:3], breaker.state) == ((1, 0, 1), "closed")
    call(load)
    assert breaker.state == "open"


@both
def test_an_attempt_that_reached_nothing_is_not_slow(kind: str, cache_clock: CacheClock) -> None:
    breaker, origin = Breaker(slow_call="1s"), Scripted(kind, OSError())
    load = protect(
        origin.load, retry=Retry(2, base=9, cap=9, sleep=lambda _: cache_clock.advance(9)), breaker=breaker, rate="1/h"
    )
    fails(load, error=RateLimited)
    assert breaker.stats()[:3] == (1, 1, 0)


def test_threads_count_in_one_breaker() -> None:
    breaker = Breaker(failure_rate=1.0, minimum_calls=10**6)
    loads = [breaker(Scripted("sync").load), breaker(Scripted("sync", *[OSError() for _ in range(500)]).load)]

    def many(load: Callable[[], object]) -> None:
        for _ in range(500):
            with contextlib.suppress(OSError):
                load()

    in_threads([functools.partial(many, load) for load in loads for _ in range(2)])
    assert breaker.stats()[:2] == (2000, 500)


# --- together ---------------------------------------------------------------------------------------------------------


@both
def test_from_outside_to_inside_it_is_retry_breaker_rate_concurrency(kind: str, cache_clock: CacheClock) -> None:
    origin = Scripted(kind, *[OSError("down")] * 9)
    breaker, rate, limit = Breaker(minimum_calls=3, open_for="1h"), Rate("1/h", burst=9), Concurrency(1)
    held: list[int] = []
    retry = Retry(9, sleep=lambda _: held.append(limit.stats().running))
    origin.during = lambda: held.append(limit.stats().running)
    load = protect(origin.load, retry=retry, breaker=breaker, rate=rate, concurrency=limit)
    with pytest.raises(CircuitOpen) as caught:
        call(load)
    assert held == [1, 0, 1, 0, 1, 0], "a permit is held while the function runs, and not in a pause"
    assert isinstance(caught.value.__cause__, OSError)
    assert (origin.calls, rate.stats().allowed) == (3, 3), (
        "each attempt counts in the breaker; refused, it costs no rate"
    )
    assert retry.stats() == (1, 3, 0), "the breaker ends the attempts"


@both
def test_guards_are_decorators_that_can_be_stacked(kind: str) -> None:
    breaker = Breaker(minimum_calls=1)
    limit = Rate("1/h", burst=1)
    load = Retry(3)(breaker(limit(Scripted(kind).load)))
    assert call(load) == "done"
    fails(load, error=RateLimited)
    assert (breaker.state, breaker.stats().calls) == ("closed", 1), "who is refused further in says nothing"


@both
def test_a_protected_function_stays_what_it_was(kind: str) -> None:
    def plain(self: object, number: int, *, more: int = 1) -> int:
        """Add."""
        return number + more

    async def awaits(self: object, number: int, *, more: int = 1) -> int:
        """Add."""
        return number + more

    function = awaits if kind == "async" else plain
    load = protect(function, retry=2, breaker=True, rate="9/s", concurrency=3)
    assert inspect.iscoroutinefunction(load) == (kind == "async")
    assert (load.__name__, load.__doc__, load.__wrapped__) == (function.__name__, "Add.", function)  # type: ignore[attr-defined]
    assert inspect.signature(load) == inspect.signature(function)
    holder = type("Holder", (), {"load": load})()
    assert call(lambda: holder.load(1, more=2)) == 3


def test_a_loader_without_protection_is_itself() -> None:
    def load() -> None: ...

    assert protect(load, retry=None, breaker=False, rate=None, concurrency=None, timeout=None) is load


def test_partials_callable_objects_mocks_and_cached_functions_can_be_protected(cache: Cache) -> None:
    class Loader:
        async def __call__(self, n: int) -> int:
            return n

    async def add(a: int, n: int) -> int:
        return a + n

    functions = [Loader(), functools.partial(add, 0), AsyncMock(return_value=5), cached("5m")(add.__get__(0))]

    async def main() -> None:
        for function in functions:
            assert await Retry()(function)(5) == 5

    asyncio.run(main())


@both
def test_a_cached_function_can_have_a_protected_loader(cache: Cache, kind: str) -> None:
    origin = Scripted(kind, OSError(), "fresh")
    load = cache.cached("5m")(protect(origin.load, retry=Retry(2, sleep=lambda _: None), breaker=True))
    assert [call(load), call(load)] == ["fresh", "fresh"]
    assert (origin.calls, load.stats().loads) == (2, 1)


def test_what_needs_no_asyncio_works_on_other_loops() -> None:
    origin = Scripted("async", OSError("first"))
    guards = {
        "retry": Retry(2, sleep=trio.sleep),
        "breaker": Breaker(),
        "rate": Rate("5/s"),
        "concurrency": Concurrency(1),
    }
    assert trio.run(protect(origin.load, **guards)) == "done"  # type: ignore[arg-type]


ODD: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "generator": (lambda: Retry()(generator), TypeError, "generator cannot be protected.*return a list"),
    "class": (lambda: Retry()(Scripted), TypeError, "only a function"),
    "number": (lambda: Retry()(5), TypeError, "only a function"),  # type: ignore[arg-type]
    "staticmethod": (lambda: Retry()(staticmethod(len)), ConfigError, "put @staticmethod above"),
    "coroutine": (lambda: Retry()(lambda: awaited(None))(), TypeError, "not async but returns a coroutine"),  # type: ignore[arg-type]
    "async sleep": (
        lambda: Retry(sleep=asyncio.sleep)(Scripted("sync").load),
        ConfigError,
        "sleep: .*load is not async; give a function that sleeps in its thread",
    ),
    "attempts": (lambda: Retry(0), ConfigError, "attempts: 0; give"),
    "base": (lambda: Retry(base=-1), ConfigError, "base: -1; give seconds above zero"),
    "base text": (lambda: Retry(base="soon"), ConfigError, 'base: "soon"; give'),
    "base inf": (lambda: Retry(base=float("inf")), ConfigError, "base: inf; give"),
    "cap": (lambda: Retry(cap=0.01), ConfigError, "cap: 10ms; give at least base"),
    "timeout": (lambda: Retry(timeout=0), ConfigError, "timeout: 0; give"),
    "on": (lambda: Retry(on=KeyboardInterrupt), ConfigError, "on: .*KeyboardInterrupt.*below Exception"),  # type: ignore[arg-type]
    "on nothing": (lambda: Retry(on=()), ConfigError, r"on: \(\); give"),
    "on async": (lambda: Breaker(on=awaited), ConfigError, "on: .*not async"),  # type: ignore[arg-type]
    "sleep": (lambda: Retry(sleep=5), ConfigError, "sleep: 5; give a function of seconds"),  # type: ignore[arg-type]
    "failure_rate": (lambda: Breaker(2), ConfigError, "failure_rate: 2; give a share"),
    "slow_rate": (lambda: Breaker(slow_rate=True), ConfigError, "slow_rate: True; give a share"),
    "window": (lambda: Breaker(window=0.001), ConfigError, "window: 1ms; give 10 ms"),
    "minimum_calls": (lambda: Breaker(minimum_calls=0), ConfigError, "minimum_calls: 0; give"),
    "probes": (lambda: Breaker(probes=True), ConfigError, "probes: True; give"),
    "probe_timeout": (lambda: Breaker(probe_timeout=None), ConfigError, "probe_timeout: None; give"),  # type: ignore[arg-type]
    "name": (lambda: Breaker(name=""), ConfigError, "name: ''; give a text"),
    "rate": (lambda: Rate("5"), ConfigError, 'rate: "5"; give calls and time'),
    "rate number": (lambda: Rate(5), ConfigError, "rate: 5; give calls and time"),  # type: ignore[arg-type]
    "burst": (lambda: Rate("10000/s", burst=1), ConfigError, "burst: 1; give 10 or more"),
    "wait": (lambda: Rate("5/s", wait=-1), ConfigError, "wait: -1; give"),
    "limit": (lambda: Concurrency(0), ConfigError, "concurrency: 0; give"),
    "queue": (lambda: Concurrency(1, queue=-1), ConfigError, "queue: -1; give"),
    "protect retry": (lambda: protect(len, retry="3"), ConfigError, "retry: '3'; give Retry"),  # type: ignore[arg-type]
    "protect rate": (lambda: protect(len, rate=5), ConfigError, r"rate: 5; give Rate"),  # type: ignore[arg-type]
    "protect concurrency": (lambda: protect(len, concurrency=True), ConfigError, "concurrency: True; give"),
    "protect breaker": (lambda: protect(len, breaker=Retry()), ConfigError, "breaker: Retry.*give Breaker"),  # type: ignore[arg-type]
    "protect timeout": (lambda: protect(len, timeout="x"), ConfigError, 'timeout: "x"; give'),
}


def generator() -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(("make", "error", "message"), ODD.values(), ids=ODD.keys())
def test_what_cannot_be_is_refused_with_its_value_and_the_cure(
    make: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("error", [CircuitOpen("open", 1.5), RateLimited("used up", 1.5)])
def test_errors_keep_their_time_when_they_are_copied_and_pickled(error: CircuitOpen | RateLimited) -> None:
    for other in (copy.copy(error), pickle.loads(pickle.dumps(error))):
        assert (type(other), str(other), other.retry_after) == (type(error), str(error), 1.5)


@pytest.mark.parametrize(
    "guard", [Retry(), Breaker(), Rate("5/s"), Concurrency(3)], ids=lambda guard: type(guard).__name__
)
def test_a_guard_says_what_it_is(guard: Guard) -> None:
    assert type(guard).__name__ in repr(guard)


def test_importing_samovar_does_not_import_it() -> None:
    code = "import sys, samovar; print([name for name in sys.modules if 'resilience' in name or '_protect' in name])"
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
