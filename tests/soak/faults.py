"""What happens to the processes of a soak: one fault after the other, drawn by a seed. Each knows how to end."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from history import Outage
from proxy import Proxy, Way
from servers import RedisServer

#: Of the whole outage, in seconds.
KILLED = 10.0


class Field:
    """What faults are done to."""

    def __init__(self, seed: int, pair: list[RedisServer], proxies: list[Proxy], processes: list[Any]) -> None:
        self.random = random.Random(seed)
        #: The master first, then its replica.
        self.pair, self.proxies, self.processes = pair, proxies, processes
        #: By process: when the store was out of its reach.
        self.outages: list[list[Outage]] = [[] for _ in proxies]
        #: What was done, and from when to when.
        self.done: list[tuple[str, float, float]] = []
        self.counts: Counter[str] = Counter()
        #: What the present one is about.
        self.concerned: list[str] = []

    def some(self) -> list[int]:
        """One of them, or all."""
        every = list(range(len(self.proxies)))
        found = every if self.random.random() < 0.3 else [self.random.choice(every)]
        self.concerned.append(f"{found}")
        return found

    def a_while(self, least: float = 0.3, most: float = 3.5) -> float:
        return self.random.uniform(least, most)

    def away(self, numbers: list[int], began: float) -> None:
        """The store was out of the reach of these until now."""
        for number in numbers:
            self.outages[number].append((began, time.monotonic()))

    @property
    def redis(self) -> RedisServer:
        return self.pair[0]

    async def ask(self, *words: str) -> bytes:
        return await asyncio.to_thread(self.redis.ask, *words)

    async def do(self, fault: Fault) -> None:
        began, what = time.monotonic(), fault.__name__
        self.concerned.clear()
        try:
            await fault(self)
        finally:
            for proxy in self.proxies:
                await proxy.go_on()
            self.done.append((f"{what} {' '.join(self.concerned)}", began, time.monotonic()))
            self.counts[what] += 1


Fault = Callable[[Field], Awaitable[None]]


async def cut(field: Field) -> None:
    for number in field.some():
        field.proxies[number].cut()


async def delay(field: Field) -> None:
    for number in field.some():
        field.proxies[number].delay = field.random.uniform(0.005, 0.06)
    await asyncio.sleep(field.a_while())


async def freeze(field: Field) -> None:
    """One way of all connections."""
    way: Way = field.random.choice(("up", "down"))
    field.concerned.append(way)
    numbers, began = field.some(), time.monotonic()
    for number in numbers:
        await field.proxies[number].stop(way)
    await asyncio.sleep(field.a_while())
    for number in numbers:
        await field.proxies[number].go_on()
    field.away(numbers, began)


async def mute(field: Field) -> None:
    """One way of the connection on which others are heard: the store is in reach all the time."""
    way: Way = field.random.choice(("up", "down", "down"))
    field.concerned.append(way)
    for number in field.some():
        await field.proxies[number].stop(way, muted=True)
    await asyncio.sleep(field.a_while())


async def refuse(field: Field) -> None:
    """No connection, for a while."""
    numbers, began = field.some(), time.monotonic()
    for number in numbers:
        field.proxies[number].refuses = True
        field.proxies[number].cut()
    await asyncio.sleep(field.a_while())
    for number in numbers:
        await field.proxies[number].go_on()
    field.away(numbers, began)


async def client_kill(field: Field) -> None:
    kinds = field.random.choice((["pubsub"], ["normal"], ["pubsub", "normal"]))
    for kind in kinds:
        await field.ask("CLIENT", "KILL", "TYPE", kind)


async def flush(field: Field) -> None:
    await field.ask("FLUSHALL")


async def drop_clock(field: Field) -> None:
    for _ in range(field.random.choice((1, 1, 5))):
        await field.ask("DEL", "soak")
        await asyncio.sleep(0.05)


async def evict(field: Field) -> None:
    """Memory is short for a moment, whatever the keys are: entries, tombstones, claims, the clock."""
    await field.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    reply = await field.ask("INFO", "memory")
    used = int(reply.partition(b"used_memory:")[2].split()[0])
    await field.ask("CONFIG", "SET", "maxmemory", str(used - field.random.choice((500, 2000, 8000))))
    await asyncio.sleep(field.random.uniform(0.05, 0.5))
    await field.ask("CONFIG", "SET", "maxmemory", "0")


async def stand_still(field: Field) -> None:
    """A process stops for 3 s, and goes on as if nothing had been."""
    number = field.random.randrange(len(field.processes))
    field.concerned.append(f"[{number}]")
    process = field.processes[number]
    process.send_signal(signal.SIGSTOP)
    try:
        await asyncio.sleep(3)
    finally:
        process.send_signal(signal.SIGCONT)


async def killed(field: Field, seconds: float) -> None:
    began = time.monotonic()
    await asyncio.to_thread(field.redis.kill)
    await asyncio.sleep(seconds)
    await asyncio.to_thread(field.redis.start)
    field.away(list(range(len(field.proxies))), began)


async def restart(field: Field) -> None:
    """It comes back with nothing."""
    await killed(field, field.random.uniform(0, 1))


async def outage(field: Field) -> None:
    """The same, after 10 s in which invalidations go on."""
    await killed(field, KILLED)


async def failover(field: Field) -> None:
    """The replica takes over, with all that the master had; whoever is connected to that is cut off."""
    began, (old, new) = time.monotonic(), field.pair
    deadline = began + 10
    while b"state=online" not in await field.ask("INFO", "replication"):
        if time.monotonic() > deadline:
            field.concerned.append("(the replica was not there)")
            return
        await asyncio.sleep(0.05)
    said = await field.ask("FAILOVER", "TO", "127.0.0.1", str(new.port), "TIMEOUT", "2000")
    assert said == b"+OK\r\n", said
    while b"role:slave" not in await asyncio.to_thread(old.ask, "INFO", "replication"):
        if b"no-failover" in await asyncio.to_thread(old.ask, "INFO", "replication"):
            field.concerned.append("(it did not come about)")
            return
        await asyncio.sleep(0.01)
    field.pair.reverse()
    for proxy in field.proxies:
        proxy.behind = new.port
        proxy.cut()
    field.away(list(range(len(field.proxies))), began)


FAULTS: dict[str, Fault] = {
    fault.__name__: fault
    for fault in (
        cut, delay, freeze, mute, refuse, client_kill, flush, drop_clock, evict, stand_still, restart, outage, failover,
    )
}  # fmt: skip


async def schedule(field: Field, names: list[str], until: float) -> None:
    """All of these in some order, and again, with a pause after each."""
    faults = [FAULTS[name] for name in names]
    while True:
        field.random.shuffle(faults)
        for fault in faults:
            if time.monotonic() > until:
                return
            await field.do(fault)
            # Sometimes the next comes before all have got over this one.
            await asyncio.sleep(field.random.choice((0.1, 0.5, 1.5, 3.0)))
        if not faults:
            await asyncio.sleep(max(0.0, until - time.monotonic()))
            return
