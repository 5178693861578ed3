"""The interface of a method: which tasks exist, how their results are used, and when the run is over.

A method has two halves. `Method` decides: it is pure, knows no clock and no file, and answers each event with
instructions. `Workshop` (workshop.py) does the work that only this method has: it reads results, computes, writes
models. `registry.METHODS` has one entry for each method, which leads to both halves; nothing else asks which method a
job has.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lanfit.settings.changes import AS_IN_JOB, TaskSettings

if TYPE_CHECKING:
    from lanfit_server.clusters.events import Evaluated
    from lanfit_server.run.instructions import Change, Instruction, Work
    from lanfit_server.run.tasks import Record
    from lanfit_server.store.ledger import RoundRecord


@dataclass(frozen=True)
class RowLists:
    """Rows of a task, as indices into the rows of its shard, whose rows are all training rows."""

    train: tuple[int, ...]
    validation: tuple[int, ...] = ()


@dataclass(frozen=True)
class Task:
    """One unit of training: a shard or a fold of it, and its seed."""

    key: str
    shard: int
    seed: int
    fold: int | None = None
    """From 1."""
    round: int | None = None
    """From 1; its starting weights are the result of the previous round."""
    rows: RowLists | None = None
    """None: all rows of the shard, or of its fold."""
    settings: TaskSettings = AS_IN_JOB
    """The settings that differ from those of the job."""
    evaluates_start: bool = False
    """Whether the client evaluates its starting weights first, on the validation rows of its shard."""
    epochs_before: int = 0
    """The number of epochs of all earlier rounds: learning rate schedules continue after them."""
    group: str = ""
    """Tasks of one group are leased together or not at all, and restart together when one is lost."""

    @property
    def suffix(self) -> str:
        """Return the suffix of its files, which differs from other tasks of the same shard."""
        return f"-fold-{self.fold}" if self.fold else ""


class Method(Protocol):
    """The decisions of a method in one run. Pure: times are seconds on the monotonic clock, and are passed in."""

    failure: str
    """Why the run ends earlier than the job specifies; empty if it does not."""
    is_over: bool
    """Whether nothing is left to do, and nothing is pending."""
    waits_for_clients: bool
    """Whether clients evaluate models, and the run waits for them."""

    @property
    def rounds(self) -> int:
        """Return the maximum number of rounds; 0 without rounds."""
        ...

    def begin(self, rounds: Sequence[RoundRecord], now: float) -> Sequence[Instruction]:
        """Start, or resume after these rounds of an earlier server."""
        ...

    def on_committed(self, record: Record, now: float) -> Sequence[Instruction]:
        """Handle a result that is on disk."""
        ...

    def on_work_done(self, work: Work, result: Any, now: float) -> Sequence[Instruction]:
        """Handle finished work of this method."""
        ...

    def on_evaluated(self, model: str, answers: Mapping[str, Evaluated], now: float) -> Sequence[Instruction]:
        """Handle the answers of clients that evaluated a model; those that did not answer are missing."""
        ...

    def advance(self, now: float) -> Sequence[Instruction]:
        """Decide what follows when no task is open and no evaluation is pending."""
        ...

    def seconds_left(self, now: float) -> float:
        """Return the deadline of the open tasks; infinite without one."""
        ...

    def on_deadline(self, now: float) -> Sequence[Instruction]:
        """Handle the end of that deadline."""
        ...

    def on_change(self, change: Change) -> Sequence[Instruction]:
        """Handle a setting that the operator changes, to a valid value.

        Raises:
            InputError: this method can't change it, or nothing is left that it could apply to.
        """
        ...

    def postpone(self, seconds: float) -> None:
        """Move the deadline of the open tasks: the run was paused for so long."""
        ...

    def stop(self, *, for_good: bool) -> None:
        """Start nothing new: the run ends with the results so far.

        Args:
            for_good: whether the operator wants that; else another server may resume the run.
        """
        ...

    def status(self) -> str:
        """Return how the run ended: done, partial or failed."""
        ...


def by_loss(loss: float) -> float:
    """Return the sort key of models by loss: NaN is the worst."""
    return math.inf if math.isnan(loss) else loss
