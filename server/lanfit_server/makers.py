"""What becomes of results: of each its own model (apart.py), or of a round's together the next weights (rounds.py).

The coordinator hands tasks out and takes results in; what they are for, only a maker knows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from lanfit.files import ArrayFile
from lanfit_server.methods import Task
from lanfit_server.roster import Roster
from lanfit_server.summary import ClientFacts, MergedFacts, RoundFacts
from lanfit_server.tasks import Record


@dataclass(frozen=True)
class Chosen:
    """The outcome of a run: weights and constants, as in a result, and how they did."""

    file: ArrayFile
    client: str | None
    """Whose model it is; None for one that all made together."""
    metrics: Mapping[str, float]
    round: int | None = None
    """Which round gave them, from 1; None without rounds."""


class Maker(Protocol):
    """Makes models of results."""

    failure: str
    """Why the run ended with what it had; empty when it did not."""
    on_made: Callable[[str, str, Mapping[str, float]], None]
    """Called with a line for the operator, what was made (a task's key, or the round's), and its metrics."""

    async def start(self) -> Sequence[Task]:
        """The tasks that can begin; of a run that is gone on with, those that are not over."""
        ...

    def returned(self, record: Record) -> None:
        """A task's result is on disk."""
        ...

    async def advance(self) -> Sequence[Task]:
        """No task is open: make what can be made of the results now; returns the tasks that can begin then."""
        ...

    def seconds_left(self) -> float:
        """For how long the tasks that are open are waited for; infinite without a deadline."""
        ...

    def too_late(self) -> Sequence[tuple[str, str]]:
        """That time is over: the tasks that are waited for no longer, and why."""
        ...

    async def settle(self, *, waiting: bool = True) -> None:
        """Make and score everything that results are there for.

        Args:
            waiting: also for what clients are to say of it; not after an interruption.
        """
        ...

    def status(self) -> str:
        """How the run ended: done, partial or failed."""
        ...

    def metrics_for(self, client: str) -> Mapping[str, float]:
        """What a client is told of its model at the end."""
        ...

    # --- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """Write what is only written at the end."""
        ...

    def chosen(self) -> Chosen | None:
        """The outcome; None when there is none."""
        ...

    async def merged(self, scratch: Path) -> tuple[MergedFacts, ...]:
        """What the operator wants made of all models together."""
        ...

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        """What is said about each client; `now` is on the monotonic clock."""
        ...

    def rounds(self) -> tuple[RoundFacts, ...]:
        """What is said about each round; nothing without rounds."""
        ...
