"""The registry of methods, by their names in jobs: the facts about each that are known before a run starts.

Their other halves, which do the work of a run, are in workshops.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from lanfit.errors import lanfit_error
from lanfit.settings.changes import Changes
from lanfit.settings.fields import Value
from lanfit.settings.job import Job
from lanfit_server.methods.base import Task
from lanfit_server.methods.federated.schedule import optimizer_of, schedule_of
from lanfit_server.methods.independent import fit_tasks, kfold_tasks


class Kind(Protocol):
    """The registry entry of a method."""

    @property
    def in_rounds(self) -> bool:
        """Whether tasks depend on the results of others, so that results alone do not make an outcome."""
        ...

    def folds(self, job: Job) -> int:
        """Return the number of folds of each shard; 0 for none."""
        ...

    def tasks(self, job: Job) -> list[Task]:
        """Return the tasks that can start at once: all of a method without rounds."""
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


@dataclass(frozen=True)
class Fit:
    """Every client fits its own copy of the model on its shard; the best model is the outcome."""

    in_rounds: bool = False

    def folds(self, job: Job) -> int:
        return 0

    def alone(self, job: Job) -> Mapping[str, Value]:
        return {}

    def check(self, job: Job) -> None:
        pass

    def check_evaluation(self, job: Job, validation: int, test: int) -> None:
        pass

    def tasks(self, job: Job) -> list[Task]:
        return fit_tasks(job.clients, job.seed, Changes.of(job.changes))


class KFold(Fit):
    """K-fold cross-validation on every client's shard; a client's model is that of its best fold."""

    def folds(self, job: Job) -> int:
        return job.folds

    def tasks(self, job: Job) -> list[Task]:
        return kfold_tasks(job.clients, job.folds, job.seed, Changes.of(job.changes))


@dataclass(frozen=True)
class Federated:
    """Clients train the same weights, round after round."""

    in_rounds: bool = True

    def folds(self, job: Job) -> int:
        return 0

    def tasks(self, job: Job) -> list[Task]:
        return schedule_of(job).tasks(1)

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


FIT, KFOLD, FEDERATED = Fit(), KFold(), Federated()
METHODS: Mapping[str, Kind] = {"fit": FIT, "kfold": KFOLD, "federated": FEDERATED}


def folds_of(job: Job) -> int:
    """Return the number of folds of each shard; 0 for none."""
    return METHODS[job.method].folds(job)
