"""What a user says about writing behind, and is told of writes that were lost. Checked when made; it writes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from samovar import _core
from samovar._cached import is_async
from samovar._exceptions import ConfigError, WritesLost
from samovar._options import positive, refuse, unknown

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from samovar.resilience import Retry

    Span = float | timedelta | str
    GivenTime = Span | None


class LostWrite(NamedTuple):
    """A write that never reached the source, as `on_lost` and :class:`samovar.WritesLost` tell of it."""

    key: str
    #: What was to be written; None for a delete.
    value: Any
    #: True if the key was to be deleted.
    deleted: bool
    #: How often the writer was called with it and failed.
    attempts: int
    #: What the writer raised last; None if it was not asked, or did not answer in time.
    error: BaseException | None


OPTIONS = (
    "writer",
    "deleter",
    "delay",
    "max_batch",
    "max_pending",
    "retry",
    "max_wait",
    "close_timeout",
    "on_lost",
)


class WriteBehind:
    """A writer that is called behind, with many keys at a time: ``Cache(writer=WriteBehind(save_many))``.

    A write is in the cache at once and goes to the source within `delay`. Of each key only the last value is written,
    in order: a newer one waits until the older one is there. Until then the pending value answers every read of its
    key, whatever leaves the memory; when it is written, the key is invalidated, so that the next read asks the source.

    What fails is tried again. While the source is away that costs few calls. A value that the source refuses takes no
    other with it: what failed together is tried again in halves. A batch whose end nobody knows is written again, so
    writing a value twice must be as good as once.

    What is pending when the process ends is written then by a writer that is not async, also in a worker of
    `multiprocessing`; whatever else ends a process past ``atexit``, such as ``os._exit`` or a worker pool's
    ``terminate()``, loses it: call ``cache.sync.flush()`` or ``cache.sync.close()`` before.

    Args:
        writer: Called with a dict of keys and values; async or not. Raising means that none of them is known to be
            written.
        deleter: Called with a list of keys to delete; async or not. Without one `delete` is refused.
        delay: A write waits at most this long for others to go with it: seconds, a timedelta, a text such as ``"1s"``.
        max_batch: At most this many keys a call.
        max_pending: At most this many keys wait; then whoever writes another waits too.
        retry: After which pauses to try again, which errors to, and how often before a value is lost: a
            `samovar.resilience.Retry`, a number of attempts, or True. ``None``: again and again, with pauses of up to
            30 s. The pauses are the queue's own, so leave out `timeout` and `sleep`.
        max_wait: Who finds the queue full waits at most this long, then gets `WriteQueueFull`.
        close_timeout: Closing the cache takes at most this long to write what is pending; the rest is lost and named.
        on_lost: Called with each `LostWrite`; not async. Without it, losses are in the log, and closing raises them.

    Raises:
        ConfigError: Naming the option, its value and the cure.
    """

    __slots__ = ("_retry", "is_passing", *OPTIONS)

    def __init__(
        self,
        writer: Callable[[dict[str, Any]], object],
        deleter: Callable[[list[str]], object] | None = None,
        *,
        delay: Span = "1s",
        max_batch: int = 100,
        max_pending: int = 10_000,
        retry: Retry | int | bool | None = None,
        max_wait: Span = "5s",
        close_timeout: Span = "10s",
        on_lost: Callable[[LostWrite], object] | None = None,
        **others: object,
    ) -> None:
        if others:
            raise unknown(others, OPTIONS, "WriteBehind")
        self.writer = check_function("writer", writer, "give a function of a dict of keys and values")
        self.deleter = None if deleter is None else check_function("deleter", deleter, "give a function of a list")
        self.delay = check_time("delay", delay)
        self.max_batch = positive("max_batch", max_batch)
        self.max_pending = positive("max_pending", max_pending)
        self.max_wait = check_time("max_wait", max_wait)
        self.close_timeout = check_time("close_timeout", close_timeout)
        self.on_lost = None if on_lost is None else check_callback("on_lost", on_lost)
        self.retry = retry
        self._retry: Any = None
        #: Whether another try may help after an error.
        self.is_passing: Callable[[Exception], bool] = always
        if retry is not None and retry is not False:
            self._retry, self.is_passing = check_retry(retry)

    def __repr__(self) -> str:
        return f"WriteBehind({self.writer!r}, delay={self.delay!r}, max_batch={self.max_batch})"


def no_deleter(key: str) -> ConfigError:
    """The error about a delete that has nowhere to go."""
    return ConfigError(
        f"cannot delete {key!r}: the cache has a writer= and no deleter=, so the source would keep it; give a deleter, "
        "or drop only the copy with invalidate()"
    )


def writes_lost(cache: str, lost: Sequence[LostWrite]) -> WritesLost:
    """The report about writes that were lost."""
    keys, count = ", ".join(repr(write.key) for write in lost[:10]), len(lost)
    more = f" and {count - 10} more" if count > 10 else ""
    error = lost[-1].error
    why = f"the writer raised {error!r}" if error is not None else "there was no time to write them"
    text = (
        f"{count} write{'s' if count > 1 else ''} of cache {cache!r} never reached the source: {keys}{more}; {why}. "
        "The values are in the error's `lost`, and on_lost= is told of them"
    )
    return WritesLost(text, tuple(lost))


def always(error: Exception) -> bool:
    """Every error is worth another try."""
    return True


def check_function(option: str, function: Any, cure: str) -> Any:
    """A function, async or not, that does its work when it is called or awaited."""
    import inspect

    lazy = inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)
    if not callable(function) or isinstance(function, type) or lazy:
        raise refuse(option, function, f"{cure}, async or not")
    return function


def check_callback(option: str, function: Any) -> Any:
    """A function that is called there and then."""
    if not callable(function) or is_async(function):
        raise refuse(option, function, "give a function of one LostWrite that is not async")
    return function


def check_time(option: str, span: Any) -> Any:
    """A duration with an end, which may be none at all."""
    if span is None:
        raise refuse(option, span, "give seconds, a timedelta or a text such as '1s'")
    _core._check_span(span, option, True)
    return span


def check_retry(retry: Any) -> tuple[Any, Callable[[Exception], bool]]:
    """What a `Retry` knows that the queue needs."""
    from samovar.resilience import Retry, guard

    made: Any = guard("retry", retry, Retry, int, "give Retry(...), a number of attempts, or None")
    if made._sleep is not None or made._timeout is not None:
        raise refuse("retry", retry, "leave out its timeout= and sleep=: the queue makes the pauses, and close ends it")
    return made._core, made._counts
