"""What is called for a cache or a function that nobody has any more: the collector may come by at any moment.

A crash ends the process, and all tests with it; what is asserted is that there was something to call.
"""

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Iterator
from typing import Any

import pytest
from samovar import Cache, Event, Memory, Rule
from watching import settled


class Old:
    """Older than what holds it. While that is being cleared its finalizer lets others run, as closing a file would."""

    def __init__(self, begun: threading.Event) -> None:
        self.begun = begun

    def __del__(self) -> None:
        self.begun.set()
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def collected_by_hand() -> Iterator[None]:
    """Else whether the collector comes by would be left to chance."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


# --- Callables of a function whose call is under way ------------------------------------------------------------------


@pytest.mark.parametrize("option", ["ttl", "cache_if", "tags", "fallback"])
def test_what_a_function_is_told_to_call_is_there_when_its_load_ends(option: str) -> None:
    told: list[str] = []
    answers: dict[str, Any] = {"ttl": 5.0, "cache_if": True, "tags": ("t",), "fallback": "fallen"}

    def begin() -> Awaitable[Any]:
        cache = Cache(name="given up")

        def tell(*_: object) -> Any:
            told.append(cache.name)
            return answers[option]

        async def load(x: int) -> int:
            if option == "fallback":
                raise ValueError("no")
            return x

        options: dict[str, Any] = {option: tell}
        decorated = cache.cached(**options)(load)
        tell.__dict__["function"] = decorated
        return decorated(1)

    async def main() -> Any:
        reply = begin()
        gc.collect()
        return await reply

    assert asyncio.run(main()) == ("fallen" if option == "fallback" else 1)
    assert told == ["given up"]


def test_what_a_function_is_told_to_call_under_a_rule_is_there_too() -> None:
    told: list[str] = []

    def begin() -> tuple[Awaitable[int], Awaitable[object]]:
        cache = Cache(name="given up")
        cache.configure(rules=[Rule("k*", negative_ttl=3)])

        def tell(*_: object) -> float:
            told.append(cache.name)
            return 5.0

        @cache.cached(ttl=tell, key="k:{x}")
        async def load(x: int) -> int:
            return x

        tell.__dict__["function"] = load
        return load(1), load.set(7, 2)

    async def main() -> int:
        load, store = begin()
        gc.collect()
        await store
        return await load

    assert asyncio.run(main()) == 1
    assert told == ["given up", "given up"]


def test_what_a_refresh_behind_calls_is_there_when_it_ends() -> None:
    told: list[str] = []

    async def begin() -> None:
        cache = Cache(name="given up")

        def keeps(_: int) -> bool:
            told.append(cache.name)
            return True

        @cache.cached(ttl=0.02, stale_while_revalidate=60, cache_if=keeps)
        async def load() -> int:
            await asyncio.sleep(0.02)
            return 1

        keeps.__dict__["function"] = load
        await load()
        await asyncio.sleep(0.04)
        await load()

    async def main() -> None:
        await begin()
        gc.collect()
        for _ in range(200):
            await asyncio.sleep(0.01)
            if len(told) == 2:
                return

    asyncio.run(main())
    assert told == ["given up"] * 2


def test_a_call_and_all_it_leads_to_is_collected_if_nobody_awaits_it() -> None:
    def begin() -> weakref.ref[Any]:
        def keeps(_: object) -> bool:
            return True

        @Cache(name="given up").cached(ttl=5, cache_if=keeps)
        async def load() -> int:
            return 1

        keeps.__dict__.update(function=load, reply=load())
        return weakref.ref(keeps)

    async def main() -> object:
        watched = begin()
        await asyncio.sleep(0)
        gc.collect()
        return watched()

    with pytest.warns(RuntimeWarning):
        assert asyncio.run(main()) is None


# --- While the collector clears ---------------------------------------------------------------------------------------


def test_the_sweeper_tells_nobody_of_a_cache_that_is_being_cleared() -> None:
    begun, heard = threading.Event(), []

    def knot(old: list[Old]) -> None:
        def listener(event: Event) -> None:
            heard.append(event.name)

        listener.__dict__["old"] = old.pop()
        cache = listener.__dict__["cache"] = Cache(name="given up")
        cache.on("expire", listener)
        cache.sync.set("a", 1, 0.05)

    old = [Old(begun)]
    gc.collect()
    knot(old)
    gc.collect(0)
    assert begun.is_set()
    assert heard == []


@pytest.mark.parametrize("which", ["weigher", "load", "store"])
def test_a_load_that_ends_calls_nothing_of_a_cache_that_is_being_cleared(which: Any) -> None:
    begun, called = threading.Event(), []

    def knot(old: list[Old]) -> Awaitable[int]:
        def own(_: object) -> int:
            called.append(which)
            return 10

        own.__dict__["old"] = old.pop()
        memory = Memory(max_bytes=10_000, weigher=own) if which == "weigher" else Memory()
        cache = own.__dict__["cache"] = Cache(name="given up", memory=memory)
        if which != "weigher":
            cache.on(which, own)  # type: ignore[call-overload]

        @cache.cached(ttl=5)
        async def load() -> int:
            # Not in a thread: this loop is to come by while the collector is at work.
            while not begun.is_set():  # noqa: ASYNC110
                await asyncio.sleep(0.005)
            return 1

        own.__dict__["function"] = load
        return load()

    async def wait(reply: Awaitable[int]) -> int:
        return await reply

    async def main() -> int:
        old = [Old(begun)]
        gc.collect()
        task = asyncio.create_task(wait(knot(old)))
        await asyncio.sleep(0.02)
        collector = threading.Thread(target=gc.collect, args=(0,))
        collector.start()
        value = await task
        await asyncio.to_thread(collector.join)
        return value

    assert asyncio.run(main()) == 1
    assert begun.is_set()
    assert called == []


def test_a_listener_is_told_of_what_expires_as_long_as_anybody_has_a_face_of_its_cache() -> None:
    heard: list[str] = []

    def function() -> Any:
        cache = Cache(name="held by its function")
        cache.on("expire", lambda event: heard.append(event.name))

        @cache.cached(ttl=0.02)
        def load(x: int) -> int:
            return x

        load(1)
        return load

    kept = function()
    gc.collect()
    assert settled(lambda: heard)
    del kept


# --- What a finalizer brings back -------------------------------------------------------------------------------------


def test_an_instance_that_comes_back_leaves_nothing_to_who_gets_its_address() -> None:
    saved: list[Any] = []

    def knot(cache: Cache) -> None:
        class Own:
            def __init__(self, name: str) -> None:
                self.name = name
                self.me: object = None

            @cache.cached(ttl=60)
            def said(self) -> str:
                return "of " + self.name

            def __del__(self) -> None:
                if self.name == "first":
                    saved.append(self)

        first = Own("first")
        first.said()
        first.me = first

    cache = Cache(name="instances")
    knot(cache)
    gc.collect()
    (first,) = saved
    own, address, first.me = type(first), id(first), None
    saved.clear()
    assert first.said() == "of first"
    del first
    others = []
    for _ in range(10_000):
        others.append(own("second"))
        if id(others[-1]) == address:
            assert others[-1].said() == "of second"
            return
    pytest.skip("no other object was given the address")
