"""Method `fit`: every client fits its own copy of the model on its shard; the best of them is the outcome."""

from __future__ import annotations

import math
from collections.abc import Sequence

from lanfit.seeds import derive_seed
from lanfit_server.methods import Outcome, Task


class Fit:
    """One task a shard. Best is the lowest loss; of equal ones the first shard's."""

    def __init__(self, shards: int, seed: int) -> None:
        self._tasks = [Task(f"shard-{index + 1}", index, derive_seed(seed, "fit", index)) for index in range(shards)]
        self._losses: dict[str, float] = {}

    def start(self) -> Sequence[Task]:
        return self._tasks

    def on_result(self, task: Task, loss: float) -> Sequence[Task]:
        self._losses[task.key] = loss
        return ()

    def finish(self) -> Outcome:
        done = [task for task in self._tasks if task.key in self._losses]
        return Outcome(min(done, key=lambda task: _for_ordering(self._losses[task.key]), default=None))


def _for_ordering(loss: float) -> float:
    """NaN compares false with everything: count it as the worst."""
    return math.inf if math.isnan(loss) else loss
