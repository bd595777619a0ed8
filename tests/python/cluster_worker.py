"""A process of its own with a cache over a Redis: asks for one key when it is told to, and loads what it is told to.

Run as a program it reads lines: `ask`, and while its loader runs, what that gives. It writes `loading` when the loader
is called, and what each ask came to. For tests, that run it by way of `Worker`.
"""

from __future__ import annotations

import asyncio
import json
import queue
import signal
import subprocess
import sys
import threading
from typing import Any

from samovar import Cache, NotFound

#: What a worker says within this time, or never.
PATIENCE = 20


class Worker:
    """Another process, as a test sees it."""

    def __init__(self, url: str, face: str = "async", **options: Any) -> None:
        command = [sys.executable, "-P", __file__, url, face, json.dumps(options)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lines: queue.Queue[str] = queue.Queue()
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.hears("ready")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(line.strip())

    def says(self, text: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{text}\n")

    def hears(self, text: str) -> None:
        """The next that it writes is this."""
        heard = self.lines.get(timeout=PATIENCE)
        assert heard == text, heard

    def has_said(self) -> bool:
        return not self.lines.empty()

    def asks(self, text: str) -> None:
        """It is to ask, and then says that."""
        self.says("ask")
        self.hears(text)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """As if it had never been: it tidies nothing up."""
        self.process.kill()
        self.process.wait()
        self.reader.join()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()


def work(url: str, face: str, options: dict[str, Any]) -> None:
    cache = Cache(url, name="app")

    def load_now() -> str:
        print("loading", flush=True)
        told = sys.stdin.readline().strip()
        if told == "nothing":
            raise NotFound
        if told == "fail":
            raise ValueError(told)
        return told

    async def load() -> str:
        return await asyncio.to_thread(load_now)

    function: Any = cache.cached("1h", key="hot", **options)(load if face == "async" else load_now)

    async def ask() -> Any:
        return await function()

    print("ready", flush=True)
    with asyncio.Runner() as runner:
        while sys.stdin.readline().strip() == "ask":
            try:
                answer = runner.run(ask()) if face == "async" else function()
            except Exception as error:
                answer = type(error).__name__
            print(f"got {answer}", flush=True)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
