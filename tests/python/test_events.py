"""What listeners are told: every event, its key, its value and its reason."""

import asyncio
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from origin import turns
from samovar import Cache, Event, Memory
from watching import Diary, settled

# --- Every event ------------------------------------------------------------------------------------------------------


def test_a_call_tells_of_its_miss_its_load_its_store_and_then_of_hits(cache: Cache, cache_clock: Any) -> None:
    def load(n: int) -> str:
        cache_clock.advance(0.25)
        return f"<{n}>"

    load = cache.cached("5m", namespace="numbers")(load)
    diary = Diary(cache)
    load(7)
    load(7)
    where = ("test", "numbers", f"{__name__}.{load.__qualname__}", load.key(7))
    assert diary.take() == [
        Event("miss", *where),
        Event("load", *where, reason="miss", seconds=0.25),
        Event("store", *where, value="<7>"),
        Event("hit", *where),
    ]
    assert (load.stats().hits, load.stats().misses) == (1, 1)


def test_an_async_call_tells_the_same(cache: Cache, cache_clock: Any) -> None:
    @cache.cached("5m", key="user:{user_id}")
    async def user(user_id: int) -> list[int]:
        await asyncio.sleep(0)
        return [user_id]

    diary = Diary(cache)

    async def main() -> None:
        assert await asyncio.gather(user(1), user(1)) == [[1], [1]]
        assert await user(1) == [1]
        assert await user.refresh(1) == [1]
        await user.invalidate(1)

    asyncio.run(main())
    events = diary.take()
    assert [event.name for event in events] == [
        *("miss", "miss", "load", "store", "hit"),
        *("load", "store", "invalidate"),
    ]
    assert {event.key for event in events} == {"user:1"}
    assert {event.function for event in events} == {f"{__name__}.{user.__qualname__}"}
    assert [event.reason for event in events if event.name == "load"] == ["miss", "refresh"]
    assert user.stats().hits == 1


def test_entries_by_name_tell_of_hits_misses_and_writes(cache: Cache) -> None:
    diary = Diary(cache)
    sync = cache.sync
    assert sync.get("a") is None
    sync.set("a", 1)
    assert sync.get("a") == 1
    assert sync.get(key="a") == 1
    assert sync.get_many(["a", "b"]) == {"a": 1}
    assert sync.incr("a") == 2
    assert sync.add("b", 3)
    assert not sync.add("b", 4)
    assert sync.replace("b", 5)
    assert sync.delete("a")
    assert not sync.delete("a")
    assert diary.brief() == [
        ("miss", "a"),
        ("store", "a"),
        *[("hit", "a")] * 3,
        ("miss", "b"),
        ("store", "a"),
        ("store", "b"),
        ("store", "b"),
        *[("invalidate", "a")] * 2,
    ]

    async def main() -> None:
        assert await cache.get("b") == 5
        assert await cache.get_or_set("c", lambda: 6) == 6

    asyncio.run(main())
    assert diary.brief() == [("hit", "b"), ("miss", "c"), ("load", "c"), ("store", "c")]
    assert (cache.stats().hits, cache.stats().misses) == (4, 3)


def test_a_load_that_fails_tells_its_error_and_how_long_it_took(cache: Cache, cache_clock: Any) -> None:
    def load(n: int) -> int:
        cache_clock.advance(2)
        raise LookupError(n)

    load = cache.cached(load)
    diary = Diary(cache, "load_error", "load", "store")
    with pytest.raises(LookupError) as raised:
        load(1)
    assert diary.take() == [
        Event(
            "load_error",
            "test",
            "",
            f"{__name__}.{load.__qualname__}",
            load.key(1),
            reason="miss",
            seconds=2.0,
            error=raised.value,
        )
    ]


def test_what_is_not_stored_is_not_told_to_be(cache: Cache) -> None:
    @cache.cached(cache_if=lambda value: value > 0)
    def load(n: int) -> int:
        return n

    diary = Diary(cache)
    load(-1)
    cache.sync.set("a", 1, 0)
    with cache.disabled():
        load(1)
        cache.sync.set("a", 1)
        cache.sync.get("a")
    assert [event.name for event in diary.take()] == ["miss", "load", "invalidate", "invalidate", "miss"]


def test_an_entry_that_makes_room_is_told_with_its_value(cache: Cache) -> None:
    small = Cache(name="small", memory=Memory(2, eviction="lru"))
    diary = Diary(small, "evict", "store")
    for key in "abc":
        small.sync.set(key, key.upper())
    assert diary.take()[2:] == [
        Event("evict", "small", "", None, "a", value="A", reason="capacity"),
        Event("store", "small", "", None, "c", value="C"),
    ]
    assert small.stats().evictions == 1


def test_a_function_with_a_bound_of_its_own_tells_whose_entry_left(cache: Cache) -> None:
    @cache.cached(max_entries=1, copy=False)
    def load(n: int, text: str = "x") -> str:
        return text * n

    diary = Diary(cache, "evict")
    load(1)
    load(2, "y")
    (event,) = diary.take()
    assert (event.function, event.key, event.value) == (f"{__name__}.{load.__qualname__}", load.key(1), "x")


def test_a_value_that_is_not_let_in_is_evicted_and_never_stored() -> None:
    cache = Cache(name="light", memory=Memory(max_bytes=100, weigher=len))
    diary = Diary(cache)

    @cache.cached
    def load(n: int) -> bytes:
        return b"x" * n

    cache.sync.set("a", b"y" * 200)
    load(200)
    assert [(event.name, event.reason) for event in diary.take()] == [
        ("evict", "refused"),
        ("miss", None),
        ("load", "miss"),
        ("evict", "refused"),
    ]
    assert cache.stats().refused == 2


def test_what_a_smaller_bound_drops_is_told_as_such() -> None:
    cache = Cache(name="resized", memory=Memory(1_000, eviction="fifo"))
    for n in range(1_000):
        cache.sync.set(f"key{n}", n)
    diary = Diary(cache, "evict")
    cache.resize(max_entries=10)
    assert settled(lambda: len(diary.events) >= 990)
    assert [(event.key, event.value, event.reason) for event in diary.take()] == [
        (f"key{n}", n, "resize") for n in range(990)
    ]
    cache.sync.set("new", 1)
    assert [event.reason for event in diary.take()] == ["capacity"]


def test_what_a_clear_leaves_over_is_told_when_it_goes(cache: Cache) -> None:
    @cache.cached(namespace="users")
    def load(n: int) -> int:
        return n

    users = cache.namespace("users")
    load(1)
    users.sync.set("a", 2)
    cache.sync.set("b", 3)
    diary = Diary(cache, "evict", "invalidate")
    users.sync.clear()
    assert diary.take()[:1] == [Event("invalidate", "test", "users", None, None)]
    assert settled(lambda: cache._inspect()["entries"] == 1 and len(diary.events) >= 2)
    told = {(event.function, event.key, event.value, event.reason) for event in diary.take()}
    assert told == {
        (f"{__name__}.{load.__qualname__}", load.key(1), 1, "cleared"),
        (None, "a", 2, "cleared"),
    }
    assert cache.stats().evictions == 0


def test_all_of_a_function_can_be_invalidated_at_once(cache: Cache) -> None:
    @cache.cached
    def load(n: int) -> int:
        return n

    load(1)
    diary = Diary(cache, "invalidate")
    load.invalidate_all()
    load.cache_clear()
    assert diary.take() == [Event("invalidate", "test", "", f"{__name__}.{load.__qualname__}", None)] * 2


def test_an_invalidation_tells_what_it_removed(cache: Cache) -> None:
    @cache.cached(key="user:{n}")
    def user(n: int) -> dict[str, int]:
        return {"id": n}

    user(1)
    diary = Diary(cache, "invalidate")
    cache.sync.delete("user:1")
    user.invalidate(1)
    function = f"{__name__}.{user.__qualname__}"
    assert diary.take() == [
        Event("invalidate", "test", "", function, "user:1", value={"id": 1}),
        Event("invalidate", "test", "", function, "user:1"),
    ]


@pytest.mark.parametrize("how", ["sweeper", "store", "load", "delete"])
def test_an_entry_whose_time_is_over_expires_once_however_it_goes(cache: Cache, cache_clock: Any, how: str) -> None:
    @cache.cached("1m", key="{name}")
    def load(name: str) -> str:
        return "new"

    cache.sync.set("a", "old", "1m")
    diary = Diary(cache, "expire", "store", "invalidate")
    if how == "sweeper":
        cache_clock.advance("2m")
        assert settled(lambda: diary.events)
    else:
        # The sweeper keeps out: it never gets the interpreter between these lines.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(30)
        try:
            cache_clock.advance("1m")
            {"store": lambda: cache.sync.set("a", "new"), "load": lambda: load("a")}.get(
                how, lambda: cache.sync.delete("a")
            )()
        finally:
            sys.setswitchinterval(interval)
    after = {"store": ["store"], "load": ["store"], "delete": ["invalidate"], "sweeper": []}[how]
    events = diary.take()
    assert events[0] == Event("expire", "test", "", None, "a", value="old", reason="ttl")
    assert [event.name for event in events[1:]] == after
    assert [event.value for event in events[1:]] == [None if how == "delete" else "new"] * len(after)


def test_the_sweeper_tells_on_a_thread_of_its_own(cache: Cache, cache_clock: Any) -> None:
    threads: list[int] = []
    cache.on("expire", lambda event: threads.append(threading.get_ident()))
    for n in range(500):
        cache.sync.set(f"key{n}", n, 1)
    cache_clock.advance(2)
    assert settled(lambda: len(threads) == 500)
    assert cache.stats().expired == 500
    assert threading.get_ident() not in threads


# --- Keys, values, places ---------------------------------------------------------------------------------------------


class Tenant:
    def __init__(self, name: str) -> None:
        self.name = name

    def __cache_key__(self) -> str:
        return self.name


def calls(cache: Cache) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Functions of every kind of key, each with the arguments of a call."""

    def one(a: object) -> int:
        return 1

    def two(a: object, b: object = 2) -> int:
        return 2

    def none() -> int:
        return 0

    def rest(*args: object, **more: object) -> int:
        return 3

    plain = (1, True, None, "text", "é" * 300, b"bytes", b"s4:text", 1.5, (1, "a"), ())
    for value in (*plain, [1, 2], {"a": [1]}, Tenant("t")):
        yield cache.cached(one), (value,)
        yield cache.cached(two), (value,)
        yield cache.cached(rest), (value, value)
    yield cache.cached(none), ()
    yield cache.cached(version=2)(one), (1,)
    yield cache.cached(key="one:{a}")(one), ("a:b",)
    yield cache.cached(key="one:{a}")(one), ("a" * 300,)
    yield cache.cached(key=lambda a: f"name:{a}")(one), (1,)
    yield cache.cached(key=lambda a: (a, 2))(one), (1,)


def test_the_key_of_an_event_is_that_of_the_call(cache: Cache) -> None:
    for function, arguments in calls(cache):
        diary = Diary(cache)
        function(*arguments)
        function(*arguments)
        function.invalidate(*arguments)
        events = diary.take()
        assert [event.name for event in events] == ["miss", "load", "store", "hit", "invalidate"]
        assert {event.key for event in events} == {function.key(*arguments)}, arguments
        for subscription in diary.subscriptions:
            subscription.close()


def test_an_evicted_entry_has_the_key_of_its_call(cache: Cache) -> None:
    known = [(function, function(*arguments), function.key(*arguments)) for function, arguments in calls(cache)]
    diary = Diary(cache, "evict")
    cache.sync.clear()
    assert settled(lambda: len(diary.events) == len(known))
    assert Counter(event.key for event in diary.take()) == Counter(key for _, _, key in known)


def test_a_call_without_a_canonical_key_is_told_by_its_function(cache: Cache) -> None:
    class Shop:
        @cache.cached
        def price(self, item: object) -> int:
            return 1

    @cache.cached
    def identity(thing: object) -> int:
        return 1

    diary = Diary(cache, "store", "hit")
    shop = Shop()
    shop.price("tea")
    shop.price("tea")
    identity(Shop)
    identity(Shop)
    function = f"{__name__}.{Shop.price.__qualname__}"
    assert [(event.function, event.key) for event in diary.take()] == [
        *[(function, None)] * 2,
        *[(f"{__name__}.{identity.__qualname__}", None)] * 2,
    ]


def test_a_listener_of_a_namespace_hears_that_and_what_is_below(cache: Cache) -> None:
    heard: list[str] = []
    users = cache.namespace("users")
    users.on("store", lambda event: heard.append(event.namespace))
    users.on("hit", lambda event: heard.append(f"hit {event.namespace}"))
    users.on("invalidate", lambda event: heard.append(f"invalidate {event.namespace}"))
    for part in (cache, users, users.namespace("old"), cache.namespace("users2")):
        part.sync.set("a", 1)
        part.sync.get("a")
    assert heard == ["users", "hit users", "users:old", "hit users:old"]
    heard.clear()
    cache.namespace("users2").sync.clear()
    users.namespace("old").sync.clear()
    cache.sync.clear()
    assert heard == ["invalidate users:old", "invalidate "]


def test_a_namespace_that_is_made_later_is_heard(cache: Cache) -> None:
    diary = Diary(cache, "hit")
    later = cache.namespace("later")
    later.sync.set("a", 1)
    later.sync.get("a")
    assert [event.namespace for event in diary.take()] == ["later"]


def test_a_listener_cannot_spoil_what_others_read(cache: Cache) -> None:
    @cache.on("store")
    def spoil(event: Event) -> None:
        event.value["spoilt"] = True

    cache.sync.set("a", {"b": [1]})
    assert cache.sync.get("a") == {"b": [1]}


def test_an_object_that_leaves_is_the_very_one_that_was_stored() -> None:
    cache = Cache(name="resources", memory=Memory(1, eviction="fifo"))
    resource = Tenant("open")

    @cache.on("evict")
    def close(event: Event) -> None:
        event.value.name = "closed"

    cache.sync.set("a", resource)
    cache.sync.set("b", 1)
    assert resource.name == "closed"


def test_a_stale_answer_and_the_refresh_behind_it_are_told(cache: Cache, cache_clock: Any) -> None:
    @cache.cached("1m", key="page", stale_while_revalidate="1m")
    async def page() -> str:
        await asyncio.sleep(0)
        return "page"

    async def main() -> None:
        await page()
        cache_clock.advance("61s")
        diary = Diary(cache)
        assert [await page() for _ in range(3)] == ["page"] * 3
        await turns()
        events = diary.take()
        assert [event.name for event in events] == ["stale", "stale", "stale", "load", "store"]
        assert events[3].reason == "refresh"
        await page()
        assert [event.name for event in diary.take()] == ["hit"]

    asyncio.run(main())
    assert page.stats().stale_hits == 3


def test_a_listener_of_stale_answers_may_use_the_cache(cache: Cache, cache_clock: Any) -> None:
    told: list[Event] = []

    @cache.cached("1m", stale_while_revalidate="1h")
    async def page(n: int) -> int:
        return n

    @cache.on("stale")
    def again(event: Event) -> None:
        told.append(event)
        page.cache.sync.set("other", len(told))
        cache.sync.clear()

    async def main() -> None:
        for n in range(10):
            assert await page(1) == 1
            cache_clock.advance("61s")
            await turns()
            assert cache._inspect()["fault"] is None, n

    asyncio.run(main())
    assert told
