"""Redis as a store: how to reach it, and bytes by key. What is stored there, and when, is decided in native code."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import _core
from ._exceptions import ConfigError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping
    from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """Whom to trust and who we are, for `rediss://`: PEM, as bytes or as the path of a file.

    `ca`: the authorities to trust, the system's if left out. `certificate` and `key`: ours, if the server asks for one.
    `server_name`: the name that the server's certificate is for, if that is not the host's.
    """

    ca: bytes | str | Path | None = None
    certificate: bytes | str | Path | None = None
    key: bytes | str | Path | None = None
    server_name: str | None = None

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None, str | None]:
        """The PEM of each, read now. Raises ConfigError for a file that cannot be read."""
        return _pem("ca", self.ca), _pem("certificate", self.certificate), _pem("key", self.key), self.server_name


def _pem(option: str, given: bytes | str | Path | None) -> bytes | None:
    if given is None or isinstance(given, bytes):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        cure = "give the path of a PEM file, or its bytes"
        raise ConfigError(f"invalid tls.{option}: {str(given)!r} cannot be read ({error.strerror}); {cure}") from error


class Redis:
    """A Redis: one server, a cluster, or the master that sentinels name. Nothing is connected before it is first asked.

    Args:
        url: `redis://[user[:password]@]host[:port][/database]`, `rediss://` for TLS, `unix:///path`,
            `redis+cluster://host:port,...` or `redis+sentinel://host:port,.../service`.
        timeout: The whole of what a call may take, connecting and trying again included, in seconds.
        connect_timeout: What a connection may take to come up, behind the calls, in seconds.
        username: The ACL user, in the place of the URL's.
        password: The password, in the place of the URL's.
        tls: Whom to trust and who we are, for `rediss://`.
        client_name: What the connections call themselves.
        prefix: In front of every key.
        connections: To each server, 2 to 4, however many callers there are.

    A frame is at least 20 bytes: see docs/frame.md.

    Raises:
        ConfigError: Naming the option, its value and the cure. Calls raise StoreTimeout, StoreUnavailable, StoreError.
    """

    __slots__ = ("_core",)

    def __init__(
        self,
        url: str,
        *,
        timeout: float | str | timedelta = 0.25,
        connect_timeout: float | str | timedelta = 1.0,
        username: str | None = None,
        password: str | None = None,
        tls: Tls | None = None,
        client_name: str | None = None,
        prefix: str = "",
        connections: int = 2,
    ) -> None:
        self._core = _core.StoreCore._redis(
            _core._state,
            url,
            timeout=timeout,
            connect_timeout=connect_timeout,
            username=username,
            password=password,
            tls=(tls or Tls()).read(),
            client_name=client_name,
            prefix=prefix,
            connections=connections,
        )

    def __repr__(self) -> str:
        return f"<{self._core.name}>"

    async def get(self, key: str) -> bytes | None:
        """The frame under a key, or None."""
        return await self._core.get(key)

    async def get_many(self, keys: Iterable[str]) -> dict[str, bytes]:
        """The frames that are there, by key, in one round trip."""
        return await self._core.get_many(list(keys))

    async def set_many(self, items: Mapping[str, tuple[bytes, float | None]]) -> None:
        """Write all of these, (frame, ttl in seconds or None) by key, in one round trip."""
        await self._core.set_many(dict(items))

    async def delete_many(self, keys: Iterable[str]) -> None:
        """Remove all of these in one round trip."""
        await self._core.delete_many(list(keys))

    async def scan(self, prefix: str) -> AsyncIterator[str]:
        """The keys that begin so. What is written or removed meanwhile may be missed, or come twice."""
        place = None
        while True:
            keys, place = await self._core._page(prefix, place)
            for key in keys:
                yield key
            if place is None:
                return

    def tally(self) -> dict[str, int]:
        """What it has been asked and has answered since it was opened."""
        return self._core.tally()

    async def close(self) -> None:
        """Give its connections back. What is under way ends with an error."""
        self._core.close()
