"""The rows of a task as the model takes them: of a whole shard, or of one fold of it. Reads nothing, trains nothing.

In a fold everything is made anew from the fold's own training rows: its validation rows, by which the best epoch is
found, and its normalizers. The rows that it holds out are only scored.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from lanfit.data.labels import Target, class_ids, make_target
from lanfit.data.normalize import NO_NORMALIZER, OF_TARGETS, Moments, Normalizer, fit_normalizer
from lanfit.data.split import Rows, folds, split_rows
from lanfit.mistakes import mistake
from lanfit.seeds import derive_seed
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Fold, Model


@dataclass(frozen=True)
class TaskRows:
    """Inputs and targets as the model takes them, the normalizers that made them, and raw rows that are only scored."""

    x: AnyArray
    y: AnyArray
    x_validation: AnyArray
    y_validation: AnyArray
    normalizer: Normalizer
    targets: Normalizer
    held_out: tuple[AnyArray, AnyArray] | None = None
    w: AnyArray | None = None
    """What each training row weighs in the loss; None: all the same. The validation rows' likewise."""
    w_validation: AnyArray | None = None


@dataclass(frozen=True)
class FoldPlan:
    """The row numbers of one fold: each row of the shard stands in exactly one of the arrays."""

    train: Rows
    validation: Rows
    held_out: Rows


def plan_fold(fold: Fold, rows: int, classes: Rows | None) -> FoldPlan:
    """Draw a fold: `scikit-learn`'s (Stratified)KFold(fold.of, shuffle=True, random_state=fold.seed), then its
    validation rows out of its training rows.

    Raises:
        InputError: there are too few rows, or too few of a class.
    """
    rest, held_out = folds(rows, fold.of, fold.seed, classes, few=fold.few)[fold.number - 1]
    seed = derive_seed(fold.seed, "fold validation", fold.number)
    train, validation = split_rows(len(rest), fold.validation_split, seed, None if classes is None else classes[rest])
    return FoldPlan(np.sort(rest[train]), np.sort(rest[validation]), held_out)


def check_folds(fold: Fold, rows: int, classes: Rows | None, batch_size: int, words: Sequence[str] | None) -> None:
    """Check that a shard has rows enough to be cut into `fold.of` folds.

    Raises:
        InputError: too few rows, too few of a class, or fewer training rows than a batch; the numbers are named.
    """
    train = min(len(rest) for rest, _ in folds(rows, fold.of, fold.seed, classes, words, few=fold.few))
    train -= ceil(fold.validation_split * train)
    if batch_size > train:
        raise mistake("split.batch-of-fold", batch=batch_size, rows=train, most=max(1, train))


def rows_of_shard(model: Model, shard: Mapping[str, AnyArray]) -> TaskRows:
    """The training and validation rows that a shard was dealt with, behind the normalizers that came with it."""
    normalizer = Normalizer.of(model.normalizer, shard)
    targets = Normalizer.of(model.target_normalizer, shard, OF_TARGETS)
    x, y = convert(model, normalizer, targets, shard["x_train"], shard["y_train"])
    x_validation, y_validation = convert(model, normalizer, targets, shard["x_validation"], shard["y_validation"])
    w, w_validation = shard.get("w_train"), shard.get("w_validation")
    return TaskRows(x, y, x_validation, y_validation, normalizer, targets, w=w, w_validation=w_validation)


def rows_of_fold(model: Model, shard: Mapping[str, AnyArray], fold: Fold) -> TaskRows:
    """One fold of a shard, whose rows are all in `x_train` and `y_train`.

    Raises:
        InputError: there are too few rows for so many folds.
    """
    x, y, target = shard["x_train"], shard["y_train"], Target(model.target)
    plan = plan_fold(fold, len(x), class_ids(target, y, model.ignored))
    x_train, y_train = x[plan.train], y[plan.train]
    normalizer = fit_normalizer(model.normalizer, Moments.of(x_train))
    numbers = target is Target.VALUES
    targets = fit_normalizer(model.target_normalizer, Moments.of(y_train)) if numbers else NO_NORMALIZER
    w = shard.get("w_train")
    return TaskRows(
        *convert(model, normalizer, targets, x_train, y_train),
        *convert(model, normalizer, targets, x[plan.validation], y[plan.validation]),
        normalizer,
        targets,
        (x[plan.held_out], y[plan.held_out]),
        None if w is None else w[plan.train],
        None if w is None else w[plan.validation],
    )


def convert(
    model: Model, normalizer: Normalizer, targets: Normalizer, x: AnyArray, y: AnyArray
) -> tuple[AnyArray, AnyArray]:
    """Raw inputs and targets as the model takes them."""
    normalized = normalizer.apply(x)
    return normalized, make_target(Target(model.target), y, normalized, model.output_shape, targets)
