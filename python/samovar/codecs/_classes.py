# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
"""Classes whose instances can travel: how an instance is taken apart, and made again of its parts.

A class is made only if this process knows it: its own encoder has written one, a ``type=`` names it, or `register` was
called. A name in some bytes imports nothing, finds nothing in a module, and calls no constructor of an unknown class.
Instances are made without `__init__`, as copies are: what was written was complete.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakValueDictionary

from samovar._exceptions import CodecError, ConfigError

C = TypeVar("C", bound=type)

#: What a subclass of these holds is not in its fields alone.
_BUILTIN = (dict, list, set, frozenset, tuple, str, bytes, bytearray, int, float, complex, BaseException, type)


@dataclasses.dataclass(frozen=True, slots=True)
class Shape:
    """How instances of one class are taken apart and made.

    Attributes:
        kind: ``"dataclass"``, ``"namedtuple"``, ``"attrs"``, ``"pydantic"`` or ``"msgspec"``.
        names: The names of its fields, in order.
        take: Returns an instance's fields, by name.
        rest: Returns what its class keeps beside them, or None.
        make: Returns an instance of fields, which are complete, and rest.
    """

    kind: str
    names: tuple[str, ...]
    take: Callable[[Any], dict[str, Any]]
    rest: Callable[[Any], object]
    make: Callable[[dict[str, Any], Any], Any]


_shapes: WeakKeyDictionary[type, Shape | None] = WeakKeyDictionary()
_known: WeakValueDictionary[str, type] = WeakValueDictionary()


def name_of(cls: type) -> str:
    """Return the name under which instances of a class travel."""
    return f"{cls.__module__}.{cls.__qualname__}"


def register(cls: C) -> C:
    """Let this process read instances of a class before it has written one. Returns the class: it is a decorator too.

    For a class that no function is annotated with and no ``type=`` names. Enumerations, dataclasses, named tuples,
    and classes of attrs, pydantic and msgspec.

    Raises:
        ConfigError: Instances of such a class do not travel.
    """
    if not isinstance(cls, enum.EnumMeta) and shape_of(cls) is None:
        raise ConfigError(
            f"invalid class for register: {cls!r}; give an Enum, a dataclass, a NamedTuple, or a class of attrs, "
            "pydantic or msgspec"
        )
    _known[name_of(cls)] = cls
    return cls


def shape_of(cls: type) -> Shape | None:
    """Return how instances of a class are taken apart; None if nobody knows."""
    try:
        return _shapes[cls]
    except KeyError:
        found = _shapes[cls] = _find_shape(cls)
        return found


def record_parts(value: Any) -> tuple[str, dict[str, Any], object] | None:
    """Return an object's class, its fields and the rest, for the encoder; None if its class has no shape."""
    cls = type(value)
    shape = shape_of(cls)
    if shape is None:
        return None
    _known[name_of(cls)] = cls
    return name_of(cls), shape.take(value), shape.rest(value)


def record(name: str, fields: dict[str, Any], rest: Any = None) -> Any:
    """Return the object of a class's name, its fields and the rest, for the decoder."""
    cls = _known_class(name)
    shape = shape_of(cls)
    if shape is None:
        raise CodecError(f"{name} is no class with fields here")
    if fields.keys() != set(shape.names):
        raise CodecError(
            f"{name} has other fields here: {', '.join(shape.names)}; written with {', '.join(map(str, fields))}"
        )
    return shape.make(fields, rest)


def member_parts(value: enum.Enum) -> tuple[str, str] | tuple[str, None, object]:
    """Return the class of a member and its name, or None and its value, for the encoder."""
    cls = type(value)
    _known[name_of(cls)] = cls
    name = value._name_
    if name in cls.__members__:
        return name_of(cls), name
    return name_of(cls), None, value._value_


def member(name: str, of: str | None, value: object = None) -> enum.Enum:
    """Return the member of a class's name that has this name, or this value, for the decoder."""
    cls = _known_class(name)
    if not isinstance(cls, enum.EnumMeta):
        raise CodecError(f"{name} is no enumeration here")
    if of is not None:
        return named_member(cls, of)
    if not issubclass(cls, enum.Flag) or type(value) is not int:
        raise CodecError(f"a member of {name} without a name")
    return cls(value)


def named_member(cls: enum.EnumMeta, name: str) -> enum.Enum:
    """Return a class's member of that name."""
    found = cls.__members__.get(name)
    if not isinstance(found, enum.Enum):
        raise CodecError(f"{name_of(cls)} has no member {name!r} here")
    return found


def _known_class(name: str) -> type:
    cls = _known.get(name)
    if cls is None:
        raise CodecError(
            f"{name} is not known in this process, and nothing is imported for bytes; give it as type=, annotate what "
            "the function returns, or call samovar.codecs.register"
        )
    return cls


def _find_shape(cls: type) -> Shape | None:
    for library, base, make in (("pydantic", "BaseModel", _pydantic), ("msgspec", "Struct", _msgspec)):
        # Whoever has such a class has imported its library.
        if (module := sys.modules.get(library)) and issubclass(cls, getattr(module, base, ())):
            return make(cls)
    if issubclass(cls, tuple):
        return _namedtuple(cls)
    if issubclass(cls, _BUILTIN):
        return None
    if dataclasses.is_dataclass(cls):
        names = tuple(field.name for field in dataclasses.fields(cls))
        return Shape("dataclass", names, functools.partial(_attributes, cls, names), _nothing, _maker(cls, {}))
    if (attributes := getattr(cls, "__attrs_attrs__", None)) is not None:
        names = tuple(attribute.name for attribute in attributes)
        return Shape(
            "attrs", names, functools.partial(_attributes, cls, names), _nothing, _maker(cls, _attrs_extra(cls))
        )
    return None


def _nothing(_: object) -> None:
    return None


def _attributes(cls: type, names: tuple[str, ...], value: Any) -> dict[str, Any]:
    fields = {name: getattr(value, name) for name in names}
    for name in getattr(value, "__dict__", ()):
        if name not in fields and not _is_derived(cls, name):
            raise CodecError(f"attribute {name!r} is no field of {name_of(cls)}, and would be lost; make it one")
    return fields


def _is_derived(cls: type, name: str) -> bool:
    """True for what an instance works out again when it is asked."""
    if name in ("__orig_class__", "_attrs_cached_hash"):
        return True
    return isinstance(inspect.getattr_static(cls, name, None), functools.cached_property)


def _maker(cls: type, extra: Mapping[str, object]) -> Callable[[dict[str, Any], Any], Any]:
    def make(fields: dict[str, Any], rest: object) -> Any:
        if rest is not None:
            raise CodecError(f"{name_of(cls)} keeps nothing beside its fields here")
        made: Any = object.__new__(cls)
        for name, value in (*fields.items(), *extra.items()):
            # Past `__setattr__`, which a frozen class has for others.
            object.__setattr__(made, name, value)
        return made

    return make


def _attrs_extra(cls: type) -> dict[str, object]:
    """Return what a class that keeps its hash asks for before there is one."""
    props = getattr(cls, "__attrs_props__", None)
    hashability = getattr(getattr(props, "hashability", None), "name", "")
    return {"_attrs_cached_hash": None} if hashability == "HASHABLE_CACHED" else {}


def _namedtuple(cls: type) -> Shape | None:
    names = getattr(cls, "_fields", None)
    if not isinstance(names, tuple) or not all(isinstance(name, str) for name in names):
        return None

    def take(value: Any) -> dict[str, Any]:
        if tuple.__len__(value) != len(names):
            raise CodecError(f"a {name_of(cls)} of {tuple.__len__(value)} values instead of {len(names)}")
        if getattr(value, "__dict__", None):
            raise CodecError(f"a {name_of(cls)} with attributes beside its fields, which would be lost")
        return dict(zip(names, tuple.__iter__(value), strict=True))

    def make(fields: dict[str, Any], rest: object) -> Any:
        if rest is not None:
            raise CodecError(f"{name_of(cls)} keeps nothing beside its fields here")
        return tuple.__new__(cls, [fields[name] for name in names])

    return Shape("namedtuple", names, take, _nothing, make)


def _msgspec(cls: Any) -> Shape:
    names: tuple[str, ...] = cls.__struct_fields__

    def make(fields: dict[str, Any], rest: object) -> Any:
        if rest is not None:
            raise CodecError(f"{name_of(cls)} keeps nothing beside its fields here")
        # A Struct has no other way to be made.
        return cls(**fields)

    return Shape("msgspec", names, functools.partial(_attributes, cls, names), _nothing, make)


def _pydantic(cls: Any) -> Shape:
    names = tuple(cls.__pydantic_fields__)

    def take(value: Any) -> dict[str, Any]:
        own = value.__dict__
        for name in own:
            if name not in cls.__pydantic_fields__ and not _is_derived(cls, name):
                raise CodecError(f"attribute {name!r} is no field of {name_of(cls)}, and would be lost; make it one")
        return {name: own[name] for name in names}

    def rest(value: Any) -> object:
        kept: dict[str, object] = {}
        if value.__pydantic_fields_set__ != set(names):
            kept["set"] = sorted(value.__pydantic_fields_set__)
        if value.__pydantic_extra__ is not None:
            kept["extra"] = value.__pydantic_extra__
        if value.__pydantic_private__ is not None:
            kept["private"] = value.__pydantic_private__
        return kept or None

    def make(fields: dict[str, Any], rest: object) -> Any:
        kept: Mapping[str, Any] = rest if isinstance(rest, dict) else {}
        if not all(isinstance(kept.get(name, {}), dict) for name in ("extra", "private")):
            raise CodecError(f"{name_of(cls)} keeps other things beside its fields here")
        made = object.__new__(cls)
        object.__setattr__(made, "__dict__", fields)
        object.__setattr__(made, "__pydantic_fields_set__", set(kept.get("set", names)))
        object.__setattr__(made, "__pydantic_extra__", kept.get("extra"))
        object.__setattr__(made, "__pydantic_private__", kept.get("private"))
        return made

    return Shape("pydantic", names, take, rest, make)
