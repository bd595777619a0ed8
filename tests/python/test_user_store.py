"""Stores of the user's own, behind the same door as Redis: what they promise, and what a bad one does to nobody else."""

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import ConfigError, StoreError, StoreTimeout, StoreUnavailable, _core
from samovar.testing import CacheClock, DictStore, FaultyStore

#: Fresh and of use for ever, as docs/frame.md has it.
HEAD = b"\1\0\0\0" + b"\xff" * 16
LIFE = 10.0


def frame(text: object) -> bytes:
    return HEAD + str(text).encode()


def stale(text: object) -> bytes:
    expires = int((_core._clock_time() + 60) * 1e6)
    return b"\1\0\0\0" + bytes(8) + expires.to_bytes(8, "big") + str(text).encode()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


Open = Callable[..., "_core.StoreCore"]


@pytest.fixture
def open_store() -> Iterator[Open]:
    """Opens stores, and has each closed, its thread at its end, when the test is over."""
    opened: list[_core.StoreCore] = []

    def open_one(store: object, *, timeout: float = 5.0) -> _core.StoreCore:
        opened.append(_core.StoreCore._user(_core._state, store, timeout=timeout))
        return opened[-1]

    yield open_one
    for core in opened:
        core.close()
        assert core._wait_for_end(10)


def dict_store() -> Any:
    return DictStore()


def without_swap() -> Any:
    return DictStore(swap=False)


def slow() -> Any:
    return FaultyStore(DictStore(), delay=0.001)


#: Every kind of store keeps the same promises.
KINDS = [dict_store, without_swap, slow]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def core(request: pytest.FixtureRequest, open_store: Open) -> _core.StoreCore:
    return open_store(request.param())


def ask(core: _core.StoreCore, key: str, action: str, **given: Any) -> tuple[Any, ...]:
    return _core._ask_store(core, [{"key": key, "action": action, **given}])[0]


async def scanned(core: _core.StoreCore, prefix: str) -> list[str]:
    found, place = await core._page(prefix, None)
    while place is not None:
        keys, place = await core._page(prefix, place)
        found += keys
    return found


def test_what_was_written_is_read(core: _core.StoreCore) -> None:
    async def main() -> None:
        assert await core.get("a") is None
        await core.set_many({"a": (frame(1), 60), "b": (frame(2), None)})
        assert await core.get("a") == frame(1)
        assert await core.get_many(["a", "b", "c"]) == {"a": frame(1), "b": frame(2)}
        await core.delete_many(["a", "c"])
        assert await core.get_many(["a", "b"]) == {"b": frame(2)}

    run(main())
    assert core.get_many_sync(["a", "b"]) == {"b": frame(2)}
    tally = core.tally()
    assert (tally["reads"], tally["writes"], tally["others"], tally["found"]) == (9, 2, 2, 5)


def test_a_claim_is_left_adopted_and_filled_once(core: _core.StoreCore) -> None:
    assert ask(core, "k", "claim", token=1, life=LIFE) == ("claimed", 1, None)
    assert ask(core, "k", "claim", token=2, life=LIFE) == ("claimed", 1, None)
    assert ask(core, "k", "read") == ("read", None)
    assert ask(core, "k", "fill", token=2, frame=frame("wrong")) == ("gone",)
    assert ask(core, "k", "fill", token=1, frame=frame("first"), keep=60)[0] == "written"
    assert ask(core, "k", "fill", token=1, frame=frame("second")) == ("lost", frame("first"))
    assert ask(core, "k", "claim", token=3, life=LIFE) == ("fresh", frame("first"))
    assert ask(core, "k", "claim", token=3, life=LIFE, anew=True) == ("claimed", 3, frame("first"))


@pytest.mark.parametrize("happens", ["invalidate", "delete", "release"])
def test_whatever_happens_to_a_key_takes_its_claim_away(core: _core.StoreCore, happens: str) -> None:
    ask(core, "k", "claim", token=1, life=LIFE)
    ask(core, "k", happens, token=1, life=30.0)
    assert ask(core, "k", "fill", token=1, frame=frame("late")) == ("gone",)
    assert ask(core, "k", "read") == ("read", None)


def test_versions_grow_and_a_fill_takes_the_place_of_exactly_the_one_seen(core: _core.StoreCore) -> None:
    versions = []
    for text in "abc":
        versions.append(ask(core, "k", "put", frame=frame(text))[1])
        versions.append(ask(core, "k", "invalidate", life=30.0)[1])
        ask(core, "k", "delete")
    assert versions == sorted(set(versions))
    seen = ask(core, "k", "put", frame=frame(1))[1]
    assert ask(core, "k", "fill", version=seen, frame=frame(2))[0] == "written"
    assert ask(core, "k", "fill", version=seen, frame=frame(3)) == ("lost", frame(2))


def test_a_claim_ends_unless_it_is_renewed(core: _core.StoreCore, cache_clock: CacheClock) -> None:
    for key in ("left", "kept"):
        ask(core, key, "put", frame=stale("old"), keep=60.0)
        assert ask(core, key, "claim", token=1, life=LIFE) == ("claimed", 1, stale("old"))
    cache_clock.advance(9)
    assert ask(core, "kept", "renew", token=1, life=LIFE) == ("done", True)
    assert ask(core, "kept", "renew", token=2, life=LIFE) == ("done", False)
    cache_clock.advance(2)
    assert ask(core, "left", "claim", token=2, life=LIFE)[1] == 2
    assert ask(core, "kept", "claim", token=2, life=LIFE)[1] == 1
    assert ask(core, "kept", "fill", token=1, frame=frame("new"))[0] == "written"


def test_what_has_a_life_ends_with_it(core: _core.StoreCore, cache_clock: CacheClock) -> None:
    ask(core, "ends", "put", frame=frame(1), keep=5.0)
    ask(core, "stays", "put", frame=frame(2))
    cache_clock.advance(6)
    assert core.get_many_sync(["ends", "stays"]) == {"stays": frame(2)}
    assert run(scanned(core, "")) == ["stays"]


def test_every_key_is_scanned_and_no_other(core: _core.StoreCore) -> None:
    core.set_many_sync({f"user:{n}": (frame(n), 60) for n in range(2500)} | {"us": (frame(0), 60)})
    assert sorted(run(scanned(core, "user:"))) == sorted(f"user:{n}" for n in range(2500))


def test_requests_on_one_key_are_done_in_one_go(core: _core.StoreCore) -> None:
    asked = [("put", {"frame": frame(1)}), ("read", {}), ("delete", {}), ("read", {}), ("claim", {"token": 7, "life": LIFE})]
    answers = _core._ask_store(core, [{"key": "k", "action": action, **given} for action, given in asked])
    assert answers[1:] == [("read", frame(1)), ("done", True), ("read", None), ("claimed", 7, None)]
    assert ask(core, "k", "claim", token=8, life=LIFE) == ("claimed", 7, None)


def test_loops_and_threads_share_it(core: _core.StoreCore) -> None:
    wrong: list[object] = []

    async def work(me: int) -> None:
        for n in range(50):
            await core.set_many({f"{me}": (frame((me, n)), 60)})
            if await core.get(f"{me}") != frame((me, n)):
                wrong.append((me, n))

    def block(me: int) -> None:
        for n in range(50):
            core.set_many_sync({f"{me}": (frame((me, n)), 60)})
            if core.get_many_sync([f"{me}"]) != {f"{me}": frame((me, n))}:
                wrong.append((me, n))

    threads = [threading.Thread(target=lambda me=me: run(work(me))) for me in range(3)]
    threads += [threading.Thread(target=block, args=(me,)) for me in range(3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_of_claims_at_once_one_is_had_by_all_and_of_fills_one_is_written(core: _core.StoreCore) -> None:
    begin = threading.Barrier(6)
    answers: list[tuple[Any, ...]] = []

    def claim_and_fill(me: int) -> None:
        begin.wait()
        claim = ask(core, "k", "claim", token=me, life=LIFE)
        begin.wait()
        answers.append((claim, ask(core, "k", "fill", token=claim[1], frame=frame(me), keep=60.0)[0]))

    threads = [threading.Thread(target=claim_and_fill, args=(me,)) for me in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({claim for claim, _ in answers}) == 1
    assert sorted(filled for _, filled in answers) == ["lost"] * 5 + ["written"]


def test_no_cancellation_gives_a_reply_to_the_wrong_caller(core: _core.StoreCore) -> None:
    dice = random.Random(1)

    async def main() -> None:
        await core.set_many({f"{n}": (frame(n), 600) for n in range(100)})

        async def one(n: int) -> bool:
            return await core.get(f"{n}") == frame(n)

        for _ in range(30):
            tasks = [asyncio.create_task(one(dice.randrange(100))) for _ in range(40)]
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            for task in dice.sample(tasks, 20):
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            assert {one for one in done if not isinstance(one, asyncio.CancelledError)} <= {True}
        assert await one(7)

    run(main())


class Counting(DictStore):
    """Counts what it is asked, and waits where it is told to."""

    def __init__(self, *, swap: bool = True) -> None:
        super().__init__(swap=swap)
        self.calls: list[tuple[str, int]] = []
        self.threads: set[int] = set()

    async def get_many(self, keys: Any) -> dict[str, bytes]:
        self.calls.append(("get_many", len(keys)))
        self.threads.add(threading.get_ident())
        return await super().get_many(keys)

    async def set_many(self, items: Any) -> None:
        self.calls.append(("set_many", len(items)))
        await super().set_many(items)

    async def delete_many(self, keys: Any) -> None:
        self.calls.append(("delete_many", len(keys)))
        await super().delete_many(keys)


def test_what_is_asked_together_is_one_call_of_each_method_on_one_thread(open_store: Open) -> None:
    store = Counting(swap=False)
    core = open_store(store)

    async def main() -> None:
        await core.set_many({f"{n}": (frame(n), 60) for n in range(100)})
        await core.get_many([f"{n}" for n in range(100)])
        await core.delete_many([f"{n}" for n in range(100)])

    run(main())
    run(main())
    one = [("get_many", 100), ("set_many", 100), ("get_many", 100), ("get_many", 100), ("delete_many", 100)]
    assert store.calls == one * 2
    assert len(store.threads) == 1
    assert threading.get_ident() not in store.threads


def test_nothing_of_it_is_begun_before_it_is_asked(open_store: Open) -> None:
    def threads() -> set[str]:
        return {task.name for task in Path("/proc/self/task").iterdir() if "samovar-store" in name_of(task)}

    def name_of(task: Path) -> str:
        try:
            return (task / "comm").read_text()
        except OSError:
            return ""

    before = threads()
    core = open_store(DictStore())
    assert threads() <= before
    core.get_many_sync(["a"])
    assert len(threads() - before) == 1


class Contested(DictStore):
    """Another process is faster the first times."""

    def __init__(self, times: int) -> None:
        super().__init__()
        self.times, self.plain_swap = times, self._swap
        self.swap = self.contested

    async def contested(self, key: str, expected: Any, data: bytes, ttl: Any) -> Any:
        if self.times:
            self.times -= 1
            other = _core.StoreCore._user(_core._state, shared := DictStore(), timeout=5.0)
            shared.data = self.data
            await other.set_many({key: (frame(f"other {self.times}"), 60)})
            # Not closed: that would clear what they share.
            shared.data = {}
            other.close()
            await asyncio.to_thread(other._wait_for_end, 5)
        return await self.plain_swap(key, expected, data, ttl)


def test_who_finds_something_else_than_was_read_decides_anew(open_store: Open) -> None:
    core = open_store(Contested(3))
    assert ask(core, "k", "claim", token=1, life=LIFE) == ("fresh", frame("other 2"))
    assert core.tally()["retries"] == 1
    core = open_store(Contested(3))
    assert ask(core, "k", "put", frame=frame("mine"))[0] == "written"
    assert core.tally()["retries"] == 3
    assert core.get_many_sync(["k"]) == {"k": frame("mine")}


def test_a_swap_that_never_agrees_ends_with_an_error(open_store: Open) -> None:
    class Stubborn(DictStore):
        async def swap(self, *_: Any) -> bytes:  # type: ignore[override]
            return b"never"

    store = Stubborn()
    store.swap = Stubborn.swap.__get__(store)
    with pytest.raises(StoreError, match="something else is there than was read"):
        open_store(store).set_many_sync({"k": (frame(1), 60)})


def test_an_invalidation_of_this_process_is_never_overwritten_by_a_fill_without_swap(open_store: Open) -> None:
    store = FaultyStore(DictStore(swap=False), delay=0.002)
    core = open_store(store)

    async def main(key: str) -> None:
        def one(action: str, **given: Any) -> Any:
            return asyncio.to_thread(ask, core, key, action, **given)

        await one("claim", token=1, life=LIFE)
        await asyncio.gather(one("fill", token=1, frame=frame("old"), keep=60.0), one("invalidate", life=30.0))
        assert await core.get(key) is None

    for n in range(20):
        run(main(f"{n}"))


class Hanging(DictStore):
    """Hangs in one method until it is told otherwise."""

    def __init__(self, method: str, *, swap: bool = True) -> None:
        super().__init__(swap=swap)
        self.hangs, self.cancelled = True, 0
        plain = getattr(self, method)

        async def hang(*given: Any) -> Any:
            if self.hangs:
                try:
                    await asyncio.Event().wait()
                finally:
                    self.cancelled += 1
            return await plain(*given)

        setattr(self, method, hang)


@pytest.mark.parametrize("method", ["get_many", "set_many", "delete_many", "swap"])
def test_a_store_that_hangs_costs_its_budget_and_is_cancelled(open_store: Open, method: str) -> None:
    store = Hanging(method, swap=method == "swap")
    core = open_store(store, timeout=0.1)
    calls: dict[str, Callable[[], object]] = {
        "get_many": lambda: core.get_many_sync(["k"]),
        "set_many": lambda: core.set_many_sync({"k": (frame(1), 60)}),
        "delete_many": lambda: ask(core, "k", "delete"),
        "swap": lambda: core.set_many_sync({"k": (frame(1), 60)}),
    }
    store.data["k"] = (b"SV\1\2" + (1).to_bytes(8, "big") + frame("there"), None)
    for _ in range(2):
        with pytest.raises(StoreTimeout, match=r"0x.*no answer within the 100ms"):
            calls[method]()
    store.hangs = False
    calls[method]()
    assert store.cancelled == 2
    tally = core.tally()
    assert (tally["timeouts"], tally["outages"]) == (2, 1)


def test_a_store_that_blocks_its_thread_keeps_nobody_waiting_longer(open_store: Open) -> None:
    class Blocking(DictStore):
        async def get_many(self, keys: Any) -> dict[str, bytes]:
            go_on.wait(20)
            return await super().get_many(keys)

    go_on = threading.Event()
    core = open_store(Blocking(), timeout=0.1)
    began = time.monotonic()
    for _ in range(3):
        with pytest.raises(StoreTimeout):
            core.get_many_sync(["k"])
    assert time.monotonic() - began < 10
    go_on.set()
    while True:
        try:
            assert core.get_many_sync(["k"]) == {}
            break
        except StoreTimeout:
            pass


def test_what_was_not_begun_when_its_time_was_up_is_never_written(open_store: Open) -> None:
    class Late(DictStore):
        async def get_many(self, keys: Any) -> dict[str, bytes]:
            if blocks:
                go_on.wait(20)
            return await super().get_many(keys)

    go_on, blocks, store = threading.Event(), True, Late()
    core = open_store(store, timeout=0.1)
    with pytest.raises(StoreTimeout):
        core.set_many_sync({"k": (frame("late"), 60)})
    blocks = False
    go_on.set()
    while True:
        try:
            assert core.get_many_sync(["k"]) == {}
            break
        except StoreTimeout:
            pass


class Broken:
    """A store whose methods give what a test says."""

    def __init__(self, **gives: Any) -> None:
        self.gives = gives

    def give(self, method: str) -> Any:
        found = self.gives.get(method)
        if isinstance(found, BaseException):
            raise found
        return found

    async def get_many(self, keys: Any) -> Any:
        return self.give("get_many") if "get_many" in self.gives else {}

    async def set_many(self, items: Any) -> Any:
        return self.give("set_many")

    async def delete_many(self, keys: Any) -> Any:
        return self.give("delete_many")

    async def scan(self, prefix: str) -> AsyncIterator[Any]:
        for key in self.give("scan") or ():
            yield key

    async def close(self) -> None:
        self.give("close")


class Odd:
    """Equal to nothing, hashed as "k", and says so loudly."""

    def __hash__(self) -> int:
        return hash("k")

    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError("odd")


@pytest.mark.parametrize(
    ("gives", "words"),
    [
        (None, "get_many gave a NoneType, not a dict"),
        ([b"x"], "get_many gave a list, not a dict"),
        ({"k": "text"}, "get_many gave a str, not bytes for \"k\""),
        ({"k": 7}, "get_many gave a int, not bytes for \"k\""),
        ({Odd(): b"x"}, "get_many raised ZeroDivisionError: odd"),
        (KeyError("k"), "get_many raised KeyError: 'k'"),
        (OSError("no route"), "get_many raised OSError: no route"),
        (SystemExit(3), "get_many raised SystemExit: 3"),
        (asyncio.CancelledError(), "raised .*CancelledError"),
        (StopAsyncIteration(), "get_many raised"),
    ],
    ids=repr,
)
def test_what_get_many_should_not_give_is_a_clear_error(open_store: Open, gives: object, words: str) -> None:
    core = open_store(Broken(get_many=gives))
    for _ in range(2):
        with pytest.raises(StoreError, match=words) as raised:
            core.get_many_sync(["k"])
        assert "Broken object" in str(raised.value)


def test_other_keys_are_answered_where_one_is_bad(open_store: Open) -> None:
    good = DictStore()
    open_store(good).set_many_sync({"good": (frame(1), 60)})
    core = open_store(Broken(get_many={"good": good.data["good"][0], "bad": 7, "unasked": 7}))

    async def main() -> list[object]:
        return await asyncio.gather(core.get("good"), core.get("bad"), return_exceptions=True)

    found = run(main())
    assert found[0] == frame(1)
    assert isinstance(found[1], StoreError)


@pytest.mark.parametrize(
    "held", [b"", b"{}", b"SV", b"SV\1\2", b"SV\1\xff" + bytes(60), os.urandom(99), memoryview(b"xyz"), bytearray(99), None]
)
def test_bytes_that_are_not_ours_are_nothing(open_store: Open, held: Any) -> None:
    assert open_store(Broken(get_many={"k": held})).get_many_sync(["k"]) == {}


@pytest.mark.parametrize(
    ("gives", "words"),
    [([7], "scan gave 7 for a key"), (OSError("no route"), "scan raised OSError: no route"), (["\ud800"], "scan gave")],
    ids=repr,
)
def test_what_a_scan_should_not_give_is_a_clear_error(open_store: Open, gives: object, words: str) -> None:
    core = open_store(Broken(scan=gives))
    with pytest.raises(StoreError, match=words):
        run(scanned(core, ""))


def test_a_scan_gives_nothing_that_was_not_asked_for(open_store: Open) -> None:
    assert run(scanned(open_store(Broken(scan=["a:1", "b:1", "a"])), "a:")) == ["a:1"]


def test_methods_that_are_not_async_are_named(open_store: Open) -> None:
    class Plain(DictStore):
        def get_many(self, keys: Any) -> Any:
            return {}

        async def scan(self, prefix: str) -> Any:
            return []

    core = open_store(Plain())
    with pytest.raises(StoreError, match="get_many gave a dict, nothing to await; define it by async def"):
        core.get_many_sync(["k"])
    with pytest.raises(StoreError, match="scan gave a coroutine, no async iterator"):
        run(scanned(core, ""))


def test_an_error_while_writing_is_told_to_those_who_wrote(open_store: Open) -> None:
    core = open_store(Broken(set_many=OSError("disk full")))
    with pytest.raises(StoreUnavailable, match="set_many raised OSError: disk full"):
        core.set_many_sync({"k": (frame(1), 60)})
    assert core.get_many_sync(["k"]) == {}
    assert (core.tally()["unreachable"], core.tally()["outages"]) == (1, 1)


@pytest.mark.parametrize("method", ["get_many", "set_many", "delete_many", "scan", "close"])
def test_an_object_that_lacks_a_method_is_refused_by_name(method: str) -> None:
    store = Broken()
    setattr(store, method, None)
    with pytest.raises(ConfigError, match=f"Broken object.*has no method {method}; give an object with the async methods"):
        _core.StoreCore._user(_core._state, store, timeout=0.25)


@pytest.mark.parametrize(
    ("store", "timeout", "words"),
    [
        (None, 0.25, "None has no method get_many"),
        ("redis://localhost", 0.25, "has no method get_many"),
        (DictStore, 0.25, "is a class; give an instance"),
        (DictStore(), 0, "timeout"),
        (DictStore(), "5 parsecs", "timeout"),
    ],
)
def test_what_cannot_be_a_store_is_refused(store: object, timeout: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        _core.StoreCore._user(_core._state, store, timeout=timeout)


def test_a_swap_that_is_no_method_is_refused() -> None:
    store = DictStore()
    store.swap = "atomic"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="swap of .* is 'atomic', no method; leave it out"):
        _core.StoreCore._user(_core._state, store, timeout=1)


def test_a_closed_store_says_so_has_closed_the_users_and_ends_its_thread() -> None:
    closed: list[str] = []

    class Closing(Hanging):
        async def close(self) -> None:
            closed.append("closed")

    core = _core.StoreCore._user(_core._state, store := Closing("get_many"), timeout=20)

    async def main() -> None:
        call = core.get("k")
        while not core.tally()["reads"]:
            await asyncio.sleep(0)
        await asyncio.sleep(0.01)
        core.close()
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
        with pytest.raises(StoreUnavailable, match="closed"):
            await core.get("k")

    run(main())
    core.close()
    assert core._wait_for_end(10)
    assert (closed, store.cancelled) == (["closed"], 1)


def test_close_that_raises_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    core = _core.StoreCore._user(_core._state, Broken(close=OSError("no route")), timeout=1)
    core.close()
    assert core._wait_for_end(10)
    assert "no route" in caplog.text


def test_a_store_that_nobody_refers_to_goes_with_its_thread() -> None:
    for used in (False, True):
        store = DictStore()
        core = _core.StoreCore._user(_core._state, store, timeout=1)
        gone = weakref.ref(store)
        if used:
            core.get_many_sync(["k"])
        # A store that knows who uses it.
        store.core = core  # type: ignore[attr-defined]
        del store, core
        until = time.monotonic() + 10
        while gone() is not None and time.monotonic() < until:
            gc.collect()
            time.sleep(0.001)
        assert gone() is None


def test_scans_that_are_left_in_the_middle_are_forgotten(open_store: Open) -> None:
    core = open_store(DictStore())
    core.set_many_sync({f"{n}": (frame(n), 60) for n in range(1001)})

    async def main() -> None:
        pages = [(await core._page("", None))[1] for _ in range(70)]
        with pytest.raises(StoreError, match="scan anew"):
            await core._page("", pages[0])
        keys, place = await core._page("", pages[-1])
        assert (len(keys), place) == (1, None)

    run(main())


def test_a_slow_scan_comes_in_smaller_pages(open_store: Open) -> None:
    class Slow(DictStore):
        async def scan(self, prefix: str) -> AsyncIterator[str]:
            for n in range(20):
                await asyncio.sleep(0.02)
                yield f"{n}"

    core = open_store(Slow(), timeout=0.2)
    assert run(scanned(core, "")) == [f"{n}" for n in range(20)]


def faults(seed: int, **options: float) -> tuple[list[str], dict[str, int]]:
    """How calls end, one after another."""

    async def main() -> list[str]:
        ends = []
        for n in range(200):
            try:
                await store.set_many({f"{n}": (frame(n), None)})
                ends.append("done")
            except ConnectionError as error:
                ends.append(f"{error}, {'is' if f'{n}' in inner.data else 'not'} there")
        return ends

    inner = DictStore()
    store = FaultyStore(inner, seed=seed, **options)
    return run(main()), dict(store.counts)


def test_the_faults_of_a_seed_are_always_the_same() -> None:
    ends, counts = faults(7, errors=0.2, lost=0.2)
    assert (ends, counts) == faults(7, errors=0.2, lost=0.2)
    assert ends != faults(8, errors=0.2, lost=0.2)[0]
    assert set(ends) == {"done", "the store failed, not there", "the store's answer was lost, is there"}
    assert counts == {
        "set_many": 200,
        "errors": ends.count("the store failed, not there"),
        "lost": ends.count("the store's answer was lost, is there"),
    }
    assert set(faults(7)[0]) == {"done"}


def test_what_a_faulty_store_lost_is_there(open_store: Open) -> None:
    store = FaultyStore(DictStore(), lost=1.0)
    core = open_store(store)
    with pytest.raises(StoreUnavailable, match="get_many raised ConnectionError: the store's answer was lost"):
        core.get_many_sync(["k"])
    store.lost = 0.0
    ask(core, "k", "claim", token=1, life=LIFE)
    store.lost = 1.0
    with pytest.raises(StoreUnavailable):
        ask(core, "k", "fill", token=1, frame=frame(1))
    store.lost = 0.0
    assert ask(core, "k", "read") == ("read", None)


def test_a_store_is_down_until_it_is_told_otherwise(open_store: Open) -> None:
    store = FaultyStore(DictStore(), down=True)
    core = open_store(store)
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="the store is down"):
            core.get_many_sync(["k"])
    store.down = False
    assert core.get_many_sync(["k"]) == {}
    store.down = True
    with pytest.raises(StoreUnavailable):
        run(scanned(core, ""))
    store.down = False
    assert (core.tally()["outages"], store.counts["down"]) == (2, 4)


@pytest.mark.parametrize("option", ["errors", "lost", "delay"])
def test_faults_that_cannot_be_are_refused(option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        FaultyStore(DictStore(), **{option: -0.1})


START = """
import asyncio, os, sys, threading, time
from samovar import _core
from samovar.testing import DictStore

HEAD = b"\\1\\0\\0\\0" + b"\\xff" * 16

class Hangs(DictStore):
    async def get_many(self, keys):
        if "hang" in keys:
            await asyncio.Event().wait()
        if "block" in keys:
            time.sleep(1000)
        return await super().get_many(keys)

core = _core.StoreCore._user(_core._state, Hangs(), timeout=5)
"""

FORKS = """
def use(name):
    for n in range(20):
        core.set_many_sync({name: (HEAD + b"%d" % n, 60)})
        assert core.get_many_sync([name]) == {name: HEAD + b"%d" % n}

busy = True
def work():
    while busy:
        use("thread")
        
thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        assert "parent" in core.get_many_sync(["parent"]) or _ == 0
        use("child")
        os._exit(0)
    use("parent")
    assert os.waitpid(child, 0)[1] == 0
busy = False
thread.join()
print("done")
"""

#: How a process may end.
ENDS = {
    "idle": "core.get_many_sync(['k'])",
    "never used": "pass",
    "closed": "core.get_many_sync(['k']); core.close()",
    "in flight": "asyncio.run(main('hang'))",
    "stuck": "asyncio.run(main('block'))",
    "by a thread": "threading.Thread(target=lambda: [core.get_many_sync(['k']) for _ in range(10**7)], daemon=True).start()\n"
    "core.get_many_sync(['k'])",
    "after a scan": "core.set_many_sync({f'{n}': (HEAD, 60) for n in range(2000)})\n"
    "asyncio.run(page())",
}

MAIN = """
async def main(key):
    await core.get("k")
    for _ in range(100):
        core.get(key)
    await asyncio.sleep(0.05)

async def page():
    await core._page("", None)
"""


def end_of(program: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-P", "-c", START + program], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    for _ in range(3):
        assert end_of(FORKS) == (0, "done\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_process_ends_in_silence_whatever_its_store_does(end: str) -> None:
    for _ in range(2):
        began = time.monotonic()
        assert end_of(f"{MAIN}\n{end}\nprint('done')") == (0, "done\n", "")
        assert time.monotonic() - began < 30
