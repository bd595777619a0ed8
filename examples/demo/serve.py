"""The server process of the demo: uvicorn around `app.py` on a loopback port.

Says one line on stdout, ``ready PORT`` or ``failed REASON``, and ends when it is told to or when its parent is gone
(its stdin is closed). Started by `server.py`; not a way to run an app in production.
"""

import os
import socket
import sys
import threading

import uvicorn

from .app import app


class AnnouncingServer(uvicorn.Server):
    """uvicorn's server, saying when it accepts requests and on which port."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            print("ready", sockets[0].getsockname()[1], flush=True)

    def end_with_parent(self) -> None:
        """Wait, in a thread of its own, for the end of stdin."""
        while os.read(sys.stdin.fileno(), 1):
            pass
        self.should_exit = True


def main() -> int:
    """Serve on the port given as the only argument; 0 lets the system choose a free one."""
    # TCP by name: only then does asyncio switch off Nagle's delay, which would cost each answer 40 ms
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", int(sys.argv[1])))
    except (OSError, OverflowError) as error:
        print("failed", error, flush=True)
        return 1
    server = AnnouncingServer(uvicorn.Config(app, log_level="warning", access_log=False))
    threading.Thread(target=server.end_with_parent, daemon=True).start()
    server.run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
