"""Stores of the user's own that hang, block, fail and give what they should not: a clear error for who asked."""

import asyncio
import os
import random
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from samovar import ConfigError, StoreError, StoreTimeout, StoreUnavailable, _core
from samovar.testing import DictStore, FaultyStore
from user_stores import LIFE, Open, ask, frame, opening, run, scanned


@pytest.fixture
def open_store() -> Iterator[Open]:
    with opening() as open_one:
        yield open_one


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


@pytest.mark.parametrize("swap", [True, False])
def test_what_was_not_begun_when_its_time_was_up_is_never_written(open_store: Open, swap: bool) -> None:
    class Late(DictStore):
        async def get_many(self, keys: Any) -> dict[str, bytes]:
            if blocks:
                go_on.wait(20)
            return await super().get_many(keys)

    go_on, blocks, store = threading.Event(), True, Late(swap=swap)
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


def test_swaps_of_a_call_whose_time_is_up_are_not_begun(open_store: Open) -> None:
    class Slow(DictStore):
        async def get_many(self, keys: Any) -> dict[str, bytes]:
            return {}

        async def _swap(self, *_: Any) -> None:
            swapped.append(1)
            go_on.wait(20)

    swapped: list[int] = []
    go_on = threading.Event()
    core = open_store(Slow(), timeout=0.1)
    with pytest.raises(StoreTimeout):
        core.set_many_sync({f"{n}": (frame(n), 60) for n in range(1000)})
    go_on.set()
    while True:
        try:
            assert core.get_many_sync(["k"]) == {}
            break
        except StoreTimeout:
            pass
    assert len(swapped) == 1


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
        ({"k": "text"}, 'get_many gave a str, not bytes for "k"'),
        ({"k": 7}, 'get_many gave a int, not bytes for "k"'),
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
    "held",
    [b"", b"{}", b"SV", b"SV\1\2", b"SV\1\xff" + bytes(60), os.urandom(99), memoryview(b"xyz"), bytearray(99), None],
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
    with pytest.raises(
        ConfigError, match=f"Broken object.*has no method {method}; give an object with the async methods"
    ):
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
    with pytest.raises(ConfigError, match=r"swap of .* is 'atomic', no method; leave it out"):
        _core.StoreCore._user(_core._state, store, timeout=1)


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


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_faults_are_errors_and_never_an_older_value(open_store: Open, seed: int, swap: bool) -> None:
    store = FaultyStore(DictStore(swap=swap), seed=seed, errors=0.2, lost=0.2)
    core, dice = open_store(store), random.Random(seed)
    # What a key may hold: what was written last for certain, and what has perhaps been written since.
    may: dict[str, set[bytes | None]] = {key: {None} for key in "abc"}
    ends = Counter[str]()
    for n in range(400):
        key, action = dice.choice("abc"), dice.choice(["read", "put", "invalidate", "delete"])
        given = {"put": {"frame": frame(n), "keep": 60.0}, "invalidate": {"life": 30.0}}.get(action, {})
        left = frame(n) if action == "put" else None
        try:
            found = ask(core, key, action, **given)
        except StoreUnavailable:
            ends["failed"] += 1
            may[key] |= set() if action == "read" else {left}
        else:
            ends[action] += 1
            if action == "read":
                assert found[1] in may[key]
                left = found[1]
            may[key] = {left}
    assert len(ends) == 5
    assert core.tally()["unreachable"] == ends["failed"]


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
