"""Listening and ending it; and that no listener can harm a cache, on any thread or in a child."""

import asyncio
import functools
import gc
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from samovar import Cache, ConfigError, Event, Memory, Policy, Subscription
from samovar._events import EventName
from watching import EVENTS, OF_ENTRIES, Diary, settled, whole


class Thing:
    """Anything that can be watched while it dies."""

    subscription: Subscription


@pytest.fixture
def unraised(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """What goes to `sys.unraisablehook`."""
    reports: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", reports.append)
    yield reports
    reports.clear()


# --- Listening and ending it ------------------------------------------------------------------------------------------


def test_a_decorated_listener_stays_what_it_was(cache: Cache) -> None:
    heard: list[str] = []

    @cache.on("store")
    @cache.on("miss")
    def listen(event: Event) -> str:
        heard.append(event.name)
        return "ignored"

    assert listen(Event("by hand", "", "", None, None)) == "ignored"
    cache.sync.get("a")
    cache.sync.set("a", 1)
    assert heard == ["by hand", "miss", "store"]


def test_a_closed_subscription_is_told_nothing_more(cache: Cache) -> None:
    heard: list[Event] = []
    subscription = cache.on("store", heard.append)
    cache.sync.set("a", 1)
    subscription.close()
    subscription.close()
    cache.sync.set("a", 2)
    with cache.on("store", heard.append) as again:
        assert isinstance(again, Subscription)
        cache.sync.set("a", 3)
    cache.sync.set("a", 4)
    assert [event.value for event in heard] == [1, 3]


def test_one_function_may_listen_twice_and_end_once(cache: Cache) -> None:
    heard: list[Event] = []
    first, _second = cache.on("store", heard.append), cache.on("store", heard.append)
    cache.sync.set("a", 1)
    first.close()
    cache.sync.set("a", 2)
    assert [event.value for event in heard] == [1, 1, 2]


def test_a_listener_that_another_one_ends_is_not_told(cache: Cache) -> None:
    heard: list[str] = []
    cache.on("store", lambda event: second.close())
    second = cache.on("store", lambda event: heard.append("second"))
    cache.sync.set("a", 1)
    assert heard == []


def test_hits_are_answered_at_the_call_again_when_nobody_listens(cache: Cache) -> None:
    @cache.cached
    async def load(n: int) -> int:
        return n

    def counted_at_the_call() -> int:
        before, answer = load.stats().hits, load(1)
        after = load.stats().hits
        answer.close()
        return after - before

    asyncio.run(load(1))
    assert counted_at_the_call() == 1
    with cache.on("hit", print):
        assert counted_at_the_call() == 0
    assert counted_at_the_call() == 1
    with cache.on("miss", print), cache.namespace("other").on("hit", print):
        assert counted_at_the_call() == 1


def test_disabled_and_listened_to_do_not_undo_each_other(cache: Cache) -> None:
    @cache.cached
    def load(n: int) -> list[int]:
        return [n]

    load(1)
    cache.sync.set("a", 1)
    diary = Diary(cache, "hit")
    with cache.disabled():
        load(1)
        assert cache.sync.get("a") is None
        diary.subscriptions[0].close()
        assert cache.sync.get("a") is None
        cache.on("hit", diary.events.append)
    load(1)
    assert cache.sync.get("a") == 1
    assert [event.name for event in diary.take()] == ["hit", "hit"]
    assert load.stats().loads == 1


@pytest.mark.parametrize("name", ["store_error", "lock_lost"])
def test_an_event_of_a_later_version_is_refused_as_such(cache: Cache, name: Any) -> None:
    with pytest.raises(ConfigError, match=f"invalid event: '{name}'; this version does not have it yet"):
        cache.on(name, print)


@pytest.mark.parametrize("name", ["evicted", "", None, 3, print, ["hit"], "HIT"])
def test_an_unknown_event_is_refused_with_the_list(cache: Cache, name: Any) -> None:
    names = "give one of " + ", ".join(EVENTS)
    with pytest.raises(ConfigError, match=f"invalid event: .*{names}"):
        cache.on(name, print)
    with pytest.raises(ConfigError, match=names):
        cache.on(name)


class Waiting:
    async def __call__(self, event: Event) -> None: ...


async def waits(event: Event) -> None: ...


def generates(event: Event) -> Iterator[int]:
    yield 1


@pytest.mark.parametrize(
    ("listener", "cure"),
    [
        (None, "give a function of one argument"),
        (7, "give a function of one argument"),
        (waits, "give a plain function"),
        (functools.partial(waits), "give a plain function"),
        (Waiting(), "give a plain function"),
        (generates, "give a plain function"),
        (lambda: None, "called with one argument"),
        (lambda event, other: None, "called with one argument"),
    ],
)
def test_what_cannot_listen_is_refused(cache: Cache, listener: Any, cure: str) -> None:
    with pytest.raises(ConfigError, match=f"invalid listener: .*{cure}"):
        cache.on("store", listener)
    with pytest.raises(ConfigError, match="invalid listener"):
        cache.on("store")(listener)
    cache.sync.set("a", 1)


# --- Listeners that misbehave -----------------------------------------------------------------------------------------


def test_a_listener_that_raises_is_reported_once_and_harms_nothing(cache: Cache, unraised: list[Any]) -> None:
    def listener(event: Event) -> None:
        raise ValueError(event.key)

    for name in EVENTS:
        cache.on(name, listener)
    diary = Diary(cache)

    @cache.cached("5m")
    def load(n: int) -> int:
        return n

    for _ in range(3):
        assert (load(1), load(1)) == (1, 1)
        load.invalidate(1)
    assert [event.name for event in diary.take()] == ["miss", "load", "store", "hit", "invalidate"] * 3
    assert [type(report.exc_value) for report in unraised] == [ValueError] * 5
    assert {report.object for report in unraised} == {listener}
    assert "the cache goes on" in unraised[0].exc_value.__notes__[0]
    whole(cache)


def test_an_interrupt_inside_a_listener_reaches_the_program(cache: Cache, unraised: list[Any]) -> None:
    @cache.on("store")
    def listener(event: Event) -> None:
        raise KeyboardInterrupt

    def program() -> None:
        cache.sync.set("a", 1)
        for _ in range(1_000):
            time.sleep(0.001)

    # A program that was started in the background may have been told to ignore interrupts.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            program()
    finally:
        signal.signal(signal.SIGINT, before)
    assert cache.sync.get("a") == 1
    assert unraised == []


def test_a_listener_may_use_the_cache_and_is_not_told_of_it(cache: Cache) -> None:
    seen: list[tuple[str | None, object]] = []

    @cache.on("store")
    def count(event: Event) -> None:
        seen.append((event.key, cache.sync.get("a")))
        cache.sync.incr("stores")

    other = Diary(cache, "store")
    cache.sync.set("a", 1)
    cache.sync.set("a", 2)
    assert seen == [("a", 1), ("a", 2)]
    assert cache.sync.get("stores") == 2
    # The others are told of it, and before of what caused it: the order is that of the calls' ends.
    assert other.brief() == [("store", "stores"), ("store", "a")] * 2
    whole(cache)


def test_two_caches_whose_listeners_write_to_each_other_come_to_an_end() -> None:
    a, b = Cache(name="a"), Cache(name="b")
    heard: list[str] = []

    def to(other: Cache) -> Callable[[Event], None]:
        def listener(event: Event) -> None:
            heard.append(event.cache)
            other.sync.set("x", 1)

        return listener

    a.on("store", to(b))
    b.on("store", to(a))
    a.sync.set("x", 0)
    assert heard == ["a", "b"]


def test_listeners_nest_sixteen_deep_at_most() -> None:
    caches = [Cache(name=f"cache{n}") for n in range(30)]
    heard: list[str] = []

    def pass_on(event: Event) -> None:
        heard.append(event.cache)
        caches[len(heard)].sync.set("a", 1)

    for cache in caches:
        cache.on("store", pass_on)
    caches[0].sync.set("a", 1)
    assert heard == [f"cache{n}" for n in range(16)]
    assert caches[16].sync.get("a") == 1
    assert caches[17].sync.get("a") is None


# Nothing gets stale here: test_events.py has that.
@pytest.mark.parametrize("event", [event for event in OF_ENTRIES if event != "stale"])
def test_a_listener_that_calls_the_same_function_or_clears_everything_leaves_the_cache_whole(event: EventName) -> None:
    cache = Cache(name="small", memory=Memory(8, eviction="lru"))

    @cache.cached("5m", key="k{n}")
    def load(n: int) -> int:
        if n == 13:
            raise LookupError
        return n

    done = []

    @cache.on(event)
    def listener(told: Event) -> None:
        load(1)
        load(2)
        load.refresh(1)
        load.invalidate(2)
        cache.sync.set("k1", "by hand")
        if len(done) % 3 == 2:
            cache.sync.clear()
        if len(done) % 5 == 4:
            cache.resize(max_entries=4 + len(done) % 7)
        done.append(told)

    for n in range(60):
        try:
            load(n % 14)
            load(n % 14)
        except LookupError:
            pass
        cache.sync.set(f"k{n}", n, 0.001)
        if n % 10 == 9:
            load.invalidate(n % 14)
        whole(cache)
    assert settled(lambda: done) or event == "expire"
    assert cache._inspect()["flights"] == 0
    assert cache.stats().entries <= 14


def test_a_miss_listener_that_loads_the_missed_key_makes_no_second_entry(cache: Cache) -> None:
    @cache.cached("5m", key="k{n}")
    def load(n: int) -> int:
        return n

    @cache.cached("5m")
    async def other(n: int) -> int:
        return load(n)

    cache.on("miss", lambda event: load(1))
    load(1)
    load.invalidate(1)
    asyncio.run(other(1))
    assert cache._inspect()["entries"] == 2
    whole(cache)


def test_a_listener_that_closes_itself_is_told_once(cache: Cache) -> None:
    heard: list[Event] = []

    def listener(event: Event) -> None:
        heard.append(event)
        subscription.close()

    subscription = cache.on("store", listener)
    cache.sync.set("a", 1)
    cache.sync.set("a", 2)
    assert len(heard) == 1


# --- Threads, forks, memory -------------------------------------------------------------------------------------------


def test_two_threads_hear_every_event_on_the_thread_that_caused_it() -> None:
    cache = Cache(name="threads", memory=Memory(64, eviction="lru"))
    heard: list[tuple[int, Event]] = []
    for name in ("store", "evict", "hit"):
        cache.on(name, lambda event: heard.append((threading.get_ident(), event)))  # type: ignore[call-overload]
    start = threading.Barrier(2)

    def work(label: str) -> None:
        start.wait()
        for n in range(2_000):
            cache.sync.set(f"{label}{n}", threading.get_ident())
            cache.sync.get(f"{label}{n}")

    threads = [threading.Thread(target=work, args=(label,)) for label in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores = [(ident, event) for ident, event in heard if event.name == "store"]
    assert len(stores) == 4_000
    assert all(ident == event.value for ident, event in stores)
    evicted = [event for _, event in heard if event.name == "evict"]
    assert len(evicted) == cache.stats().evictions == 4_000 - 64
    assert len({event.key for event in evicted}) == len(evicted)
    assert sum(event.name == "hit" for _, event in heard) == cache.stats().hits
    whole(cache)


def test_a_listener_does_not_keep_other_threads_from_the_cache(cache: Cache) -> None:
    inside, go_on = threading.Event(), threading.Event()

    @cache.on("store")
    def listener(event: Event) -> None:
        if event.key == "slow":
            inside.set()
            go_on.wait(10)

    thread = threading.Thread(target=cache.sync.set, args=("slow", 1))
    thread.start()
    assert inside.wait(10)
    cache.sync.set("fast", 2)
    assert (cache.sync.get("slow"), cache.sync.get("fast")) == (1, 2)
    go_on.set()
    thread.join()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_listeners_stay_in_a_forked_child(cache: Cache) -> None:
    diary = Diary(cache, "store", "expire")
    cache.sync.set("a", 1, 0.05)
    diary.take()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            cache.sync.set("b", 2)
            told = settled(lambda: ("expire", "a") in [(event.name, event.key) for event in diary.events])
            code = 0 if told and diary.events[0].value == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert all(event.key == "a" for event in diary.take())


def test_a_listener_of_a_cache_that_is_collected_while_the_sweeper_tells_it_is_whole() -> None:
    heard: list[str] = []

    class Collecting:
        """Is copied for whoever is told of it, since others have it too; and then the collector comes by."""

        def __deepcopy__(self, memo: object) -> "Collecting":
            gc.collect()
            return self

    value = Collecting()

    def knot() -> None:
        cache = Cache(name="given up", policy=Policy(copy="deep"))

        def listener(event: Event) -> None:
            # What is read here would be gone.
            heard.append(f"{event.name} {cache.name}")

        cache.on("expire", listener)
        cache.sync.set("a", value, 0.05)

    gc.disable()
    try:
        knot()
        assert settled(lambda: heard)
    finally:
        gc.enable()
    assert heard == ["expire given up"]


def test_a_cache_and_a_listener_that_refers_to_it_are_collected() -> None:
    def knot() -> list[weakref.ref[Any]]:
        cache, held = Cache(name="cycle"), Thing()

        def listener(event: Event) -> None:
            cache.sync.get("a")
            assert held

        @cache.cached
        def load() -> object:
            return held

        held.subscription = cache.on("store", listener)
        cache.on("hit", listener)
        cache.sync.set("a", [cache])
        load()
        return [weakref.ref(thing) for thing in (cache, held, listener, load)]

    gone = knot()
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def test_a_closed_listener_is_let_go(cache: Cache) -> None:
    def listener(event: Event) -> None: ...

    subscription, gone = cache.on("hit", listener), weakref.ref(listener)
    del listener
    gc.collect()
    assert gone() is not None
    subscription.close()
    assert gone() is None


def test_telling_keeps_no_event_and_no_value(cache: Cache) -> None:
    cache.on("store", lambda event: None)
    cache.on("evict", lambda event: None)
    value = Thing()
    gone = weakref.ref(value)
    cache.sync.set("a", value)
    del value
    cache.sync.set("a", 1)
    assert gone() is None


def test_entries_that_go_with_their_owner_are_told_to_nobody(cache: Cache) -> None:
    class Shop:
        @cache.cached("5m")
        def price(self) -> int:
            return 1

    diary = Diary(cache, "evict", "expire", "invalidate")
    shop = Shop()
    shop.price()
    del shop
    gc.collect()
    assert diary.take() == []
    assert cache.stats().entries == 0
