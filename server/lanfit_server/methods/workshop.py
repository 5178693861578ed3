"""The working half of a method: it reads results, computes, writes models, and returns the outcome of the run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from lanfit.transfer.blocks import ArrayFile
from lanfit_server.clusters.roster import Roster
from lanfit_server.run.instructions import Work
from lanfit_server.store.summary import ClientFacts, MergedFacts, RoundFacts


@dataclass(frozen=True)
class Chosen:
    """The outcome of a run: weights and constants, as in a result, and their metrics."""

    file: ArrayFile
    client: str | None
    """The client of the model; None for a global model."""
    metrics: Mapping[str, float]
    round: int | None = None
    """The round of the weights, from 1; None without rounds."""


@dataclass(frozen=True)
class RoundMade:
    """A round that is stored: its number, from 1, its metrics as Keras has them, and its weights."""

    number: int
    logs: Mapping[str, float]
    weights: ArrayFile


class RoundChannel:
    """Rounds of a run on their way to a program that decides after each whether there is a next one."""

    def __init__(self) -> None:
        self._rounds: asyncio.Queue[RoundMade] = asyncio.Queue()
        self._answers: asyncio.Queue[bool] = asyncio.Queue()
        self._is_closed = False

    async def ask(self, made: RoundMade) -> bool:
        """Return whether to stop after this round."""
        if self._is_closed:
            return False
        self._rounds.put_nowait(made)
        return await self._answers.get()

    async def next(self) -> RoundMade:
        """Return the next round to be decided about."""
        return await self._rounds.get()

    def answer(self, stop: bool) -> None:
        """Decide about a round."""
        self._answers.put_nowait(stop)

    def close(self) -> None:
        """End the decisions of the program: the run continues to its end."""
        self._is_closed = True
        self.answer(False)


class Workshop(Protocol):
    """The work of one method in one run: reading, computing, writing."""

    async def do(self, work: Work) -> Any:
        """Do some work for the method; return its result.

        Raises:
            LanfitError, OSError: it can't be done; the run fails.
        """
        ...

    def files(self, model: str) -> Sequence[ArrayFile]:
        """Return the model, or the models, that clients are to evaluate under this name."""
        ...

    # --- the end ------------------------------------------------------------------------------------------------

    def metrics_for(self, client: str) -> Mapping[str, float]:
        """Return the final message to a client about its model."""
        ...

    async def finish(self) -> None:
        """Write the files that are only written at the end."""
        ...

    def chosen(self) -> Chosen | None:
        """Return the outcome; None if there is none."""
        ...

    async def merged(self) -> tuple[MergedFacts, ...]:
        """Return the merged models that the operator requested; make those that are missing."""
        ...

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        """Return the facts about each client; `now` is on the monotonic clock."""
        ...

    def rounds(self) -> tuple[RoundFacts, ...]:
        """Return the facts about each round; nothing without rounds."""
        ...
