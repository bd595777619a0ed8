"""Samovar keeps data hot: a cache for Python, async first, with a Rust core.

>>> import asyncio
>>> from samovar import cached
>>> @cached("5m")
... async def square(n: int) -> int:
...     print("working")
...     return n * n
>>> async def main():
...     print(await square(4), await square(4))
>>> asyncio.run(main())
working
16 16
"""

from typing import TYPE_CHECKING

from samovar._cache import Cache
from samovar._cached import AsyncCached, NoCacheKey, SyncCached, cached
from samovar._core import Adaptive, KeyRing, Stamp
from samovar._events import Subscription
from samovar._exceptions import (
    AccessDenied,
    CacheError,
    CircuitOpen,
    CodecError,
    ConfigError,
    KeyTypeError,
    LoadCycle,
    LoadError,
    LoadTimeout,
    LockError,
    LockLost,
    LockTimeout,
    NotFound,
    RateLimited,
    StoreError,
    StoreTimeout,
    StoreUnavailable,
    WouldDeadlock,
    WriteError,
    WriteQueueFull,
    WritesLost,
    WritesPending,
)
from samovar._manager import CacheManager, configure, default_cache, default_manager
from samovar._many import AsyncCachedMany, SyncCachedMany, cached_many
from samovar._options import Memory
from samovar._policy import Policy, Rule
from samovar._refresher import Refresher, RefresherStats
from samovar._store import Store
from samovar._sync_cache import SyncCache
from samovar._views import CacheInfo, Entry, Event, Explanation, Insight, Stats
from samovar._writing import LostWrite, WriteBehind

if TYPE_CHECKING:
    from samovar import codecs as codecs
    from samovar import resilience as resilience
    from samovar import testing as testing
    from samovar._redis import Redis as Redis
    from samovar._redis import Tls as Tls
    from samovar._two_tiers import RemoteStats as RemoteStats
else:
    PARTS = {
        "Redis": "samovar._redis",
        "Tls": "samovar._redis",
        "RemoteStats": "samovar._two_tiers",
    }

    def __getattr__(name: str) -> object:
        """Parts that few programs need are imported when they are first used, as ``samovar.resilience`` too."""
        if name in ("codecs", "resilience", "testing"):
            import importlib

            return importlib.import_module(f"samovar.{name}")
        if name in PARTS:
            import importlib

            return getattr(importlib.import_module(PARTS[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__version__ = "0.1.0"

__all__ = [
    "AccessDenied",
    "Adaptive",
    "AsyncCached",
    "AsyncCachedMany",
    "Cache",
    "CacheError",
    "CacheInfo",
    "CacheManager",
    "CircuitOpen",
    "CodecError",
    "ConfigError",
    "Entry",
    "Event",
    "Explanation",
    "Insight",
    "KeyRing",
    "KeyTypeError",
    "LoadCycle",
    "LoadError",
    "LoadTimeout",
    "LockError",
    "LockLost",
    "LockTimeout",
    "LostWrite",
    "Memory",
    "NoCacheKey",
    "NotFound",
    "Policy",
    "RateLimited",
    "Redis",
    "Refresher",
    "RefresherStats",
    "RemoteStats",
    "Rule",
    "Stamp",
    "Stats",
    "Store",
    "StoreError",
    "StoreTimeout",
    "StoreUnavailable",
    "Subscription",
    "SyncCache",
    "SyncCached",
    "SyncCachedMany",
    "Tls",
    "WouldDeadlock",
    "WriteBehind",
    "WriteError",
    "WriteQueueFull",
    "WritesLost",
    "WritesPending",
    "cached",
    "cached_many",
    "configure",
    "default_cache",
    "default_manager",
]
