# ruff: noqa: A002 - what a value is, is its type
"""A codec, the type of its values and their bound, as one: what a tier calls."""

from __future__ import annotations

from typing import Any, Literal, TypeVar, overload

from samovar._exceptions import CodecError, ConfigError
from samovar.codecs import _types
from samovar.codecs._protocol import Codec, codec

T = TypeVar("T")


class Coder:
    """Turns the values of one function, or one cache, into bytes and back.

    Args:
        codec: A name, or a codec of one's own.
        type: What every value is; it is resolved once, here. `typing.Any`: anything. Writing a value of another type
            raises; bytes that
            hold one are as good as none. A map is read as the dataclass, NamedTuple, TypedDict, or class of attrs,
            pydantic or msgspec that is asked for.
        max_value_bytes: The most bytes a value may take. None: no bound.
        on_too_large: ``"raise"`` a `CodecError`, or ``"skip"``: `encode` returns None, and nothing is to be stored.

    Raises:
        ConfigError: An option has a value it cannot have.
    """

    __slots__ = ("_codec", "_limit", "_plain", "_skip", "_type")

    def __init__(
        self,
        codec: str | Codec = "msgpack",
        *,
        type: Any = Any,
        max_value_bytes: int | None = None,
        on_too_large: Literal["raise", "skip"] = "raise",
    ) -> None:
        if not _is_bound(max_value_bytes):
            raise ConfigError(
                f"invalid max_value_bytes: {max_value_bytes!r}; give a number of bytes > 0, or None for no bound"
            )
        if on_too_large not in ("raise", "skip"):
            raise ConfigError(f"invalid on_too_large: {on_too_large!r}; give 'raise' or 'skip'")
        self._codec = _named(codec)
        self._plain = bool(getattr(self._codec, "plain_only", False))
        self._type = _types.resolve(type)
        self._limit = max_value_bytes
        self._skip = on_too_large == "skip"

    @property
    def codec(self) -> Codec:
        """The codec."""
        return self._codec

    @property
    def authenticated_only(self) -> bool:
        """True if bytes must not be read before it is certain who wrote them."""
        return bool(getattr(self._codec, "authenticated_only", False))

    def encode(self, value: object) -> bytes | None:
        """Return the value as bytes; None if it is too large and such values are skipped.

        Raises:
            CodecError: It has no form, is not of the type, or is too large. Nothing was stored.
        """
        if self._type is not None:
            try:
                self._type.check(value)
                if self._plain:
                    value = self._type.dump(value)
            except _types.Mismatch as wrong:
                raise CodecError(wrong.shown("value")) from None
        data = self._written(value)
        if self._limit is None or len(data) <= self._limit:
            return data
        if self._skip:
            return None
        raise CodecError(
            f"value: {len(data)} bytes, more than max_value_bytes={self._limit}; store less, or raise the bound"
        )

    @property
    def takes_anything(self) -> bool:
        """True if neither a type nor a bound is asked about."""
        return self._type is None and self._limit is None

    def _write(self, value: object) -> tuple[int, bytes] | None:
        """For a frame: who wrote it, and the bytes. What is bytes or text already needs nobody."""
        data = self.encode(value)
        if data is None:
            return None
        return (data[0] + 1, data[1:]) if self._codec.name == "raw" else (self._codec.id, data)

    def _read(self, serializer: int, data: bytes) -> Any:
        """Of a frame: whoever wrote it, its value is of the type."""
        if serializer == self._codec.id:
            return self.decode(data)
        value = read(serializer, data)
        if self._type is None:
            return value
        try:
            return self._type.load(value)
        except _types.Mismatch as wrong:
            raise CodecError(wrong.shown("value")) from None

    def _written(self, value: object) -> bytes:
        try:
            data = self._codec.encode(value)
        except CodecError:
            raise
        except Exception as error:
            raise CodecError(f"value: codec {self._codec.name!r} cannot write it: {error}") from error
        if not isinstance(data, bytes):  # pyright: ignore[reportUnnecessaryIsInstance] - somebody else's codec
            raise CodecError(f"value: codec {self._codec.name!r} made {data!r:.60} of it, not bytes")
        return data

    def decode(self, data: bytes) -> Any:
        """Return the value that is exactly these bytes.

        Raises:
            CodecError: They are none, or of another type: for a reader, a miss.
        """
        try:
            value = self._codec.decode(data)
            return value if self._type is None else self._type.load(value)
        except CodecError:
            raise
        except _types.Mismatch as wrong:
            raise CodecError(wrong.shown("value")) from None
        except Exception as error:
            raise CodecError(f"codec {self._codec.name!r} cannot read it: {error}") from error


def read(serializer: int, data: bytes) -> Any:
    """The value of a frame that another codec of ours wrote, and that runs no code."""
    if serializer == 1:
        return data
    if serializer == 2:
        return data.decode()
    named = {3: "msgpack", 4: "json"}.get(serializer)
    if named is None:
        raise CodecError(f"serializer {serializer} is not one that this cache reads")
    return _named(named).decode(data)


def _is_bound(given: Any) -> bool:
    return given is None or (isinstance(given, int) and given > 0)


_named = codec
_default = Coder()


def encode(value: object, codec: str | Codec = "msgpack", *, type: Any = Any) -> bytes:
    """Return a value as bytes.

    Args:
        value: Whatever the codec takes.
        codec: A name, or a codec of one's own.
        type: What it has to be. `typing.Any`: anything.

    Raises:
        CodecError: It has no form, or is not of the type; the message names the path to the part to blame.
    """
    coder = _default if codec == "msgpack" and type is Any else Coder(codec, type=type)
    data = coder.encode(value)
    assert data is not None, "nothing is skipped without a bound"
    return data


@overload
def decode(data: bytes, type: type[T], codec: str | Codec = "msgpack") -> T: ...
@overload
def decode(data: bytes, type: Any = Any, codec: str | Codec = "msgpack") -> Any: ...
def decode(data: bytes, type: Any = Any, codec: str | Codec = "msgpack") -> Any:
    """Return the value that is exactly these bytes.

    Args:
        data: What `encode` returned, maybe in another process, language or version.
        type: What it has to be; a map is read as a class that is asked for. `typing.Any`: anything.
        codec: A name, or a codec of one's own.

    Raises:
        CodecError: They are none, or of another type.
    """
    coder = _default if codec == "msgpack" and type is Any else Coder(codec, type=type)
    return coder.decode(data)
