"""What to train next, and how results become models. Pure: no I/O, no clock.

A method is a small object: `start() → tasks`, `on_result(task, loss) → tasks`, `finish() → outcome`. It knows no socket
and no client; which client does a task makes no difference to the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Task:
    """One unit of training: a shard, and the seed of everything random in it."""

    key: str
    shard: int
    seed: int


@dataclass(frozen=True)
class Outcome:
    """What a run gives: the task whose model is the final one, or None when no task came back."""

    best: Task | None


class Method(Protocol):
    """What every method does."""

    def start(self) -> Sequence[Task]:
        """The tasks that can begin at once."""
        ...

    def on_result(self, task: Task, loss: float) -> Sequence[Task]:
        """Take in a result, of which only the loss matters here, and return the tasks that can begin now."""
        ...

    def finish(self) -> Outcome:
        """Make the outcome of the results so far; their order of arrival makes no difference."""
        ...
