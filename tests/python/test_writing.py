"""Writing behind: what is pending is seen, goes in order and many at a time, is tried again, and holds others up."""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from origin import turns
from samovar import (
    Cache,
    CircuitOpen,
    LostWrite,
    Memory,
    NotFound,
    Policy,
    WriteBehind,
    WriteQueueFull,
    WritesLost,
)
from samovar.resilience import Retry
from samovar.testing import CacheClock
from tables import Table, both, do, run, write_behind, written

pytestmark = pytest.mark.usefixtures("cache_clock")


# --- what is written, and when ----------------------------------------------------------------------------------------


def test_a_write_is_seen_at_once_and_written_after_the_delay(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, delay="1s")

    async def main() -> None:
        await cache.set("a", 1)
        await cache.set("b", 2)
        assert (await cache.get("a"), cache.pending(), table.log) == (1, 2, [])
        cache_clock.advance(0.999)
        await turns()
        assert table.log == []
        cache_clock.advance(0.001)
        await turns()
        assert (table.log, cache.pending()) == ([("set", {"a": 1, "b": 2})], 0)

    run(main)


def test_of_each_key_only_the_last_write_is_made(cache_clock: CacheClock) -> None:
    table = Table(d=0)
    cache = write_behind(table)

    async def main() -> None:
        for n in range(5):
            await cache.set("a", n)
        await cache.set("b", 1)
        await cache.delete("b")
        await cache.delete("c")
        await cache.set("c", 1)
        await cache.delete("d")
        await cache.flush()
        assert table.log == [("set", {"a": 4, "c": 1}), ("delete", ["b", "d"])]

    run(main)


def test_a_full_batch_goes_without_waiting_and_the_rest_waits(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, max_batch=3)

    async def main() -> None:
        await cache.set_many({f"k{n}": n for n in range(7)})
        await turns()
        assert [len(batch) for batch in written(table)] == [3, 3]
        cache_clock.advance(1)
        await turns()
        assert written(table)[-1] == {"k6": 6}

    run(main)


def test_what_is_written_while_its_key_is_under_way_waits_for_it(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, delay=0)

    async def main() -> None:
        table.gate = asyncio.Event()
        await cache.set("a", 1)
        await turns()
        for n in (2, 3):
            await cache.set("a", n)
        await cache.set("b", 1)
        await turns()
        assert (table.busy, table.log, await cache.get("a")) == (1, [], 3)
        table.gate.set()
        await turns()
        assert written(table) == [{"a": 1}, {"a": 3, "b": 1}]

    run(main)


def test_after_it_is_written_a_key_is_invalidated_so_the_next_read_asks_the_source(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table)

    async def save(items: dict[str, str]) -> None:
        table.rows.update({key: value.upper() for key, value in items.items()})

    cache = Cache(loader=table.load, writer=WriteBehind(save))

    async def main() -> None:
        await cache.set("a", "ann")
        assert await cache.get("a") == "ann"
        await cache.flush()
        assert await cache.contains("a") is False
        assert await cache.get("a") == "ANN"

    run(main)


def test_a_write_that_is_made_at_once_leaves_no_copy_either() -> None:
    table = Table()
    cache = write_behind(table, "sync", delay=0)
    cache.sync.set("a", 1)
    assert (table.rows, cache.sync.contains("a"), cache.sync.get("a")) == ({"a": 1}, False, 1)


def test_the_writer_gets_what_was_set_whatever_becomes_of_the_object() -> None:
    table = Table()
    cache = write_behind(table, "sync")
    row = {"name": "Ann"}
    cache.sync.set("a", row)
    row["name"] = "Bea"
    cache.sync.clear()
    cache.sync.get("a")["name"] = "Cid"
    cache.sync.flush()
    assert table.rows == {"a": {"name": "Ann"}}


def test_a_long_key_reaches_the_writer_as_it_was_given() -> None:
    table = Table()
    cache = write_behind(table, "sync")
    key = "k" * 500
    cache.sync.set(key, 1)
    assert cache.sync.get(key) == 1
    cache.sync.flush()
    assert table.rows == {key: 1}


# --- reads of what is pending -----------------------------------------------------------------------------------------

#: What takes the copy of "a" out of the memory, and must not take the write with it.
LOSSES: dict[str, Callable[[Cache, CacheClock], Any]] = {
    "kept": lambda cache, clock: None,
    "invalidated": lambda cache, clock: cache.sync.invalidate("a"),
    "cleared": lambda cache, clock: cache.sync.clear(),
    "expired": lambda cache, clock: clock.advance(10),
    "evicted": lambda cache, clock: [cache._sync._set(f"k{n}", n, None) for n in range(100)],
    "known missing": lambda cache, clock: cache.sync.set_missing("a", ttl="1h"),
}


@both
@pytest.mark.parametrize("loss", LOSSES)
def test_a_pending_value_is_seen_by_every_read_whatever_leaves_the_memory(
    face: str, loss: str, cache_clock: CacheClock
) -> None:
    table = Table(a=0)
    loader, writer, deleter = table.calls_of_many(face)
    behind = WriteBehind(writer, deleter, delay="1h")
    cache = Cache(loader=loader, writer=behind, memory=Memory(max_entries=10, eviction="lru"))

    @cache.cached(key="{name}")
    async def by_template(name: str) -> int:
        return await table.load(name)

    @cache.cached(key=lambda name: name)
    def by_function(name: str) -> int:
        return int(table.load_now(name))

    class Rows:
        @cache.cached(key="{name}")
        async def row(self, name: str) -> int:
            return await table.load(name)

    @cache.cached_many(key="{names}", items="names")
    async def several(names: Sequence[str]) -> dict[str, int]:
        return {name: await table.load(name) for name in names}

    @cache.cached_many(key="{names}", items="names")
    def several_now(names: Sequence[str]) -> dict[str, int]:
        return {name: int(table.load_now(name)) for name in names}

    async def main() -> None:
        lose = LOSSES[loss]
        await do(face, cache, "set", "a", 1, ttl=5)
        reads: list[Callable[[], Any]] = [
            lambda: do(face, cache, "get", "a"),
            lambda: do(face, cache, "get_or_set", "a", lambda: 0),
            lambda: by_template("a"),
            lambda: asyncio.to_thread(by_function, "a"),
            lambda: Rows().row("a"),
            lambda: by_template.refresh("a"),
        ]
        for read in reads:
            lose(cache, cache_clock)
            assert await read() == 1
        reads_of_many: list[Callable[[], Any]] = [
            lambda: do(face, cache, "get_many", ["a"]),
            lambda: do(face, cache, "get_or_set_many", ["a"], lambda names: dict.fromkeys(names, 0)),
            lambda: several(["a"]),
            lambda: asyncio.to_thread(several_now, ["a"]),
        ]
        for read in reads_of_many:
            lose(cache, cache_clock)
            assert await read() == {"a": 1}
        lose(cache, cache_clock)
        assert (await do(face, cache, "peek", "a")).value == 1
        assert await do(face, cache, "contains", "a") is True
        assert await do(face, cache, "ttl", "a") is not None
        assert await do(face, cache, "add", "a", 5) is False
        assert await do(face, cache, "incr", "a") == 2
        lose(cache, cache_clock)
        assert await do(face, cache, "touch", "a", 60) is True
        assert await do(face, cache, "ttl", "a") == 60
        with cache.disabled():
            assert await do(face, cache, "get", "a") == 2
            assert await by_template("a") == 2
            for read in reads_of_many:
                assert await read() == {"a": 2}
        assert table.loads == []
        await cache.flush()
        assert table.rows == {"a": 2}

    run(main)


@both
def test_a_pending_delete_is_seen_by_every_read(face: str) -> None:
    table = Table(a=1)
    cache = write_behind(table, face)

    @cache.cached(key="{name}")
    def row(name: str) -> int:
        return int(table.load_now(name))

    async def main() -> None:
        assert await do(face, cache, "get", "a") == 1
        assert await do(face, cache, "delete", "a") is True
        table.loads.clear()
        assert await do(face, cache, "get", "a", "gone") == "gone"
        assert await do(face, cache, "get_many", ["a"]) == {}
        assert await do(face, cache, "get_or_set_many", ["a"], lambda names: dict.fromkeys(names, 0)) == {}
        assert await do(face, cache, "contains", "a") is False
        assert await do(face, cache, "peek", "a") is None
        assert await do(face, cache, "delete", "a") is False
        await do(face, cache, "set", "b", 1)
        await do(face, cache, "clear")
        assert await do(face, cache, "delete", "b") is True
        for read in (lambda: row("a"), lambda: cache.sync.get_or_set("a", lambda: 1)):
            with pytest.raises(NotFound, match="its source has yet to be told"):
                read()
        assert table.loads == []
        assert await do(face, cache, "add", "a", 2) is True
        assert await do(face, cache, "get", "a") == 2
        await cache.flush()
        assert (table.rows, table.log) == ({"a": 2}, [("set", {"a": 2}), ("delete", ["b"])])

    run(main)


@both
def test_of_many_the_loader_is_asked_for_what_is_not_pending(face: str) -> None:
    table = Table(a=0, b=0, c=3)
    cache = write_behind(table, face)

    async def main() -> None:
        asked: list[list[str]] = []

        def load(names: list[str]) -> dict[str, Any]:
            asked.append(names)
            return {name: table.rows[name] for name in names}

        await do(face, cache, "set", "a", 1)
        await do(face, cache, "delete", "b")
        cache.sync.clear()
        assert await do(face, cache, "get_or_set_many", ["c", "b", "a"], load) == {"c": 3, "a": 1}
        assert asked == [["c"]]
        await cache.flush()
        assert await do(face, cache, "get_or_set_many", ["a", "c"], load) == {"a": 1, "c": 3}
        assert asked == [["c"], ["a"]]

    run(main)


def test_explain_tells_of_what_is_pending() -> None:
    cache = write_behind(Table(), "sync")
    cache.sync.set("a", 1)
    cache.sync.delete("b")

    @cache.cached(key="{name}")
    def by_template(name: str) -> int:
        return 0

    assert cache.explain("a").would == "answer"
    cache.sync.clear()
    assert cache.explain("a").would == by_template.explain("a").would == "answer with what its source has yet to get"
    assert cache.explain("b").would == "answer that there is nothing, which its source has yet to hear"
    cache.sync.flush()
    assert cache.explain("a").would == "load"


def test_what_has_another_key_does_not_read_a_pending_value() -> None:
    table = Table(a=0)
    cache = write_behind(table, "sync")

    @cache.cached
    def by_call(name: str) -> int:
        return int(table.load_now(name))

    @cache.cached(key=lambda name: (name,))
    def by_value(name: str) -> int:
        return int(table.load_now(name))

    @cache.cached(key="{name}", namespace="other")
    def elsewhere(name: str) -> int:
        return int(table.load_now(name))

    cache.sync.set("a", 1)
    assert (by_call("a"), by_value("a"), elsewhere("a")) == (0, 0, 0)
    assert cache.namespace("n").sync.get("a") is None


def test_a_load_under_way_when_a_value_is_set_does_not_hide_it() -> None:
    table = Table(a=0)
    cache = write_behind(table)

    async def main() -> None:
        table.gate = asyncio.Event()
        load = asyncio.create_task(cache.get("a"))
        await turns()
        await cache.set("a", 1)
        gate, table.gate = table.gate, None
        gate.set()
        assert (await load, await cache.get("a")) == (0, 1)
        await cache.close()

    run(main)


def test_a_delete_is_pending_and_an_invalidation_is_not() -> None:
    table = Table(a=1)
    cache = write_behind(table, "sync")
    cache.sync.get("a")
    cache.sync.invalidate("a")
    assert (cache.pending(), table.log) == (0, [])
    cache.sync.set("a", 2)
    cache.sync.invalidate("a")
    assert (cache.pending(), cache.sync.get("a")) == (1, 2)
    cache.sync.delete("a")
    assert (cache.pending(), cache.sync.get("a")) == (1, None)
    cache.sync.flush()
    assert table.log == [("delete", ["a"])]


# --- failures ---------------------------------------------------------------------------------------------------------


def test_what_fails_is_tried_again_and_told_once(cache_clock: CacheClock, caplog: pytest.LogCaptureFixture) -> None:
    table = Table()
    table.error = OSError("away")
    cache = write_behind(table, retry=Retry(attempts=1000, base=1, cap=60))

    async def main() -> None:
        await cache.set("a", 1)
        for _ in range(5):
            cache_clock.advance("1m")
            await turns()
        assert len(table.log) == 5
        assert await cache.get("a") == 1
        table.error = None
        cache_clock.advance("1m")
        await turns()
        assert (table.rows, cache.pending()) == ({"a": 1}, 0)
        table.error = OSError("away again")
        await cache.set("a", 2)
        cache_clock.advance("1m")
        await turns()
        table.error = None
        await cache.flush()

    with caplog.at_level(logging.WARNING, "samovar"):
        run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "the source of cache 'app' does not take what is written behind; it is tried again: OSError('away')",
        "the source of cache 'app' does not take what is written behind; it is tried again: OSError('away again')",
    ]


def test_a_value_that_is_refused_is_lost_alone_and_told(
    cache_clock: CacheClock, caplog: pytest.LogCaptureFixture
) -> None:
    table = Table(**{"7": "old"})
    table.refused = [7]
    lost: list[LostWrite] = []
    cache = write_behind(table, max_batch=10, retry=Retry(attempts=4, base=1, cap=1), on_lost=lost.append)

    async def main() -> None:
        await cache.set_many({str(n): n for n in range(10)})
        for _ in range(10):
            cache_clock.advance(1)
            await turns()
        assert table.rows == {str(n): n for n in range(10) if n != 7} | {"7": "old"}
        assert [(write.key, write.value, write.deleted, write.attempts) for write in lost] == [("7", 7, False, 4)]
        assert isinstance(lost[0].error, ValueError)
        assert await cache.get("7") == "old"

    run(main)
    assert "1 write of cache 'app' never reached the source: '7'" in caplog.text


def test_an_error_that_no_other_try_helps_costs_one(cache_clock: CacheClock) -> None:
    table = Table()
    table.refused = [1]
    lost: list[LostWrite] = []
    cache = write_behind(table, retry=Retry(attempts=10, on=OSError), on_lost=lost.append)

    async def main() -> None:
        await cache.set("a", 1)
        cache_clock.advance(1)
        await turns()
        assert ([write.key for write in lost], len(table.log)) == (["a"], 1)

    run(main)


def test_an_open_breaker_uses_up_no_attempt(cache_clock: CacheClock) -> None:
    table = Table()
    table.error = CircuitOpen("open")
    cache = write_behind(table, retry=1)

    async def main() -> None:
        await cache.set("a", 1)
        cache_clock.advance(1)
        await turns()
        table.error = None
        await cache.flush()
        assert table.rows == {"a": 1}

    run(main)


@pytest.mark.parametrize("error", [asyncio.CancelledError(), RuntimeError("crash")], ids=["cancelled", "crashed"])
def test_a_writer_that_crashes_or_cancels_itself_is_called_again(error: BaseException, cache_clock: CacheClock) -> None:
    table = Table()
    table.error = error
    cache = write_behind(table)

    async def main() -> None:
        await cache.set("a", 1)
        cache_clock.advance(1)
        await turns()
        table.error = None
        cache_clock.advance(1)
        await turns()
        assert table.rows == {"a": 1}

    run(main)


def test_callbacks_that_raise_harm_nothing(cache_clock: CacheClock, caplog: pytest.LogCaptureFixture) -> None:
    def crash(_: object) -> bool:
        raise RuntimeError("a callback")

    table = Table()
    table.error = OSError("away")
    cache = write_behind(table, retry=Retry(attempts=1, on=crash), on_lost=crash)

    async def main() -> None:
        await cache.set("a", 1)
        cache_clock.advance(1)
        await turns()
        assert cache.pending() == 0

    run(main)
    assert "on_lost= of cache 'app' failed" in caplog.text
    assert "on= of the retry of cache 'app' failed" in caplog.text


def test_a_writer_that_is_not_async_lets_others_run_between_its_batches() -> None:
    seen: list[int] = []
    passed = 0

    async def tick() -> None:
        nonlocal passed
        while len(seen) < 10:
            passed += 1
            await asyncio.sleep(0)

    cache = Cache(writer=WriteBehind(lambda items: seen.append(passed), max_batch=1))

    async def main() -> None:
        others = asyncio.create_task(tick())
        await cache.set_many({f"k{n}": n for n in range(10)})
        await cache.flush()
        await others
        assert len(set(seen)) == 10

    run(main)


# --- back-pressure ----------------------------------------------------------------------------------------------------


def test_a_full_queue_has_writers_wait_for_room_the_first_first(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, max_pending=2, max_batch=1)

    async def main() -> None:
        table.gate = asyncio.Event()
        order: list[str] = []

        async def write(key: str) -> None:
            await cache.set(key, 1)
            order.append(key)

        waiting = [asyncio.create_task(write(key)) for key in "abcdef"]
        await turns()
        assert order == ["a", "b"]
        await cache.set("a", 2)  # pending already: needs no room
        waiting[2].cancel()
        table.gate.set()
        await turns(50)
        assert order == ["a", "b", "d", "e", "f"]
        await cache.flush()
        assert sorted(table.rows) == ["a", "b", "d", "e", "f"]
        assert await cache.contains("c") is False

    run(main)


def test_who_comes_later_does_not_go_before_those_who_wait_for_room() -> None:
    order: list[str] = []
    later: list[asyncio.Task[None]] = []
    cache: Cache

    async def write(key: str) -> None:
        await cache.set(key, 1)
        order.append(key)

    async def save(items: dict[str, int]) -> None:
        if "a" in items:
            await turns()
            # It runs when there is room, and before those are awake who waited for it.
            later.append(asyncio.create_task(write("later")))

    cache = Cache(writer=WriteBehind(save, max_pending=1, delay="1h"))

    async def main() -> None:
        await write("a")
        waiting = [asyncio.create_task(write(key)) for key in "bc"]
        await turns(100)
        await asyncio.gather(*waiting, *later)
        assert order == ["a", "b", "c", "later"]
        await cache.flush()

    run(main)


def test_who_goes_away_when_there_is_room_lets_the_next_one_in() -> None:
    table = Table()
    cache = write_behind(table, max_pending=1)

    async def main() -> None:
        table.gate = asyncio.Event()
        first, second, third = (asyncio.create_task(cache.set(key, 1)) for key in "abc")
        await turns()
        table.gate.set()
        table.gate = asyncio.Event()
        for _ in range(100):
            await asyncio.sleep(0)
            if not cache.pending():
                break
        second.cancel()
        await turns()
        assert (first.done(), third.done(), cache.pending()) == (True, True, 1)
        table.gate.set()
        await cache.flush()
        assert table.rows == {"a": 1, "c": 1}

    run(main)


def test_those_who_wait_for_room_when_the_cache_closes_are_let_in(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, max_pending=1, max_wait="1h")

    async def main() -> None:
        table.error = OSError("away")
        await cache.set("a", 1)
        waiting = asyncio.create_task(cache.set("b", 2))
        await turns()
        close = asyncio.create_task(cache.close())
        await turns()
        cache_clock.advance("10s")
        with pytest.raises(WritesLost, match="'a'"):
            await close
        table.error = None
        await waiting
        await cache.flush()
        assert table.rows == {"b": 2}

    run(main)


def test_who_waits_too_long_for_room_is_told_and_nothing_has_happened(cache_clock: CacheClock) -> None:
    table = Table(b=0)
    table.error = OSError("away")
    cache = write_behind(table, max_pending=1, max_wait="5s")

    async def main() -> None:
        await cache.get("b")
        await cache.set("a", 1)
        waiting = asyncio.create_task(cache.set("b", 1))
        await turns()
        cache_clock.advance(4.9)
        await turns()
        assert not waiting.done()
        cache_clock.advance(0.1)
        with pytest.raises(WriteQueueFull, match=r"'b'.*max_wait='5s'.*nothing was written or stored") as raised:
            await waiting
        assert raised.value.__cause__ is table.error
        assert (await cache.get("b"), cache.pending()) == (0, 1)
        table.error = None
        await cache.close()

    run(main)


def test_without_a_loop_whoever_finds_the_queue_full_makes_room() -> None:
    table = Table()
    cache = write_behind(table, "sync", max_pending=2, max_batch=2)
    for n in range(10):
        cache.sync.set(f"k{n}", n)
    assert len(table.rows) >= 8
    cache.sync.close()
    assert len(table.rows) == 10


def test_a_blocking_write_does_not_wait_on_the_loop_that_would_make_room() -> None:
    table = Table()
    cache = write_behind(table, max_pending=1, max_wait="1h")

    async def main() -> None:
        await cache.set("a", 1)
        with pytest.raises(WriteQueueFull):
            cache.sync.set("b", 1)
        await cache.flush()

    run(main)


# --- everything at once -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_whatever_happens_the_last_write_is_read_and_arrives(seed: int, cache_clock: CacheClock) -> None:
    dice = random.Random(seed)
    table = Table()
    last: dict[str, Any] = {}
    cache = write_behind(table, delay="1s", max_batch=3, max_pending=6, max_wait="1h", policy=Policy(ttl=3))

    async def write(key: str, value: int | None) -> None:
        await (cache.delete(key) if value is None else cache.set(key, value))

    async def main() -> None:
        waiting: list[asyncio.Task[None]] = []
        for number in range(300):
            key = f"k{dice.randrange(10)}"
            step = dice.randrange(12)
            if step < 4:
                last[key] = None if dice.random() < 0.3 else number
                waiting.append(asyncio.create_task(write(key, last[key])))
            elif step == 4:
                table.error = OSError("away") if dice.random() < 0.5 else None
            elif step == 5:
                table.gate = asyncio.Event() if table.gate is None else (table.gate.set(), None)[1]
            elif step == 6:
                await (cache.clear() if dice.random() < 0.3 else cache.invalidate(key))
            else:
                cache_clock.advance(dice.random() * 2)
            await turns(dice.randrange(8))
        if table.gate is not None:
            table.gate.set()
        table.error = table.gate = None
        for _ in range(100):
            cache_clock.advance("1m")
            await turns()
        await asyncio.gather(*waiting)
        for key, value in last.items():
            assert await cache.get(key) == value
        await cache.close()
        assert table.rows == {key: value for key, value in last.items() if value is not None}

    run(main)
