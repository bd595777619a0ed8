"""One load for all processes with the same Redis: who loads, who waits and for how long, and what is old answers.

Caches of one name in one process are as many processes to each other; where one has to die or stand still, it is a real
one.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from cluster_worker import Worker
from faces import Face
from origin import Origin, turns
from samovar import Cache, ConfigError, LoadTimeout, NotFound, Policy, Rule
from servers import RedisServer, program
from tiers import Make, a_face, a_make, a_server, keys_of  # noqa: F401 - fixtures
from watching import settled

#: What a process that has died or stands still keeps others waiting, and what else may take its time on a busy machine.
LEASE, SLACK = 3.0, 2.0
CLUSTER: Any = {"single_flight": "cluster", "jitter": 0}


@pytest.fixture(name="worker")
def a_worker(server: RedisServer, make: Make) -> Iterator[Callable[..., Worker]]:
    """Makes real processes over the server, which has nothing yet."""
    made: list[Worker] = []

    def start(**options: Any) -> Worker:
        made.append(Worker(server.url, **CLUSTER, **options))
        return made[-1]

    yield start
    for one in made:
        one.thaw()
        one.kill()


class Door:
    """A loader that waits until it is let go on, on a loop or in a thread."""

    def __init__(self, value: object = "new") -> None:
        self.value = value
        self.error: Exception | None = None
        self.calls = 0
        self.entered, self.open = threading.Event(), threading.Event()

    def load(self) -> Any:
        self.calls += 1
        self.entered.set()
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        return self.value


class Threads:
    """Calls of either face, each in a thread of its own."""

    def __init__(self, face: Face) -> None:
        self.face = face
        self.pool = ThreadPoolExecutor(8)

    def function(self, load: Callable[[], Any]) -> Any:
        if not self.face.waits:
            return load

        async def awaited() -> Any:
            return await asyncio.to_thread(load)

        return awaited

    def call(self, function: Any) -> Any:
        return self.pool.submit(self.face.call, function)

    def lingering(self, function: Any, until: Callable[[], object] = lambda: time.sleep(0.05)) -> Any:
        """The same call on a loop that lives on for a moment: what was begun behind goes on."""
        if not self.face.waits:
            return function

        async def call() -> Any:
            answer = await function()
            await asyncio.to_thread(until)
            return answer

        return call


@pytest.fixture(name="threads")
def some_threads(face: Face) -> Iterator[Threads]:
    threads = Threads(face)
    yield threads
    threads.pool.shutdown()


def asked_by(cache: Cache) -> int:
    """How often it has asked the store for something to be loaded."""
    claims: int = cache.remote_stats().claims  # type: ignore[attr-defined]
    return claims


def waits(cache: Cache) -> bool:
    """It has asked the store, and asked again."""
    return settled(lambda: asked_by(cache) >= 2)


async def until(done: Callable[[], object]) -> None:
    for _ in range(1000):
        if done():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never comes to that")


def is_stale(cache: Cache) -> bool:
    return settled(lambda: getattr(cache.sync.peek("a"), "state", None) == "stale")


def old_is_short(value: str) -> float:
    """A ttl that ends soon for what is "old"."""
    return 0.2 if value == "old" else 3600


def holder_and_waiter(
    make: Make, threads: Threads, theirs: Any, ours: Callable[[], Any], **options: Any
) -> tuple[Any, Any, Cache, Any]:
    """One process loads, and another waits for it: both calls, the cache of the second, and its function."""
    here, there = make(), make()
    f = here.cached("1h", key="a", **CLUSTER, **options)(threads.function(theirs.load))
    g = there.cached("1h", key="a", **CLUSTER, **options)(threads.function(ours))
    holding = threads.call(f)
    assert theirs.entered.wait(20)
    waiting = threads.call(g)
    assert waits(there)
    return holding, waiting, there, g


# --- who loads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["async", "sync"])
def test_of_several_processes_one_loads_and_all_get_what_it_brings(worker: Callable[..., Worker], name: str) -> None:
    workers = [worker(face=name) for _ in range(4)]
    for one in workers:
        one.says("ask")
    assert settled(lambda: any(one.has_said() for one in workers))
    loader = next(one for one in workers if one.has_said())
    loader.hears("loading")
    assert not any(one.has_said() for one in workers), "the others wait"
    loader.says("tea")
    for one in workers:
        one.hears("got tea")


def test_whoever_waits_has_loaded_nothing_and_asks_the_store_a_few_times(make: Make, threads: Threads) -> None:
    door = Door()
    holding, waiting, there, g = holder_and_waiter(make, threads, door, lambda: 1 / 0)
    began = time.monotonic()
    door.open.set()
    assert (holding.result(), waiting.result()) == ("new", "new")
    stats = g.stats()
    assert (stats.loads, stats.misses, stats.remote_hits) == (0, 0, 1)
    assert asked_by(there) < 20 + (time.monotonic() - began) / 0.005
    assert threads.face.do(there, "peek", "a").value == "new", "and has it in memory"


@pytest.mark.parametrize("how", ["policy", "rule", "call"])
def test_it_may_be_said_by_a_cache_a_rule_or_a_call(make: Make, threads: Threads, how: str) -> None:
    cluster: Any = {"single_flight": "cluster"}
    options: Any = {"policy": {"policy": Policy(**cluster)}, "rule": {"rules": [Rule("a*", **cluster)]}}.get(how, {})
    here, there, door = make(**options), make(**options), Door()
    said = cluster if how == "call" else {}

    def ask(cache: Cache) -> Any:
        return threads.face.do(cache, "get_or_set", "a", threads.function(door.load), "1h", **said)

    asking = [threads.pool.submit(ask, here)]
    assert door.entered.wait(20)
    asking.append(threads.pool.submit(ask, there))
    assert waits(there)
    door.open.set()
    assert [one.result() for one in asking] == ["new", "new"]
    assert door.calls == 1


def test_a_cache_of_one_process_cannot_promise_it(cache: Cache) -> None:
    text = r"single_flight: 'cluster'; give the cache a store that processes share, such as Cache\('redis://...'\)"
    cluster: Any = {"single_flight": "cluster"}
    tries: list[Callable[[], Any]] = [
        lambda: Cache(policy=Policy(**cluster)),
        lambda: Cache(rules=[Rule("a*", **cluster)]),
        lambda: cache.configure(policy=Policy(**cluster)),
        lambda: cache.configure(rules=[Rule("a*", **cluster)]),
        lambda: cache.cached("1m", **cluster)(len),
        lambda: cache.sync.get_or_set("a", list, **cluster),
        lambda: cache.get_or_set("a", list, **cluster),
        lambda: cache.sync.get_or_set_many(["a"], dict, **cluster),
    ]
    for one in tries:
        with pytest.raises(ConfigError, match=text):
            one()


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"single_flight": "host"}, "single_flight: 'host'; give 'process' or 'cluster'"),
        ({"wait": 0}, "wait: 0; give seconds > 0"),
        ({"wait": -1}, "wait: -1; give seconds > 0"),
    ],
)
def test_what_it_cannot_be_is_refused_by_name(options: Any, text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        Policy(**options)


def test_blocked_threads_that_want_the_same_keys_in_another_order_never_wait_for_each_other(make: Make) -> None:
    def load(keys: list[str]) -> dict[str, str]:
        return {key: key.upper() for key in keys}

    caches = [make(policy=Policy(ttl="1h", wait=None, **CLUSTER)) for _ in range(4)]
    names = [f"k{number}" for number in range(40)]
    orders = [names, names[::-1], names[20:] + names[:20], names[::-2] + names[::2]]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda pair: pair[0].sync.get_or_set_many(pair[1], load), zip(caches, orders, strict=True))
        assert all(one == load(names) for one in found)


def test_many_that_several_processes_ask_for_at_once_are_loaded_once_each(make: Make) -> None:
    asked: list[int] = []

    async def doubled(ids: list[int]) -> dict[int, int]:
        asked.extend(ids)
        await asyncio.sleep(0.05)
        return {number: 2 * number for number in ids}

    async def main() -> None:
        cluster: Any = {"items": "ids", **CLUSTER}
        functions = [make().cached_many("1h", **cluster)(doubled) for _ in range(3)]
        orders = [list(range(20)), list(range(19, -1, -1)), [*range(10, 20), *range(10)]]
        found = await asyncio.gather(*(f(order) for f, order in zip(functions, orders, strict=True)))
        assert found == [{number: 2 * number for number in range(20)}] * 3

    asyncio.run(main())
    assert sorted(asked) == list(range(20))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["stale", "early", "refresher"])
def test_what_is_refreshed_before_anybody_has_to_wait_is_refreshed_by_one_process(make: Make, how: str) -> None:
    options: Any = {"stale": {"stale_while_revalidate": "1h"}, "early": {"early": True}}.get(how, {})
    windows, ttl, origin = 4, 0.5, Origin()

    async def load() -> int:
        await asyncio.sleep(0.01)
        return await origin.load()

    async def main() -> None:
        caches = [make() for _ in range(4)]
        refreshers = [cache.refresher(top=10, rate=50) for cache in caches if how == "refresher"]
        functions = [cache.cached(ttl, key="a", **CLUSTER, **options)(load) for cache in caches]
        end = time.monotonic() + windows * ttl

        async def ask(function: Any) -> None:
            for _ in range(100_000):
                await function()
                if time.monotonic() > end:
                    return
                await asyncio.sleep(0.005)

        await asyncio.gather(*(ask(function) for function in functions))
        del refreshers

    asyncio.run(main())
    # Each by itself would make it four times as many. Early ones shorten the windows.
    assert windows / 2 <= origin.calls <= 2 * windows


@pytest.mark.slow
def test_eight_processes_load_a_hot_key_once_a_second_if_that_is_how_long_it_is_fresh() -> None:
    program()
    bench = Path(__file__).parent.parent.parent / "benches" / "cluster.py"
    command = [sys.executable, "-P", str(bench), "--seconds", "5", "--only", "samovar", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    [found] = json.loads(done.stdout).values()
    assert len(found) == 8
    assert all(one["gets"] > 100 for one in found)
    assert 4 <= sum(one["loads"] for one in found) <= 6


# --- what is old ------------------------------------------------------------------------------------------------------


def test_who_may_serve_what_is_old_does_so_at_once_while_another_process_loads(make: Make, threads: Threads) -> None:
    here, there, fresh, door, stop = make(), make(), make(), Door(), threading.Event()
    options: Any = {"ttl": old_is_short, "key": "a", "stale_while_revalidate": "1h", **CLUSTER}
    first = here.cached(**options)(threads.function(lambda: "old"))
    f = here.cached(**options)(threads.function(door.load))
    g, h = (cache.cached(**options)(threads.function(lambda: 1 / 0)) for cache in (there, fresh))
    assert threads.face.call(first) == threads.face.call(g) == "old"
    assert is_stale(here)
    assert is_stale(there)
    loading = threads.call(threads.lingering(f, lambda: stop.wait(20)) if threads.face.waits else f)
    assert door.entered.wait(20)
    for _ in range(3):
        assert threads.face.call(threads.lingering(g)) == "old", "what its memory has"
        assert threads.face.call(threads.lingering(h)) == "old", "what the store has"
    assert (g.stats().load_errors, h.stats().load_errors, h.stats().loads) == (0, 0, 0)
    door.open.set()
    for function in (g, h):
        assert settled(lambda function=function: threads.face.call(threads.lingering(function)) == "new")  # type: ignore[misc]
    stop.set()
    loading.result()
    assert door.calls == 1


def test_a_caller_with_little_patience_gets_what_is_old(make: Make, threads: Threads) -> None:
    door = Door()
    options: Any = {"ttl": old_is_short, "key": "a", "stale_if_error": "1h", **CLUSTER}
    here, there = make(), make()
    f = here.cached(**options)(threads.function(door.load))
    g = there.cached(soft_timeout=0.1, **options)(threads.function(lambda: "old"))
    assert threads.face.call(g) == "old"
    assert settled(lambda: getattr(make().sync.peek("a"), "state", None) != "fresh")
    holding = threads.call(f)
    assert door.entered.wait(20)
    assert threads.face.call(g) == "old", "though nobody has loaded anything new"
    door.open.set()
    assert holding.result() == "new"


# --- how long ---------------------------------------------------------------------------------------------------------


def test_who_has_waited_long_enough_loads_too_and_the_first_to_end_is_what_all_have(
    make: Make, threads: Threads
) -> None:
    door = Door("late")
    holding, waiting, there, _ = holder_and_waiter(make, threads, door, lambda: "first", wait=0.3)
    assert waiting.result() == "first"
    door.open.set()
    assert holding.result() == "first"
    assert threads.face.do(there, "get", "a") == threads.face.do(make(), "get", "a") == "first"


def test_a_time_limit_counts_while_another_process_loads(make: Make, threads: Threads) -> None:
    door = Door()
    here, there = make(), make()
    f = here.cached("1h", key="a", **CLUSTER)(threads.function(door.load))
    g = there.cached("1h", key="a", timeout=0.2, **CLUSTER)(threads.function(lambda: 1 / 0))
    holding = threads.call(f)
    assert door.entered.wait(20)
    with pytest.raises(LoadTimeout):
        threads.face.call(g)
    door.open.set()
    assert holding.result() == "new"
    assert threads.face.call(g) == "new"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["async", "sync"])
def test_a_process_that_is_killed_keeps_others_waiting_no_longer_than_its_claim_lives(
    worker: Callable[..., Worker], name: str
) -> None:
    holder, waiter, third = (worker(face=name) for _ in range(3))
    holder.asks("loading")
    waiter.says("ask")
    # Long enough for the claim to be renewed.
    time.sleep(LEASE + 0.5)
    assert not waiter.has_said(), "a load may take longer than a claim lives"
    holder.kill()
    killed = time.monotonic()
    waiter.hears("loading")
    assert time.monotonic() - killed < LEASE + SLACK
    third.says("ask")
    waiter.says("tea")
    waiter.hears("got tea")
    third.hears("got tea")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["async", "sync"])
def test_what_a_process_loaded_that_stood_still_takes_the_place_of_nothing_newer(
    worker: Callable[..., Worker], make: Make, name: str
) -> None:
    frozen, waiter = (worker(face=name) for _ in range(2))
    frozen.asks("loading")
    frozen.freeze()
    began = time.monotonic()
    waiter.asks("loading")
    assert time.monotonic() - began < LEASE + SLACK
    waiter.says("new")
    waiter.hears("got new")
    frozen.thaw()
    frozen.says("old")
    # Whoever asked before may have what was loaded then; nobody after.
    assert frozen.lines.get(timeout=20) in ("got old", "got new")
    frozen.asks("got new")
    assert make().sync.get("hot") == "new"


# --- loads that bring nothing -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["delete", "set"])
def test_what_was_loaded_before_a_change_reaches_nobody_who_waits(make: Make, threads: Threads, how: str) -> None:
    door = Door("old")
    holding, waiting, there, _ = holder_and_waiter(make, threads, door, lambda: "newer")
    changing = make()
    getattr(changing.sync, how)(*(("a", "newer") if how == "set" else ("a",)))
    assert waiting.result() == "newer", "while the old load still runs"
    door.open.set()
    assert holding.result() == "newer"
    assert changing.sync.get("a") == make().sync.get("a") == there.sync.get("a") == "newer"


def test_whoever_waits_for_many_that_are_removed_at_once_loads_them_itself(make: Make) -> None:
    here, there, door = make(), make(), Door()
    names = [f"k{number}" for number in range(50)]

    def hold(keys: list[str]) -> dict[str, Any]:
        return dict.fromkeys(keys, door.load())

    with ThreadPoolExecutor(2) as pool:
        holding = pool.submit(here.sync.get_or_set_many, names, hold, "1h", single_flight="cluster")
        assert door.entered.wait(20)
        cluster: Any = {"single_flight": "cluster", "wait": "1h"}
        waiting = pool.submit(there.sync.get_or_set_many, names, lambda keys: dict.fromkeys(keys, "mine"), **cluster)
        assert settled(lambda: asked_by(there) >= 2 * len(names))
        there.sync.delete_many(names)
        assert waiting.result(20) == dict.fromkeys(names, "mine")
        door.open.set()
        assert holding.result(20) == dict.fromkeys(names, "mine")


def test_that_there_is_nothing_is_known_to_all_for_as_long_as_it_is_remembered(make: Make, threads: Threads) -> None:
    door = Door()
    door.error = NotFound("nobody")
    holding, waiting, _, g = holder_and_waiter(make, threads, door, lambda: 1 / 0, negative_ttl="1m")
    door.open.set()
    for call in (holding, waiting):
        with pytest.raises(NotFound):
            call.result()
    assert g.stats().loads == 0


@pytest.mark.parametrize("error", [NotFound("nobody"), ValueError("down")], ids=["nothing", "error"])
def test_who_waits_for_a_load_that_fails_loads_itself(make: Make, threads: Threads, error: Exception) -> None:
    door = Door()
    door.error = error
    holding, waiting, there, _ = holder_and_waiter(make, threads, door, lambda: "mine")
    door.open.set()
    with pytest.raises(type(error)):
        holding.result()
    assert waiting.result() == "mine"
    assert make().sync.get("a") == there.sync.get("a") == "mine"


def test_results_that_nobody_keeps_are_not_loaded_one_after_the_other(make: Make, threads: Threads) -> None:
    doors, caches = [Door(number) for number in range(6)], [make() for _ in range(6)]

    def have_asked() -> bool:
        """Whoever waits has asked since, so that it knows whose load it waits for."""
        before = [asked_by(cache) for cache in caches]
        late = [at for at, door in enumerate(doors) if not door.calls]
        return settled(lambda: all(asked_by(caches[at]) >= before[at] + 2 for at in late))

    calls = []
    for cache, door in zip(caches, doors, strict=True):
        f = cache.cached("1h", key="a", cache_if=lambda _: False, wait="1h", **CLUSTER)(threads.function(door.load))
        calls.append(threads.call(f))
    for loads in (1, 2):
        assert settled(lambda loads=loads: sum(door.calls for door in doors) == loads)  # type: ignore[misc]
        assert have_asked()
        next(door for door in doors if door.calls and not door.open.is_set()).open.set()
    assert settled(lambda: all(door.calls for door in doors)), "the others load at once, each its own"
    for door in doors:
        door.open.set()
    assert [call.result() for call in calls] == list(range(6))


# --- what comes between -----------------------------------------------------------------------------------------------


def test_without_the_store_whoever_waits_loads_itself(face: Face) -> None:
    server = RedisServer()
    threads, door = Threads(face), Door("theirs")
    try:
        here, there = (Cache(server.url, name="app") for _ in range(2))
        holding, waiting, *_ = holder_and_waiter(iter((here, there)).__next__, threads, door, lambda: "mine")
        server.kill()
        assert waiting.result(20) == "mine"
        door.open.set()
        assert holding.result(20) == "theirs"
    finally:
        door.open.set()
        threads.pool.shutdown()
        for cache in (here, there):
            asyncio.run(cache.close())
        server.stop()


def test_a_caller_who_leaves_takes_nothing_from_those_who_wait_with_it(make: Make) -> None:
    async def main() -> None:
        here, there, origin, never = make(), make(), Origin(), Origin()
        origin.gate = asyncio.Event()
        f, g = (cache.cached("1h", key="a", **CLUSTER)(one.load) for cache, one in ((here, origin), (there, never)))
        holding = asyncio.create_task(f())
        await until(lambda: origin.calls)
        first, second = (asyncio.create_task(g()) for _ in range(2))
        await turns()
        first.cancel()
        origin.gate.set()
        assert (await holding, await second) == (1, 1)
        assert (first.cancelled(), never.calls) == (True, 0)

    asyncio.run(main())


@pytest.mark.slow
def test_the_last_caller_who_leaves_ends_the_wait(make: Make) -> None:
    async def main() -> None:
        here, there, origin, never = make(), make(), Origin(), Origin()
        origin.gate = asyncio.Event()
        f, g = (cache.cached("1h", key="a", **CLUSTER)(one.load) for cache, one in ((here, origin), (there, never)))
        holding = asyncio.create_task(f())
        await until(lambda: origin.calls)
        waiting = asyncio.create_task(g())
        await until(lambda: asked_by(there) >= 2)
        waiting.cancel()
        await turns()
        assert not there._inspect()["flights"]
        await asyncio.sleep(0.3)
        before = asked_by(there)
        await asyncio.sleep(0.5)
        assert asked_by(there) == before, "nobody asks any more"
        origin.gate.set()
        assert (await holding, await g(), never.calls) == (1, 1, 0)

    asyncio.run(main())


def test_a_loop_that_closes_while_it_waits_leaves_the_key_to_the_next(make: Make) -> None:
    door = Door()
    here, there = make(), make()
    threads = Threads(Face("async"))
    f = here.cached("1h", key="a", **CLUSTER)(threads.function(door.load))
    g = there.cached("1h", key="a", **CLUSTER)(threads.function(lambda: 1 / 0))
    holding = threads.call(f)
    assert door.entered.wait(20)

    async def briefly() -> None:
        await asyncio.wait_for(g(), 0.1)

    with pytest.raises(TimeoutError):
        asyncio.run(briefly())
    loop = asyncio.new_event_loop()
    abandoned = loop.create_task(g())
    loop.run_until_complete(asyncio.sleep(0.05))
    abandoned._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    waiting = threads.call(g)
    door.open.set()
    assert (holding.result(), waiting.result()) == ("new", "new")
    del abandoned
    threads.pool.shutdown()


@pytest.mark.slow
def test_what_is_waited_for_behind_on_a_loop_that_closes_leaves_nothing_behind(make: Make) -> None:
    threads, door, here, there = Threads(Face("async")), Door(), make(), make(bus=None)
    options: Any = {"ttl": old_is_short, "key": "a", "stale_while_revalidate": "1h", **CLUSTER}
    f = here.cached(**options)(threads.function(door.load))
    g = there.cached(**options)(threads.function(lambda: "old"))
    assert threads.face.call(g) == "old"
    assert here.sync.delete("a")
    holding = threads.call(f)
    assert door.entered.wait(20)
    assert is_stale(there)
    # The store has nothing old, so this waits behind; it is not of the task that ends.
    assert threads.face.call(threads.lingering(g)) == "old"
    assert settled(lambda: not there._inspect()["flights"])
    door.open.set()
    assert holding.result() == "new"
    assert settled(lambda: threads.face.call(threads.lingering(g)) == "new")
    threads.pool.shutdown()


def test_a_load_that_is_cancelled_gives_its_claim_back(make: Make) -> None:
    async def main() -> None:
        here, there, origin = make(), make(), Origin()
        origin.gate = asyncio.Event()
        f = here.cached("1h", key="a", **CLUSTER)(origin.load)
        g = there.cached("1h", key="a", wait=None, **CLUSTER)(Origin().load)
        holding = asyncio.create_task(f())
        await until(lambda: origin.calls)
        waiting = asyncio.create_task(g())
        await turns()
        holding.cancel()
        began = time.monotonic()
        assert await waiting == 1
        assert time.monotonic() - began < LEASE / 2

    asyncio.run(main())


def test_nothing_of_it_stays_in_the_store(make: Make, threads: Threads, server: RedisServer) -> None:
    door = Door()
    door.error = ValueError("down")
    f = make().cached("1h", key="a", **CLUSTER)(threads.function(door.load))
    door.open.set()
    with pytest.raises(ValueError, match="down"):
        threads.face.call(f)
    assert settled(lambda: keys_of(server) == [])
