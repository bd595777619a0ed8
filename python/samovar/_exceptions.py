# ruff: noqa: N818 - the names say what happened
"""The exceptions of Samovar. A cache that fails should still serve: each class says what remains true.

CacheError
├── ConfigError        an option or template that cannot be (also a ValueError)
├── KeyTypeError       an argument or key that cannot be one (also a TypeError)
├── CodecError         a value that cannot be written or read
├── StoreError         a tier behind the memory
│   ├── StoreTimeout
│   └── StoreUnavailable
├── LoadError          a load that ended without the loader's own result
│   ├── LoadTimeout
│   ├── CircuitOpen
│   ├── RateLimited
│   └── LoadCycle
├── WriteError         a write that has not reached the source
│   ├── WriteQueueFull
│   ├── WritesPending
│   └── WritesLost
├── LockError
│   ├── LockTimeout
│   ├── LockLost
│   └── WouldDeadlock
└── AccessDenied
NotFound               raised by loaders: there is no such thing
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from samovar._writing import LostWrite


class CacheError(Exception):
    """Anything that went wrong in the cache itself, never in a user's loader."""


class ConfigError(CacheError, ValueError):
    """An option has a value it cannot have; the message names the option, the value and the cure."""


class KeyTypeError(CacheError, TypeError):
    """An argument or key cannot be one; the message names it and the cure. Nothing was loaded."""


class CodecError(CacheError):
    """A value cannot be encoded or decoded."""


class StoreError(CacheError):
    """A tier behind the memory failed."""


class StoreTimeout(StoreError):
    """A tier did not answer within its time budget."""


class StoreUnavailable(StoreError):
    """A tier cannot be reached."""


class LoadError(CacheError):
    """A load ended without a result of the loader's own, for instance because its event loop closed.

    Nothing is stored; calling again loads anew.
    """


class LoadTimeout(LoadError):
    """A load took longer than its time-out and was cancelled."""


class CircuitOpen(LoadError):
    """The loader's circuit breaker is open; the loader was not called.

    Attributes:
        retry_after: Seconds after which it is worth asking again; None if nobody can say.
    """

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RateLimited(LoadError):
    """The loader's rate or concurrency limit is used up; the loader was not called.

    Attributes:
        retry_after: Seconds after which it is worth asking again; None if nobody can say, as with a concurrency limit.
    """

    def __init__(self, message: str = "", retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class LoadCycle(LoadError):
    """Loads wait for each other in a circle; the message shows the path."""


class WriteError(CacheError):
    """A write has not reached its source."""


class WriteQueueFull(WriteError):
    """There was no room in a write-behind queue in time. Nothing was written or stored.

    Its cause is what the writer raised last.
    """


class WritesPending(WriteError):
    """A flush did not end in time. What is left stays pending and is tried again."""


class WritesLost(WriteError):
    """Writes never reached their source, and the cache does not have them any more.

    Attributes:
        lost: One :class:`samovar.LostWrite` for each key, the oldest first.
    """

    def __init__(self, message: str = "", lost: tuple[LostWrite, ...] = ()) -> None:
        super().__init__(message)
        self.lost = lost


class LockError(CacheError):
    """A lock could not be had or kept."""


class LockTimeout(LockError):
    """A lock was not free within the time given."""


class LockLost(LockError):
    """A lock's lease ended while it was held."""


class WouldDeadlock(LockError):
    """Waiting for this lock could never end."""


class AccessDenied(CacheError):
    """The caller may not use this cache or key."""


class NotFound(LookupError):
    """Raised by a loader to say that there is no such thing. Not an error of the cache."""
