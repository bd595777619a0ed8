"""A cache whose Redis is away, killed, frozen, emptied or full of what it did not write.

Loads still run, nobody waits long, nothing wrong is given out, and it is well again without a restart.
"""

import asyncio
import logging
import random
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faces import Face
from origin import Origin
from samovar import Cache, Memory, StoreError, StoreTimeout, StoreUnavailable
from samovar._redis import Redis
from servers import RedisServer, free_port
from tiers import a_face, is_trusted  # noqa: F401 - a fixture
from watching import settled, whole

#: What no call of a cache may come near, with the store's budget of 250 ms and a machine that others use too.
LONG = 5.0


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """A server that the test may ruin."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def make(own: RedisServer) -> Iterator[Callable[..., Cache]]:
    made: list[Cache] = []

    def make(**options: Any) -> Cache:
        made.append(Cache(own.url, **{"name": "app", **options}))
        return made[-1]

    yield make
    for cache in made:
        whole(cache)
        asyncio.run(cache.close())


Make = Callable[..., Cache]


def story(face: Face, cache: Cache, lists: bool = True) -> None:
    """Everything that works without a store. Who can read there and not write is told of what is there."""
    origin = Origin()
    load = face.function(origin.load_now)
    assert face.do(cache, "get", "s", "none") == "none"
    assert face.do(cache, "get_or_set", "l", load) == face.do(cache, "get_or_set", "l", load) == 1
    face.do(cache, "set", "s", 1)
    assert face.do(cache, "get", "s") == 1
    assert face.do(cache, "get_many", ["s", "l", "x"]) == {"s": 1, "l": 1}
    assert face.do(cache, "contains", "s") is True
    assert face.do(cache, "peek", "s").value == 1
    face.do(cache, "touch", "s", 60)
    assert face.do(cache, "delete", "s") is True
    assert face.do(cache, "get", "s") is None
    assert face.do(cache, "incr", "n") == 1
    assert face.do(cache, "incr", "n") == 2
    f = cache.cached("5m", key="f")(face.function(lambda: origin.load_now()))
    assert face.call(f) == face.call(f) == 2
    face.call(f.invalidate)
    assert face.call(f) == 3
    assert face.call(f.refresh) == 4
    face.do(cache, "set_many", {"a": 1, "b": 2})
    assert face.do(cache, "delete_many", ["a", "b", "c"]) == 2
    face.do(cache, "clear")
    assert face.do(cache, "get_many", ["s", "l", "n", "f"]) == {}
    assert face.do(cache, "keys") == [] or not lists


# --- away -------------------------------------------------------------------------------------------------------------


def test_a_cache_whose_server_was_never_there_is_a_memory(face: Face) -> None:
    cache = Cache(f"redis://127.0.0.1:{free_port()}/0", name="app")
    began = time.monotonic()
    story(face, cache)
    assert time.monotonic() - began < LONG
    stats = cache.remote_stats()
    assert stats is not None
    assert stats.unreachable > 0
    assert stats.errors > 0
    asyncio.run(cache.close())


def test_a_black_hole_costs_one_time_out(face: Face) -> None:
    with socket.socket() as hole:
        # Connections are taken by the kernel, and nobody ever answers.
        hole.bind(("127.0.0.1", 0))
        hole.listen(1)
        cache = Cache(f"redis://127.0.0.1:{hole.getsockname()[1]}/0", name="app")
        began = time.monotonic()
        story(face, cache)
        assert time.monotonic() - began < LONG
        asyncio.run(cache.close())


def test_killed_in_the_middle_the_memory_serves_and_loads_run(face: Face, make: Make, own: RedisServer) -> None:
    cache, origin = make(), Origin()
    face.do(cache, "set_many", {f"{n}": n for n in range(20)})
    own.kill()
    for n in range(20):
        assert face.do(cache, "get", f"{n}") == n
        assert face.do(cache, "get_or_set", f"{n}", face.function(origin.load_now)) == n
    story(face, cache)
    # It is back, empty, and nobody has to be restarted.
    own.start()
    other = make()

    def is_seen() -> bool:
        # The story's clear() is told late; of a cache that never knew the store's time, it ends all from before that.
        face.do(other, "set", "new", 1)
        return bool(face.do(cache, "get", "new") == 1)

    assert settled(is_seen)


@pytest.mark.parametrize("way", ["get", "get_or_set"])
def test_a_tag_invalidated_without_the_server_ends_what_memory_had_from_there(
    face: Face, make: Make, own: RedisServer, way: str
) -> None:
    cache, origin = make(), Origin()
    face.do(make(), "set", "a", "theirs", 60, ["t"])
    loader = () if way == "get" else (face.function(origin.load_now), 60)
    assert face.do(cache, way, "a", *loader) == "theirs"
    own.kill()
    assert not face.do(cache, "invalidate_tags", "t").applied
    assert face.do(cache, "get", "a") is None


def test_what_answered_without_the_server_is_not_taken_for_looked_at_once_it_is_back(
    face: Face, make: Make, own: RedisServer
) -> None:
    cache, other, origin = make(), make(), Origin()
    load = face.function(origin.load_now)
    for key in ("a", "b"):
        face.do(other, "set", key, "theirs", 60)
        assert face.do(cache, "get_or_set", key, load, 60) == "theirs"
    own.kill()
    for _ in range(3):
        assert face.do(cache, "get_or_set", "a", load, 60) == "theirs"
        # Loaded without it, and known by its name all the same.
        assert face.do(cache, "get_or_set", "new", load, 60) == 1
    own.start()
    assert settled(lambda: face.do(other, "set", "b", "again", 60).applied)
    for key in ("a", "new"):
        face.do(other, "set", key, "changed", 60)
    assert settled(lambda: [face.do(cache, "get_or_set", key, load, 60) for key in ("a", "new")] == ["changed"] * 2)


def test_a_frozen_server_costs_one_time_out_and_then_nothing(face: Face, make: Make, own: RedisServer) -> None:
    cache = make()
    face.do(cache, "set", "a", 1)
    own.freeze()
    began = time.monotonic()
    assert face.do(cache, "get", "b") is None
    first = time.monotonic() - began
    assert 0.2 < first < LONG
    before = cache.remote_stats().timeouts
    for n in range(200):
        assert face.do(cache, "get", f"{n}") is None
        assert face.do(cache, "get", "a") == 1
        assert face.do(cache, "get_or_set", f"l{n}", face.function(lambda n=n: n)) == n
    assert cache.remote_stats().timeouts == before, "nobody else has waited"
    story(face, cache)
    own.thaw()
    other = make(memory=None)
    assert settled(lambda: face.do(cache, "set", "back", 1).applied and face.do(other, "get", "back") == 1)


def test_many_callers_of_a_frozen_server_wait_once_together(make: Make, own: RedisServer) -> None:
    async def main() -> None:
        cache = make()
        await cache.set("a", 1)
        own.freeze()
        began = time.monotonic()
        work = [cache.get_or_set(f"{n}", Origin().load) for n in range(300)] + [
            cache.get(f"g{n}", 1) for n in range(300)
        ]
        assert await asyncio.gather(*work) == [1] * 600
        assert time.monotonic() - began < LONG
        own.thaw()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["kill", "freeze"])
@pytest.mark.parametrize("change", ["delete", "set", "f.invalidate", "incr", "delete_many", "set_many", "touch"])
def test_what_changed_here_while_the_store_was_away_is_invalidated_there(
    face: Face, make: Make, own: RedisServer, how: str, change: str
) -> None:
    cache, other = make(), make()
    face.do(other, "set", "a", 100)
    f = cache.cached("5m", key="a")(face.function(lambda: 7))
    assert face.call(f) == 100
    if how == "freeze":
        own.freeze()
    else:
        # Frozen for longer than anybody waits: to the clients it is the same as a net that is cut.
        cut(own)
    arguments: dict[str, tuple[Any, ...]] = {
        "set": ("a", 5),
        "delete_many": (["a"],),
        "set_many": ({"a": 5},),
        "touch": ("a", 50),
    }
    if change == "f.invalidate":
        face.call(f.invalidate)
    else:
        face.do(cache, change, *arguments.get(change, ("a",)))
    assert cache.remote_stats().to_recover == 1
    assert face.do(cache, "get", "a") in (None, 5, 101, 100 if change == "touch" else 5)
    own.thaw()
    if change != "touch":
        # The store has the old value until it hears; whoever asks here meanwhile is not given it.
        assert settled(lambda: face.do(cache, "get", "a") == 100 or cache.remote_stats().to_recover == 0)
        assert face.do(cache, "get", "a") != 100
    assert settled(lambda: cache.remote_stats().to_recover == 0)
    fresh = make()
    assert face.do(fresh, "get", "a") is None
    assert face.call(fresh.cached("5m", key="a")(face.function(lambda: 8))) == 8


def cut(server: RedisServer) -> None:
    """Have the server drop whoever is connected, and answer nobody."""
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    server.freeze()


def test_a_key_that_changes_while_it_is_being_recovered_is_not_lost(make: Make, own: RedisServer) -> None:
    cache = make()
    cache.sync.set("a", 1)
    own.freeze()
    cache.sync.delete("a")
    cache.sync.set("b", 2)
    assert cache.remote_stats().to_recover == 2
    own.thaw()
    assert settled(lambda: cache.remote_stats().to_recover == 0)
    cache.sync.set("a", 3)
    assert make().sync.get("a") == 3


def test_a_value_loaded_without_the_store_is_of_this_process(face: Face, make: Make, own: RedisServer) -> None:
    cache, origin = make(), Origin()
    face.do(cache, "get", "warm")
    own.freeze()
    assert face.do(cache, "get_or_set", "a", face.function(origin.load_now)) == 1
    own.thaw()
    other = make()
    assert settled(lambda: works_there(face, other))
    assert face.do(cache, "get", "a") == 1
    assert face.do(other, "get", "a") is None


def works_there(face: Face, cache: Cache) -> bool:
    before = cache.remote_stats().errors
    face.do(cache, "set", "z", 1)
    return bool(cache.remote_stats().errors == before)


def test_old_values_of_memory_answer_while_neither_store_nor_source_does(
    face: Face, make: Make, own: RedisServer
) -> None:
    cache, origin = make(), Origin()
    f = cache.cached(0.02, key="a", stale_if_error=60, jitter=0)(face.function(lambda: origin.load_now()))
    assert face.call(f) == 1
    assert settled(lambda: cache.sync.peek("a") is not None and cache.sync.peek("a").state == "stale")
    own.freeze()
    origin.error = ZeroDivisionError()
    assert face.call(f) == 1
    own.thaw()


@pytest.mark.parametrize("method", ["clear", "delete_match"])
def test_what_is_cleared_without_the_store_is_gone_from_memory(
    face: Face, make: Make, own: RedisServer, method: str
) -> None:
    cache = make()
    face.do(cache, "set_many", {"a": 1, "b": 2})
    own.freeze()
    face.do(cache, method, *(["*"] if method == "delete_match" else []))
    assert face.do(cache, "get_many", ["a", "b"]) == {}
    own.thaw()


# --- on_error="raise" -------------------------------------------------------------------------------------------------


def test_who_wants_errors_gets_them(face: Face, make: Make, own: RedisServer) -> None:
    cache = make(on_error="raise")
    face.do(cache, "set", "a", 1)
    f = cache.cached("5m", key="f:{a}")(face.function(lambda a: a))
    assert settled(lambda: is_trusted(face, cache, "a"))
    own.freeze()
    with pytest.raises(StoreTimeout) as told:
        face.do(cache, "get", "b")
    assert "127.0.0.1" in str(told.value)
    assert face.do(cache, "get", "a") == 1, "memory needs no store"
    calls: list[Callable[[], Any]] = [
        # Not of `b`, once that has been written: the store's is no more then, and is not asked for.
        lambda: face.do(cache, "get", "c"),
        lambda: face.do(cache, "set", "b", 1),
        lambda: face.do(cache, "delete", "a"),
        lambda: face.do(cache, "get_or_set", "b", face.function(lambda: 1)),
        lambda: face.call(f, 1),
        lambda: face.call(f.invalidate, 1),
        lambda: face.do(cache, "get_many", ["c"]),
        lambda: face.do(cache, "set_many", {"b": 1}),
        lambda: face.do(cache, "incr", "n"),
        lambda: face.do(cache, "add", "b", 1),
        lambda: face.do(cache, "touch", "b", 1),
        lambda: face.do(cache, "contains", "c"),
        lambda: face.do(cache, "peek", "c"),
        lambda: face.do(cache, "clear"),
        lambda: face.do(cache, "delete_match", "*"),
        lambda: face.do(cache, "keys"),
        lambda: face.do(cache, "get_or_set_many", ["b"], face.function(lambda keys: dict.fromkeys(keys, 1))),
    ]
    for n, call in enumerate(calls):
        with pytest.raises((StoreTimeout, StoreUnavailable)):
            pytest.fail(f"{n} gave {call()!r}")
    own.thaw()
    assert settled(lambda: works(lambda: face.do(cache, "set", "z", 1)))
    own.kill()
    with pytest.raises(StoreUnavailable):
        face.do(cache, "get", "c")
    with pytest.raises(StoreUnavailable):
        face.call(f, 2)


def works(call: Callable[[], Any]) -> bool:
    try:
        call()
    except StoreError:
        return False
    return True


# --- ruined data ------------------------------------------------------------------------------------------------------


def test_flushed_in_the_middle_nothing_old_comes_back(make: Make, own: RedisServer) -> None:
    async def main() -> None:
        cache, entered, go = make(), asyncio.Event(), asyncio.Event()

        async def load() -> int:
            entered.set()
            await go.wait()
            return 1

        task = asyncio.create_task(cache.get_or_set("a", load))
        await entered.wait()
        own.ask("FLUSHALL")
        go.set()
        assert await task == 1
        assert await make().get("a") is None, "its claim was gone"
        await cache.set("b", 1)
        own.ask("FLUSHALL")
        assert await cache.get("b") == 1
        assert await cache.incr("b") in (1, 2)

    asyncio.run(main())


WRONG = {
    "a list": ("RPUSH", "app::a", "x"),
    "a hash": ("HSET", "app::a", "x", "y"),
    "a stream": ("XADD", "app::a", "*", "x", "y"),
    "foreign text": ("SET", "app::a", "hello"),
    "nothing": ("SET", "app::a", ""),
    "half an envelope": ("SET", "app::a", "SV\1"),
    "a counter": ("SET", "app::a", "12345678901234567890"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_entry_is_a_miss_and_written_over(face: Face, make: Make, own: RedisServer, wrong: str) -> None:
    origin = Origin()
    story: list[tuple[str, tuple[Any, ...], Any]] = [
        ("get", ("a", "none"), "none"),
        ("get_many", (["a"],), {}),
        ("contains", ("a",), False),
        ("peek", ("a",), None),
        ("ttl", ("a",), None),
        ("touch", ("a", 60), False),
        ("replace", ("a", 1), False),
        ("delete", ("a",), False),
        ("add", ("a", 1), True),
        ("incr", ("a",), 1),
        ("set", ("a", 1), None),
        ("get_or_set", ("a", face.function(origin.load_now)), None),
        ("clear", (), None),
        ("delete_match", ("*",), 0),
        ("keys", (), []),
        ("items", (), []),
    ]
    for method, args, expected in story:
        own.ask("FLUSHALL")
        own.ask(*WRONG[wrong])
        cache = make()
        got = face.do(cache, method, *args)
        assert got == expected or expected is None, (method, got)
        if method in ("add", "incr", "set", "get_or_set"):
            assert face.do(make(), "get", "a") is not None, method
        assert cache.remote_stats().errors == 0, method


def flipped(data: bytes, at: int, bit: int) -> bytes:
    return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]


def raw(server: RedisServer, *words: bytes) -> bytes:
    """As `ask`, of bytes."""
    parts = b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"*%d\r\n%s" % (len(words), parts))
        return connection.recv(65536)


def value_of(server: RedisServer, key: str) -> bytes:
    reply = raw(server, b"GET", key.encode())
    head, _, rest = reply.partition(b"\r\n")
    return rest[: int(head[1:])]


@pytest.mark.slow
def test_no_flipped_bit_of_a_sealed_entry_gives_another_value(make: Make, own: RedisServer) -> None:
    async def main() -> None:
        writer = make(key_ring={1: b"k" * 32})
        await writer.set("a", {"x": [1, 2, 3]}, ttl=1000)
        whole = value_of(own, "app::a")
        reader = make(key_ring={1: b"k" * 32}, memory=None)
        wrong = 0
        for at in range(len(whole)):
            for bit in (0, 5):
                raw(own, b"SET", b"app::a", flipped(whole, at, bit))
                got = await reader.get("a")
                assert got in (None, {"x": [1, 2, 3]}), (at, bit)
                wrong += got is None
        # The version in the envelope is all that may change unseen.
        assert wrong >= 2 * (len(whole) - 12)
        assert sum(reader.remote_stats().unreadable.values()) > len(whole)

    asyncio.run(main())


@pytest.mark.slow
def test_no_flipped_bit_of_an_open_entry_is_an_error(make: Make, own: RedisServer) -> None:
    dice = random.Random(7)

    async def main() -> None:
        writer = make()
        await writer.set("a", {"x": [1, 2.5, "text", None, (1,), {3}], "y": "z" * 50}, ttl=1000)
        whole = value_of(own, "app::a")
        for _ in range(600):
            ruined = flipped(whole, dice.randrange(len(whole)), dice.randrange(8))
            if dice.random() < 0.3:
                ruined = ruined[: dice.randrange(len(ruined))]
            raw(own, b"SET", b"app::a", ruined)
            await reader.get("a")
            await reader.get_many(["a", "b"])
            await reader.contains("a")
            await reader.ttl("a")
            await reader.peek("a")
            await reader.get_or_set("a", Origin().load)
            assert reader.remote_stats().errors == 0

    reader = make(memory=None)
    asyncio.run(main())


def test_counters_and_claims_on_an_entry_that_cannot_be_read(face: Face, make: Make) -> None:
    sealed = make(key_ring={1: b"k" * 32})
    for method, args, expected in (
        ("incr", ("a",), 1),
        ("touch", ("a", 60), False),
        ("get_or_set", ("a", face.function(Origin().load_now)), 1),
        ("set", ("a", 1), ...),
    ):
        face.do(sealed, "set", "a", "secret", ttl=60)
        cache = make()
        given = face.do(cache, method, *args)
        assert given.applied if expected is ... else given == expected
        if method != "touch":
            assert face.do(make(), "get", "a") == 1, method


def test_a_clock_that_is_far_off_gives_nothing_for_ever(face: Face, make: Make, own: RedisServer) -> None:
    cache = make()
    face.do(cache, "set", "a", 1, ttl=1000)
    entry = value_of(own, "app::a")
    year = 365 * 86400 * 1_000_000
    for moment in (0, 1, int(time.time() * 1e6) - year, 2**64 - 2, 2**63):
        # Where the frame says until when it is fresh.
        moved = entry[:16] + struct.pack(">Q", moment) + entry[24:]
        raw(own, b"SET", b"app::a", moved)
        reader = make()
        got = face.do(reader, "get", "a")
        assert got == (1 if moment > time.time() * 1e6 else None), moment
        assert face.do(reader, "ttl", "a") is None or got == 1


# --- limits of the server ---------------------------------------------------------------------------------------------


def test_a_server_that_is_full_or_read_only_is_as_good_as_none(face: Face, make: Make, own: RedisServer) -> None:
    cache = make()
    face.do(cache, "set", "a", 1)
    own.ask("CONFIG", "SET", "maxmemory", "1")
    story(face, cache, lists=False)
    assert cache.remote_stats().refused > 0
    face.do(cache, "set", "b", 1)
    face.do(cache, "delete", "b")
    f = cache.cached("5m", key="a")(face.function(lambda: 2))
    face.call(f.invalidate)
    assert face.do(cache, "get", "a") is None, "the store cannot be told, and is not believed"
    assert face.call(f) == 2
    own.ask("CONFIG", "SET", "maxmemory", "0")
    own.ask("REPLICAOF", "127.0.0.1", str(free_port()))
    story(face, make(), lists=False)
    own.ask("REPLICAOF", "NO", "ONE")
    other = make(memory=None)
    assert settled(lambda: face.do(other, "set", "b", 1).applied and face.do(other, "get", "b") == 1)


def test_a_wrong_password_is_said_and_the_memory_serves(face: Face, make: Make, own: RedisServer) -> None:
    own.ask("CONFIG", "SET", "requirepass", "right")
    cache = make()
    story(face, cache)
    strict = make(on_error="raise")
    with pytest.raises(StoreError, match=r"(?i)password|auth"):
        face.do(strict, "get", "a")
    good = Cache(remote=Redis(own.url, password="right"), name="app")
    face.do(good, "set", "a", 1)
    assert face.do(good, "get", "a") == 1
    asyncio.run(good.close())


def test_a_peer_that_speaks_garbage_is_as_good_as_none(face: Face) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(100)
        ended = threading.Event()

        def babble() -> None:
            listener.settimeout(0.05)
            while not ended.is_set():
                try:
                    peer, _ = listener.accept()
                except TimeoutError:
                    continue
                with peer:
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(range(256)))

        thread = threading.Thread(target=babble)
        thread.start()
        cache = Cache(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", name="app")
        try:
            began = time.monotonic()
            story(face, cache)
            assert time.monotonic() - began < 2 * LONG
        finally:
            ended.set()
            thread.join()
            asyncio.run(cache.close())


def test_killed_and_started_under_load_nobody_gets_anothers_value(make: Make, own: RedisServer) -> None:
    async def main() -> None:
        cache, ended = make(memory=Memory(max_entries=50)), False

        async def ask(me: int) -> None:
            n = 0
            while not ended:
                key = f"{(me * 7 + n) % 100}"
                got = await cache.get_or_set(key, lambda key=key: load(key))
                assert got == f"value of {key}"
                await cache.set(key, f"value of {key}")
                assert await cache.get(key) in (None, f"value of {key}")
                n += 1

        async def load(key: str) -> str:
            await asyncio.sleep(0)
            return f"value of {key}"

        tasks = [asyncio.create_task(ask(n)) for n in range(20)]
        for _ in range(3):
            await asyncio.to_thread(own.kill)
            await asyncio.to_thread(own.start)
            own.ask("CLIENT", "KILL", "TYPE", "normal")
        ended = True
        await asyncio.gather(*tasks)
        assert await asyncio.to_thread(settled, lambda: cache.remote_stats().to_recover == 0)

    asyncio.run(main())


def test_a_cache_that_is_closed_and_used_again_says_so_or_works(face: Face, make: Make) -> None:
    cache = make()
    face.do(cache, "set", "a", 1)
    asyncio.run(cache.close())
    try:
        face.do(cache, "get", "b")
        face.do(cache, "set", "b", 1)
    except (StoreError, RuntimeError) as error:
        assert "clos" in str(error)  # noqa: PT017


def test_the_log_says_once_that_the_store_is_away(
    make: Make, own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="samovar")
    cache = make()
    cache.sync.set("a", 1)
    own.freeze()
    for n in range(20):
        cache.sync.get(f"{n}")
    own.thaw()
    said = [
        record for record in caplog.records if record.name.startswith("samovar") and record.levelno >= logging.WARNING
    ]
    assert len(said) == 1


def test_a_key_that_the_store_has_yet_to_hear_of_is_counted_on_from_memory(
    face: Face, make: Make, own: RedisServer
) -> None:
    cache = make()
    face.do(cache, "incr", "n", 5)
    own.ask("CONFIG", "SET", "maxmemory", "1")
    assert [face.do(cache, "incr", "n") for _ in range(3)] == [6, 7, 8]
    own.ask("CONFIG", "SET", "maxmemory", "0")
    other = make(memory=None)
    assert settled(lambda: face.do(cache, "incr", "n", 0) == face.do(other, "get", "n"))
    assert cache.remote_stats().to_recover == 0
