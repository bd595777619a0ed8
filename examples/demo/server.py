"""The parent's hold on the server processes: start, wait until they answer, end. What they serve is in `app.py`."""

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from .problems import DemoError

ROOT = Path(__file__).parents[2]
START_LIMIT = 60.0  # seconds until the server must have said it is ready
STOP_LIMIT = 10.0  # seconds a process gets to end by itself


@contextmanager
def running_servers(count: int, database: Path, *, cache: str, port: int) -> Iterator[list[int]]:
    """Run the app in so many processes and give their ports, from `port` on; they end with the block in any case."""
    with ExitStack() as stack:
        wanted = [port + number if port else 0 for number in range(count)]
        yield [stack.enter_context(_running_server(database, cache, port)) for port in wanted]


@contextmanager
def _running_server(database: Path, cache: str, port: int) -> Iterator[int]:
    settings = {"DEMO_DATABASE": str(database.resolve()), "DEMO_CACHE": cache}
    process = subprocess.Popen(
        [sys.executable, "-m", f"{__package__}.serve", str(port)],
        cwd=ROOT,
        env=os.environ | settings,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is ours to handle
    )
    try:
        yield _announced_port(process, port)
    finally:
        end(process)


def _announced_port(process: subprocess.Popen[str], asked: int) -> int:
    assert process.stdout is not None
    readable, _, _ = select.select([process.stdout], [], [], START_LIMIT)
    if not readable:
        raise DemoError(f"the web server was not ready after {START_LIMIT:.0f} s; is the machine very busy? Try again")
    word, _, rest = process.stdout.readline().strip().partition(" ")
    if word == "ready":
        return int(rest)
    if word == "failed":
        raise DemoError(
            f"cannot listen on 127.0.0.1:{asked}: {rest}; leave --port out to take a free port, or name another"
        )
    raise DemoError("the web server ended before it was ready; its own message is above")


def end(process: subprocess.Popen[str]) -> None:
    """Ask a process to end, and make it end if it does not."""
    process.terminate()
    try:
        process.communicate(timeout=STOP_LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
