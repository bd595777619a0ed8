"""Event loops, threads and processes over one store: what is asked together, who gets which answer, what is left."""

import asyncio
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from samovar import ConfigError, StoreError, StoreTimeout, StoreUnavailable
from samovar._redis import Redis, Tls
from servers import RedisServer, free_port
from tiers import a_server  # noqa: F401 - a fixture

#: Fresh and of use for ever, as docs/frame.md has it.
HEAD = b"\1\0\0\0" + b"\xff" * 16


def frame(text: object) -> bytes:
    return HEAD + str(text).encode()


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


@pytest.fixture
def own() -> Iterator[RedisServer]:
    """One that the test may kill."""
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    server.ask("FLUSHALL")
    redis = Redis(server.url)
    yield redis
    run(redis.close())


def test_what_was_written_is_read(redis: Redis) -> None:
    async def main() -> None:
        assert await redis.get("a") is None
        await redis.set_many({"a": (frame(1), 60), "b": (frame(2), None)})
        assert await redis.get("a") == frame(1)
        assert await redis.get_many(["a", "b", "c"]) == {"a": frame(1), "b": frame(2)}
        assert await redis.get_many([]) == {}
        await redis.delete_many(["a"])
        assert await redis.get_many(["a", "b"]) == {"b": frame(2)}

    run(main())


def test_every_key_is_scanned(redis: Redis) -> None:
    async def main() -> list[str]:
        await redis.set_many({f"user:{n}": (frame(n), 60) for n in range(3000)} | {"us": (frame(0), 60)})
        return [key async for key in redis.scan("user:")]

    found = run(main())
    assert set(found) == {f"user:{n}" for n in range(3000)}


def test_loops_one_after_another_use_the_same_connections(redis: Redis, server: RedisServer) -> None:
    async def main(n: int) -> bytes | None:
        await redis.set_many({"n": (frame(n), 60)})
        return await redis.get("n")

    assert [run(main(n)) for n in range(20)] == [frame(n) for n in range(20)]
    assert redis.tally()["connects"] <= 2


def test_loops_in_threads_and_blocking_threads_share_it(redis: Redis) -> None:
    wrong: list[object] = []

    async def ask(me: int) -> None:
        for n in range(100):
            await redis.set_many({f"{me}": (frame((me, n)), 60)})
            if await redis.get(f"{me}") != frame((me, n)):
                wrong.append((me, n))

    def block(me: int) -> None:
        for n in range(100):
            redis._core.set_many_sync({f"{me}": (frame((me, n)), 60)})
            if redis._core.get_many_sync([f"{me}"]) != {f"{me}": frame((me, n))}:
                wrong.append((me, n))

    threads = [threading.Thread(target=lambda me=me: run(ask(me))) for me in range(3)]
    threads += [threading.Thread(target=block, args=(me,)) for me in range(3, 6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert redis.tally()["connects"] <= 2


def test_a_thousand_callers_make_no_error_and_no_connection(redis: Redis) -> None:
    async def main() -> None:
        await redis.set_many({f"{n}": (frame(n), 60) for n in range(1000)})
        for _ in range(3):
            found = await asyncio.gather(*(redis.get(f"{n}") for n in range(1000)))
            assert found == [frame(n) for n in range(1000)]

    run(main())
    assert redis.tally()["connects"] <= 2


def test_what_one_pass_asks_goes_out_together(redis: Redis, server: RedisServer) -> None:
    def reads() -> int:
        text = server.ask("INFO", "stats").decode()
        return int(text.split("total_reads_processed:")[1].split()[0])

    async def main() -> int:
        await redis.get("warm")
        before = reads()
        await asyncio.gather(*(redis.get(f"{n}") for n in range(200)))
        return reads() - before

    # Ours, the two of INFO itself, and the first, which does not wait for the others.
    assert run(main()) <= 8


@pytest.mark.slow
def test_no_cancellation_gives_a_reply_to_the_wrong_caller(redis: Redis) -> None:
    dice = random.Random(1)

    async def main() -> None:
        await redis.set_many({f"{n}": (frame(n), 600) for n in range(1000)})
        wrong = cancelled = right = 0

        async def ask(n: int) -> None:
            nonlocal wrong, right
            found = await redis.get(f"{n}")
            wrong += found != frame(n)
            right += 1

        for _ in range(200):
            tasks = [asyncio.create_task(ask(dice.randrange(1000))) for _ in range(100)]
            for _ in range(dice.randrange(3)):
                await asyncio.sleep(0)
            for task in dice.sample(tasks, 50):
                task.cancel()
            done = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(one, asyncio.CancelledError) for one in done)
        assert cancelled > 9_000
        assert (wrong, right) == (0, 20_000 - cancelled)
        assert await redis.get("7") == frame(7)

    run(main())


def test_a_loop_that_ends_with_calls_in_flight_harms_nobody(redis: Redis) -> None:
    async def leave() -> None:
        await redis.set_many({f"{n}": (frame(n), 60) for n in range(100)})
        for n in range(100):
            # Held by nobody but the bridge.
            redis._core.get(f"{n}")

    for _ in range(20):
        run(leave())

    async def after() -> list[bytes | None]:
        return [await redis.get(f"{n}") for n in range(3)]

    assert run(after()) == [frame(n) for n in range(3)]


def test_bridges_go_with_their_loops(redis: Redis) -> None:
    def files() -> int:
        return len(os.listdir("/proc/self/fd"))

    async def main() -> None:
        await redis.get("a")

    run(main())
    before = files()
    for _ in range(30):
        run(main())
    assert files() <= before + 2


def test_a_blocked_thread_lets_others_run(own: RedisServer) -> None:
    redis = Redis(own.url, timeout=0.5)
    redis._core.get_many_sync(["a"])
    own.freeze()
    turns = 0
    failed: list[type[BaseException]] = []

    def block() -> None:
        try:
            redis._core.get_many_sync(["a"])
        except StoreError as error:
            failed.append(type(error))

    thread = threading.Thread(target=block)
    thread.start()
    while thread.is_alive():
        turns += 1
        time.sleep(0.001)
    assert failed == [StoreTimeout]
    assert turns > 50
    own.thaw()
    run(redis.close())


@pytest.mark.slow
def test_a_frozen_server_costs_one_time_out_and_is_found_again(own: RedisServer) -> None:
    redis = Redis(own.url)

    async def fails() -> float:
        began = time.monotonic()
        with pytest.raises((StoreTimeout, StoreUnavailable)):
            await redis.get("a")
        return time.monotonic() - began

    async def main() -> None:
        await redis.set_many({"a": (frame(1), 60)})
        own.freeze()
        first = await fails()
        later = sorted([await fails() for _ in range(50)])
        assert first < 2
        assert later[25] < first / 10
        own.thaw()
        for _ in range(500):
            try:
                assert await redis.get("a") == frame(1)
                return
            except StoreError:
                await asyncio.sleep(0.01)
        pytest.fail("it was not found again")

    run(main())
    run(redis.close())


@pytest.mark.slow
def test_a_server_that_is_killed_and_started_again_is_used_again(own: RedisServer) -> None:
    redis = Redis(own.url)

    async def main() -> None:
        await redis.set_many({"a": (frame(1), 60)})
        own.kill()
        with pytest.raises(StoreError):
            await redis.get("a")
        own.start()
        for _ in range(500):
            try:
                assert await redis.get("a") is None
                return
            except StoreError:
                await asyncio.sleep(0.01)
        pytest.fail("it was not found again")

    run(main())
    run(redis.close())


def test_a_server_that_is_not_there_is_said_to_be_unreachable() -> None:
    port = free_port()
    redis = Redis(f"redis://127.0.0.1:{port}/0")

    async def main() -> None:
        with pytest.raises(StoreUnavailable, match=str(port)):
            await redis.get("a")

    run(main())
    run(redis.close())


def test_it_asks_for_a_loop_where_there_is_none(redis: Redis) -> None:
    with pytest.raises(RuntimeError, match="needs a running asyncio event loop"):
        redis._core.get("a")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"url": "redis:/localhost"}, "url"),
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5 parsecs"}, "timeout"),
        ({"connections": 9}, "connections"),
        ({"tls": Tls(ca="/nowhere/ca.pem")}, "tls.ca"),
    ],
)
def test_what_cannot_be_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Redis(**{"url": "redis://localhost", **options})


FORKS = """
import asyncio, os, sys
from samovar._redis import Redis

HEAD = b"\\1\\0\\0\\0" + b"\\xff" * 16
redis = Redis(sys.argv[1])

async def use(name):
    for n in range(50):
        await redis.set_many({name: (HEAD + b"%d" % n, 60)})
        assert await redis.get(name) == HEAD + b"%d" % n

async def threads_at_it(name):
    await asyncio.gather(*(use(f"{name}{n}") for n in range(20)))

asyncio.run(threads_at_it("parent"))
for _ in range(5):
    child = os.fork()
    if child == 0:
        asyncio.run(threads_at_it(f"child{os.getpid()}"))
        assert redis._core.get_many_sync(["parent0"])
        os._exit(0)
    asyncio.run(threads_at_it("parent"))
    assert os.waitpid(child, 0)[1] == 0
print("done")
"""

EXITS = """
import asyncio, sys
from samovar._redis import Redis

redis = Redis(sys.argv[1])

async def main():
    await redis.get("a")
    for _ in range(1000):
        redis._core.get("a")

asyncio.run(main())
print("done")
"""


@pytest.mark.slow
@pytest.mark.parametrize("script", [FORKS, EXITS], ids=["forks", "exits"])
def test_processes_neither_hang_nor_crash(script: str, server: RedisServer) -> None:
    # From 3.12 on Python warns of each fork beside threads.
    command = [sys.executable, "-P", "-W", "ignore::DeprecationWarning", "-c", script, server.url]
    for _ in range(3):
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")
