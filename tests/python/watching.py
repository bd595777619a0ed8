"""What tests see a cache by: its own recount, what its sweeper does in a while, and all that it tells."""

import time
import typing
from collections.abc import Callable

from samovar import Cache, Event
from samovar._events import EventName

EVENTS: tuple[EventName, ...] = typing.get_args(EventName)
#: Those that entries cause.
OF_ENTRIES = tuple(name for name in EVENTS if name not in ("breaker", "warm_completed"))


def whole(cache: Cache) -> None:
    """The table agrees with itself."""
    assert cache._inspect()["fault"] is None


def settled(done: Callable[[], object]) -> bool:
    """What the sweeper does, it does within moments."""
    deadline = time.monotonic() + 10
    while not done() and time.monotonic() < deadline:
        time.sleep(0.01)
    return bool(done())


class Diary:
    """Listens to some events, all if none is named, and remembers them."""

    def __init__(self, cache: Cache, *names: EventName) -> None:
        self.events: list[Event] = []
        self.subscriptions = [cache.on(name, self.events.append) for name in names or EVENTS]

    def take(self) -> list[Event]:
        """What was told since the last time."""
        events = self.events[:]
        self.events.clear()
        return events

    def brief(self) -> list[tuple[str, str | None]]:
        """The same, names and keys alone."""
        return [(event.name, event.key) for event in self.take()]
