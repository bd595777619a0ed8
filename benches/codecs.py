"""What does it cost to write a value and read it again? `make bench-codecs`: codecs x payloads, size and time.

Every contender has a copy of the values of its own, and turns with the others; a figure is the median of 5 such
rounds of thread CPU time, with the lowest and the highest. `python benches/codecs.py --docs` writes the tables into
docs/codecs.md.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import pathlib
import pickle
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import msgpack
import msgspec
import orjson
from samovar.codecs import Json, MsgPack

ROUNDS = 5
#: Thread CPU per contender and round.
SLICE_NS = 120_000_000
DOCS = pathlib.Path(__file__).resolve().parent.parent / "docs" / "codecs.md"
MARK = "<!-- benches/codecs.py -->"

WORDS = [
    "tea",
    "kettle",
    "samovar",
    "charcoal",
    "steam",
    "silver",
    "brass",
    "tula",
    "evening",
    "cup",
    "saucer",
    "lemon",
]


def user(n: int, dice: random.Random) -> dict[str, Any]:
    """A record as an application has many of."""
    return {
        "id": 10_000 + n,
        "name": f"{dice.choice(WORDS)} {dice.choice(WORDS)} {n}",
        "email": f"{dice.choice(WORDS)}{n}@example.org",
        "active": n % 3 > 0,
        "score": dice.random() * 100,
        "balance": round(dice.random() * 10_000, 2),
        "tags": [dice.choice(WORDS) for _ in range(4)],
        "address": {"street": f"{dice.choice(WORDS)} street {n}", "city": dice.choice(WORDS), "zip": str(10_000 + n)},
        "manager": None,
        "logins": [dice.randrange(1 << 31) for _ in range(5)],
    }


def payloads() -> dict[str, Any]:
    """The five values, alike in every run."""
    dice = random.Random(7)
    # As records come from somewhere: keys are shared, and no two values are one object.
    records = json.loads(json.dumps([user(n, dice) for n in range(101)]))
    alphabets = ["абвгдежзийклмнопрстуфхцчшщъыьэюя", "àéîõüçñßøå", "日本語東京茶湯瓶銀炭煙杯糖", "😀🫖🍵🍋🥄"]
    return {
        "small dict": records[0],
        "100 dicts": records[1:],
        "long text": [" ".join(dice.choice(WORDS) for _ in range(400)) for _ in range(20)],
        "unicode strings": ["".join(dice.choice(alphabets[n % 4]) for _ in range(30)) for n in range(50)],
        "ints": [dice.randrange(1 << 40) for _ in range(1000)],
    }


@dataclasses.dataclass(frozen=True)
class Contender:
    """One codec."""

    name: str
    encode: Callable[[Any], bytes]
    decode: Callable[[bytes], Any]


def contenders() -> list[Contender]:
    """Ours, and those that it is measured against."""
    own, own_json, own_alone = MsgPack(), Json(), Json(orjson=False)
    return [
        Contender("msgpack, own", own.encode, own.decode),
        Contender("msgspec.msgpack", msgspec.msgpack.Encoder().encode, msgspec.msgpack.Decoder().decode),
        Contender("msgpack (PyPI)", msgpack.packb, msgpack.unpackb),
        Contender("pickle 5", lambda value: pickle.dumps(value, 5), pickle.loads),
        Contender("json, own by orjson", own_json.encode, own_json.decode),
        Contender("orjson", orjson.dumps, orjson.loads),
        Contender("json, own alone", own_alone.encode, own_alone.decode),
        Contender("json (library)", lambda value: json.dumps(value).encode(), json.loads),
    ]


def nanoseconds(call: Callable[[Any], Any], argument: Any) -> float:
    """Thread CPU of one call."""
    calls = 1
    while True:
        start = time.thread_time_ns()
        for _ in range(calls):
            call(argument)
        spent = time.thread_time_ns() - start
        if spent > SLICE_NS // 2:
            return spent / calls
        calls = max(calls * 2, int(calls * SLICE_NS / max(spent, 1)))


def measured(values: dict[str, Any]) -> dict[str, dict[str, list[tuple[float, float]]]]:
    """Nanoseconds to write and to read, per contender, payload and round."""
    copies = {one.name: payloads() for one in contenders()}
    found: dict[str, dict[str, list[tuple[float, float]]]] = {
        one.name: {name: [] for name in values} for one in contenders()
    }
    gc.collect()
    for _ in range(ROUNDS):
        for name in values:
            for one in contenders():
                value = copies[one.name][name]
                data = one.encode(value)
                assert one.decode(data) == value
                found[one.name][name].append((nanoseconds(one.encode, value), nanoseconds(one.decode, data)))
    return found


Found = dict[str, dict[str, list[tuple[float, float]]]]


def ratios(found: Found, one: str, other: str, names: list[str]) -> list[tuple[float, float, float]]:
    """Median, lowest and highest ratio of writing and reading together, per payload."""
    made = []
    for name in names:
        rounds = [sum(a) / sum(b) for a, b in zip(found[one][name], found[other][name], strict=True)]
        made.append((statistics.median(rounds), min(rounds), max(rounds)))
    return made


def report() -> str:
    """The tables."""
    values = payloads()
    found = measured(values)
    lines = [f"CPython {platform.python_version()}, {platform.machine()}; µs to write + to read, and bytes.", ""]
    lines += ["| codec | " + " | ".join(values) + " |", "|---" * (len(values) + 1) + "|"]
    for one in contenders():
        cells = []
        for name, value in values.items():
            write, read = (statistics.median(times) / 1000 for times in zip(*found[one.name][name], strict=True))
            cells.append(f"{write:.3g} + {read:.3g}, {len(one.encode(value))}")
        lines.append(f"| {one.name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| write + read | against | " + " | ".join(values) + " | geometric mean |",
        "|---" * (len(values) + 3) + "|",
    ]
    for one, other in (
        ("msgpack, own", "msgspec.msgpack"),
        ("msgpack, own", "pickle 5"),
        ("json, own by orjson", "orjson"),
        ("json, own alone", "orjson"),
    ):
        row = ratios(found, one, other, list(values))
        mean = statistics.geometric_mean(middle for middle, _, _ in row)
        cells = [f"**{middle:.2f}** ({low:.2f}-{high:.2f})" for middle, low, high in row]
        lines.append(f"| {one} | {other} | " + " | ".join(cells) + f" | **{mean:.2f}** |")
    return "\n".join(lines)


def main() -> None:
    """Print the tables, or write them where the docs have them."""
    tables = report()
    print(tables)
    if "--docs" in sys.argv[1:]:
        before, _, rest = DOCS.read_text().partition(MARK)
        _, _, after = rest.partition(MARK)
        DOCS.write_text(f"{before}{MARK}\n{tables}\n{MARK}{after}")


if __name__ == "__main__":
    main()
