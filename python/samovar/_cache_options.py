"""The options of a cache that are plain values: what there is, what comes later, and what each may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from samovar._options import is_name, is_neutral, refuse, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any, Literal

    from samovar._core import KeyRing

#: Options of later versions, and what each of them says when it asks for nothing.
LATER: dict[str, tuple[object, ...]] = {}
#: Those about a store behind the memory, and what they are if left out.
TIERS: dict[str, object] = {
    "remote": None,
    "codec": "msgpack",
    "compress": None,
    "key_ring": None,
    "encrypt": "auto",
    "max_value_bytes": None,
    "on_too_large": "raise",
    "dictionaries": (),
    "on_error": "degrade",
    "bus": "auto",
    "external_writers": False,
}
OPTIONS = ("url", "name", "memory", "policy", "namespace", "rules", *TIERS, *LATER)

if TYPE_CHECKING:
    from typing import TypedDict

    from samovar._redis import Redis
    from samovar._store import Store
    from samovar.codecs import Codec

    class TierOptions(TypedDict, total=False):
        """The options of a cache about the store behind its memory."""

        remote: Redis | Store | None
        codec: str | Codec
        compress: Literal["auto", "zstd", "lz4", "gzip", "snappy"] | None
        key_ring: KeyRing | Mapping[int, bytes] | None
        encrypt: Literal["auto", "aes-gcm", "sign"] | bool
        max_value_bytes: int | None
        on_too_large: Literal["raise", "skip"]
        dictionaries: Sequence[bytes]
        on_error: Literal["degrade", "raise"]
        bus: Literal["auto"] | None
        external_writers: bool


def check_namespace(name: object) -> str:
    """A namespace is a text; its parts are separated by colons."""
    if not is_name(name) or (name and "" in str(name).split(":")):
        raise refuse("namespace", name, "give a text such as 'users' or 'app:users'")
    return str(name)


def check_option(option: str, value: object) -> None:
    """An option of a cache that is a plain value."""
    if option == "url" and not (isinstance(value, str) and "://" in value):
        cure = "give 'memory://', or a URL such as 'redis://localhost:6379/0'"
        raise refuse(option, without_password(value), cure)
    if option == "url" and value != "memory://":
        from samovar._redis import Redis

        # Opening connects nowhere.
        Redis(str(value))
    if option == "name" and (not is_name(value) or not value):
        raise refuse(option, value, "give a text that is not empty")
    if option == "namespace":
        check_namespace(value)
    if option == "bus" and value not in ("auto", None):
        raise refuse(option, value, "give 'auto', or None: others are not heard")
    if option == "external_writers" and not isinstance(value, bool):
        raise refuse(option, value, "give True or False")
    if not is_neutral(value, LATER.get(option, (value,))):
        raise refuse(option, value, "leave it out: this version does not have it yet")


def without_password(url: object) -> object:
    """A url as it may stand in a log."""
    import re

    return re.sub(r"(://[^:/@]*:).*@", r"\1***@", url) if isinstance(url, str) else url


def check_tiers(others: Mapping[str, object]) -> dict[str, Any]:
    """The options about a second tier. Every option must be known; those of later versions ask for nothing."""
    for option, value in others.items():
        if option not in OPTIONS:
            raise unknown([option], (*OPTIONS, "loader", "writer", "deleter"), "Cache")
        check_option(option, value)
    return {option: value for option, value in others.items() if option in TIERS}
