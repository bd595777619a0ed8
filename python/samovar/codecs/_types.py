# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
"""What a type says of a value: whether it is one, how a plain value becomes one, and what JSON can keep of it.

A type is resolved once, into a tree of small objects with three methods. `check` raises `Mismatch` unless a value is
of the type as it stands. `load` makes one of what a codec read: the value itself, if it is one, else of plain values,
a map for an object, text for a date. `dump` is the way back, for a codec that knows plain values alone.
"""

from __future__ import annotations

import base64
import binascii
import collections.abc
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NoReturn, Union
from uuid import UUID

from samovar._exceptions import CodecError, ConfigError
from samovar.codecs import _classes


class Mismatch(Exception):  # noqa: N818 - says what happened
    """A value is not of its type; the path to the part is noted on the way out."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.path: list[str] = []

    def at(self, step: str) -> Mismatch:
        """Return this, seen from the container."""
        self.path.append(step)
        return self

    def shown(self, name: str) -> str:
        """Return what to say of a value of that name."""
        return f"{name}{''.join(reversed(self.path))}: {self}"


def _refuse(value: object, expected: str) -> NoReturn:
    raise Mismatch(f"object of type {_classes.name_of(type(value))}, expected {expected}")


def _lose(value: object) -> NoReturn:
    raise Mismatch(f"object of type {_classes.name_of(type(value))}, which JSON brings back as another; use msgpack")


class Type:
    """Anything, by default."""

    name = "anything"

    def check(self, value: Any) -> None:
        """Raise `Mismatch` unless the value is of this type."""

    def load(self, value: Any) -> Any:
        """Return a value of this type, made of what was read."""
        try:
            self.check(value)
        except Mismatch:
            return self.make(value)
        return value

    def make(self, value: Any) -> Any:
        """Return a value of this type, made of plain ones."""
        self.check(value)
        return value

    def dump(self, value: Any) -> Any:
        """Return plain values that `load` makes this value of."""
        return value


ANYTHING = Type()


class Plain(Type):
    """A class of which an instance is one as it is."""

    def __init__(self, cls: type, *also: type, but: tuple[type, ...] = ()) -> None:
        self.name = _classes.name_of(cls).removeprefix("builtins.")
        self._classes = (cls, *also)
        self._but = but

    def check(self, value: Any) -> None:
        if not isinstance(value, self._classes) or isinstance(value, self._but):
            _refuse(value, self.name)


class Spelled(Plain):
    """A class whose instances can be text."""

    def __init__(
        self, cls: type, read: Callable[[str], Any], write: Callable[[Any], str], *, but: tuple[type, ...] = ()
    ) -> None:
        super().__init__(cls, but=but)
        self._read, self._write = read, write

    def make(self, value: Any) -> Any:
        if type(value) is not str:
            _refuse(value, self.name)
        try:
            return self._read(value)
        except (ValueError, ArithmeticError) as error:
            raise Mismatch(f"text that is no {self.name}: {error}") from None

    def dump(self, value: Any) -> Any:
        text = self._write(value)
        if not _same(self._read(text), value):
            raise Mismatch(f"a {self.name} of which text keeps less than there is; use msgpack")
        return text


def _same(one: Any, other: Any) -> bool:
    """True for equal values of one type; of moments, with one zone and fold too."""
    if type(one) is not type(other) or one != other:
        return False
    if isinstance(one, datetime | time):
        zones = one.tzinfo, other.tzinfo
        return one.fold == other.fold and type(zones[0]) is type(zones[1]) and repr(zones[0]) == repr(zones[1])
    return True


def _delta_text(value: timedelta) -> str:
    return f"P{value.days}DT{value.seconds}.{value.microseconds:06}S"


def _delta_read(text: str) -> timedelta:
    days, _, rest = text.removeprefix("P").removesuffix("S").partition("DT")
    seconds, _, micros = rest.partition(".")
    return timedelta(int(days), int(seconds), int(micros))


def _complex_read(text: str) -> complex:
    real, imaginary = map(float, text.split())
    return complex(real, imaginary)


def _bytes_read(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from None


_SCALARS: dict[Any, Type] = {
    Any: ANYTHING,
    object: ANYTHING,
    bool: Plain(bool),
    int: Plain(int, but=(bool,)),
    # A whole number is a float to every type checker (PEP 484), and stays what it is.
    float: Plain(float, int, but=(bool,)),
    str: Plain(str),
    None: Plain(type(None)),
    type(None): Plain(type(None)),
    complex: Spelled(complex, _complex_read, lambda value: f"{value.real!r} {value.imag!r}"),
    bytes: Spelled(bytes, _bytes_read, lambda value: base64.b64encode(value).decode()),
    datetime: Spelled(datetime, datetime.fromisoformat, datetime.isoformat),
    date: Spelled(date, date.fromisoformat, date.isoformat, but=(datetime,)),
    time: Spelled(time, time.fromisoformat, time.isoformat),
    timedelta: Spelled(timedelta, _delta_read, _delta_text),
    Decimal: Spelled(Decimal, Decimal, str),
    UUID: Spelled(UUID, UUID, str),
}


class Member(Type):
    """An enumeration. Plain, a member is its name; flags without one are their number."""

    def __init__(self, cls: enum.EnumMeta) -> None:
        self._cls = _classes.register(cls)
        self.name = _classes.name_of(cls)

    def check(self, value: Any) -> None:
        if not isinstance(value, self._cls):
            _refuse(value, self.name)

    def make(self, value: Any) -> Any:
        try:
            if type(value) is str:
                return _classes.named_member(self._cls, value)
            if type(value) is int and issubclass(self._cls, enum.Flag):
                return self._cls(value)
        except (CodecError, ValueError) as error:
            raise Mismatch(str(error)) from None
        _refuse(value, self.name)

    def dump(self, value: Any) -> Any:
        return value._name_ if value._name_ in self._cls.__members__ else value._value_


class Literally(Type):
    """One of a few values."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.name = f"one of {', '.join(map(repr, values))}"
        self._values = values

    def check(self, value: Any) -> None:
        if not any(type(value) is type(one) and value == one for one in self._values):
            raise Mismatch(f"{value!r:.60}, expected {self.name}")

    def make(self, value: Any) -> Any:
        for one in self._values:
            if isinstance(one, enum.Enum) and value == one._name_:
                return one
        self.check(value)
        return value

    def dump(self, value: Any) -> Any:
        if not isinstance(value, enum.Enum):
            return value
        plain = value._name_
        if self.load(plain) is not value:
            raise Mismatch(f"{self.name}: plain values cannot tell which; use msgpack")
        return plain


class Items(Type):
    """A container of members of one type."""

    def __init__(self, cls: type, made: type | None, item: Type) -> None:
        self.name = cls.__name__
        self._cls: Any = cls
        self._made, self._item = made, item

    def check(self, value: Any) -> None:
        if not self._is_one(value):
            _refuse(value, self.name)
        if self._item is not ANYTHING:
            for at, item in enumerate(value):
                try:
                    self._item.check(item)
                except Mismatch as wrong:
                    raise wrong.at(f"[{at}]" if self._ordered(value) else " (a member)") from None

    def _is_one(self, value: Any) -> bool:
        return isinstance(value, self._cls) and not isinstance(value, str | bytes)

    @staticmethod
    def _ordered(value: Any) -> bool:
        return isinstance(value, list | tuple)

    def make(self, value: Any) -> Any:
        if type(value) not in (list, tuple) and not self._is_one(value):
            _refuse(value, self.name)
        items = _loaded(value, self._item)
        made = self._made or (type(value) if isinstance(value, self._cls) else list)
        try:
            return made(items)
        except TypeError as error:
            raise Mismatch(str(error)) from None

    def dump(self, value: Any) -> Any:
        items: Iterable[Any] = value
        if type(value) is not (self._made or list):
            _lose(value)
        return [self._item.dump(item) for item in items]


def _loaded(values: Iterable[Any], item: Type) -> list[Any]:
    made: list[Any] = []
    for at, value in enumerate(values):
        try:
            made.append(item.load(value))
        except Mismatch as wrong:
            raise wrong.at(f"[{at}]") from None
    return made


class Row(Type):
    """A tuple with a type for each place."""

    name = "tuple"

    def __init__(self, items: tuple[Type, ...]) -> None:
        self._items = items

    def _length(self, value: Any) -> None:
        if len(value) != len(self._items):
            raise Mismatch(f"a tuple of {len(value)}, expected one of {len(self._items)}")

    def check(self, value: Any) -> None:
        if not isinstance(value, tuple):
            _refuse(value, self.name)
        self._length(value)
        for at, (item, of) in enumerate(zip(value, self._items, strict=True)):
            try:
                of.check(item)
            except Mismatch as wrong:
                raise wrong.at(f"[{at}]") from None

    def make(self, value: Any) -> Any:
        if type(value) not in (list, tuple):
            _refuse(value, self.name)
        self._length(value)
        made: list[Any] = []
        for at, (item, of) in enumerate(zip(value, self._items, strict=True)):
            try:
                made.append(of.load(item))
            except Mismatch as wrong:
                raise wrong.at(f"[{at}]") from None
        return tuple(made)

    def dump(self, value: Any) -> Any:
        return [of.dump(item) for item, of in zip(value, self._items, strict=True)]


class Pairs(Type):
    """A mapping. Plain, one whose keys are not text is a list of pairs."""

    def __init__(self, cls: Any, key: Type, value: Type) -> None:
        self.name = cls.__name__
        self._cls, self._key, self._value = cls, key, value
        self._text = key is _SCALARS[str]

    def check(self, value: Any) -> None:
        items: Iterable[tuple[Any, Any]] = value.items() if isinstance(value, self._cls) else _refuse(value, self.name)
        for key, item in items:
            try:
                self._key.check(key)
            except Mismatch as wrong:
                raise wrong.at(" (a key)") from None
            try:
                self._value.check(item)
            except Mismatch as wrong:
                raise wrong.at(_step(key)) from None

    def make(self, value: Any) -> Any:
        if (
            type(value) is list
            and not self._text
            and all(type(pair) in (list, tuple) and len(pair) == 2 for pair in value)
        ):
            pairs = value
        elif type(value) is dict:
            pairs = list(value.items())
        else:
            _refuse(value, self.name)
        made: dict[Any, Any] = {}
        for key, item in pairs:
            try:
                loaded = self._key.load(key)
                made[loaded] = None
            except Mismatch as wrong:
                raise wrong.at(" (a key)") from None
            except TypeError as error:
                raise Mismatch(str(error)) from None
            try:
                made[loaded] = self._value.load(item)
            except Mismatch as wrong:
                raise wrong.at(_step(key)) from None
        return made

    def dump(self, value: Any) -> Any:
        if type(value) is not dict:
            _lose(value)
        if self._text or (self._key is ANYTHING and all(type(key) is str for key in value)):
            return {key: self._value.dump(item) for key, item in value.items()}
        return [[self._key.dump(key), self._value.dump(item)] for key, item in value.items()]


def _step(key: object) -> str:
    return f"[{key!r:.60}]" if type(key) in (str, int) else f"[<{type(key).__qualname__}>]"


class Either(Type):
    """One of several types: the first that a value is as it stands, else the first that can be made of it."""

    def __init__(self, options: tuple[Type, ...]) -> None:
        self.name = " or ".join(option.name for option in options)
        self._options = options

    def _of(self, value: Any) -> Type:
        deepest: Mismatch | None = None
        for option in self._options:
            try:
                option.check(value)
            except Mismatch as wrong:
                if deepest is None or len(wrong.path) > len(deepest.path):
                    deepest = wrong
            else:
                return option
        if deepest is not None and deepest.path:
            raise deepest
        _refuse(value, self.name)

    def check(self, value: Any) -> None:
        self._of(value)

    def make(self, value: Any) -> Any:
        for option in self._options:
            try:
                return option.make(value)
            except Mismatch:
                continue
        _refuse(value, self.name)

    def dump(self, value: Any) -> Any:
        plain = self._of(value).dump(value)
        if not _same(self.load(plain), value):
            raise Mismatch(f"{self.name}: plain values cannot tell which; use msgpack")
        return plain


class Named(Type):
    """Values with fields of their own types, resolved when the first one is met: they may name the class itself."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls
        self.name = _classes.name_of(cls)

    @functools.cached_property
    def fields(self) -> Mapping[str, Type]:
        """The type of each field."""
        return {name: of(hint) for name, hint in hints_of(self._cls).items()}

    def field(self, name: str) -> Type:
        """Return the type of one field."""
        return self.fields.get(name, ANYTHING)


class Record(Named):
    """A class whose instances travel: see `samovar.codecs._classes`."""

    def __init__(self, cls: type, shape: _classes.Shape) -> None:
        super().__init__(_classes.register(cls))
        self._shape = shape

    def check(self, value: Any) -> None:
        if not isinstance(value, self._cls):
            _refuse(value, self.name)
        for name in self._shape.names:
            try:
                self.field(name).check(getattr(value, name))
            except AttributeError:
                raise Mismatch(f"an object without its {name!r}") from None
            except Mismatch as wrong:
                raise wrong.at(f".{name}") from None

    def make(self, value: Any) -> Any:
        if type(value) is not dict:
            _refuse(value, self.name)
        if unknown := [name for name in value if name not in self._shape.names]:
            raise Mismatch(f"{unknown[0]!r:.60} is no field of {self.name}")
        fields: dict[str, Any] = {}
        for name, item in value.items():
            try:
                fields[name] = self.field(name).load(item)
            except Mismatch as wrong:
                raise wrong.at(f".{name}") from None
        if len(fields) == len(self._shape.names):
            return self._shape.make(fields, None)
        try:
            # What is missing has a default, or the class says what it has not.
            return self._cls(**fields)
        except Exception as error:
            raise Mismatch(f"cannot be made of {', '.join(fields)}: {error}") from None

    def dump(self, value: Any) -> Any:
        if type(value) is not self._cls:
            _lose(value)
        return {name: self.field(name).dump(item) for name, item in self._shape.take(value).items()}


class Modelled(Record):
    """A class of pydantic or msgspec, which makes instances of maps by its own rules."""

    def __init__(self, cls: type, shape: _classes.Shape, validate: Callable[[Any], Any]) -> None:
        super().__init__(cls, shape)
        self._validate = validate

    def make(self, value: Any) -> Any:
        if type(value) is not dict:
            _refuse(value, self.name)
        try:
            return self._validate({name: self._loaded(name, item) for name, item in value.items()})
        except Exception as error:
            text = str(error).splitlines()
            raise Mismatch(f"no {self.name}: {'; '.join(line.strip() for line in text[:3])}") from None

    def _loaded(self, name: Any, item: Any) -> Any:
        """Return a field as it was written, where the library would make something else of its text, such as a zone."""
        try:
            return self.field(name).load(item)
        except Mismatch:
            return item

    def dump(self, value: Any) -> Any:
        if type(value) is not self._cls:
            _lose(value)
        given: Iterable[str] = getattr(value, "__pydantic_fields_set__", self._shape.names)
        fields = self._shape.take(value) | (getattr(value, "__pydantic_extra__", None) or {})
        plain = {name: self.field(name).dump(item) for name, item in fields.items() if name in given}
        back = self.make(plain)
        if not _same(back, value) or self._shape.rest(back) != self._shape.rest(value):
            raise Mismatch(f"a {self.name} that JSON would not bring back; use msgpack")
        return plain


class Keyed(Named):
    """A TypedDict."""

    def check(self, value: Any) -> None:
        self._each(value, lambda of, item: of.check(item))

    def make(self, value: Any) -> Any:
        return self._each(value, lambda of, item: of.load(item))

    def dump(self, value: Any) -> Any:
        return {name: self.field(name).dump(item) for name, item in value.items()}

    def _each(self, value: Any, each: Callable[[Type, Any], Any]) -> dict[str, Any]:
        if type(value) is not dict:
            _refuse(value, self.name)
        if missing := [name for name in self._cls.__required_keys__ if name not in value]:
            raise Mismatch(f"a {self.name} without {missing[0]!r}")
        done: dict[str, Any] = {}
        for name, item in value.items():
            if name not in self.fields:
                raise Mismatch(f"{name!r:.60} is no key of {self.name}")
            try:
                done[name] = each(self.fields[name], item)
            except Mismatch as wrong:
                raise wrong.at(f"[{name!r}]") from None
        return done


_LISTS: dict[Any, tuple[type, type | None]] = {
    list: (list, list),
    set: (set, set),
    frozenset: (frozenset, frozenset),
    collections.abc.Set: (collections.abc.Set, None),
    collections.abc.MutableSet: (collections.abc.MutableSet, set),
    collections.abc.Sequence: (collections.abc.Sequence, None),
    collections.abc.MutableSequence: (collections.abc.MutableSequence, list),
    collections.abc.Collection: (collections.abc.Collection, None),
    collections.abc.Iterable: (collections.abc.Iterable, None),
}
_MAPS: dict[Any, Any] = {
    dict: dict,
    collections.abc.Mapping: collections.abc.Mapping,
    collections.abc.MutableMapping: collections.abc.MutableMapping,
}


def of(hint: Any) -> Type:
    """Return what a type hint says; anything, for what says nothing of values."""
    hint = _bare(hint)
    if isinstance(hint, collections.abc.Hashable) and hint in _SCALARS:
        return _SCALARS[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return Literally(arguments)
    if origin in (Union, types.UnionType):
        return Either(tuple(of(one) for one in arguments))
    cls = origin or hint
    if cls is tuple:
        return _tuple_of(arguments)
    if not isinstance(cls, type):
        return ANYTHING
    if cls in _LISTS:
        return Items(*_LISTS[cls], of(arguments[0]) if arguments else ANYTHING)
    if cls in _MAPS:
        key, value = arguments or (Any, Any)
        return Pairs(_MAPS[cls], of(key), of(value))
    return _of_class(cls)


def _bare(hint: Any) -> Any:
    """Return a hint without what is wrapped around it."""
    while True:
        if typing.get_origin(hint) in _WRAPPERS:
            hint = typing.get_args(hint)[0]
        elif hasattr(hint, "__supertype__"):
            hint = hint.__supertype__
        elif hasattr(hint, "__value__") and not isinstance(hint, type):
            hint = hint.__value__
        else:
            return hint


_WRAPPERS = (typing.Annotated, typing.Final, typing.Required, typing.NotRequired)


def _tuple_of(arguments: tuple[Any, ...]) -> Type:
    if not arguments:
        return Items(tuple, tuple, ANYTHING)
    if len(arguments) == 2 and arguments[1] is ...:
        return Items(tuple, tuple, of(arguments[0]))
    return Row(tuple(of(one) for one in arguments if one != ()))


def _of_class(cls: type) -> Type:
    if isinstance(cls, enum.EnumMeta):
        return Member(cls)
    if typing.is_typeddict(cls):
        return Keyed(cls)
    shape = _classes.shape_of(cls)
    if shape is None:
        protocol = getattr(cls, "_is_protocol", False)
        return ANYTHING if protocol else Plain(cls)
    if shape.kind == "pydantic":
        return Modelled(cls, shape, _validator(cls))
    if shape.kind == "msgspec":
        convert = sys.modules["msgspec"].convert
        return Modelled(cls, shape, lambda value: convert(value, cls))
    return Record(cls, shape)


def _validator(cls: Any) -> Callable[[Any], Any]:
    """Return what makes a model of pydantic of a map, whose keys are names of its fields or their aliases."""
    if "by_name" in inspect.signature(cls.model_validate).parameters:
        return functools.partial(cls.model_validate, by_name=True, by_alias=True)
    validate: Callable[[Any], Any] = cls.model_validate  # before pydantic 2.11
    return validate


def hints_of(cls: Any) -> dict[str, Any]:
    """Return the hints of a class's fields; none, if one of them names what is not there."""
    try:
        return typing.get_type_hints(cls)
    except (NameError, TypeError, AttributeError):
        return {}


def resolve(given: Any) -> Type | None:
    """Return what a ``type=`` says; None if that is nothing.

    Raises:
        ConfigError: It is no type.
    """
    if isinstance(given, str):
        raise ConfigError(f"invalid type: {given!r}; give the type itself, not its name")
    found = of(given)
    if found is ANYTHING and isinstance(given, int | float | bytes | list | dict | set | tuple):
        raise ConfigError(f"invalid type: {given!r:.60}; give a class or a type hint such as list[int]")
    return None if found is ANYTHING else found


def returned_by(function: Callable[..., Any]) -> Any:
    """Return what a function says it returns; `typing.Any`, if it says nothing, or names what is not there."""
    function = inspect.unwrap(function)
    try:
        return typing.get_type_hints(function, include_extras=True).get("return", Any)
    except (NameError, TypeError, AttributeError):
        return Any
