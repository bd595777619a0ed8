"""What tests load from, and the time they give to what runs behind."""

import asyncio


async def turns(count: int = 10) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Origin:
    """What is loaded from: it counts, it can fail, and it can be made to wait."""

    def __init__(self) -> None:
        self.calls = 0
        self.cancelled = 0
        self.error: Exception | None = None
        self.gate: asyncio.Event | None = None

    async def load(self, *_: object) -> int:
        self.calls += 1
        number = self.calls
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if self.error is not None:
            raise self.error
        return number

    def load_now(self, *_: object) -> int:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return self.calls
