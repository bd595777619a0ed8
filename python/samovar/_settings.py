"""Settings as data: the tables of a file, the variables of an environment or plain dicts, read into caches' options.

Everything is checked here, and nothing is applied: that is the manager's. An error says where its cause is, as the path
of a key in its file or the name of a variable, then the value and the cure.
"""

from __future__ import annotations

import difflib
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from samovar._cache_options import OPTIONS as CACHE_OPTIONS
from samovar._cache_options import check_option
from samovar._core import Adaptive
from samovar._exceptions import ConfigError
from samovar._options import Memory, at, check_background, refuse
from samovar._policy import GUARDS, Policy, Rule
from samovar._policy import OPTIONS as POLICY_OPTIONS

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Mapping

MEMORY_OPTIONS = ("max_entries", "max_bytes", "eviction", "max_missing", "missing_eviction")
PREFIX = "SAMOVAR_"
#: What a variable can say of a cache, the longest first: SOFT_TIMEOUT is not the TIMEOUT of a cache called "soft".
SINGLE = sorted([*POLICY_OPTIONS, *MEMORY_OPTIONS, "namespace", "url"], key=len, reverse=True)


class Settings(NamedTuple):
    """What was said, checked option by option: what runs behind, the common policy, the options of each cache."""

    background: int | None
    policy: Policy | None
    caches: dict[str, dict[str, Any]]
    place: Place


class Place:
    """Where a value stands: a path of keys in a source, or the variable that says it."""

    def __init__(
        self, source: str, path: tuple[str | int, ...] = (), variables: Mapping[Any, str] | None = None
    ) -> None:
        self.source = source
        self.path = path
        self.variables = variables or {}

    def __truediv__(self, key: str | int) -> Place:
        return Place(self.source, (*self.path, key), self.variables)

    def __str__(self) -> str:
        if self.path in self.variables:
            return self.variables[self.path]
        inside = [name for path, name in self.variables.items() if self.path and path[: len(self.path)] == self.path]
        said = f"{self.key} ({', '.join(inside)})" if inside else self.key
        return f"{self.source}: {said}" if said else self.source

    @property
    def key(self) -> str:
        """The path as TOML writes it: ``caches.sessions.policy``."""
        parts = (f"[{part}]" if isinstance(part, int) else f".{toml_key(part)}" for part in self.path)
        return "".join(parts).removeprefix(".")


def toml_key(name: str) -> str:
    """A key as TOML writes it, in quotes where it needs them."""
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else f'"{name}"'


# --- Sources ----------------------------------------------------------------------------------------------------------


def from_toml(path: str | os.PathLike[str]) -> Settings:
    """The settings of a file."""
    return read(load(path), Place(str(path)))


def from_env(environ: Mapping[str, str]) -> Settings:
    """The settings of variables, over those of the file that ``SAMOVAR_TOML`` names."""
    given = {name: text for name, text in sorted(environ.items()) if name.startswith(PREFIX)}
    file = given.pop(f"{PREFIX}TOML", None)
    if file is None:
        tables, declared, source = dict[str, Any](), None, "environment"
    else:
        with at(f"{PREFIX}TOML"):
            tables, source = load(file), file
        declared = {"default", *(as_table(tables.get("caches")) or {})}
    variables: dict[tuple[str, ...], str] = {}
    for name, text in given.items():
        path = meaning(name, declared)
        variables[path] = name
        put(tables, path, value_of(text))
    return read(tables, Place(source, variables=variables))


def load(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a file.

    Raises:
        ConfigError: It cannot be read, or is no TOML.
    """
    import os
    import tomllib

    try:
        with open(os.fspath(path), "rb") as file:
            return tomllib.load(file)
    except TypeError as error:
        raise refuse("settings file", path, "give the path of a TOML file") from error
    except (OSError, ValueError) as error:
        cure = "correct it" if isinstance(error, ValueError) else "give a file that can be read"
        raise refuse("settings file", str(path), f"{cure}: {error}") from error


def value_of(text: str) -> Any:
    """A variable's value: what TOML makes of the text, such as a number or ``true``, and else the text itself."""
    import tomllib

    try:
        read = tomllib.loads(f"value = {text.lower() if text.lower() in ('true', 'false') else text}")
    except tomllib.TOMLDecodeError:
        return text
    return read["value"] if len(read) == 1 else text


def put(tables: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    """Put a value into nested tables. What is no table stays, for `read` to complain about."""
    *outer, last = path
    for part in outer:
        inside = as_table(tables.setdefault(part, {}))
        if inside is None:
            return
        tables = inside
    tables[last] = value


# --- Variables --------------------------------------------------------------------------------------------------------


def meaning(variable: str, declared: Iterable[str] | None) -> tuple[str, ...]:
    """The path of keys that a variable stands for. Without a file any cache may be meant, else those it declares.

    Raises:
        ConfigError: Nothing is called so, or several things are.
    """
    rest = variable.removeprefix(PREFIX)
    readings = list(readings_of(rest, declared))
    if declared is not None and len(readings) > 1:
        keys = " or ".join(Place("", path).key for path in readings)
        raise ConfigError(f"{variable}: it may mean {keys}; write that into the file instead")
    common = [option.upper() for option in (*POLICY_OPTIONS, "background")]
    misspelt = None
    if readings and declared is None:
        # NEGATVE_TTL is not the TTL of a cache that nobody has heard of.
        longer = [option for option in common if option.endswith(f"_{readings[0][-1].upper()}")]
        misspelt = near(rest, longer, 0.9)
    if readings and not misspelt:
        return readings[0]
    if rest.lower() in SINGLE:
        raise ConfigError(f"unknown variable {variable}; name the cache: {PREFIX}DEFAULT_{rest} for the default one")
    nearest = misspelt or near(rest.upper(), [*common, *names_near(rest, declared)], 0.6)
    cure = f"did you mean {PREFIX}{nearest}?" if nearest else f"known are such as {PREFIX}TTL, {PREFIX}DEFAULT_TTL"
    raise ConfigError(f"unknown variable {variable}; {cure}")


def readings_of(rest: str, declared: Iterable[str] | None) -> Iterator[tuple[str, ...]]:
    """All that a variable may mean, by what follows the prefix; the longest option first."""
    if rest == "BACKGROUND":
        yield ("background",)
    for option in SINGLE:
        if rest == option.upper() and option in POLICY_OPTIONS:
            yield ("policy", option)
        elif rest.endswith(f"_{option.upper()}"):
            spelled = rest[: -len(option) - 1]
            named = [spelled.lower()] if declared is None else sorted(declared)
            tables = {"policy": POLICY_OPTIONS, "memory": MEMORY_OPTIONS}
            inside = [table for table, options in tables.items() if option in options]
            for cache in named if spelled.strip("_") else ():
                if as_variable(cache) == spelled:
                    yield ("caches", cache, *inside, option)


def as_variable(cache: str) -> str:
    """A cache's name as variables have it: ``user-sessions`` is ``USER_SESSIONS``."""
    return re.sub(r"\W", "_", cache, flags=re.ASCII).upper()


def names_near(rest: str, declared: Iterable[str] | None) -> Iterator[str]:
    """The variables of caches that one which is not known may have meant, without the prefix."""
    words = rest.upper().split("_")
    guessed = ("_".join(words[:count]) for count in range(1, len(words)) if any(words[:count]))
    for cache in guessed if declared is None else map(as_variable, sorted(declared)):
        for option in SINGLE:
            yield f"{cache}_{option.upper()}"


def near(name: str, known: Iterable[str], cutoff: float) -> str | None:
    """The known name that was probably meant."""
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), None)


# --- Tables -----------------------------------------------------------------------------------------------------------


def read(tables: Mapping[str, Any], place: Place) -> Settings:
    """Check tables, whoever wrote them.

    Raises:
        ConfigError: Naming the place, the value and the cure.
    """
    check_keys(tables, ("background", "policy", "caches"), place, {"policy": POLICY_OPTIONS})
    background = tables.get("background")
    with at(place / "background"):
        check_background(background)
    policy = tables.get("policy")
    caches = check_table(tables.get("caches", {}), place / "caches", "give a table for each cache")
    return Settings(
        background,
        None if policy is None else read_common(policy, place / "policy"),
        {name: read_cache(table, place / "caches" / name) for name, table in caches.items()},
        place,
    )


def read_common(table: Any, place: Place) -> Policy:
    """The policy below those of all caches, which some have nothing to add to."""
    policy = read_policy(table, place)
    with at(place):
        return policy.consistent()


def read_cache(table: Any, place: Place) -> dict[str, Any]:
    """The options of one cache."""
    check_table(table, place, "give a table of its options, such as {policy = {ttl = '5m'}}")
    check_keys(table, CACHE_OPTIONS, place, {"policy": POLICY_OPTIONS, "memory": MEMORY_OPTIONS})
    options = dict(table)
    for option, value in options.items():
        with at(place / option):
            check_option(option, value)
    if "policy" in options:
        options["policy"] = read_policy(options["policy"], place / "policy")
    if "memory" in options:
        options["memory"] = read_memory(options["memory"], place / "memory")
    if "rules" in options:
        rules: Any = options["rules"]
        if isinstance(rules, str) or not hasattr(rules, "__iter__"):
            with at(place / "rules"):
                raise refuse("rules", rules, "give a list of rules: [{match = 'product:*', ttl = '1h'}]")
        options["rules"] = [read_rule(rule, place / "rules" / number) for number, rule in enumerate(rules)]
    return options


def read_policy(table: Any, place: Place) -> Policy:
    """A policy, each of its options checked at its own place."""
    if isinstance(table, Policy):
        return table
    check_table(table, place, "give a table of options, such as {ttl = '5m'}")
    return Policy(**read_options(table, place))


def read_rule(table: Any, place: Place) -> Rule:
    """A rule: its pattern, and a policy's options."""
    if isinstance(table, Rule):
        return table
    check_table(table, place, "give a table with match and a policy's options: {match = 'product:*', ttl = '1h'}")
    others = {name: value for name, value in table.items() if name != "match"}
    if "match" not in table:
        raise ConfigError(f"{place}: match is missing; give a pattern such as match = 'product:*'")
    with at(place / "match"):
        Rule(table["match"])
    options = read_options(others, place)
    with at(place):
        return Rule(table["match"], **options)


def read_options(table: Mapping[str, Any], place: Place) -> dict[str, Any]:
    """A policy's options as Python has them."""
    check_keys(table, POLICY_OPTIONS, place, {})
    options: dict[str, Any] = {}
    for name, value in table.items():
        with at(place / name):
            options[name] = read_option(name, value)
            Policy(**{name: options[name]})
    return options


def read_option(name: str, value: Any) -> Any:
    """An option as Python has it: a table stands for the object that is made of it, a name for its exception."""
    table = as_table(value)
    if table is None or name not in ("cache_errors", "ttl", *GUARDS):
        return value
    if name == "cache_errors":
        return {read_exception(name, kind): life for kind, life in table.items()}
    if name == "ttl":
        return made(Adaptive, name, table, ("min", "max"))
    import inspect

    from samovar import resilience

    kind = getattr(resilience, name.capitalize())
    if "on" in table:
        several: Any = [table["on"]] if isinstance(table["on"], str) else table["on"]
        table = {**table, "on": tuple(read_exception("on", kind) for kind in several)}
    return made(kind, name, table, inspect.signature(kind).parameters)


def made(kind: Any, option: str, arguments: dict[str, Any], known: Iterable[str]) -> Any:
    """The object that a table stands for."""
    cure = f"its keys are {', '.join(known)}"
    if set(arguments) - set(known):
        raise refuse(option, arguments, cure)
    try:
        return kind(**arguments)
    except TypeError:
        raise refuse(option, arguments, cure) from None


def read_exception(option: str, name: Any) -> Any:
    """An exception class, or the one that has this name."""
    import builtins
    import pkgutil

    if not isinstance(name, str):
        return name
    try:
        return getattr(builtins, name, None) or pkgutil.resolve_name(name)
    except (ImportError, AttributeError, ValueError) as error:
        cure = "give the name of a builtin exception, or where it is: 'package.module.Class'"
        raise refuse(option, name, cure) from error


def read_memory(table: Any, place: Place) -> dict[str, Any]:
    """Those of the options of a memory tier that are given; all of a `Memory`."""
    if isinstance(table, Memory):
        return {name: getattr(table, name) for name in Memory.__slots__}
    check_table(table, place, "give a table of its options, such as {max_entries = 1000}")
    check_keys(table, Memory.__slots__, place, {})
    options: dict[str, Any] = {name: None if value == math.inf else value for name, value in table.items()}
    for name, value in options.items():
        with at(place / name):
            Memory(**{name: value})
    return options


def as_table(value: Any) -> dict[str, Any] | None:
    """A value that is a table, None for any other."""
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


def check_table(table: Any, place: Place, cure: str) -> Mapping[str, Any]:
    """A table has keys, and they are texts."""
    if not hasattr(table, "items") or not all(isinstance(key, str) for key in table):
        name = place.path[-1] if place.path else "settings"
        with at(place):
            raise refuse(str(name), table, cure)
    found: Mapping[str, Any] = table
    return found


def check_keys(
    table: Mapping[str, Any], known: Iterable[str], place: Place, inner: Mapping[str, Iterable[str]]
) -> None:
    """Every key must be known. `inner` tells in which of its tables a key would be right."""
    for key in table:
        if key in known:
            continue
        right = [name for name, options in inner.items() if key in options]
        nearest = near(key, known, 0.6)
        cure = f"known keys: {', '.join(known)}"
        if right:
            cure = f"it belongs into {(place / right[0]).key}"
        elif nearest:
            cure = f"did you mean {nearest}?"
        raise ConfigError(f"{place}: unknown key {toml_key(key)}; {cure}")
