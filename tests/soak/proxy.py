"""What stands between a process and its Redis: it passes everything on, until it is to be slow, to stop or to cut."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Literal

Way = Literal["up", "down"]


class Link:
    """One connection of the process, and the one behind it."""

    def __init__(self, *writers: asyncio.StreamWriter) -> None:
        self.writers = writers
        #: True if others are heard on it.
        self.hears = False

    def cut(self) -> None:
        for writer in self.writers:
            # At once, whatever has not been sent.
            writer.transport.abort()


class Proxy:
    """See the module. `await Proxy.open(port)`."""

    def __init__(self, behind: int) -> None:
        self.behind = behind
        self.links: set[Link] = set()
        #: Seconds by which what it passes on is late.
        self.delay = 0.0
        self.refuses = False
        #: Ways on which nothing is passed on, of all connections and of those on which others are heard.
        self.frozen: set[Way] = set()
        self.muted: set[Way] = set()
        self.changed = asyncio.Condition()
        self.pumps: set[asyncio.Task[None]] = set()

    @classmethod
    async def open(cls, behind: int) -> Proxy:
        proxy = cls(behind)
        proxy.server = await asyncio.start_server(proxy._accept, "127.0.0.1", 0)
        proxy.port = proxy.server.sockets[0].getsockname()[1]
        return proxy

    server: asyncio.Server
    port: int

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.refuses:
                raise ConnectionRefusedError
            there, back = await asyncio.open_connection("127.0.0.1", self.behind)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, back)
        self.links.add(link)
        for task in (self._pump(reader, back, link, "up"), self._pump(there, writer, link, "down")):
            pump = asyncio.create_task(task)
            self.pumps.add(pump)
            pump.add_done_callback(self.pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, link: Link, way: Way) -> None:
        passing: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        taking = asyncio.create_task(self._take(reader, passing, link, way))
        with contextlib.suppress(OSError):
            while (item := await passing.get())[1]:
                due, data = item
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                if self._is_stopped(link, way):
                    async with self.changed:
                        await self.changed.wait_for(lambda: not self._is_stopped(link, way))
                writer.write(data)
                await writer.drain()
        taking.cancel()
        self.links.discard(link)
        link.cut()

    async def _take(
        self, reader: asyncio.StreamReader, passing: asyncio.Queue[tuple[float, bytes]], link: Link, way: Way
    ) -> None:
        """What comes is passed on so much later, however much it is; nothing is the end."""
        data = b" "
        while data:
            try:
                data = await reader.read(65536)
            except OSError:
                data = b""
            if way == "up" and b"SUBSCRIBE" in data:
                link.hears = True
            passing.put_nowait((time.monotonic() + self.delay, data))

    def _is_stopped(self, link: Link, way: Way) -> bool:
        return way in self.frozen or (link.hears and way in self.muted)

    async def stop(self, way: Way, muted: bool = False) -> None:
        (self.muted if muted else self.frozen).add(way)

    async def go_on(self) -> None:
        """Everything is as it should be again."""
        self.frozen.clear()
        self.muted.clear()
        self.delay, self.refuses = 0.0, False
        async with self.changed:
            self.changed.notify_all()

    def cut(self) -> None:
        for link in list(self.links):
            link.cut()

    async def close(self) -> None:
        await self.go_on()
        self.server.close()
        self.cut()
        await asyncio.gather(*self.pumps, return_exceptions=True)
