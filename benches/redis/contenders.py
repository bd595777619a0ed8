"""The contenders: each opens its client, writes its own keys as it does that, and says how it gets one and many.

A client gets bytes, as it sent them; a cache (`await cache.get`) a str, through whatever it makes of values. What is
not installed, or refuses, is left out by name.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from samovar import Cache, ConfigError
from samovar._redis import Redis

TTL = 600


@dataclass(frozen=True)
class Client:
    """What is asked of an opened client."""

    get: Callable[[str], Awaitable[Any]]
    get_many: Callable[[list[str]], Awaitable[Any]]
    put: Callable[[str, str], Awaitable[Any]]
    close: Callable[[], Awaitable[Any]]


Open = Callable[[str], Awaitable[Client]]


class RefusedError(Exception):
    """It cannot take part, and why."""


async def bare(url: str) -> Client:
    """Our store, without a cache around it: frames by key."""
    store = Redis(url)
    core: Any = store._core
    return Client(core.get, core.get_many, lambda key, value: store.set_many({key: (value.encode(), TTL)}), store.close)


async def face(url: str) -> Client:
    """Our cache, with no memory in front."""
    try:
        cache: Any = Cache(url, name="bench", memory=None)
    except (ConfigError, TypeError) as error:
        raise RefusedError(str(error)) from error
    return Client(cache.get, cache.get_many, lambda key, value: cache.set(key, value, TTL), cache.close)


async def floor(url: str) -> Client:
    """See floor.py."""
    from .floor import Floor

    at = urlsplit(url)
    _, floor = await asyncio.get_running_loop().create_connection(Floor, at.hostname, at.port)

    async def close() -> None:
        floor.transport.close()

    return Client(
        lambda key: floor.ask("GET", key),
        lambda keys: floor.ask("MGET", *keys),
        lambda key, value: floor.ask("SET", key, value),
        close,
    )


async def redis_py(url: str) -> Client:
    import redis.asyncio as redis

    client = redis.Redis.from_url(url)
    return Client(client.get, client.mget, client.set, client.aclose)


async def coredis(url: str) -> Client:
    import coredis

    client = coredis.Redis.from_url(url)
    await client.__aenter__()
    return Client(client.get, client.mget, client.set, lambda: client.__aexit__(None, None, None))


async def glide(url: str) -> Client:
    import glide

    at = urlsplit(url)
    address = glide.NodeAddress(at.hostname or "", at.port or 0)
    client = await glide.GlideClient.create(glide.GlideClientConfiguration([address]))
    return Client(client.get, lambda keys: client.mget([*keys]), client.set, client.close)


async def aiocache(url: str) -> Client:
    import aiocache

    at = urlsplit(url)
    cache = aiocache.RedisCache(endpoint=at.hostname or "", port=at.port or 0, timeout=None)
    return Client(cache.get, cache.multi_get, cache.set, cache.close)


async def cashews(url: str) -> Client:
    from cashews import Cache as CashewsCache

    cache: Any = CashewsCache()
    cache.setup(url)
    return Client(
        cache.get, lambda keys: cache.get_many(*keys), lambda key, value: cache.set(key, value, expire=TTL), cache.close
    )


FLOOR, BARE, FACE = "floor", "samovar, bare store", "samovar, `cache.get`"
CONTENDERS: dict[str, Open] = {
    FLOOR: floor,
    BARE: bare,
    FACE: face,
    "redis-py": redis_py,
    "coredis": coredis,
    "valkey-glide": glide,
    "aiocache": aiocache,
    "cashews": cashews,
}


async def opened(url: str, names: Iterable[str]) -> dict[str, Client]:
    """Those of these that take part."""
    clients = {}
    for name in names:
        try:
            clients[name] = await CONTENDERS[name](url)
        except (ImportError, RefusedError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return clients
