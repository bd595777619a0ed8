"""The budget for what runs behind: how many loads nobody waits for run at once, who goes without, and who waits."""

import asyncio
import os
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import samovar
from origin import Origin, Table, turns
from samovar import Cache, CacheManager, ConfigError, _core
from samovar.testing import CacheClock

STALE: dict[str, Any] = {"ttl": "1m", "stale_while_revalidate": "1h"}


class Busy:
    """An origin that knows how many of its loads run at once, and holds them while its gate is closed."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.calls: Counter[Any] = Counter()
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def load(self, key: Any) -> int:
        self.calls[key] += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
        finally:
            self.running -= 1
        if self.error is not None:
            raise self.error
        return self.calls[key]


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def with_background(background: int, *caches: Cache) -> CacheManager:
    return CacheManager({str(number): cache for number, cache in enumerate(caches)}, background=background)


def taken(cache: Cache) -> int:
    return _core._budget_of(cache).taken


async def stale(clock: CacheClock, load: Callable[[int], Awaitable[int]], count: int) -> None:
    """Values that are to be loaded anew."""
    await asyncio.gather(*(load(key) for key in range(count)))
    clock.advance("2m")


# --- refreshes --------------------------------------------------------------------------------------------------------


def test_of_many_stale_keys_as_many_are_loaded_at_once_as_there_is_room_and_in_the_end_all(
    cache: Cache, cache_clock: CacheClock
) -> None:
    with_background(4, cache)

    async def main() -> None:
        origin, keys = Busy(), range(200)
        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, len(keys))
        origin.most = 0
        origin.gate.clear()
        assert [await load(key) for key in keys] == [1] * 200
        await turns()
        assert (origin.running, taken(cache), load.stats().refreshes) == (4, 4, 4)
        assert load.explain(199).would == "answer, and refresh behind when there is room"
        # Whoever comes a moment later starts nothing, and a second later neither while those run.
        cache_clock.advance(1)
        assert [await load(key) for key in keys] == [1] * 200
        await turns()
        assert origin.running == 4
        origin.gate.set()
        await turns()
        assert load.explain(199).would == "answer, and refresh behind"
        for _ in range(49):
            cache_clock.advance(1)
            assert [await load(key) for key in keys].count(1) > 0
            await turns()
        assert ([await load(key) for key in keys], set(origin.calls.values())) == ([2] * 200, {2})
        assert (origin.most, taken(cache)) == (4, 0)
        assert load.stats().misses == 200

    run(main)


def test_caches_of_a_manager_share_one_budget_and_others_have_theirs(cache: Cache, cache_clock: CacheClock) -> None:
    other, apart = Cache(name="other"), Cache(name="apart")
    with_background(3, cache, other)

    async def main() -> None:
        origin, far = Busy(), Busy()
        loads = [one.cached(**STALE)(origin.load) for one in (cache, other)]
        away = apart.cached(**STALE)(far.load)
        for load in (*loads, away):
            await stale(cache_clock, load, 5)
        origin.gate.clear()
        far.gate.clear()
        for load in (*loads, away):
            for key in range(5):
                await load(key)
        await turns()
        assert (origin.running, far.running) == (3, 5)
        origin.gate.set()
        far.gate.set()
        await turns()

    run(main)


def test_a_dead_value_is_loaded_by_its_caller_whatever_runs_behind(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(1, cache)

    async def main() -> None:
        origin = Busy()
        load = cache.cached("1m", stale_while_revalidate="1m")(origin.load)
        await load(0)
        await load(1)
        cache_clock.advance("90s")
        origin.gate.clear()
        await load(0)
        await turns()
        cache_clock.advance("1m")
        waiting = [asyncio.ensure_future(load(key)) for key in (1, 2)]
        await turns()
        assert (origin.running, taken(cache)) == (3, 1)
        origin.gate.set()
        assert await asyncio.gather(*waiting) == [2, 1]

    run(main)


def test_early_refreshes_need_room_too(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(2, cache)

    async def main() -> None:
        origin = Busy()
        load = cache.cached("1m", early=50.0)(origin.load)
        origin.gate.clear()
        loading = asyncio.gather(*(load(key) for key in range(300)))
        await turns()
        cache_clock.advance(1)
        origin.gate.set()
        await loading
        origin.gate.clear()
        cache_clock.advance(55)
        assert [await load(key) for key in range(300)] == [1] * 300
        await turns()
        assert (origin.running, load.stats().refreshes) == (2, 2)
        origin.gate.set()
        await turns()

    run(main)


def test_ids_that_are_loaded_in_one_call_need_room_for_one(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(2, cache)
    table, most = Table(), 0

    @cache.cached_many(items="ids", **STALE)
    async def load(ids: Sequence[int]) -> dict[int, Any]:
        nonlocal most
        most = max(most, taken(cache))
        return await table.load(ids)

    async def main() -> None:
        await load(range(50))
        cache_clock.advance("2m")
        table.gate = asyncio.Event()
        assert set(await load(range(50))) == set(range(50))
        await turns()
        assert ([len(call) for call in table.calls], taken(cache), most) == ([50, 50], 1, 1)
        table.gate.set()
        await turns()
        assert taken(cache) == 0
        # Nobody waits for them and the cache is closed: that room comes back as well.
        cache_clock.advance("2m")
        table.gate.clear()
        await load(range(50))
        await turns()
        assert taken(cache) == 1
        await cache.close()
        assert (taken(cache), table.cancelled) == (0, 1)

    run(main)


# --- how room comes back ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fails", "cancelled", "invalidated", "cleared", "closed", "closed blocking"])
def test_room_comes_back_however_a_load_ends(cache: Cache, cache_clock: CacheClock, how: str) -> None:
    with_background(4, cache)

    async def main() -> None:
        origin = Busy()
        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, 4)
        origin.gate.clear()
        for key in range(4):
            await load(key)
        await turns()
        assert taken(cache) == 4
        if how == "fails":
            origin.error = OSError("down")
            origin.gate.set()
        elif how == "cancelled":
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
        elif how == "invalidated":
            for key in range(4):
                await load.invalidate(key)
            origin.gate.set()
        elif how == "cleared":
            await cache.clear()
            origin.gate.set()
        elif how == "closed":
            await cache.close()
        elif how == "closed blocking":
            cache.sync.close()
        await turns()
        assert taken(cache) == 0

    run(main)


def test_a_loop_that_ends_with_refreshes_running_gives_their_room_back(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(4, cache)
    calls = 0

    @cache.cached(**STALE)
    async def load(key: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 4:
            await asyncio.Event().wait()
        return calls

    async def main() -> None:
        await stale(cache_clock, load, 4)
        for key in range(4):
            await load(key)
        await turns()
        assert taken(cache) == 4

    run(main)
    assert (taken(cache), calls) == (0, 8)


@pytest.mark.parametrize("closed", [True, False], ids=["closed", "standing still"])
def test_room_held_by_a_loop_that_never_comes_back_is_had_elsewhere(
    cache: Cache, cache_clock: CacheClock, closed: bool
) -> None:
    with_background(4, cache)
    gone, origin = asyncio.new_event_loop(), Busy()
    load = cache.cached(**STALE)(origin.load)

    async def begin() -> None:
        await stale(cache_clock, load, 8)
        origin.gate.clear()
        for key in range(4):
            await load(key)
        await turns()

    gone.run_until_complete(begin())
    left = asyncio.all_tasks(gone)
    assert (len(left), taken(cache)) == (4, 4)
    if closed:
        for task in left:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        gone.close()

    async def main() -> None:
        origin.gate = asyncio.Event()
        for key in range(4, 8):
            assert await load(key) == 1
        await turns()
        assert (origin.running, taken(cache)) == (8, 4)
        origin.gate.set()
        await turns()
        assert (origin.running, taken(cache)) == (4, 0)
        if closed:
            # They are superseded by whoever meets their keys.
            cache_clock.advance(1)
            for key in range(4):
                await load(key)
            await turns()
            assert cache._inspect()["tasks"] == 0

    before = origin.gate
    run(main)
    if not closed:
        before.set()
        gone.run_until_complete(asyncio.gather(*left))
        gone.run_until_complete(turns())
        gone.close()
    left.clear()
    assert taken(cache) == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_has_all_the_room(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(4, cache)

    async def main() -> None:
        origin = Busy()
        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, 4)
        origin.gate.clear()
        for key in range(4):
            await load(key)
        await turns()
        assert taken(cache) == 4
        assert (in_a_child(cache), taken(cache)) == (4, 4)
        origin.gate.set()
        await turns()

    run(main)


def in_a_child(cache: Cache) -> int:
    """The room a forked child has, and ten for each that is taken there."""
    child = os.fork()
    if child == 0:
        os._exit(10 * taken(cache) + _core._budget_of(cache).rooms)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


# --- work that can wait -----------------------------------------------------------------------------------------------


def test_warming_goes_on_beside_refreshes_and_leaves_them_room(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(8, cache)

    async def main() -> None:
        origin, warmed = Busy(), Busy()
        load, other = cache.cached(**STALE)(origin.load), cache.cached("1h")(warmed.load)
        await stale(cache_clock, load, 20)
        warmed.gate.clear()
        jobs = [other.warm(range(50)), other.warm(range(50, 100))]
        await turns()
        # One job has eight at a time, and both have three quarters of the room.
        assert (warmed.running, taken(cache)) == (6, 6)
        origin.gate.clear()
        for key in range(20):
            assert await load(key) == 1
        await turns()
        assert (origin.running, warmed.running, taken(cache)) == (2, 6, 8)
        warmed.gate.set()
        origin.most = 0
        for job in jobs:
            await job
            assert (job.success, job.loaded) == (True, 50)
        assert (warmed.most, sum(warmed.calls.values()), origin.running) == (6, 100, 2)
        origin.gate.set()
        await turns()
        assert taken(cache) == 0

    run(main)


def test_warming_that_finds_no_room_waits_for_it_in_the_order_of_asking(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(1, cache)

    async def main() -> None:
        origin, order = Busy(), list[int]()

        @cache.cached("1h")
        async def note(key: int) -> int:
            order.append(key)
            await turns(3)
            return key

        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, 1)
        origin.gate.clear()
        await load(0)
        await turns()
        first, gone, last = note.warm([1, 2]), note.warm([3]), note.warm([4])
        await turns(50)
        assert (order, first.queued, last.queued) == ([], 2, 1)
        gone.cancel()
        origin.gate.set()
        await asyncio.gather(as_awaited(first), as_awaited(last))
        assert (order, gone.queued) == ([1, 2, 4], 1)
        assert taken(cache) == 0

    run(main)


async def as_awaited(job: Any) -> None:
    await job


def test_warming_from_within_a_load_needs_no_room_beside_its_own(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(1, cache)
    warmed = Origin()
    other = cache.cached("1h")(warmed.load)

    @cache.cached(**STALE)
    async def load() -> int:
        await other.warm([warmed.calls])
        return warmed.calls

    async def main() -> None:
        assert await load() == 1
        cache_clock.advance("2m")
        assert await load() == 1
        await turns(100)
        assert (await load(), taken(cache)) == (2, 0)

    run(main)


def test_the_refresher_waits_for_room_and_says_so(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(2, cache)
    origin, busy = Origin(), Busy()
    hot, load = cache.cached("1m")(origin.load), cache.cached(**STALE)(busy.load)

    async def main() -> None:
        await stale(cache_clock, load, 2)
        busy.gate.clear()
        for key in range(2):
            await load(key)
        async with cache.refresher() as refresher:
            for wait in (0, 50, 2):
                cache_clock.advance(wait)
                await hot()
            await turns()
            assert (origin.calls, refresher.stats().put_off, refresher.stats().refreshed) == (1, 1, 0)
            cache_clock.advance(0.1)
            await turns()
            assert (origin.calls, refresher.stats().put_off) == (1, 1)
            busy.gate.set()
            await turns()
            cache_clock.advance(0.1)
            await turns()
            assert (origin.calls, refresher.stats().refreshed) == (2, 1)
        assert taken(cache) == 0

    run(main)


def test_warming_on_another_thread_goes_on_when_room_comes_back_here(cache: Cache, cache_clock: CacheClock) -> None:
    with_background(1, cache)
    warmed, began = Origin(), threading.Event()
    other = cache.cached("1h")(warmed.load)

    async def elsewhere() -> None:
        job = other.warm([1, 2, 3])
        await turns()
        began.set()
        await job
        assert job.success

    thread = threading.Thread(target=lambda: run(elsewhere))

    async def main() -> None:
        origin = Busy()
        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, 1)
        origin.gate.clear()
        await load(0)
        await turns()
        thread.start()
        assert await asyncio.to_thread(began.wait, 30)
        assert warmed.calls == 0
        origin.gate.set()
        await turns()
        await asyncio.to_thread(thread.join, 30)
        assert (warmed.calls, taken(cache)) == (3, 0)

    run(main)


# --- settings ---------------------------------------------------------------------------------------------------------


@contextmanager
def fresh_default(monkeypatch: pytest.MonkeyPatch) -> Iterator[CacheManager]:
    monkeypatch.setattr(samovar._manager, "_default", CacheManager())
    yield samovar.default_manager()


def test_the_number_changes_while_loads_run(cache: Cache, cache_clock: CacheClock) -> None:
    manager = with_background(2, cache)

    async def main() -> None:
        origin = Busy()
        load = cache.cached(**STALE)(origin.load)
        await stale(cache_clock, load, 10)
        origin.gate.clear()

        async def hits() -> int:
            cache_clock.advance(1)
            for key in range(10):
                await load(key)
            await turns()
            return origin.running

        assert await hits() == 2
        manager.configure(background=5)
        assert (manager.background, await hits()) == (5, 5)
        manager.configure(background=1)
        assert (await hits(), taken(cache)) == (5, 5)
        origin.gate.set()
        await turns()
        origin.gate.clear()
        assert await hits() == 1
        origin.gate.set()
        await turns()

    run(main)


def test_the_number_stands_in_settings_of_every_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "samovar.toml"
    file.write_text("background = 12\n[caches.a]\n")
    manager = CacheManager.from_toml(file)
    assert (manager.background, _core._budget_of(manager["a"]).rooms) == (12, 12)
    assert _core._budget_of(manager.cache("made later")).rooms == 12
    manager = CacheManager.from_env({"SAMOVAR_BACKGROUND": "7", "SAMOVAR_TOML": str(file)})
    assert manager.background == 7
    file.write_text("background = 3")
    manager.configure(toml=file)
    assert (manager.background, _core._budget_of(manager["a"]).rooms) == (3, 3)
    with fresh_default(monkeypatch):
        assert samovar.configure(background=9).background == 9
        assert _core._budget_of(samovar.default_cache()).rooms == 9


def test_who_says_nothing_has_the_budget_of_the_process() -> None:
    assert CacheManager().background == 64
    assert _core._budget_of(Cache(name="alone")).rooms == 64
    manager = CacheManager({"own": Cache(name="own")})
    manager.configure(background=5)
    assert (manager.background, CacheManager().background) == (5, 64)


@pytest.mark.parametrize("wrong", [0, -1, "64", 1.5, True])
def test_a_wrong_number_is_refused_with_value_and_cure(wrong: Any, tmp_path: Path) -> None:
    message = f"invalid background: {wrong!r}; give how many loads may run behind at once, 1 or more, or leave it out"
    manager = CacheManager(background=3)
    for refused in (
        lambda: CacheManager(background=wrong),
        lambda: samovar.configure(background=wrong),
        lambda: manager.configure(background=wrong),
    ):
        with pytest.raises(ConfigError) as caught:
            refused()
        assert str(caught.value).endswith(message)
    assert manager.background == 3
    with pytest.raises(ConfigError, match="SAMOVAR_BACKGROUND: invalid background: 'many'"):
        CacheManager.from_env({"SAMOVAR_BACKGROUND": "many"})
    with pytest.raises(ConfigError, match="did you mean background="):
        CacheManager(backgrund=3)
