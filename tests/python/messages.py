"""A second writer of the messages of the bus, after docs/bus.md, with none of our code.

    python tests/python/messages.py

writes tests/vectors/bus.tsv anew, which Rust reads.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

VECTORS = Path(__file__).parents[1] / "vectors" / "bus.tsv"
COLUMNS = ("name", "outcome", "origin", "number", "stamp", "how", "names", "key", "message")
ORIGIN = bytes(range(16))
STAMP = 1_800_000_000_000_001


def changed(key: bytes, number: int = 7) -> bytes:
    """A key was changed."""
    return head(1, number) + struct.pack(">H", len(key)) + key


def moved(names: tuple[bytes, ...], how: int, number: int = 7) -> bytes:
    """Registers were moved."""
    packed = (struct.pack(">H", len(name)) + name for name in names)
    return head(2, number) + struct.pack(">BH", how, len(names)) + b"".join(packed)


def head(kind: int, number: int, form: int = 1) -> bytes:
    """What both begin with."""
    return b"SVB" + bytes([form, kind]) + ORIGIN + struct.pack(">QQ", number, STAMP)


def name(path: str, tag: str) -> bytes:
    """A tag within a namespace."""
    return path.encode().replace(b"\0", b"\xff") + b"\0" + tag.encode()


def rows() -> Iterator[tuple[str, ...]]:
    """The lines of bus.tsv; `-` is nothing."""
    for title, key, number in (
        ("a key", b"shop::k", 7),
        ("in a cluster", b"shop::k", 0),
        ("no key", b"", 7),
        ("any bytes", bytes(range(256)), 7),
    ):
        fields = ("ok", ORIGIN.hex(), str(number), str(STAMP), "-", "-", key.hex() or "''")
        yield title, *fields, changed(key, number).hex()
    tags = (name("", "a"), name("a:b", "тег:*"), name("a\0b", ""), name("", ""))
    for title, names, how in (("gone", tags, 0), ("stale", tags[:1], 1), ("nothing moved", (), 0)):
        fields = ("ok", ORIGIN.hex(), "7", str(STAMP), str(how), ",".join(one.hex() for one in names) or "''", "-")
        yield title, *fields, moved(names, how).hex()
    whole, nothing = changed(b"shop::k"), ("-",) * 6
    for title, outcome, message in (
        ("nothing at all", "foreign", b""),
        ("somebody else's", "foreign", b"hello"),
        ("a beginning of a beginning", "foreign", whole[:2]),
        ("no more than a beginning", "malformed", whole[:3]),
        ("a change that does not fit", "malformed", whole[:37]),
        ("cut", "malformed", whole[:-1]),
        ("with more behind it", "malformed", whole + b"\0"),
        ("another form", "malformed", head(1, 7, 2) + whole[37:]),
        ("another kind", "malformed", head(3, 7) + whole[37:]),
        ("another way to move", "malformed", moved(tags, 2)),
        ("fewer names than it says", "malformed", moved(tags, 0)[:-3]),
        ("a name without tag", "malformed", moved((b"path",), 0)),
        ("a tag that is no text", "malformed", moved((b"\0\xff",), 0)),
    ):
        yield title, outcome, *nothing, message.hex() or "''"


def write() -> str:
    """All of bus.tsv."""
    note = "# Written by tests/python/messages.py; docs/bus.md says what each field is. '' is no bytes, - is nothing."
    return "\n".join([note, "\t".join(COLUMNS), *("\t".join(row) for row in rows()), ""])


if __name__ == "__main__":
    VECTORS.write_text(write())
    sys.stdout.write(f"{VECTORS}\n")
