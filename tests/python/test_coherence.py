"""What one process does and another sees: caches of one name over one real Redis, each as a process of its own.

Memory hears of what others do, and never serves for long what it may have missed. Tags themselves are in test_tags.
"""

import asyncio
import copy
import os
import pickle
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faces import Face
from messages import changed, head, moved, name
from origin import Origin, until
from samovar import Cache, ConfigError, Memory, NotFound, Policy, Stamp, StoreError
from servers import RedisServer
from tiers import Make, a_face, a_make, a_server, is_trusted  # noqa: F401 - fixtures
from watching import settled, whole

HERE = Path(__file__).parent
CHANNEL = "app%bus0"


@pytest.fixture(name="own")
def an_own() -> Iterator[RedisServer]:
    """A server that the test may ruin."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(name="over_own")
def an_over_own(own: RedisServer) -> Iterator[Make]:
    made: list[Cache] = []

    def make(**options: Any) -> Cache:
        made.append(Cache(own.url, **{"name": "app", **options}))
        return made[-1]

    yield make
    own.thaw()
    for cache in made:
        whole(cache)
        asyncio.run(cache.close())


def listening(face: Face, cache: Cache) -> Cache:
    """The cache, once its memory answers alone, and still does when the clock has told."""
    face.do(cache, "set", "listening", 1)
    lasts = 0
    deadline = time.monotonic() + 20
    while lasts < 20:
        assert time.monotonic() < deadline, cache.remote_stats()
        lasts = lasts + 1 if is_trusted(face, cache, "listening") else 0
        time.sleep(0.005)
    return cache


def pair(face: Face, make: Make, **options: Any) -> tuple[Cache, Cache]:
    return listening(face, make(**options)), listening(face, make(**options))


def asks_nobody(face: Face, cache: Cache, key: str, value: object) -> bool:
    """True if memory answers, and with that."""
    before = reads(cache)
    return bool(face.do(cache, "get", key) == value and reads(cache) == before)


def reads(cache: Cache) -> int:
    stats = cache.remote_stats()
    assert stats is not None
    return stats.reads + stats.claims


def remote(cache: Cache) -> Any:
    return cache.remote_stats()


# --- what others do is seen -------------------------------------------------------------------------------------------

WRITES: dict[str, tuple[tuple[Any, ...], object]] = {
    "set": (("k", 2), 2),
    "set_many": (({"k": 2, "l": 3},), 2),
    "replace": (("k", 2), 2),
    "incr": (("k", 6), 7),
    "delete": (("k",), None),
    "delete_many": ((["k"],), None),
    "delete_match": (("k*",), None),
    "invalidate": (("k",), None),
    "set_missing": (("k", 60), None),
    "clear": ((), None),
    "invalidate_tags": (("t",), None),
    "expire_tags": (("t",), None),
}


@pytest.mark.parametrize("method", WRITES)
def test_what_one_does_the_others_memory_hears(face: Face, make: Make, method: str) -> None:
    here, there = pair(face, make)
    face.do(here, "set", "k", 1, tags=["t"])
    face.do(here, "set", "other", 1, tags=["u"])
    assert (face.do(there, "get", "k"), face.do(there, "get", "other")) == (1, 1)
    assert asks_nobody(face, there, "k", 1)
    arguments, value = WRITES[method]
    heard = remote(there).heard
    face.do(here, method, *arguments)
    assert settled(lambda: remote(there).heard > heard)
    assert settled(lambda: face.do(there, "get", "k") == value)
    assert face.do(here, "get", "k") == value
    if method != "clear":
        assert asks_nobody(face, there, "other", 1), "nothing else left its memory"
    assert remote(there).lost == 0


@pytest.mark.parametrize("method", ["invalidate", "invalidate_all"])
def test_what_a_function_does_is_heard(face: Face, make: Make, method: str) -> None:
    caches, origin = pair(face, make), Origin()
    here, there = (cache.cached("5m", key="f:{n}")(face.function(lambda n: origin.load_now())) for cache in caches)
    assert (face.call(here, 1), face.call(there, 1), face.call(there, 1)) == (1, 1, 1)
    face.call(getattr(here, method), *((1,) if method == "invalidate" else ()))
    assert settled(lambda: face.call(there, 1) == 2)
    assert face.call(here, 1) == 2
    assert origin.calls == 2


def test_touch_elsewhere_gives_memory_the_new_life(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    face.do(here, "set", "k", 1, 50)
    assert face.do(there, "ttl", "k") <= 50
    assert face.do(there, "get", "k") == 1
    assert face.do(here, "touch", "k", 500) is True
    assert settled(lambda: face.do(there, "get", "k") == 1 and face.do(there, "ttl", "k") > 100)


def test_ones_own_events_take_nothing_from_its_memory(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    for n in range(50):
        face.do(here, "set", f"{n}", n, tags=["t"])
    face.do(here, "invalidate_tags", "another")
    heard, own = remote(there).heard, remote(here).heard
    face.do(here, "set", "last", 1)
    assert settled(lambda: remote(there).heard > heard)
    before, entries = reads(here), here.stats().entries
    assert face.do(here, "get_many", [f"{n}" for n in range(50)]) == {f"{n}": n for n in range(50)}
    assert (reads(here), here.stats().entries) == (before, entries)
    assert (remote(here).heard, remote(here).lost) == (own, 0)


def test_a_loaded_value_is_told_to_nobody(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    heard = remote(there).heard
    assert face.do(here, "get_or_set", "loaded", face.function(lambda: 1)) == 1
    face.do(here, "set", "told", 1)
    assert settled(lambda: remote(there).heard == heard + 1)


def test_namespaces_and_names_that_begin_alike_are_apart(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    for path in ("a", "ab"):
        face.do(here.namespace(path), "set", "k", 1, tags=["t"])
        assert face.do(there.namespace(path), "get", "k") == 1
    other = make(name="app2")
    face.do(other, "set", "k", 5, tags=["t"])
    heard = remote(there).heard
    face.do(here.namespace("a"), "invalidate_tags", "t")
    assert settled(lambda: remote(there).heard > heard)
    assert face.do(there.namespace("a"), "get", "k") is None
    assert asks_nobody(face, there.namespace("ab"), "k", 1)
    assert face.do(other, "get", "k") == 5


@pytest.mark.parametrize("method", ["delete", "invalidate_tags", "expire_tags", "clear", "set"])
def test_a_load_that_began_before_it_was_invalidated_elsewhere_stores_nothing(make: Make, method: str) -> None:
    async def main() -> None:
        face = Face("sync")
        here, there = pair(face, make)
        origin = Origin()
        origin.gate = asyncio.Event()
        load = there.cached("5m", key="k", tags=["t"])(origin.load)
        first = asyncio.ensure_future(load())
        assert await until(lambda: origin.calls == 1)
        arguments = {"delete": ("k",), "set": ("k", 77), "clear": ()}.get(method, ("t",))
        await getattr(here, method)(*arguments)
        origin.gate.set()
        found = await first
        assert found in (1, 77)
        expected = 77 if method == "set" else None
        fresh = make(memory=None)
        assert await fresh.get("k") == expected
        assert await there.get("k") == expected
        assert await here.get("k") == expected

    asyncio.run(main())


def test_tags_reach_what_another_process_has_loaded(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    load = face.function(lambda: "loaded")
    assert face.call(here.cached("5m", key="k", tags=["t"])(load)) == "loaded"
    assert set(face.do(there, "peek", "k").tags) == {"t"}
    assert face.do(there, "get", "k") == "loaded"
    assert set(face.do(there, "peek", "k").tags) == {"t"}, "in memory too"
    face.do(there, "invalidate_tags", "t")
    assert face.do(there, "get", "k") is None
    assert settled(lambda: face.do(here, "get", "k") is None)
    assert face.do(make(), "get", "k") is None, "who comes later is told by the clock"


def test_what_is_not_there_has_tags_for_other_processes_too(face: Face, make: Make) -> None:
    here, there = pair(face, make, policy=Policy(negative_ttl="5m"))
    calls: list[int] = []

    def find(n: int) -> int:
        calls.append(n)
        raise NotFound(n)

    functions = [cache.cached("5m", key="k:{n}", tags=["n:{n}"])(face.function(find)) for cache in (here, there)]
    for f in functions * 2:
        with pytest.raises(NotFound):
            face.call(f, 1)
    assert calls == [1]
    face.do(here, "invalidate_tags", "n:1")
    with pytest.raises(NotFound):
        face.call(functions[0], 1)
    assert calls == [1, 1]
    heard = remote(there).heard
    face.do(here, "invalidate_tags", "n:1")
    assert settled(lambda: remote(there).heard > heard)
    with pytest.raises(NotFound):
        face.call(functions[1], 1)
    assert calls == [1, 1, 1]


def test_versions_and_tags_of_an_entry_are_the_stores(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    stamp = face.do(here, "set", "k", 1, tags=["b", "a"])
    assert face.do(here, "peek", "k").version == stamp.version
    assert face.do(there, "peek", "k").version == stamp.version
    assert face.do(there, "get", "k") == 1
    assert face.do(there, "peek", "k")[5:] == (face.do(here, "peek", "k").tags, stamp.version)


# --- stamps -----------------------------------------------------------------------------------------------------------


def test_stamps_grow_and_compare_and_travel(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    stamps = []
    for cache, method, arguments in (
        (here, "set", ("k", 1)),
        (there, "set", ("k", 2)),
        (here, "invalidate", ("k",)),
        (there, "set_many", ({"a": 1, "b": 2},)),
        (here, "invalidate_tags", ("t",)),
        (there, "expire_tags", ("t",)),
        (here, "clear", ()),
    ):
        stamp = face.do(cache, method, *arguments)
        assert isinstance(stamp, Stamp)
        assert stamp.applied
        newest = cache.stamp()
        assert newest is not None
        assert newest == cache.sync.stamp()
        assert newest >= stamp
        stamps.append(stamp)
    assert stamps == sorted(stamps)
    assert len(set(stamps)) == len(stamps)
    for stamp in stamps:
        assert pickle.loads(pickle.dumps(stamp)) == copy.copy(stamp) == stamp
        assert Stamp(stamp.version) == eval(repr(stamp)) == stamp
        assert stamp != Stamp(stamp.version, applied=False)


def test_a_process_that_has_written_nothing_has_no_stamp(make: Make) -> None:
    assert make().stamp() is None
    assert Cache(name="memory").stamp() is None


def test_at_least_never_answers_older_whatever_memory_has(face: Face, make: Make) -> None:
    here = listening(face, make())
    # This one hears nobody: only the stamp tells it.
    there = make(bus=None)
    for n in range(20):
        stamp = face.do(here, "set", "k", n)
        assert face.do(there, "get", "k", at_least=stamp) == n
        assert face.do(there, "get", "k") in (n, n - 1)
    stamp = face.do(here, "delete", "k") and here.stamp()
    assert stamp is not None
    assert face.do(there, "get", "k", "none", at_least=stamp) == "none"
    face.do(here, "set", "l", 5, tags=["t"])
    assert face.do(there, "get", "l") == 5
    stamp = face.do(here, "invalidate_tags", "t")
    assert face.do(there, "get", "l", "none", at_least=stamp) == "none"


def test_at_least_is_a_hit_where_memory_has_what_is_asked_for(face: Face, make: Make) -> None:
    here, there = pair(face, make)
    stamp = face.do(here, "set", "k", 1)
    assert face.do(there, "get", "k", at_least=stamp) == 1
    before = reads(there), reads(here)
    for _ in range(5):
        assert face.do(there, "get", "k", at_least=stamp) == 1
        assert face.do(here, "get", "k", at_least=stamp) == 1
    assert (reads(there), reads(here)) == before


@pytest.mark.parametrize("bad", [5, "stamp", (1, True), 1.5])
def test_at_least_takes_stamps_alone(face: Face, make: Make, bad: Any) -> None:
    with pytest.raises(ConfigError, match="at_least"):
        face.do(make(), "get", "k", at_least=bad)


def test_with_the_store_away_at_least_is_the_default_or_the_stores_error(
    face: Face, over_own: Make, own: RedisServer
) -> None:
    here, strict = over_own(), over_own(on_error="raise")
    stamp = face.do(here, "set", "k", 1)
    assert face.do(strict, "get", "k") == 1
    later = Stamp(stamp.version + 1)
    own.kill()
    assert face.do(here, "get", "k", "none", at_least=later) == "none"
    with pytest.raises(StoreError):
        face.do(strict, "get", "k", at_least=later)
    assert face.do(here, "set", "k", 2).applied is False
    assert here.stamp() == stamp


# --- what may have been missed ----------------------------------------------------------------------------------------


def test_a_subscriber_that_is_killed_misses_nothing(face: Face, make: Make, server: RedisServer) -> None:
    here, there = pair(face, make)
    for n in range(10):
        face.do(here, "set", "k", n)
        assert face.do(there, "get", "k") in (n, n - 0.5)
        server.ask("CLIENT", "KILL", "TYPE", "pubsub")
        face.do(here, "set", "k", n + 0.5)
        assert settled(lambda n=n: face.do(there, "get", "k") == n + 0.5)
    assert settled(lambda: remote(there).lost >= 1)
    assert settled(lambda: is_trusted(face, there, "k"))


def test_a_server_that_is_gone_leaves_what_is_suspect_and_it_is_counted(
    face: Face, over_own: Make, own: RedisServer
) -> None:
    here, strict = over_own(), over_own(on_error="raise")
    for cache in (here, strict):
        listening(face, cache)
    face.do(here, "set", "k", 1)
    assert face.do(strict, "get", "k") == 1
    own.kill()
    assert settled(lambda: remote(here).lost >= 1)
    assert settled(lambda: remote(strict).lost >= 1)
    assert face.do(here, "get", "k") == 1
    assert settled(lambda: face.do(here, "get", "k") == 1 and remote(here).unasked > 0)
    with pytest.raises(StoreError):
        face.do(strict, "get", "k")
    own.start()
    # It has nothing any more: neither has memory.
    assert settled(lambda: face.do(here, "get", "k") is None)
    assert settled(lambda: is_there_no_more(face, strict, "k"))


def test_what_is_written_while_the_store_is_away_answers_until_it_is_back(
    face: Face, over_own: Make, own: RedisServer
) -> None:
    here = listening(face, over_own())
    own.kill()
    assert settled(lambda: remote(here).lost >= 1)

    def keeps(key: str, value: int) -> bool:
        face.do(here, "set", key, value)
        return bool(face.do(here, "peek", key))

    # What was on its way when a connection broke nobody knows the outcome of: that one is an invalidation.
    assert settled(lambda: keeps("k", 1))
    assert settled(lambda: keeps("n", 5))

    def is_suspect() -> bool:
        before = remote(here).unasked
        return bool(face.do(here, "get", "k") == 1 and remote(here).unasked > before)

    assert settled(is_suspect)
    assert face.do(here, "get_many", ["k", "n"]) == {"k": 1, "n": 5}
    assert face.do(here, "get_or_set", "k", face.function(lambda: 7), 60) == 1
    assert (face.do(here, "contains", "k"), face.do(here, "peek", "k").value) == (True, 1)
    assert (face.do(here, "ttl", "k"), face.do(here, "add", "k", 9)) == (float("inf"), False)
    assert (face.do(here, "incr", "n"), face.do(here, "get", "n")) == (6, 6)
    own.start()
    assert settled(lambda: face.do(here, "get", "k") is None), "the store never had it, and now knows that"
    assert settled(lambda: remote(here).to_recover == 0)


def test_what_is_loaded_after_an_invalidation_while_the_store_is_away_is_loaded_once(
    face: Face, over_own: Make, own: RedisServer
) -> None:
    here, loads = listening(face, over_own()), iter(range(1, 1000))

    def count() -> int:
        return next(loads)

    load = here.cached(600, key="k")(face.function(count))
    assert face.call(load) == 1
    own.kill()
    assert settled(lambda: remote(here).lost >= 1)
    face.do(here, "invalidate", "k")
    assert [face.call(load) for _ in range(5)] == [2] * 5
    unasked = remote(here).unasked
    assert settled(lambda: face.call(load) == 2 and remote(here).unasked > unasked + 5)
    own.start()
    assert settled(lambda: face.call(load) > 2), "others may have changed it meanwhile"


def is_there_no_more(face: Face, cache: Cache, key: str) -> bool:
    try:
        return face.do(cache, "get", key) is None
    except StoreError:
        return False


@pytest.mark.parametrize("how", [("FLUSHALL",), ("DEL", "app")])
def test_a_clock_that_is_lost_is_noticed_and_nothing_older_comes_back(
    face: Face, make: Make, server: RedisServer, how: tuple[str, ...]
) -> None:
    here, there = pair(face, make)
    face.do(here, "set", "k", 1, tags=["t"])
    assert face.do(there, "get", "k") == 1
    face.do(here, "set", "gone", 1, tags=["t"])
    face.do(here, "invalidate_tags", "t")
    server.ask(*how)
    began = time.monotonic()
    assert settled(lambda: remote(there).lost >= 1)
    assert time.monotonic() - began < 5
    for cache in (here, there):
        assert settled(lambda cache=cache: face.do(cache, "get", "k") is None)
        assert face.do(cache, "get", "gone") is None
    face.do(here, "set", "k", 2, tags=["t"])
    assert settled(lambda: face.do(there, "get", "k") == 2)
    face.do(there, "invalidate_tags", "t")
    assert settled(lambda: face.do(here, "get", "k") is None)


def test_without_a_bus_memory_is_as_old_as_its_ttl(face: Face, make: Make) -> None:
    here, there = make(bus=None), make(bus=None, memory=Memory(ttl=0.05))
    face.do(here, "set", "k", 1)
    assert face.do(there, "get", "k") == 1
    face.do(here, "set", "k", 2)
    assert settled(lambda: face.do(there, "get", "k") == 2)
    face.do(there, "set", "k", 3)
    assert face.do(here, "get", "k") == 2, "it hears of nobody"
    assert (remote(here).heard, remote(there).heard) == (0, 0)


# --- others who write -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (("SET", "app::k", "nothing that can be read"), None),
        (("DEL", "app::k"), None),
        (("UNLINK", "app::k"), None),
        (("PEXPIRE", "app::k", "1"), None),
        (("FLUSHDB",), None),
    ],
    ids=lambda given: given[0] if given else "",
)
def test_with_external_writers_memory_hears_of_any_program(
    face: Face, make: Make, server: RedisServer, command: tuple[str, ...], left: object
) -> None:
    cache, deaf = pair(face, make)[0], make(bus=None)
    hears = listening(face, make(external_writers=True))
    face.do(cache, "set", "k", 1)
    for one in (hears, deaf):
        assert face.do(one, "get", "k") == 1
    assert settled(lambda: asks_nobody(face, hears, "k", 1))
    server.ask(*command)
    assert settled(lambda: face.do(hears, "get", "k") == left)
    assert face.do(deaf, "get", "k") == 1


def test_external_writers_without_a_bus_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="external_writers"):
        Cache("redis://localhost:1/0", bus=None, external_writers=True)


# --- while it was away ------------------------------------------------------------------------------------------------


def away(server: RedisServer, cache: Cache) -> None:
    """It answers nobody, and nobody is connected."""
    server.ask("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    server.freeze()
    cache.sync.get("somebody has to notice")


def test_what_was_invalidated_while_it_was_away_is_told_when_it_is_back(
    face: Face, over_own: Make, own: RedisServer
) -> None:
    here, there = pair(face, over_own)
    for key, tags in {"k": [], "t": ["t"], "e": ["e"], "stays": ["s"]}.items():
        face.do(here, "set", key, 1, tags=tags)
        assert face.do(there, "get", key) == 1
    away(own, here)
    assert face.do(here, "invalidate", "k").applied is False
    assert face.do(here, "invalidate_tags", "t").applied is False
    assert face.do(here, "expire_tags", "e").applied is False
    assert remote(here).to_recover == 3
    assert [face.do(here, "get", key) for key in "kte"] == [None, None, None], "here at once"
    own.thaw()
    assert settled(lambda: remote(here).to_recover == 0)
    for cache in (here, there, over_own()):
        for key in "kte":
            assert settled(lambda cache=cache, key=key: face.do(cache, "get", key) is None), key
        assert face.do(cache, "get", "stays") == 1


def test_what_others_wrote_later_survives_what_is_told_late(face: Face, over_own: Make, own: RedisServer) -> None:
    here, there = pair(face, over_own)
    face.do(here, "set", "k", 1)
    face.do(here, "set", "t", 1, tags=["t"])
    own.kill()
    assert face.do(here, "invalidate", "k").applied is False
    assert face.do(here, "invalidate_tags", "t").applied is False
    own.start()
    # Whoever is first: what is written now is newer than what is told late.
    assert settled(lambda: face.do(there, "set", "k", 2).applied)
    assert face.do(there, "set", "t", 2, tags=["t"]).applied
    assert settled(lambda: remote(here).to_recover == 0)
    time.sleep(0.05)
    fresh = over_own(memory=None)
    assert face.do(fresh, "get", "t") == 2
    assert settled(lambda: face.do(here, "get", "k") == 2)
    assert face.do(fresh, "get", "k") == 2


def test_more_than_a_hundred_thousand_keys_become_one_clear(over_own: Make, own: RedisServer) -> None:
    face = Face("sync")
    here, there = pair(face, over_own)
    face.do(here, "set", "never named", 1)
    assert face.do(there, "get", "never named") == 1
    own.kill()
    here.sync.invalidate("first")
    keys = [f"{n}" for n in range(50_001)]
    here.sync.delete_many(keys)
    assert remote(here).to_recover == 50_002
    here.sync.delete_many([f"more{n}" for n in range(50_001)])
    assert 1 <= remote(here).to_recover < 10_000
    own.start()
    assert settled(lambda: remote(here).to_recover == 0)
    for cache in (here, there):
        assert settled(lambda cache=cache: face.do(cache, "get", "never named") is None)
    face.do(here, "set", "after", 1)
    assert settled(lambda: face.do(there, "get", "after") == 1)


# --- forged -----------------------------------------------------------------------------------------------------------


def publish(server: RedisServer, message: bytes) -> None:
    """As anybody may who can reach the server."""
    import socket

    parts = (b"PUBLISH", CHANNEL.encode(), message)
    packed = b"*3\r\n" + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(packed)
        assert connection.recv(100) == b":2\r\n", "both caches listen there"


def test_forged_messages_can_cost_a_load_and_nothing_else(face: Face, make: Make, server: RedisServer) -> None:
    here, there = pair(face, make)
    face.do(here, "set", "k", 1, tags=["t"])
    assert face.do(there, "get", "k") == 1
    for message in (
        changed(b"app::k"),
        changed(b"app::k", 0),
        changed(b"app::k", 2**63),
        changed(b""),
        changed(bytes(range(256))),
        moved((name("", "t"),), 1, 0),
        moved((name("a" * 1000, "\u20ac" * 300),), 0, 0),
        moved((), 0),
    ):
        publish(server, message)
    face.do(here, "set", "k", 2, tags=["t"])
    for cache in (here, there):
        assert settled(lambda cache=cache: face.do(cache, "get_or_set", "k", face.function(lambda: 2)) == 2)
        assert settled(lambda cache=cache: is_trusted(face, cache, "k"))


def test_what_is_no_message_is_counted_and_harms_nothing(face: Face, make: Make, server: RedisServer) -> None:
    here, there = pair(face, make)
    face.do(here, "set", "k", 1)
    assert face.do(there, "get", "k") == 1
    whole_message, dice = changed(b"app::k", 0), random.Random(7)
    foreign = [b"", b"hello", b"SV", bytes(dice.randrange(256) for _ in range(5000))]
    cut = [whole_message[:length] for length in range(3, len(whole_message), 5)]
    others = [head(9, 1), whole_message + b"\0", head(1, 1, 2), moved((b"path",), 0)]
    for message in [*foreign, *cut, *others]:
        publish(server, message)
    expected = len(foreign) + len(cut) + len(others)
    assert settled(lambda: remote(there).strange >= len(foreign))
    assert settled(lambda: remote(there).strange == expected), (remote(there).strange, expected)
    assert remote(there).lost >= 1, "one that may have been ours was missed"
    assert face.do(there, "get", "k") == 1
    assert settled(lambda: is_trusted(face, there, "k"))
    face.do(here, "set", "k", 2)
    assert settled(lambda: face.do(there, "get", "k") == 2)


def test_a_store_that_may_not_publish_is_counted_and_those_who_listen_find_out(face: Face, own: RedisServer) -> None:
    assert b"OK" in own.ask("ACL", "SETUSER", "mute", "on", ">pw", "~*", "&*", "+@all", "-publish")
    mute = Cache(own.url.replace("redis://", "redis://mute:pw@"), name="app")
    there = listening(face, Cache(own.url, name="app"))
    face.do(there, "set", "k", 1)
    face.do(mute, "set", "k", 2)
    assert remote(mute).untold == 1
    assert settled(lambda: face.do(there, "get", "k") == 2)
    for cache in (mute, there):
        asyncio.run(cache.close())


def test_a_server_that_may_not_be_listened_to_is_asked_all_the_time(face: Face, own: RedisServer) -> None:
    assert b"OK" in own.ask("ACL", "SETUSER", "deaf", "on", ">pw", "~*", "&*", "+@all", "-subscribe")
    deaf = Cache(own.url.replace("redis://", "redis://deaf:pw@"), name="app")
    here = listening(face, Cache(own.url, name="app"))
    face.do(here, "set", "k", 1)
    assert face.do(deaf, "get", "k") == 1
    face.do(here, "set", "k", 2)
    assert settled(lambda: face.do(deaf, "get", "k") == 2)
    assert settled(lambda: remote(deaf).unheard >= 1)
    for cache in (deaf, here):
        asyncio.run(cache.close())


# --- other processes --------------------------------------------------------------------------------------------------

OTHER = """
import sys
from samovar import Cache

cache = Cache(sys.argv[1], name="app").sync
for line in sys.stdin:
    print(repr(eval(line)), flush=True)
"""


class Other:
    """Another process with the same cache, that does what it is told."""

    def __init__(self, url: str) -> None:
        program = [sys.executable, "-P", "-c", OTHER, url]
        self.process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Other":
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()
        assert self.process.returncode == 0

    def does(self, line: str) -> str:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        print(line, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()


def test_processes_hear_each_other(face: Face, make: Make, server: RedisServer) -> None:
    here = listening(face, make())
    with Other(server.url) as other:
        face.do(here, "set", "k", 1, tags=["t"])
        assert other.does("cache.get('k')") == "1"
        stamp = face.do(here, "set", "k", 2, tags=["t"])
        assert other.does(f"cache.get('k', at_least=__import__('samovar').{stamp!r})") == "2"
        assert settled(lambda: other.does("cache.get('k')") == "2")
        other.does("cache.invalidate_tags('t')")
        assert settled(lambda: face.do(here, "get", "k") is None)
        other.does("cache.set('k', 3)")
        assert settled(lambda: face.do(here, "get", "k") == 3)
        face.do(here, "clear")
        assert settled(lambda: other.does("cache.get('k')") == "None")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_hears_for_itself(make: Make) -> None:
    face = Face("sync")
    here, there = pair(face, make)
    face.do(here, "set", "k", 1)
    assert face.do(there, "get", "k") == 1
    ready, go_on = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            first = there.sync.get("k") == 1
            os.write(ready[1], b"1")
            os.read(go_on[0], 1)
            heard = settled(lambda: there.sync.get("k") == 2)
            told = there.sync.set("of the child", 1).applied
            code = not (first and heard and told)
        finally:
            os._exit(code)
    assert os.read(ready[0], 1) == b"1"
    face.do(here, "set", "k", 2)
    os.write(go_on[1], b"1")
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert settled(lambda: face.do(there, "get", "k") == 2)
    assert settled(lambda: face.do(here, "get", "of the child") == 1)
    for one in (*ready, *go_on):
        os.close(one)
