"""Normalized rows for a task: of a whole shard, or of one fold of it. Pure functions.

A fold draws its own validation rows, which decide the best epoch, from its training rows, and fits its own
normalizers on them. Its held-out rows are only evaluated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from lanfit.core.seeds import derive_seed
from lanfit.data.labels import Target, make_target, row_classes
from lanfit.data.normalize import NO_NORMALIZER, Moments, fit_normalizer
from lanfit.data.shard import Arrays, Normalizers, Samples, Shard
from lanfit.data.split import Rows, folds, split_rows
from lanfit.errors import lanfit_error
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Fold, Model


@dataclass(frozen=True)
class TaskRows:
    """Normalized rows, their normalizers, and raw rows that are only evaluated."""

    train: Samples
    validation: Samples
    normalizers: Normalizers
    held_out: Samples | None = None


@dataclass(frozen=True)
class FoldPlan:
    """The row numbers of one fold: each row of the shard is in exactly one of the arrays."""

    train: Rows
    validation: Rows
    held_out: Rows


def plan_fold(fold: Fold, rows: int, classes: Rows | None) -> FoldPlan:
    """Draw a fold as scikit-learn's (Stratified)KFold(fold.of, shuffle=True, random_state=fold.seed).

    Its validation rows are drawn from its training rows.

    Raises:
        InputError: there are too few rows, or too few of a class.
    """
    rest, held_out = folds(rows, fold.of, fold.seed, classes, few=fold.few)[fold.number - 1]
    seed = derive_seed(fold.seed, "fold validation", fold.number)
    train, validation = split_rows(len(rest), fold.validation_split, seed, None if classes is None else classes[rest])
    return FoldPlan(np.sort(rest[train]), np.sort(rest[validation]), held_out)


def check_folds(fold: Fold, rows: int, classes: Rows | None, batch_size: int, words: Sequence[str] | None) -> None:
    """Check that a shard has enough rows for `fold.of` folds.

    Raises:
        InputError: there are too few rows, too few of a class, or fewer training rows than a batch.
    """
    train = min(len(rest) for rest, _ in folds(rows, fold.of, fold.seed, classes, words, few=fold.few))
    train -= ceil(fold.validation_split * train)
    if batch_size > train:
        raise lanfit_error("split.batch-of-fold", batch=batch_size, rows=train, most=max(1, train))


def rows_of_shard(model: Model, shard: Shard) -> TaskRows:
    """Return the training and validation rows of a shard, normalized with the shard's normalizers."""
    train, validation = (convert(model, shard.normalizers, rows) for rows in (shard.train, shard.validation))
    return TaskRows(train, validation, shard.normalizers)


def chosen_rows(shard: Shard, indices: Arrays) -> Shard:
    """Return a shard with other training and validation rows, chosen from its training rows by `indices`.

    Raises:
        TrainingError: an index is outside.
    """
    for kind in ("train", "validation"):
        found = indices[kind]
        if len(found) and not 0 <= found.min() <= found.max() < len(shard.train):
            raise lanfit_error("task.no-such-row", least=int(found.min()), most=int(found.max()), rows=len(shard.train))
    train, validation = (shard.train.take(np.asarray(indices[kind], np.int64)) for kind in ("train", "validation"))
    return replace(shard, train=train, validation=validation)


def rows_of_fold(model: Model, shard: Shard, fold: Fold) -> TaskRows:
    """Return the rows of one fold of a shard that has training rows only.

    Raises:
        InputError: there are too few rows for this number of folds.
    """
    rows = shard.train
    plan = plan_fold(fold, len(rows), row_classes(model.gives, rows.targets))
    train, validation, held_out = (rows.take(each) for each in (plan.train, plan.validation, plan.held_out))
    normalizers = fit_normalizers(
        model,
        lambda name: Moments.of(train.inputs[name]),
        lambda name: Moments.of(train.targets[name]),
    )
    return TaskRows(
        convert(model, normalizers, train),
        convert(model, normalizers, validation),
        normalizers,
        replace(held_out, weights=None),
    )


def fit_normalizers(
    model: Model, of_input: Callable[[str], Moments], of_target: Callable[[str], Moments]
) -> Normalizers:
    """Return the fitted normalizers of a model's inputs and numeric targets.

    Args:
        of_input: returns the moments of the training rows of an input; called for all inputs.
        of_target: returns those of a target; called for numeric targets.
    """
    values = {each.name for each in model.gives if Target(each.target) is Target.VALUES}
    return Normalizers(
        {each.name: fit_normalizer(each.normalizer, of_input(each.name)) for each in model.takes},
        {
            each.name: fit_normalizer(each.normalizer, of_target(each.name)) if each.name in values else NO_NORMALIZER
            for each in model.gives
        },
    )


def convert(model: Model, normalizers: Normalizers, rows: Samples) -> Samples:
    """Return raw inputs and targets as the model takes them."""
    inputs = {each.name: normalizers.inputs[each.name].apply(rows.inputs[each.name]) for each in model.takes}
    return Samples(inputs, convert_targets(model, rows.targets, inputs, normalizers), rows.weights)


def convert_targets(
    model: Model, targets: Arrays, inputs: Arrays, normalizers: Normalizers | None = None
) -> dict[str, AnyArray]:
    """Return raw targets as the losses take them.

    Args:
        inputs: the normalized inputs; with order XX the only one is the target.
        normalizers: those of the targets; None leaves targets in their own units.
    """
    first = next(iter(inputs.values()))
    return {
        each.name: make_target(
            Target(each.target),
            targets[each.name],
            first,
            each.shape,
            normalizers.targets[each.name] if normalizers else NO_NORMALIZER,
        )
        for each in model.gives
    }
