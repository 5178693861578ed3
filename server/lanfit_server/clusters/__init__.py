"""Where the clients are. Every cluster runs every method through this one interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lanfit.errors import LanfitError
from lanfit.parts import PartRange
from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import AskParts, Cancel, CustomFile, Lease, PartsTaken, RunEnded, ScoreTask, Survey, Surveyed
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.roster import Roster


@dataclass(frozen=True)
class Joined:
    """A client is here, for the first time or again."""

    client: str


@dataclass(frozen=True)
class Left:
    """A client is gone; `lost` when it did not say so, `broken` when it sent what no client sends."""

    client: str
    reason: str
    lost: bool
    broken: bool = False


@dataclass(frozen=True)
class EpochEnded:
    """A client finished an epoch of a task; `epoch` counts from 0."""

    client: str
    run: str
    task: str
    epoch: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Silent:
    """Nothing was heard of a client for so many seconds; nothing is wrong yet."""

    client: str
    seconds: float


@dataclass(frozen=True)
class Heard:
    """A client that was silent says something again; it was silent for so many seconds."""

    client: str
    seconds: float


@dataclass(frozen=True)
class Offered:
    """A client has a result, which is fetched now."""

    client: str
    run: str
    task: str


@dataclass(frozen=True)
class Repeated:
    """A client offered another result of a task that is done: it is acknowledged, and not used."""

    client: str
    run: str
    task: str
    attempt: int


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
    died: bool = False
    """The trainer died of it."""
    not_finite: bool = False
    """What was trained is NaN or infinite: it would be again."""


@dataclass(frozen=True)
class Claimed:
    """A client spoke of a task that it never had, in a message of this kind: it changed nothing."""

    client: str
    run: str
    task: str
    what: str


@dataclass(frozen=True)
class Logged:
    """Lines for a client's log."""

    client: str
    run: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SurveyDone:
    """A client has told what its own files hold; `arrays` are those of the block that came with it, as they came."""

    client: str
    surveyed: Surveyed
    arrays: Mapping[str, AnyArray]


@dataclass(frozen=True)
class SurveyFailed:
    """A client's own files can't be used."""

    client: str
    error: LanfitError


@dataclass(frozen=True)
class ScoreDone:
    """A client has scored a model on its own test rows."""

    client: str
    run: str
    task: str
    rows: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class Took:
    """A client says what it wants to be called, and which parts it trains on: there are such parts."""

    client: str
    name: str
    parts: PartRange


@dataclass(frozen=True)
class Hopeless:
    """This client will not come, and no other can take its place."""

    client: str
    error: LanfitError


@dataclass(frozen=True)
class BeginNow:
    """The operator does not want to wait for the missing clients any longer."""

    client: str = ""


Event = (
    BeginNow
    | Hopeless
    | Joined
    | Left
    | Silent
    | Heard
    | EpochEnded
    | Offered
    | Repeated
    | Returned
    | TaskFailed
    | Claimed
    | Logged
    | SurveyDone
    | SurveyFailed
    | ScoreDone
    | Took
)
#: The errors of a client whose training has ended in NaN or infinity: nobody else would get any further.
NOT_FINITE = frozenset({"training.loss-not-finite", "training.weight-not-finite"})
#: How often a wait is said again, in seconds.
REMIND_SECONDS = 30.0


class Cluster(Protocol):
    """Clients that tasks can be leased to."""

    roster: Roster
    events: EventQueue[Event]
    own_machines: bool
    """Whether a client that has nothing to do has a machine that has nothing to do: then it may try another's task."""
    waiting_for: str
    """What a client that joins is told that it is waiting for."""

    def serve_block(
        self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Callable[[], None] | None = None
    ) -> None:
        """Let clients fetch this block: its arrays are sent as they lie in memory.

        Args:
            on_sent: called each time that the block was sent to one.
        """
        ...

    def forget_blocks(self) -> None:
        """Serve none of the blocks of an earlier run any more."""
        ...

    def withdraw_block(self, block_id: str) -> None:
        """Serve this block no more."""
        ...

    async def require(self, custom: Sequence[CustomFile], objects: Sequence[str]) -> None:
        """Give tasks only to clients that allow these files with custom objects; tell others what they lack.

        Args:
            objects: the names of the classes and functions that the model uses.
        """
        ...

    async def send(self, client: str, message: AskParts | PartsTaken | Lease | Cancel | Survey | ScoreTask) -> None:
        """Send an order to a client; nothing happens when it is gone, its `Left` is on the way."""
        ...

    def rename(self, client: str, name: str) -> str:
        """Call a client otherwise, before the run begins; returns what it is called now."""
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


async def next_event(cluster: Cluster, seconds: float) -> Event | None:
    """The next event, or None after so many seconds in which nothing happened."""
    try:
        async with asyncio.timeout(seconds):
            return await cluster.events.get()
    except TimeoutError:
        return None
