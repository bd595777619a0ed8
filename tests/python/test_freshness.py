"""What a value is good for after its ttl: early, stale, a last resort, gone."""

import asyncio
import math
import threading
from collections.abc import Callable
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, CacheManager, ConfigError, LoadTimeout, Policy, Rule
from samovar.testing import CacheClock


def run(main: Callable[[], Any]) -> None:
    asyncio.run(main())


# --- stale-while-revalidate -------------------------------------------------------------------------------------------


def test_a_stale_value_answers_at_once_and_exactly_one_refresh_runs_behind(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        assert await load() == 1
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        assert [await load() for _ in range(100)] == [1] * 100
        await turns()
        assert origin.calls == 2
        assert await asyncio.gather(*(load() for _ in range(10))) == [1] * 10
        origin.gate.set()
        await turns()
        assert (await load(), origin.calls) == (2, 2)

    run(main)
    stats = load.stats()
    assert (stats.hits, stats.stale_hits, stats.misses, stats.loads, stats.refreshes) == (1, 110, 1, 2, 1)


def test_a_stale_call_that_is_never_awaited_starts_nothing(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        with pytest.warns(RuntimeWarning, match="never awaited"):
            load()
        await turns()
        assert origin.calls == 1

    run(main)


def test_get_takes_only_what_is_fresh_since_nobody_would_load_it(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()

    @cache.cached("1m", key="user", stale_while_revalidate="1h")
    async def load() -> int:
        return await origin.load()

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        assert await cache.get("user") is None
        origin.gate = asyncio.Event()
        assert [await load() for _ in range(3)] == [1] * 3
        assert (await cache.get("user"), await cache.contains("user")) == (None, False)
        origin.gate.set()
        await turns()
        assert await cache.get("user") == 2

    run(main)


def test_beyond_its_windows_a_value_is_gone(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("2m")
        assert await load() == 2

    run(main)


def test_hard_expiry_holds_while_a_refresh_is_in_flight(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("90s")
        origin.gate = asyncio.Event()
        assert await load() == 1
        cache_clock.advance("30s")
        waiting = asyncio.ensure_future(load())
        await turns()
        assert not waiting.done(), "the old value is dead: who asks now waits for the load"
        origin.gate.set()
        assert (await waiting, origin.calls) == (2, 2)

    run(main)


def test_on_a_sync_function_the_first_caller_loads_and_the_others_get_the_old_value(
    cache: Cache, cache_clock: CacheClock
) -> None:
    inside, leave, calls = threading.Event(), threading.Event(), []

    @cache.cached("1m", stale_while_revalidate="1m")
    def load() -> int:
        calls.append(1)
        if len(calls) == 2:
            inside.set()
            leave.wait(10)
        return len(calls)

    assert load() == 1
    cache_clock.advance("61s")
    got: list[int] = []
    first = threading.Thread(target=lambda: got.append(load()))
    first.start()
    assert inside.wait(10)
    assert [load() for _ in range(50)] == [1] * 50
    leave.set()
    first.join(10)
    assert (got, load(), len(calls)) == ([2], 2, 2)


def test_what_uses_its_callers_session_is_never_refreshed_behind(cache: Cache, cache_clock: CacheClock) -> None:
    sessions: list[str] = []

    @cache.cached("1m", ignore=["session"], stale_while_revalidate="1m")
    async def load(key: int, session: str) -> int:
        sessions.append(session)
        await asyncio.sleep(0)
        return len(sessions)

    async def main() -> None:
        assert await load(1, "first") == 1
        cache_clock.advance("61s")
        second, third = await asyncio.gather(load(1, "second"), load(1, "third"))
        assert (second, third, sessions) == (2, 1, ["first", "second"])

    run(main)


def test_a_refresh_function_opens_its_own_resources(cache: Cache, cache_clock: CacheClock) -> None:
    refreshed: list[int] = []

    async def anew(key: int) -> str:
        refreshed.append(key)
        return "anew"

    @cache.cached("1m", ignore=["session"], stale_while_revalidate="1m", refresh=anew)
    async def load(key: int, session: str) -> str:
        return session

    async def main() -> None:
        assert await load(1, "first") == "first"
        cache_clock.advance("61s")
        assert await load(1, "second") == "first"
        await turns()
        assert (refreshed, await load(1, "third")) == ([1], "anew")

    run(main)


def test_an_invalidation_during_a_refresh_is_not_undone_by_it(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        await load()
        await load.invalidate()
        origin.gate.set()
        await turns()
        assert (await load.peek(), await load()) == (None, 3)

    run(main)


def test_a_refresh_goes_on_when_whoever_started_it_is_gone(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        assert await asyncio.ensure_future(load()) == 1
        await turns()
        assert (origin.calls, origin.cancelled, load.explain().waiting) == (2, 0, 0)
        origin.gate.set()
        await turns()
        assert await load() == 2

    run(main)


def test_a_refresh_on_a_closed_loop_does_not_keep_the_value_stale_for_ever(
    cache: Cache, cache_clock: CacheClock
) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h")(origin.load)
    run(load)
    cache_clock.advance("61s")
    loop = asyncio.new_event_loop()
    origin.gate = asyncio.Event()
    assert loop.run_until_complete(load()) == 1
    loop.run_until_complete(turns())
    # Closed as a thread that is killed closes its loop: nothing is cancelled first.
    tasks = asyncio.all_tasks(loop)
    assert (len(tasks), origin.calls) == (1, 2)
    origin.gate = None

    async def main() -> None:
        assert await load() == 1
        cache_clock.advance("2s")
        assert await load() == 1
        await turns()
        assert (await load(), origin.calls) == (3, 3)

    run(main)
    for task in tasks:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    loop.close()


# --- jitter and early refresh -----------------------------------------------------------------------------------------


def test_jitter_takes_up_to_its_share_of_the_ttl_at_random(cache: Cache, cache_clock: CacheClock) -> None:
    @cache.cached(1000, jitter=0.2)
    def load(n: int) -> int:
        return n

    lives = []
    for n in range(2000):
        load(n)
        entry = load.peek(n)
        assert entry is not None
        lives.append(entry.fresh_until - entry.created)
    assert 800 <= min(lives) < 810
    assert 990 < max(lives) <= 1000
    buckets = [sum(800 + 20 * at <= life < 820 + 20 * at for life in lives) for at in range(10)]
    expected = len(lives) / 10
    chi_squared = sum((count - expected) ** 2 / expected for count in buckets)
    assert chi_squared < 33.7, (chi_squared, buckets)  # p = 0.0001 with 9 degrees of freedom


def test_an_explicit_set_is_never_jittered(cache: Cache, cache_clock: CacheClock) -> None:
    cache = Cache(name="jittered", policy=Policy(ttl=1000, jitter=0.5))
    cache.sync.set("a", 1)
    assert cache.sync.ttl("a") == 1000


def test_a_hot_value_is_refreshed_early_behind_and_by_one_caller(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()

    @cache.cached("1m", early=True)
    async def load() -> int:
        cache_clock.advance("2s")  # what the load takes
        return await origin.load()

    async def main() -> None:
        assert await load() == 1
        cache_clock.advance("31s")
        for _ in range(1000):
            await load()
        assert origin.calls == 1, "28 seconds before the end are 14 times its load time"
        cache_clock.advance("28s")  # one second before the end
        origin.gate = asyncio.Event()
        for _ in range(1000):
            assert await load() == 1
        await turns()
        assert origin.calls == 2
        origin.gate.set()
        await turns()
        assert await load() == 2

    run(main)
    assert load.stats().stale_hits == 0


def test_get_takes_a_value_that_may_be_refreshed_early_as_it_is(cache: Cache, cache_clock: CacheClock) -> None:
    @cache.cached("1m", key="user", early=True)
    async def load() -> int:
        cache_clock.advance("10s")  # what the load takes
        return 1

    run(load)
    cache_clock.advance("30s")
    assert (cache.sync.get("user"), cache.sync.get_many(["user"])) == (1, {"user": 1})
    assert (cache.stats().hits, cache.stats().misses) == (2, 1)


def test_no_refresh_begins_so_soon_after_a_load(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1h", min_refresh_interval="10m")(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        assert await load() == 1
        await turns()
        assert origin.calls == 1
        cache_clock.advance("9m")
        assert await load() == 1
        await turns()
        assert (await load(), origin.calls) == (2, 2)

    run(main)


@pytest.mark.parametrize(("beta", "ahead"), [(1.0, 1), (1.0, 4), (2.0, 4), (0.5, 0.5)])
def test_of_many_values_as_many_are_refreshed_early_as_the_law_says(
    cache: Cache, cache_clock: CacheClock, beta: float, ahead: float
) -> None:
    count, source = 1500, Origin()
    CacheManager({"test": cache}, background=count)  # the law is asked for, not the budget
    load = cache.cached("1m", early=beta)(source.load)

    async def main() -> None:
        source.gate = asyncio.Event()
        loading = asyncio.gather(*(load(n) for n in range(count)))
        await turns()
        cache_clock.advance("2s")  # what each load takes
        source.gate.set()
        await loading
        cache_clock.advance(60 - ahead)
        for n in range(count):
            await load(n)
        await turns()

    run(main)
    # XFetch: -2 s x beta x ln(u) >= ahead, u uniform in (0, 1].
    share = math.exp(-ahead / (2 * beta))
    error = math.sqrt(share * (1 - share) / count)
    assert abs(load.stats().refreshes / count - share) < 5 * error  # by chance alone: once in two million runs


# --- bad input --------------------------------------------------------------------------------------------------------


async def with_a_session(n: int, session: object) -> int:
    return n


BAD: dict[str, tuple[Callable[[Cache], Any], str]] = {
    "soft above hard": (
        lambda cache: cache.cached(timeout=1, soft_timeout=2, stale_if_error=9)(Origin().load),
        r"soft_timeout: 2; give less than timeout=1",
    ),
    "soft without old": (
        lambda cache: cache.cached("1m", soft_timeout=2)(Origin().load),
        r"soft_timeout: 2; add stale_if_error=",
    ),
    "negative stale": (
        lambda cache: cache.cached("1m", stale_if_error=-1)(Origin().load),
        r"stale_if_error: -1; give",
    ),
    "early without ttl": (lambda cache: cache.cached(early=True)(Origin().load), r"early: 1.0; add a ttl="),
    "early on sync": (lambda cache: cache.cached("1m", early=True)(lambda: 1), r"early: True; leave it out"),
    "early with a session": (
        lambda cache: cache.cached("1m", early=True, ignore=["session"])(with_a_session),
        r"early: True; its load uses its caller's session, .* add refresh= or self_contained=True",
    ),
    "negative window": (
        lambda cache: cache.cached("1m", stale_while_revalidate=-1)(Origin().load),
        r"stale_while_revalidate: -1; give seconds, a timedelta, a text such as '5m', or None for none",
    ),
    "soft above hard in a rule": (lambda cache: Rule("a*", timeout=1, soft_timeout=2), r"soft_timeout: 2; give less"),
    "timeout zero": (lambda cache: cache.cached("1m", timeout=0)(Origin().load), r"timeout: 0; give"),
    "drop what": (lambda cache: cache.cached("1m", on_refresh_error="x")(Origin().load), r"give 'keep' or 'drop'"),
    "errors": (
        lambda cache: cache.cached("1m", timeout=1, cache_errors={LoadTimeout: "1m"})(Origin().load),
        r"cache_errors: .*LoadTimeout.*; leave it out: a load that is stopped brings nothing to keep.*stale_if_error=",
    ),
    "errors by number": (
        lambda cache: cache.cached("1m", cache_errors={1: 2})(Origin().load),
        r"cache_errors: .*exception classes",
    ),
    "errors without end": (
        lambda cache: cache.cached("1m", cache_errors={OSError: -1})(Origin().load),
        r"cache_errors: .*OSError.*: -1.*; give exception classes and how long each is kept",
    ),
    "missing for how long": (
        lambda cache: cache.sync.set_missing("a"),
        r"no ttl for 'a': nothing says how long it is missing; give ttl=, or the cache Policy\(negative_ttl=",
    ),
    "refresh sync": (
        lambda cache: cache.cached("1m", refresh=lambda: 1)(Origin().load),
        r"refresh: .*give an async function",
    ),
    "unknown": (lambda cache: cache.cached("1m", stale_if_eror=1)(Origin().load), r"did you mean stale_if_error=\?"),
    "per call": (lambda cache: cache.sync.get_or_set("a", int, sof_timeout=1), r"did you mean soft_timeout=\?"),
    "policy": (lambda cache: Cache(policy=Policy(timeout=1, soft_timeout=2)), r"soft_timeout"),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_options_that_cannot_be_are_refused_by_name(cache: Cache, make: Callable[[Cache], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(cache)


def test_options_come_from_the_call_then_the_function_then_the_cache(cache_clock: CacheClock) -> None:
    cache = Cache(name="layers", policy=Policy(ttl="1m", stale_if_error="1h", jitter=0))
    origin = Origin()
    own = cache.cached(stale_if_error="10s")(origin.load_now)
    assert (own.policy.ttl, own.policy.stale_if_error) == ("1m", "10s")
    own()
    cache_clock.advance("61s")
    origin.error = OSError("down")
    assert own() == 1
    cache_clock.advance("10s")
    with pytest.raises(OSError, match="down"):
        own()
    cache.sync.get_or_set("a", lambda: 1, stale_if_error="5s")
    cache_clock.advance("62s")

    def fails() -> int:
        raise OSError("down")

    assert cache.sync.get_or_set("a", fails, stale_if_error="5s") == 1


def test_the_default_jitter_can_be_seen_and_turned_off() -> None:
    async def load() -> int:
        return 1

    plain = Cache(name="plain")
    assert plain.cached("1m")(load).policy.jitter == 0.05
    assert plain.cached("1m", jitter=0)(load).policy.jitter == 0


# --- why --------------------------------------------------------------------------------------------------------------


def test_a_cache_explains_what_a_lookup_would_do_and_why(cache: Cache, cache_clock: CacheClock) -> None:
    origin = Origin()

    @cache.cached("1m", stale_while_revalidate="1m", stale_if_error="1h", negative_ttl="1m")
    async def load() -> int:
        cache_clock.advance("1s")
        return await origin.load()

    def said() -> tuple[str, str]:
        explained = load.explain()
        return explained.state, explained.would

    async def main() -> None:
        assert said() == ("absent", "load")
        await load()
        assert said() == ("fresh", "answer")
        assert load.explain().load_time == 1.0
        cache_clock.advance("61s")
        assert said() == ("stale", "answer, and refresh behind")
        origin.gate = asyncio.Event()
        await load()
        await turns()
        assert said() == ("stale", "answer")
        assert load.explain().waiting == 0
        cache_clock.advance("2m")
        assert said() == ("grace", "wait for the load under way")
        origin.error = OSError("down")
        origin.gate.set()
        await turns()
        explained = load.explain()
        assert (explained.state, explained.would) == ("grace", "answer")
        assert explained.retry_at == explained.now + 30
        assert "is grace: a lookup would answer." in str(explained)
        assert "the next is tried in 30.000 s" in str(explained)
        cache_clock.advance("2h")
        assert said() in {("dead", "load"), ("absent", "load")}

    before = cache.stats()
    run(main)
    assert cache.explain("nobody").state == "absent"
    assert (cache.explain("nobody").key, load.explain().key) == ("nobody", load.key())
    assert cache.stats().hits - before.hits == 0
