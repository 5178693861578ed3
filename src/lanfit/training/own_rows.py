"""The client's own files: reads and checks them, draws their rows, numbers their labels as all clients do.

For the trainer. Knows no network: what may leave this machine is what `statistics` returns, and no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np

from lanfit.data.dealing import STRATIFIED, Dealing
from lanfit.data.labels import Target, class_ids
from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, fit_normalizer
from lanfit.data.prepare import DataRequest, Prepared, prepare, take_parts
from lanfit.data.text_labels import LABELS, words_from_array, words_to_array
from lanfit.mistakes import mistake
from lanfit.models.scoring import check_batch
from lanfit.parts import PartRange
from lanfit.training.folds import check_folds, convert
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Fold, Model, OwnRows

#: Rows of the batch that is tried.
BATCH = 32
#: A step on a single row of a model without hidden layers is that row: none is made.
LEAST_BATCH = 2


class OwnFiles:
    """The rows of a folder with `X/` and `Y/`; kept while the same are wanted, and the same when read again."""

    def __init__(self) -> None:
        self._wanted: object = None
        self._rows: Prepared | None = None

    def read(self, folder: Path, model: Model, own: OwnRows) -> Prepared:
        """Read and check the files, and draw test, validation and training rows.

        Raises:
            InputError: whatever is wrong with the files; file and row are named.
        """
        wanted = (folder, own, model.input_shape, model.output_shape, model.target)
        if self._rows is None or self._wanted != wanted:
            self.forget()
            self._rows = _read(folder, model, own)
            self._wanted = wanted
        return self._rows

    def forget(self) -> None:
        """Let go of the rows."""
        self._wanted = self._rows = None


def _read(folder: Path, model: Model, own: OwnRows) -> Prepared:
    target = Target(model.target)
    rows = prepare(
        DataRequest(
            x_dir=folder / "X",
            y_dir=folder / "Y",
            input_shape=model.input_shape,
            output_shape=model.output_shape,
            target=target,
            shards=1,
            batch_size=own.batch_size,
            test_split=own.test_split,
            # Each fold draws its own validation rows, out of its training rows.
            validation_split=0.0 if own.folds else own.validation_split,
            normalizer="none",
            seed=own.seed,
            npz_key=own.npz_key,
            decimal=own.decimal,
            thousands=own.thousands,
            ids=model.ids,
            ignored=model.ignored,
            dealing=Dealing("parts", parts_of=own.parts_of) if own.parts_of else STRATIFIED,
        )
    )
    if own.parts_of:
        rows = take_parts(rows, [PartRange(own.first_part, own.last_part)], own.batch_size)
    if own.folds:
        shard, fold = rows.shards[0], Fold(1, own.folds, own.seed, own.validation_split)
        classes = class_ids(target, shard.y_train, model.ignored)
        check_folds(fold, len(shard.x_train), classes, own.batch_size, rows.labels)
    return rows


def check_enough(train: int, scored: Sequence[int], batch: int, least: int) -> None:
    """Check that nothing is computed of too few own rows, from which it could be told what they are.

    Args:
        scored: of each set of rows that models are scored on, how many there are.
        batch: rows of a step.
        least: training rows; a tenth of it, of rows to score on.

    Raises:
        InputError: rows or steps are too small.
    """
    if train < least:
        raise mistake("own-data.few-rows", rows=train, least=least)
    check_scored(scored, least)
    if batch < least_batch(least):
        raise mistake("own-data.small-batch", batch=batch, least=least_batch(least))
    if batch > train:
        raise mistake("split.batch-of-shard", batch=batch, rows=train, shard=1, shards=1)


def check_scored(scored: Sequence[int], least: int) -> None:
    """Check that models are scored on enough own rows, or on none.

    Raises:
        InputError: there are too few.
    """
    if few := [rows for rows in scored if 0 < rows < least // 10]:
        raise mistake("own-data.few-to-score", rows=min(few), least=least // 10)


def fewest_to_train(rows: Prepared, own: OwnRows) -> int:
    """How many rows the smallest task trains on: all training rows, or those of a fold."""
    if not own.folds:
        return rows.train
    train = rows.train - ceil(rows.train / own.folds)
    return train - ceil(own.validation_split * train)


def least_batch(least: int) -> int:
    """Of how many own rows a step must be: one, if a single row is enough for the user of this machine."""
    return min(LEAST_BATCH, least)


def try_batch(model: Model, weights: Mapping[str, AnyArray], rows: Prepared) -> None:
    """Let a batch of training rows go through the model.

    Raises:
        InputError: it does not; says why.
    """
    numbers = rows.target_moments
    x, y = convert(
        model,
        fit_normalizer(model.normalizer, rows.moments),
        fit_normalizer(model.target_normalizer, numbers) if numbers else NO_NORMALIZER,
        rows.shards[0].x_train[:BATCH],
        rows.shards[0].y_train[:BATCH],
    )
    check_batch(model.architecture, model.compile, weights, x, y)


def statistics(rows: Prepared) -> dict[str, AnyArray]:
    """What the server is told: moments of the training rows of X, of their targets if they are numbers, and labels."""
    arrays = rows.moments.to_arrays()
    if rows.target_moments is not None:
        arrays |= rows.target_moments.to_arrays(OF_TARGETS)
    if rows.labels is not None:
        arrays[LABELS] = words_to_array(rows.labels)
    return arrays


def shard_of(rows: Prepared, dealt: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """What a task trains on: the own rows, beside the constants that were `dealt` to all.

    Raises:
        InputError: the labels of the files are not those that were told.
    """
    shard = rows.shards[0]
    return {
        "x_train": shard.x_train,
        "y_train": _numbered(rows, shard.y_train, dealt),
        "x_validation": shard.x_validation,
        "y_validation": _numbered(rows, shard.y_validation, dealt),
        **dealt,
    }


def rows_to_test(rows: Prepared, dealt: Mapping[str, AnyArray]) -> tuple[AnyArray, AnyArray]:
    """The own test rows: inputs and targets.

    Raises:
        InputError: as `shard_of`.
    """
    return rows.x_test, _numbered(rows, rows.y_test, dealt)


def rows_to_validate(rows: Prepared, dealt: Mapping[str, AnyArray]) -> tuple[AnyArray, AnyArray]:
    """The own validation rows: inputs and targets.

    Raises:
        InputError: as `shard_of`.
    """
    shard = rows.shards[0]
    return shard.x_validation, _numbered(rows, shard.y_validation, dealt)


def _numbered(rows: Prepared, y: AnyArray, dealt: Mapping[str, AnyArray]) -> AnyArray:
    """Targets as all clients have them: a label that is a word gets its number among the words of all."""
    words = rows.labels
    if words is None:
        return y
    try:
        united = words_from_array(dealt[LABELS])
        numbers = np.array([united.index(word) for word in words], np.int32)
    except (KeyError, ValueError) as wrong:
        raise mistake("own-data.labels-changed") from wrong
    return numbers[y.astype(np.int64)]
