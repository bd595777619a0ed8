"""What a codec is, and the names of those that come with Samovar."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from samovar._exceptions import ConfigError

#: The ids of codecs that users bring: one byte in front of every entry, so all who share entries must agree on it.
OWN_IDS = range(128, 256)


@runtime_checkable
class Codec(Protocol):
    """Turns values into bytes and back. Two attributes and two methods; a codec of one's own is a class with these.

    >>> class Hex:
    ...     name, id = "hex", 128
    ...     def encode(self, value: bytes) -> bytes:
    ...         return value.hex().encode()
    ...     def decode(self, data: bytes) -> bytes:
    ...         return bytes.fromhex(data.decode())
    >>> from samovar.codecs import Coder
    >>> Coder(Hex()).decode(b"74656121")
    b'tea!'

    A codec may say more of itself by attributes that default to False: ``authenticated_only``, for bytes that run
    code when they are read, so that a frame has to prove who wrote them; ``plain_only``, if it knows None, bool, int,
    float, str, list and dict alone, so that values are made of these first, by their type.

    Attributes:
        name: What errors and statistics call it.
        id: One byte that says who wrote an entry: 128 to 255, the same in every process that shares entries.
    """

    @property
    def name(self) -> str: ...
    @property
    def id(self) -> int: ...
    def encode(self, value: Any, /) -> bytes:
        """Return the value as bytes; raise anything for a value that has none: it becomes a `CodecError`."""
        ...

    def decode(self, data: bytes, /) -> Any:
        """Return the value of bytes that `encode` wrote, maybe in another version; raise anything for all others."""
        ...


def codec(given: str | Codec) -> Codec:
    """Return the codec of a name (``"msgpack"``, ``"json"``, ``"pickle"``, ``"raw"``), or the codec itself.

    Raises:
        ConfigError: There is none of that name, or it lacks what a codec has.
    """
    if isinstance(given, str):
        from samovar.codecs import _builtin

        if given not in _builtin.NAMED:
            names = ", ".join(repr(name) for name in _builtin.NAMED)
            raise ConfigError(
                f"invalid codec: {given!r}; give one of {names}, or an object with name, id, encode and decode"
            )
        return _builtin.NAMED[given]
    if not isinstance(given, Codec):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f"invalid codec: {given!r}; give a name such as 'msgpack', or an object with name, id, encode and decode"
        )
    if not isinstance(given, _own()) and given.id not in OWN_IDS:
        raise ConfigError(
            f"invalid id of codec {given.name!r}: {given.id!r}; give 128 to 255, the same in every process"
        )
    return given


def _own() -> tuple[type, ...]:
    from samovar.codecs import _builtin

    return tuple(type(each) for each in _builtin.NAMED.values())
