"""Policies per key: which rule counts, for what, and from when on."""

import asyncio
import gc
import logging
import re
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, ConfigError, NotFound, Policy, RateLimited, Rule
from samovar.resilience import Retry
from samovar.testing import CacheClock


@pytest.fixture
def cache() -> Cache:
    return Cache(name="ruled", policy=Policy(ttl="1m", jitter=0))


def test_the_first_rule_that_fits_says_how_long_a_name_lives(cache: Cache, cache_clock: CacheClock) -> None:
    cache.configure(rules=[Rule("product:1*", ttl=30), Rule("product:*", ttl="1h"), Rule("session:?", ttl=None)])
    lives = {"product:17": 30, "product:7": 3600, "session:a": float("inf"), "session:ab": 60, "other": 60}
    for key in lives:
        cache.sync.set(key, 1)
    assert {key: cache.sync.ttl(key) for key in lives} == lives
    cache.sync.set_many(dict.fromkeys(lives, 2))
    assert {key: cache.sync.ttl(key) for key in lives} == lives
    cache.sync.clear()
    for key in lives:
        cache.sync.add(key, 1)
        cache.sync.replace(key, 2)
        cache.sync.touch(key)
        cache.sync.get_or_set(f"{key}", lambda: 3)
    assert {key: cache.sync.ttl(key) for key in lives} == lives
    for key in lives:
        cache.sync.delete(key)
        cache.sync.incr(key)
    assert {key: cache.sync.ttl(key) for key in lives} == lives


def test_what_a_call_says_itself_is_over_the_rule_and_the_rule_over_the_function(
    cache: Cache, cache_clock: CacheClock
) -> None:
    @cache.cached("5m", key="product:{n}")
    def product(n: int) -> int:
        return n

    def life(n: int) -> float:
        entry = product.peek(n)
        assert entry is not None
        assert entry.fresh_until is not None
        return entry.fresh_until - entry.created

    product(1)
    cache.configure(rules=[Rule("product:*", ttl=30)])
    product(2)
    assert (life(1), life(2)) == (300, 30)
    cache.sync.set("product:3", 3, ttl=7)
    assert (cache.sync.ttl("product:3"), cache.sync.get_or_set("product:4", lambda: 4, ttl=8)) == (7, 4)
    assert cache.sync.ttl("product:4") == 8
    cache.configure(rules=[])
    product(5)
    assert life(5) == 300


def test_calls_without_a_name_fit_by_function_and_arguments(cache: Cache, cache_clock: CacheClock) -> None:
    @cache.cached
    def load(n: int) -> int:
        return n

    cache.configure(rules=[Rule(load.key(7), ttl=5), Rule(f"{load.__module__}.*", ttl=10)])
    load(7)
    load(8)
    ends = [load.peek(n) for n in (7, 8)]
    assert [entry and entry.fresh_until and entry.fresh_until - entry.created for entry in ends] == [5, 10]


def test_a_rule_gives_a_function_windows_it_did_not_have_and_takes_them_back(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()

    @cache.cached("1m", key="page")
    async def page() -> int:
        return await origin.load()

    async def main() -> None:
        cache.configure(rules=[Rule("p*", stale_while_revalidate="10m", stale_if_error="1h")])
        assert await page() == 1
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        assert [await page() for _ in range(3)] == [1] * 3
        origin.gate.set()
        await turns()
        assert (await page(), origin.calls) == (2, 2)
        cache_clock.advance("61s")
        cache.configure(rules=[])
        assert await page() == 3, "no window is left: it is loaded"

    asyncio.run(main())


def test_what_is_missing_is_remembered_as_its_rule_says(cache: Cache, cache_clock: CacheClock) -> None:
    cache.configure(rules=[Rule("user:*", negative_ttl=10)])
    calls: list[int] = []

    @cache.cached("1m", key="user:{n}")
    def user(n: int) -> int:
        calls.append(n)
        raise NotFound(n)

    for _ in range(3):
        with pytest.raises(NotFound):
            user(7)
    assert calls == [7]
    cache.sync.set_missing("user:8")
    with pytest.raises(ConfigError, match="negative_ttl"):
        cache.sync.set_missing("other")


def test_rules_hold_in_namespaces_and_are_given_at_the_start_too(cache_clock: CacheClock) -> None:
    cache = Cache(name="given", rules=[Rule("a*", ttl=5)])
    inner = cache.namespace("inner")
    inner.sync.set("abc", 1)
    assert inner.sync.ttl("abc") == 5
    assert cache.explain("abc").state == "absent"


def test_a_refresh_and_an_explanation_follow_the_rule(cache: Cache, cache_clock: CacheClock) -> None:
    @cache.cached("1m", key="k{n}")
    def load(n: int) -> int:
        return n

    cache.configure(rules=[Rule("k*", stale_if_error="1h")])
    load(1)
    cache_clock.advance("61s")
    assert load.explain(1).state == "grace"
    assert cache.explain("k1").state == "grace"
    cache.configure(rules=[Rule("x*", stale_if_error="1h")])
    assert load.explain(1).state == "dead"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rule(""), "rule: ''; give a pattern"),
        (lambda: Rule("a*", tll=5), "did you mean ttl="),
        (lambda: Rule("a*", ttl=-1), "ttl: -1; give"),
        (lambda: Rule("a*", breaker=5), "breaker: 5; give Breaker"),
        (lambda: Rule("a*", ttl=lambda value: 5), "ttl: .*give a duration"),
        (lambda: Cache(name="x", rules=["a*"]), "rules: 'a.*give a list of rules"),
        (lambda: Cache(name="x", rules=[Rule("a[0-9]")]), r"rule: .*a\[0-9\]"),
    ],
)
def test_rules_that_cannot_be_are_refused_by_name(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_a_rule_that_cannot_be_leaves_those_before_in_force(cache: Cache, cache_clock: CacheClock) -> None:
    cache.configure(rules=[Rule("a", ttl=5)])
    with pytest.raises(ConfigError):
        cache.configure(rules=[Rule("a", ttl=6), Rule("[")])
    cache.sync.set("a", 1)
    assert cache.sync.ttl("a") == 5


def test_a_rule_that_contradicts_a_functions_policy_is_told_to_the_caller(cache: Cache) -> None:
    cache.configure(rules=[Rule("k", soft_timeout=5, stale_if_error=9)])

    @cache.cached("1m", key="k", timeout=2)
    def load() -> int:
        return 1

    with pytest.raises(ConfigError, match="soft_timeout: 5; give less than timeout=2"):
        load()


def test_a_rule_that_contradicts_a_known_function_is_told_when_it_is_configured(
    cache: Cache, caplog: pytest.LogCaptureFixture
) -> None:
    @cache.cached("1m", key="k:{n}", timeout=2)
    def load(n: int) -> int:
        return n

    @cache.cached("1m", timeout=2)
    def other(n: int) -> int:
        return n

    odd: dict[str, Any] = {"soft_timeout": 5, "stale_if_error": 9}
    with caplog.at_level(logging.WARNING, "samovar"):
        cache.configure(rules=[Rule("k:?", **odd), Rule("unlike", **odd), Rule("k:*", ttl=5)])
    assert len(caplog.records) == 1, "neither of the one that fits nothing nor of the one that contradicts nothing"
    assert re.search(r"'k:\?' contradicts .*load.*soft_timeout: 5; give less than", caplog.records[0].getMessage())
    with pytest.raises(ConfigError, match="soft_timeout: 5"):
        load(1)
    assert (load(12), other(1)) == (12, 1)


def test_rules_and_what_they_made_of_policies_are_freed_with_their_cache() -> None:
    class KeptError(Exception):
        pass

    def scene() -> weakref.ref[type[KeptError]]:
        class OwnError(KeptError):
            pass

        cache = Cache(name="freed", rules=[Rule("k", cache_errors={OwnError: "1m"})])

        @cache.cached("1m", key="k")
        def load() -> Any:
            return cache

        load()
        return weakref.ref(OwnError)

    gone = scene()
    gc.collect()
    assert gone() is None


# --- Rules that protect loaders ---------------------------------------------------------------------------------------


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except RateLimited:
        return "limited"


def test_what_fits_a_rule_shares_its_limit(cache: Cache) -> None:
    cache.configure(rules=[Rule("tight:*", rate="2/m")])
    load = cache.cached(key="tight:{n}")(lambda n: n)
    beside = cache.cached(key="other:{n}")(lambda n: n)
    assert [outcome(lambda n=n: load(n)) for n in range(2)] == [0, 1]  # type: ignore[misc]
    assert outcome(lambda: load(2)) == "limited"
    assert outcome(lambda: cache.sync.get_or_set("tight:by name", lambda: 1)) == "limited"
    assert [beside(n) for n in range(5)] == list(range(5))


def test_a_rule_protects_instead_of_the_function_and_no_longer_than_it_is_in_force(cache: Cache) -> None:
    tries: list[int] = []

    @cache.cached(key="a:{n}", rate="1/h")
    def load(n: int) -> int:
        tries.append(n)
        if len(tries) < 3:
            raise OSError("down")
        return n

    cache.configure(rules=[Rule("a:*", rate=None, retry=Retry(3, base=0.001, sleep=lambda seconds: None))])
    assert (load(1), tries) == (1, [1, 1, 1])
    assert [load(n) for n in range(2, 5)] == [2, 3, 4]
    cache.configure(rules=[])
    assert [outcome(lambda n=n: load(n)) for n in range(5, 7)] == [5, "limited"]  # type: ignore[misc]


def test_a_rule_protects_what_refreshes_behind(cache: Cache, cache_clock: CacheClock) -> None:
    tries: list[str] = []

    @cache.cached(key="a:{n}", ttl="1m", stale_while_revalidate="1h")
    async def load(n: int) -> int:
        tries.append("load")
        if len(tries) == 2:
            raise OSError("down")
        return len(tries)

    async def main() -> None:
        cache.configure(rules=[Rule("a:*", retry=Retry(2, base=0.001, sleep=lambda seconds: None))])
        assert await load(1) == 1
        cache_clock.advance("2m")
        assert await load(1) == 1
        await turns()
        assert (await load(1), tries) == (3, ["load"] * 3)

    asyncio.run(main())


def test_calls_by_name_share_the_limit_of_their_cache() -> None:
    cache = Cache(name="shared", policy=Policy(rate="2/m"))
    by_name = [outcome(lambda n=n: cache.sync.get_or_set(f"k{n}", lambda: n)) for n in range(3)]  # type: ignore[misc]
    assert by_name == [0, 1, "limited"]
    assert outcome(lambda: cache.sync.get_or_set("k4", lambda: 4, ttl=9)) == "limited"
    assert outcome(lambda: cache.sync.get_or_set("k5", lambda: 5, rate=None)) == 5
    # A function has a limit of its own.
    assert [outcome(lambda n=n: cache.cached(lambda n: n)(n)) for n in range(2)] == [0, 1]  # type: ignore[misc]


@pytest.mark.parametrize("option", [{"rate": "1/s"}, {"concurrency": 1}, {"breaker": True}])
def test_a_limit_that_one_call_would_have_alone_is_refused(cache: Cache, option: Any) -> None:
    with pytest.raises(ConfigError, match=r"make a \w+\(\.\.\.\) once"):
        cache.sync.get_or_set("a", lambda: 1, **option)


def test_a_hit_by_name_needs_no_second_thought(cache: Cache) -> None:
    assert cache.sync.get_or_set("a", lambda: None) is None
    assert cache.sync.get_or_set("a", lambda: 5, ttl=9) is None

    async def main() -> None:
        assert await cache.get_or_set("a", lambda: 5) is None
        assert await cache.get_or_set("b", lambda: [1]) == [1]
        got = await cache.get_or_set("b", lambda: [2])
        got.append(2)
        assert await cache.get_or_set("b", lambda: [2]) == [1]

    asyncio.run(main())
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.loads) == (4, 2, 2)


def test_short_forms_that_look_alike_are_told_apart(cache: Cache) -> None:
    tries: list[int] = []

    def load() -> int:
        tries.append(1)
        raise OSError("down")

    with pytest.raises(OSError, match="down"):
        cache.sync.get_or_set("a", load, retry=1)
    assert len(tries) == 1
    policy = Policy(retry=True).over(cache.policy)
    assert policy.shared().retry is policy.shared().retry
    assert policy.shared().retry is not Policy(retry=1).over(policy).shared().retry
