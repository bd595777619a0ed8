"""What does it cost to make a frame smaller, and what does a dictionary gain? Ratios in one run: `make compression`.

Values are records of real text: modules, names, signatures and docstrings of the standard library, as JSON. A frame is
packed and unpacked whole, header and all, in Python; the peer is the `zstandard` package with its objects kept, which
compresses and no more. Each ratio of times is the median of paired rounds, thread CPU; the middle half beside it.
"""

from __future__ import annotations

import importlib
import inspect
import json
import pathlib
import random
import statistics
import sys
from typing import TYPE_CHECKING, Any

# Last: benches/redis is not the redis that others import.
sys.path.append(str(pathlib.Path(__file__).resolve().parent))

import zstandard
from hits import ratio
from samovar._core import Framing, _train_dictionary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = b"app:docs:1"
RECORD = 1000
MODULES = """
argparse array ast asyncio base64 bisect calendar cmath codecs collections configparser contextlib copy csv
ctypes datetime decimal difflib dis email enum fractions ftplib functools gettext glob graphlib gzip hashlib
heapq hmac html http.client http.cookies imaplib inspect io ipaddress itertools json locale logging lzma
mailbox math mimetypes multiprocessing operator os pathlib pdb pickle platform plistlib pprint queue random re
sched secrets select shelve shlex shutil signal smtplib socket sqlite3 ssl statistics string struct subprocess
tarfile tempfile textwrap threading time tokenize traceback turtle types typing unittest urllib.parse
urllib.request uuid warnings wave weakref xml.dom.minidom xml.etree.ElementTree zipfile zlib
"""


def documented() -> Iterator[dict[str, str]]:
    """Everything public in the standard library that has a docstring."""
    for module in MODULES.split():
        for name, thing in sorted(vars(importlib.import_module(module)).items()):
            if name.startswith("_") or not (inspect.isroutine(thing) or inspect.isclass(thing)):
                continue
            members = sorted(vars(thing).items()) if inspect.isclass(thing) else []
            for path, one in [(name, thing), *((f"{name}.{member}", one) for member, one in members)]:
                text = inspect.getdoc(one) if callable(one) else None
                if text:
                    yield {"module": module, "name": path, "signature": signature(one), "doc": text}


def signature(thing: Any) -> str:
    try:
        return str(inspect.signature(thing))
    except (TypeError, ValueError):
        return ""


def records() -> list[bytes]:
    """Records of about a kilobyte: one thing of the library each, or several short ones."""
    made: list[bytes] = []
    batch: list[dict[str, str]] = []
    for thing in documented():
        batch.append({**thing, "doc": thing["doc"][: RECORD - 200]})
        raw = json.dumps(batch).encode()
        if len(raw) >= RECORD * 0.8:
            made.append(raw)
            batch = []
    made = [raw for raw in dict.fromkeys(made) if len(raw) <= RECORD * 1.4]
    random.Random(5).shuffle(made)
    return made


def text(middle: float, low: float, high: float) -> str:
    return f"**{middle:.2f}** ({low:.2f}-{high:.2f})"


def each(work: Callable[[bytes], object], values: list[bytes]) -> Callable[[], None]:
    def run() -> None:
        for value in values:
            work(value)

    return run


def against_zstandard(made: list[bytes]) -> None:
    """Level 1 of ours and of the package, on the same values."""
    ours = Framing(compress="zstd")
    compressor, decompressor = zstandard.ZstdCompressor(level=1), zstandard.ZstdDecompressor()
    print("| value | compressed to | compress ÷ zstandard | decompress ÷ zstandard | both ÷ zstandard |")
    print("|---|---|---|---|---|")
    for size, count in ((1_000, 300), (10_000, 60), (100_000, 8), (1_000_000, 1)):
        per = max(1, size // RECORD)
        values = [b"".join(made[at : at + per]) for at in range(0, min(len(made), count * per) - per + 1, per)]
        values = values or [b"".join(made)]
        packed = [ours.pack(KEY, value) for value in values]
        theirs = [compressor.compress(value) for value in values]
        assert [unpacked.value for one in packed if (unpacked := ours.unpack(KEY, one))] == values

        pack = each(lambda value: ours.pack(KEY, value), values)
        compress = each(compressor.compress, values)
        unpack = each(lambda frame: ours.unpack(KEY, frame), packed)
        decompress = each(decompressor.decompress, theirs)
        both = ratio(lambda pack=pack, unpack=unpack: (pack(), unpack()), lambda c=compress, d=decompress: (c(), d()))
        share = sum(map(len, packed)) / sum(map(len, values))
        cells = (text(*ratio(pack, compress)), text(*ratio(unpack, decompress)), text(*both))
        print(f"| {len(values)} of {statistics.mean(map(len, values)):,.0f} B | {share:.0%} | {' | '.join(cells)} |")


def dictionary(made: list[bytes]) -> None:
    """What a dictionary trained on three quarters of the records does for the rest."""
    cut = len(made) * 3 // 4
    known, new = made[:cut], made[cut:]
    raw = sum(map(len, new))
    none, plain = Framing(), Framing(compress="zstd")
    print(f"\n{len(new)} records of {raw / len(new):,.0f} B on average, none among the {len(known)} trained on.\n")
    print("| frames | of the value's size | pack ÷ zstd | unpack ÷ zstd |")
    print("|---|---|---|---|")
    ways = {"not compressed": none, "zstd": plain}
    for size in (4, 16, 64, 110):
        ways[f"zstd, {size} KiB dictionary"] = Framing(
            compress="zstd", dictionaries=[_train_dictionary(known, size << 10)]
        )
    ways |= {name: Framing(compress=name) for name in ("lz4", "gzip", "snappy")}
    packed = {name: [way.pack(KEY, value) for value in new] for name, way in ways.items()}
    for name, way in ways.items():
        pack = ratio(
            each(lambda value, way=way: way.pack(KEY, value), new), each(lambda value: plain.pack(KEY, value), new)
        )
        unpack = ratio(
            each(lambda frame, way=way: way.unpack(KEY, frame), packed[name]),
            each(lambda frame: plain.unpack(KEY, frame), packed["zstd"]),
        )
        print(f"| {name} | {sum(map(len, packed[name])) / raw:.0%} | {text(*pack)} | {text(*unpack)} |")


def seals(made: list[bytes]) -> None:
    """What sealing costs beside a plain frame."""
    plain = Framing()
    print("\n| seal of 1 kB | pack and unpack ÷ a plain frame | 100 kB |")
    print("|---|---|---|")
    large = [b"".join(made)[:100_000]] * 4
    for name in ("sign", "xchacha20-poly1305", "aes-gcm"):
        sealing = Framing(key_ring={1: bytes(32)}, encrypt=name)
        cells = []
        for values in (made[:100], large):

            def there_and_back(value: bytes, way: Framing) -> object:
                return way.unpack(KEY, way.pack(KEY, value))

            sealed = each(lambda value, way=sealing: there_and_back(value, way), values)
            cells.append(text(*ratio(sealed, each(lambda value: there_and_back(value, plain), values))))
        print(f"| `{name}` | {' | '.join(cells)} |")


def main() -> None:
    """Print the tables."""
    made = records()
    against_zstandard(made)
    dictionary(made)
    seals(made)


if __name__ == "__main__":
    main()
