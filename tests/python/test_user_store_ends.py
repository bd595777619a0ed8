"""The life of a user's store: its thread, its end, and that of the process it is in."""

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from samovar import StoreError, StoreUnavailable, _core
from samovar.testing import DictStore
from user_stores import Open, frame, opening, run, scanned


@pytest.fixture
def open_store() -> Iterator[Open]:
    with opening() as open_one:
        yield open_one


def test_a_closed_store_says_so_has_closed_the_users_and_ends_its_thread() -> None:
    class Hanging(DictStore):
        async def get_many(self, keys: object) -> dict[str, bytes]:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                seen.append("cancelled")
            return {}

        async def close(self) -> None:
            seen.append("closed")

    seen: list[str] = []
    begun = threading.Event()
    core = _core.StoreCore._user(_core._state, Hanging(), timeout=20)

    async def main() -> None:
        call = core.get("k")
        await asyncio.to_thread(begun.wait)
        core.close()
        for later in (call, core.get("k")):
            with pytest.raises(StoreUnavailable, match="closed"):
                await later

    run(main())
    core.close()
    assert core._wait_for_end(10)
    assert seen == ["cancelled", "closed"]


@pytest.mark.parametrize("swap", [True, False])
def test_whatever_is_asked_around_the_close_is_answered(swap: bool) -> None:
    async def main() -> None:
        for _ in range(20):
            core = _core.StoreCore._user(_core._state, DictStore(swap=swap), timeout=20)
            calls = [core.set_many({"k": (frame(n), 60)}) if n % 3 else core.get("k") for n in range(60)]
            await calls[0]
            core.close()
            for end in await asyncio.gather(*calls, core.get("k"), return_exceptions=True):
                assert end is None or isinstance(end, bytes) or "closed" in str(end)
            assert await asyncio.to_thread(core._wait_for_end, 10)

    run(main())


def test_a_store_that_was_never_used_is_closed_too_and_what_that_raises_is_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Failing(DictStore):
        async def close(self) -> None:
            raise OSError("no route")

    core = _core.StoreCore._user(_core._state, Failing(), timeout=1)
    core.close()
    assert core._wait_for_end(10)
    assert "no route" in caplog.text


def test_a_store_that_nobody_refers_to_goes_with_its_thread() -> None:
    for used in (False, True):
        store = DictStore()
        core = _core.StoreCore._user(_core._state, store, timeout=1)
        gone = weakref.ref(store)
        if used:
            core.get_many_sync(["k"])
        # A store that knows who uses it.
        store.core = core  # type: ignore[attr-defined]
        del store, core
        until = time.monotonic() + 10
        while gone() is not None and time.monotonic() < until:
            gc.collect()
            time.sleep(0.001)
        assert gone() is None


def test_scans_that_are_left_in_the_middle_are_forgotten(open_store: Open) -> None:
    core = open_store(DictStore())
    core.set_many_sync({f"{n}": (frame(n), 60) for n in range(1001)})

    async def main() -> None:
        pages = [(await core._page("", None))[1] for _ in range(70)]
        with pytest.raises(StoreError, match="scan anew"):
            await core._page("", pages[0])
        keys, place = await core._page("", pages[-1])
        assert (len(keys), place) == (1, None)

    run(main())


@pytest.mark.slow
def test_a_slow_scan_comes_in_smaller_pages(open_store: Open) -> None:
    class Slow(DictStore):
        async def scan(self, prefix: str) -> AsyncIterator[str]:
            for n in range(20):
                await asyncio.sleep(0.02)
                yield f"{n}"

    core = open_store(Slow(), timeout=0.2)
    assert run(scanned(core, "")) == [f"{n}" for n in range(20)]


START = """
import asyncio, os, sys, threading, time
from samovar import _core
from samovar.testing import DictStore

HEAD = b"\\1\\0\\0\\0" + b"\\xff" * 16

class Hangs(DictStore):
    async def get_many(self, keys):
        if "hang" in keys:
            await asyncio.Event().wait()
        if "block" in keys:
            time.sleep(1000)
        return await super().get_many(keys)

core = _core.StoreCore._user(_core._state, Hangs(), timeout=5)
"""

FORKS = """
def use(name):
    for n in range(20):
        core.set_many_sync({name: (HEAD + b"%d" % n, 60)})
        assert core.get_many_sync([name]) == {name: HEAD + b"%d" % n}

busy = True
def work():
    while busy:
        use("thread")

thread = threading.Thread(target=work)
thread.start()
for _ in range(5):
    child = os.fork()
    if child == 0:
        assert "parent" in core.get_many_sync(["parent"]) or _ == 0
        use("child")
        os._exit(0)
    use("parent")
    assert os.waitpid(child, 0)[1] == 0
busy = False
thread.join()
print("done")
"""

#: How a process may end.
ENDS = {
    "idle": "core.get_many_sync(['k'])",
    "never used": "pass",
    "closed": "core.get_many_sync(['k']); core.close()",
    "in flight": "asyncio.run(main('hang'))",
    "stuck": "asyncio.run(main('block'))",
    "by a thread": "threading.Thread(target=ask_for_ever, daemon=True).start(); core.get_many_sync(['k'])",
    "after a scan": "core.set_many_sync({f'{n}': (HEAD, 60) for n in range(2000)})\nasyncio.run(page())",
}

MAIN = """
async def main(key):
    await core.get("k")
    for _ in range(100):
        core.get(key)
    await asyncio.sleep(0.05)

async def page():
    await core._page("", None)

def ask_for_ever():
    while True:
        core.get_many_sync(["k"])
"""


def end_of(program: str, *given: str) -> tuple[int, str, str]:
    # From 3.12 on Python warns of every fork of a process with threads.
    quiet = "ignore:This process:DeprecationWarning"
    done = subprocess.run(
        [sys.executable, "-P", "-W", quiet, "-c", START + program, *given],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_forked_child_has_a_thread_of_its_own() -> None:
    for _ in range(3):
        assert end_of(FORKS) == (0, "done\n", "")


#: Eight processes, of which each claims and fills the same keys: one has each claim, and its fill alone is written.
PROCESSES = """

sys.path.insert(0, sys.argv[2])
from user_stores import ask, frame, guide_store

core = _core.StoreCore._user(_core._state, guide_store()(sys.argv[1]), timeout=20)
KEYS = [f"{n}" for n in range(40)]
children = {}
for me in range(1, 9):
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:
        won = []
        for key in KEYS:
            claim = ask(core, key, "claim", token=me, life=60.0)
            if claim[0] == "claimed":
                filled = ask(core, key, "fill", token=claim[1], frame=frame(me), keep=60.0)
                won += [key] if filled[0] == "written" else []
        os.write(writes, " ".join(won).encode())
        os._exit(0)
    os.close(writes)
    children[child] = reads
won = []
for child, reads in children.items():
    assert os.waitpid(child, 0)[1] == 0
    won += os.read(reads, 9999).decode().split()
assert sorted(won) == sorted(KEYS), sorted(won)
print("done")
"""


@pytest.mark.slow
def test_processes_that_share_a_store_with_swap_write_each_key_once(tmp_path: Path) -> None:
    assert end_of(PROCESSES, str(tmp_path / "entries"), str(Path(__file__).parent)) == (0, "done\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
def test_a_process_ends_in_silence_whatever_its_store_does(end: str) -> None:
    for _ in range(2):
        began = time.monotonic()
        assert end_of(f"{MAIN}\n{end}\nprint('done')") == (0, "done\n", "")
        assert time.monotonic() - began < 30
