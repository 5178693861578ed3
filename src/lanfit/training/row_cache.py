"""The normalized rows of a task, cached from one round to the next, because they do not change.

Only rows of federated rounds are cached: tasks of other methods have different rows. The cached rows are released
before others are made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lanfit.data.shard import Samples, Shard
from lanfit.training.folds import TaskRows, chosen_rows, rows_of_fold, rows_of_shard
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import FitTask, Model


@dataclass(frozen=True)
class ReadyRows:
    """Rows to train on, rows to evaluate the starting weights on, and the spec of their shard."""

    rows: TaskRows
    to_evaluate: Samples
    """The raw validation rows."""
    shard: BlockSpec
    left_out: int = 0
    """The number of training rows that are in no batch."""


class RowCache:
    """Makes the rows of tasks, and caches the last ones if they belong to a round.

    Args:
        place: copies an array to the device of the backend; see Backend.place.
    """

    def __init__(self, place: Callable[[AnyArray], AnyArray]) -> None:
        self._place = place
        self._cached: tuple[object, object, ReadyRows] | None = None

    def of(
        self,
        task: FitTask,
        sent: BlockSpec,
        source: object,
        load: Callable[[], Shard],
        least_step: int = 1,
        chosen: ArrayFile | None = None,
    ) -> ReadyRows:
        """Return the rows of a task, from the cache if possible.

        Args:
            dealt: the block of the shard that the server sent.
            source: the client's own data as it was read; None if all rows are in the shard.
            load: returns the arrays of the shard, including the client's own data.
            least_step: the fewest rows of a step on the client's own data, 1 or 2.
            chosen: the indices of the task's rows; None: all rows of the shard.

        Raises:
            InputError: there are too few rows for the folds, or the labels in the client's own data have changed.
        """
        model = task.model
        wanted = (_form(model), sent.id, task.fold, task.batch_size, chosen and chosen.block.id)
        if self._cached is not None:
            key, of_source, ready = self._cached
            if task.round and key == wanted and of_source is source:
                return ready
            self._cached = None
            del ready
        shard = load() if chosen is None else chosen_rows(load(), chosen.load())
        rows = rows_of_fold(model, shard, task.fold) if task.fold else rows_of_shard(model, shard)
        count = len(rows.train)
        if source is not None and least_step > 1:
            rows = without_single(rows, task.batch_size)
        left_out = count - len(rows.train)
        # The client's own data may have changed, and the hash of the block does not cover it.
        spec = sent if source is None else block_of(shard.block())
        to_evaluate = replace(shard.validation, weights=None)
        if not task.round:
            return ReadyRows(rows, to_evaluate, spec, left_out)
        ready = ReadyRows(self._placed(rows), to_evaluate.map(np.copy), spec, left_out)
        self._cached = wanted, source, ready
        return ready

    def _placed(self, rows: TaskRows) -> TaskRows:
        return replace(rows, train=rows.train.map(self._place), validation=rows.validation.map(self._place))


def without_single(rows: TaskRows, batch_size: int) -> TaskRows:
    """Leave the last row out if it would be a batch by itself: its gradient could reveal that row."""
    if len(rows.train) % batch_size != 1:
        return rows
    return replace(rows, train=rows.train.take(slice(-1)))


def _form(model: Model) -> object:
    """Return the parts of a model that its rows depend on."""
    return model.takes, model.gives
