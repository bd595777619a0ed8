"""The options of a cache that are plain values: what there is, what comes later, and what each may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samovar._options import is_name, is_neutral, refuse, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Options of later versions, and what each of them says when it asks for nothing.
LATER: dict[str, tuple[object, ...]] = {
    "remote": (None,),
    "codec": ("msgpack",),
    "compress": (None,),
    "key_ring": (None,),
    "encrypt": ("auto",),
    "bus": ("auto",),
    "external_writers": (False,),
    "on_error": ("degrade",),
}
OPTIONS = ("url", "name", "memory", "policy", "namespace", "rules", *LATER)


def check_namespace(name: object) -> str:
    """A namespace is a text; its parts are separated by colons."""
    if not is_name(name) or (name and "" in str(name).split(":")):
        raise refuse("namespace", name, "give a text such as 'users' or 'app:users'")
    return str(name)


def check_option(option: str, value: object) -> None:
    """An option of a cache that is a plain value."""
    if option == "url" and value != "memory://":
        raise refuse(option, without_password(value), "give 'memory://'; this version has no remote tier yet")
    if option == "name" and (not is_name(value) or not value):
        raise refuse(option, value, "give a text that is not empty")
    if option == "namespace":
        check_namespace(value)
    if not is_neutral(value, LATER.get(option, (value,))):
        raise refuse(option, value, "leave it out: this version has no remote tier yet")


def without_password(url: object) -> object:
    """A url as it may stand in a log."""
    import re

    return re.sub(r"(://[^:/@]*:).*@", r"\1***@", url) if isinstance(url, str) else url


def check_later(others: Mapping[str, object]) -> None:
    """Every option must be known; those of later versions may say what they would say if left out."""
    for option, value in others.items():
        if option not in LATER:
            raise unknown([option], (*OPTIONS, "loader", "writer", "deleter"), "Cache")
        check_option(option, value)
