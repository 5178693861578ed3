"""The rows of a task as the backend takes them, kept from one round to the next: they are the same in each.

Only rounds keep theirs: the tasks of other methods have rows of their own. What is kept is let go before others are
made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from lanfit.training.folds import TaskRows, rows_of_fold, rows_of_shard
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import FitTask, Model

Shard = Mapping[str, AnyArray]


@dataclass(frozen=True)
class ReadyRows:
    """Rows to train on, rows to score the starting weights on, and what shard they are of."""

    rows: TaskRows
    to_score: tuple[AnyArray, AnyArray]
    """The validation rows as the files hold them."""
    shard: BlockSpec
    left_out: int = 0
    """Training rows that are in no batch."""


class KeptRows:
    """Makes the rows of tasks, and keeps the last ones if they are of a round.

    Args:
        place: puts an array where the backend computes, in memory that is not a file's.
    """

    def __init__(self, place: Callable[[AnyArray], AnyArray]) -> None:
        self._place = place
        self._kept: tuple[object, object, ReadyRows] | None = None

    def of(
        self, task: FitTask, dealt: BlockSpec, source: object, load: Callable[[], Shard], least_step: int = 1
    ) -> ReadyRows:
        """The rows of a task.

        Args:
            dealt: the shard that the server dealt.
            source: the client's own files, as they were read; None when all rows are in the shard.
            load: gives the arrays of the shard, with those of the own files in it.
            least_step: of how many own rows every step must be, 1 or 2.

        Raises:
            InputError: there are too few rows for so many folds, or the own files have other labels now.
        """
        model = task.model
        wanted = (_form(model), dealt.id, task.fold, task.batch_size)
        if self._kept is not None:
            kept, of_source, ready = self._kept
            if task.round and kept == wanted and of_source is source:
                return ready
            self._kept = None
            del ready
        shard = load()
        rows = rows_of_fold(model, shard, task.fold) if task.fold else rows_of_shard(model, shard)
        count = len(rows.x)
        if source is not None and least_step > 1:
            rows = without_single(rows, task.batch_size)
        left_out = count - len(rows.x)
        # Own files may have changed since, and no block has their hash.
        spec = dealt if source is None else block_of(shard)
        to_score = shard["x_validation"], shard["y_validation"]
        if not task.round:
            return ReadyRows(rows, to_score, spec, left_out)
        ready = ReadyRows(self._placed(rows), (to_score[0].copy(), to_score[1].copy()), spec, left_out)
        self._kept = wanted, source, ready
        return ready

    def _placed(self, rows: TaskRows) -> TaskRows:
        return replace(
            rows,
            x=self._place(rows.x),
            y=self._place(rows.y),
            x_validation=self._place(rows.x_validation),
            y_validation=self._place(rows.y_validation),
            w=None if rows.w is None else self._place(rows.w),
            w_validation=None if rows.w_validation is None else self._place(rows.w_validation),
        )


def without_single(rows: TaskRows, batch_size: int) -> TaskRows:
    """Leave the last row out if the last batch of an epoch would be a single one: its step would be that row."""
    if len(rows.x) % batch_size != 1:
        return rows
    w = rows.w
    return replace(rows, x=rows.x[:-1], y=rows.y[:-1], w=w if w is None else w[:-1])


def _form(model: Model) -> object:
    """What of a model decides how rows are made for it."""
    return model.target, model.normalizer, model.target_normalizer, model.output_shape
