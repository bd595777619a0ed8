"""A Redis of the demo's own, on a free loopback port and with nothing on disk. Nobody else's is touched."""

import os
import select
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .problems import DemoError
from .server import end

START_LIMIT = 20.0  # seconds until it must accept connections
TRIES = 3  # somebody else may take the free port first


@contextmanager
def running_redis() -> Iterator[str]:
    """Run a redis-server and give its URL; it ends with the block, whatever happens."""
    program = shutil.which("redis-server")
    if program is None:
        raise DemoError("there is no redis-server here; install one: on Debian, apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="samovar-demo-") as folder:
        process, port = _started(program, folder)
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            end(process)


def _started(program: str, folder: str) -> tuple[subprocess.Popen[str], int]:
    said = ""
    for _ in range(TRIES):
        port = _free_port()
        options = {"--port": str(port), "--bind": "127.0.0.1", "--save": "", "--dir": folder, "--logfile": ""}
        process = subprocess.Popen(
            [program, *(word for option in options.items() for word in option)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C is ours to handle
        )
        try:
            ready, said = _is_ready(process)
        except BaseException:
            end(process)
            raise
        if ready:
            return process, port
        end(process)
    raise DemoError(f"{program} does not start; its last words: {said or 'none'}")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(process: subprocess.Popen[str]) -> tuple[bool, str]:
    """Wait for the server to say that it accepts connections; with its last line if it does not."""
    assert process.stdout is not None
    said, deadline = "", time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if not select.select([process.stdout], [], [], deadline - time.monotonic())[0]:
            break
        text = os.read(process.stdout.fileno(), 65_536).decode(errors="replace")
        if not text:
            break
        said = (said + text)[-65_536:]
        if "Ready to accept connections" in said:
            return True, ""
    return False, (said.strip().splitlines() or [""])[-1]
