"""Method `federated`: in rounds, clients train the same weights on their shards, and what they give becomes one model.

A task is one round on one shard. Which shards take part in a round is drawn from the seed alone, so that nothing that
happens on the way changes it; who was left out because it came too late is told by who repeats a run.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from lanfit.seeds import derive_seed
from lanfit_server.methods import Task


def steps_of_round(rows: Sequence[int], batch_size: int, epochs: int, local_steps: int) -> int:
    """How far a round moves schedules of the learning rate: one number for all clients, of the mean of their rows.

    Args:
        rows: training rows of each shard.
        local_steps: batches of a round; 0: whole epochs.
    """
    return local_steps or epochs * math.ceil(sum(rows) / (max(1, len(rows)) * batch_size))


@dataclass(frozen=True)
class Federated:
    """The rounds of a run. McMahan et al. 2017, algorithm 1, without what is done to the weights.

    Args:
        shards: how many there are.
        share: of the shards that take part in a round; at least `minimum` do.
        minimum: fewer updates than that are no round.
        patience: end after so many rounds without a lower loss; None: never.
        keeps_best: whether the outcome is the best round, and not the last; with patience it always is.
        absent: (round, shard) pairs that take no part, counted from 1 and 0.
    """

    shards: int
    seed: int
    rounds: int
    share: float = 1.0
    minimum: int = 1
    patience: int | None = None
    keeps_best: bool = False
    absent: Collection[tuple[int, int]] = field(default_factory=frozenset)

    def tasks(self, number: int, away: Collection[int] = ()) -> list[Task]:
        """The tasks of a round, from 1, in the order in which their results are added up.

        Args:
            away: shards that nobody can train now.
        """
        out = {*away, *(shard for round_, shard in self.absent if round_ == number)}
        return [
            Task(
                f"round-{number}-shard-{shard + 1}",
                shard,
                derive_seed(self.seed, "federated", number, shard),
                round=number,
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
        """Whether no round follows those that gave these losses."""
        if len(losses) >= self.rounds:
            return True
        if self.patience is None or not losses:
            return False
        return len(losses) - self.best(losses) >= self.patience

    def outcome(self, losses: Sequence[float]) -> int:
        """The round whose weights are the outcome; 0 without any."""
        return self.best(losses) if self.compares else len(losses)

    @property
    def compares(self) -> bool:
        """Whether rounds are held against each other by their losses."""
        return self.keeps_best or self.patience is not None

    @staticmethod
    def best(losses: Sequence[float]) -> int:
        """The round, from 1, with the lowest loss, of equal ones the first; NaN is the worst. 0 without any."""
        if not losses:
            return 0
        return min(range(len(losses)), key=lambda n: math.inf if math.isnan(losses[n]) else losses[n]) + 1
