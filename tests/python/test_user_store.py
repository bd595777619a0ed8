"""Stores of the user's own, behind the same door as Redis: they keep the same promises."""

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from samovar import StoreError, _core
from samovar.testing import CacheClock, DictStore, FaultyStore
from user_stores import LIFE, Open, ask, frame, guide_store, opening, run, scanned, stale


@pytest.fixture
def open_store() -> Iterator[Open]:
    with opening() as open_one:
        yield open_one


def dict_store(_: Path) -> Any:
    return DictStore()


def without_swap(_: Path) -> Any:
    return DictStore(swap=False)


def slow(_: Path) -> Any:
    return FaultyStore(DictStore(), delay=0.001)


def of_the_guide(folder: Path) -> Any:
    return guide_store()(str(folder / "entries"))


#: Every kind of store keeps the same promises; those in a dict go by the clock that tests move.
IN_A_DICT = [dict_store, without_swap, slow]
KINDS = [*IN_A_DICT, of_the_guide]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def core(request: pytest.FixtureRequest, open_store: Open, tmp_path: Path) -> _core.StoreCore:
    return open_store(request.param(tmp_path))


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


@pytest.mark.parametrize("core", IN_A_DICT, indirect=True)
def test_what_has_a_life_ends_with_it(core: _core.StoreCore, cache_clock: CacheClock) -> None:
    ask(core, "ends", "put", frame=frame(1), keep=5.0)
    ask(core, "stays", "put", frame=frame(2))
    cache_clock.advance(6)
    assert core.get_many_sync(["ends", "stays"]) == {"stays": frame(2)}
    assert run(scanned(core, "")) == ["stays"]


@pytest.mark.slow
def test_every_key_is_scanned_and_no_other(core: _core.StoreCore) -> None:
    core.set_many_sync({f"user:{n}": (frame(n), 60) for n in range(2500)} | {"us": (frame(0), 60)})
    assert sorted(run(scanned(core, "user:"))) == sorted(f"user:{n}" for n in range(2500))


def test_requests_on_one_key_are_done_in_one_go(core: _core.StoreCore) -> None:
    asked = [
        ("put", {"frame": frame(1)}),
        ("read", {}),
        ("delete", {}),
        ("read", {}),
        ("claim", {"token": 7, "life": LIFE}),
    ]
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


@pytest.mark.parametrize("kind", [dict_store, of_the_guide])
def test_nodes_that_swap_share_one_claim_and_write_one_fill(open_store: Open, tmp_path: Path, kind: Any) -> None:
    shared = kind(tmp_path)
    nodes = [open_store(shared if kind is dict_store else kind(tmp_path)) for _ in range(4)]
    begin = threading.Barrier(4)
    ends: dict[str, list[object]] = {f"{n}": [] for n in range(20)}

    def work(me: int) -> None:
        for key, seen in ends.items():
            begin.wait()
            claim = ask(nodes[me], key, "claim", token=me + 1, life=LIFE)
            begin.wait()
            filled = ask(nodes[me], key, "fill", token=claim[1], frame=frame(me), keep=60.0)
            seen.append((claim, filled[0]))

    threads = [threading.Thread(target=work, args=(me,)) for me in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for seen in ends.values():
        claims, filled = zip(*seen, strict=True)
        assert len(set(claims)) == 1
        assert sorted(filled) == ["lost", "lost", "lost", "written"]


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


@pytest.mark.slow
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
