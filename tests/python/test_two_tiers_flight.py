"""A cache over a real Redis while something is under way, and that nothing of it is left.

Loads that others overtake, callers who leave, loops and threads and processes that come and go.
"""

import asyncio
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
from faces import Face
from origin import Origin, turns
from samovar import Cache, NotFound
from servers import RedisServer
from tiers import Make, a_face, a_make, a_server, is_trusted, keys_of  # noqa: F401 - fixtures
from watching import settled, whole

# --- what is under way ------------------------------------------------------------------------------------------------


class Gate:
    """A loader that waits, for tests that need something to happen meanwhile."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.entered = asyncio.Event()
        self.open = asyncio.Event()

    async def load(self, *_: object) -> int:
        self.calls += 1
        number = self.calls
        self.entered.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return number


@pytest.mark.parametrize("how", ["delete", "set", "clear", "delete_match", "invalidate", "incr", "add", "set_missing"])
@pytest.mark.parametrize("whose", ["own", "another's"])
def test_a_load_that_began_before_a_change_stores_nothing(make: Make, how: str, whose: str) -> None:
    async def main() -> None:
        here, there, gate = make(), make(), Gate()
        changing = here if whose == "own" else there
        load = asyncio.create_task(here.get_or_set("1", gate.load))  # type: ignore[arg-type]
        await gate.entered.wait()
        arguments: dict[str, tuple[Any, ...]] = {
            "set": ("1", 7),
            "clear": (),
            "delete_match": ("*",),
            "add": ("1", 7),
            "set_missing": ("1", 60),
        }
        await getattr(changing, how)(*arguments.get(how, ("1",)))
        after = {"set": 7, "add": 7, "incr": 1}.get(how)
        gate.open.set()
        try:
            assert await load in (1, after), "who began before gets what was loaded, or what has come since"
        except NotFound:
            assert how == "set_missing"
        for cache in (here, there, make()):
            assert await cache.get("1") == after, cache

    asyncio.run(main())


def test_a_get_that_starts_after_an_invalidation_joins_no_older_load(make: Make) -> None:
    async def main() -> None:
        cache, gate = make(), Gate()
        f = cache.cached("5m", key="a")(gate.load)
        old = asyncio.create_task(f())
        await gate.entered.wait()
        await f.invalidate()
        gate.entered.clear()
        new = asyncio.create_task(f())
        await gate.entered.wait()
        gate.open.set()
        assert (await old, await new) == (1, 2)
        assert await f() == await make().get("a") == 2

    asyncio.run(main())


def test_two_processes_that_load_at_once_agree_on_the_first(make: Make) -> None:
    async def main() -> None:
        caches = [make() for _ in range(4)]
        gates = [Gate() for _ in caches]
        numbers = iter(range(100))

        async def load(gate: Gate) -> int:
            await gate.load()
            return next(numbers)

        tasks = []
        for cache, gate in zip(caches, gates, strict=True):
            tasks.append(asyncio.create_task(cache.get_or_set("a", lambda gate=gate: load(gate))))  # type: ignore[misc]
            await gate.entered.wait()
        for gate, task in zip(reversed(gates), reversed(tasks), strict=True):
            gate.open.set()
            assert await task == 0, "the first to end is what all have"
        assert [await cache.get("a") for cache in caches] == [0] * 4

    asyncio.run(main())


def test_a_refresh_loads_anew_and_replaces_what_is_there_everywhere(face: Face, make: Make) -> None:
    origin = Origin()
    f, g = (make().cached("5m", key="a")(face.function(lambda: origin.load_now())) for _ in range(2))
    assert face.call(f) == face.call(g) == 1
    assert face.call(g.refresh) == 2
    assert face.call(g) == 2
    assert face.do(make(), "get", "a") == 2
    origin.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        face.call(g.refresh)
    origin.error = None
    assert face.call(g) == 2
    assert face.do(make(), "get", "a") == 2


def test_a_refresh_is_newer_than_a_load_that_began_before_it(make: Make) -> None:
    async def main() -> None:
        here, there, gate = make(), make(), Gate()
        slow = asyncio.create_task(there.get_or_set("a", gate.load))  # type: ignore[arg-type]
        await gate.entered.wait()

        async def two() -> int:
            return 2

        f = here.cached("5m", key="a")(two)
        assert await f.refresh() == 2
        gate.open.set()
        assert await slow in (1, 2)
        assert await there.get("a") == await make().get("a") == 2

    asyncio.run(main())


def test_many_callers_load_once(make: Make) -> None:
    async def main() -> None:
        cache, gate = make(), Gate()
        f = cache.cached("5m", key="a")(gate.load)
        tasks = [asyncio.create_task(f()) for _ in range(200)]
        await gate.entered.wait()
        gate.open.set()
        assert await asyncio.gather(*tasks) == [1] * 200
        stats = cache.stats()
        assert (gate.calls, stats.loads, stats.misses, stats.coalesced) == (1, 1, 200, 199)
        assert cache.remote_stats().claims == 1
        assert cache.remote_stats().writes == 1

    asyncio.run(main())


def test_many_gets_ask_the_store_for_what_they_want_and_are_all_answered(make: Make) -> None:
    async def main() -> None:
        here, there = make(), make()
        await here.set_many({f"{n}": n for n in range(100)})
        found = await asyncio.gather(*(there.get(f"{n % 120}", -1) for n in range(600)))
        assert found == [n % 120 if n % 120 < 100 else -1 for n in range(600)]

    asyncio.run(main())


def test_one_callers_cancellation_is_its_own(make: Make) -> None:
    async def main() -> None:
        cache, gate = make(), Gate()

        async def load() -> int:
            return await gate.load()

        f = cache.cached("5m", key="a")(load)
        leader, other = asyncio.create_task(f()), asyncio.create_task(f())
        await gate.entered.wait()
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        gate.open.set()
        assert await other == 1
        assert gate.calls == 1
        assert await make().get("a") == 1

    asyncio.run(main())


def test_with_its_last_waiter_gone_the_load_is_cancelled_and_its_claim_given_back(
    make: Make, server: RedisServer
) -> None:
    async def main() -> None:
        cache, gate = make(), Gate()
        f = cache.cached("5m", key="a")(gate.load)
        tasks = [asyncio.create_task(f()) for _ in range(3)]
        await gate.entered.wait()
        assert keys_of(server) == ["app::a"]
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in ended] == [asyncio.CancelledError] * 3
        await turns()
        assert gate.cancelled == 1
        # The claim is given back by a message that nobody waits for.
        assert await asyncio.to_thread(settled, lambda: keys_of(server) == [])
        gate.open.set()
        assert await f() == 2

    asyncio.run(main())


@pytest.mark.parametrize("passes", range(6))
def test_cancelled_at_any_moment_it_leaves_nothing(make: Make, server: RedisServer, passes: int) -> None:
    async def main() -> None:
        cache = make()
        f = cache.cached("5m")(Origin().load)
        for n in range(30):
            task = asyncio.create_task(f(n))
            await turns(passes)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await turns()
        inside = cache._inspect()
        assert (inside["flights"], inside["tasks"]) == (0, 0)
        assert await asyncio.gather(*(f(n) for n in range(30)))

    asyncio.run(main())


@pytest.mark.parametrize("method", ["get", "set", "delete", "get_many", "incr", "items", "clear", "touch"])
@pytest.mark.parametrize("passes", [0, 1, 2])
def test_any_operation_may_be_cancelled(make: Make, method: str, passes: int) -> None:
    async def main() -> None:
        cache = make()
        await cache.set("a", 1)
        other = make()
        arguments: dict[str, tuple[Any, ...]] = {"set": ("a", 2), "get_many": (["a"],), "items": (), "clear": ()}

        async def work() -> None:
            made = getattr(other, method)(*arguments.get(method, ("a",)))
            if method == "items":
                async for _ in made:
                    pass
            else:
                await made

        task = asyncio.create_task(work())
        await turns(passes)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        # What was cancelled may still be done, a moment later.
        for _ in range(100):
            await other.set("b", 2)
            if await other.get_many(["b"]) == {"b": 2}:
                return
            await asyncio.sleep(0.01)
        raise AssertionError("it is never there")

    asyncio.run(main())


def test_a_cancelled_write_leaves_nothing_older_in_memory_than_the_store_has(make: Make) -> None:
    async def main() -> None:
        cache = make()
        for n in range(50):
            await cache.set("a", n)
            task = asyncio.create_task(cache.set("a", -n - 1))
            await turns(1 + n % 3)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            # What was sent is done there before anything that is sent later.
            truth = await make().get("a")
            assert await cache.get("a") == truth

    asyncio.run(main())


def test_a_clear_and_a_delete_match_leave_no_moment_for_the_old_to_come_back(make: Make) -> None:
    async def main() -> None:
        here, there = make(), make()
        names = [f"{n}" for n in range(50)]
        for change in (there.clear, lambda: there.delete_match("*")):
            await here.set_many(dict.fromkeys(names, "old"))
            assert await there.get_many(names) == dict.fromkeys(names, "old")
            task = asyncio.create_task(change())
            while not task.done():
                # Whoever looks meanwhile may get the old value, and keeps it no longer than the change takes.
                await asyncio.gather(*(there.get(name) for name in names))
            await task
            assert await there.get_many(names) == {}

    asyncio.run(main())


# --- old values -------------------------------------------------------------------------------------------------------


def old(make: Make, value: object, **options: Any) -> None:
    """A value under `a` that the servers' clock has made old, and of which another process knows nothing."""
    cache = make()
    cache.sync.get_or_set("a", lambda: value, ttl=0.02, jitter=0, **options)
    assert settled(lambda: cache.sync.ttl("a") is None)


def test_after_its_ttl_an_entry_is_gone_in_both(face: Face, make: Make, server: RedisServer) -> None:
    here = make()
    face.do(here, "set", "a", 1, ttl=0.02)
    assert settled(lambda: face.do(here, "get", "a") is None)
    assert settled(lambda: keys_of(server) == [])
    assert face.do(here, "contains", "a") is False
    assert face.do(here, "add", "a", 2) is True
    assert face.do(make(), "get", "a") == 2


def test_an_old_value_of_the_store_answers_if_the_load_fails(face: Face, make: Make) -> None:
    old(make, 7, stale_if_error=60)
    origin = Origin()
    origin.error = ZeroDivisionError()
    f = make().cached(60, key="a", stale_if_error=60)(face.function(lambda: origin.load_now()))
    assert face.call(f) == 7
    assert origin.calls == 1
    origin.error = None
    g = make().cached(60, key="a", stale_if_error=60)(face.function(lambda: origin.load_now()))
    assert face.call(g) == 2


def test_an_old_value_of_the_store_is_no_answer_to_who_did_not_ask_for_old_ones(face: Face, make: Make) -> None:
    old(make, 7, stale_if_error=60)
    assert face.do(make(), "get", "a") is None
    assert face.do(make(), "contains", "a") is False
    assert face.do(make(), "get_many", ["a"]) == {}
    assert face.do(make(), "touch", "a", 60) is False
    assert face.do(make(), "delete", "a") is False


def test_stale_while_revalidate_answers_from_memory_and_refreshes_both(make: Make) -> None:
    async def main() -> None:
        origin = Origin()

        async def load() -> int:
            return await origin.load()

        here = make()
        f = here.cached(0.02, key="a", stale_while_revalidate=60, jitter=0)(load)
        assert await f() == 1
        assert await asyncio.to_thread(settled, lambda: here._inspect() and stale(here))
        assert await f() == 1, "the old one, at once"
        assert await asyncio.to_thread(settled, lambda: origin.calls > 1 and not here._inspect()["flights"])

    def stale(cache: Cache) -> bool:
        entry = cache.sync.peek("a")
        return entry is not None and entry.state == "stale"

    asyncio.run(main())


def test_an_early_refresh_goes_to_the_store_too(make: Make) -> None:
    async def main() -> None:
        here, origin = make(), Origin()

        async def load() -> int:
            return await origin.load()

        f = here.cached(60, key="a", early=10_000_000.0, jitter=0)(load)
        assert await f() == 1
        deadline = asyncio.get_running_loop().time() + 10
        while origin.calls < 2 and asyncio.get_running_loop().time() < deadline:
            await f()
            await asyncio.sleep(0.001)
        assert await asyncio.to_thread(settled, lambda: not here._inspect()["flights"])
        if origin.calls > 1:
            assert await make().get("a") == origin.calls

    asyncio.run(main())


# --- loops, threads, processes ----------------------------------------------------------------------------------------


def test_a_loop_that_closes_in_the_middle_leaves_the_next_one_free(make: Make) -> None:
    cache = make()
    tasks: list[Any] = []

    async def leave() -> None:
        gate = Gate()
        for n in range(10):
            tasks.append(asyncio.ensure_future(cache.get_or_set(f"{n}", gate.load)))
            tasks.append(asyncio.gather(cache.get(f"g{n}"), cache.set(f"s{n}", 1), return_exceptions=True))
        await gate.entered.wait()

    async def use() -> None:
        for n in range(10):
            assert await cache.get_or_set(f"{n}", Origin().load) == 1
            assert await cache.get(f"s{n}") in (None, 1)
        await cache.set("x", 1)
        assert await cache.get("x") == 1

    for _ in range(3):
        asyncio.run(leave())
        asyncio.run(use())
        asyncio.run(cache.clear())


def test_a_loop_that_is_stopped_and_never_closed_properly_blocks_nobody(make: Make) -> None:
    cache, origin = make(), Origin()
    loop = asyncio.new_event_loop()
    task = loop.create_task(cache.get_or_set("a", origin.load))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert cache.sync.get_or_set("a", origin.load_now) in (1, 2)
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert asyncio.run(anything(cache.get("a"))) in (1, 2)


async def anything(awaitable: Any) -> Any:
    return await awaitable


def test_increments_of_tasks_and_threads_of_two_processes_are_all_counted(make: Make) -> None:
    here, there = make(), make()
    wrong: list[object] = []

    def block(cache: Cache) -> None:
        try:
            for _ in range(50):
                cache.sync.incr("a")
        except BaseException as error:
            wrong.append(error)

    async def tasks() -> None:
        await asyncio.gather(*(cache.incr("a") for cache in (here, there) for _ in range(20)))

    threads = [threading.Thread(target=block, args=(cache,)) for cache in (here, there, here)]
    threads.append(threading.Thread(target=lambda: asyncio.run(tasks())))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert make().sync.get("a") == 190
    for cache in (here, there):
        # Without a bus one may have an older sum in memory; what it adds is added to what the store has.
        assert cache.sync.incr("a", 0) == 190


def test_of_many_adds_at_once_one_is_made(make: Make) -> None:
    caches = [make() for _ in range(4)]

    async def main() -> list[bool]:
        return await asyncio.gather(*(cache.add("a", n) for n, cache in enumerate(caches) for _ in range(10)))

    made = asyncio.run(main())
    assert made.count(True) == 1
    assert make().sync.get("a") == made.index(True) // 10


def test_of_an_add_a_replace_and_a_delete_at_once_some_order_is_true(make: Make) -> None:
    async def main() -> None:
        for _ in range(50):
            one, two = make(memory=None), make(memory=None)
            await one.delete("a")
            added, replaced, deleted = await asyncio.gather(one.add("a", 1), two.replace("a", 2), one.delete("a"))
            left = await two.get("a")
            assert added is True
            assert left in ((2,) if replaced and not deleted else (None,) if deleted else (1, 2))
            if deleted:
                assert left is None

    asyncio.run(main())


def test_threads_load_once_and_agree(make: Make) -> None:
    cache = make()
    entered, go, calls = threading.Event(), threading.Event(), []

    def load() -> int:
        calls.append(1)
        entered.set()
        assert go.wait(10)
        return len(calls)

    got: list[int] = []
    threads = [threading.Thread(target=lambda: got.append(cache.sync.get_or_set("a", load))) for _ in range(8)]
    for thread in threads:
        thread.start()
    assert entered.wait(10)
    go.set()
    for thread in threads:
        thread.join()
    assert (got, len(calls)) == ([1] * 8, 1)
    assert make().sync.get("a") == 1


def test_a_thread_and_a_loop_share_a_load(make: Make) -> None:
    cache, entered, go = make(), threading.Event(), threading.Event()

    def load() -> int:
        entered.set()
        assert go.wait(10)
        return 1

    got: list[int] = []
    thread = threading.Thread(target=lambda: got.append(cache.sync.get_or_set("a", load)))
    thread.start()
    assert entered.wait(10)

    async def main() -> int:
        task = asyncio.create_task(cache.get_or_set("a", Origin().load))
        await turns()
        go.set()
        return await task

    assert asyncio.run(main()) == 1
    thread.join()
    assert got == [1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_uses_the_cache_and_so_does_its_parent(make: Make) -> None:
    cache = make()
    cache.sync.set("a", 1)
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            story = [cache.sync.get("a"), cache.sync.get("b"), cache.sync.incr("n")]
            cache.sync.set("c", "child")
            story += [asyncio.run(anything(cache.get("c"))), cache.sync.get_or_set("d", lambda: "d")]
            os.write(write, repr(story).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as told:
        assert told.read() == "[1, None, 1, 'child', 'd']"
    os.waitpid(child, 0)
    assert cache.sync.get("c") == "child"
    assert cache.sync.incr("n") == 2
    assert asyncio.run(anything(cache.get("d"))) == "d"


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_in_the_middle_of_a_load_leaves_the_parent_its_claim(make: Make, server: RedisServer) -> None:
    async def main() -> None:
        cache, gate = make(), Gate()
        task = asyncio.create_task(cache.get_or_set("a", gate.load))  # type: ignore[arg-type]
        await gate.entered.wait()
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.write(write, repr([cache.sync.get("a"), cache._inspect()["flights"]]).encode())
            finally:
                os._exit(0)
        os.close(write)
        with os.fdopen(read) as told:
            assert told.read() == "[None, 0]"
        os.waitpid(child, 0)  # noqa: ASYNC222 - it has ended
        gate.open.set()
        assert await task == 1
        assert await make().get("a") == 1

    asyncio.run(main())


def forget(call: Callable[[], Any]) -> None:
    call()
    gc.collect()


def test_what_nobody_awaits_warns_and_asks_nothing(make: Make) -> None:
    cache = make()
    calls: list[Callable[[], Any]] = [
        lambda: cache.get("a"),
        lambda: cache.get_or_set("a", Origin().load),
        lambda: cache.set("a", 1),
        lambda: cache.get_many(["a"]),
        lambda: cache.delete("a"),
        cache.cached("5m", key="a")(Origin().load),
    ]
    before = cache.remote_stats()
    for call in calls:
        with pytest.warns(RuntimeWarning, match="never awaited"):
            forget(call)
    assert cache.remote_stats() == before
    whole(cache)
    f = cache.cached("5m", key="{a}")(lambda a: a)
    assert f(1) == 1


def test_without_an_event_loop_the_error_says_what_to_do(make: Make) -> None:
    import trio

    cache = make()

    async def main() -> None:
        for call in (lambda: cache.get("a"), lambda: cache.set("a", 1), lambda: cache.get_or_set("a", Origin().load)):
            with pytest.raises(RuntimeError, match="asyncio"):
                await call()

    trio.run(main)
    for call in (lambda: cache.get("a"), lambda: cache.set("a", 1)):
        made = call()
        with pytest.raises(RuntimeError, match="asyncio"):
            made.__await__().send(None) if hasattr(made.__await__(), "send") else next(made.__await__())
    cache.sync.set("a", 1)
    assert settled(lambda: is_trusted(Face("sync"), cache, "a"))

    async def hit() -> None:
        assert await cache.get("a") == 1

    trio.run(hit)


EXIT = """
import asyncio, sys, threading
from samovar import Cache
cache = Cache(sys.argv[1], name="exit")
how = sys.argv[2]
async def slow():
    await asyncio.sleep(60)
async def main():
    tasks = [asyncio.ensure_future(cache.get_or_set(f"{n}", slow)) for n in range(5)]
    tasks += [asyncio.ensure_future(cache.set(f"s{n}", n)) for n in range(50)]
    tasks += [asyncio.ensure_future(cache.get(f"g{n}")) for n in range(50)]
    await asyncio.sleep(0)
    if how == "exit":
        sys.exit(3)
    if how == "raise":
        raise ZeroDivisionError
    return tasks
if how == "thread":
    threading.Thread(target=lambda: [cache.sync.set(f"{n}", n) for n in range(1000)], daemon=True).start()
    cache.sync.set("a", 1)
elif how == "loop":
    loop = asyncio.new_event_loop()
    loop.create_task(main())
    loop.call_later(0.005, loop.stop)
    loop.run_forever()
else:
    asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("how", ["end", "exit", "raise", "thread", "loop"])
def test_the_interpreter_ends_with_operations_under_way(
    make: Make, server: RedisServer, how: str, frozen: bool
) -> None:
    command = [sys.executable, "-P", "-c", EXIT, server.url, how]
    if frozen:
        server.freeze()
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    finally:
        server.thaw()
    assert done.returncode == {"exit": 3, "raise": 1}.get(how, 0), done.stderr
    assert "panicked" not in done.stderr
