"""Helpers for tests of code that caches, and stores that go wrong.

The fixtures `cache` and `cache_clock` come with the pytest plugin.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from samovar import _core
from samovar.testing._stores import DictStore, FaultyStore

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import timedelta

__all__ = ["CacheClock", "DictStore", "FaultyStore", "frozen_clock"]


class CacheClock:
    """The time of all caches, standing still until it is moved. No test has to sleep."""

    def advance(self, by: float | timedelta | str) -> None:
        """Move the time forward: seconds, a timedelta, or a text such as ``"5m"``.

        Raises:
            RuntimeError: The time is not stopped, or not any more.
        """
        _core._advance_clock(by)
        if protect := sys.modules.get("samovar._protect"):
            protect.clock_moved()

    def time(self) -> float:
        """Seconds since 1970 as the caches see them."""
        return _core._clock_time()


@contextmanager
def frozen_clock() -> Generator[CacheClock]:
    """Stop the time of all caches for a block. Within another such block it stays stopped afterwards."""
    _core._freeze_clock(True)
    try:
        yield CacheClock()
    finally:
        _core._freeze_clock(False)
