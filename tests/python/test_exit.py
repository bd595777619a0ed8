"""The end of a process while daemon threads are inside a cache: it ends as it would without us.

Until Python 3.13 a daemon thread that wants the interpreter back at the end is ended on the spot, by unwinding its
stack; from 3.14 on it hangs. The programs here have one that never leaves Python code below ours: it is caught there.
"""

import subprocess
import sys

import pytest

START = """
import asyncio, os, sys, threading
from samovar import Cache, Memory, cached

inside, others = threading.Event(), threading.Event()

def stay(*args, **kwargs):
    inside.set()
    while True:
        pass

def in_daemon(call, *args):
    threading.Thread(target=call, args=args, daemon=True).start()

def in_loop(main):
    in_daemon(lambda: asyncio.run(main()))

class Stays:
    __hash__ = lambda self: 7
    __eq__ = __deepcopy__ = __del__ = stay

"""

#: Where a daemon thread is when the process ends.
PLACES = {
    "a load": "in_daemon(cached(stay), 1)",
    "a load by keyword": "f = cached(lambda *, n: stay()); in_daemon(lambda: f(n=1))",
    "a load of a method": "class K:\n    m = cached(stay)\nk = K(); in_daemon(lambda: k.m())",
    "a load within a load": "f = cached(stay); g = cached(lambda n: f(n)); in_daemon(g, 1)",
    "a refresh": "f = cached(stay); in_daemon(lambda: f.refresh(1))",
    "a call past the cache": "f = cached(stay); in_daemon(lambda: f.uncached(1))",
    "a disabled cache": "c = Cache(name='c'); f = c.cached(stay); c.disabled().__enter__(); in_daemon(f, 1)",
    "a factory": "c = Cache(name='c'); in_daemon(lambda: c.sync.get_or_set('k', stay))",
    "a key callable": "f = cached(key=lambda n: stay())(lambda n: n); in_daemon(f, 1)",
    "what to forget": "f = cached(key=lambda n: stay())(lambda n: n); in_daemon(f.invalidate, 1)",
    "a predicate": "f = cached(cache_if=stay)(lambda n: n); in_daemon(f, 1)",
    "a ttl callable": "f = cached(ttl=stay)(lambda n: n); in_daemon(f, 1)",
    "a comparison": "f = cached(lambda n: 1); in_daemon(lambda: (f(Stays()), f(Stays())))",
    "a deep copy": "f = cached(copy='deep')(lambda n: Stays()); in_daemon(f, 1)",
    "a weigher": "c = Cache(name='c', memory=Memory(max_bytes=10**6, weigher=stay)); in_daemon(c.sync.set, 'k', 1)",
    "a finalizer": "f = cached(lambda n: Stays()); in_daemon(lambda: (f(1), f.set(1, 1)))",
    "a finalizer of what a set displaces": (
        "c = Cache(name='c', memory=Memory(max_entries=1)).sync\n"
        "in_daemon(lambda: (c.set('k', [Stays()]), c.set('k', 1)))"
    ),
    "a finalizer of an instance's result": (
        "class K:\n    m = cached(copy=False)(lambda self: Stays())\nin_daemon(lambda: K().m())"
    ),
    "a loader that is not async": "c = Cache(name='c')\nasync def main(): await c.get_or_set('k', stay)\nin_loop(main)",
    "a refused key": "c = Cache(name='c').sync; K = type('K', (), {'__repr__': stay}); in_daemon(c.set, K(), 1)",
    "an iterable of keys": "K = type('K', (), {'__iter__': stay}); in_daemon(Cache(name='c').sync.get_many, K())",
    "an exception for an answer": "E = type('E', (Exception,), {'__init__': stay})\n"
    "@cached\nasync def g(): pass\nin_daemon(lambda: g().throw(E))",
    "an async load": "@cached\nasync def f(): stay()\nin_loop(lambda: f())",
    "an async load within itself": (
        "calls = []\n@cached\nasync def f():\n    calls.append(1)\n"
        "    if len(calls) < 2: await f()\n    stay()\nin_loop(lambda: f())"
    ),
    "a load it waits for": (
        "f = cached(stay); in_daemon(f, 1); inside.wait(); c = f.stats\nin_daemon(f, 1)\nwhile not c().coalesced: pass"
    ),
}


def end_of(program: str) -> tuple[int, str, str]:
    source = f"{START}\n{program}\ninside.wait()\n"
    run = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", source], capture_output=True, text=True, check=False, timeout=60
    )
    return run.returncode, run.stdout, run.stderr


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES.keys())
def test_a_process_ends_in_silence_while_a_daemon_thread_is_inside(place: str) -> None:
    assert end_of(place) == (0, "", "")


def test_a_daemon_thread_that_comes_back_from_the_system_at_the_end_disturbs_nobody() -> None:
    program = """
back, wake = os.pipe()

@cached
def load(n):
    inside.set()
    return os.read(back, 1)

class Last:
    def __del__(self, write=os.write, wake=wake):
        write(wake, b"x")

sys.modules["last"] = Last()
for n in range(20):
    in_daemon(load, n)
"""
    assert end_of(program) == (0, "", "")


def test_at_the_end_nobody_waits_for_a_load_that_cannot_end_any_more() -> None:
    program = """
main = threading.get_ident()

@cached
def load(n):
    return "loaded" if threading.get_ident() == main else stay()

class Last:
    def __del__(self, load=load, print=print):
        print(load(1))

sys.modules["last"] = Last()
in_daemon(load, 1)
"""
    assert end_of(program) == (0, "loaded\n", "")
