"""The web app: one page function over one query. Whether Samovar is there is decided in `maybe_cached`, nowhere else.

Run by `serve.py`, which the demo starts; environment: DEMO_DATABASE, the SQLite file; DEMO_CACHE, the URL of a cache,
or nothing for none.
"""

import asyncio
import os
import sqlite3
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from html import escape
from pathlib import Path
from typing import Any

from samovar import Cache
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from .database import Page, connect, query_page

CACHE = os.environ.get("DEMO_CACHE")
CONNECTIONS = 4  # to the database; a query is computing, so more of them would only queue elsewhere


def maybe_cached(
    function: Callable[[int], Coroutine[Any, Any, str | None]],
) -> Callable[[int], Awaitable[str | None]]:
    """The only difference between the runs. In your own code it is one line: ``@cache.cached("5m")``."""
    if not CACHE:
        return function
    decorated: Callable[[int], Awaitable[str | None]] = Cache(CACHE, name="demo").cached("5m")(function)
    return decorated


class Database:
    """A few SQLite connections, each on a thread of its own. Counts the queries it runs."""

    def __init__(self, path: Path) -> None:
        self.queries = 0
        self._path = path
        self._own = threading.local()
        self._connections: list[sqlite3.Connection] = []
        self._threads = ThreadPoolExecutor(CONNECTIONS, "sqlite", initializer=self._connect)

    async def page(self, number: int) -> Page | None:
        """Run the page query without holding up the event loop."""
        self.queries += 1
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._query, number)

    def close(self) -> None:
        """Wait for the running queries, then close the connections."""
        self._threads.shutdown()
        for connection in self._connections:
            connection.close()

    def _connect(self) -> None:
        self._own.connection = connect(self._path)
        self._connections.append(self._own.connection)

    def _query(self, number: int) -> Page | None:
        return query_page(self._own.connection, number)


database = Database(Path(os.environ["DEMO_DATABASE"]))


@maybe_cached
async def page(number: int) -> str | None:
    """The HTML of a page; None if there is no such page."""
    found = await database.page(number)
    return None if found is None else render(found)


def render(found: Page) -> str:
    """Lay a page out as HTML."""
    tags = " ".join(f"<li>{escape(tag)}</li>" for tag in found.tags)
    comments = "".join(f"<p>{escape(text)}</p>" for text in found.comments)
    related = "".join(
        f'<li><a href="/page/{number}">{escape(title)}</a> ({mentions})</li>'
        for number, title, mentions in found.related
    )
    return (
        f"<!doctype html><title>{escape(found.title)}</title><h1>{escape(found.title)}</h1><ul>{tags}</ul>"
        f"<pre>{escape(found.body)}</pre><h2>See also</h2><ul>{related}</ul><h2>Comments</h2>{comments}\n"
    )


async def show_page(request: Request) -> HTMLResponse:
    """Answer GET /page/{number}."""
    html = await page(request.path_params["number"])
    return HTMLResponse("no such page\n", status_code=404) if html is None else HTMLResponse(html)


async def show_stats(request: Request) -> JSONResponse:
    """Answer GET /_demo/stats: the queries of the database, and where Samovar looked pages up (nothing without it)."""
    counted = {"queries": database.queries}
    if hasattr(page, "stats"):
        stats = page.stats()
        counted |= {"memory": stats.hits, "remote": stats.remote_hits, "misses": stats.misses}
    return JSONResponse(counted)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Close the database with the app."""
    yield
    database.close()


app = Starlette(
    routes=[Route("/page/{number:int}", show_page), Route("/_demo/stats", show_stats)],
    lifespan=lifespan,
)
