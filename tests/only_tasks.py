"""A method that only has tasks, and what a run goes by where a test does not care."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from lanfit.settings.timeouts import Timeouts
from lanfit_server.methods.base import Task
from lanfit_server.run.engine import Terms
from lanfit_server.run.instructions import AddTasks, Instruction
from lanfit_server.run.tasks import Record, TaskTable


class TasksOnly:
    """Both halves of a method that has tasks and makes nothing of their results."""

    failure = ""
    is_over = False
    waits_for_clients = False
    rounds = 0

    def __init__(self, tasks: Sequence[Task], table: TaskTable) -> None:
        self._tasks = tasks
        self._table = table

    def begin(self, rounds: Sequence[Any], now: float) -> Sequence[Instruction]:
        return [AddTasks(self._tasks)]

    def on_committed(self, record: Record, now: float) -> Sequence[Instruction]:
        return []

    def advance(self, now: float) -> Sequence[Instruction]:
        self.is_over = True
        return []

    def seconds_left(self, now: float) -> float:
        return math.inf

    def postpone(self, seconds: float) -> None:
        pass

    def stop(self, *, for_good: bool) -> None:
        pass

    def metrics_for(self, client: str) -> Mapping[str, float]:
        return {}


def terms_of(owners: Sequence[str], **terms: Any) -> Terms:
    """What a run of these clients goes by."""
    usual = {
        "run": "run-1", "owners": owners, "bound": False, "deadline": 600.0, "copies": True, "epochs": 5,
        "shown_epochs": 5, "folds": 0, "timeouts": Timeouts(), "method": "fit",
    }  # fmt: skip
    return Terms(**{**usual, **terms})
