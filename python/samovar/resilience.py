"""What protects a loader from its users, and them from it: retries, a circuit breaker, a rate and a concurrency limit.

Each is an object that decorates functions, async or not, and holds state that can be looked at. One object may decorate
any number of functions: they share its breaker, its rate, its permits. They work without a cache too.

>>> from samovar.resilience import Breaker, Retry, protect
>>> database = Breaker(name="database", failure_rate=0.5, open_for="5s")
>>> @Retry(attempts=3)
... @database
... def load(user_id: int) -> str:
...     return f"user {user_id}"
>>> load(7), database.state
('user 7', 'closed')
"""

from __future__ import annotations

import _thread
import contextlib
import functools
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, NamedTuple, ParamSpec, TypeVar, cast

from samovar import _core
from samovar._cached import is_async, name_of
from samovar._exceptions import CircuitOpen, NotFound, RateLimited
from samovar._options import is_name, positive, refuse
from samovar._protect import protected, would_block_its_loop

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timedelta
    from typing import Literal, TypeAlias

    from samovar._protect import Call, Inner, Sleep, Tell

    Seconds: TypeAlias = float | timedelta | str
    Errors: TypeAlias = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]

P = ParamSpec("P")
R = TypeVar("R")

__all__ = [
    "Breaker",
    "BreakerStats",
    "Concurrency",
    "ConcurrencyStats",
    "Rate",
    "RateStats",
    "Retry",
    "RetryStats",
    "protect",
]

#: Errors that say that nothing was called.
NOT_CALLED = (CircuitOpen, RateLimited)


class Guard(ABC):
    """What the four have in common: they decorate functions."""

    _sleep: Sleep | None = None

    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]:
        """Protect a function, async or not; it stays what it was.

        Raises:
            ConfigError: It is below ``@classmethod`` or ``@staticmethod``, or not async while `sleep` is.
            TypeError: It is a generator, a class, or no function at all.
        """
        return around(function, [self], None)

    @abstractmethod
    async def _around(self, inner: Inner, call: Call) -> Any:
        """One layer of a call."""

    def _is_shut(self) -> bool:
        """True if a call that came now would be refused, or have to wait."""
        return False


class RetryStats(NamedTuple):
    """Counters of a :class:`Retry` since it was made."""

    #: Calls, however many attempts each needed.
    calls: int
    #: Attempts beside the first ones.
    retries: int
    #: Calls that ended with an error that would have been tried again: no attempt or time was left.
    given_up: int


class Retry(Guard):
    """Calls again after an error, with a random pause in between.

    A pause is uniform between zero and a ceiling that begins at `base` and doubles with every attempt, up to `cap`:
    full jitter (M. Brooker, "Exponential Backoff and Jitter", AWS Architecture Blog, 2015). No pause goes beyond
    `timeout`: if the next attempt could not begin in time, the last error is raised at once.

    Never tried again: `NotFound`, which is an answer, and `CircuitOpen` and `RateLimited`, since nothing was called.
    When they follow an error of the function, that is their ``__cause__``. A cancellation ends the call at once.

    Args:
        attempts: At most this many calls, the first one included.
        base: The longest first pause: seconds, a timedelta, a text such as ``"100ms"``.
        cap: The longest pause of all.
        timeout: For the whole call, attempts and pauses. An async attempt that runs when it is over is cancelled and
            the call ends with `LoadTimeout`; one that is not async cannot be stopped, but is not tried again.
            ``None``: as long as it takes.
        on: Which errors to try again after: an exception class, several, or a function of the exception.
        sleep: Called with the seconds of a pause, and awaited if it is async, instead of ``asyncio.sleep`` or
            ``time.sleep``. For tests, and for other event loops.

    Raises:
        ConfigError: An option cannot be.

    Example:
        >>> pauses = []
        >>> @Retry(attempts=3, base=1, on=OSError, sleep=pauses.append)
        ... def load() -> str:
        ...     if len(pauses) < 2:
        ...         raise OSError("busy")
        ...     return "done"
        >>> load()
        'done'
        >>> pauses[0] <= 1 and pauses[1] <= 2
        True
    """

    def __init__(
        self,
        attempts: int = 3,
        *,
        base: Seconds = 0.1,
        cap: Seconds = 10,
        timeout: Seconds | None = None,
        on: Errors = Exception,
        sleep: Sleep | None = None,
    ) -> None:
        self._sleep = check_sleep(sleep)
        self._core = _core.RetryCore(positive("attempts", attempts), base, cap)
        self._timeout = None if timeout is None else _core._duration_millis(timeout, "timeout")
        self._counts = counts(on)
        self._shown = f"Retry(attempts={attempts}, base={base!r}, cap={cap!r}, timeout={timeout!r})"

    async def _around(self, inner: Inner, call: Call) -> Any:
        self._core.begin()
        call.limit(self._timeout)
        failed = 0
        before: Exception | None = None
        try:
            while True:
                try:
                    return await inner(call)
                except NOT_CALLED as error:
                    if before is not None:
                        raise error from before
                    raise
                except Exception as error:
                    failed += 1
                    pause = self._core.pause(failed, call.deadline) if self._counts(error) else None
                    if pause is None:
                        raise
                    before = error
                await call.pause(pause, self._sleep)
        finally:
            # An error's traceback leads to this frame: nobody should have to look for the circle.
            before = None

    def stats(self) -> RetryStats:
        """The counters."""
        return RetryStats(*self._core.counted())

    def __repr__(self) -> str:
        return self._shown


class BreakerStats(NamedTuple):
    """Counters of a :class:`Breaker`: the first three of the window, the others since it was made."""

    #: Calls in the window that ended.
    calls: int
    #: Those that failed.
    failures: int
    #: Those that were slow, failed or not.
    slow: int
    #: Calls that were refused.
    refused: int
    #: How often it opened.
    opened: int


class Breaker(Guard):
    """Stops calling what keeps failing or is slow, for a while, and then tries it with a few probes.

    *Closed*, it lets all calls through and counts how they end in a sliding window of time. When enough of them failed
    or were slow it *opens*: calls are refused with `CircuitOpen`. After `open_for` it is *half-open*: `probes` calls
    are let through. If all of them go well it closes; if one fails or is slow, it opens again.

    `NotFound` is an answer and no failure. A call that was refused further in, or was cancelled, says nothing, unless
    it was slow by then or had used up its `timeout`.

    Args:
        failure_rate: Opens when this share of the calls failed, above 0 up to 1.
        slow_call: A call is slow from this duration on: seconds, a timedelta, a text. Time spent waiting for a rate
            or concurrency limit that `protect` puts further in does not count. ``None``: none is.
        slow_rate: Opens when this share of the calls was slow.
        window: How far back it looks; it moves on in tenths.
        minimum_calls: Fewer calls in the window decide nothing.
        open_for: How long calls are refused.
        probes: How many calls are let through then.
        probe_timeout: A probe that has not ended by then counts as failed, so that one that hangs keeps nobody out.
        on: Which errors count as failures: an exception class, several, or a function of the exception.
        name: For messages; left out: the function's.

    Raises:
        ConfigError: An option cannot be.
    """

    def __init__(
        self,
        failure_rate: float = 0.5,
        *,
        slow_call: Seconds | None = None,
        slow_rate: float = 0.5,
        window: Seconds = 30,
        minimum_calls: int = 10,
        open_for: Seconds = 10,
        probes: int = 1,
        probe_timeout: Seconds = 10,
        on: Errors = Exception,
        name: str | None = None,
    ) -> None:
        self.name = check_name(name)
        self._core = _core.BreakerCore(
            failure_rate,
            slow_rate,
            slow_call,
            window,
            positive("minimum_calls", minimum_calls),
            open_for,
            positive("probes", probes),
            probe_timeout,
        )
        self._counts = counts(on)

    async def _around(self, inner: Inner, call: Call) -> Any:
        try:
            permit = self._core.ask(self.name or call.name)
        finally:
            self._tell(call)
        call.began = None
        answered: bool | None = None
        try:
            result = await inner(call)
            answered = True
            return result
        except NOT_CALLED:
            raise
        except Exception as error:
            if call.began is not None:
                answered = not self._counts(error)
            raise
        finally:
            if answered is None and call.began is not None and call.used_its_time():
                answered = False
            self._core.report(permit, answered, call.took())
            self._tell(call)

    def _tell(self, call: Call) -> None:
        """Tell whoever listens if its state is another than before."""
        if call.tell is not None and (state := self._core.turned()) is not None:
            call.tell(call.name, self, state)

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """``"closed"``, ``"open"`` or ``"half_open"``."""
        return self._core.state()

    def _is_shut(self) -> bool:
        return self.state == "open"

    def reset(self) -> None:
        """Close it, whatever it was, and forget what it counted in its window."""
        self._core.reset()

    def stats(self) -> BreakerStats:
        """The counters."""
        return BreakerStats(*self._core.counted())

    def __repr__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        stats = self.stats()
        said = f"{stats.failures} of {stats.calls} calls failed" if stats.calls else f"opened {stats.opened} times"
        return f"<Breaker{name}: {self.state}, {said}>"


class RateStats(NamedTuple):
    """Counters of a :class:`Rate`: the first of now, the others since it was made."""

    #: Calls that could start at once.
    available: int
    #: Calls that were let through.
    allowed: int
    #: Calls that were refused.
    refused: int


class Rate(Guard):
    """Lets only so many calls start in a time, spread evenly.

    In any stretch of time t at most ``burst + rate × t`` calls start: the generic cell rate algorithm (ITU-T I.371),
    which has no windows at whose edge twice as many could. Who comes too early waits its turn, if that is within
    `wait`, or is refused with `RateLimited`, whose ``retry_after`` says when to come back.

    Args:
        rate: Calls and time: ``"100/s"``, ``"5/m"``, ``"20/10s"``.
        burst: How many may start at once after a pause. Left out: ten, or the calls of the rate if they are fewer; for
            rates above a thousand a second as many as ten milliseconds bring.
        wait: How long a call may wait for its turn; 0: not at all.
        sleep: Called with the seconds of a wait, and awaited if it is async, instead of ``asyncio.sleep`` or
            ``time.sleep``.
        name: For messages; left out: the function's.

    Raises:
        ConfigError: An option cannot be.
    """

    def __init__(
        self,
        rate: str,
        *,
        burst: int | None = None,
        wait: Seconds = 0,
        sleep: Sleep | None = None,
        name: str | None = None,
    ) -> None:
        self.name, self._sleep = check_name(name), check_sleep(sleep)
        self._core = _core.RateCore(rate, None if burst is None else positive("burst", burst), wait)
        self._rate = rate

    async def _around(self, inner: Inner, call: Call) -> Any:
        turn = self._core.take(self.name or call.name, call.deadline)
        if turn is not None:
            try:
                await call.pause(turn.wait, self._sleep)
            except BaseException:
                self._core.give_back(turn)
                raise
        return await inner(call)

    def _is_shut(self) -> bool:
        return self._core.available()[0] == 0

    def stats(self) -> RateStats:
        """The counters."""
        return RateStats(self._core.available()[0], *self._core.counted())

    def __repr__(self) -> str:
        available, burst = self._core.available()
        return f"<Rate {self._rate}, burst {burst}: {available} available>"


class ConcurrencyStats(NamedTuple):
    """Counters of a :class:`Concurrency`: the first two of now, the last since it was made."""

    #: Calls that run.
    running: int
    #: Calls that wait for one of them to end.
    waiting: int
    #: Calls that were refused.
    refused: int


class Concurrency(Guard):
    """Lets only so many calls run at once; the others wait in line, and beyond the line's end they are refused.

    Who waits longest is next, in whatever thread or event loop it waits; a caller who is cancelled leaves its place
    and its permit to the others. Refused with `RateLimited` is who finds the queue full, and a call that is not async
    and would wait on a thread whose event loop others need to end. Refused with `LoadCycle` is who would wait for ever:
    all permits are held by calls it is part of, or by some that wait for it, through whatever loads, limits and
    threads. A task that a call starts is part of it, whether it awaits it or not; one that is not meant to be gets a
    context of its own: ``asyncio.create_task(..., context=contextvars.Context())``.

    Args:
        limit: Calls at once.
        queue: How many may wait; 0: none.
        name: For messages; left out: the function's.

    Raises:
        ConfigError: An option cannot be.
    """

    def __init__(self, limit: int, *, queue: int = 1000, name: str | None = None) -> None:
        self.name = check_name(name)
        state, limit, queue = _core._state, positive("concurrency", limit), positive("queue", queue, least=0)
        self._core = _core.ConcurrencyCore(state, limit, queue)
        self._limit, self._queue = limit, queue
        #: Whether tasks have ever called through it.
        self._awaited = False

    async def _around(self, inner: Inner, call: Call) -> Any:
        self._awaited = self._awaited or call.awaits
        ticket = self._core.try_enter(_thread.get_ident())
        if ticket is None:
            ticket = await self._in_line(call)
        try:
            within = ticket.begin()
            try:
                return await inner(call)
            finally:
                # Whoever ends a call from another context leaves the one it began in as it is: nobody goes on there.
                with contextlib.suppress(ValueError):
                    within.var.reset(within)
        finally:
            self._core.leave(ticket)

    async def _in_line(self, call: Call) -> _core.CallTicket:
        name = self.name or call.name
        if self._awaited and would_block_its_loop(call):
            raise RateLimited(
                f"the concurrency limit of {name} is used up, and waiting here would block the event loop that tasks "
                "which share it may need; nothing was called, call it from another thread or make it async"
            )
        waiter = call.waiter()
        ticket, runs = self._core.enter(_thread.get_ident(), not call.awaits, waiter.wake, name)
        if not runs:
            try:
                await waiter.wait()
            except BaseException:
                self._core.leave(ticket)
                raise
        return ticket

    def _is_shut(self) -> bool:
        return self._core.counted()[0] >= self._limit

    def stats(self) -> ConcurrencyStats:
        """The counters."""
        return ConcurrencyStats(*self._core.counted())

    def __repr__(self) -> str:
        running, waiting, _ = self._core.counted()
        name = f" {self.name!r}" if self.name else ""
        return f"<Concurrency{name}: {running} of {self._limit} run, {waiting} of {self._queue} wait>"


def protect(
    loader: Callable[P, R],
    /,
    *,
    retry: Retry | int | bool | None = None,
    breaker: Breaker | bool | None = None,
    rate: Rate | str | None = None,
    concurrency: Concurrency | int | None = None,
    timeout: Seconds | None = None,
) -> Callable[P, R]:
    """A loader that is called through these, async if it was async and not if it was not; itself if none is given.

    From outside to inside: retry, breaker, rate, concurrency, as in Resilience4j. Each attempt asks the breaker anew
    and counts in it, so retries cannot hammer what is down; an open breaker uses up no rate; and nobody holds a permit
    while it pauses or waits for its turn. What is slow is measured at the loader itself, without the waiting before
    it.

    Args:
        loader: A function, async or not.
        retry: A `Retry`, a number of attempts, or True for ``Retry()``.
        breaker: A `Breaker`, or True for one of this loader's own.
        rate: A `Rate`, or its text: ``"100/s"``.
        concurrency: A `Concurrency`, or its limit.
        timeout: For all of it, as the `timeout` of `Retry`: no pause goes beyond it, an async loader is cancelled with
            `LoadTimeout`, and who is stopped after using up nine tenths of it, by whomever, counts as failed in the
            breaker.

    Raises:
        ConfigError: An option cannot be.
        TypeError: A generator, a class, or no function at all.

    The function that is returned raises, beside what the loader raises, `CircuitOpen`, `RateLimited`, `LoadTimeout`,
    and `LoadCycle` if it waits for a permit that only its own end can free.
    """
    return protect_and_tell(loader, (retry, breaker, rate, concurrency), timeout, None)


def protect_and_tell(
    loader: Callable[P, R],
    given: tuple[Any, Any, Any, Any],
    timeout: Seconds | None,
    tell: Tell | None,
) -> Callable[P, R]:
    """As :func:`protect`; `tell` hears of each turn of the breaker that a call of this loader brings about or finds."""
    guards = guards_of(dict(zip(("retry", "breaker", "rate", "concurrency"), given, strict=True)))
    limit = None if timeout is None else _core._duration_millis(timeout, "timeout")
    layers = [guard for guard in guards.values() if guard is not None]
    return around(loader, layers, limit, tell) if layers or limit is not None else loader


def guards_of(options: Mapping[str, Any]) -> dict[str, Guard | None]:
    """The guards that the options of `protect` mean, the outermost first; None for what is not wanted."""
    meant: dict[str, tuple[Any, type, str]] = {
        "retry": (Retry, int, "give Retry(...), a number of attempts, or None"),
        "breaker": (Breaker, bool, "give Breaker(...), True for one of its own, or None"),
        "rate": (Rate, str, "give Rate(...), a text such as '100/s', or None"),
        "concurrency": (Concurrency, int, "give Concurrency(...), a number of calls, or None"),
    }
    return {option: guard(option, options.get(option), *meant[option]) for option in meant}


def guard(option: str, given: Any, kind: Any, short: type, cure: str) -> Guard | None:
    """An option as the guard it means: itself, one made of the only value it needs, or True for one that needs none."""
    if given is None or given is False:
        return None
    if isinstance(given, kind):
        made: Guard = given
    elif given is True and kind in (Retry, Breaker):
        made = kind()
    elif isinstance(given, short) and not isinstance(given, bool):
        made = kind(positive(option, given) if short is int else given)
    else:
        raise refuse(option, given, cure)
    return made


def around(
    function: Callable[P, R], guards: Sequence[Guard], timeout: int | None, tell: Tell | None = None
) -> Callable[P, R]:
    """A function within guards, the outermost first."""
    for sleep in (guard._sleep for guard in guards):  # pyright: ignore[reportPrivateUsage]
        if sleep is not None and is_async(sleep) and not is_async(function):
            cure = f"{name_of(function)} is not async; give a function that sleeps in its thread, such as time.sleep"
            raise refuse("sleep", sleep, cure)
    layers = [guard._around for guard in guards]  # pyright: ignore[reportPrivateUsage]
    made: Any = protected(function, layers, timeout, tell)
    made._gates = functools.partial(shut, guards, getattr(function, "_gates", tuple))
    return cast("Callable[P, R]", made)


def shut(guards: Sequence[Guard], within: Callable[[], tuple[str, ...]]) -> tuple[str, ...]:
    """Those that a call would not get past now, and those within them; for ``explain``."""
    return (*(repr(guard) for guard in guards if guard._is_shut()), *within())  # pyright: ignore[reportPrivateUsage]


def counts(on: Any) -> Callable[[Exception], bool]:
    """Which errors count: classes as a function. `NotFound` is an answer, unless a function says otherwise."""
    kinds: Any = on if isinstance(on, tuple) else (on,)  # pyright: ignore[reportUnknownVariableType]
    if kinds and all(isinstance(kind, type) and issubclass(kind, Exception) for kind in kinds):
        return lambda error: isinstance(error, kinds) and not isinstance(error, NotFound)
    if isinstance(on, type | tuple) or not callable(on) or is_async(on):
        cure = "give exception classes below Exception, or a function of the exception that is not async"
        raise refuse("on", on, cure)  # pyright: ignore[reportUnknownArgumentType]
    return lambda error: bool(on(error))


def check_name(name: str | None) -> str | None:
    """A name, or none."""
    if name is not None and (not is_name(name) or not name):
        raise refuse("name", name, "give a text that is not empty, or leave it out")
    return name


def check_sleep(sleep: Sleep | None) -> Sleep | None:
    """A function of seconds, or none."""
    if sleep is not None and not callable(sleep):
        raise refuse("sleep", sleep, "give a function of seconds, such as time.sleep or asyncio.sleep")
    return sleep
