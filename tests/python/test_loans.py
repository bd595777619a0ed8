"""A loop or a thread that is alone in asking on a connection reads there itself.

Until somebody else asks, it is slow, or one of the two ends.
"""

import asyncio
import os
import pathlib
import statistics
import sys
import threading
import time
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from samovar._redis import Redis
from servers import RedisServer
from test_bridge import frame
from tiers import a_server  # noqa: F401 - a fixture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is the system that says who was woken")

#: More than a loop has to ask before it is lent anything.
ENOUGH = 40
#: Seconds after which a blocked thread looks around, whatever it is told.
NAP = 0.05
TASKS = pathlib.Path("/proc/self/task")


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    server.ask("FLUSHALL")
    redis = Redis(server.url)
    redis._core.set_many_sync({"a": (frame(1), 60)})
    yield redis
    asyncio.run(redis.close())


def switches() -> int:
    """How often the thread of the connections has been woken."""
    mine = [task for task in TASKS.iterdir() if (task / "comm").read_text().strip() == "samovar-io"]
    told = [line for task in mine for line in (task / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in told if line.startswith("voluntary_ctxt_switches:"))


async def borrow(redis: Redis) -> None:
    """Asks until this loop reads by itself."""
    for _ in range(ENOUGH):
        assert await redis.get("a") == frame(1)
    # What was looked after by the thread at the beginning is over.
    await asyncio.sleep(0.01)
    before = switches()
    for _ in range(200):
        assert await redis.get("a") == frame(1)
    assert switches() - before < 50


def files() -> int:
    return len(os.listdir("/proc/self/fd"))


def run(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def test_a_loop_that_is_alone_wakes_no_other_thread(redis: Redis) -> None:
    async def main() -> None:
        await borrow(redis)
        before = switches()
        for _ in range(50):
            found = await asyncio.gather(*(redis.get("a") for _ in range(20)))
            assert found == [frame(1)] * 20
        assert switches() - before < 25

    run(main())


def block(redis: Redis, times: int) -> None:
    """Asks from this thread, which waits for each answer."""
    for _ in range(times):
        assert redis._core.get_many_sync(["a"]) == {"a": frame(1)}


def test_a_blocked_thread_that_is_alone_wakes_no_other(redis: Redis) -> None:
    block(redis, ENOUGH)
    time.sleep(0.01)
    before = switches()
    block(redis, 500)
    assert switches() - before < 50


def test_blocked_threads_that_come_and_go_are_each_answered(redis: Redis) -> None:
    def work() -> None:
        block(redis, ENOUGH * 2)

    before = files()
    for _ in range(5):
        block(redis, ENOUGH * 2)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        block(redis, ENOUGH * 2)
        for thread in threads:
            thread.join()
    assert files() <= before + 4
    assert redis.tally()["timeouts"] == 0


def test_a_blocked_thread_is_answered_by_another_connection_than_it_has_borrowed(redis: Redis) -> None:
    large = frame("x" * 200_000)
    redis._core.set_many_sync({"large": (large, 60)})
    took = []
    for _ in range(10):
        block(redis, ENOUGH)
        began = time.monotonic()
        assert redis._core.get_many_sync(["large"]) == {"large": large}
        took.append(time.monotonic() - began)
    # It is told, and does not find out when it looks around the next time.
    assert statistics.median(took) < 0.8 * NAP


def test_a_blocked_thread_lets_go_of_a_connection_that_ends(redis: Redis, server: RedisServer) -> None:
    before = files()
    for _ in range(10):
        block(redis, ENOUGH)
        server.ask("CLIENT", "KILL", "TYPE", "normal")
        time.sleep(0.02)
        block(redis, ENOUGH)
    assert files() <= before + 4


def test_a_thread_and_a_loop_that_take_turns_are_each_answered(redis: Redis) -> None:
    async def ask(times: int) -> None:
        for _ in range(times):
            assert await redis.get("a") == frame(1)

    async def main() -> None:
        for times in (ENOUGH, 3, ENOUGH, 1, ENOUGH * 2):
            await ask(times)
            block(redis, times)
            await asyncio.gather(ask(times), asyncio.to_thread(block, redis, times))

    run(main())
    assert redis.tally()["timeouts"] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_of_a_blocked_thread_has_borrowed_nothing(redis: Redis) -> None:
    block(redis, ENOUGH)
    pid = os.fork()
    if pid == 0:
        done = 1
        try:
            block(redis, ENOUGH)
            done = 0
        finally:
            os._exit(done)
    block(redis, ENOUGH * 2)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert redis.tally()["timeouts"] == 0


def test_who_else_asks_does_not_wait_for_a_loop_that_is_busy(redis: Redis) -> None:
    answered: list[float] = []

    def ask() -> None:
        block(redis, 10)
        answered.append(time.monotonic())

    async def main() -> None:
        await borrow(redis)
        thread = threading.Thread(target=ask)
        own = asyncio.ensure_future(redis.get("a"))
        await asyncio.sleep(0)
        thread.start()
        busy_until = time.monotonic() + 10
        # Neither this loop nor its timers run meanwhile.
        while not answered and time.monotonic() < busy_until:
            time.sleep(0.001)  # noqa: ASYNC251 - a busy loop is what this is about
        assert answered
        thread.join()
        assert await own == frame(1)
        await borrow(redis)

    run(main())
    assert redis.tally()["timeouts"] == 0


def test_an_answer_that_was_there_in_time_is_one_however_long_the_loop_was_busy(redis: Redis) -> None:
    async def main() -> None:
        await borrow(redis)
        own = asyncio.ensure_future(redis.get("a"))
        await asyncio.sleep(0)
        time.sleep(0.4)  # noqa: ASYNC251 - as above
        assert await own == frame(1)
        await borrow(redis)

    run(main())
    assert redis.tally()["timeouts"] == 0


def test_a_loop_that_ends_leaves_the_connection_to_others(redis: Redis) -> None:
    run(borrow(redis))
    before = files()
    for _ in range(10):
        run(borrow(redis))
        assert redis._core.get_many_sync(["a"]) == {"a": frame(1)}
    assert files() <= before + 2
    assert redis.tally()["timeouts"] == 0
    assert redis.tally()["connects"] <= 2


def test_a_loop_lets_go_of_a_connection_that_ends(redis: Redis, server: RedisServer) -> None:
    async def main() -> None:
        await borrow(redis)
        before = files()
        for _ in range(10):
            server.ask("CLIENT", "KILL", "TYPE", "normal")
            await asyncio.sleep(0.02)
            await borrow(redis)
        assert files() <= before + 2
        # What is opened now may have the number that a connection had.
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"PING\r\n")
        assert await reader.readline() == b"+PONG\r\n"
        writer.close()

    run(main())


def test_loops_that_take_turns_are_each_answered(redis: Redis) -> None:
    begin, wrong = threading.Barrier(2), []

    async def ask(me: int) -> None:
        await redis.set_many({f"{me}": (frame(me), 60)})
        for burst in (1, 50, 3, 100, 40, 40):
            await asyncio.to_thread(begin.wait)
            wrong.extend([found for _ in range(burst) if (found := await redis.get(f"{me}")) != frame(me)])

    threads = [threading.Thread(target=lambda me=me: run(ask(me))) for me in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert redis.tally()["timeouts"] == 0


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_takes_nothing_of_what_its_parent_reads(redis: Redis) -> None:
    async def child() -> bool:
        return [await redis.get("a") for _ in range(ENOUGH * 2)] == [frame(1)] * ENOUGH * 2

    async def main() -> None:
        await borrow(redis)
        own = asyncio.ensure_future(redis.get("a"))
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            done = 1
            try:
                threads = [threading.Thread(target=lambda: answers.append(run(child())))]
                answers: list[bool] = []
                threads[0].start()
                threads[0].join(20)
                done = 0 if answers == [True] else 2
            finally:
                os._exit(done)
        assert await own == frame(1)
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await borrow(redis)

    run(main())
    assert redis.tally()["timeouts"] == 0
