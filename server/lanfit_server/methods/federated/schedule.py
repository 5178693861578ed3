"""The schedule of rounds: participants and the end. It depends on the job and its seed alone.

So no event of a run changes it; to repeat a run, the clients that were left out for lateness must be given.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import msgspec
import numpy as np

from lanfit.core.seeds import derive_seed
from lanfit.settings.changes import NO_CHANGES, Changes
from lanfit.settings.job import Job
from lanfit_server.methods.base import Task, by_loss
from lanfit_server.methods.federated.aggregation import check_krum, trimmed
from lanfit_server.methods.federated.server_optimizers import ServerOptimizer, Strategy, server_optimizer


def schedule_of(job: Job) -> Schedule:
    """Return the rounds of a job.

    Raises:
        InputError: the aggregation does not work with this number of clients.
    """
    return Schedule(
        shards=job.clients,
        seed=job.seed,
        rounds=job.rounds,
        share=job.share,
        minimum=least_updates(job),
        patience=job.patience,
        keeps_best=job.keeps_best,
        absent=frozenset(absent_of(job)),
        epochs=job.epochs,
        changes=Changes.of(job.changes),
    )


def optimizer_of(job: Job, trainable: Collection[str]) -> ServerOptimizer:
    """Return the optimizer with which the server steps, over the arrays with these names.

    Raises:
        InputError: a parameter is out of its range.
    """
    # The proximal term affects the clients only.
    strategy = "fedavg" if job.strategy == "fedprox" else job.strategy
    return server_optimizer(
        msgspec.convert(strategy, Strategy),
        job.server_learning_rate,
        job.server_momentum,
        job.server_beta_1,
        job.server_beta_2,
        job.server_tau,
        trainable=frozenset(trainable),
    )


def least_updates(job: Job) -> int:
    """Return the number of updates that a round needs.

    Raises:
        InputError: more than there are clients, or the aggregation can't be had of so many.
    """
    least = job.min_clients or 1
    if job.aggregation == "krum":
        check_krum(job.clients, job.byzantine)
        least = max(least, 2 * job.byzantine + 3, job.krum_keep)
    if job.aggregation == "trimmed-mean":
        trimmed(job.clients, job.trim)
    return least


def absent_of(job: Job) -> list[tuple[int, int]]:
    """Return the (round, shard) pairs that do not participate, counted from 1 and 0."""
    pairs = (name.split(":") for name in job.absent or ())
    return [(int(number), int(shard) - 1) for number, shard in pairs]


def steps_of_epoch(rows: Sequence[int], batch_size: int) -> int:
    """Return by how many steps an epoch advances learning rate schedules, the same for all clients.

    Args:
        rows: training rows of each shard.
    """
    return math.ceil(sum(rows) / (max(1, len(rows)) * batch_size))


def first_step(job: Job, task: Task, rows: Sequence[int]) -> int:
    """Return by how many steps earlier rounds have advanced learning rate schedules.

    Args:
        rows: training rows of each shard.
    """
    if not task.round:
        return 0
    if job.local_steps:
        return (task.round - 1) * job.local_steps
    return task.epochs_before * steps_of_epoch(rows, job.batch_size)


@dataclass(frozen=True)
class Schedule:
    """The rounds of a run: McMahan et al. 2017, algorithm 1, without the arithmetic on weights.

    Args:
        shards: how many there are.
        share: of the shards that take part in a round; at least `minimum` do.
        minimum: fewer updates than that are no round.
        patience: end after so many rounds without a lower loss; None: never.
        keeps_best: whether the outcome is the best round, and not the last; with patience it always is.
        absent: (round, shard) pairs that take no part, counted from 1 and 0.
        epochs: of a round, as long as they are not changed.
        changes: settings that change from a round on.
    """

    shards: int
    seed: int
    rounds: int
    share: float = 1.0
    minimum: int = 1
    patience: int | None = None
    keeps_best: bool = False
    absent: Collection[tuple[int, int]] = field(default_factory=frozenset)
    epochs: int = 1
    changes: Changes = NO_CHANGES

    def tasks(self, number: int, away: Collection[int] = ()) -> list[Task]:
        """Return the tasks of a round, from 1, in the order of summation.

        Args:
            away: shards whose owner is absent, which no other client can train.
        """
        out = {*away, *(shard for round_, shard in self.absent if round_ == number)}
        settings, before = self.changes.of_round(number), self.changes.epochs_before(number, self.epochs)
        return [
            Task(
                f"round-{number}-shard-{shard + 1}",
                shard,
                derive_seed(self.seed, "federated", number, shard),
                round=number,
                settings=settings,
                epochs_before=before,
            )
            for shard in self._drawn(number)
            if shard not in out
        ]

    def _drawn(self, number: int) -> list[int]:
        wanted = min(self.shards, max(self.minimum, 1, math.floor(self.share * self.shards + 0.5)))
        if wanted == self.shards:
            return list(range(self.shards))
        chance = np.random.RandomState(derive_seed(self.seed, "round", number))
        return sorted(chance.choice(self.shards, wanted, replace=False).tolist())

    def is_over(self, losses: Sequence[float]) -> bool:
        """Return whether the rounds are over, given the losses so far."""
        if len(losses) >= self.rounds:
            return True
        if self.patience is None or not losses:
            return False
        return len(losses) - self.best(losses) >= self.patience

    def outcome(self, losses: Sequence[float]) -> int:
        """Return the round whose weights are the outcome; 0 without any."""
        return self.best(losses) if self.compares else len(losses)

    @property
    def compares(self) -> bool:
        """Whether rounds are compared by their losses."""
        return self.keeps_best or self.patience is not None

    @staticmethod
    def best(losses: Sequence[float]) -> int:
        """Return the round, from 1, with the lowest loss, the first of equal ones; NaN is the worst. 0 without any."""
        if not losses:
            return 0
        return min(range(len(losses)), key=lambda number: by_loss(losses[number])) + 1
