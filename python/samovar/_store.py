"""What a store of a user's own has to do: five methods that move bytes, and a sixth that makes it exact."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence


class Store(Protocol):
    """A second tier of your own, behind the memory: any object with these methods. It keeps bytes by key.

    They are awaited on a thread of the store's own, on one event loop that runs there, many at a time. So what they use
    is to be made there, at the first call say, and again in a forked child. An exception out of one is a
    ``StoreUnavailable`` for the call; one that takes longer than the store's ``timeout`` is cancelled, and a
    ``StoreTimeout``.

    A store may have one method more::

        async def swap(self, key: str, expected: bytes | None, data: bytes, ttl: float | None) -> bytes | None

    Set *data* if *expected* is what is there now, in one step that no other write comes between; ``expected=None``: if
    there is nothing. It gives None if that is done, else what is there, ``b""`` if nothing is. With it the store
    keeps all that Redis keeps. Without it another process may write between our reading and our writing: its
    invalidation can be overwritten by a value that was loaded before, which then stays for its ttl, and both may load
    what one would have loaded for both.

    Order comes from the clocks of the nodes, and claims end by them: they are to agree within a second or so.
    """

    async def get_many(self, keys: Sequence[str], /) -> dict[str, bytes]:
        """What is under these keys. One that is not there, or whose ttl is over, is left out, or None."""
        ...

    async def set_many(self, items: Mapping[str, tuple[bytes, float | None]], /) -> None:
        """Keep these, (data, ttl) by key, in place of what is there.

        The ttl is in seconds, above 0; ``None``: until it is deleted. What is forgotten earlier costs a load.
        """
        ...

    async def delete_many(self, keys: Sequence[str], /) -> None:
        """Forget these, whether there or not."""
        ...

    def scan(self, prefix: str, /) -> AsyncIterator[str]:
        """The keys that begin so: an async generator, ``async def`` with ``yield``.

        What is written or deleted meanwhile may be missed, or come twice.
        """
        ...

    async def close(self) -> None:
        """Give back what it holds. The last that is called, also if nothing else was."""
        ...
