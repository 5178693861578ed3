"""One client's link, with its transfers and requests."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from lanfit.net.link import Link
from lanfit.transfer.partial import PartialBlock
from lanfit.wire.messages import Result
from lanfit_server.clusters.roster import Member


@dataclass
class Delivery:
    """A result that is being received."""

    result: Result
    client: str
    """The name of the client in the run of the result."""
    partial: PartialBlock
    fetching: asyncio.Task[bool]
    began: float


@dataclass
class Session:
    """One client's link, with its transfers and requests."""

    name: str
    link: Link
    process: bytes = b""
    """Identifies the process of the client; see same_id.py."""
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    came: dict[tuple[str, str], int] = field(default_factory=dict)
    """The received bytes of a result at its last progress."""
    acknowledged: set[str] = field(default_factory=set)
    sending: set[asyncio.Task[None]] = field(default_factory=set)
    surveyed: asyncio.Task[None] | None = None
    asked_parts: list[int] = field(default_factory=list)
    """The open questions for parts: the number of parts of each."""
    reason: str = ""
    left: bool = False
    broken: bool = False
    """Whether the link was ended because the client violated the protocol."""
    announced: bool = False
    """Whether the run was notified of this client, which must be able to participate."""
    counted_bytes: tuple[int, int] = (0, 0)

    def count(self, member: Member) -> None:
        """Add the bytes on this link since the last call to the member's counts."""
        received, sent = self.link.bytes_sent, self.link.bytes_received
        member.bytes_received += received - self.counted_bytes[0]
        member.bytes_sent += sent - self.counted_bytes[1]
        self.counted_bytes = (received, sent)

    def deliveries_of(self, result: Result) -> list[str]:
        """Return the blocks that are being received as results of the same task, which another one replaces."""
        of = result.run, result.task
        return [
            block
            for block, delivery in self.deliveries.items()
            if (delivery.result.run, delivery.result.task) == of and block != result.block.id
        ]

    async def drop(self, block_id: str) -> None:
        """Stop receiving a result, and discard it."""
        delivery = self.deliveries.pop(block_id)
        delivery.fetching.cancel()
        await asyncio.gather(delivery.fetching, return_exceptions=True)
        await asyncio.to_thread(delivery.partial.drop)

    async def close(self) -> None:
        """Cancel all transfers; the received bytes of a large result are kept for a link that resumes it."""
        tasks: list[asyncio.Task[Any]] = [*self.sending, *(delivery.fetching for delivery in self.deliveries.values())]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        while self.deliveries:
            _, delivery = self.deliveries.popitem()
            # Unmapping large files must not block the loop.
            await asyncio.to_thread(delivery.partial.close)
        await self.link.close(self.reason)
