"""What callers see of a server that freezes and comes back: the drill of benches/outage, with a server that is stopped.

A stopped server keeps its connections and says nothing: nobody is told that it is gone.
"""

from __future__ import annotations

import asyncio
import logging
import statistics
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benches.outage.drill import KEYS, Asked, ask

from .contenders import BARE, FACE, Client, opened

if TYPE_CHECKING:
    from servers import RedisServer

MISSING, FROZEN, BACK = "missing", "frozen", "back"
#: At first nothing is there that is asked for.
SCRIPT = ((MISSING, 1.0), (FROZEN, 4.0), (BACK, 2.0))
BEGINS, ENDS = SCRIPT[0][1], SCRIPT[0][1] + SCRIPT[1][1]
#: A caller who waits for longer than that has paid for the outage.
SLOW = 0.05
#: Callers who come so late after it froze are later callers.
LATER = 0.3
WHO = (BARE, FACE, "redis-py", "coredis", "valkey-glide", "cashews")


@dataclass(frozen=True)
class Outage:
    """What an outage came to, in seconds."""

    #: While it was frozen: for how long there was anybody who waited, and the longest wait of one.
    waited: float
    longest: float
    #: Median of those who came later, and of a miss before.
    later: float
    miss: float
    #: From its return until a caller was answered, and until every later one was; None if that was not seen.
    first_back: float | None
    all_back: float | None


def overlap(spans: list[tuple[float, float]]) -> float:
    """How long at least one of these lasted."""
    whole, until = 0.0, 0.0
    for begin, end in sorted(spans):
        whole += max(0.0, end - max(begin, until))
        until = max(until, end)
    return whole


def outage(asked: list[Asked]) -> Outage:
    """What the callers of a drill have seen."""
    missed = [one.seconds for one in asked if one.phase == MISSING]
    during = [one for one in asked if one.phase == FROZEN]
    slow = [(one.at, min(one.at + one.seconds, ENDS)) for one in during if one.seconds > SLOW]
    after = [one for one in asked if one.at + one.seconds > ENDS]
    answered = [one.at + one.seconds - ENDS for one in after if one.answered]
    empty = [one.at + one.seconds - ENDS for one in after if one.at > ENDS and not one.answered]
    last = max(empty, default=0.0)
    all_back = min((moment for moment in answered if moment > last), default=None)
    return Outage(
        waited=overlap(slow),
        longest=max(one.seconds for one in during),
        later=statistics.median(one.seconds for one in during if one.at > BEGINS + LATER),
        miss=statistics.median(missed),
        first_back=min(answered, default=None),
        all_back=all_back,
    )


async def drilled_by(server: RedisServer, name: str) -> Outage | None:
    """One contender's outage, or None if it takes no part."""
    clients = await opened(server.url, [name])
    if name not in clients:
        return None
    client = clients[name]
    names = [f"frozen:{key}" for key in range(KEYS)]
    await asyncio.gather(*(client.put(key, "a value of more than 20 bytes") for key in names))
    asked_for = [f"{key}:none" for key in names]

    async def load(key: int) -> int:
        return key if await client.get(asked_for[key]) is not None else -1

    def enter(phase: str) -> None:
        if phase == FROZEN:
            asked_for[:] = names
            server.freeze()
        elif phase == BACK:
            server.thaw()

    try:
        asked = await ask(load, SCRIPT, enter)
    finally:
        server.thaw()
    await end(client)
    return outage(asked)


async def end(client: Client) -> None:
    """Close it, if it lets itself be closed."""
    try:
        async with asyncio.timeout(5):
            await client.close()
    except Exception as error:  # whatever a peer's closing comes to, its figures are there
        print(f"closing it: {error!r}", file=sys.stderr)


def drilled(server: RedisServer, name: str) -> Outage | None:
    """The same, on a loop of its own, without the log lines that a peer has for each call."""
    logging.disable(logging.CRITICAL)
    return asyncio.run(drilled_by(server, name))
