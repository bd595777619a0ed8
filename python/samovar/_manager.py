"""The registry of named caches: what an application configures once, starts and closes. It holds no entries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from samovar._cache import Cache
from samovar._options import is_name, refuse, unknown
from samovar._policy import Policy, check_policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

    from samovar._views import Stats


class CacheManager:
    """Named caches, a default policy for those it makes itself, and their common end.

    Args:
        caches: By name. A cache under ``"default"`` is what ``default_cache()`` of this manager returns.
        policy: For caches that the manager makes because they are asked for.

    Example:
        >>> manager = CacheManager({"sessions": Cache(name="sessions")})
        >>> manager["sessions"].name
        'sessions'
    """

    def __init__(
        self, caches: Mapping[str, Cache] | None = None, *, policy: Policy | None = None, **others: object
    ) -> None:
        if others:
            raise unknown(others, ("caches", "policy"), "CacheManager")
        if caches is not None and not hasattr(caches, "items"):
            raise refuse("caches", caches, "give a dict of caches by name: {'default': Cache(...)}")
        self._caches: dict[str, Cache] = {}
        self.policy = check_policy(policy)
        for name, cache in (caches or {}).items():
            self.register(name, cache)

    def register(self, name: str, cache: Cache) -> Cache:
        """Add a cache under a name; replacing one is refused.

        Raises:
            ConfigError: The name is taken, or the value is no cache.
        """
        if not is_name(name) or not name:
            raise refuse("cache name", name, "give a text that is not empty")
        if not isinstance(cache, Cache):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise refuse(f"cache {name!r}", cache, "give a Cache(...)")
        if self._caches.get(name, cache) is not cache:
            raise refuse("cache name", name, "another cache has it; choose another name")
        self._caches[name] = cache
        return cache

    def cache(self, name: str = "default") -> Cache:
        """The cache of this name, made with the manager's policy if there is none."""
        found = self._caches.get(name)
        if found is None:
            found = self.register(name, Cache(name=name, policy=self.policy))
        return found

    def __getitem__(self, name: str) -> Cache:
        try:
            return self._caches[name]
        except KeyError:
            known = ", ".join(sorted(self._caches)) or "none"
            raise KeyError(f"no cache {name!r}; known: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._caches

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._caches))

    def __len__(self) -> int:
        return len(self._caches)

    def stats(self) -> dict[str, Stats]:
        """The counters of every cache, by name."""
        return {name: cache.stats() for name, cache in self._caches.items()}

    async def start(self) -> None:
        """Make ready what has to be: nothing yet, caches work before they are opened."""

    async def close(self) -> None:
        """Close every cache, the last registered first. One that fails does not keep the others open.

        Raises:
            ExceptionGroup: What failed, after all have been closed.
        """
        errors: list[Exception] = []
        for cache in reversed(list(self._caches.values())):
            try:
                await cache.close()
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("closing caches", errors)

    async def __aenter__(self) -> CacheManager:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"<CacheManager: {', '.join(sorted(self._caches)) or 'no caches'}>"


_default = CacheManager()


def default_manager() -> CacheManager:
    """The manager that ``@cached`` uses."""
    return _default


def default_cache() -> Cache:
    """The cache that ``@cached`` uses: ``"default"`` of the default manager."""
    return _default.cache("default")


def configure(*, policy: Policy | None = None, **caches: Any) -> CacheManager:
    """Set up the default manager, before the first ``@cached``: ``configure(policy=Policy(ttl="5m"))``.

    Args:
        policy: For caches made from now on.
        **caches: Caches by name.

    Raises:
        ConfigError: A cache of that name is in use already.
    """
    if policy is not None:
        check_policy(policy)
        if "default" in _default:
            raise refuse(
                "policy", policy, "the default cache is in use already; call configure() before the first @cached"
            )
        _default.policy = policy
    for name, cache in caches.items():
        _default.register(name, cache)
    return _default
