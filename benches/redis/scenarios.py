"""What is asked of each contender, and what is measured while it is: on one loop, in a process of its own.

Every contender has its turn in each round. CPU is that of the whole process, so that a client's own threads count; the
server says what it has used itself.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .contenders import CONTENDERS, Client, opened

if TYPE_CHECKING:
    from servers import RedisServer

ROUNDS = 5
#: Seconds that a contender's turn takes.
SLICE = 0.25
TASKS, KEYS, CALLERS = 100, 100, 1000
#: Of so many tasks one looks at the clock, which is no small part of what the floor costs.
TIMED = 10
SMALL, LARGE = 100, 10_000


@dataclass(frozen=True)
class Figures:
    """One turn: client CPU, median latency and server CPU of an operation, all in µs, and operations a second."""

    cpu: float
    p50: float
    rate: float
    server: float


Work = Callable[[Client, "list[str]", int], Awaitable["list[float]"]]


async def timed(calls: int, call: Callable[[], Awaitable[Any]]) -> list[float]:
    """Seconds that each of so many calls took, one after the other."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        took.append(time.perf_counter() - began)
    return took


async def crowd(client: Client, keys: list[str], calls: int) -> list[float]:
    """Living tasks that each get a key of their own again and again; some of them look at the clock."""

    async def get(key: str) -> list[float]:
        for _ in range(calls):
            await client.get(key)
        return []

    async def timed_get(key: str) -> list[float]:
        return await timed(calls, lambda: client.get(key))

    took = await asyncio.gather(*(get(key) if n % TIMED else timed_get(key) for n, key in enumerate(keys)))
    return [seconds for one in took for seconds in one]


async def alone(client: Client, keys: list[str], calls: int) -> list[float]:
    """One get after the other."""
    return await timed(calls, lambda: client.get(keys[0]))


async def batch(client: Client, keys: list[str], calls: int) -> list[float]:
    """All keys at once, again and again."""
    return await timed(calls, lambda: client.get_many(keys))


@dataclass(frozen=True)
class Scenario:
    """What is done, with values of how many bytes, and how many operations a call stands for."""

    name: str
    work: Work
    size: int
    each: int


CROWD, ALONE, BATCH, CROWD_LARGE, BATCH_LARGE = (
    Scenario("100 tasks, 100 B", crowd, SMALL, TASKS),
    Scenario("one at a time, 100 B", alone, SMALL, 1),
    Scenario("get_many(100), 100 B", batch, SMALL, 1),
    Scenario("100 tasks, 10 kB", crowd, LARGE, TASKS),
    Scenario("get_many(100), 10 kB", batch, LARGE, 1),
)
SCENARIOS = (CROWD, ALONE, BATCH, CROWD_LARGE, BATCH_LARGE)


@dataclass(frozen=True)
class Burst:
    """What came of many callers at once: how many had an error, which, and how many connections were added."""

    errors: int
    first: str
    connections: int


@dataclass
class Found:
    """All of a run on one loop."""

    figures: dict[str, dict[str, list[Figures]]] = field(default_factory=dict)
    bursts: dict[str, Burst] = field(default_factory=dict)


def server_cpu(server: RedisServer) -> float:
    """Seconds of CPU that the server has used."""
    told = server.ask("INFO", "cpu").decode()
    return sum(
        float(line.partition(":")[2]) for line in told.split() if line.startswith(("used_cpu_sys:", "used_cpu_user:"))
    )


def keys(name: str, size: int) -> list[str]:
    """A contender's own keys."""
    return [f"{name.replace(' ', '-')}:{size}:{n}" for n in range(KEYS)]


async def turn(server: RedisServer, client: Client, scenario: Scenario, own: list[str], calls: int) -> Figures:
    """Measure so many calls."""
    gc.collect()
    served, began, spent = server_cpu(server), time.perf_counter(), time.process_time()
    took = await scenario.work(client, own, calls)
    spent, lasted = time.process_time() - spent, time.perf_counter() - began
    served, operations = server_cpu(server) - served, calls * scenario.each
    return Figures(
        spent / operations * 1e6, statistics.median(took) * 1e6, operations / lasted, served / operations * 1e6
    )


async def calls_in_a_turn(client: Client, scenario: Scenario, own: list[str]) -> int:
    """How many calls fill a turn; it warms up on the way."""
    calls = 1
    while True:
        began = time.perf_counter()
        await scenario.work(client, own, calls)
        lasted = time.perf_counter() - began
        if lasted > SLICE / 4:
            return max(3, round(calls * SLICE / lasted))
        calls *= 4


async def burst(server: RedisServer, client: Client, own: list[str]) -> Burst:
    """Many callers at once, who have nothing in common but the client."""
    before = server.connections()
    got = await asyncio.gather(*(client.get(own[n % KEYS]) for n in range(CALLERS)), return_exceptions=True)
    errors = [f"{type(one).__name__}: {one}" for one in got if isinstance(one, BaseException)]
    return Burst(len(errors), errors[0] if errors else "", server.connections() - before)


def text(size: int) -> str:
    """A value of so many bytes."""
    return ("samovar " * (size // 8 + 1))[:size]


async def fill(client: Client, name: str) -> None:
    """Write what will be asked for, and see that it is there."""
    for size in (SMALL, LARGE):
        own, value = keys(name, size), text(size)
        await asyncio.gather(*(client.put(key, value) for key in own))
        got = await client.get(own[-1])
        many = await client.get_many(own)
        many = [many[key] for key in own] if isinstance(many, dict) else list(many)
        for one in (got, *many):
            assert one in (value, value.encode()), f"{name} has lost what it wrote"


async def measured(server: RedisServer, only: str) -> Found:
    """The scenarios whose names have this in them, for all contenders that there are."""
    clients = await opened(server.url, CONTENDERS)
    found = Found()
    for name, client in clients.items():
        await fill(client, name)
    for scenario in (scenario for scenario in SCENARIOS if only in scenario.name):
        print(f"{scenario.name} ", end="", file=sys.stderr, flush=True)
        calls = {
            name: await calls_in_a_turn(client, scenario, keys(name, scenario.size)) for name, client in clients.items()
        }
        rounds: dict[str, list[Figures]] = {name: [] for name in clients}
        for _ in range(ROUNDS):
            for name, client in clients.items():
                rounds[name].append(await turn(server, client, scenario, keys(name, scenario.size), calls[name]))
            print(".", end="", file=sys.stderr, flush=True)
        found.figures[scenario.name] = rounds
        print(file=sys.stderr)
    for name, client in clients.items():
        found.bursts[name] = await burst(server, client, keys(name, SMALL))
    for client in clients.values():
        await client.close()
    return found
