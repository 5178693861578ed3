"""The registry of methods, by their names in jobs. An entry is all that the rest of the program knows of a method.

What a method decides and does in a run is imported by the name in its entry (`begin` in workshops.py), because it needs
modules that use the registry themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec.structs import replace

from lanfit.errors import lanfit_error
from lanfit.settings import methods
from lanfit.settings.changes import Changes
from lanfit.settings.fields import Value
from lanfit.settings.job import Job
from lanfit.settings.methods import MethodSettings
from lanfit.wire.messages import FitTask
from lanfit.wire.tasks import Fold
from lanfit_server.methods.base import Task
from lanfit_server.methods.federated.schedule import first_step, optimizer_of, schedule_of
from lanfit_server.methods.independent import fit_tasks, kfold_tasks


class Kind(Protocol):
    """The registry entry of a method."""

    @property
    def settings(self) -> MethodSettings:
        """Return its entry in the table of the settings."""
        ...

    @property
    def begins(self) -> str:
        """Return `module:callable`, which gets a `Context` and returns both halves of the method for one run."""
        ...

    @property
    def in_rounds(self) -> bool:
        """Whether tasks depend on the results of others, so that results alone do not make an outcome."""
        ...

    @property
    def shares_validation(self) -> bool:
        """Whether clients select their best epoch on validation rows that a program gives for all of them."""
        ...

    def folds(self, job: Job) -> int:
        """Return the number of folds of each shard; 0 for none."""
        ...

    def tasks(self, job: Job) -> list[Task]:
        """Return the tasks that can start at once: all of a method without rounds."""
        ...

    def fit_task(self, fit: FitTask, job: Job, task: Task, rows: Sequence[int]) -> FitTask:
        """Return what a client is to train, with what this method adds.

        Args:
            fit: with what all methods have in common.
            rows: the training rows of each shard.
        """
        ...

    def alone(self, job: Job) -> Mapping[str, Value]:
        """Return the settings with which one machine trains the same with the same budget, where they differ."""
        ...

    def check(self, job: Job) -> None:
        """Check that the method works with this number of clients.

        Raises:
            InputError: it can't.
        """
        ...

    def check_evaluation(self, job: Job, validation: int, test: int) -> None:
        """Check that there are the rows for the evaluations that the job needs.

        Raises:
            InputError: there are none.
        """
        ...


class Fit:
    """Every client fits its own copy of the model on its shard; the best model is the outcome."""

    settings = methods.FIT
    begins = "lanfit_server.methods.independent_workshop:begin"
    in_rounds = False
    shares_validation = True

    def folds(self, job: Job) -> int:
        return 0

    def tasks(self, job: Job) -> list[Task]:
        return fit_tasks(job.clients, job.seed, Changes.of(job.changes))

    def fit_task(self, fit: FitTask, job: Job, task: Task, rows: Sequence[int]) -> FitTask:
        fold = fold_of(job, task.fold) if task.fold else None
        return replace(fit, patience=job.patience or 0, keep_last=not job.keeps_best, fold=fold)

    def alone(self, job: Job) -> Mapping[str, Value]:
        return {}

    def check(self, job: Job) -> None:
        pass

    def check_evaluation(self, job: Job, validation: int, test: int) -> None:
        pass


class KFold(Fit):
    """K-fold cross-validation on every client's shard; a client's model is that of its best fold."""

    settings = methods.KFOLD
    shares_validation = False

    def folds(self, job: Job) -> int:
        return job.folds

    def tasks(self, job: Job) -> list[Task]:
        return kfold_tasks(job.clients, job.folds, job.seed, Changes.of(job.changes))


class Federated:
    """Clients train the same weights, round after round."""

    settings = methods.FEDERATED
    begins = "lanfit_server.methods.federated.workshop:begin"
    in_rounds = True
    shares_validation = False

    def folds(self, job: Job) -> int:
        return 0

    def tasks(self, job: Job) -> list[Task]:
        return schedule_of(job).tasks(1)

    def fit_task(self, fit: FitTask, job: Job, task: Task, rows: Sequence[int]) -> FitTask:
        # Patience counts rounds, and the server compares them.
        return replace(
            fit,
            round=task.round or 0,
            local_steps=job.local_steps or 0,
            proximal=job.proximal,
            first_step=first_step(job, task, rows),
            keep_last=True,
            score_start=task.evaluates_start,
        )

    def alone(self, job: Job) -> Mapping[str, Value]:
        # Its rounds in one go; patience counts rounds, which there are none of.
        keep = "best" if job.keeps_best else "last"
        return {"method": "fit", "epochs": job.epochs * job.rounds, "patience": None, "keep": keep}

    def check(self, job: Job) -> None:
        schedule_of(job)
        optimizer_of(job, ())

    def check_evaluation(self, job: Job, validation: int, test: int) -> None:
        if schedule_of(job).compares and not validation and not test:
            raise lanfit_error("rounds.no-evaluation", given="--keep best" if job.patience is None else "--patience")


#: All methods. Their settings are in the table of `lanfit.settings.methods`, too.
METHODS: dict[str, Kind] = {kind.settings.name: kind for kind in (Fit(), KFold(), Federated())}


def folds_of(job: Job) -> int:
    """Return the number of folds of each shard; 0 for none."""
    return METHODS[job.method].folds(job)


def fold_of(job: Job, number: int) -> Fold:
    """Return a fold of a job; all shards are divided with the job's own seed, so that anyone can reproduce the
    folds."""
    return Fold(number, job.folds, job.seed, job.validation_split, few=job.deal in ("dirichlet", "classes"))
