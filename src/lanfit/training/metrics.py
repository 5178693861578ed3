"""Scores of predictions, equal to scikit-learn's, in NumPy alone: clients have no scikit-learn.

Works on what a model predicted and on the targets that `lanfit.data.labels.make_target` made; computes no loss.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target
from lanfit.wire.figures import COMPILED, COMPILED_SCORES

AnyArray = NDArray[Any]


def metrics(target: Target, y_true: AnyArray, y_pred: AnyArray, ignored: int | None = None) -> dict[str, float]:
    """The scores that fit the target: accuracy, precision, recall, f1 of classes, else mae and r2.

    Args:
        ignored: the label that does not count; None: all do.
    """
    if target.is_classification:
        return classification_metrics(target, y_true, y_pred, ignored)
    return regression_metrics(y_true, y_pred)


#: Scores that a compiled metric of the same name is, too: there it is said only where it differs.
_ALIKE = ("accuracy", "mae")


def with_compiled(scores: Mapping[str, float], compiled: Mapping[str, float]) -> dict[str, float]:
    """Scores, and behind them what the metrics gave that the model is compiled with, under their own names.

    One that is called like a score and is another figure (Keras' precision is that of one class, or of all labels) has
    `compiled_` in front.
    """
    found = dict(scores)
    for name, value in compiled.items():
        if name not in scores:
            found[name] = value
        elif name not in _ALIKE or not math.isclose(value, scores[name], rel_tol=1e-5, abs_tol=1e-6):
            found[COMPILED + name] = value
    return found


def as_keras(figures: Mapping[str, float]) -> dict[str, float]:
    """Figures as Keras has them: where a compiled metric has the name of a score, that name is the metric's."""
    found = {name: value for name, value in figures.items() if name not in COMPILED_SCORES}
    return found | {COMPILED_SCORES[name]: value for name, value in figures.items() if name in COMPILED_SCORES}


def mean_figures(measured: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """The mean of each figure, weighted by rows; NaN where one of them is missing."""
    rows = sum(count for count, _ in measured)
    if not rows:
        return {}
    names = dict.fromkeys(name for _, figures in measured for name in figures)

    def of(figures: Mapping[str, float], name: str) -> float:
        # Where a compiled metric is not there it was the score.
        return figures.get(name, figures.get(COMPILED_SCORES.get(name, ""), math.nan))

    return {name: sum(count * of(figures, name) for count, figures in measured) / rows for name in names}


def classification_metrics(
    target: Target, y_true: AnyArray, y_pred: AnyArray, ignored: int | None = None
) -> dict[str, float]:
    """Accuracy, and macro averages of precision, recall and F1 over all classes that are true or predicted somewhere.

    As scikit-learn's with `average="macro", zero_division=0`.

    Args:
        y_true: labels (any shape), or rows of one-hot outputs (`Target.ONE_HOT`).
        y_pred: the model's outputs, shape (rows, ..., outputs).
        ignored: a label that does not count. Where nothing is left, all scores are NaN.
    """
    true = (y_true if target is Target.CLASSES else predicted_classes(target, y_true)).reshape(-1)
    predicted = predicted_classes(target, y_pred).reshape(-1)
    if len(true) != len(predicted) or len(true) == 0:
        raise ValueError(f"{len(true)} labels can't be compared with {len(predicted)} predictions")
    true, predicted = true.astype(np.intp), predicted.astype(np.intp)
    if ignored is not None and (left := true != ignored).sum() < len(true):
        true, predicted = true[left], predicted[left]
        if not len(true):
            return dict.fromkeys(("accuracy", "precision", "recall", "f1"), math.nan)
    outputs = int(max(true.max(), predicted.max())) + 1
    hits = np.bincount(true[true == predicted], minlength=outputs).astype(np.float64)
    support = np.bincount(true, minlength=outputs)
    guesses = np.bincount(predicted, minlength=outputs)
    seen = (support + guesses) > 0
    hits, support, guesses = hits[seen], support[seen], guesses[seen]
    return {
        "accuracy": float(np.mean(true == predicted)),
        "precision": float(np.mean(hits / np.maximum(guesses, 1))),
        "recall": float(np.mean(hits / np.maximum(support, 1))),
        "f1": float(np.mean(2 * hits / (support + guesses))),
    }


def predicted_classes(target: Target, outputs: AnyArray) -> NDArray[np.intp]:
    """The class of the largest output; of one sigmoid output (`Target.BINARY`) whether it is above 0.5.

    Args:
        outputs: shape (rows, ..., outputs): the model's, or one-hot targets.

    Returns:
        Shape (rows, ...); binary (rows, 1).
    """
    if target is Target.BINARY:
        return (outputs.reshape(-1, 1) > 0.5).astype(np.intp)
    largest: NDArray[np.intp] = outputs.argmax(axis=-1)
    return largest


def regression_metrics(y_true: AnyArray, y_pred: AnyArray) -> dict[str, float]:
    """Mean absolute error, and R² averaged over the outputs, as scikit-learn's with their defaults.

    A constant target gives R² 1 when it is met exactly, else 0; a single row has no R² (NaN).

    Args:
        y_true, y_pred: shape (rows, ...), each place after the rows an output of its own.
    """
    if len(y_true) == 0 or y_true.size != y_pred.size or len(y_true) != len(y_pred):
        raise ValueError(f"targets of shape {y_true.shape} can't be compared with predictions of {y_pred.shape}")
    true = y_true.reshape(len(y_true), -1).astype(np.float64)
    errors = y_pred.reshape(len(y_pred), -1) - true
    mae = float(np.mean(np.abs(errors)))
    if len(true) < 2:
        return {"mae": mae, "r2": float("nan")}
    left = np.sum(errors**2, axis=0)
    spread = np.sum((true - true.mean(axis=0)) ** 2, axis=0)
    ratio = np.divide(left, spread, out=(left != 0).astype(np.float64), where=spread != 0)
    return {"mae": mae, "r2": float(np.mean(1 - ratio))}
