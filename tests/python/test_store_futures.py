"""What waits for a store's answers is a future as asyncio's are, though it is woken together with others."""

import asyncio
import contextvars
import gc
import logging
import subprocess
import sys
import weakref
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from samovar import Cache
from samovar._redis import Redis
from servers import RedisServer
from tiers import a_server  # noqa: F401 - a fixture

#: Fresh and of use for ever, as docs/frame.md has it.
HEAD = b"\1\0\0\0" + b"\xff" * 16
KEYS = [f"{n}" for n in range(10)]


@pytest.fixture
def redis(server: RedisServer) -> Iterator[Redis]:
    redis = Redis(server.url)
    asyncio.run(redis.set_many({key: (HEAD + key.encode(), 60) for key in KEYS}))
    yield redis
    asyncio.run(redis.close())


@pytest.fixture(params=["store", "cache"])
def get(request: pytest.FixtureRequest, redis: Redis, server: RedisServer) -> Iterator[Callable[[str], Awaitable[Any]]]:
    """How a key's value is had: of the store itself, and of a cache with nothing before it."""
    if request.param == "store":
        yield redis._core.get
        return
    cache = Cache(server.url, name="futures", memory=None)

    async def fill() -> None:
        await cache.set_many({key: HEAD + key.encode() for key in KEYS}, ttl=60)

    asyncio.run(fill())
    yield cache.get
    asyncio.run(cache.close())


Get = Callable[[str], Awaitable[bytes]]


def test_each_goes_on_in_its_own_context(get: Get) -> None:
    whose: contextvars.ContextVar[str] = contextvars.ContextVar("whose", default="nobody")

    async def ask(key: str) -> None:
        whose.set(key)
        for _ in range(3):
            assert await get(key) == HEAD + key.encode()
            assert whose.get() == key
            task = asyncio.current_task()
            assert task is not None
            assert task.get_name() == key

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            for key in KEYS:
                group.create_task(ask(key), name=key)
        assert whose.get() == "nobody"

    asyncio.run(main())


def test_who_is_behind_one_that_ends_the_program_is_woken_all_the_same(get: Get) -> None:
    done = []

    async def ask(key: str) -> None:
        await get(key)
        if key == KEYS[2]:
            raise SystemExit(key)
        done.append(key)

    loop = asyncio.new_event_loop()
    tasks = [loop.create_task(ask(key)) for key in KEYS]
    together = asyncio.gather(*tasks)
    with pytest.raises(SystemExit):
        loop.run_until_complete(together)
    rest = tasks[:2] + tasks[3:]
    loop.run_until_complete(asyncio.gather(*rest))
    assert done == KEYS[:2] + KEYS[3:]
    assert isinstance(tasks[2].exception(), SystemExit)
    assert isinstance(together.exception(), SystemExit)
    loop.close()


def test_a_loop_that_is_run_from_within_a_task_wakes_the_others(get: Get) -> None:
    """As nest_asyncio does it."""
    order = []

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()

        async def ask(key: str) -> None:
            await get(key)
            if key == KEYS[0]:
                task = asyncio.current_task()
                assert task is not None
                asyncio.tasks._leave_task(loop, task)
                for _ in range(100):
                    loop._run_once()
                    if len(order) == len(KEYS) - 1:
                        break
                asyncio.tasks._enter_task(loop, task)
            order.append(key)

        await asyncio.gather(*(ask(key) for key in KEYS))

    asyncio.run(main())
    assert order == [*KEYS[1:], KEYS[0]]


def test_another_loop_that_is_run_meanwhile_has_its_own_answers(get: Get) -> None:
    """As those do who run a loop from synchronous code that was called from a task."""

    async def inner(key: str) -> bytes:
        return await get(key)

    async def ask(key: str) -> None:
        assert await get(key) == HEAD + key.encode()
        here = asyncio.get_running_loop()
        other = asyncio.new_event_loop()
        asyncio._set_running_loop(None)
        try:
            assert other.run_until_complete(inner(key)) == HEAD + key.encode()
        finally:
            other.close()
            asyncio._set_running_loop(here)
        assert await get(key) == HEAD + key.encode()

    async def main() -> None:
        await asyncio.gather(*(ask(key) for key in KEYS))

    asyncio.run(main())


FORKS = """
import asyncio, os, sys
from samovar._redis import Redis

redis = Redis(sys.argv[1])

async def ask(n):
    await redis.get("a")
    if n == 1:
        child = os.fork()
        if child == 0:
            try:
                redis._core.get("a")
            except RuntimeError as error:
                os._exit(0 if "running asyncio event loop" in str(error) else 2)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0

async def main():
    await asyncio.gather(*(ask(n) for n in range(5)))

asyncio.run(main())
print("done")
"""


def test_in_a_child_that_one_of_them_forks_no_loop_runs(server: RedisServer) -> None:
    command = [sys.executable, "-P", "-c", FORKS, server.url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr


def test_it_comes_in_its_turn(get: Get) -> None:
    """What those who wait call for is called after all of them."""
    order: list[str] = []

    async def ask(key: str) -> None:
        await get(key)
        order.append(key)
        asyncio.get_running_loop().call_soon(order.append, f"after {key}")

    async def main() -> None:
        await asyncio.gather(*(ask(key) for key in KEYS))
        await asyncio.sleep(0)

    asyncio.run(main())
    assert order == KEYS + [f"after {key}" for key in KEYS]


def test_a_cancelled_one_hears_why_and_the_others_have_their_values(get: Get) -> None:
    heard: list[Any] = []

    async def ask(key: str) -> bytes:
        try:
            return await get(key)
        except asyncio.CancelledError as why:
            heard.append((key, why.args))
            raise

    async def main() -> None:
        tasks = [asyncio.create_task(ask(key)) for key in KEYS]
        await asyncio.sleep(0)
        tasks[3].cancel("enough")
        await asyncio.wait(tasks)
        assert heard == [(KEYS[3], ("enough",))]
        assert tasks.pop(3).cancelled()
        assert [task.result() for task in tasks] == [HEAD + key.encode() for key in KEYS if key != KEYS[3]]

    asyncio.run(main())


def test_a_loop_that_is_to_name_the_slow_names_the_task(get: Get, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().slow_callback_duration = 0
        with caplog.at_level(logging.WARNING, "asyncio"):
            await asyncio.gather(*(asyncio.create_task(ask(key), name=f"slow {key}") for key in KEYS))

    async def ask(key: str) -> None:
        await get(key)

    asyncio.run(main(), debug=True)
    for key in KEYS:
        assert any(f"slow {key}" in record.getMessage() and "done" in record.getMessage() for record in caplog.records)


def test_it_is_a_future_to_all_of_asyncio(redis: Redis) -> None:
    value = HEAD + b"1"

    async def main() -> None:
        get, loop = redis._core.get, asyncio.get_running_loop()
        assert asyncio.isfuture(get("1"))
        assert not asyncio.iscoroutine(get("1"))
        assert get("1").get_loop() is loop
        assert await asyncio.wait_for(get("1"), 10) == value
        assert await asyncio.shield(get("1")) == value
        assert await asyncio.gather(get("1"), get("none")) == [value, None]
        done, pending = await asyncio.wait([get("1"), get("1")])
        assert [one.result() for one in done] == [value] * 2
        assert not pending
        one = done.pop()
        assert (one.done(), one.cancelled(), one.exception(), one.cancel()) == (True, False, None, False)
        assert [await one, await one] == [value] * 2

    asyncio.run(main())


class Odd:
    """Cannot be compared."""

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError

    def __hash__(self) -> int:
        return 0


def test_it_calls_back(redis: Redis) -> None:
    told: list[Any] = []
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def main() -> None:
        one = redis._core.get("1")
        with pytest.raises(asyncio.InvalidStateError):
            one.result()
        with pytest.raises(asyncio.InvalidStateError):
            one.exception()
        context = contextvars.copy_context()
        context.run(variable.set, 5)
        gone = told.append
        one.add_done_callback(lambda future: told.append((future is one, variable.get())))
        one.add_done_callback(lambda future: told.append((future is one, variable.get())), context=context)
        one.add_done_callback(gone)
        assert (one.remove_done_callback(gone), one.remove_done_callback(gone)) == (1, 0)
        with pytest.raises(ArithmeticError):
            one.remove_done_callback(Odd())
        assert await one == HEAD + b"1"
        await asyncio.sleep(0)
        assert told == [(True, 0), (True, 5)]
        one.add_done_callback(told.append)
        assert len(told) == 2
        await asyncio.sleep(0)
        assert told[2] is one
        for bad in ((), (1, 2)):
            with pytest.raises(TypeError, match="add_done_callback"):
                one.add_done_callback(*bad)
        with pytest.raises(TypeError, match="cancel"):
            one.cancel(why=1)

    asyncio.run(main())


def test_a_cancelled_one_stays_so_when_the_answer_comes(redis: Redis) -> None:
    told: list[Any] = []

    async def main() -> None:
        one = redis._core.get("1")
        one.add_done_callback(told.append)
        assert (one.cancel(msg="enough"), one.cancelled(), one.done(), one.cancel()) == (True, True, True, False)
        for raises in (one.result, one.exception):
            with pytest.raises(asyncio.CancelledError, match="enough"):
                raises()
        # Answers come in the order of the questions.
        assert await redis._core.get("2") == HEAD + b"2"
        assert one.cancelled()
        assert told == [one]

    asyncio.run(main())


def test_a_task_that_nobody_holds_goes_with_its_loop(get: Get) -> None:
    class Held:
        pass

    async def ask(held: Held) -> None:
        await get("1")

    def leave() -> weakref.ref[Held]:
        held = Held()
        loop = asyncio.new_event_loop()
        loop.run_until_complete(asyncio.sleep(0))
        task = loop.create_task(ask(held))
        loop.run_until_complete(asyncio.sleep(0))
        # Not told of: what is destroyed while it waits is what this is about.
        task._log_destroy_pending = False  # type: ignore[attr-defined]
        loop.close()
        return weakref.ref(held)

    known = leave()

    # A closed loop is forgotten when another one comes.
    async def another() -> None:
        assert await get("2") == HEAD + b"2"

    asyncio.run(another())
    gc.collect()
    assert known() is None
