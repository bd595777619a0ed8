"""Options as users write them: what a memory tier is, and the errors about options. Checked when made."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from samovar._exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable
    from datetime import timedelta


POLICIES = ("adaptive", "lru", "lfu", "fifo", "s3fifo", "tinylfu", "ttl")
MAX_ENTRIES = 2**31 - 2


def refuse(option: str, value: object, cure: str) -> ConfigError:
    """The error about an option: what it is, what it was given, and what to do."""
    return ConfigError(f"invalid {option}: {value!r}; {cure}")


@contextmanager
def at(place: object) -> Generator[None]:
    """Say where a wrong option is, in front of the error about it."""
    try:
        yield
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from error.__cause__


def positive(option: str, value: object, least: int = 1) -> int:
    """Check that an option is a whole number above zero, or from *least* on, and not absurd."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_ENTRIES:
        raise refuse(option, value, f"give a whole number from {least} to {MAX_ENTRIES}")
    return value


def check_background(background: object) -> None:
    """How many loads run behind at once, if that is given."""
    if background is not None:
        try:
            positive("background", background)
        except ConfigError:
            cure = "give how many loads may run behind at once, 1 or more, or leave it out"
            raise refuse("background", background, cure) from None


def unknown(given: Iterable[str], known: Iterable[str], where: str) -> ConfigError:
    """The error about an option that does not exist, with the one that was probably meant."""
    import difflib

    name = next(iter(given))
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}=?" if near else f"known options: {', '.join(sorted(known))}"
    return ConfigError(f"unknown option {name}= for {where}; {hint}")


def is_name(value: object) -> bool:
    """True for a text that can be written in UTF-8: no lone surrogates."""
    return isinstance(value, str) and not any("\ud800" <= character <= "\udfff" for character in value)


def is_neutral(value: object, neutral: Iterable[object]) -> bool:
    """True for what an option of a later version says when it asks for nothing."""
    return any(value is one or (type(value) is type(one) and value == one) for one in neutral)


class Memory:
    """The memory tier of a cache.

    Args:
        max_entries: At most this many entries; beyond, the least valuable leave. ``None``: only ``max_bytes``.
        max_bytes: At most this many bytes, as a number or a text such as ``"256MiB"``; ``None`` counts
            entries only, and weighs nothing.
        eviction: Which entry leaves when there is no room: ``"adaptive"``, ``"lru"``, ``"lfu"``, ``"fifo"``,
            ``"s3fifo"``, ``"tinylfu"`` or ``"ttl"`` (the soonest to expire).
        weigher: A function of a value that gives its size in bytes, asked once when it is stored. Without
            one the memory that builtin values keep alive is estimated natively.
        max_missing: At most this many entries that say that there is nothing, or keep an error, apart from the
            others: so many lookups of what does not exist displace nothing. ``None``: they share the bounds above, as
            those of a function with a ``max_entries`` of its own always do.
        missing_eviction: Which of those leaves.
        ttl: In a cache with a store behind its memory, nothing stays longer in memory than that: seconds, a timedelta
            or a text; then the store is asked again. ``None``: as long as it lives.
        sealed: Hold values encrypted, by the cache's ``key_ring`` and codec, and open them for each reader: for what
            must not be found in a core dump. What the codec refuses is not kept.

    Raises:
        ConfigError: Naming the option, its value and the cure.
    """

    __slots__ = ("eviction", "max_bytes", "max_entries", "max_missing", "missing_eviction", "sealed", "ttl", "weigher")

    def __init__(
        self,
        max_entries: int | None = 100_000,
        max_bytes: int | str | None = "256MiB",
        eviction: str = "adaptive",
        weigher: Callable[[Any], int] | None = None,
        max_missing: int | None = None,
        missing_eviction: str = "lru",
        ttl: float | timedelta | str | None = None,
        sealed: bool = False,
        **others: object,
    ) -> None:
        if others:
            raise unknown(others, self.__slots__, "Memory")
        if max_entries is None and max_bytes is None:
            raise refuse("max_entries", None, "give max_entries or max_bytes: a cache needs a bound")
        self.max_entries = MAX_ENTRIES if max_entries is None else positive("max_entries", max_entries)
        self.max_bytes = None if max_bytes is None else parse_size("max_bytes", max_bytes)
        self.eviction = order("eviction", eviction)
        self.max_missing = None if max_missing is None else positive("max_missing", max_missing)
        self.missing_eviction = order("missing_eviction", missing_eviction)
        if weigher is not None and not callable(weigher):
            raise refuse("weigher", weigher, "give a function of a value that returns its size in bytes")
        self.weigher = weigher
        if ttl is not None:
            from samovar import _core

            _core._check_ttl(ttl, False)
        self.ttl = ttl
        if not isinstance(sealed, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse("sealed", sealed, "give True or False")
        self.sealed = sealed

    def __repr__(self) -> str:
        apart = f", max_missing={self.max_missing}, missing_eviction={self.missing_eviction!r}"
        return (
            f"Memory(max_entries={self.max_entries}, max_bytes={self.max_bytes}, eviction={self.eviction!r}"
            f"{apart if self.max_missing else ''})"
        )


def order(option: str, name: str) -> str:
    """Check that an option is the name of an eviction order."""
    if name not in POLICIES:
        raise refuse(option, name, f"give one of {', '.join(POLICIES)}")
    return name


UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


def parse_size(option: str, value: object) -> int:
    """A size in bytes from a number or a text such as ``"256MiB"``."""
    cure = "give a number of bytes above zero, or a text such as '256MiB'"
    if isinstance(value, str):
        digits = value.strip().rstrip("BKMGibkmg ").strip()
        unit = UNITS.get(value.strip()[len(digits) :].strip().upper())
        try:
            size = float(digits) * unit if unit else -1.0
        except ValueError:
            raise refuse(option, value, cure) from None
        value_in_bytes = int(size) if 0 < size < 2**63 else 0
    else:
        value_in_bytes = value if isinstance(value, int) and not isinstance(value, bool) else 0
    if value_in_bytes < 1:
        raise refuse(option, value, cure)
    return value_in_bytes
