"""What may be given to caches and decorators: wrong options name the cure, odd functions are functions."""

import asyncio
import functools
import inspect
from collections.abc import Callable
from operator import attrgetter
from typing import Any
from unittest.mock import AsyncMock

import pytest
from samovar import Cache, CacheManager, ConfigError, KeyTypeError, Memory, Policy, Redis, cached, configure

REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "Cache memory int": (lambda: Cache(memory=1000), "memory: 1000; give Memory"),  # type: ignore[arg-type]
    "Cache memory None": (lambda: Cache(memory=None), "memory: None; leave it out, or give the cache a store"),
    "Cache url": (lambda: Cache("redis"), "url: 'redis'; give 'memory://', or a URL such as 'redis://"),
    "Cache url scheme": (lambda: Cache("http://h"), "redis url: http://h; "),
    "Cache password": (lambda: Cache("redis://me:p@ss:/w@h:6379/0"), r"redis url: redis://me:\*\*\*@h:6379/0; give"),
    "Cache policy": (lambda: Cache(policy="5m"), "policy: '5m'; give Policy"),  # type: ignore[arg-type]
    "Cache name": (lambda: Cache(name="\ud800"), "name: .*give a text"),
    "Cache namespace": (lambda: Cache(namespace="\ud800"), "namespace: .*give a text"),
    "Cache remote": (lambda: Cache(remote="redis://"), "remote: 'redis://'; give Redis"),
    "Cache remote twice": (
        lambda: Cache("redis://h", remote=Redis("redis://h")),
        "remote: <redis at h:6379>; give it once",
    ),
    "Cache codec": (lambda: Cache("redis://h", codec="yaml"), "codec: 'yaml'; give one of"),
    "Cache codec alone": (lambda: Cache(codec="yaml"), "codec: 'yaml'; give one of"),
    "Cache pickle": (
        lambda: Cache("redis://h", codec="pickle"),
        "codec: 'pickle' runs code .*key_ring=",
    ),
    "Cache compress": (lambda: Cache("redis://h", compress="rar"), "compress: .*rar"),
    "Cache on_error": (lambda: Cache("redis://h", on_error="ignore"), "on_error: 'ignore'; give 'degrade' or 'raise'"),
    "Cache on_too_large": (
        lambda: Cache("redis://h", on_too_large="drop"),
        "on_too_large: 'drop'; give 'raise' or 'skip'",
    ),
    "Cache max_value_bytes": (lambda: Cache("redis://h", max_value_bytes=0), "max_value_bytes: 0; give"),
    "Cache loader": (
        lambda: Cache("redis://h", loader=str),
        "loader: <class 'str'>; leave it out: a cache",
    ),
    "Memory ttl": (lambda: Memory(ttl=0), "ttl: 0"),
    "Cache unknown": (lambda: Cache(memry=1), "memry=.*did you mean memory="),
    "Cache.cached": (lambda: Cache.cached("5m"), "cache: '5m'; make one first"),  # type: ignore[call-overload]
    "Memory inf": (lambda: Memory(max_bytes="inf"), "max_bytes: 'inf'; give"),
    "Memory huge": (lambda: Memory(max_bytes="1e300GiB"), "max_bytes: '1e300GiB'; give"),
    "Memory unknown": (lambda: Memory(max_size=1), "max_size=.*Memory"),
    "Policy ttl": (lambda: Policy(ttl=-5), "ttl: -5; give"),
    "Policy copy": (lambda: Policy(copy=1), "copy: 1; give"),  # type: ignore[arg-type]
    "CacheManager unknown": (lambda: CacheManager(polcy=1), "polcy=.*did you mean policy="),
    "CacheManager caches": (lambda: CacheManager(5), "caches: 5; give"),  # type: ignore[arg-type]
    "CacheManager policy": (lambda: CacheManager(policy=5), "policy: 5; give"),  # type: ignore[arg-type]
    "configure": (lambda: configure(policy=5), "policy: 5; give"),  # type: ignore[arg-type]
    "ignore": (lambda: cached(ignore=5)(len), "ignore: 5; give"),  # type: ignore[call-overload]
    "key without signature": (lambda: cached(key=attrgetter("x"))(lambda x: x), "key: "),
    "async cache_if": (lambda: cached(cache_if=asyncio.sleep)(lambda x: x), "cache_if: .*not async"),
    "async key": (lambda: cached(key=asyncio.sleep)(lambda delay, result: 1), "key: "),
    "async ttl": (lambda: cached(ttl=asyncio.sleep)(lambda x: x), "ttl: .*not async"),
    "version": (lambda: cached(version=1.5)(lambda x: x), "version: 1.5; give"),  # type: ignore[call-overload]
    "retry": (lambda: cached(retry=0)(lambda x: x), "retry: 0; give a whole number"),
    "jitter": (lambda: cached(jitter=1.5)(lambda x: x), "jitter: 1.5; give the share"),
}


@pytest.mark.parametrize(("make", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_an_option_that_cannot_be_is_refused_with_its_value_and_the_cure(
    cache: Cache, make: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


@pytest.mark.parametrize("options", [{}, {"loader": len}], ids=["memory", "source"])
@pytest.mark.parametrize("method", ["get_many", "delete_many", "set_missing_many"])
def test_one_name_where_several_are_asked_for_is_not_taken_for_its_letters(method: str, options: Any) -> None:
    cache = Cache(policy=Policy(negative_ttl="1m"), **options)
    for keys in ("ab", b"ab", 5):
        with pytest.raises(KeyTypeError, match=rf"keys of {method} must be several .*, not {keys!r}; give a list"):
            getattr(cache.sync, method)(keys)
        with pytest.raises(KeyTypeError, match=rf"keys of {method} must be several"):
            asyncio.run(getattr(cache, method)(keys))


def test_options_that_ask_for_nothing_are_accepted() -> None:
    cache = Cache(remote=None, on_error="degrade", codec="msgpack", rules=(), bus="auto", encrypt="auto")

    @cache.cached("5m", jitter=0, single_flight="process", tags=[], stale_if_error=None, ignore=(n for n in ["b"]))
    def load(a: int, b: int = 0) -> int:
        return a

    load(1, 2), load(1, 3)
    assert load.stats().loads == 1


def test_a_function_that_hides_its_parameters_is_refused_with_the_cure(cache: Cache) -> None:
    for decorator in (cache.cached("5m"), cache.cached_many("5m", items="ids")):
        with pytest.raises(TypeError, match=r"cannot cache max: its parameters cannot be read; cache a function with"):
            decorator(max)


def test_partials_callable_objects_and_mocks_are_functions_too(cache: Cache) -> None:
    class Loader:
        async def __call__(self, n: int) -> int:
            return n

    class Plain:
        def __call__(self, n: int) -> int:
            return n

    async def add(a: int, n: int) -> int:
        return a + n

    mock = AsyncMock(return_value=5)
    functions = [cache.cached("5m")(function) for function in (Loader(), functools.partial(add, 0), mock)]

    async def main() -> None:
        assert [await function(5) for function in functions for _ in range(2)] == [5] * 6

    asyncio.run(main())
    assert [function.stats().loads for function in functions] == [1, 1, 1]
    assert mock.await_count == 1
    assert [inspect.iscoroutinefunction(function) for function in functions[:2]] == [True, True]
    assert [function.__name__ for function in functions[:2]] == ["Loader", "add"]
    plain = cache.cached("5m")(Plain())
    assert [plain(1), plain(1), plain.stats().loads] == [1, 1, 1]
    with pytest.raises(ConfigError, match=r"Loader.*no parameter"):
        cache.cached(key="{x}")(Loader())
