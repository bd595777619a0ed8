"""What tests see a cache by: its own recount, and what its sweeper does in a while."""

import time
from collections.abc import Callable

from samovar import Cache


def whole(cache: Cache) -> None:
    """The table agrees with itself."""
    assert cache._inspect()["fault"] is None


def settled(done: Callable[[], object]) -> bool:
    """What the sweeper does, it does within moments."""
    deadline = time.monotonic() + 10
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(done())
