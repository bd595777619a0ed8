"""The honest floor: what asyncio and a parser in C can do at best, with nothing but commands and replies.

One connection for all callers, one write a loop pass, replies in the order of the commands. No time limit, no
reconnecting, no cancelling, nothing decoded: nobody would run it, and who does more can hardly be cheaper.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, cast

import hiredis


class Floor(asyncio.Protocol):
    """See the module."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.reader = hiredis.Reader()
        self.waiting: deque[asyncio.Future[Any]] = deque()
        self.leaving: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        self.reader.feed(data)
        while (reply := self.reader.gets()) is not False:
            future = self.waiting.popleft()
            if not future.done():
                future.set_result(reply)

    def ask(self, *words: str | bytes) -> asyncio.Future[Any]:
        """A future of the reply to one command."""
        future = self.loop.create_future()
        self.waiting.append(future)
        if not self.leaving:
            self.loop.call_soon(self.flush)
        self.leaving.append(hiredis.pack_command(words))
        return future

    def flush(self) -> None:
        self.transport.write(b"".join(self.leaving))
        self.leaving.clear()
