"""Bytes that somebody else wrote: an error or a value, no crash, no code, no more memory than they account for."""

import contextlib
import resource
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from samovar import CodecError
from samovar.codecs import decode, encode
from test_codecs import plain, traits, values, vectors


@pytest.mark.parametrize(("name", "data", "value"), vectors(), ids=[name for name, *_ in vectors()])
def test_a_vector_cut_short_anywhere_is_an_error(name: str, data: bytes, value: Any) -> None:
    for length in range(len(data)):
        with pytest.raises(CodecError):
            decode(data[:length])
    with pytest.raises(CodecError):
        decode(data + b"\xc0")


@pytest.mark.slow
@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_that_is_written_again_or_an_error(data: bytes) -> None:
    try:
        value = decode(data)
    except CodecError:
        return
    # Others may write nan as a key.
    if b"\x7f" not in data and b"\xff" not in data:
        assert traits(decode(encode(value))) == traits(value)


@pytest.mark.slow
@given(values, st.data())
def test_a_value_with_some_bytes_changed_is_a_value_or_an_error(value: Any, draw: st.DataObject) -> None:
    data = bytearray(encode(value))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        decode(bytes(data))


@pytest.mark.slow
@given(plain, st.data())
def test_json_with_some_bytes_changed_is_a_value_or_an_error(value: Any, draw: st.DataObject) -> None:
    data = bytearray(encode(value, "json"))
    data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    with contextlib.suppress(CodecError):
        decode(bytes(data), Any, "json")


def utf8_or_nothing(data: bytes) -> str | None:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


@given(
    st.one_of(
        st.text().map(str.encode), st.binary(max_size=20), st.text(max_size=3).map(lambda text: text.encode()[:-1])
    )
)
@pytest.mark.slow
def test_text_is_what_python_makes_of_the_same_bytes(data: bytes) -> None:
    written = b"\xdb" + len(data).to_bytes(4, "big") + data
    text = utf8_or_nothing(data)
    if text is None:
        with pytest.raises(CodecError, match="text that is not UTF-8"):
            decode(written)
    else:
        assert decode(written) == text
        assert sys.getsizeof(decode(written)) == sys.getsizeof("".join(list(text)))


def test_text_of_any_two_bytes_after_any_first_is_what_python_makes_of_it() -> None:
    firsts = (*range(0xBE, 0xC4), 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0, 0xF1, 0xF3, 0xF4, 0xF5, 0xFF)
    others = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    for first in firsts:
        for second in others:
            for rest in (b"", b"\x80", b"\xbf", b"\x80\x80", b"\xbf\xbf", b"a", b"\x80a"):
                data = bytes([0x61, first, second]) + rest
                text = utf8_or_nothing(data)
                if text is None:
                    with pytest.raises(CodecError):
                        decode(bytes([0xA0 | len(data)]) + data)
                else:
                    assert decode(bytes([0xA0 | len(data)]) + data) == text


DEEP = 129
BOMBS = {
    "lists": b"\x91" * DEEP + b"\xc0",
    "many lists": b"\x91" * 1_000_000,
    "maps": b"\x81\xc0" * DEEP + b"\xc0",
    "maps in keys": b"\x81" * DEEP + b"\xc0" * 2 * DEEP,
    "an array of 4 G": b"\xdd\xff\xff\xff\xff" + b"\xc0" * 100,
    "a map of 4 G": b"\xdf\xff\xff\xff\xff" + b"\xc0" * 100,
    "a text of 4 G": b"\xdb\xff\xff\xff\xff" + b"a" * 100,
    "an extension of 4 G": b"\xc9\xff\xff\xff\xff\x02" + b"a" * 100,
    "a tuple of 4 G": b"\xc7\x06\x02\xdd\xff\xff\xff\xff\xc0",
    "a set of 4 G": b"\xc7\x06\x03\xdd\xff\xff\xff\xff\xc0",
    "an unhashable key": b"\x81\x90\xc0",
    "an unhashable member": b"\xd5\x03\x91\x80",
    "a key twice": b"\x82\x01\xc0\x01\xc0",
    "a key twice as another type": b"\x82\x01\xc0\xc3\xc0",
    "a member twice": b"\xd6\x03\x92\x01\x01",
    "a zone outside": b"\xc7\x17\x07" + b"\0" * 7 + b"\x03../../etc/passwd"[:16],
    "a zone that is nowhere": b"\xc7\x0e\x07" + b"\0" * 7 + b"\x03Nowhrx",
    "a text for a flag": b"\xc7\x18\x0c\x93\xb1travellers.Rights\xc0\xa2ab\xc0",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS.keys())
def test_a_bomb_is_an_error(data: bytes) -> None:
    with pytest.raises(CodecError):
        decode(data)


def test_tuples_are_refused_beyond_the_depth_and_not_before() -> None:
    value: Any = None
    for _ in range(128):
        value = (value,)
    data = encode(value)
    assert traits(decode(data)) == traits(value)
    deeper = b"\xc8" + (len(data) + 1).to_bytes(2, "big") + b"\x02\x91" + data
    with pytest.raises(CodecError, match="nested deeper than 128"):
        decode(deeper)


HUNGRY = """
import resource, sys
from samovar import CodecError
from samovar.codecs import decode
size = 1_000_000
levels = b"".join(b"\\xdd" + (size - 5 * n - 5).to_bytes(4, "big") for n in range(100))
nested = levels + b"\\xc0" * (size - len(levels))
exts = b""
for _ in range(50):
    inner = b"\\xdd" + (size - 100_000).to_bytes(4, "big") + exts
    inner += b"\\xc0" * (size - 2000 - len(inner)) if not exts else b""
    exts = b"\\xc9" + len(inner).to_bytes(4, "big") + b"\\x02" + inner
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for data in (nested, exts):
    try:
        decode(data)
    except CodecError:
        continue
    raise AssertionError("read")
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / size)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="the system does not count memory")
def test_levels_that_announce_the_same_bytes_again_and_again_get_no_memory_for_it() -> None:
    run = subprocess.run([sys.executable, "-P", "-c", HUNGRY], capture_output=True, text=True, check=True)
    # One level has room for a pointer a byte; a hundred would have room for 800.
    assert float(run.stdout) < 20
