"""Dictionaries for small values that look alike, by which zstd compresses them well."""

from __future__ import annotations

from collections.abc import Iterable

from samovar import _core
from samovar.codecs._coder import encode


def train_dictionary(values: Iterable[object], size: int = 16384) -> bytes:
    """Return a zstd dictionary for values such as these, for ``Cache(dictionaries=[...])``.

    Args:
        values: Some hundred of them or more; those that are no bytes are written as MessagePack first.
        size: At most so many bytes; a hundredth of all samples is enough.

    Raises:
        ConfigError: There is too little to learn from, or `size` cannot be.
        CodecError: A value has no form.
    """
    samples = [value if isinstance(value, bytes) else encode(value) for value in values]
    return _core._train_dictionary(samples, size)
