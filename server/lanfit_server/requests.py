"""What is to be run, and how far it has got."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum

from lanfit.settings.job import Job
from lanfit_server.clusters.roster import Member
from lanfit_server.data.model_source import ModelFile, ReadyModel
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import LoadedDataset
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.summary import Summary


class RunInterrupted(Exception):
    """There is no summary: the run was interrupted before it started, was withdrawn, or could not be finished. Its text
    says which, if there is more to say than that."""


@dataclass(frozen=True)
class RunRequest:
    """One run: its job, where its model and its rows come from, whom it waits for, and what it resumes."""

    job: Job
    """With all its values; `clients`, `min_clients` and `start_after` determine which clients the run waits for."""
    model: ModelFile | ReadyModel | None
    """None for a run that is resumed, which has its own."""
    dataset: LoadedDataset | None = None
    """The Keras dataset of the job, if it is loaded already."""
    arrays: ArraySource | None = None
    """The rows, where a Python program gave them: kept while the run is unfinished."""
    resumes: str = ""
    """The run to resume; empty for a new one."""
    name: str = ""
    """What a new run is called; empty for a new name."""
    remark: str = ""
    """Comments above the job in the run's job.toml."""
    enter_starts: bool = False
    """Whether an operator can have the run start without clients that are missing (`Session.start_now`)."""
    corrects: bool = False
    """Whether an operator is there to have clients' files corrected: such clients are waited for."""
    takes: Callable[[Member], bool] | None = None
    """Whether a client may take part; None for all."""
    rounds: RoundChannel | None = None
    """The program that decides after every round whether there is a next one."""


class State(IntEnum):
    """How far a request has got."""

    QUEUED = 0
    STARTING = 1
    """Rows are read, and clients are waited for."""
    RUNNING = 2
    FINISHING = 3
    """Models and summary are on disk; the report and the clients' leave are still to come."""
    ENDED = 4
    """With a summary, or with an error."""


class RunHandle:
    """A request that was submitted. Use it in the loop of its session.

    Args:
        on_change: called when the request has got further.
    """

    def __init__(self, request: RunRequest, on_change: Callable[[RunHandle], None] = lambda handle: None) -> None:
        self.request = request
        self._on_change = on_change
        self.state = State.QUEUED
        self.run = request.resumes or request.name
        """The run, as soon as it has a name."""
        self.summary: Summary | None = None
        self.error: Exception | None = None
        """Why the run did not start, or could not be finished."""
        self._changed = asyncio.Event()

    def enter(self, state: State) -> None:
        """Set the state of the request. For the session."""
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_change(self)

    def finishing(self, summary: Summary) -> None:
        self.run, self.summary = summary.run, summary
        self.enter(State.FINISHING)

    def fail(self, error: Exception) -> None:
        self.error = error
        self.enter(State.ENDED)

    async def reach(self, state: State) -> None:
        """Wait until the request has got so far, or further."""
        while self.state < state:
            await self._changed.wait()

    async def outcome(self) -> Summary:
        """Wait until models and summary are on disk; return the summary.

        Raises:
            LanfitError, OSError: nothing was started, or the run can't continue.
            RunInterrupted: it was interrupted before it started.
        """
        await self.reach(State.FINISHING)
        if self.summary is not None:
            return self.summary
        assert self.error is not None
        raise self.error

    async def ended(self) -> Summary:
        """Wait until there is nothing left to do; return the summary.

        Raises:
            LanfitError, OSError, RunInterrupted: as `outcome`, or the report could not be finished.
        """
        await self.reach(State.ENDED)
        if self.error is not None:
            raise self.error
        return await self.outcome()
