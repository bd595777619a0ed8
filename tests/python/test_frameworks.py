"""Frameworks see an async function, and a request that goes away takes nobody else's answer with it."""

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import fastapi
import pytest
from samovar import Cache


class Session:
    """A per-request session: it refuses work once its request is over."""

    def __init__(self) -> None:
        self.open = True

    async def load(self, gate: asyncio.Event, n: int) -> int:
        await gate.wait()
        assert self.open, "the session was closed under the load"
        return n


async def session() -> AsyncIterator[Session]:
    own = Session()
    try:
        yield own
    finally:
        own.open = False


async def until(condition: Callable[[], object]) -> None:
    """Let the loop turn until something has happened; the test's own time-out bounds it."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0)


async def request(app: Any, path: str) -> tuple[int, bytes]:
    """One HTTP request in ASGI's own words, of a client that stays."""
    sent: list[dict[str, Any]] = []
    asked = False

    async def receive() -> dict[str, Any]:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [],
        "client": ("test", 1),
        "server": ("test", 80),
    }
    await app(scope, receive, send)
    body = b"".join(message.get("body", b"") for message in sent)
    return sent[0]["status"], body


def test_a_cached_endpoint_is_an_async_function_to_fastapi(cache: Cache) -> None:
    app = fastapi.FastAPI()

    @app.get("/{n}")
    @cache.cached("5m")
    async def double(n: int) -> dict[str, int]:
        return {"double": 2 * n}

    async def main() -> None:
        assert await request(app, "/4") == (200, b'{"double":8}')
        assert await request(app, "/4") == (200, b'{"double":8}')

    asyncio.run(main())
    assert inspect.iscoroutinefunction(double)
    assert (double.stats().loads, double.stats().hits) == (1, 1)


def test_a_client_that_disconnects_leaves_the_load_to_the_next_request_with_its_own_session(cache: Cache) -> None:
    app = fastapi.FastAPI()
    gate = asyncio.Event()
    started: list[Session] = []

    @cache.cached("5m", ignore=["own"])
    async def load(n: int, own: Session) -> int:
        started.append(own)
        return await own.load(gate, n)

    @app.get("/{n}")
    async def endpoint(n: int, own: Annotated[Session, fastapi.Depends(session)]) -> int:
        return await load(n, own)

    async def main() -> None:
        first = asyncio.create_task(request(app, "/4"))
        await until(lambda: started)
        second = asyncio.create_task(request(app, "/4"))
        await until(lambda: load.stats().coalesced)
        # What a server does with the task of a request whose client is gone.
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await until(lambda: len(started) == 2)
        gate.set()
        assert await second == (200, b"4")

    asyncio.run(asyncio.wait_for(main(), 10))
    assert started[0] is not started[1]
    assert not started[0].open
