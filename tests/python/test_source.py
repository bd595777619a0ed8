"""A cache with a source: absent keys are loaded, and writes go to the source first."""

import asyncio
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
import trio
import trio.lowlevel
from origin import turns
from samovar import (
    Cache,
    CircuitOpen,
    ConfigError,
    KeyTypeError,
    NotFound,
    Policy,
    Rule,
    SyncCache,
    WouldDeadlock,
    WriteBehind,
)
from samovar.resilience import Retry
from samovar.testing import CacheClock
from tables import Table, both, do, run, written


def make(table: Table, face: str = "async", **options: Any) -> Cache:
    loader, writer, deleter = table.calls(face)
    return Cache(loader=loader, writer=writer, deleter=deleter, **options)


# --- reading through --------------------------------------------------------------------------------------------------


@both
def test_what_is_absent_is_loaded_once(face: str) -> None:
    table = Table(a=1)
    cache = make(table, face)

    async def main() -> None:
        assert [await do(face, cache, "get", "a") for _ in range(3)] == [1, 1, 1]
        assert table.loads == ["a"]
        assert (cache.stats().hits, cache.stats().misses, cache.stats().loads) == (2, 1, 1)

    run(main)


@both
def test_a_key_the_source_has_not_is_the_default_and_remembered_for_negative_ttl(
    face: str, cache_clock: CacheClock
) -> None:
    table = Table()
    cache = make(table, face, policy=Policy(negative_ttl="1m"))

    async def main() -> None:
        assert await do(face, cache, "get", "a") is None
        assert await do(face, cache, "get", "a", 7) == 7
        assert table.loads == ["a"]
        cache_clock.advance("1m")
        await do(face, cache, "get", "a")
        assert table.loads == ["a", "a"]

    run(main)


def test_a_loader_may_return_that_there_is_nothing() -> None:
    cache = Cache(loader=lambda key: NotFound)
    assert cache.sync.get("a", "default") == "default"


@both
def test_an_error_of_the_loader_reaches_the_caller_as_it_is(face: str) -> None:
    error = OSError("away")

    def load(key: str) -> None:
        raise error

    async def load_async(key: str) -> None:
        raise error

    cache = Cache(loader=load if face == "sync" else load_async)

    async def main() -> None:
        with pytest.raises(OSError, match="away") as raised:
            await do(face, cache, "get", "a")
        assert raised.value is error

    run(main)


def test_many_who_ask_at_once_share_one_load() -> None:
    table = Table(a=1)
    cache = make(table)

    async def main() -> None:
        table.gate = asyncio.Event()
        waiting = [asyncio.create_task(cache.get("a")) for _ in range(100)]
        await turns()
        table.gate.set()
        assert await asyncio.gather(*waiting) == [1] * 100
        assert table.loads == ["a"]

    run(main)


def test_the_policy_of_the_cache_is_that_of_its_loads(cache_clock: CacheClock) -> None:
    table = Table(a=1)
    cache = make(table, policy=Policy(ttl="1m", jitter=0, stale_while_revalidate="1m"))

    async def main() -> None:
        await cache.get("a")
        table.rows["a"] = 2
        cache_clock.advance("90s")
        assert await cache.get("a") == 1
        await turns()
        assert await cache.get("a") == 2

    run(main)


def test_a_policy_that_retries_has_the_loader_retried() -> None:
    says: list[Any] = [OSError("away"), OSError("away"), 1]

    def load(key: str) -> int:
        said = says.pop(0)
        if isinstance(said, Exception):
            raise said
        return int(said)

    cache = Cache(loader=load, policy=Policy(retry=Retry(attempts=3, sleep=lambda seconds: None)))
    assert cache.sync.get("a") == 1


def test_a_loader_that_only_returns_an_awaitable_is_retried_too() -> None:
    table = Table(a=1)
    errors = [OSError("away"), OSError("away")]

    async def load(key: str) -> Any:
        if errors:
            raise errors.pop()
        return await table.load(key)

    retry = Retry(attempts=3, sleep=lambda seconds: None)
    cache = Cache(loader=lambda key: load(key), policy=Policy(retry=retry))

    async def main() -> None:
        assert await cache.get("a") == 1

    run(main)


def test_both_faces_share_what_protects_the_loader() -> None:
    def load(key: str) -> int:
        raise OSError("away")

    cache = Cache(loader=load, policy=Policy(breaker=True))
    turned: list[str | None] = []
    cache.on("breaker", lambda event: turned.append(event.reason))

    async def main() -> None:
        for n in range(5):
            with pytest.raises(OSError, match="away"):
                cache.sync.get(f"a{n}")
            with pytest.raises(OSError, match="away"):
                await cache.get(f"b{n}")
        for face in ("async", "sync"):
            with pytest.raises(CircuitOpen):
                await do(face, cache, "get", "c")
        assert turned == ["open"]

    run(main)


def test_the_loader_follows_a_policy_that_changes(cache_clock: CacheClock) -> None:
    errors = [OSError("away")]

    def load(key: str) -> int:
        if errors:
            raise errors.pop()
        return 1

    cache = Cache(loader=load, writer=nothing, policy=Policy(ttl="1m", jitter=0))
    with pytest.raises(OSError, match="away"):
        cache.sync.get("a")
    errors.append(OSError("away"))
    cache.configure(policy=Policy(ttl="1h", jitter=0, retry=Retry(attempts=2, sleep=lambda seconds: None)))
    assert cache.sync.get("a") == 1
    cache.sync.set("b", 2)
    assert (cache.sync.ttl("a"), cache.sync.ttl("b")) == (3600, 3600)


@both
def test_a_rule_says_how_long_what_is_loaded_or_set_lives(face: str, cache_clock: CacheClock) -> None:
    table = Table(**{"price:1": 1, "user:1": 2})
    cache = make(table, face, policy=Policy(ttl="1m", jitter=0), rules=[Rule("price:*", ttl=5)])

    async def main() -> None:
        for key in table.rows:
            await do(face, cache, "get", key)
        assert (cache.sync.ttl("price:1"), cache.sync.ttl("user:1")) == (5, 60)
        for key in table.rows:
            await do(face, cache, "set", key, 3)
        assert (cache.sync.ttl("price:1"), cache.sync.ttl("user:1")) == (5, 60)

    run(main)


@both
def test_of_many_only_what_is_absent_is_loaded(face: str) -> None:
    table = Table(a=1, b=2, c=3)
    cache = make(table, face)

    async def main() -> None:
        await do(face, cache, "get", "b")
        assert await do(face, cache, "get_many", ["a", "b", "b", "c", "d"]) == {"a": 1, "b": 2, "c": 3}
        assert sorted(table.loads) == ["a", "b", "c", "d"]

    run(main)


def test_many_are_loaded_several_at_a_time_and_the_first_error_is_raised_as_it_is() -> None:
    table = Table(**{f"k{n}": n for n in range(100)})
    cache = make(table)

    async def main() -> None:
        table.gate = asyncio.Event()
        asking = asyncio.create_task(cache.get_many(list(table.rows)))
        await turns()
        table.gate.set()
        assert await asking == table.rows
        assert 1 < table.busiest < 100

        async def fail(key: str) -> None:
            raise OSError(key)

        with pytest.raises(OSError, match="a"):
            await Cache(loader=fail).get_many(["a", "b"])
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(main)


def test_the_blocking_face_cannot_await_a_loader_but_hits_what_it_loaded() -> None:
    cache = make(Table(a=1))

    async def main() -> None:
        with pytest.raises(TypeError, match="its loader is async"):
            cache.sync.get("a")
        await cache.get("a")
        assert cache.sync.get("a") == 1

    run(main)


@both
def test_looking_loads_nothing(face: str) -> None:
    table = Table(a=1)
    cache = make(table, face)

    async def main() -> None:
        assert await do(face, cache, "contains", "a") is False
        assert await do(face, cache, "peek", "a") is None
        assert await do(face, cache, "ttl", "a") is None
        assert table.loads == []

    run(main)


# --- writing through --------------------------------------------------------------------------------------------------


@both
def test_the_source_is_written_before_the_cache(face: str) -> None:
    table = Table(a=1)
    cache = make(table, face)
    seen: list[Any] = []
    save, remove = table.save_many_now, table.remove_many_now

    def look(write: Callable[[Any], None]) -> Callable[[Any], None]:
        return lambda what: (seen.append(cache.sync.peek("a")), write(what))[0]

    table.save_many_now, table.remove_many_now = look(save), look(remove)  # type: ignore[method-assign]

    async def main() -> None:
        await do(face, cache, "get", "a")
        await do(face, cache, "set", "a", 2)
        assert await do(face, cache, "get", "a") == 2
        assert await do(face, cache, "delete", "a") is True
        assert [entry.value for entry in seen] == [1, 2]
        assert table.rows == {}
        assert await do(face, cache, "get", "a") is None

    run(main)


WRITES: dict[str, tuple[Any, ...]] = {
    "set": ("a", 2),
    "replace": ("a", 2),
    "add": ("b", 2),
    "incr": ("a",),
    "decr": ("a",),
    "delete": ("a",),
    "set_many": ({"a": 2, "b": 3},),
    "delete_many": (["a"],),
}


@both
@pytest.mark.parametrize("name", WRITES)
def test_a_writer_that_fails_leaves_the_cache_as_it_was_and_raises(face: str, name: str) -> None:
    table = Table(a=1)
    cache = make(table, face)

    async def main() -> None:
        await do(face, cache, "get", "a")
        table.error = OSError("away")
        with pytest.raises(OSError, match="away") as raised:
            await do(face, cache, name, *WRITES[name])
        assert raised.value is table.error
        assert await do(face, cache, "get", "a") == 1
        assert await do(face, cache, "contains", "b") is False
        assert table.rows == {"a": 1}

    run(main)


def test_of_a_write_that_is_cancelled_nobody_knows_so_the_copy_goes() -> None:
    table = Table(a=1)
    cache = make(table)

    async def main() -> None:
        await cache.get("a")
        table.gate = asyncio.Event()
        write = asyncio.create_task(cache.set("a", 2))
        await turns()
        write.cancel()
        with pytest.raises(asyncio.CancelledError):
            await write
        assert await cache.contains("a") is False

    run(main)


def test_writes_to_a_key_are_made_in_the_order_they_were_asked_for_and_others_beside_them() -> None:
    table = Table()
    cache = make(table)

    async def main() -> None:
        table.gate = asyncio.Event()
        writes = [asyncio.create_task(cache.set("a", n)) for n in range(5)]
        other = asyncio.create_task(cache.set("b", "other"))
        await turns()
        assert table.busy == 2
        writes[1].cancel()
        table.gate.set()
        await asyncio.gather(*writes, other, return_exceptions=True)
        assert [each["a"] for each in written(table) if "a" in each] == [0, 2, 3, 4]
        assert (table.rows["a"], await cache.get("a")) == (4, 4)

    run(main)


def test_counters_lose_nothing_between_tasks_loops_and_threads() -> None:
    table = Table(n=0)
    cache, local = make(table), threading.local()
    local.unused = None

    async def save(key: str, value: int) -> None:
        await asyncio.sleep(0)
        table.rows[key] = value

    cache = Cache(loader=table.load_now, writer=save)

    async def count() -> None:
        await asyncio.gather(*(cache.incr("n") for _ in range(50)))

    threads = [threading.Thread(target=lambda: asyncio.run(count())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert table.rows["n"] == 200
    assert cache._source.turns.__len__() == 0  # type: ignore[attr-defined]


@both
def test_add_replace_and_incr_go_by_what_the_source_has(face: str) -> None:
    table = Table(a=1)
    cache = make(table, face)

    async def main() -> None:
        assert await do(face, cache, "add", "a", 5) is False
        assert await do(face, cache, "add", "b", 5) is True
        assert await do(face, cache, "replace", "c", 5) is False
        assert await do(face, cache, "replace", "a", 10) is True
        assert await do(face, cache, "incr", "a", 2) == 12
        assert await do(face, cache, "decr", "new") == -1
        assert table.rows == {"a": 12, "b": 5, "new": -1}
        with pytest.raises(TypeError, match="give an int"):
            await do(face, cache, "incr", "a", 1.5)
        await do(face, cache, "set", "text", "x")
        with pytest.raises(TypeError, match="not an int"):
            await do(face, cache, "incr", "text")

    run(main)


def test_a_counter_keeps_its_ttl(cache_clock: CacheClock) -> None:
    cache = make(Table(), "sync", policy=Policy(ttl="1h"))
    cache.sync.set("n", 1, ttl=60)
    cache_clock.advance(20)
    cache.sync.incr("n")
    assert cache.sync.ttl("n") == 40
    cache.sync.set("for ever", 1, ttl=None)
    cache.sync.incr("for ever")
    assert cache.sync.ttl("for ever") == float("inf")


@both
@pytest.mark.parametrize("name", ["add", "replace", "incr"])
def test_what_depends_on_the_source_needs_a_loader(face: str, name: str) -> None:
    table = Table(a=5)
    cache = Cache(writer=table.calls(face)[1])

    async def main() -> None:
        with pytest.raises(ConfigError, match="give a loader"):
            await do(face, cache, name, "a", 1)
        assert table.rows == {"a": 5}

    run(main)


@both
def test_without_a_deleter_a_delete_is_refused_and_invalidate_drops_the_copy_alone(face: str) -> None:
    table = Table(a=1)
    cache = Cache(loader=table.calls(face)[0], writer=table.calls(face)[1])

    async def main() -> None:
        await do(face, cache, "get", "a")
        with pytest.raises(ConfigError, match="no deleter="):
            await do(face, cache, "delete", "a")
        assert await do(face, cache, "contains", "a") is True
        await do(face, cache, "invalidate", "a")
        assert await do(face, cache, "contains", "a") is False
        assert table.log == []

    run(main)


@both
def test_invalidate_and_clear_and_touch_and_set_missing_tell_the_source_nothing(face: str) -> None:
    table = Table(a=1)
    cache = make(table, face)

    async def main() -> None:
        await do(face, cache, "get", "a")
        assert await do(face, cache, "touch", "a", 5) is True
        assert await do(face, cache, "touch", "b", 5) is False
        await do(face, cache, "set_missing", "a", 5)
        assert await do(face, cache, "get", "a") is None
        await do(face, cache, "clear")
        await do(face, cache, "set_missing_many", ["a"], 5)
        await do(face, cache, "invalidate", "a")
        assert await do(face, cache, "get", "a") == 1
        assert table.log == []

    run(main)


@both
def test_of_many_those_before_the_one_that_fails_are_written(face: str) -> None:
    table = Table()
    cache = make(table, face)
    table.refused = [2]

    async def main() -> None:
        with pytest.raises(ValueError, match="refuses"):
            await do(face, cache, "set_many", {"a": 1, "b": 2, "c": 3})
        assert table.rows == {"a": 1}
        assert await do(face, cache, "get_many", ["a", "b", "c"]) == {"a": 1}
        assert await do(face, cache, "delete_many", ["a", "b"]) == 1
        assert table.rows == {}

    run(main)


@both
@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("set", (5, 1), KeyTypeError),
        ("set", ("a", 1, -1), ConfigError),
        ("set", ("a", 1, "soon"), ConfigError),
        ("add", ("a", 1, -1), ConfigError),
        ("set_many", ({"a": 1, 5: 2},), KeyTypeError),
        ("set_many", ({"a": 1}, -1), ConfigError),
        ("delete", (5,), KeyTypeError),
        ("delete_many", (["a", 5],), KeyTypeError),
    ],
)
def test_what_cannot_be_never_reaches_the_source(
    face: str, name: str, args: tuple[Any, ...], error: type[Exception]
) -> None:
    table = Table()
    cache = make(table, face)

    async def main() -> None:
        with pytest.raises(error):
            await do(face, cache, name, *args)
        assert table.log == []

    run(main)


def test_a_ttl_of_zero_writes_and_keeps_no_copy() -> None:
    table = Table()
    cache = make(table, "sync")
    cache.sync.set("a", 1, ttl=0)
    assert table.rows == {"a": 1}
    assert cache.sync.contains("a") is False


def test_a_value_the_cache_cannot_keep_is_written_and_the_old_copy_goes() -> None:
    def weigh(value: Any) -> int:
        return len(value)

    from samovar import Memory

    table = Table()
    cache = make(table, "sync", memory=Memory(max_bytes=100, weigher=weigh))
    cache.sync.set("a", "old")
    with pytest.raises(TypeError):
        cache.sync.set("a", 5)
    assert table.rows == {"a": 5}
    assert cache.sync.contains("a") is False


def test_a_load_that_began_before_a_write_is_not_stored_over_it() -> None:
    table = Table(a=1)
    cache = make(table)

    async def main() -> None:
        table.gate, gate = asyncio.Event(), asyncio.Event()
        table.gate = gate
        load = asyncio.create_task(cache.get("a"))
        await turns()
        table.gate = None
        await cache.set("a", 2)
        table.rows["a"] = 1
        gate.set()
        assert await load == 1
        assert await cache.get("a") == 2

    run(main)


def test_a_writer_that_writes_its_own_key_is_told_so() -> None:
    cache: Cache

    async def save(key: str, value: int) -> None:
        await cache.set(key, value + 1)

    cache = Cache(writer=save)

    async def main() -> None:
        with pytest.raises(WouldDeadlock, match="'a'"):
            await cache.set("a", 1)

    run(main)


def test_a_task_that_a_writer_leaves_behind_may_write_the_key_later() -> None:
    cache: Cache
    behind: list[asyncio.Task[None]] = []

    async def later(key: str) -> None:
        await turns()
        await asyncio.gather(cache.set(key, 2), cache.set(key, 3))

    async def save(key: str, value: int) -> None:
        await asyncio.sleep(0)
        if value == 1:
            behind.append(asyncio.create_task(later(key)))

    cache = Cache(writer=save)

    async def main() -> None:
        await cache.set("a", 1)
        await behind[0]
        assert await cache.get("a") == 3

    run(main)


def test_the_blocking_face_does_not_wait_on_an_event_loop_for_what_may_run_there() -> None:
    table = Table()
    cache = Cache(loader=table.load_now, writer=table.save)

    async def main() -> None:
        table.gate = asyncio.Event()
        write = asyncio.create_task(cache.set("a", 1))
        await turns()
        with pytest.raises(WouldDeadlock, match="await the async face"):
            cache.sync.set("a", 2)
        table.gate.set()
        await write
        with pytest.raises(ConfigError, match="async and no event loop"):
            cache.sync.set("a", 2)
        assert table.rows == {"a": 1}

    run(main)


def test_no_thread_is_made() -> None:
    table = Table()
    cache = make(table, "sync")
    before = threading.active_count()
    cache.sync.set("a", 1)
    assert threading.active_count() == before


def test_writing_through_works_on_trio() -> None:
    table = Table()

    async def save(key: str, value: Any) -> None:
        await trio.lowlevel.checkpoint()
        table.rows[key] = value

    cache = Cache(loader=table.load_now, writer=save)

    async def main() -> None:
        await cache.set("a", 1)
        assert await cache.get("a") == 1
        assert await cache.get_many(["a"]) == {"a": 1}
        with pytest.raises(RuntimeError, match="on trio only hits are answered"):
            await cache.get_many(["a", "b", "c"])

    trio.run(main)
    assert table.rows == {"a": 1}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_write_of_its_parent() -> None:
    table = Table()
    started, go_on = threading.Event(), threading.Event()
    before = table.save_many_now

    def save(key: str, value: int) -> None:
        if value == 1:
            started.set()
            go_on.wait()
        before({key: value})

    cache = Cache(writer=save)
    thread = threading.Thread(target=cache.sync.set, args=("a", 1))
    thread.start()
    started.wait()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            cache.sync.set("a", 2)
            code = table.rows != {"a": 2}
        finally:
            os._exit(code)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- namespaces, classes, options -------------------------------------------------------------------------------------


def test_a_namespace_has_the_source_it_was_given_and_no_other() -> None:
    users, app = Table(**{"7": "Ann"}), Table(k=1)
    cache = make(app, "sync", namespace="app")
    loader, writer, _ = users.calls("sync")
    given = cache.namespace("users", loader=loader, writer=writer)
    assert given.sync.get("7") == "Ann"
    assert cache.namespace("users").sync.get("7") == "Ann"
    cache.namespace("users").sync.set("8", "Bea")
    assert users.rows["8"] == "Bea"
    plain = cache.namespace("plain")
    assert type(plain) is Cache
    plain.sync.set("k", 2)
    assert (plain.sync.get("k"), app.rows) == (2, {"k": 1})
    with pytest.raises(ConfigError, match="has a source already"):
        cache.namespace("users", loader=loader)


def test_a_plain_cache_may_have_a_namespace_with_a_source() -> None:
    table = Table(a=1)
    cache = Cache()
    assert cache.namespace("n", loader=table.load_now).sync.get("a") == 1
    assert cache.sync.get("a") is None


def test_a_cache_without_a_source_is_what_it_was() -> None:
    assert type(Cache()) is Cache
    assert type(Cache().sync) is SyncCache
    assert "get" not in vars(Cache)
    assert "set" not in vars(SyncCache)


def test_a_subclass_of_the_users_keeps_its_methods() -> None:
    class Mine(Cache):
        async def get(self, key: str, default: Any = None) -> Any:
            return await super().get(key.lower(), default)

        def greet(self) -> str:
            return "hello"

    table = Table(a=1)
    mine = Mine(loader=table.load_now)

    async def main() -> None:
        assert await mine.get("A") == 1

    run(main)
    assert isinstance(mine, Mine)
    assert mine.greet() == "hello"
    assert type(mine.namespace("n")) is Mine


def test_a_plain_cache_flushes_and_invalidates_too() -> None:
    cache = Cache()

    async def main() -> None:
        await cache.set("a", 1)
        assert (cache.pending(), await cache.flush()) == (0, None)
        await cache.invalidate("a")
        assert await cache.contains("a") is False

    run(main)
    cache.sync.set("a", 1)
    cache.sync.flush()
    cache.sync.invalidate("a")
    assert cache.sync.contains("a") is False
    cache.sync.set("a", 1)
    cache.sync.close()
    assert cache.sync.contains("a") is False


def nothing(*_: Any) -> None:
    """A function of anything."""


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "loader": (lambda: Cache(loader=5), "loader: 5; give a function"),  # type: ignore[arg-type]
    "writer": (lambda: Cache(writer=5), "writer: 5; give a function"),  # type: ignore[arg-type]
    "writer class": (lambda: Cache(writer=WriteBehind), "writer: .*give a function"),  # type: ignore[arg-type]
    "deleter": (lambda: Cache(writer=nothing, deleter=5), "deleter: 5; give"),  # type: ignore[arg-type]
    "deleter alone": (lambda: Cache(deleter=nothing), "deleter: .*give a writer= too"),
    "deleter twice": (lambda: Cache(writer=WriteBehind(nothing), deleter=nothing), "give it to WriteBehind"),
    "batch writer": (lambda: WriteBehind(5), "writer: 5; give a function"),  # type: ignore[arg-type]
    "batch deleter": (lambda: WriteBehind(nothing, 5), "deleter: 5; give"),  # type: ignore[arg-type]
    "delay": (lambda: WriteBehind(nothing, delay=-1), "delay: -1"),
    "no delay": (lambda: WriteBehind(nothing, delay=None), "delay: None"),  # type: ignore[arg-type]
    "max_batch": (lambda: WriteBehind(nothing, max_batch=0), "max_batch: 0; give"),
    "max_pending": (lambda: WriteBehind(nothing, max_pending=0), "max_pending: 0; give"),
    "retry": (lambda: WriteBehind(nothing, retry="often"), "retry: 'often'; give"),  # type: ignore[arg-type]
    "max_wait": (lambda: WriteBehind(nothing, max_wait="soon"), 'max_wait: "soon"'),
    "close_timeout": (lambda: WriteBehind(nothing, close_timeout=-1), "close_timeout: -1"),
    "on_lost": (lambda: WriteBehind(nothing, on_lost=asyncio.sleep), "on_lost: .*not async"),
    "misspelled": (lambda: Cache(loder=nothing), "loder= .*did you mean loader="),
    "flush": (lambda: Cache(writer=WriteBehind(nothing)).sync.flush("soon"), 'timeout: "soon"'),
    "flush of nothing": (lambda: Cache().sync.flush(-1), "timeout: -1"),
    "unknown": (lambda: WriteBehind(nothing, max_bach=5), "max_bach=.*did you mean max_batch="),  # type: ignore[call-arg]
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_option_that_cannot_be_is_refused_with_its_value_and_the_cure(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_the_queue_makes_its_own_pauses() -> None:
    with pytest.raises(ConfigError, match="leave out its timeout= and sleep="):
        WriteBehind(nothing, retry=Retry(timeout=5))
