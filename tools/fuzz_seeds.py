"""Writes the inputs that fuzzing starts from, out of the vectors in tests/vectors.

    python tools/fuzz_seeds.py envelope|frame|msgpack|zstd|lz4|gzip|snappy FOLDER

A decompressor's input has a byte that names it and two with the length to ask for before the compressed bytes.
"""

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

VECTORS = Path("tests/vectors")
COMPRESSORS = {"zstd": 1, "lz4": 2, "gzip": 3, "snappy": 4}


def rows(name: str) -> Iterator[dict[str, str]]:
    lines = [line for line in (VECTORS / name).read_text().splitlines() if not line.startswith("#")]
    columns = lines[0].split("\t")
    for line in lines[1:]:
        yield dict(zip(columns, line.split("\t"), strict=True))


def seeds(of: str) -> Iterator[bytes]:
    """The inputs for one target."""
    if of == "msgpack":
        lines = (VECTORS / "msgpack.tsv").read_text().splitlines()
        yield from (bytes.fromhex(line.split("\t")[1]) for line in lines if not line.startswith("#"))
        return
    name, column = ("envelopes.tsv", "stored") if of == "envelope" else ("frames.tsv", "frame")
    for row in rows(name):
        data = b"" if row[column] == "''" else bytes.fromhex(row[column])
        if of not in COMPRESSORS:
            yield data
        elif row["compressor"] == str(COMPRESSORS[of]) and row["key_id"] == row["dictionary"] == "0":
            (length,) = struct.unpack_from(">I", data, 40)
            # What tags and etag there are ends with the etag.
            start = data.index(bytes.fromhex(row["etag"])) + len(row["etag"]) // 2
            yield bytes([COMPRESSORS[of] - 1]) + struct.pack(">H", length) + data[start:]


def main() -> None:
    """Write the seeds named on the command line."""
    of, folder = sys.argv[1], Path(sys.argv[2])
    for number, seed in enumerate(seeds(of)):
        (folder / f"vector-{number:02}").write_bytes(seed)


if __name__ == "__main__":
    main()
