"""The registry of named caches: what an application configures once, starts and closes. It holds no entries."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._cache import Cache
from samovar._options import Memory, at, check_background, is_name, refuse, unknown
from samovar._policy import Policy, check_policy

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping
    from datetime import timedelta
    from types import TracebackType
    from typing import Self

    from samovar._settings import Settings
    from samovar._views import Stats


class CacheManager:
    """Named caches, a default policy for those it makes itself, and their common end.

    Args:
        caches: By name. A cache under ``"default"`` is what ``default_cache()`` of this manager returns.
        policy: Below those of the caches that the manager makes itself, from settings or because they are asked for.
        background: How many loads that nobody waits for run at once, in all its caches together: refreshes of stale
            values, early ones, the refresher's, warming. Left out, they share the 64 of all caches in the process
            for which nothing else is said (:func:`configure`).

    Example:
        >>> manager = CacheManager({"sessions": Cache(name="sessions")})
        >>> manager["sessions"].name
        'sessions'
    """

    def __init__(
        self,
        caches: Mapping[str, Cache] | None = None,
        *,
        policy: Policy | None = None,
        background: int | None = None,
        **others: object,
    ) -> None:
        if others:
            raise unknown(others, ("caches", "policy", "background"), "CacheManager")
        if caches is not None and not hasattr(caches, "items"):
            raise refuse("caches", caches, "give a dict of caches by name: {'default': Cache(...)}")
        self._caches: dict[str, Cache] = {}
        #: What is said of the caches that were made here, without the common policy below.
        self._own: dict[str, Policy] = {}
        self.policy = check_policy(policy)
        check_background(background)
        #: None: its caches have that of the process.
        self._budget: _core.BudgetCore | None = None
        self._set_background(background)
        for name, cache in (caches or {}).items():
            self.register(name, cache)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str]) -> Self:
        """The caches that a TOML file describes: ``[policy]`` below all, and ``[caches.NAME]`` for each.

        The keys are the options of :class:`Cache`, :class:`Memory`, :class:`Policy` and :class:`Rule`; those of a
        cache are in its tables ``policy`` and ``memory`` and its list ``rules``. In a policy a table stands for
        ``Adaptive`` (``ttl``), ``Retry``, ``Breaker``, ``Rate`` or ``Concurrency``, and `cache_errors` names
        exceptions: ``{LookupError = "1m", "app.errors.Gone" = "1h"}``. ``inf`` is no limit.

        Raises:
            ConfigError: The file cannot be read, or something in it cannot be; the message has the file, the key,
                the value and the cure.
        """
        from samovar import _settings

        return cls()._made_from(_settings.from_toml(path))

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Self:
        """The caches that the environment describes, over those of the file that ``SAMOVAR_TOML`` names, if any.

        ``SAMOVAR_TTL`` is the ``ttl`` of the common policy, ``SAMOVAR_SESSIONS_TTL`` that of the cache ``sessions``:
        any option of :class:`Policy`, and for a cache also ``max_entries``, ``max_bytes``, ``eviction``,
        ``namespace`` and ``url``. Numbers, ``true``, ``inf`` and tables are written as in TOML; all else is text.
        With a file, its caches and ``default`` are those that can be named.

        Args:
            environ: In place of ``os.environ``.

        Raises:
            ConfigError: A variable that begins with ``SAMOVAR_`` is not known, or its value cannot be; the message has
                the variable, the value and the cure.
        """
        import os

        from samovar import _settings

        return cls()._made_from(_settings.from_env(os.environ if environ is None else environ))

    @property
    def background(self) -> int:
        """How many loads that nobody waits for may run at once."""
        return (self._budget or _core._common_budget(_core._state)).rooms

    def _set_background(self, background: int | None) -> None:
        if background is None:
            return
        if self._budget is not None:
            self._budget.resize(background)
            return
        self._budget = _core.BudgetCore(_core._state, background)
        for cache in self._caches.values():
            _core._use_budget(cache, self._budget)

    def _use_common_budget(self) -> None:
        """Settings of the default manager hold for all caches of the process that have no other."""
        self._budget = _core._common_budget(_core._state)

    def _made_from(self, settings: Settings) -> Self:
        self._apply(settings)
        return self

    def configure(
        self,
        caches: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        policy: Policy | Mapping[str, Any] | None = None,
        background: int | None = None,
        toml: str | os.PathLike[str] | None = None,
    ) -> None:
        """Apply settings while the caches work. What is left out stays; all are checked before the first applies.

        A policy or list of rules that is given takes the place of the whole one before, and of a table ``memory``
        the options given are changed, as :meth:`Cache.resize` does. A cache that is not there yet is made. Functions
        decorated already follow at once, as :meth:`Cache.configure` says.

        Args:
            caches: The tables of caches by name, as in a file: ``{"sessions": {"policy": {"ttl": "30m"}}}``. In
                place of tables there may be a :class:`Policy`, :class:`Memory` or :class:`Rule`.
            policy: Below those of the caches that this manager has made. A cache that was given to it has only its
                own.
            background: How many loads that nobody waits for run at once, as in :class:`CacheManager`; those that
                run go on.
            toml: The file that says all, instead of these.

        Raises:
            ConfigError: Something cannot be, contradicts a function's own options, or cannot be changed live, such as
                a namespace. Nothing has changed then.
        """
        from samovar import _settings

        if toml is not None:
            if caches is not None or policy is not None or background is not None:
                raise refuse("toml", toml, "give a file, or caches=, policy= and background=, not both")
            self._apply(_settings.from_toml(toml))
            return
        tables = {"caches": caches, "policy": policy, "background": background}
        given = {name: table for name, table in tables.items() if table is not None}
        self._apply(_settings.read(given, _settings.Place("configure")))

    def _apply(self, settings: Settings) -> None:
        """Check everything and make what is new; only then change what is there."""
        common = self.policy if settings.policy is None else settings.policy
        said = {name: options["policy"] for name, options in settings.caches.items() if "policy" in options}
        new = [name for name in settings.caches if name not in self._caches]
        own = {**self._own, **dict.fromkeys(new, Policy())}
        own.update({name: policy for name, policy in said.items() if name in own})
        made: dict[str, Cache] = {}
        changes: list[Callable[[], None]] = []
        for name, options in settings.caches.items():
            with at(settings.place / "caches" / name):
                if name in new:
                    made[name] = make(name, {**options, "policy": own[name].over(common)})
                else:
                    changes += live_changes(self._caches[name], options)
        for name, cache in self._caches.items():
            if name in said or (name in own and settings.policy is not None):
                place = settings.place / "caches" / name / "policy" if name in said else settings.place / "policy"
                with at(place):
                    below = own[name].over(common) if name in own else said[name]
                    changes += cache._changes(policy=below)  # pyright: ignore[reportPrivateUsage]
        for change in changes:
            change()
        self.policy, self._own = common, own
        self._set_background(settings.background)
        for name, cache in made.items():
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
        if self._budget is not None:
            _core._use_budget(cache, self._budget)
        return cache

    def cache(self, name: str = "default") -> Cache:
        """The cache of this name, made with the manager's policy if there is none."""
        found = self._caches.get(name)
        if found is None:
            found = self.register(name, Cache(name=name, policy=self.policy))
            self._own[name] = Policy()
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

    async def close(self, *, grace: float | timedelta | str = 5) -> None:
        """Close every cache, the last registered first. One that fails does not keep the others open.

        Args:
            grace: For each of them; see :meth:`Cache.close`.

        Raises:
            ExceptionGroup: What failed, after all have been closed.
        """
        errors: list[Exception] = []
        for cache in reversed(list(self._caches.values())):
            try:
                await cache.close(grace=grace)
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


def make(name: str, options: Mapping[str, Any]) -> Cache:
    """The cache that settings describe."""
    given: dict[str, Any] = {"name": name, **options}
    if "memory" in options:
        given["memory"] = Memory(**options["memory"])
    return Cache(**given)


def live_changes(cache: Cache, options: Mapping[str, Any]) -> list[Callable[[], None]]:
    """What changes rules and bounds of a cache that works. What can fail has been done when it returns.

    Raises:
        ConfigError: Something cannot be, or only when a cache is made.
    """
    for option, present in (("name", cache.name), ("namespace", cache.path)):
        if options.get(option, present) != present:
            raise refuse(
                option, options[option], f"it stays {present!r} while the cache lives; make one of another name"
            )
    changes = cache._changes(rules=options.get("rules", ...))  # pyright: ignore[reportPrivateUsage]
    from samovar._live import resized

    bounds = dict(options.get("memory", {}))
    if bounds.pop("weigher", None) is not None:
        raise refuse("weigher", options["memory"]["weigher"], "leave it out: it stays while the cache lives")
    if bounds:
        changes.append(partial(cache._resize, resized(cache, bounds)))  # pyright: ignore[reportPrivateUsage]
    return changes


_default = CacheManager()
_default._use_common_budget()  # pyright: ignore[reportPrivateUsage]


def default_manager() -> CacheManager:
    """The manager that ``@cached`` uses."""
    return _default


def default_cache() -> Cache:
    """The cache that ``@cached`` uses: ``"default"`` of the default manager."""
    return _default.cache("default")


def configure(*, policy: Policy | None = None, background: int | None = None, **caches: Any) -> CacheManager:
    """Set up the default manager, before the first ``@cached``: ``configure(policy=Policy(ttl="5m"))``.

    Afterwards, and from a file, ``default_manager().configure(...)`` does it (:meth:`CacheManager.configure`).

    Args:
        policy: For caches made from now on.
        background: How many loads that nobody waits for run at once, in all caches of the process whose manager has
            no `background` of its own. 64 if nothing is said; it may be changed at any time.
        **caches: Caches by name.

    Raises:
        ConfigError: A cache of that name is in use already.
    """
    check_background(background)
    if policy is not None:
        check_policy(policy)
        if "default" in _default:
            raise refuse(
                "policy",
                policy,
                "the default cache is in use already; call configure() before the first @cached, or "
                "default_manager().configure(policy=...) to change it",
            )
        _default.policy = policy
    _default._set_background(background)  # pyright: ignore[reportPrivateUsage]
    for name, cache in caches.items():
        _default.register(name, cache)
    return _default
