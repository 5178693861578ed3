"""The interface of clusters, through which every method runs on every cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import (
    Adjust,
    AskParts,
    Cancel,
    CustomFile,
    EvaluateTask,
    Lease,
    PartsTaken,
    RunEnded,
    Survey,
)
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.events import Event
from lanfit_server.clusters.roster import Roster

ToClient = AskParts | PartsTaken | Lease | Adjust | Cancel | Survey | EvaluateTask
"""A message of a run to one client."""


class Cluster(Protocol):
    """Clients that tasks can be leased to."""

    roster: Roster
    events: EventQueue[Event]
    own_machines: bool
    """Whether an idle client has an idle machine, so that it may also train another client's task."""
    waiting_for: str
    """The message to a new client about what it waits for."""

    def serve_block(
        self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Callable[[], None] | None = None
    ) -> None:
        """Serve this block to clients: its arrays are sent from memory.

        Args:
            on_sent: called each time that the block was sent to one.
        """
        ...

    def forget_blocks(self) -> None:
        """Stop serving the blocks of an earlier run."""
        ...

    def withdraw_block(self, block_id: str) -> None:
        """Stop serving this block."""
        ...

    async def require(self, custom: Sequence[CustomFile], objects: Sequence[str]) -> None:
        """Give tasks only to clients that allow these custom objects files; notify the others.

        Args:
            objects: the names of the classes and functions that the model uses.
        """
        ...

    async def send(self, client: str, message: ToClient) -> None:
        """Send a message to a client; no effect if it has disconnected, because its `ClientLeft` follows."""
        ...

    def rename(self, client: str, name: str) -> str:
        """Rename a client before the run starts; return its new name."""
        ...

    async def notify(self, client: str, text: str) -> None:
        """Notify a client what it waits for."""
        ...

    async def end_run(self, ended: Mapping[str, RunEnded]) -> None:
        """Notify these clients that the run is over."""
        ...

    async def close(self) -> None:
        """Disconnect all clients, and end everything that was started for them."""
        ...


async def next_event(cluster: Cluster, seconds: float) -> Event | None:
    """Return the next event; None after this many seconds without one."""
    try:
        async with asyncio.timeout(seconds):
            return await cluster.events.get()
    except TimeoutError:
        return None
