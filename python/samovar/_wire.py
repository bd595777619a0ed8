"""How values travel: codec, compression, seal and sizes, as a cache is given them and a function may vary them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from samovar import _core
from samovar._exceptions import ConfigError
from samovar._options import refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from samovar.codecs import Codec

#: 64 MiB, as native code bounds it where nothing is said.
MAX_VALUE_BYTES = 64 << 20
#: The ids of codecs that native code reads by itself: bytes, text, MessagePack, JSON.
DATA = (1, 2, 3, 4)
ON_TOO_LARGE = ("raise", "skip")


@dataclass(frozen=True, kw_only=True)
class Wire:
    """The options about it. Checked when they are put to use."""

    codec: str | Codec = "msgpack"
    compress: str | None = None
    key_ring: Any = None
    encrypt: str | bool = "auto"
    max_value_bytes: int | None = None
    on_too_large: str = "raise"
    dictionaries: Sequence[bytes] = ()

    def varied(self, given: Mapping[str, Any]) -> Wire:
        """The same with what a function says of its own."""
        own = {name: given[name] for name in ("codec", "compress", "encrypt") if given.get(name) is not None}
        return replace(self, **own) if own else self

    def coding(
        self,
        namespace: str,
        type: Any = Any,  # noqa: A002 - what a value is, is its type
        counted_with: _core.Framing | None = None,
    ) -> _core.Coding:
        """What writes and reads the values of a namespace, all of which are of this type.

        Raises:
            ConfigError: An option cannot be, or contradicts another.
        """
        from samovar.codecs import Coder
        from samovar.codecs._builtin import WIRE, MsgPack
        from samovar.codecs._protocol import codec

        if self.on_too_large not in ON_TOO_LARGE:
            raise refuse("on_too_large", self.on_too_large, "give 'raise' or 'skip'")
        chosen = codec(self.codec)
        coder = Coder(chosen, type=type, max_value_bytes=self.max_value_bytes, on_too_large=self.on_too_large)  # type: ignore[arg-type]
        if coder.authenticated_only and (self.key_ring is None or self.encrypt is False):
            raise ConfigError(
                f"invalid codec: {chosen.name!r} runs code when it is read, so what a store has must prove who wrote "
                "it; give the cache key_ring=, and leave encrypt on"
            )
        framing = _core.Framing(
            compress=self.compress,
            key_ring=self.key_ring,
            encrypt=self.encrypt,
            namespace=namespace,
            serializers=sorted({*DATA, *((chosen.id,) if chosen.name != "raw" else ())}),
            max_value_bytes=self.max_value_bytes or MAX_VALUE_BYTES,
            dictionaries=list(self.dictionaries),
            counted_with=counted_with,
        )
        plain = isinstance(chosen, MsgPack) and coder.takes_anything
        return _core.Coding(framing, WIRE, None if plain else coder)
