"""Where the clients are. Every cluster runs every method through this one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import Lease, RunEnded
from lanfit_server.roster import Roster


@dataclass(frozen=True)
class Joined:
    """A client is here, for the first time or again."""

    client: str


@dataclass(frozen=True)
class Left:
    """A client is gone; `lost` when it did not say so."""

    client: str
    reason: str
    lost: bool


@dataclass(frozen=True)
class EpochEnded:
    """A client finished an epoch of a task; `epoch` counts from 0."""

    client: str
    run: str
    task: str
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Returned:
    """A client's result is on disk and was acknowledged. `seconds` is what its upload took."""

    client: str
    run: str
    task: str
    seconds: float


@dataclass(frozen=True)
class TaskFailed:
    """A client could not train a task, or what it delivered was refused."""

    client: str
    run: str
    task: str
    error: str


@dataclass(frozen=True)
class Logged:
    """Lines for a client's log."""

    client: str
    run: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Hopeless:
    """This client will not come, and no other can take its place."""

    client: str
    reason: str


Event = Hopeless | Joined | Left | EpochEnded | Returned | TaskFailed | Logged


class Cluster(Protocol):
    """Clients that tasks can be leased to."""

    roster: Roster
    events: asyncio.Queue[Event]

    def serve_block(self, spec: BlockSpec, arrays: Mapping[str, AnyArray]) -> None:
        """Let clients fetch this block: its arrays are sent as they lie in memory."""
        ...

    async def lease(self, client: str, lease: Lease) -> None:
        """Send a task to a client; nothing happens when it is gone, its `Left` is on the way."""
        ...

    async def cancel(self, client: str, run: str, task: str) -> None:
        """Tell a client to stop a task that somebody else has finished."""
        ...

    async def tell(self, client: str, text: str) -> None:
        """Tell a client what it is waiting for."""
        ...

    async def end_run(self, ended: Mapping[str, RunEnded]) -> None:
        """Tell clients, by name, that the run is over."""
        ...

    async def close(self) -> None:
        """Let go of all clients, and end what was started for them."""
        ...
