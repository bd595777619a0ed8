"""The codecs that come with Samovar."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from samovar._core import JsonText, MessagePack
from samovar._exceptions import CodecError, ConfigError
from samovar.codecs import _classes

if TYPE_CHECKING:
    from samovar.codecs._protocol import Codec

try:
    import orjson as _orjson
except ImportError:
    _orjson = None  # type: ignore[assignment]

#: One for all: it knows the names of fields it has seen.
WIRE = MessagePack(_classes)


class MsgPack:
    """MessagePack, the default: exact and native, and plain values are what any other reader of MessagePack reads.

    Brings back None, bool, int of any size, float, str, bytes, list, tuple, set, frozenset, dict with any key,
    complex, datetime, date, time and timedelta with zone and fold, Decimal, UUID, Enum, dataclasses, named tuples,
    and objects of attrs, pydantic and msgspec, each of its exact type all the way down. A container that occurs twice
    comes back as two. How they are written is in `docs/msgpack.md`.

    Raises:
        CodecError: Naming the path to what has no form: other objects, a container that holds itself or is nested
            deeper than
            128, text with lone surrogates, nan as a key. Reading: bytes that are no such value.
    """

    name = "msgpack"
    id = 3
    authenticated_only = False
    plain_only = False

    # Called without a step of Python between.
    encode = WIRE.encode
    decode = WIRE.decode


class Json:
    """JSON, by orjson where that is installed, else by a writer and reader of our own, for the same values.

    By itself it takes what JSON brings back as it was: None, bool, int of 64 bits, finite float (every bit of it), str,
    list, and dict with str for keys. With a type (`Coder(type=)`, a function's return annotation) it takes what that
    type names too, as far as JSON can bring it back.

    Args:
        orjson: False: not by orjson, though it is installed.

    Raises:
        CodecError: Naming the path to anything else: nothing is written that would be read as something different.
    """

    name = "json"
    id = 4
    authenticated_only = False
    plain_only = True

    def __init__(self, *, orjson: bool = True) -> None:
        native = JsonText(_orjson if orjson else None)
        # Called without a step of Python between.
        self.encode = native.encode
        self.decode = native.decode


#: Functions of the standard library that make values of its own types, and nothing else.
_HARMLESS = {("builtins", name) for name in ("bytearray", "complex", "frozenset", "range", "set", "slice")} | {
    ("collections", "OrderedDict"),
    ("collections", "deque"),
    ("datetime", "date"),
    ("datetime", "datetime"),
    ("datetime", "time"),
    ("datetime", "timedelta"),
    ("datetime", "timezone"),
    ("decimal", "Decimal"),
    ("fractions", "Fraction"),
    ("uuid", "SafeUUID"),
    ("uuid", "UUID"),
    ("zoneinfo", "ZoneInfo"),
}


class Pickle:
    """Python's pickle, protocol 5, for what no other codec takes. Opt-in: whoever can write such bytes runs code here.

    On a remote tier it needs a key ring, whose authentication is checked before a byte is unpickled
    (``authenticated_only``).

    Args:
        allow: Classes and functions that pickles may name, beside plain value types of the standard library; both
            ways. None: any.
            It makes accidents smaller, and is no substitute for authentication.

    Raises:
        CodecError: What cannot be pickled, or names something that is not allowed.
    """

    name = "pickle"
    id = 5
    authenticated_only = True
    plain_only = False

    def __init__(self, allow: Iterable[Any] | None = None) -> None:
        self._allowed: frozenset[tuple[str, str]] | None = None
        if allow is not None:
            self._allowed = frozenset(map(_global_name, allow)) | _HARMLESS

    def encode(self, value: Any, /) -> bytes:
        """Return the value as a pickle."""
        try:
            if self._allowed is None:
                return pickle.dumps(value, protocol=5)
            out = io.BytesIO()
            _AllowedPickler(out, self._allowed).dump(value)
            return out.getvalue()
        except Exception as error:
            raise CodecError(f"value: cannot be pickled: {error}") from error

    def decode(self, data: bytes, /) -> Any:
        """Return the value of a pickle. Only ever of bytes that were authenticated."""
        try:
            if self._allowed is None:
                return pickle.loads(data)
            return _AllowedUnpickler(io.BytesIO(data), self._allowed).load()
        except Exception as error:
            raise CodecError(f"no pickle: {error}") from error


def _global_name(thing: Any) -> tuple[str, str]:
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ConfigError(f"invalid allow: {thing!r}; give classes and functions that a module has")
    return module, name


class _AllowedPickler(pickle.Pickler):
    def __init__(self, out: io.BytesIO, allowed: frozenset[tuple[str, str]]) -> None:
        super().__init__(out, protocol=5)
        self._allowed = allowed

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
            name = (value.__module__, value.__qualname__)
            if name not in self._allowed:
                raise CodecError(f"{'.'.join(map(str, name))} is not in allow=")
        if isinstance(value, ZoneInfo) and value.key:
            # By itself it asks for `getattr`, which may not be had.
            return ZoneInfo, (value.key,)
        return NotImplemented


class _AllowedUnpickler(pickle.Unpickler):
    def __init__(self, data: io.BytesIO, allowed: frozenset[tuple[str, str]]) -> None:
        super().__init__(data)
        self._allowed = allowed

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._allowed:
            raise CodecError(f"{module}.{name} is not in allow=")
        return super().find_class(module, name)


class Raw:
    """Bytes and text as they are, behind one byte that says which: for what is encoded already.

    Raises:
        CodecError: A value that is neither bytes nor str, or text with lone surrogates.
    """

    name = "raw"
    id = 6
    authenticated_only = False
    plain_only = False

    def encode(self, value: Any, /) -> bytes:
        """Return the bytes, or the text's UTF-8."""
        if type(value) is bytes:
            return b"\0" + value
        if type(value) is not str:
            raise CodecError(f"value: object of type {type(value).__qualname__}; raw takes bytes and str")
        try:
            return b"\1" + value.encode()
        except UnicodeEncodeError as error:
            raise CodecError(
                f"value: text with a lone surrogate at {error.start}, for which UTF-8 has no form"
            ) from error

    def decode(self, data: bytes, /) -> Any:
        """Return what was written."""
        match data[:1]:
            case b"\0":
                return bytes(data[1:])
            case b"\1":
                try:
                    return str(data[1:], "utf-8")
                except UnicodeDecodeError as error:
                    raise CodecError(f"raw text that is not UTF-8: {error}") from error
            case _:
                raise CodecError("neither raw bytes nor raw text")


NAMED: dict[str, Codec] = {each.name: each for each in (MsgPack(), Json(), Pickle(), Raw())}
