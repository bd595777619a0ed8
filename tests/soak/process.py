"""One process of the soak: reads all the time, in several ways, and perhaps changes the source and invalidates.

Run as a program with its orders as JSON; it ends when it is told so on stdin. It writes down what it read, and what it
changed, with times of CLOCK_MONOTONIC.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import mmap
import random
import struct
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from samovar import Cache

KEYS = 36
TAGS = 3
#: When it began, the version, the key, the way.
READ = struct.Struct("=dIHH")
WAYS = ("get", "get_or_set", "cached", "cluster", "sync get", "sync get_or_set")
NAMESPACE = "shop"


class Orders(NamedTuple):
    """What a process is told."""

    number: int
    url: str
    folder: str
    seed: int
    #: It changes those keys whose number is this, of so many processes that do; None: it only reads.
    writes: tuple[int, int] | None
    #: Options of its cache.
    options: dict[str, Any]


class Source:
    """The truth: the version of each key. Only one process changes one, in one step."""

    def __init__(self, folder: str) -> None:
        with (Path(folder) / "source").open("r+b") as file:
            self.versions = memoryview(mmap.mmap(file.fileno(), 0)).cast("I")

    @staticmethod
    def make(folder: str) -> None:
        (Path(folder) / "source").write_bytes(bytes(4 * KEYS))


def name(key: int) -> str:
    return f"k:{key}"


def tags(key: int) -> list[str]:
    """Half of them have one: what was missed of a key is not to be made up for by its tag."""
    return [f"t{key % TAGS}"] if key % 4 < 2 else []


def ttl(key: int) -> float:
    """Most live until somebody ends them, some end all the time."""
    return 0.7 if key % 4 == 3 else 3600


class Process:
    """See the module."""

    def __init__(self, orders: Orders) -> None:
        self.orders = orders
        self.source = Source(orders.folder).versions
        self.random = random.Random(orders.seed)
        self.whole = Cache(orders.url, name="soak", **orders.options)
        self.cache: Any = self.whole.namespace(NAMESPACE)
        folder = Path(orders.folder)
        self.reads = (folder / f"reads-{orders.number}").open("ab", buffering=1 << 16)
        self.changes = (folder / f"changes-{orders.number}").open("a", buffering=1)
        self.lock = threading.Lock()
        self.over = threading.Event()
        #: Changes that the store has yet to hear of.
        self.owed = False

        @self.cache.cached(ttl=lambda _, key: ttl(key), key="k:{key}", tags=lambda _, key: tags(key))
        async def product(key: int) -> int:
            return await self.load(key)

        self.product = product

    # --- reading ---

    def took(self) -> float:
        """How long a load is to take. Most are short, so that one often begins right before a change."""
        return self.random.choice((0.0, 0.001, 0.005, 0.05))

    async def load(self, key: int) -> int:
        version = self.source[key]
        await asyncio.sleep(self.took())
        return version

    def load_now(self, key: int) -> int:
        version = self.source[key]
        time.sleep(self.took())
        return version

    def note(self, began: float, key: int, way: int, version: int | None) -> None:
        # Nothing found is nothing old.
        if version is not None:
            with self.lock:
                self.reads.write(READ.pack(began, version, key, way))

    def ask(self, way: int, key: int) -> Awaitable[int | None]:
        if way == 0:
            return self.cache.get(name(key))
        if way == 2:
            return self.product(key)
        options = {"single_flight": "cluster"} if way == 3 else {}
        return self.cache.get_or_set(name(key), lambda: self.load(key), ttl(key), tags=tags(key), **options)

    async def read(self) -> None:
        while not self.over.is_set():
            way, key = self.random.randrange(4), self.random.randrange(KEYS)
            began = time.monotonic()
            self.note(began, key, way, await self.ask(way, key))
            await asyncio.sleep(self.random.uniform(0, 0.02))

    def read_blocking(self) -> None:
        sync = self.cache.sync
        while not self.over.is_set():
            way, key = self.random.randrange(4, 6), self.random.randrange(KEYS)
            began = time.monotonic()
            if way == 4:
                found = sync.get(name(key))
            else:
                found = sync.get_or_set(name(key), lambda key=key: self.load_now(key), ttl(key), tags=tags(key))
            self.note(began, key, way, found)
            time.sleep(self.random.uniform(0, 0.02))

    # --- changing ---

    def pick(self) -> int:
        """One of its keys: half of the changes are of a few, so that others are left alone for long."""
        assert self.orders.writes is not None
        mine, of = self.orders.writes
        keys = range(mine, KEYS, of)
        return self.random.choice(keys[:3] if self.random.random() < 0.5 else keys)

    def bump(self, keys: list[int]) -> dict[int, int]:
        for key in keys:
            self.source[key] += 1
        return {key: self.source[key] for key in keys}

    def change(self) -> tuple[str, dict[int, int], Callable[[Any], Any]]:
        """The source is changed; how that is to be followed, on either face."""
        assert self.orders.writes is not None
        mine, of = self.orders.writes
        how = self.random.choices(("invalidate", "set", "tag", "clear", "clear all"), (8, 6, 3, 0.2, 0.1))[0]
        key = self.pick()
        if how == "invalidate":
            return how, self.bump([key]), lambda face: face.invalidate(name(key))
        if how == "set":
            versions = self.bump([key])
            return how, versions, lambda face: face.set(name(key), versions[key], ttl(key), tags=tags(key))
        own = range(mine, KEYS, of)
        if how == "tag":
            tag = f"t{self.random.randrange(TAGS)}"
            versions = self.bump([one for one in own if tag in tags(one)])
            return how, versions, lambda face: face.invalidate_tags(tag)
        return how, self.bump(list(own)), lambda face: face.clear()

    async def write(self) -> None:
        while not self.over.is_set():
            how, versions, follow = self.change()
            cache = self.whole if how == "clear all" else self.cache
            began = time.monotonic()
            if self.random.random() < 0.3:
                stamp = await asyncio.to_thread(follow, cache.sync)
            else:
                stamp = await follow(cache)
            ended = time.monotonic()
            applied = stamp is not None and stamp.applied
            line = {"how": how, "began": began, "ended": ended, "versions": versions, "applied": applied}
            self.changes.write(json.dumps(line) + "\n")
            self.owed = self.owed or not applied
            await asyncio.sleep(self.random.uniform(0.01, 0.3))

    async def watch(self) -> None:
        """Notes when the store has heard of all that it was to be told later."""
        while not self.over.is_set():
            if self.owed:
                asked = time.monotonic()
                stats = self.whole.remote_stats()
                assert stats is not None
                if stats.to_recover == 0:
                    self.owed = False
                    self.changes.write(json.dumps({"asked": asked, "recovered": time.monotonic()}) + "\n")
            await asyncio.sleep(0.01)

    async def run(self) -> dict[str, Any]:
        blocking = asyncio.create_task(asyncio.to_thread(self.read_blocking))
        tasks = [asyncio.create_task(self.read()) for _ in range(3)]
        if self.orders.writes is not None:
            tasks += [asyncio.create_task(self.write()), asyncio.create_task(self.watch())]
        print("ready", flush=True)
        told = asyncio.create_task(asyncio.to_thread(sys.stdin.readline))
        done, _ = await asyncio.wait([told, blocking, *tasks], return_when=asyncio.FIRST_COMPLETED)
        self.over.set()
        await asyncio.gather(*done, blocking, *tasks)
        stats, remote = self.whole.stats(), self.whole.remote_stats()
        await self.whole.close()
        self.reads.close()
        self.changes.close()
        counts = {"hits": stats.hits, "misses": stats.misses, "remote_hits": stats.remote_hits, "loads": stats.loads}
        assert remote is not None
        return counts | {"errors": remote.errors, "to_recover": remote.to_recover, "connects": remote.connects}


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(asyncio.run(Process(Orders(**json.loads(sys.argv[1]))).run())), flush=True)
