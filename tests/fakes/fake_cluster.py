"""A cluster whose clients the test plays, and a display that remembers what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import Join, Lease, Message
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.events import ClientJoined, ClientLeft, Event
from lanfit_server.clusters.roster import Roster
from lanfit_server.ui.display import Display
from lanfit_server.ui.live_table import Facts
from lanfit_server.watchers import Watchers


class FakeCluster:
    """Clients whose answers the test gives."""

    own_machines = True

    def __init__(self, *names: str) -> None:
        self.roster = Roster()
        self.events: EventQueue[Event] = EventQueue()
        self.sent: list[tuple[str, Message]] = []
        self.messages: list[tuple[str, str]] = []
        self.orders = asyncio.Event()
        self.on_sent: dict[str, Callable[[], None] | None] = {}
        self.fetches = True
        """Whether who is given a task fetches its weights at once."""
        for name in names:
            self.join(name)

    def join(self, name: str) -> None:
        self.roster.join(name.encode(), "here", Join(name, "0", "tensorflow", "cpu", 1, 0), 0.0)
        self.events.put_nowait(ClientJoined(name))

    def leave(self, name: str, now: float, *, lost: bool = True) -> None:
        self.roster.leave(name, "lost" if lost else "left", now)
        self.events.put_nowait(ClientLeft(name, "it was pulled out", lost=lost))

    def serve_block(self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Any = None) -> None:
        self.on_sent[spec.id] = on_sent

    def withdraw_block(self, block_id: str) -> None:
        pass

    async def send(self, client: str, message: Message) -> None:
        self.sent.append((client, message))
        self.orders.set()
        if isinstance(message, Lease) and self.fetches:
            self.fetch(message.weights.id)

    def fetch(self, block_id: str) -> None:
        """A client has fetched a block."""
        if (reported := self.on_sent.get(block_id)) is not None:
            reported()

    async def notify(self, client: str, text: str) -> None:
        self.messages.append((client, text))

    async def end_run(self, ended: Mapping[str, Message]) -> None:
        pass

    async def close(self) -> None:
        pass

    async def asked(self, *names: str) -> None:
        """Wait until these were sent an order."""
        while not set(names) <= {name for name, _ in self.sent}:
            self.orders.clear()
            await self.orders.wait()


class RecordingDisplay(Display):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self.watchers = Watchers()

    def log(self, text: str) -> None:
        self.lines.append(text)
        self.watchers.on_log(text)

    def facts(self, facts: Facts) -> None:
        self._facts = facts
        self.watchers.facts(facts)

    def waiting(self, text: str) -> None:
        self.watchers.waiting(text)


def run_script(script: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(120):
            return await script

    return asyncio.run(within())
