"""The contestants, each with what it has against an outage. Those that are not installed are left out by name."""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from samovar import Cache
from samovar.resilience import Breaker

from .drill import TTL

if TYPE_CHECKING:
    from collections.abc import Callable

    from .drill import Load


def samovar(load: Load) -> Load:
    """Stale windows, a caller's patience, a limit on the load, and a breaker."""
    decorate = Cache(name="drill").cached(
        TTL,
        stale_while_revalidate=TTL,
        stale_if_error=60,
        retry_after=TTL,
        soft_timeout=0.05,
        timeout=0.5,
        breaker=Breaker(minimum_calls=10, window=2, open_for=1.0),
    )
    return decorate(load)


def cashews(load: Load) -> Load:
    """A soft ttl with the old value for failures, one load a key at a time, and a circuit breaker."""
    from cashews import Cache as CashewsCache

    cache: Any = CashewsCache()
    cache.setup("mem://")
    broken = cache.circuit_breaker(errors_rate=50, period="5s", ttl="1s", min_calls=10, key="drill")(load)

    @cache.soft(ttl="60s", soft_ttl=TTL, key="drill:{key}", protected=True)
    async def cached(key: int) -> int:
        return await broken(key)

    return cached


def aiocache(load: Load) -> Load:
    """A ttl and its protection against stampedes; it keeps no old values."""
    from aiocache import cached_stampede

    decorate: Any = cached_stampede(lease=2, ttl=TTL, key_builder=lambda _function, key: str(key))
    return decorate(load)


def async_lru(load: Load) -> Load:
    """A ttl and one load a key; it keeps no old values."""
    from async_lru import alru_cache

    decorate: Any = alru_cache(maxsize=None, ttl=TTL)
    return decorate(load)


CONTESTANTS: dict[str, Callable[[Load], Load]] = {
    "samovar": samovar,
    "cashews": cashews,
    "aiocache": aiocache,
    "async_lru": async_lru,
}


def installed() -> dict[str, Callable[[Load], Load]]:
    """Those that can be imported."""
    return {name: make for name, make in CONTESTANTS.items() if importlib.util.find_spec(name)}
