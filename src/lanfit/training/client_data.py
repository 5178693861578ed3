"""The client's own data: reads and checks the files, draws rows, and numbers labels as all clients do.

Used by the trainer; no network code. Only the return value of `statistics` may leave this machine.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import ceil
from pathlib import Path

import msgspec
import numpy as np

from lanfit.data.labels import row_classes, words_of_classes
from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS
from lanfit.data.partitioning import STRATIFIED, Partitioning
from lanfit.data.prepare import DataRequest, Prepared, prepare, take_parts
from lanfit.data.shard import Samples, Shard
from lanfit.data.text_labels import LABELS, words_to_array
from lanfit.errors import lanfit_error
from lanfit.settings.parts import PartRange
from lanfit.training.folds import check_folds, convert, fit_normalizers
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import ClientData, Fold, Model
from lanfit.wire.tasks import X, Y

#: The number of rows of the batch with which a model is checked.
BATCH = 32
#: The gradient of a model without hidden layers on a single row reveals that row, so steps have more.
LEAST_BATCH = 2


class ClientFiles:
    """The rows of a folder with `X/` and `Y/`, kept in memory until others are requested.

    Reading again gives the same.
    """

    def __init__(self) -> None:
        self._wanted: object = None
        self._rows: Prepared | None = None

    def read(self, folder: Path, model: Model, own: ClientData) -> Prepared:
        """Read and check the files, and draw test, validation and training rows.

        Raises:
            InputError: the files can't be used. The message names file and row.
        """
        if len(model.takes) + len(model.gives) > 2:
            raise lanfit_error("own-data.several-arrays")
        wanted = (folder, own, model.input_shape, model.output_shape, model.target)
        if self._rows is None or self._wanted != wanted:
            self.forget()
            self._rows = _read(folder, model, own)
            self._wanted = wanted
        return self._rows

    def forget(self) -> None:
        """Release the rows."""
        self._wanted = self._rows = None


def _read(folder: Path, model: Model, own: ClientData) -> Prepared:
    # The normalizers are fitted on the rows of all clients.
    inputs = tuple(msgspec.structs.replace(each, normalizer=NO_NORMALIZER.name) for each in model.takes)
    outputs = tuple(msgspec.structs.replace(each, normalizer=NO_NORMALIZER.name) for each in model.gives)
    rows = prepare(
        DataRequest(
            x_dir=folder / "X",
            y_dir=folder / "Y",
            inputs=inputs,
            outputs=outputs,
            shards=1,
            batch_size=own.batch_size,
            test_split=own.test_split,
            # Each fold draws its own validation rows from its training rows.
            validation_split=0.0 if own.folds else own.validation_split,
            seed=own.seed,
            npz_key=own.npz_key,
            decimal=own.decimal,
            thousands=own.thousands,
            partitioning=Partitioning("parts", parts_of=own.parts_of) if own.parts_of else STRATIFIED,
        )
    )
    if own.parts_of:
        rows = take_parts(rows, [PartRange(own.first_part, own.last_part)], own.batch_size)
    if own.folds:
        train, fold = rows.shards[0].train, Fold(1, own.folds, own.seed, own.validation_split)
        classes, words = row_classes(outputs, train.targets), words_of_classes(outputs, train.targets, rows.labels)
        check_folds(fold, len(train), classes, own.batch_size, words)
    return rows


def check_enough(train: int, evaluated: Sequence[int], batch: int, least: int) -> None:
    """Check that nothing is computed from so few rows that single rows could be inferred from it.

    Args:
        evaluated: the number of rows in each set on which models are evaluated.
        batch: the number of rows in a step.
        least: the fewest training rows; a tenth of it is the fewest rows for an evaluation.

    Raises:
        InputError: there are too few rows, in total or in a step.
    """
    if train < least:
        raise lanfit_error("own-data.few-rows", rows=train, least=least)
    check_evaluated(evaluated, least)
    if batch < least_batch(least):
        raise lanfit_error("own-data.small-batch", batch=batch, least=least_batch(least))
    if batch > train:
        raise lanfit_error("split.batch-of-shard", batch=batch, rows=train, shard=1, shards=1)


def check_evaluated(evaluated: Sequence[int], least: int) -> None:
    """Check that models are evaluated on enough rows, or on none.

    Raises:
        InputError: there are too few.
    """
    if few := [rows for rows in evaluated if 0 < rows < least // 10]:
        raise lanfit_error("own-data.few-to-score", rows=min(few), least=least // 10)


def fewest_to_train(rows: Prepared, own: ClientData) -> int:
    """Return the number of rows of the smallest task: all training rows, or those of a fold."""
    if not own.folds:
        return rows.train
    train = rows.train - ceil(rows.train / own.folds)
    return train - ceil(own.validation_split * train)


def least_batch(least: int) -> int:
    """Return the fewest rows of a step: one, if the user of this machine accepts tasks with a single row."""
    return min(LEAST_BATCH, least)


def batch_to_try(model: Model, rows: Prepared) -> Samples:
    """Return a batch of training rows, as the model takes them."""
    normalizers = fit_normalizers(model, rows.moments.__getitem__, rows.target_moments.__getitem__)
    return convert(model, normalizers, rows.shards[0].train.take(slice(BATCH)))


def statistics(rows: Prepared) -> dict[str, AnyArray]:
    """Return the statistics for the server: moments of the training inputs and numeric targets, and the labels."""
    arrays = rows.moments[X].to_arrays()
    if Y in rows.target_moments:
        arrays |= rows.target_moments[Y].to_arrays(OF_TARGETS)
    if Y in rows.labels:
        arrays[LABELS] = words_to_array(rows.labels[Y])
    return arrays


def shard_of(rows: Prepared, common: Shard) -> Shard:
    """Return the shard to train on: the client's rows with the normalizers of the `common` shard, as all clients.

    Raises:
        InputError: the labels in the files are not those of the last survey.
    """
    [shard] = rows.shards
    train, validation = (_numbered(rows, samples, common) for samples in (shard.train, shard.validation))
    return replace(common, train=train, validation=validation)


def rows_to_test(rows: Prepared, common: Shard) -> Samples:
    """Return the client's own test rows.

    Raises:
        InputError: as `shard_of`.
    """
    return _numbered(rows, rows.test_samples, common)


def rows_to_validate(rows: Prepared, common: Shard) -> Samples:
    """Return the client's own validation rows.

    Raises:
        InputError: as `shard_of`.
    """
    return _numbered(rows, rows.shards[0].validation, common)


def _numbered(rows: Prepared, samples: Samples, common: Shard) -> Samples:
    """Return targets as all clients number them: a string label becomes its index among the labels of all clients."""
    targets = dict(samples.targets)
    for name, words in rows.labels.items():
        try:
            united = common.labels[name]
            numbers = np.array([united.index(word) for word in words], np.int32)
        except (KeyError, ValueError) as error:
            raise lanfit_error("own-data.labels-changed") from error
        targets[name] = numbers[targets[name].astype(np.int64)]
    return replace(samples, targets=targets)
