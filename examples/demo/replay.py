"""The client: replays a request log over a few keep-alive connections and notes when each answer came.

A closed loop: each connection asks for the next page of the log as soon as it has its last answer, so a slow server
is asked less often, never flooded. A small HTTP/1.1 client over asyncio streams: enough for this server, for no other.
"""

import asyncio
import json
import time
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .problems import DemoError
from .progress import Progress

LIMIT = 900.0  # seconds for a whole replay; far above any measured
LABEL = 17  # characters of the longest label


@dataclass
class Replay:
    """What the client saw: per request, in order of completion, its end (seconds after the start) and its latency."""

    label: str
    ended: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    digests: dict[int, int] = field(default_factory=dict)  # page -> checksum of its last answer
    seconds: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)  # of all servers together, afterwards


def replay(ports: Sequence[int], pages: Sequence[int], *, connections: int, label: str) -> Replay:
    """Ask for these pages in this order, the connections dealt out to the servers; raises DemoError if one fails."""
    try:
        return asyncio.run(_replay(ports, pages, connections, label))
    except TimeoutError as error:
        raise DemoError(f"the replay was not done after {LIMIT:.0f} s; try fewer with --requests 1000") from error
    except (OSError, EOFError) as error:
        raise DemoError(f"the web server broke off a connection ({error!r}); its own message is above") from error


async def _replay(ports: Sequence[int], pages: Sequence[int], connections: int, label: str) -> Replay:
    result = Replay(label)
    queue = iter(pages)
    async with asyncio.timeout(LIMIT):
        clients = [await Client.connect(ports[number % len(ports)]) for number in range(connections)]
        with Progress(f"{label:<{LABEL}}", len(pages)) as progress:
            began = time.perf_counter()
            await asyncio.gather(*(_work(client, queue, result, began, progress) for client in clients))
            result.seconds = time.perf_counter() - began
        for client in clients[: len(ports)]:
            result.counts.update(json.loads(await client.get("/_demo/stats")))
        for client in clients:
            await client.close()
    return result


async def _work(client: "Client", queue: Iterator[int], result: Replay, began: float, progress: Progress) -> None:
    for number in queue:
        asked = time.perf_counter()
        body = await client.get(f"/page/{number}")
        answered = time.perf_counter()
        result.latencies.append(answered - asked)
        result.ended.append(answered - began)
        result.digests[number] = zlib.crc32(body)
        progress.step()


class Client:
    """One keep-alive connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, port: int) -> "Client":
        """Open a connection to the server on this machine."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def get(self, path: str) -> bytes:
        """The body of the answer; DemoError if its status is not 200."""
        self._writer.write(f"GET {path} HTTP/1.1\r\nHost: demo\r\n\r\n".encode())
        head = await self._reader.readuntil(b"\r\n\r\n")
        _, _, rest = head.lower().partition(b"content-length:")
        body = await self._reader.readexactly(int(rest.partition(b"\r\n")[0]))
        if not head.startswith(b"HTTP/1.1 200 "):
            raise DemoError(f"the web server answered GET {path} with {head.splitlines()[0].decode()}")
        return body

    async def close(self) -> None:
        """Close the connection and wait for its end."""
        self._writer.close()
        await self._writer.wait_closed()
