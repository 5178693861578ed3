"""Methods with independent tasks: every client has its own models, and the best one is the outcome.

`fit` has one task per shard. `kfold` has one per shard and fold, with a fresh model for each: a client that is lost
takes one fold with it (docs/decisions/0005), and a client's model is that of its best fold.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from lanfit.core.seeds import derive_seed
from lanfit.errors import lanfit_error
from lanfit.settings.changes import NO_CHANGES, Changes
from lanfit.settings.job import DEFAULTS
from lanfit_server.methods.base import Task, by_loss
from lanfit_server.methods.claims import weighted
from lanfit_server.run.events import Commanded, ModelEvaluated
from lanfit_server.run.instructions import (
    AddTasks,
    AdjustTasks,
    AskClients,
    Change,
    Do,
    Emit,
    Instruction,
    RecordSettings,
    Work,
)
from lanfit_server.run.tasks import Record, State, TaskTable

if TYPE_CHECKING:
    from lanfit_server.clusters.events import Evaluated
    from lanfit_server.store.ledger import RoundRecord
    from lanfit_server.store.summary import MergedFacts


def fit_tasks(shards: int, seed: int, changes: Changes = NO_CHANGES) -> list[Task]:
    """Return the tasks of `fit`: one per shard."""
    tasks = [Task(f"shard-{index + 1}", index, derive_seed(seed, "fit", index)) for index in range(shards)]
    return [replace(task, settings=changes.of_task(task.key)) for task in tasks]


def kfold_tasks(shards: int, folds: int, seed: int, changes: Changes = NO_CHANGES) -> list[Task]:
    """Return the tasks of `kfold`: one per shard and fold, ordered by fold."""
    tasks = [
        Task(f"shard-{index + 1}-fold-{fold}", index, derive_seed(seed, "kfold", index, fold), fold)
        for fold in range(1, folds + 1)
        for index in range(shards)
    ]
    return [replace(task, settings=changes.of_task(task.key)) for task in tasks]


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run."""

    best: Task | None
    """The task with the final model; None without any result."""
    by_shard: Mapping[int, Task] = field(default_factory=dict)
    """The task with the model of the shard's client, for every shard with a result."""


@dataclass(frozen=True)
class EvaluateResult(Work):
    """Write the model of a committed result and its chart, and evaluate it; its result is the metrics."""

    task: Task
    owner: str


@dataclass(frozen=True)
class Merge(Work):
    """Merge all models; its result is a `MergedFacts`."""

    name: str


class Independent:
    """A `Method` whose tasks can all start at once.

    Args:
        folds: of each shard; 0 without.
        changes: settings of tasks that the job lists; the tasks have them already.
        merge: how the models are merged.
        compares: whether clients evaluate the models, as the server has no test rows; each may take `limit` seconds.
        max_weight: what the rows of one client count at most, as a multiple of the median of all.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        table: TaskTable,
        *,
        folds: int = 0,
        changes: Changes = NO_CHANGES,
        merge: Sequence[str] = (),
        compares: bool = False,
        limit: float = math.inf,
        max_weight: float = DEFAULTS.max_weight,
    ) -> None:
        self.failure = ""
        self.is_over = False
        self.waits_for_clients = compares
        self.merged: dict[str, MergedFacts] = {}
        self._tasks = tasks
        self._table = table
        self._folds = folds
        self._changes = changes
        self._merge = list(merge)
        self._limit = limit
        self._max_weight = max_weight
        self._losses: dict[str, float] = {}
        self._compared: dict[str, float] = {}
        self._working = 0
        self._to_compare: list[Task] | None = None

    @property
    def rounds(self) -> int:
        return 0

    def begin(self, rounds: Sequence[RoundRecord], now: float) -> Sequence[Instruction]:
        return [AddTasks(self._tasks)]

    def on_committed(self, record: Record, now: float) -> Sequence[Instruction]:
        key, trained = record.task.key, record.trained
        changes = self._changes.as_trained(key, trained.epochs, trained.rates)
        recorded: list[Instruction] = []
        if changes != self._changes:
            self._changes = changes
            recorded.append(RecordSettings({"changes": changes.listed()}))
        return [*recorded, self._do(EvaluateResult(record.task, record.owner))]

    def _do(self, work: Work) -> Instruction:
        self._working += 1
        return Do(work)

    def on_work_done(self, work: Work, result: Any, now: float) -> Sequence[Instruction]:
        self._working -= 1
        match work:
            case EvaluateResult(task, owner):
                self._losses[task.key] = result.get("loss", math.nan)
                return [Emit(ModelEvaluated(task.key, result, owner, task.fold or 0, self._folds))]
            case Merge(name):
                self.merged[name] = result
                if not result.metrics and self.waits_for_clients:
                    return [self._ask(name)]
        return []

    def _ask(self, model: str) -> Instruction:
        return AskClients(model, "test", sorted({task.shard for task in self._tasks}), self._limit)

    def on_evaluated(self, model: str, answers: Mapping[str, Evaluated], now: float) -> Sequence[Instruction]:
        metrics = weighted(list(answers.values()), self._max_weight)
        if model in self.merged:
            self.merged[model] = msgspec.structs.replace(self.merged[model], metrics=metrics)
        elif metrics:
            self._compared[model] = metrics.get("loss", math.nan)
            return [Emit(ModelEvaluated(model, metrics))]
        return []

    def advance(self, now: float) -> Sequence[Instruction]:
        if self._working:
            return []
        if self.waits_for_clients:
            # The clients' models are compared on the test rows of all clients: each is sent to all.
            if self._to_compare is None:
                self._to_compare = list(self.outcome().by_shard.values())
            if self._to_compare:
                return [self._ask(self._to_compare.pop(0).key)]
        if self._merge and self._losses:
            return [self._do(Merge(self._merge.pop(0)))]
        self.is_over = True
        return []

    def seconds_left(self, now: float) -> float:
        return math.inf

    def on_deadline(self, now: float) -> Sequence[Instruction]:
        return []

    def on_change(self, change: Change) -> Sequence[Instruction]:
        """Change the tasks that no client has received yet, and those in progress from their next epoch on.

        The former are recorded at once. Which epoch the latter is, is known when the result of the task is there.
        """
        setting, value = change.setting, change.value
        keys = [record.task.key for record in self._table.open if record.is_untouched]
        begun = [record.task.key for record in self._table.open if not record.is_untouched]
        if not keys and not begun:
            raise lanfit_error("command.no-task-left", setting=setting)
        instructions: list[Instruction] = [
            Emit(Commanded(f"set {setting}", f"{value:g}", tasks=tuple(keys), begun=tuple(begun)))
        ]
        if keys:
            self._changes = self._changes.for_tasks(keys, setting, value)
            for key in keys:
                self._table.change(key, self._changes.of_task(key))
            instructions.append(RecordSettings({"changes": self._changes.listed()}))
        if begun:
            epochs = int(value) if setting == "epochs" else None
            instructions.append(AdjustTasks(begun, epochs, value if setting == "learning_rate" else None))
        return instructions

    def postpone(self, seconds: float) -> None:
        pass  # there is no deadline

    def stop(self, *, for_good: bool) -> None:
        self.waits_for_clients = False

    def status(self) -> str:
        states = [record.state for record in self._table.records()]
        if states and all(state is State.COMMITTED for state in states):
            return "done"
        return "partial" if State.COMMITTED in states else "failed"

    def outcome(self) -> Outcome:
        """Return the outcome of the results so far, which does not depend on their order. The lowest loss is best."""
        shards = dict.fromkeys(task.shard for task in self._tasks)
        best = {shard: _lowest([t for t in self._tasks if t.shard == shard], self._losses) for shard in shards}
        by_shard = {shard: task for shard, task in best.items() if task is not None}
        return Outcome(_lowest(by_shard.values(), {**self._losses, **self._compared}), by_shard)


def _lowest(tasks: Iterable[Task], losses: Mapping[str, float]) -> Task | None:
    """Return the task with the lowest loss, the first of equal ones; None without any result."""
    return min((task for task in tasks if task.key in losses), key=lambda task: by_loss(losses[task.key]), default=None)
