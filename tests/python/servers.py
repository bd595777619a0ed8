"""A real Redis on a free port of the loopback, that tests may kill and freeze. Not a place for what is asked of it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def program() -> str:
    """The server's program. Without one the test is skipped; in CI that is a failure."""
    found = shutil.which("redis-server")
    if found is None:
        # Benches start servers too, where there is no pytest.
        import pytest

        text = "redis-server is not installed: on Debian, apt-get install redis-server"
        if os.environ.get("CI") == "true":
            pytest.fail(text)
        pytest.skip(text)
    return found


class RedisServer:
    """A server without persistence. It ends with the test that started it."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.folder = Path(tempfile.mkdtemp(prefix="samovar-redis-"))
        self.options = options
        self.start()

    def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = subprocess.Popen([program(), *options, *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                if self.ask("PING") == b"+PONG\r\n":
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, "redis-server does not come up"
            assert self.process.poll() is None, "redis-server has ended"
            time.sleep(0.02)

    def ask(self, *words: str) -> bytes:
        """The raw reply to one command, on a connection of its own."""
        parts = (f"${len(word.encode())}\r\n{word}\r\n" for word in words)
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
            connection.sendall(f"*{len(words)}\r\n{''.join(parts)}".encode())
            return connection.recv(65536)

    def connections(self) -> int:
        """How many others are connected."""
        return self.ask("CLIENT", "LIST").count(b"addr=") - 1

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.thaw()
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
