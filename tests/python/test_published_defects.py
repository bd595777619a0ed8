"""Defects of loading that other caches have published, as promises of this one. Numbers are those of their trackers.

Some are about tags and second tiers, which are not here yet. Then the promise is that of the memory tier, where the
entries of a function or a namespace are what those of a tag will be.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from origin import Origin, turns
from samovar import Cache, CacheManager
from samovar.testing import CacheClock
from watching import settled


class Source:
    """What changes while it is read: a load sees the version that was there when it began."""

    def __init__(self) -> None:
        self.version = 0
        self.reads = 0
        self.gate: asyncio.Event | None = None
        self.error: Exception | None = None
        #: Called by each read as it begins.
        self.during: Callable[[], object] = lambda: None

    async def read(self) -> int:
        self.reads += 1
        self.during()
        seen = self.version
        if self.gate is not None:
            await self.gate.wait()
        if self.error is not None:
            raise self.error
        return seen


def begin(awaitable: Awaitable[int]) -> asyncio.Future[int]:
    return asyncio.ensure_future(awaitable)


def at_once(awaitable: Awaitable[Any]) -> Any:
    """The answer of a call that waits for nothing, not even for a pass of the loop."""
    with pytest.raises(StopIteration) as answered:
        awaitable.__await__().send(None)  # type: ignore[attr-defined]
    return answered.value.value


# --- a load that began before an invalidation -------------------------------------------------------------------------


@pytest.mark.parametrize("joins", [False, True], ids=["alone", "with a late reader"])
@pytest.mark.parametrize("how", ["function", "namespace", "cache"])
def test_an_invalidation_of_many_entries_during_a_load_is_not_lost(cache: Cache, how: str, joins: bool) -> None:
    """FusionCache #535: entries were stamped when their load ended, so removing a tag meanwhile missed them."""
    source = Source()
    part = cache.namespace("part")
    load = part.cached("5m")(source.read)
    invalidate = {"function": load.invalidate_all, "namespace": part.clear, "cache": cache.clear}[how]

    async def main() -> None:
        source.gate = asyncio.Event()
        early = begin(load())
        await turns()
        source.version = 1
        await invalidate()
        if joins:
            late = begin(load())
            await turns()
        source.gate.set()
        assert await early == 0, "whoever asked before the invalidation may get what was true then"
        if joins:
            assert await late == 1, "whoever asks afterwards does not join that load"
        else:
            assert await load.peek() is None
        assert [await load(), await load()] == [1, 1]

    asyncio.run(main())


def test_a_key_that_is_removed_during_its_load_is_loaded_anew_by_the_next_reader(cache: Cache) -> None:
    """FusionCache #625: after a removal the load under way still filled the key, and later readers joined it."""
    source = Source()

    async def main() -> None:
        source.gate = asyncio.Event()
        early = begin(cache.get_or_set("key", source.read, "5m"))
        await turns()
        source.version = 1
        await cache.delete("key")
        late = begin(cache.get_or_set("key", source.read, "5m"))
        await turns()
        assert source.reads == 2
        source.gate.set()
        assert (await early, await late, await cache.get("key")) == (0, 1, 1)

    asyncio.run(main())


@pytest.mark.parametrize("last", ["early", "late"])
def test_whichever_load_ends_last_the_one_that_began_after_the_removal_stays(cache: Cache, last: str) -> None:
    """FusionCache #625, the other half: of two loads of a key, the older one may end after the newer one."""
    source = Source()

    async def main() -> None:
        gates = {"early": asyncio.Event(), "late": asyncio.Event()}
        source.gate = gates["early"]
        begun = {"early": begin(cache.get_or_set("key", source.read, "5m"))}
        await turns()
        source.version = 1
        await cache.delete("key")
        source.gate = gates["late"]
        begun["late"] = begin(cache.get_or_set("key", source.read, "5m"))
        await turns()
        for name in sorted(gates, key=lambda name: name == last):
            gates[name].set()
            await begun[name]
        assert await cache.get("key") == 1

    asyncio.run(main())


def test_an_invalidation_counts_once_whatever_is_read_or_ends_afterwards(cache: Cache, cache_clock: CacheClock) -> None:
    """FusionCache #627: a tag's mark that was read again was sent on as new, and others dropped what came since."""
    # In memory: nothing that is left of the time before may drop what came after.
    source = Source()
    part = cache.namespace("part")
    old = part.cached("1m", stale_while_revalidate="1h")(source.read)
    new = part.cached("2h")(Origin().load)

    async def main() -> None:
        for turn in range(1, 4):
            source.gate = asyncio.Event()
            under_way = begin(old())
            await part.set("before", turn)
            await turns()
            await part.clear()
            await part.set("after", turn)
            assert await new() == turn
            source.gate.set()
            await under_way
            # All that the time before left behind is read, ends, or is freed.
            assert await part.get("before") is None
            cache_clock.advance("90s")
            assert [await old(), await old()] == [0, 0]
            assert settled(lambda: cache._inspect()["entries"] == 3)
            assert (await part.get("after"), await new(), new.stats().loads) == (turn, turn, turn)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["call", "function", "namespace"])
@pytest.mark.parametrize("why", ["early", "stale"])
def test_an_invalidation_during_a_refresh_behind_is_not_lost(
    cache: Cache, cache_clock: CacheClock, why: str, how: str
) -> None:
    """FusionCache #628: loads behind were stamped at their end, so an invalidation while they ran was forgotten."""
    source = Source()
    options: Any = {"early": 1000.0} if why == "early" else {"stale_while_revalidate": "1h"}
    load = cache.cached("1m", **options)(source.read)
    invalidate = {"call": load.invalidate, "function": load.invalidate_all, "namespace": cache.clear}[how]

    async def main() -> None:
        source.during = lambda: cache_clock.advance("1s")  # the longer a load takes the earlier its refresh
        assert await load() == 0
        source.during = lambda: None
        source.gate = asyncio.Event()
        cache_clock.advance("30s" if why == "early" else "61s")
        for _ in range(100):
            assert await load() == 0
            await turns(2)
        assert source.reads == 2
        source.version = 1
        await invalidate()
        source.gate.set()
        await turns()
        assert (await load.peek(), await load()) == (None, 1)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["call", "function", "namespace"])
def test_an_invalidated_value_answers_nobody_however_late_they_ask(
    cache: Cache, cache_clock: CacheClock, how: str
) -> None:
    """HybridCache #7771: a tag's removal was compared with when the reader came, not with when the entry was made."""
    # A reader is always later. In memory: neither who waits, nor whose load fails, gets the old value after all.
    source = Source()
    load = cache.cached("1m", stale_if_error="1h", soft_timeout="1s")(source.read)
    invalidate = {"call": load.invalidate, "function": load.invalidate_all, "namespace": cache.clear}[how]

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        source.gate = asyncio.Event()
        waiting = begin(load())
        await turns()
        await invalidate()
        late = begin(load())
        await turns()
        cache_clock.advance("1s")
        await turns()
        assert not waiting.done(), "its old value is gone: it waits for the new one"
        assert not late.done()
        source.error = OSError("down")
        source.gate.set()
        answers = await asyncio.gather(waiting, late, return_exceptions=True)
        assert [type(answer) for answer in answers] == [OSError, OSError]

    asyncio.run(main())


@pytest.mark.parametrize("write", [False, True], ids=["invalidated", "written"])
def test_a_refresh_that_ends_after_an_invalidation_stores_nothing(cache: Cache, write: bool) -> None:
    """Caffeine #193: a key that was invalidated, or written, during its refresh had the refreshed value afterwards."""
    source = Source()
    load = cache.cached("5m")(source.read)

    async def main() -> None:
        await load()
        source.gate = asyncio.Event()
        refreshing = begin(load.refresh())
        await turns()
        source.version = 1
        await (load.set(7) if write else load.invalidate())
        source.gate.set()
        await refreshing
        assert await load() == (7 if write else 1)

    asyncio.run(main())


@pytest.mark.parametrize("how", ["invalidate", "set"])
def test_everyone_who_waits_for_a_load_gets_what_it_brings_though_its_key_is_invalidated(
    cache: Cache, how: str
) -> None:
    """Project otter, #137: of callers whose key was invalidated some got the value, others none and no error."""
    inside, leave, got = threading.Event(), threading.Event(), []

    @cache.cached("5m")
    def load() -> str:
        inside.set()
        assert leave.wait(30)
        return "loaded"

    async def main() -> None:
        source = Source()
        aload = cache.cached("5m")(source.read)
        source.gate = asyncio.Event()
        waiting = [begin(aload()) for _ in range(5)]
        await turns()
        await (aload.invalidate() if how == "invalidate" else aload.set(9))
        await turns()
        source.gate.set()
        assert await asyncio.gather(*waiting) == [0] * 5
        entry = await aload.peek()
        assert (entry and entry.value) == (None if how == "invalidate" else 9)

    asyncio.run(main())
    threads = [threading.Thread(target=lambda: got.append(load())) for _ in range(4)]
    threads[0].start()
    assert inside.wait(30)
    for thread in threads[1:]:
        thread.start()
    assert settled(lambda: load.stats().coalesced == 3)
    load.invalidate() if how == "invalidate" else load.set("set")
    leave.set()
    for thread in threads:
        thread.join(30)
    assert got == ["loaded"] * 4
    entry = load.peek()
    assert (entry and entry.value) == (None if how == "invalidate" else "set")


# --- freshness is not storage life ------------------------------------------------------------------------------------


def test_a_refresh_under_way_lets_nobody_see_a_value_past_its_end(cache: Cache, cache_clock: CacheClock) -> None:
    """Caffeine #282: while an entry was being refreshed, reads of every kind gave it beyond its expiry."""
    source = Source()
    load = cache.cached("1m", key="user", stale_while_revalidate="2m", stale_if_error="3m")(source.read)

    async def main() -> None:
        await load()
        cache_clock.advance("90s")
        source.version, source.gate = 1, asyncio.Event()
        assert at_once(load()) == 0
        await turns()
        assert source.reads == 2
        cache_clock.advance("91s")
        waiting = [begin(load()) for _ in range(3)]
        await turns()
        assert not any(one.done() for one in waiting), "it may only answer for a load that has failed"
        cache_clock.advance("60s")
        assert (await load.peek(), await cache.peek("user"), await cache.get("user")) == (None, None, None)
        assert not await cache.contains("user")
        assert [pair async for pair in cache.items()] == []
        source.gate.set()
        assert await asyncio.gather(*waiting) == [1] * 3

    asyncio.run(main())


def test_a_refresh_that_never_ends_does_not_keep_its_old_value(cache: Cache, cache_clock: CacheClock) -> None:
    """Caffeine #373: a refresh that hung kept its entry from expiring, for as long as it hung."""
    origin = Origin()
    load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)

    async def main() -> None:
        await load()
        origin.gate = asyncio.Event()
        cache_clock.advance("61s")
        assert await load() == 1
        for _ in range(59):
            await turns(2)
            assert await load() == 1
            cache_clock.advance("1s")
        # Nobody asks any more, and its memory is given back.
        assert settled(lambda: cache._inspect()["entries"] == 0)
        assert (await load.peek(), origin.calls, origin.cancelled) == (None, 2, 0)
        origin.gate.set()
        await turns()

    asyncio.run(main())


@pytest.mark.parametrize("behind", [False, True], ids=["waited for", "behind"])
def test_a_failed_refresh_makes_nothing_fresh_and_overwrites_nothing_newer(
    cache: Cache, cache_clock: CacheClock, behind: bool
) -> None:
    """Project samber/hot: a refresh that failed stored the old value anew, for a whole ttl and over what was newer."""
    source = Source()
    options: Any = {"stale_while_revalidate" if behind else "stale_if_error": "1h"}
    load = cache.cached("1m", retry_after="30s", **options)(source.read)

    async def main() -> None:
        await load()
        before = await load.peek()
        source.error = OSError("down")
        for _ in range(5):
            cache_clock.advance("61s")
            assert await load() == 0
            await turns()
        after = await load.peek()
        assert before is not None
        assert after is not None
        assert (before.state, after.state) == ("fresh", "stale")
        assert (after.fresh_until, after.expires, after.created) == (before.fresh_until, before.expires, before.created)
        source.gate = asyncio.Event()
        failing = begin(load())
        await turns()
        await load.set(7)
        source.gate.set()
        assert await failing in (0, 7)
        await turns()
        entry = await load.peek()
        assert entry is not None
        assert (entry.value, entry.state) == (7, "fresh")
        cache_clock.advance("61m")
        with pytest.raises(OSError, match="down"):
            await load()

    asyncio.run(main())


@pytest.mark.parametrize("kind", ["behind", "waited for", "sync"])
def test_stale_reads_of_a_loader_that_fails_call_it_once_in_retry_after(
    cache: Cache, cache_clock: CacheClock, kind: str
) -> None:
    """Project cashews: its soft mode calls a loader that fails again on each read of the old value."""
    origin = Origin()
    options: Any = {"stale_while_revalidate" if kind == "behind" else "stale_if_error": "1h", "retry_after": "10s"}
    load: Any = cache.cached("1m", **options)(origin.load_now if kind == "sync" else origin.load)

    async def read() -> int:
        answer: Any = load()
        answer = answer if kind == "sync" else await answer
        await turns(3)
        return int(answer)

    async def main() -> None:
        await read()
        cache_clock.advance("61s")
        origin.error = OSError("down")
        for second in range(60):
            assert [await read() for _ in range(5)] == [1] * 5
            assert origin.calls == 2 + second // 10
            cache_clock.advance("1s")

    asyncio.run(main())


@pytest.mark.parametrize("ends", ["well", "badly"])
def test_a_refresh_that_is_slower_than_the_ttl_is_neither_begun_again_nor_thrown_away(
    cache: Cache, cache_clock: CacheClock, ends: str
) -> None:
    """Caffeine #175: a refresh that took longer than the next was due in was thrown away at its end, for ever."""
    source = Source()
    load = cache.cached("1s", stale_while_revalidate="1h", retry_after="1s")(source.read)

    async def main() -> None:
        expected = await load()
        source.error = None if ends == "well" else OSError("down")
        for turn in range(1, 4):
            source.version, source.gate = turn, asyncio.Event()
            for _ in range(10):
                cache_clock.advance("1s")
                assert [await load() for _ in range(3)] == [expected] * 3
                await turns(3)
            assert source.reads == 1 + turn
            source.gate.set()
            await turns()
            expected = turn if ends == "well" else 0
            assert await load() == expected

    asyncio.run(main())


# --- a lease, not a lock ----------------------------------------------------------------------------------------------


def test_who_finds_an_old_value_waits_for_nobody_while_it_is_refreshed(cache: Cache, cache_clock: CacheClock) -> None:
    """Project bentocache, #103: with a limit on waiting for a lock, readers with an old value waited that long."""
    origin = Origin()
    load = cache.cached(
        "1m", stale_while_revalidate="1h", stale_if_error="6h", soft_timeout="5s", timeout="1h", self_contained=True
    )(origin.load)

    async def main() -> None:
        await load()
        cache_clock.advance("61s")
        origin.gate = asyncio.Event()
        assert [at_once(load()) for _ in range(5)] == [1] * 5
        await turns()
        assert [at_once(load()) for _ in range(5)] == [1] * 5
        assert origin.calls == 2
        origin.gate.set()
        await turns()
        assert at_once(load()) == 2

    asyncio.run(main())


def test_a_load_whose_loop_was_closed_under_it_keeps_nobody_waiting(cache: Cache, cache_clock: CacheClock) -> None:
    """Symfony #63592: who waited for the lock of a process that had died waited for ever, until every worker did."""
    origin = Origin()
    load = cache.cached("5m")(origin.load)
    loop = asyncio.new_event_loop()
    origin.gate = asyncio.Event()
    crashed = loop.create_task(load())  # type: ignore[arg-type]
    loop.run_until_complete(turns())
    # As a thread that is killed leaves it: nothing is cancelled, nothing tells anybody.
    left = asyncio.all_tasks(loop)
    origin.gate = None

    async def main() -> None:
        assert await load() == 2

    asyncio.run(main())
    assert (len(left), origin.calls, load.stats().coalesced) == (2, 2, 0)
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.close()
    assert crashed.done()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_waits_for_no_load_of_its_parent(cache: Cache) -> None:
    """Symfony #63592, too: who loads may be a thread of the parent, which a forked child does not have."""
    inside, leave = threading.Event(), threading.Event()
    parent = os.getpid()

    @cache.cached("5m")
    def load() -> str:
        if os.getpid() == parent:
            inside.set()
            leave.wait(30)
        return "parent" if os.getpid() == parent else "child"

    thread = threading.Thread(target=load)
    thread.start()
    assert inside.wait(30)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            # Should it wait for ever, it ends all the same.
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(30)
            code = 0 if load() == "child" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    leave.set()
    thread.join(30)
    assert load() == "parent"


# --- statistics, not shapes -------------------------------------------------------------------------------------------


def spread(lives: list[float], shortest: float, longest: float) -> float:
    """How far these are from a uniform distribution: Kolmogorov's and Smirnov's D."""
    count = len(lives)
    shares = [(life - shortest) / (longest - shortest) for life in sorted(lives)]
    return max(max(share - at / count, (at + 1) / count - share) for at, share in enumerate(shares))


PATHS = ("call", "refresh", "behind", "by name", "many", "many by name")


@pytest.mark.parametrize("path", PATHS)
def test_jitter_spreads_what_is_loaded_by_whatever_path(cache: Cache, cache_clock: CacheClock, path: str) -> None:
    """Project samber/hot: with the documented numbers its jitter is always 1, and what is loaded never gets one."""
    # Its tests allow for a hundred thousand times as much, so they pass.
    count = 2_000
    CacheManager({"test": cache}, background=count)  # all are loaded anew at once
    one = cache.cached(1000, key="one:{n}", jitter=0.2, stale_while_revalidate="1h")(by_number)
    many = cache.cached_many(1000, items="ids", key="many:{ids}", jitter=0.2)(by_numbers)
    names = [f"name:{n}" for n in range(count)]

    async def fill() -> list[str]:
        if path == "by name":
            for name in names:
                await cache.get_or_set(name, int, 1000, jitter=0.2)
            return names
        if path == "many by name":
            await cache.get_or_set_many(names, dict.fromkeys, 1000, jitter=0.2)
            return names
        if path == "many":
            await many(list(range(count)))
            return [f"many:{n}" for n in range(count)]
        for n in range(count):
            await one(n)
        if path == "refresh":
            for n in range(count):
                await one.refresh(n)
        if path == "behind":
            cache_clock.advance(1001)
            for n in range(count):
                await one(n)
            await turns(count)
        return [f"one:{n}" for n in range(count)]

    async def main() -> list[float]:
        entries = [await cache.peek(key) for key in await fill()]
        assert all(entry is not None and entry.state == "fresh" for entry in entries)
        return [entry.fresh_until - entry.created for entry in entries]  # type: ignore[union-attr,operator]

    # By chance alone it is larger three times in a million.
    assert spread(asyncio.run(main()), 800, 1000) < 2.6 / count**0.5


async def by_number(n: int) -> int:
    return n


async def by_numbers(ids: Sequence[int]) -> dict[int, int]:
    return {n: n for n in ids}
