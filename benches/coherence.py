"""How long does it take until what one process invalidates is gone from the memory of another? Beside bare pub/sub.

Ours: from the call of `invalidate` to when a process that had the entry in memory finds it gone. The floor: from the
call of redis-py's `publish` to when another process has the message. One server, one process that says and one that
hears; the contenders take turns, some hundred events each, in several rounds of one run.

    python -P benches/coherence.py [--events 500] [--rounds 5] [--json]
"""

from __future__ import annotations

import argparse
import ctypes
import json
import pathlib
import statistics
import sys
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import Any

# Where the tests start theirs.
sys.path.append(str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "python"))

from servers import RedisServer

#: Between two events, so that each finds everybody at rest.
PAUSE = 0.003
#: Between two looks of who waits for an entry to be gone.
LOOK = 0.00002
#: Of prctl(2).
PR_SET_TIMERSLACK = 29
#: At most this share of the floor's 99th percentile is promised.
PROMISED = 1.5


def names(count: int) -> list[str]:
    return [f"k{number}" for number in range(count)]


def sleep_precisely() -> None:
    """Else Linux rounds each sleep of this thread up by 50 µs, which would be counted as ours."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_TIMERSLACK, ctypes.c_ulong(1))


def hear_samovar(port: int, count: int, pipe: Connection) -> None:
    """Has the entries in memory, and notes when each is gone."""
    from samovar import Cache

    sleep_precisely()
    cache = Cache(f"redis://127.0.0.1:{port}/0", name="bench").sync
    while pipe.recv() == "begin":
        # Twice: what is found before it is heard what others do is looked at again.
        for _ in range(2):
            assert len(cache.get_many(names(count))) == count
            time.sleep(1.1)
        pipe.send("ready")
        gone = []
        for key in names(count):
            while cache.peek(key) is not None:
                time.sleep(LOOK)
            gone.append(time.monotonic())
        pipe.send(gone)


def say_samovar(port: int, count: int) -> Any:
    """Stores the entries, then gives what invalidates one."""
    from samovar import Cache

    cache = Cache(f"redis://127.0.0.1:{port}/0", name="bench").sync

    def prepare() -> None:
        cache.set_many(dict.fromkeys(names(count), 1), ttl=600)

    return prepare, lambda number: cache.invalidate(f"k{number}")


def hear_redis(port: int, count: int, pipe: Connection) -> None:
    """Notes when each message is there."""
    from redis import Redis

    heard = Redis(port=port).pubsub()
    heard.subscribe("bench")
    messages = heard.listen()
    assert next(messages)["type"] == "subscribe"
    while pipe.recv() == "begin":
        pipe.send("ready")
        pipe.send([(next(messages), time.monotonic())[1] for _ in range(count)])


def say_redis(port: int, count: int) -> Any:
    """What publishes a number."""
    from redis import Redis

    client = Redis(port=port)
    return lambda: None, lambda number: client.publish("bench", number)


CONTENDERS = {"redis-py, publish": (say_redis, hear_redis), "samovar, invalidate": (say_samovar, hear_samovar)}


def percentile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))]


def measured(events: int, rounds: int) -> dict[str, list[list[float]]]:
    """By contender and round: how long each event took, in seconds."""
    server, spawn = RedisServer(), get_context("spawn")
    found: dict[str, list[list[float]]] = {name: [] for name in CONTENDERS}
    processes, turns = [], []
    try:
        for name, (say, hear) in CONTENDERS.items():
            pipe, theirs = spawn.Pipe()
            processes.append(spawn.Process(target=hear, args=(server.port, events, theirs)))
            processes[-1].start()
            turns.append((name, pipe, *say(server.port, events)))
        for _ in range(rounds):
            for name, pipe, prepare, say_one in turns:
                prepare()
                pipe.send("begin")
                assert pipe.recv() == "ready"
                said = []
                for number in range(events):
                    time.sleep(PAUSE)
                    said.append(time.monotonic())
                    say_one(number)
                heard = pipe.recv()
                found[name].append([there - here for here, there in zip(said, heard, strict=True)])
        for _, pipe, *_ in turns:
            pipe.send("enough")
        return found
    finally:
        for process in processes:
            process.join(5)
            process.kill()
        server.stop()


def shown(found: dict[str, list[list[float]]]) -> str:
    """The table, and what was promised."""
    lines = ["| | p50 | p99 | p99 ÷ that of the floor, by round |", "|---|--:|--:|---|"]
    floor = next(iter(found.values()))
    for name, turns in found.items():
        every = [one for turn in turns for one in turn]
        ratios = [percentile(ours, 0.99) / percentile(theirs, 0.99) for ours, theirs in zip(turns, floor, strict=True)]
        spread = f"**{statistics.median(ratios):.2f}** ({min(ratios):.2f}-{max(ratios):.2f})"
        p50, p99 = (f"{percentile(every, share) * 1e6:.0f} µs" for share in (0.5, 0.99))
        lines.append(f"| {name} | {p50} | {p99} | {spread} |")
    return "\n".join([*lines, "", f"promised: at most {PROMISED:g}, median of the rounds"])


def main() -> None:
    """Both, in turns."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = measured(options.events, options.rounds)
    print(json.dumps(found) if options.json else shown(found))


if __name__ == "__main__":
    main()
