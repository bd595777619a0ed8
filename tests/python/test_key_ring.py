"""`KeyRing`: which keys it takes, what it asks for instead, and that it shows none."""

import copy
import pickle
import secrets
from typing import Any

import pytest
from samovar import ConfigError, KeyRing
from samovar._core import Framing

A, B = secrets.token_bytes(32), secrets.token_bytes(32)


def test_the_first_key_writes_unless_another_is_named() -> None:
    assert (KeyRing({2: B, 1: A}).primary, KeyRing({2: B, 1: A}, primary=1).primary) == (2, 1)
    assert KeyRing({2: B, 1: A}).ids == [2, 1]
    assert KeyRing({2**32 - 1: A}).primary == 2**32 - 1


def test_a_ring_shows_ids_and_algorithms_and_no_keys() -> None:
    ring = KeyRing({2: B, 1: A}, algorithm="aes-gcm", algorithms={1: "sign"})
    assert repr(ring) == "KeyRing({2: 'aes-gcm', 1: 'sign'}, primary=2)"
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot pickle"):
            copied(ring)
    assert not hasattr(ring, "__dict__")


@pytest.mark.parametrize(
    ("keys", "options", "message"),
    [
        (A, {}, r"invalid key_ring: a bytes; give a dict"),
        ([(1, A)], {}, r"invalid key_ring: a list; give a dict"),
        ({}, {}, r"invalid key_ring: no keys; give at least one"),
        ({0: A}, {}, r"key id 0; number keys from 1"),
        ({-1: A}, {}, r"key id -1; number keys from 1"),
        ({2**32: A}, {}, r"key id 4294967296; number keys from 1"),
        ({True: A}, {}, r"key id of type bool"),
        ({"1": A}, {}, r"key id of type str"),
        ({A: 1}, {}, r"key id of type bytes"),
        ({int.from_bytes(A): A}, {}, r"key id of type int"),
        ({1: A[:31]}, {}, r"a key of 31 bytes under id 1; give 32 random bytes"),
        ({1: A + A}, {}, r"a key of 64 bytes under id 1"),
        ({1: A.hex()}, {}, r"a str under id 1; give 32 random bytes"),
        ({1: bytearray(A)}, {}, r"a bytearray under id 1"),
        ({1: A}, {"algorithm": "rot13"}, r"invalid algorithm: 'rot13'; use 'auto'"),
        ({1: A}, {"algorithm": B}, r"invalid algorithm: a bytes; use 'auto'"),
        ({1: A}, {"algorithms": {1: "rot13"}}, r"invalid algorithms: 'rot13'; use 'auto'"),
        ({1: A}, {"algorithms": {2: "sign"}}, r"invalid algorithms: key id 2; name ids that are among the keys"),
        ({1: A}, {"algorithms": "sign"}, r"invalid algorithms: a str; give a dict"),
        ({1: A}, {"primary": 2}, r"invalid primary: 2; name one of the ring's ids: \[1\]"),
        ({1: A}, {"primary": "1"}, r"invalid primary: key id of type str"),
    ],
)
def test_what_cannot_be_a_ring_is_refused_with_the_cure_and_no_key(keys: Any, options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        KeyRing(keys, **options)
    for key in (A, B):
        shown = str(caught.value)
        assert not any(secret in shown for secret in (key.hex(), repr(key)[2:-1], str(int.from_bytes(key))))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"encrypt": "sign"}, "invalid encrypt: 'sign'; give key_ring="),
        ({"encrypt": "rot13"}, "invalid encrypt: 'rot13'; use 'auto', 'aes-gcm', 'sign' or False"),
        ({"encrypt": True, "key_ring": {1: A}}, "invalid encrypt: a bool; use 'auto'"),
        ({"encrypt": "sign", "key_ring": KeyRing({1: A})}, "the key that writes is for something else"),
        ({"key_ring": {1: b"short"}}, "a key of 5 bytes under id 1"),
        ({"compress": "zip"}, "invalid compress: \"zip\"; use 'auto', 'zstd'"),
        ({"dictionaries": [b"words"]}, "invalid dictionary: 5 bytes"),
    ],
)
def test_options_that_do_not_go_together_are_refused_by_name(options: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Framing(**options)


@pytest.mark.parametrize("encrypt", ["auto", "xchacha20-poly1305", "aes-gcm", "sign"])
def test_a_plain_dict_of_keys_does_what_encrypt_says(encrypt: Any) -> None:
    frame = Framing(key_ring={1: A}, encrypt=encrypt).pack(b"key", b"the value")
    assert (b"the value" in frame) == (encrypt == "sign")
    reader = Framing(key_ring=KeyRing({1: A}, algorithm=encrypt))
    told = reader.unpack(b"key", frame)
    assert told is not None
    assert told.value == b"the value"
