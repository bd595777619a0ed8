"""The default weigher: what builtin trees weigh, what it does about other objects, and that it calls nobody.

The reference is `sys.getsizeof`, rounded as the allocator rounds, over all objects reached, each once. It is itself
held against the memory of a process. `tracemalloc` would not do: it counts what was asked for, and of a float that is
24 bytes where 32 are gone.
"""

import collections
import dataclasses
import json
import random
import string
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from samovar._core import _weigh, _weigh_visits

# References of objects that are never freed, as `samovar._core` tells them.
IMMORTAL = 500_000_000
# Types with a second block of memory, and the size of the first.
OUT_OF_LINE: dict[type, int] = {list: 56, dict: 64, set: 216, frozenset: 216, bytearray: 56}


def rounded(size: int) -> int:
    return (size + 15) // 16 * 16 if size <= 512 else (size + 23) // 16 * 16


def own(value: object) -> int:
    if value is None or isinstance(value, bool) or (sys.getrefcount(value) & 0xFFFFFFFF) >= IMMORTAL:
        return 0
    size = sys.getsizeof(value)
    head = OUT_OF_LINE.get(type(value))
    return rounded(size) if head is None else rounded(head) + rounded(size - head)


def reference(root: object) -> int:
    """The weight of a tree of builtins, none of whose strings are interned."""
    seen: set[int] = set()
    stack, total = [root], 0
    while stack:
        value = stack.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        total += own(value)
        if isinstance(value, dict):
            stack += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set | frozenset):
            stack += value
    return max(total, 16)


class Maker:
    """Seeded values, of strings that are new and not interned."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def text(self, low: int, high: int) -> str:
        return "".join(self.random.choices(string.ascii_letters + " ", k=self.random.randint(low, high)))

    def leaf(self) -> Any:
        r = self.random
        kinds: list[Callable[[], Any]] = [
            lambda: self.text(2, 120),
            lambda: r.randrange(10**9),
            lambda: r.getrandbits(200),
            lambda: r.random(),
            lambda: r.randbytes(r.randrange(1, 300)),
            lambda: complex(r.random(), 1),
            lambda: r.choice((None, True, 7)),
            lambda: "\u00e9" * r.randrange(2, 40),
            lambda: "\u65e5" * r.randrange(2, 40),
            lambda: "\U0001f600" * r.randrange(2, 40),
        ]
        return r.choice(kinds)()

    def tree(self, depth: int) -> Any:
        r = self.random
        if depth == 0 or r.random() < 0.25:
            return self.leaf()
        size = int(r.expovariate(1 / r.choice((3, 6, 12))))
        kind = r.randrange(5)
        if kind == 0:
            return {self.leaf() if r.random() < 0.1 else self.text(3, 12): self.tree(depth - 1) for _ in range(size)}
        if kind == 1:
            return [self.tree(depth - 1) for _ in range(size)]
        if kind == 2:
            return tuple(self.tree(depth - 1) for _ in range(size))
        if kind == 3:
            return {self.leaf() for _ in range(size)}
        return {self.text(3, 12): self.tree(depth - 1) for _ in range(size)}

    def flat(self, keys: int) -> dict[str, Any]:
        return {self.text(5, 9): self.leaf() for _ in range(keys)}

    def record(self) -> dict[str, Any]:
        r = self.random
        return {
            "id": r.randrange(10**7),
            "name": self.text(5, 30),
            "biography": self.text(20, 400),
            "tags": [self.text(6, 6) for _ in range(r.randrange(4))],
            "address": {"street": self.text(10, 30), "zip": r.randrange(99999), "at": [r.random(), r.random()]},
            "active": r.random() < 0.5,
            "score": r.random() * 100,
        }

    def records(self, count: int) -> Any:
        return json.loads(json.dumps([self.record() for _ in range(count)]))

    def floats(self) -> list[float]:
        values = []
        for _ in range(self.random.randrange(5000)):
            values.append(self.random.random())  # noqa: PERF401  an appended list has room to grow
        return values


SHAPES: dict[str, Callable[[Maker], Any]] = {
    "flat dict": lambda m: m.flat(10),
    "list of dicts": lambda m: [m.flat(10) for _ in range(100)],
    "records": lambda m: m.records(m.random.choice((1, 2, 5, 10, 40, 300))),
    "page of records": lambda m: {"rows": m.records(100), "next": m.text(30, 30), "count": 100},
    "trees of two levels": lambda m: m.tree(2),
    "trees of three levels": lambda m: [m.tree(2) for _ in range(3)],
    "floats": lambda m: m.floats(),
    "sets of texts": lambda m: {m.text(3, 50) for _ in range(m.random.randrange(2000))},
    "dicts of bytes": lambda m: {m.text(8, 8): m.random.randbytes(m.random.randrange(2000)) for _ in range(200)},
    "dict of lists": lambda m: {
        m.text(8, 8): [m.text(3, 60) for _ in range(m.random.randrange(200))] for _ in range(20)
    },
    "tuples": lambda m: [(m.random.randrange(10**6), m.text(12, 12), m.random.random()) for _ in range(500)],
    "mixed list": lambda m: [m.random.choice((1, 2.5, m.text(99, 99), {m.text(9, 9): 1.5})) for _ in range(400)],
    "ids beside long texts": lambda m: {
        "ids": [*range(20_000)],
        m.text(5, 5): [m.text(900, 900) for _ in range(60)],
    },
    "matrix": lambda m: [[m.random.random() for _ in range(60)] for _ in range(60)],
}


def corpus(megabytes: int) -> list[Any]:
    """Values of all shapes, an equal share of memory each."""
    maker, values = Maker(1), []
    for make in SHAPES.values():
        left = megabytes * 1_000_000 // len(SHAPES)
        while left > 0:
            values.append(make(maker))
            left -= reference(values[-1])
    return values


@pytest.mark.parametrize("shape", SHAPES)
def test_values_of_one_shape_weigh_what_they_take(shape: str) -> None:
    maker, weight, real = Maker(2), 0, 0
    errors: list[float] = []
    # Where sampling begins depends on addresses: enough values that a tenth is five standard errors of the sum or more.
    while real < 8_000_000 or (len(errors) < 100 and real < 12_000_000):
        value = SHAPES[shape](maker)
        weighed, whole = _weigh(value), reference(value)
        errors.append(weighed / whole - 1)
        weight, real = weight + weighed, real + whole
    errors.sort()
    error = weight / real - 1
    assert abs(error) < 0.10, f"{shape}: {error:+.1%} in all, single {errors[0]:+.1%} to {errors[-1]:+.1%}"


def test_a_list_of_a_thousand_records_is_within_a_tenth() -> None:
    maker = Maker(10)
    names = [maker.text(8, 8) for _ in range(10)]
    kinds: list[Callable[[], Any]] = [
        lambda: maker.text(20, 40),
        maker.random.random,
        lambda: maker.random.randrange(10**6),
    ]
    for _ in range(20):
        rows = [{name: kinds[n % 3]() for n, name in enumerate(names)} for _ in range(1000)]
        assert abs(_weigh(rows) / reference(rows) - 1) < 0.10


IN_A_PROCESS = """
import gc, os
from test_weigh import _weigh, corpus, reference

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

corpus(1)
gc.collect()
before = resident()
values = corpus(100)
gc.collect()
real = resident() - before
print(real, sum(map(_weigh, values)), sum(map(reference, values)))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_hundred_megabytes_weigh_what_the_process_grows_by() -> None:
    here = str(Path(__file__).parent)
    script = f"import sys; sys.path.append({here!r})\n{IN_A_PROCESS}"
    out = subprocess.run([sys.executable, "-P", "-c", script], check=True, capture_output=True, text=True)
    real, weight, counted = map(int, out.stdout.split())
    assert real > 90_000_000
    assert abs(weight / real - 1) < 0.10, f"{weight / real - 1:+.1%}; the reference itself {counted / real - 1:+.1%}"


@pytest.mark.parametrize("keys", [0, 1, 5, 6, 10, 11, 21, 22])
def test_a_small_dict_is_exact(keys: int) -> None:
    value = Maker(3).flat(keys)
    assert _weigh(value) == reference(value)
    for key in list(value)[::2]:
        del value[key]
    assert _weigh(value) == reference(value)


def test_single_values_are_exact() -> None:
    maker = Maker(4)
    values: list[Any] = [maker.leaf() for _ in range(500)]
    values += [
        maker.text(600, 600),
        b"y" * 600,
        10**400,
        bytearray(700),
        2**30,
        -(2**60),
        2**30 - 1,
        -1000,
        257,
        [],
        (),
        {},
        set(),
    ]
    values += [
        set(range(300, 350)),
        frozenset(range(300, 304)),
        {1: 2.5, maker.text(40, 40): 1},
        [[], [[]]],
        (1.5, (2.5,)),
    ]
    for value in values:
        if isinstance(value, str) and len(value) < 2:
            continue
        assert _weigh(value) == reference(value), value


@pytest.mark.parametrize("value", [None, True, 5, "interned_name", int, json, len, lambda: 0], ids=repr)
def test_what_belongs_to_the_program_weighs_the_least(value: object) -> None:
    assert _weigh(value) == 16
    assert _weigh([value]) == _weigh([None])


def test_an_object_met_twice_counts_once() -> None:
    text = "x" * 10_000
    assert _weigh([text, text, [text]]) < 11_000
    assert abs(_weigh([text] * 5000) / reference([text] * 5000) - 1) < 0.01
    rows = [{"text": text, "n": 1.5 * n} for n in range(1000)]
    assert abs(_weigh(rows) / reference(rows) - 1) < 0.02


def test_a_pool_of_shared_texts_counts_once() -> None:
    maker = Maker(5)
    pool = [maker.text(40, 40) for _ in range(20)]
    rows = [{"color": maker.random.choice(pool), "n": maker.random.random()} for _ in range(1000)]
    assert abs(_weigh(rows) / reference(rows) - 1) < 0.05


def test_cycles_end() -> None:
    ring: list[Any] = []
    ring.append(ring)
    assert _weigh(ring) == reference(ring)
    big: dict[Any, Any] = {n: {"self": None} for n in range(1000)}
    for value in big.values():
        value["self"] = big
    assert abs(_weigh(big) / reference(big) - 1) < 0.10
    deep: Any = None
    for _ in range(100_000):
        deep = [deep]
    assert _weigh(deep) > 16
    while deep:
        deep = deep.pop()


def test_no_more_than_64_objects_are_looked_at() -> None:
    maker = Maker(6)
    values = [make(maker) for make in SHAPES.values() for _ in range(20)] + [maker.tree(5) for _ in range(200)]
    visits = [_weigh_visits(value) for value in values]
    assert max(visits) <= 64
    assert max(visits) > 55
    assert _weigh_visits("text") == 1
    assert _weigh_visits([1.5, 2.5]) == 3


def test_emptied_sets_and_dicts_are_not_searched() -> None:
    thinned = set(range(1000, 1_000_000))
    for n in range(1000, 999_990):
        thinned.discard(n)
    assert abs(_weigh(thinned) / reference(thinned) - 1) < 0.01
    slots = dict.fromkeys(range(1000, 1_000_000))
    for n in range(1000, 999_990):
        del slots[n]
    assert abs(_weigh(slots) / reference(slots) - 1) < 0.01


class Plain:
    def __init__(self, **attributes: Any):
        self.__dict__.update(attributes)


class Set(Plain):
    def __init__(self, **attributes: Any):
        for name, value in attributes.items():
            setattr(self, name, value)


@dataclasses.dataclass
class Data:
    name: str
    rows: list[Any]
    n: float


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    rows: list[Any]
    n: float


class Pair(NamedTuple):
    name: str
    rows: list[Any]


class SlottedChild(Slotted):
    __slots__ = ("more",)
    more: str


def fields() -> dict[str, Any]:
    maker = Maker(7)
    return {
        "name": maker.text(500, 500),
        "rows": [maker.text(300, 300) for _ in range(5)],
        "n": 1.5 * maker.random.random(),
    }


@pytest.mark.parametrize("make", [Plain, Set, Data, Slotted], ids=lambda make: make.__name__)
@pytest.mark.parametrize("materialized", [False, True])
def test_an_object_counts_with_its_attributes(make: Any, materialized: bool) -> None:
    values = fields()
    inner = sum(reference(value) for value in values.values())
    value = make(**values)
    if materialized and hasattr(value, "__dict__"):
        assert vars(value)
    # Its struct, and a table of attributes at most.
    assert inner + 48 <= _weigh(value) <= inner + 700
    assert inner < _weigh([value]) <= inner + 800


def test_slots_of_all_classes_count() -> None:
    child = SlottedChild(**fields())
    alone = _weigh(child)
    child.more = "m" * 5000
    assert 5000 <= _weigh(child) - alone <= 5100


def test_subclasses_of_builtins_count_as_what_they_extend() -> None:
    maker = Maker(8)
    values = maker.flat(10)
    plain = _weigh(values)
    for made in (collections.defaultdict(list, values), collections.OrderedDict(values), collections.Counter(values)):
        assert plain <= _weigh(made) <= plain + 200
    whole = fields()
    pair = Pair(whole["name"], whole["rows"])
    assert _weigh(pair) == reference(tuple(pair))


def test_attributes_are_followed_one_level_only() -> None:
    text = "x" * 10_000
    inner = Plain(text=text)
    assert _weigh(inner) > 10_000
    assert _weigh(Plain(inner=inner)) < 2000
    assert _weigh(Plain(inner=[inner])) < 2000
    assert _weigh([inner]) > 10_000
    assert _weigh(Plain(rows=[text])) > 10_000


def test_modules_classes_and_functions_are_not_followed() -> None:
    module = types.ModuleType("huge")
    module.text = "x" * 100_000  # type: ignore[attr-defined]

    def function() -> None: ...

    function.text = module.text  # type: ignore[attr-defined]
    kind = type("Kind", (), {"text": module.text})
    for value in (module, function, kind, [module], {"f": function}, Plain(kind=kind, module=module)):
        assert _weigh(value) < 2000, value


def test_nothing_of_a_class_is_called() -> None:
    def refuse(*_: object) -> Any:
        raise AssertionError("called")

    names = ["__sizeof__", "__getattribute__", "__getattr__", "__eq__", "__len__", "__iter__", "__bool__", "__index__"]
    for base in (object, dict, list, tuple, set, str, int, float, bytes):
        hostile: Any = type("Hostile", (base,), {**dict.fromkeys(names, refuse), "__hash__": lambda _: 7})
        value = base.__new__(hostile)
        expected = _weigh(value)
        hostile.__hash__ = refuse
        assert _weigh([value, {"a": value}, (value,)]) >= expected
        hostile.__getattribute__ = object.__getattribute__
    meta: Any = type("Meta", (type,), {"__getattribute__": refuse, "__instancecheck__": refuse, "__eq__": refuse})
    assert _weigh(type.__call__(meta, "Kind", (), {})) == 16


def test_weighing_keeps_no_reference() -> None:
    value = {"rows": Maker(9).records(50), "object": Data("a" * 50, [1.5], 2.5)}
    counts = [sys.getrefcount(item) for item in (value, value["rows"], value["object"], value["rows"][0])]
    for _ in range(100):
        _weigh(value)
    assert counts == [sys.getrefcount(item) for item in (value, value["rows"], value["object"], value["rows"][0])]
