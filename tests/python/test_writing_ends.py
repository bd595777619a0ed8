"""The end of writing behind: flushes, closed caches, loops that end, threads, forks, and the end of the process."""

import asyncio
import contextlib
import contextvars
import gc
import multiprocessing
import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import Any

import pytest
from origin import turns, until
from samovar import (
    Cache,
    CacheManager,
    ConfigError,
    WouldDeadlock,
    WriteBehind,
    WritesLost,
    WritesPending,
)
from samovar._supervisor import Supervisor
from samovar._ways import BLOCKING, blocking
from samovar._write_behind import UNWRITTEN
from samovar.testing import CacheClock
from tables import Table, both, do, run, write_behind

pytestmark = pytest.mark.usefixtures("cache_clock")


# --- flush and close --------------------------------------------------------------------------------------------------


@both
def test_a_flush_writes_what_is_pending_now(face: str) -> None:
    table = Table()
    cache = write_behind(table, face, delay="1h")

    async def main() -> None:
        await do(face, cache, "set_many", {"a": 1, "b": 2})
        await do(face, cache, "flush")
        assert (table.rows, cache.pending()) == ({"a": 1, "b": 2}, 0)

    run(main)


def test_a_flush_that_takes_too_long_leaves_the_rest_pending(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table)

    async def main() -> None:
        table.gate = asyncio.Event()
        await cache.set("a", 1)
        flush = asyncio.create_task(cache.flush(timeout="2s"))
        await turns()
        cache_clock.advance(2)
        with pytest.raises(WritesPending, match="1 still pending"):
            await flush
        assert await cache.get("a") == 1
        table.gate.set()
        await cache.flush()
        assert table.rows == {"a": 1}

    run(main)


def test_a_writer_that_waits_for_what_only_it_knows_of_is_not_collected(cache_clock: CacheClock) -> None:
    waits: list[weakref.ref[asyncio.Future[None]]] = []

    async def write(items: Any) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waits.append(weakref.ref(future))
        await future

    cache = Cache(writer=WriteBehind(write, delay="1s"))

    async def main() -> None:
        await cache.set("a", 1)
        cache_clock.advance(2)
        assert await until(lambda: bool(waits))
        gc.collect()
        future = waits[0]()
        assert future is not None
        future.set_result(None)
        await turns(20)
        assert (cache.pending(), len(waits)) == (0, 1)

    run(main)


def test_what_a_supervisor_started_on_a_loop_that_was_closed_is_not_kept() -> None:
    supervisor, loop = Supervisor(), asyncio.new_event_loop()
    task = loop.create_task(asyncio.sleep(0))
    task.cancel()
    started = supervisor.start("", loop, asyncio.Event().wait(), "never")
    loop.run_until_complete(asyncio.sleep(0))
    assert [work.future for work in supervisor.below("")] == [started]
    started._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert supervisor.below("") == []
    seen = weakref.ref(started)
    del started, task

    async def main() -> None:
        await supervisor.start("", asyncio.get_running_loop(), asyncio.sleep(0), "next")

    run(main)
    gc.collect()
    assert seen() is None
    assert supervisor.below("") == []


def test_a_flush_ends_when_what_it_flushes_is_given_up(cache_clock: CacheClock) -> None:
    table = Table()
    table.error = OSError("away")
    cache = write_behind(table, retry=1)

    async def main() -> None:
        await cache.set("a", 1)
        await cache.flush()
        assert cache.pending() == 0

    run(main)


def test_flushes_that_meet_wait_for_the_same_call_and_one_that_is_cancelled_ends_none_of_them() -> None:
    table = Table()
    cache = write_behind(table, delay="1h")

    async def main() -> None:
        gate = table.gate = asyncio.Event()
        await cache.set("a", 1)
        flushes = [asyncio.create_task(cache.flush()) for _ in range(3)]
        await turns()
        flushes[0].cancel()
        await turns()
        assert [flush.done() for flush in flushes] == [True, False, False]
        gate.set()
        await asyncio.gather(*flushes[1:])
        await cache.flush()
        assert table.log == [("set", {"a": 1})]

    run(main)


def test_a_flush_does_not_wait_for_what_is_written_after_it_began() -> None:
    table = Table()
    cache = write_behind(table, delay="1h")

    async def main() -> None:
        gate = table.gate = asyncio.Event()
        await cache.set("a", 1)
        first = asyncio.create_task(cache.flush())
        await turns()
        await cache.set("b", 2)
        second = asyncio.create_task(cache.flush())
        await turns()
        table.gate = asyncio.Event()
        gate.set()
        await first
        await turns()
        await cache.set("c", 3)
        table.gate.set()
        await second
        assert (table.rows, cache.pending()) == ({"a": 1, "b": 2}, 1)
        await cache.close()

    run(main)


@both
def test_closing_writes_what_is_pending(face: str) -> None:
    table = Table(c=1)
    cache = write_behind(table, face, delay="1h")

    async def main() -> None:
        async with cache:
            await do(face, cache, "set", "a", 1)
            await do(face, cache, "delete", "c")
        assert table.rows == {"a": 1}
        assert cache.closed

    run(main)


def test_closing_names_what_was_lost_and_the_cache_starts_anew(cache_clock: CacheClock) -> None:
    table = Table()
    table.error = OSError("away")
    told: list[str] = []
    cache = write_behind(table, close_timeout="10s", on_lost=lambda write: told.append(write.key))

    async def main() -> None:
        await cache.set("a", 1)
        await cache.set("b", 2)
        close = asyncio.create_task(cache.close())
        for _ in range(20):
            await turns()
            cache_clock.advance(1)
        with pytest.raises(WritesLost, match=r"2 writes of cache 'app'.*'a', 'b'.*OSError") as raised:
            await close
        assert [(write.key, write.value) for write in raised.value.lost] == [("a", 1), ("b", 2)]
        assert raised.value.__cause__ is table.error
        assert (told, cache.pending(), cache.closed) == (["a", "b"], 0, True)
        assert len(table.log) > 2
        table.error = None
        await cache.set("a", 3)
        await cache.close()
        assert table.rows == {"a": 3}

    run(main)


def test_closing_cancels_a_writer_that_hangs(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, close_timeout="10s")

    async def main() -> None:
        table.gate = asyncio.Event()
        await cache.set("a", 1)
        close = asyncio.create_task(cache.close())
        await turns()
        assert table.busy == 1
        cache_clock.advance(10)
        with pytest.raises(WritesLost, match="no time to write them"):
            await close
        assert table.busy == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_closing_leaves_a_writer_that_will_not_be_cancelled(
    cache_clock: CacheClock, caplog: pytest.LogCaptureFixture
) -> None:
    gate = asyncio.Event()

    async def stubborn(items: dict[str, Any]) -> None:
        while not gate.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await gate.wait()

    cache = Cache(name="app", writer=WriteBehind(stubborn))

    async def main() -> None:
        await cache.set("a", 1)
        close = asyncio.create_task(cache.close(grace=0))
        await turns()
        cache_clock.advance(10)
        with pytest.raises(WritesLost):
            await close
        assert (cache.pending(), cache.closed) == (0, True)
        assert "write-behind app" in caplog.text
        gate.set()
        await turns()

    run(main)


def test_closing_that_is_cancelled_loses_nothing_and_can_be_done_again() -> None:
    table = Table()
    cache = write_behind(table, delay="1h")

    async def main() -> None:
        gate = table.gate = asyncio.Event()
        await cache.set("a", 1)
        close = asyncio.create_task(cache.close())
        await turns()
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        assert cache.pending() == 1
        gate.set()
        await cache.close()
        assert table.log == [("set", {"a": 1})]

    run(main)


def test_of_several_who_close_one_is_told_what_was_lost(cache_clock: CacheClock) -> None:
    table = Table()
    told: list[str] = []
    cache = write_behind(table, on_lost=lambda write: told.append(write.key))

    async def main() -> None:
        table.gate = asyncio.Event()
        await cache.set("a", 1)
        closes = asyncio.gather(*(cache.close() for _ in range(3)), return_exceptions=True)
        await turns()
        cache_clock.advance(10)
        ends = await closes
        assert [type(end) for end in ends if end is not None] == [WritesLost]
        assert told == ["a"]

    run(main)


@pytest.mark.parametrize("face", ["flush", "close"])
def test_an_interrupt_of_a_blocking_writer_reaches_its_caller_and_loses_nothing(face: str) -> None:
    table = Table()
    table.error = KeyboardInterrupt()
    cache = write_behind(table, "sync", delay="1h")
    cache.sync.set("a", 1)
    with pytest.raises(KeyboardInterrupt):
        getattr(cache.sync, face)()
    assert (cache.pending(), cache.sync.get("a")) == (1, 1)
    table.error = None
    cache.sync.close()
    assert table.rows == {"a": 1}


def test_what_is_written_outlives_its_cache_and_holds_it_no_longer_than_needed() -> None:
    table = Table()

    def write() -> weakref.ref[Cache]:
        cache = write_behind(table, "sync", delay="1h")
        cache.sync.set("a", 1)
        return weakref.ref(cache)

    before = set(UNWRITTEN)
    gone = write()
    gc.collect()
    assert gone() is None
    (behind,) = UNWRITTEN - before
    blocking(behind.close(BLOCKING))
    assert table.rows == {"a": 1}
    assert behind not in UNWRITTEN


def test_a_manager_closes_every_cache_and_tells_of_the_lost() -> None:
    failing, working = Table(), Table()
    failing.error = OSError("away")
    manager = CacheManager({"one": write_behind(failing, close_timeout=0), "two": write_behind(working)})

    async def main() -> None:
        for name in ("one", "two"):
            await manager[name].set("a", 1)
        with pytest.raises(ExceptionGroup) as raised:
            await manager.close()
        assert isinstance(raised.value.exceptions[0], WritesLost)
        assert working.rows == {"a": 1}

    run(main)


def test_namespaces_are_flushed_and_closed_with_the_cache_around_them() -> None:
    users, posts = Table(), Table()
    cache = Cache(name="app")
    names = {"users": users, "posts": posts}
    for name, table in names.items():
        cache.namespace(name, loader=table.load_now, writer=WriteBehind(table.save_many_now)).sync.set("a", 1)
    cache.namespace("users").sync.flush()
    assert (users.rows, posts.rows, cache.pending()) == ({"a": 1}, {}, 1)
    users.error = posts.error = OSError("away")
    cache.namespace("users").sync.set("b", 1)
    posts.error = None
    cache.namespace("posts").sync.close()
    assert (posts.rows, cache.pending()) == ({"a": 1}, 1)
    users.error = None
    cache.sync.close()
    assert users.rows == {"a": 1, "b": 1}


def test_a_writer_cannot_wait_for_itself() -> None:
    raised: list[Exception] = []
    cache: Cache

    async def save(items: dict[str, Any]) -> None:
        try:
            await cache.flush()
        except WouldDeadlock as error:
            raised.append(error)

    cache = Cache(writer=WriteBehind(save))

    async def main() -> None:
        await cache.set("a", 1)
        await cache.flush()
        assert len(raised) == 1

    run(main)


def test_a_task_that_a_writer_leaves_behind_may_flush_later() -> None:
    cache: Cache
    behind: list[asyncio.Task[None]] = []

    async def later() -> None:
        await turns()
        await cache.set("b", 1)
        await cache.flush()

    async def save(items: dict[str, Any]) -> None:
        if "a" in items:
            behind.append(asyncio.create_task(later()))

    cache = Cache(writer=WriteBehind(save))

    async def main() -> None:
        await cache.set("a", 1)
        await cache.flush()
        await behind[0]
        assert cache.pending() == 0

    run(main)


def test_a_time_without_end_is_a_time() -> None:
    table = Table()
    cache = write_behind(table, "sync", close_timeout=float("inf"), max_wait=float("inf"))
    cache.sync.set("a", 1)
    cache.sync.flush(timeout=float("inf"))
    cache.sync.close()
    assert table.rows == {"a": 1}


# --- loops, threads, forks, the end of the process --------------------------------------------------------------------


def test_a_loop_that_ends_writes_what_is_pending_first() -> None:
    table = Table()
    cache = write_behind(table, delay="1h")
    asyncio.run(cache.set("a", 1))  # type: ignore[arg-type]
    assert (table.rows, cache.pending()) == ({"a": 1}, 0)


def test_a_loop_that_ends_while_its_writer_waits_has_it_write_again() -> None:
    calls: list[str] = []

    async def save(items: dict[str, int]) -> None:
        calls.append("begun")
        if len(calls) == 1:
            await asyncio.Event().wait()
        calls.append("done")

    cache = Cache(writer=WriteBehind(save, delay=0))

    async def main() -> None:
        await cache.set("a", 1)
        await turns()

    asyncio.run(main())
    assert (calls, cache.pending()) == (["begun", "begun", "done"], 0)


def test_what_a_loop_could_not_write_the_next_one_writes() -> None:
    table = Table()
    cache = write_behind(table, delay=0)

    async def first() -> None:
        table.gate = asyncio.Event()
        await cache.set("a", 1)
        await turns()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(first())
    assert table.busy == 1
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()  # with its task: nobody cancels it
    table.gate = None

    async def second() -> None:
        await cache.flush()
        assert table.rows == {"a": 1}

    run(second)
    # The dead task's own loop must not be asked for anything any more.
    assert cache.pending() == 0


def test_loops_in_several_threads_write_one_after_the_other_and_in_order() -> None:
    table = Table()
    cache = write_behind(table, delay=0, max_batch=3)
    order: dict[str, list[int]] = {}

    async def save(items: dict[str, int]) -> None:
        await table.wait()
        await asyncio.sleep(0)
        for key, value in items.items():
            order.setdefault(key, []).append(value)
        table.rows.update(items)

    cache = Cache(writer=WriteBehind(save, delay=0, max_batch=3))

    async def write(name: str) -> None:
        for n in range(100):
            await cache.set(f"{name}{n % 7}", n)
            if n % 10 == 0:
                await asyncio.sleep(0)
        await cache.flush()

    threads = [threading.Thread(target=lambda name=name: asyncio.run(write(name))) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.busiest == 1
    assert all(values == sorted(values) for values in order.values())
    assert table.rows == {f"{name}{n % 7}": n for name in "abcd" for n in range(100)}


def test_a_thread_leaves_the_writing_to_the_loop_that_is_known(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table)

    async def main() -> None:
        await cache.set("a", 1)
        await cache.flush()
        await asyncio.to_thread(cache.sync.set, "b", 2)
        assert table.rows == {"a": 1}
        await asyncio.to_thread(cache.sync.flush)
        assert table.rows == {"a": 1, "b": 2}

    run(main)


def test_without_a_loop_whoever_writes_next_writes_what_is_due(cache_clock: CacheClock) -> None:
    table = Table()
    cache = write_behind(table, "sync")
    cache.sync.set("a", 1)
    cache_clock.advance(5)
    assert table.rows == {}
    cache.sync.set("b", 2)
    assert table.rows == {"a": 1, "b": 2}


def test_an_async_writer_without_a_loop_is_refused_and_nothing_is_pending() -> None:
    table = Table(a=0)
    cache = write_behind(table)
    with pytest.raises(ConfigError, match="async and no event loop is known"):
        cache.sync.set("a", 1)
    assert (cache.pending(), cache.sync.contains("a")) == (0, False)

    async def main() -> None:
        await cache.set("a", 1)
        with pytest.raises(ConfigError, match="await the async face"):
            cache.sync.flush()
        await cache.close()

    run(main)


def test_a_writer_that_turns_out_to_be_async_is_not_called_in_vain_for_ever() -> None:
    table = Table()
    cache = Cache(writer=WriteBehind(lambda items: table.save_many(items)))
    cache.sync.set("a", 1)
    with pytest.raises(ConfigError, match="async and no event loop"):
        cache.sync.flush()
    with pytest.raises(ConfigError, match="async and no event loop"):
        cache.sync.set("b", 1)
    assert cache.pending() == 1

    async def main() -> None:
        await cache.flush()
        assert table.rows == {"a": 1}

    run(main)


def test_the_writer_runs_in_a_context_of_its_own(cache_clock: CacheClock) -> None:
    request: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="none")
    seen: list[str] = []

    async def save(items: dict[str, Any]) -> None:
        seen.append(request.get())

    cache = Cache(writer=WriteBehind(save))

    async def main() -> None:
        request.set("of the first who wrote")
        await cache.set("a", 1)
        await cache.flush()
        assert seen == ["none"]

    run(main)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_the_copies_and_nothing_pending() -> None:
    table = Table(b=0)
    cache = write_behind(table, "sync")
    cache.sync.set("a", 1)
    cache.sync.set("b", 1)
    cache.sync.invalidate("b")
    child = os.fork()
    if child == 0:
        code = 1
        try:
            assert (cache.pending(), cache.sync.get("a"), cache.sync.get("b")) == (0, 1, 0)
            cache.sync.set("c", 3)
            cache.sync.close()
            assert table.log == [("set", {"c": 3})]
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    cache.sync.flush()
    assert table.log == [("set", {"a": 1, "b": 1})]


IN_A_WORKER = """
import multiprocessing
from samovar import Cache, WriteBehind

def save(items):
    print("wrote", items, flush=True)

cache = Cache(name="app", writer=WriteBehind(save))

def work(key):
    cache.sync.set(key, 1)

if __name__ == "__main__":
    cache.sync.set("parent", 1)
    child = multiprocessing.get_context({method!r}).Process(target=work, args=("child",))
    child.start()
    child.join()
    print("joined", child.exitcode, flush=True)
"""


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_worker_of_multiprocessing_writes_what_is_pending_before_it_ends(method: str, tmp_path: Path) -> None:
    script = tmp_path / "worker.py"
    script.write_text(IN_A_WORKER.format(method=method))
    done = subprocess.run([sys.executable, "-P", script], capture_output=True, text=True, timeout=60)
    assert done.stdout.splitlines() == ["wrote {'child': 1}", "joined 0", "wrote {'parent': 1}"], done.stderr


AT_EXIT = """
from samovar import Cache, WriteBehind

{kind} save(items):
    print("wrote", items, flush=True)

def leave():
    cache = Cache(name="app", writer=WriteBehind(save))
    {write}

leave()
"""


@pytest.mark.parametrize(
    ("kind", "write", "out", "err"),
    [
        ("def", "cache.sync.set('a', 1)", "wrote {'a': 1}\n", ""),
        ("async def", "import asyncio; asyncio.run(cache.set('a', 1))", "wrote {'a': 1}\n", ""),
        (
            "async def",
            (
                "import asyncio; loop = asyncio.new_event_loop(); loop.run_until_complete(cache.set('a', 1)); "
                "next(iter(asyncio.all_tasks(loop))).get_coro().close(); loop.close()"
            ),
            "",
            "1 write of cache 'app' never reached the source: 'a'; there was no time",
        ),
    ],
    ids=["sync", "async, the loop ends", "async, the loop is dropped"],
)
def test_at_the_end_of_the_process_what_is_pending_is_written_or_named(
    kind: str, write: str, out: str, err: str
) -> None:
    source = AT_EXIT.format(kind=kind, write=write)
    ended = subprocess.run([sys.executable, "-P", "-c", source], capture_output=True, text=True, check=True)
    assert ended.stdout == out
    assert err in ended.stderr
    assert err or ended.stderr == ""
