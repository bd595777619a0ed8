"""A bulk function and those asked after it: which ids each gets, and what their answers mean. Nothing is stored here.

The rules are written once, as a generator that yields calls; a blocking and an awaiting driver make them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from samovar._cached import name_of
from samovar._exceptions import KeyTypeError, LoadError, NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    Function = Callable[..., Any]
    #: Makes a call: of one of the functions, for these ids.
    Call = Callable[[Function, list[Any]], Any]
    #: What was found, by id, and the error that answers for the other ids; without one they are not there.
    Loaded = tuple[dict[Any, Any], Exception | None]


class Loaders:
    """The functions, in the order they are asked.

    Args:
        name: Of the first, for messages.
        functions: Each takes a list of ids and returns a mapping; each gets what those before it did not find.
        skips: True: one that raises is passed over, except the last. False: its error fails all ids.
        note_unasked: Told the number of ids that a function returned without being asked for them.
    """

    def __init__(
        self, name: str, functions: Sequence[Function], skips: bool, note_unasked: Callable[[int], object]
    ) -> None:
        self.name = name
        self.functions = functions
        self._skips = skips
        self._note_unasked = note_unasked
        self._warned = False

    def now(self, ids: list[Any], call: Call) -> Loaded:
        """Ask them on this thread."""
        steps = self._steps(ids)
        try:
            function, missing = next(steps)
            while True:
                try:
                    answer = plain(function, call(function, missing))
                except Exception as error:
                    function, missing = steps.throw(error)
                else:
                    function, missing = steps.send(answer)
        except StopIteration as done:
            return cast("Loaded", done.value)

    async def later(self, ids: list[Any], call: Call) -> Loaded:
        """Ask them, and await those that have to be."""
        steps = self._steps(ids)
        try:
            function, missing = next(steps)
            while True:
                try:
                    answer = call(function, missing)
                    if is_awaitable(answer):
                        answer = await answer
                except Exception as error:
                    function, missing = steps.throw(error)
                else:
                    function, missing = steps.send(answer)
        except StopIteration as done:
            return cast("Loaded", done.value)

    def _steps(self, ids: list[Any]) -> Generator[tuple[Function, list[Any]], Any, Loaded]:
        found: dict[Any, Any] = {}
        wanted = set(ids)
        for function in self.functions:
            missing = [one for one in ids if one not in found]
            if not missing:
                break
            try:
                answer = yield function, missing
                found.update(self._taken(function, answer, missing, wanted))
            except Exception as error:
                if function is self.functions[-1] or not self._skips:
                    # The last word decides what is not there; without it nobody knows.
                    return (found if self._skips else {}), self._meant(function, error)
                say(f"{name_of(function)} failed and was passed over for {len(missing)} ids of {self.name}: {error!r}")
        return found, None

    def _taken(self, function: Function, answer: Any, missing: list[Any], wanted: set[Any]) -> dict[Any, Any]:
        """What is wanted of an answer, be it that an earlier function has found it too: the later wins."""
        if not is_mapping(answer):
            raise TypeError(
                f"{name_of(function)} must return a mapping of each id to its value, such as {{id: value}}, "
                f"not {shown(answer)}; leave an id out to say that it is not there"
            )
        own = {one: answer[one] for one in answer if one in wanted}
        unasked = len(answer) - len(own)
        if unasked:
            self._note_unasked(unasked)
            self._warn(function, answer, [one for one in missing if one not in own], wanted)
        return own

    def _warn(self, function: Function, answer: Mapping[Any, Any], absent: list[Any], wanted: set[Any]) -> None:
        """Ids of the wrong type are a common mistake, and would otherwise look like ids that are not there."""
        if self._warned or not absent:
            return
        self._warned = True
        other = next(one for one in answer if one not in wanted)
        say(
            f"{name_of(function)} was not asked for {shown(other)} and left out {shown(absent[0])}: ids that are not "
            f"asked for are not used; return the ids as they were given (said once, and counted in stats().unasked)"
        )

    def _meant(self, function: Function, error: Exception) -> Exception:
        """What a function's exception means to those who asked for several ids."""
        if isinstance(error, NotFound):
            # Kept as "not found", it would hide the ids that are there.
            failed = LoadError(
                f"{name_of(function)} raised {error!r} for all of its ids at once; "
                "leave an id out of the mapping to say that it is not there"
            )
            failed.__cause__ = error
            return failed
        if isinstance(error, StopIteration):
            stopped = RuntimeError(f"{name_of(function)} raised StopIteration")
            stopped.__cause__ = error
            return stopped
        return error


class Slot:
    """Where the ids stand among the arguments of a call.

    Args:
        name: The parameter's name.
        at: Its position, None if it can only be given by name.
    """

    def __init__(self, name: str, at: int | None) -> None:
        self.name = name
        self.at = at

    def find(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
        """The place among all arguments, those by name behind the others; -1 if it was left out."""
        if self.at is not None and self.at < len(args):
            return self.at
        return len(args) + list(kwargs).index(self.name) if self.name in kwargs else -1

    def get(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What stands there."""
        return kwargs[self.name] if self.name in kwargs else args[self.at or 0]

    def put(self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The same call with another value there."""
        if self.name in kwargs or self.at is None:
            return args, {**kwargs, self.name: value}
        return (*args[: self.at], value, *args[self.at + 1 :]), kwargs

    def take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments beside it."""
        if self.name in kwargs or self.at is None:
            return args, {name: value for name, value in kwargs.items() if name != self.name}
        return args[: self.at] + args[self.at + 1 :], kwargs

    def insert(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], value: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """A call of the arguments beside it, with a value there."""
        if self.at is None or self.at > len(args):
            return args, {**kwargs, self.name: value}
        return (*args[: self.at], value, *args[self.at :]), kwargs

    def calling(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        """This call of whichever function, for whichever ids."""

        def call(function: Function, ids: list[Any]) -> Any:
            given, named = self.put(args, kwargs, ids)
            return function(*given, **named)

        return call

    def calling_with(self, others: tuple[Any, ...], named: dict[str, Any]) -> Call:
        """A call of these other arguments, for whichever ids, of whichever function."""
        return self.calling(*self.insert(others, named, ()))


def only(loaded: Loaded) -> dict[Any, Any]:
    """What is there, if no error stands beside it."""
    found, error = loaded
    try:
        if error is not None:
            raise error
    finally:
        # An exception that is raised here must not be held here: its traceback holds this frame.
        del loaded, error
    return {one: value for one, value in found.items() if not is_absent(value)}


def is_absent(value: object) -> bool:
    """True for what says that there is nothing."""
    return value is NotFound or isinstance(value, NotFound)


def unique(ids: Any) -> dict[Any, None]:
    """Every id once, in the order given.

    Raises:
        KeyTypeError: One of them cannot be the key of a dict.
    """
    try:
        return dict.fromkeys(ids)
    except TypeError as error:
        raise KeyTypeError(f"cannot keep results by id: {error}; give ids that can be hashed") from error


def several(given: Any, name: str, function: str) -> Any:
    """Ids as they were given, if they can be several.

    Raises:
        KeyTypeError: A single text, or nothing that can be iterated.
    """
    if isinstance(given, str | bytes | bytearray) or not is_iterable(given):
        raise KeyTypeError(
            f"{name} of {function} must be several ids, not {shown(given)}; give a list: [{shown(given)}]"
        )
    return given


def plain(function: Any, answer: Any) -> Any:
    """An answer that need not be awaited: nobody would."""
    if is_awaitable(answer):
        close = getattr(answer, "close", None)
        if close is not None:
            close()
        raise TypeError(f"{name_of(function)} is async but was asked without await; give a function that is not async")
    return answer


def is_mapping(value: object) -> bool:
    """True for a dict and its like."""
    return isinstance(value, Mapping)


def is_iterable(value: object) -> bool:
    """True for what can be gone through, even if only once."""
    return hasattr(type(value), "__iter__")


def is_awaitable(value: object) -> bool:
    """True for a coroutine, a future, and the like."""
    return hasattr(type(value), "__await__")


def shown(value: object) -> str:
    """A value in a message: its repr, cut if it is long."""
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


def say(text: str) -> None:
    """Say in the log what nobody would hear of otherwise."""
    import logging

    logging.getLogger("samovar").warning(text)
