"""One client's link, and what is under way on it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from lanfit.net.link import Link
from lanfit.partial import PartialBlock
from lanfit.wire.messages import Result
from lanfit_server.roster import Member


@dataclass
class Delivery:
    """A result on its way in."""

    result: Result
    client: str
    """What the client is called in the run that it is of."""
    part: PartialBlock
    fetching: asyncio.Task[bool]
    began: float


@dataclass
class Session:
    """One client's link, and what is under way on it."""

    name: str
    link: Link
    process: bytes = b""
    """The process of the client: see same_id.py."""
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    acknowledged: set[str] = field(default_factory=set)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    surveyed: asyncio.Task[None] | None = None
    asked_parts: list[int] = field(default_factory=list)
    """The questions for parts that it has not answered: of how many parts each."""
    reason: str = ""
    left: bool = False
    broken: bool = False
    """It was ended because of what the client sent."""
    announced: bool = False
    """Whether it was told to who runs the job that this client is here: only if it can take part."""
    counted: tuple[int, int] = (0, 0)

    def count(self, member: Member) -> None:
        """Add to the member's bytes, as it sees them, what came over this link since the last time."""
        received, sent = self.link.bytes_sent, self.link.bytes_received
        member.bytes_received += received - self.counted[0]
        member.bytes_sent += sent - self.counted[1]
        self.counted = (received, sent)

    def deliveries_of(self, result: Result) -> list[str]:
        """The blocks on their way in that are results of the same task: another one takes their place."""
        of = result.run, result.task
        return [
            block
            for block, delivery in self.deliveries.items()
            if (delivery.result.run, delivery.result.task) == of and block != result.block.id
        ]

    async def drop(self, block_id: str) -> None:
        """Fetch a result no further, and keep nothing of it."""
        delivery = self.deliveries.pop(block_id)
        delivery.fetching.cancel()
        await asyncio.gather(delivery.fetching, return_exceptions=True)
        await asyncio.to_thread(delivery.part.drop)

    async def close(self) -> None:
        """Drop everything that is under way; what came of a large result stays, for a link that goes on with it."""
        tasks: list[asyncio.Task[Any]] = [*self.sending, *(delivery.fetching for delivery in self.deliveries.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.deliveries:
            _, delivery = self.deliveries.popitem()
            # Unmaps what may be large, which must not keep the loop from other clients.
            await asyncio.to_thread(delivery.part.close)
        await self.link.close(self.reason)
