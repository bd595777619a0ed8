"""The pytest plugin: a fresh cache per test, and a clock that the test moves by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from samovar import Cache
    from samovar.testing import CacheClock


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cache]:
    """A fresh memory cache; ``@cached`` within the test uses it too.

    Functions that were decorated before the test start out empty, their counters at zero. Nothing of them is left to
    chance: no ttl has jitter, and nothing is refreshed early.
    """
    from samovar import Cache, CacheManager, Policy, _core, _manager

    _core._set_steady(True)
    fresh = Cache(name="test", policy=Policy(early=False, jitter=0))
    before = list(_manager.default_manager()._caches.values())  # pyright: ignore[reportPrivateUsage]
    for old in before:
        old._clear()
        old._reset_stats()
    monkeypatch.setattr(_manager, "_default", CacheManager({"default": fresh}))
    yield fresh
    _core._set_steady(False)
    for old in before:
        old._clear()


@pytest.fixture
def cache_clock() -> Iterator[CacheClock]:
    """The time of all caches, stopped; ``cache_clock.advance("5m")`` moves it."""
    from samovar.testing import frozen_clock

    with frozen_clock() as clock:
        yield clock
