"""A second reader and writer of frames, after docs/frame.md, with other people's libraries and none of our code.

    python tests/python/frames.py

writes the vectors in tests/vectors anew, which Rust and Python both read. Encrypted ones have fixed nonces here, and
nowhere else.
"""

import struct
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import blake3
import cramjam
import lz4.block
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl import bindings
from nacl.exceptions import CryptoError

VECTORS = Path(__file__).parents[1] / "vectors"
#: The keys of the ring that seals the vectors, and what each does.
KEYS = {1: bytes(range(32)), 2: bytes(range(32, 64)), 3: bytes(range(64, 96))}
ALGORITHMS = {1: "xchacha20-poly1305", 2: "aes-gcm", 3: "sign"}
NAMESPACE = b"users"
NEVER = 2**64 - 1

MISSING, TAGS, ETAG, COMPRESSED, SEALED, ENCRYPTED, RETURNED = (1 << bit for bit in range(7))
HEAD = struct.Struct(">BBBBQQQQIIII")
PURPOSES = {
    "xchacha20-poly1305": "samovar 2026-11 frame 1 subkey xchacha20-poly1305",
    "aes-gcm": "samovar 2026-11 frame 1 subkey aes-256-gcm",
    "sign": "samovar 2026-11 frame 1 subkey blake3",
}
NONCES = {"xchacha20-poly1305": 24, "aes-gcm": 12, "sign": 0}


class RefusedError(Exception):
    """This reader does not read it."""


@dataclass(frozen=True)
class Frame:
    """All that a frame says. `value` None: there is none."""

    value: bytes | None = b""
    serializer: int = 3
    compressor: int = 0
    key_id: int = 0
    dictionary: int = 0
    fresh_until: int = NEVER
    expires: int = NEVER
    load_start: int = 0
    created: int = 0
    load_time: int = 0
    tags: tuple[str, ...] = ()
    etag: bytes | None = None
    algorithm: str | None = field(default=None, compare=False)


def dictionary() -> bytes:
    """The dictionary of the vectors."""
    return (VECTORS / "dictionary.zstd").read_bytes()


def dictionary_id(words: bytes) -> int:
    return int.from_bytes(blake3.blake3(words).digest()[:4]) or 1


def compress(compressor: int, raw: bytes, words: bytes | None = None) -> bytes:
    if compressor == 1:
        known = zstandard.ZstdCompressionDict(words) if words else None
        return zstandard.ZstdCompressor(level=1, dict_data=known).compress(raw)
    others: dict[int, Callable[[bytes], object]] = {
        2: lambda raw: lz4.block.compress(raw, store_size=False),
        3: cramjam.gzip.compress,
        4: cramjam.snappy.compress_raw,
    }
    return bytes(others[compressor](raw))  # type: ignore[call-overload, no-any-return]


def decompress(compressor: int, packed: bytes, length: int, words: bytes | None = None) -> bytes:
    if compressor == 1:
        known = zstandard.ZstdCompressionDict(words) if words else None
        return zstandard.ZstdDecompressor(dict_data=known).decompress(packed)
    if compressor == 2:
        return lz4.block.decompress(packed, uncompressed_size=length)
    if compressor == 3:
        return bytes(cramjam.gzip.decompress(packed))
    if compressor == 4:
        return bytes(cramjam.snappy.decompress_raw(packed))
    raise RefusedError(compressor)


def subkey(algorithm: str, key: bytes, namespace: bytes) -> bytes:
    return blake3.blake3(key + namespace, derive_key_context=PURPOSES[algorithm]).digest()


def signature(key: bytes, associated: bytes, body: bytes) -> bytes:
    return blake3.blake3(struct.pack(">Q", len(associated)) + associated + body, key=key).digest()


def seal(algorithm: str, key: bytes, nonce: bytes, associated: bytes, body: bytes) -> bytes:
    """Nonce, body and tag."""
    if algorithm == "sign":
        return body + signature(key, associated, body)
    if algorithm == "aes-gcm":
        return nonce + AESGCM(key).encrypt(nonce, body, associated)
    return nonce + bindings.crypto_aead_xchacha20poly1305_ietf_encrypt(body, associated, nonce, key)


def unseal(algorithm: str, key: bytes, associated: bytes, sealed: bytes) -> bytes:
    """The body, if nonce, body and tag are as they were sealed."""
    nonce, rest = sealed[: NONCES[algorithm]], sealed[NONCES[algorithm] :]
    if algorithm == "sign":
        body, tag = rest[:-32], rest[-32:]
        if signature(key, associated, body) != tag:
            raise RefusedError("signature")
        return body
    try:
        if algorithm == "aes-gcm":
            return AESGCM(key).decrypt(nonce, rest, associated)
        return bindings.crypto_aead_xchacha20poly1305_ietf_decrypt(rest, associated, nonce, key)
    except (InvalidTag, CryptoError) as error:
        raise RefusedError("seal") from error


def piece(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def write(frame: Frame, entry: bytes, *, words: bytes | None = None) -> bytes:
    """The bytes of a frame. It is sealed if it has a key id, with that key of KEYS, whose algorithm it may deny."""
    raw = frame.value or b""
    algorithm = frame.algorithm or ALGORITHMS.get(frame.key_id)
    flags = MISSING if frame.value is None else 0
    flags |= TAGS if frame.tags else 0
    flags |= ETAG if frame.etag is not None else 0
    flags |= COMPRESSED if frame.compressor else 0
    flags |= (SEALED if algorithm == "sign" else SEALED | ENCRYPTED) if algorithm else 0
    serializer = 0 if frame.value is None else frame.serializer
    moments = (frame.fresh_until, frame.expires, frame.load_start, frame.created, frame.load_time)
    header = HEAD.pack(1, flags, serializer, frame.compressor, *moments, len(raw), frame.key_id, frame.dictionary)
    if frame.tags:
        header += struct.pack(">H", len(frame.tags)) + b"".join(piece(tag.encode()) for tag in frame.tags)
    if frame.etag is not None:
        header += piece(frame.etag)
    body = compress(frame.compressor, raw, words if frame.dictionary else None) if frame.compressor else raw
    if algorithm is None:
        return header + body
    nonce = bytes(range(200, 200 + NONCES[algorithm]))
    key = subkey(algorithm, KEYS[frame.key_id], NAMESPACE)
    return header + seal(algorithm, key, nonce, header + entry, body)


def read(data: bytes, entry: bytes, *, words: Mapping[int, bytes] | None = None) -> Frame:
    """A frame, as docs/frame.md has it; leaves out what a careful reader would refuse beside it."""
    _, flags, serializer, compressor, *rest = HEAD.unpack_from(data)
    fresh_until, expires, load_start, created, load_time, length, key_id, known = rest
    at = HEAD.size
    tags: list[str] = []
    if flags & TAGS:
        (count,) = struct.unpack_from(">H", data, at)
        at += 2
        for _ in range(count):
            (size,) = struct.unpack_from(">H", data, at)
            tags.append(data[at + 2 : at + 2 + size].decode())
            at += 2 + size
    etag = None
    if flags & ETAG:
        (size,) = struct.unpack_from(">H", data, at)
        etag = data[at + 2 : at + 2 + size]
        at += 2 + size
    body = data[at:]
    if flags & SEALED:
        algorithm = ALGORITHMS[key_id]
        body = unseal(algorithm, subkey(algorithm, KEYS[key_id], NAMESPACE), data[:at] + entry, body)
    if compressor:
        body = decompress(compressor, body, length, (words or {})[known] if known else None)
    if len(body) != length:
        raise RefusedError("length")
    return Frame(
        value=None if flags & MISSING else body,
        serializer=serializer,
        compressor=compressor,
        key_id=key_id,
        dictionary=known,
        fresh_until=fresh_until,
        expires=expires,
        load_start=load_start,
        created=created,
        load_time=load_time,
        tags=tuple(tags),
        etag=etag,
    )


# The vectors: name, reader, entry, outcome, what the frame says, and the frame.

ENTRY = b"app:users:user%3A7"
FULL = Frame(
    value=b"\x81\xa4name\xa9Ada Byron",
    fresh_until=1_800_000_000_000_000,
    expires=1_800_000_060_000_000,
    load_start=1_799_999_999_000_000,
    created=1_799_999_999_500_000,
    load_time=41_000,
    tags=("users", "füße"),
    etag=b'"v1"',
)
LONG = replace(FULL, value=b'{"name": "Ada", "languages": ["en", "fr"]} ' * 6)


def changed(data: bytes, at: int, *new: int) -> bytes:
    return data[:at] + bytes(new) + data[at + len(new) :]


def good() -> Iterator[tuple[str, str, Frame]]:
    """Frames that are read: name, reader, frame."""
    known = dictionary_id(dictionary())
    yield "plain", "open", FULL
    yield "nothing but a value", "open", Frame(value=b"\xc0")
    yield "an empty value", "open", Frame(value=b"", serializer=1)
    yield "not found", "open", replace(FULL, value=None, serializer=0, tags=(), etag=None)
    yield "an empty etag", "open", replace(FULL, etag=b"", tags=("",))
    for compressor, name in enumerate(("zstd", "lz4", "gzip", "snappy"), 1):
        yield name, "open", replace(LONG, compressor=compressor)
    yield "zstd with a dictionary", "open", replace(LONG, compressor=1, dictionary=known)
    for key_id, algorithm in ALGORITHMS.items():
        yield f"{algorithm}", "sealed", replace(FULL, key_id=key_id)
        yield f"{algorithm} over zstd", "sealed", replace(LONG, compressor=1, key_id=key_id)
        yield f"{algorithm} over not found", "sealed", Frame(value=None, serializer=0, key_id=key_id)


def bad() -> Iterator[tuple[str, str, str, bytes]]:
    """Frames that are refused: name, reader, why, bytes."""
    plain = write(FULL, ENTRY)
    small = write(Frame(value=b"\xc0"), ENTRY)
    known = dictionary_id(dictionary())
    packed = write(replace(LONG, compressor=1, dictionary=known), ENTRY, words=dictionary())
    bomb = write(Frame(value=bytes(70 << 20), compressor=1), ENTRY)
    yield "no bytes", "open", "truncated", b""
    yield "half a header", "open", "truncated", plain[:30]
    yield "a tag cut short", "open", "truncated", plain[:57]
    yield "a value cut short", "open", "truncated", plain[:-1]
    yield "a value with more behind it", "open", "malformed", plain + b"\0"
    yield "format 2", "open", "unknown_format", changed(plain, 0, 2)
    yield "flag 7", "open", "unknown_flags", changed(small, 1, 1 << 7)
    yield "returned, and a value", "open", "malformed", changed(small, 1, RETURNED)
    yield "a serializer of a user's", "open", "unknown_serializer", changed(plain, 2, 200)
    yield "pickle", "open", "unknown_serializer", changed(plain, 2, 5)
    yield "a compressor of tomorrow", "open", "unknown_compressor", changed(packed, 3, 9, *packed[4:48], 0, 0, 0, 0)
    yield "a dictionary that is not here", "open", "unknown_dictionary", changed(packed, 48, 0, 0, 0, 9)
    yield "a dictionary for nothing", "open", "malformed", changed(small, 48, 0, 0, 0, 9)
    yield "a dictionary for lz4", "open", "malformed", changed(packed, 3, 2)
    yield "a key id and no seal", "open", "malformed", changed(small, 44, 0, 0, 0, 1)
    yield "encrypted and not sealed", "open", "malformed", changed(small, 1, ENCRYPTED)
    yield "no value and a serializer", "open", "malformed", changed(small, 1, MISSING)
    yield "a list of no tags", "open", "malformed", changed(small, 1, TAGS)[:52] + b"\0\0\xc0"
    yield "a tag that is not UTF-8", "open", "malformed", changed(small, 1, TAGS)[:52] + b"\0\1\0\1\xff\xc0"
    yield "a zip bomb", "open", "too_large", bomb
    yield "a zip bomb that denies it", "open", "corrupt", changed(bomb, 40, 0, 0, 16, 0)
    yield "a length of a gigabyte", "open", "too_large", changed(packed, 40, 64, 0, 0, 0)
    yield "a length that no such body has", "open", "corrupt", changed(packed, 40, 3, 0, 0, 0)
    yield "a key that is not here", "open", "unknown_key", write(replace(FULL, key_id=1), ENTRY)
    yield (
        "a key that nobody has",
        "sealed",
        "unknown_key",
        changed(write(replace(FULL, key_id=1), ENTRY), 44, 0, 0, 0, 9),
    )
    yield "not sealed", "sealed", "unsealed", plain
    for key_id, algorithm in ALGORITHMS.items():
        sealed = write(replace(FULL, key_id=key_id), ENTRY)
        yield (
            f"{algorithm} under another key",
            "sealed",
            "not_authentic",
            write(replace(FULL, key_id=key_id), ENTRY + b"7"),
        )
        yield f"{algorithm}, fresh for longer", "sealed", "not_authentic", changed(sealed, 4, 255)
        yield f"{algorithm}, last bit", "sealed", "not_authentic", changed(sealed, -1 % len(sealed), sealed[-1] ^ 1)
        yield f"{algorithm}, cut short", "sealed", "truncated", sealed[:80]
        other = next(name for name in PURPOSES if name != algorithm)
        yield (
            f"{algorithm} said to be {other}",
            "sealed",
            "not_authentic",
            write(replace(FULL, key_id=key_id, algorithm=other), ENTRY),
        )


NUMBERS = "serializer compressor key_id dictionary fresh_until expires load_start created load_time"
COLUMNS = f"name reader outcome {NUMBERS} tags etag value entry frame".split()


ENVELOPE_COLUMNS = ["name", "outcome", "version", "token", "deadline", "tombstone", "frame", "stored"]


def rows() -> Iterator[list[str]]:
    """The lines of frames.tsv."""
    for name, reader, frame in good():
        said = [getattr(frame, column) for column in NUMBERS.split()]
        tags = ",".join(tag.encode().hex() or "''" for tag in frame.tags) or "-"
        etag = "-" if frame.etag is None else frame.etag.hex() or "''"
        value = "-" if frame.value is None else frame.value.hex() or "''"
        data = write(frame, ENTRY, words=dictionary())
        yield [name, reader, "ok", *map(str, said), tags, etag, value, ENTRY.hex(), data.hex()]
    for name, reader, why, data in bad():
        yield [name, reader, why, *["-"] * 12, ENTRY.hex(), data.hex() or "''"]


def envelopes() -> Iterator[list[str]]:
    """The lines of envelopes.tsv: name, outcome, version, token, deadline, tombstone, frame, bytes."""
    version, token, deadline, frame = 1_800_000_000_000_001, bytes(range(16)), 1_800_000_010_000_000, b"frame"
    claim = token + struct.pack(">Q", deadline)
    for name, flags, middle, behind in (
        ("a value", 2, b"", frame),
        ("a claim alone", 1, claim, b""),
        ("a claim before an old value", 3, claim, frame),
        ("a tombstone", 4, b"", b""),
        ("a tombstone that is being replaced", 5, claim, b""),
    ):
        data = b"SV" + struct.pack(">BBQ", 1, flags, version) + middle + behind
        said = [token.hex(), str(deadline)] if middle else ["-", "-"]
        yield [name, "ok", str(version), *said, str(flags >> 2), behind.hex() or "-", data.hex()]
    plain = b"SV" + struct.pack(">BBQ", 1, 2, version) + frame
    for name, why, data in (
        ("another's", "not_ours", b"{}" + plain),
        ("format 2", "unknown_format", changed(plain, 2, 2)),
        ("flag 3", "unknown_flags", changed(plain, 3, 10)),
        ("half", "truncated", plain[:9]),
        ("half a claim", "truncated", changed(plain, 3, 3) + claim[:8]),
        ("version 2^53", "malformed", changed(plain, 4, 0, 32, 0, 0, 0, 0, 0, 0)),
        ("a tombstone with a value", "malformed", changed(plain, 3, 6)),
        ("a value of no bytes", "malformed", plain[:12]),
        ("more than it says", "malformed", changed(plain, 3, 4)),
    ):
        yield [name, why, "-", "-", "-", "-", "-", data.hex()]


def table(name: str) -> list[dict[str, str]]:
    """The rows of a file of vectors, by column."""
    lines = [line for line in (VECTORS / name).read_text().splitlines() if not line.startswith("#")]
    columns = lines[0].split("\t")
    return [dict(zip(columns, line.split("\t"), strict=True)) for line in lines[1:]]


def bytes_of(cell: str) -> bytes:
    return b"" if cell == "''" else bytes.fromhex(cell)


def main() -> None:
    """Write the vectors anew."""
    if not (VECTORS / "dictionary.zstd").exists():
        records = [
            f'{{"name": "N{n}", "languages": ["en", "fr", "{n % 7}"], "age": {n % 90}}}'.encode() for n in range(2000)
        ]
        (VECTORS / "dictionary.zstd").write_bytes(zstandard.train_dictionary(1024, records).as_bytes())
    note = "# Written by tests/python/frames.py; docs/frame.md says what each field is. '' is no bytes, - is nothing."
    for name, columns, lines in (
        ("frames.tsv", COLUMNS, rows()),
        ("envelopes.tsv", ENVELOPE_COLUMNS, envelopes()),
    ):
        text = "\n".join([note, "\t".join(columns), *("\t".join(line) for line in lines)])
        (VECTORS / name).write_text(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
