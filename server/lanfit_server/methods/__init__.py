"""What to train next, and how results become models. Pure: no I/O, no clock.

A method is a small object: `start() → tasks`, `on_result(task, loss) → tasks`, `finish() → outcome`. It knows no socket
and no client; which client does a task makes no difference to the models.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """One unit of training: a shard or a fold of it, and the seed of everything random in it."""

    key: str
    shard: int
    seed: int
    fold: int | None = None
    """From 1."""
    round: int | None = None
    """From 1; its starting weights are what the round before has given."""

    @property
    def suffix(self) -> str:
        """What tells its files from those of other tasks of the same shard."""
        return f"-fold-{self.fold}" if self.fold else ""


@dataclass(frozen=True)
class Outcome:
    """What a run gives."""

    best: Task | None
    """The task whose model is the final one; None when no task came back."""
    by_shard: Mapping[int, Task] = field(default_factory=dict)
    """The task whose model is that of the shard's client, for every shard of which one came back."""


class Method(Protocol):
    """What every method does."""

    def start(self) -> Sequence[Task]:
        """The tasks that can begin at once."""
        ...

    def on_result(self, task: Task, loss: float) -> Sequence[Task]:
        """Take in a result, of which only the loss matters here, and return the tasks that can begin now."""
        ...

    def judge(self, task: Task, loss: float) -> None:
        """Compare the model of a shard with those of others by this loss, instead of by that of its result."""
        ...

    def finish(self) -> Outcome:
        """Make the outcome of the results so far; their order of arrival makes no difference."""
        ...


class Independent:
    """A method whose tasks can all begin at once and need nothing of each other. Best is the lowest loss."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks
        self._losses: dict[str, float] = {}
        self._judged: dict[str, float] = {}

    def start(self) -> Sequence[Task]:
        return self._tasks

    def on_result(self, task: Task, loss: float) -> Sequence[Task]:
        self._losses[task.key] = loss
        return ()

    def judge(self, task: Task, loss: float) -> None:
        self._judged[task.key] = loss

    def finish(self) -> Outcome:
        shards = dict.fromkeys(task.shard for task in self._tasks)
        best = {shard: _lowest([t for t in self._tasks if t.shard == shard], self._losses) for shard in shards}
        by_shard = {shard: task for shard, task in best.items() if task is not None}
        return Outcome(_lowest(by_shard.values(), {**self._losses, **self._judged}), by_shard)


def _lowest(tasks: Iterable[Task], losses: Mapping[str, float]) -> Task | None:
    """The task with the lowest loss, of equal ones the first; None when none has come back. NaN is the worst."""

    def order(task: Task) -> float:
        loss = losses[task.key]
        return math.inf if math.isnan(loss) else loss

    return min((task for task in tasks if task.key in losses), key=order, default=None)
