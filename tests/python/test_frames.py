"""Frames as bytes: an independent reader and writer agree with ours, and what was tampered with is a counted miss."""

import threading
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import frames
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from samovar import CodecError, KeyRing, _core
from samovar._core import Framing

KEY = b"app:users:7"
TEXT = b'{"name": "value", "next": [1, 2, 3]} ' * 40
COMPRESSORS = {None: 0, "zstd": 1, "lz4": 2, "gzip": 3, "snappy": 4}
RECORDS = [
    f'{{"id": {n}, "name": "user {n}", "mail": "user{n}@example.org", "n": {n * n % 97}}}'.encode() for n in range(2000)
]


def ring(primary: int) -> KeyRing:
    algorithms: dict[int, Any] = frames.ALGORITHMS
    return KeyRing(frames.KEYS, algorithms=algorithms, primary=primary)


def framing(key_id: int = 0, **options: Any) -> Framing:
    """Seals with this key of the vectors' ring, 0 with none; reads their dictionary."""
    sealing = {"key_ring": ring(key_id), "namespace": "users"} if key_id else {}
    return Framing(**{"dictionaries": [frames.dictionary()], **sealing, **options})


def refusals(framing: Framing) -> dict[str, int]:
    return {name: count for name, count in framing.refusals.items() if count}


def unpacked(reader: Framing, frame: bytes) -> _core.UnpackedFrame:
    told = reader.unpack(KEY, frame)
    assert told is not None, refusals(reader)
    return told


@pytest.mark.parametrize("row", frames.table("frames.tsv"), ids=lambda row: row["name"])
def test_every_vector_is_read_or_refused_as_it_says(row: dict[str, str]) -> None:
    reader = framing(1 if row["reader"] == "sealed" else 0)
    told = reader.unpack(frames.bytes_of(row["entry"]), frames.bytes_of(row["frame"]))
    assert refusals(reader) == ({} if row["outcome"] == "ok" else {row["outcome"]: 1})
    assert (told is None) == (row["outcome"] != "ok")
    if told is not None:
        for column in frames.NUMBERS.split():
            assert getattr(told, column) == int(row[column]), column
        assert told.value == (None if row["value"] == "-" else frames.bytes_of(row["value"]))
        assert told.etag == (None if row["etag"] == "-" else frames.bytes_of(row["etag"]))


def test_the_vectors_are_what_the_second_writer_writes() -> None:
    cells = [dict(zip(frames.COLUMNS, row, strict=True)) for row in frames.rows()]
    # Compressors may come to do better, and the frames then differ: what they say may not.
    written = {row["name"]: row for row in cells}
    for row in frames.table("frames.tsv"):
        assert {**row, "frame": ""} == {**written[row["name"]], "frame": ""}


moments = st.integers(0, 2**64 - 1)


@st.composite
def said(draw: st.DrawFn) -> frames.Frame:
    value = draw(st.none() | st.builds(lambda piece, times: piece * times, st.binary(max_size=40), st.integers(0, 60)))
    return frames.Frame(
        value=value,
        serializer=0 if value is None else 1,
        fresh_until=draw(moments),
        expires=draw(moments),
        load_start=draw(moments),
        created=draw(moments),
        load_time=draw(st.integers(0, 2**32 - 1)),
        tags=tuple(draw(st.lists(st.text(st.characters(codec="utf-8"), max_size=9), max_size=3))),
        etag=draw(st.none() | st.binary(max_size=9)),
    )


@settings(max_examples=30)
@given(frame=said(), key=st.binary(max_size=40))
@pytest.mark.parametrize("key_id", [0, 1, 2, 3])
@pytest.mark.parametrize("compress", COMPRESSORS)
def test_others_read_what_we_write_and_we_what_they_write(
    compress: str | None, key_id: int, frame: frames.Frame, key: bytes
) -> None:
    ours = framing(key_id, compress=compress, dictionaries=[])
    facts = asdict(frame)
    for name in ("value", "compressor", "key_id", "dictionary", "algorithm"):
        del facts[name]
    facts["serializer"] = facts["serializer"] or 1
    packed = ours.pack(key, frame.value, **{**facts, "tags": list(frame.tags)})
    read = frames.read(packed, key)
    assert read.compressor in (0, COMPRESSORS[compress])
    expected = frames.Frame(**{**asdict(frame), "key_id": key_id, "compressor": read.compressor})
    assert read == expected

    theirs = frames.Frame(**{**asdict(expected), "compressor": COMPRESSORS[compress] if frame.value else 0})
    told = ours.unpack(key, frames.write(theirs, key))
    assert told is not None, refusals(ours)
    assert told.reseal is False
    assert all(
        getattr(told, name) == fact for name, fact in asdict(theirs).items() if name not in ("tags", "algorithm")
    )
    assert tuple(told.tags) == theirs.tags


def test_a_compressed_value_of_any_length_is_read_by_the_others() -> None:
    for name, compressor in COMPRESSORS.items():
        ours = Framing(compress=name)
        for length in (0, 1, 100, 1000, 65_534, 65_536, 200_000):
            value = (TEXT * (length // len(TEXT) + 1))[:length]
            read = frames.read(ours.pack(KEY, value), KEY)
            assert read.value == value
            assert read.compressor == (compressor if length >= 1000 else read.compressor)


@pytest.mark.parametrize("key_id", [1, 2, 3])
@pytest.mark.parametrize("compress", [None, "zstd"])
def test_every_flipped_byte_of_an_authenticated_frame_is_a_miss(key_id: int, compress: str | None) -> None:
    ours = framing(key_id, compress=compress)
    frame = ours.pack(KEY, TEXT[:200], tags=["users"], etag=b"v1", fresh_until=10**15)
    assert ours.unpack(KEY, frame) is not None
    for at in range(len(frame)):
        for bits in (0x01, 0x80, 0xFF):
            assert ours.unpack(KEY, frames.changed(frame, at, frame[at] ^ bits)) is None
    assert sum(refusals(ours).values()) == 3 * len(frame)


@pytest.mark.parametrize("key_id", [1, 2, 3])
def test_a_frame_is_worth_nothing_elsewhere(key_id: int) -> None:
    ours = framing(key_id)
    mine, yours = ours.pack(b"user:1", b"mine"), ours.pack(b"user:2", b"yours")
    assert ours.unpack(b"user:2", mine) is None
    assert ours.unpack(b"user:1", yours) is None
    assert framing(key_id, namespace="products").unpack(b"user:1", mine) is None
    assert Framing(key_ring=KeyRing({9: bytes(32)})).unpack(b"user:1", mine) is None
    assert refusals(ours) == {"not_authentic": 2}
    assert framing().unpack(b"user:1", mine) is None


@pytest.mark.parametrize("key_id", [0, 1, 2, 3])
@pytest.mark.parametrize("compress", COMPRESSORS)
def test_a_frame_that_ends_early_is_a_miss(compress: str | None, key_id: int) -> None:
    ours = framing(key_id, compress=compress)
    frame = ours.pack(KEY, TEXT)
    assert all(ours.unpack(KEY, frame[:end]) is None for end in range(len(frame)))
    assert ours.unpack(KEY, frame + b"\0") is None
    assert sum(refusals(ours).values()) == len(frame) + 1


@given(st.binary(max_size=300))
@pytest.mark.parametrize("key_id", [0, 1])
def test_arbitrary_bytes_are_a_miss(key_id: int, junk: bytes) -> None:
    ours = framing(key_id)
    assert ours.unpack(KEY, junk) is None
    assert ours.unpack(KEY, b"\1" + junk) is None or key_id == 0


def test_pickle_leaves_only_under_a_seal_and_is_read_only_on_request() -> None:
    with pytest.raises(CodecError, match="key_ring"):
        Framing(serializers=[1, 5]).pack(KEY, b"\x80\x05N.", serializer=5)
    with pytest.raises(CodecError, match="serializer 5"):
        framing(3).pack(KEY, b"\x80\x05N.", serializer=5)
    asked = framing(3, serializers=[1, 5])
    frame = asked.pack(KEY, b"\x80\x05N.", serializer=5)
    assert asked.unpack(KEY, frame) is not None
    ours = framing(3)
    assert ours.unpack(KEY, frame) is None
    forged = frames.changed(Framing().pack(KEY, b"\x80\x05N."), 2, 5)
    open_ = Framing(serializers=[1, 5])
    assert open_.unpack(KEY, forged) is None
    assert (refusals(ours), refusals(open_)) == ({"unknown_serializer": 1}, {"unsealed": 1})


def test_after_a_change_of_keys_old_frames_are_read_and_worth_writing_again() -> None:
    before = Framing(key_ring=KeyRing({1: bytes(32)}))
    after = Framing(key_ring=KeyRing({2: bytes([7] * 32), 1: bytes(32)}))
    gone = Framing(key_ring=KeyRing({2: bytes([7] * 32)}))
    old, new = before.pack(KEY, b"mine"), after.pack(KEY, b"mine")
    told = [
        getattr(reader.unpack(KEY, frame), "reseal", None) for reader in (after, gone, before) for frame in (old, new)
    ]
    assert told == [True, False, None, False, False, None]


def test_without_encryption_what_was_sealed_is_still_read() -> None:
    sealed = framing(1).pack(KEY, b"mine")
    way_back = framing(1, encrypt=False)
    assert unpacked(way_back, sealed).reseal
    plain = way_back.pack(KEY, b"mine")
    assert frames.read(plain, KEY).key_id == 0
    assert framing(1).unpack(KEY, plain) is None


def test_a_value_beyond_the_limit_is_neither_written_nor_read() -> None:
    small = Framing(max_value_bytes=100)
    with pytest.raises(CodecError, match="101 bytes, 100 at most; raise max_value_bytes"):
        small.pack(KEY, bytes(101))
    for compress in COMPRESSORS:
        assert small.unpack(KEY, Framing(compress=compress).pack(KEY, bytes(100_000))) is None
    assert refusals(small) == {"too_large": 5}


def test_dictionaries_are_trained_rotated_and_understood_by_others() -> None:
    ours = Framing(compress="auto")
    without = ours.pack(KEY, RECORDS[-1] * 2)
    first = ours.rotate(_core._train_dictionary(RECORDS[:1000], 2048))
    packed = ours.pack(KEY, RECORDS[-1] * 2)
    assert len(packed) < len(without)
    theirs = zstandard.train_dictionary(2048, RECORDS[1000:])
    second = ours.rotate(theirs.as_bytes())
    assert second == frames.dictionary_id(theirs.as_bytes())
    assert ours.dictionaries == [second, first]
    for frame in (without, packed, ours.pack(KEY, RECORDS[-1] * 2)):
        assert unpacked(ours, frame).value == RECORDS[-1] * 2
    read = frames.read(ours.pack(KEY, RECORDS[-1] * 2), KEY, words={second: theirs.as_bytes()})
    assert (read.value, read.dictionary) == (RECORDS[-1] * 2, second)
    # The last bytes of a dictionary are text: zstd does not notice that it is another.
    changed = theirs.as_bytes()[:-1] + b"#"
    for stranger in (Framing(), Framing(dictionaries=[changed])):
        assert stranger.unpack(KEY, ours.pack(KEY, RECORDS[-1] * 2)) is None
        assert refusals(stranger) == {"unknown_dictionary": 1}


def test_many_threads_pack_and_unpack_while_dictionaries_change() -> None:
    ours = framing(1, compress="zstd", dictionaries=[])
    trained = [_core._train_dictionary(RECORDS[n::4], 1024) for n in range(4)]
    wrong: list[bytes] = []
    start = threading.Barrier(5)

    def values() -> Iterator[bytes]:
        start.wait()
        for n in range(200):
            yield RECORDS[n] * (1 if n % 10 else 2000)

    def there_and_back() -> None:
        for value in values():
            told = ours.unpack(KEY, ours.pack(KEY, value))
            if told is None or told.value != value:
                wrong.append(value)

    def rotate() -> None:
        for n, _ in enumerate(values()):
            ours.rotate(trained[n % 4])

    threads = [threading.Thread(target=work) for work in (there_and_back,) * 4 + (rotate,)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert refusals(ours) == {}


def test_what_cannot_be_written_says_so() -> None:
    for wrong in ({"tags": ["t" * 65_536]}, {"etag": bytes(65_536)}, {"tags": ["t"] * 65_536}):
        with pytest.raises(CodecError, match="65535"):
            Framing().pack(KEY, b"", **wrong)  # type: ignore[arg-type]
