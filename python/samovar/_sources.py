"""What is under a namespace: its names, and the sources of it and of those below."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._supervisor import is_below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samovar._source import Source
    from samovar._writing import GivenTime


def scan(core: _core.CacheCore) -> Iterator[tuple[str, Any]]:
    """All names and values of a namespace, a few at a time, so that a long walk blocks nobody."""
    at = None
    while True:
        pairs, at = core._scan(at)
        yield from pairs
        if at is None:
            return


def check_limit(timeout: GivenTime) -> None:
    """How long a flush may take: no time at all is allowed, and so is any time."""
    _core._check_span(timeout, "timeout", True)


def below(sources: dict[str, Source], path: str) -> list[Source]:
    """The sources of a namespace and those below it."""
    return [found for at, found in sources.items() if is_below(at, path)]
