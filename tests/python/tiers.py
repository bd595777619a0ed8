"""What tests of a cache over a real Redis begin with: a server, both faces, and caches of one name: as many processes.

Fixtures, to be imported by name; the tests of one file share a server.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from faces import Face
from samovar import Cache
from servers import RedisServer
from watching import whole


@pytest.fixture(name="server", scope="module")
def a_server() -> Iterator[RedisServer]:
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(name="face", params=["async", "sync"])
def a_face(request: pytest.FixtureRequest) -> Face:
    return Face(request.param)


Make = Callable[..., Cache]


@pytest.fixture(name="make")
def a_make(server: RedisServer) -> Iterator[Make]:
    """Caches over a server that has nothing yet, all of one name unless it is said."""
    assert server.ask("FLUSHALL") == b"+OK\r\n"
    made: list[Cache] = []

    def make(**options: Any) -> Cache:
        cache = Cache(server.url, **{"name": "app", **options})
        made.append(cache)
        return cache

    yield make
    for cache in made:
        whole(cache)
        asyncio.run(cache.close())


def keys_of(server: RedisServer) -> list[str]:
    """What the server has, by name, but for the clock of a cache: that is no entry, and has no colon."""
    lines = server.ask("KEYS", "*").decode().split("\r\n")[1:]
    return sorted(line for line in lines if ":" in line and not line.startswith("$"))


def is_trusted(face: Face, cache: Cache, key: str) -> bool:
    """True if memory answers for this key alone: others are heard, and nothing can have been missed."""
    before = cache.remote_stats()
    face.do(cache, "get", key)
    after = cache.remote_stats()
    assert before is not None
    assert after is not None
    return before.reads == after.reads
