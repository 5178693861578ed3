"""Metrics of predictions in NumPy alone, equal to scikit-learn's, which clients do not have.

They compare a model's predictions with the targets that `lanfit.data.labels.make_target` made. Losses are not computed
here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target
from lanfit.wire.figures import COMPILED, standard_metric

AnyArray = NDArray[Any]


def metrics(target: Target, y_true: AnyArray, y_pred: AnyArray, ignored: int | None = None) -> dict[str, float]:
    """Return the scores that fit the target: accuracy, precision, recall, f1 of classes, else mae and r2.

    Args:
        ignored: a label that is left out; None: all count.
    """
    if target.is_classification:
        return classification_metrics(target, y_true, y_pred, ignored)
    return regression_metrics(y_true, y_pred)


#: Scores that are equal to the compiled metric of the same name, which is shown only where it differs.
_ALIKE = ("accuracy", "mae")


def with_compiled(scores: Mapping[str, float], compiled: Mapping[str, float]) -> dict[str, float]:
    """Return the scores, followed by the compiled metrics of the model under their own names.

    A compiled metric with the name of a score but another value gets the prefix `compiled_`: Keras' precision is that
    of one class, or of all labels.
    """
    found = dict(scores)
    for name, value in compiled.items():
        if name not in scores:
            found[name] = value
        elif not name.endswith(_ALIKE) or not math.isclose(value, scores[name], rel_tol=1e-5, abs_tol=1e-6):
            found[COMPILED + name] = value
    return found


def as_keras(figures: Mapping[str, float]) -> dict[str, float]:
    """Return metrics as Keras names them: where a compiled metric has the name of a score, it replaces the score."""
    found = {name: value for name, value in figures.items() if not standard_metric(name)}
    return found | {score: value for name, value in figures.items() if (score := standard_metric(name))}


def mean_figures(measured: Sequence[tuple[int, Mapping[str, float]]]) -> dict[str, float]:
    """Return the mean of each metric, weighted by rows; NaN if it is missing anywhere."""
    rows = sum(count for count, _ in measured)
    if not rows:
        return {}
    names = dict.fromkeys(name for _, figures in measured for name in figures)

    def of(figures: Mapping[str, float], name: str) -> float:
        # A compiled metric that is equal to the score is left out.
        return figures.get(name, figures.get(standard_metric(name), math.nan))

    return {name: sum(count * of(figures, name) for count, figures in measured) / rows for name in names}


def classification_metrics(
    target: Target, y_true: AnyArray, y_pred: AnyArray, ignored: int | None = None
) -> dict[str, float]:
    """Return accuracy, and macro averages of precision, recall and F1 over all classes in labels or predictions.

    They are equal to scikit-learn's with `average="macro", zero_division=0`.

    Args:
        y_true: labels (any shape), or rows of one-hot outputs (`Target.ONE_HOT`).
        y_pred: the model's outputs, shape (rows, ..., outputs).
        ignored: a label that is left out. If no rows remain, all scores are NaN.
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
    """Return the class of the largest output; for one sigmoid output (`Target.BINARY`), whether it is above 0.5.

    Args:
        outputs: outputs of the model or one-hot targets, shape (rows, ..., outputs).

    Returns:
        Shape (rows, ...); binary (rows, 1).
    """
    if target is Target.BINARY:
        return (outputs.reshape(-1, 1) > 0.5).astype(np.intp)
    largest: NDArray[np.intp] = outputs.argmax(axis=-1)
    return largest


def regression_metrics(y_true: AnyArray, y_pred: AnyArray) -> dict[str, float]:
    """Return the mean absolute error, and R² averaged over the outputs, as scikit-learn's with its defaults.

    For a constant target R² is 1 if the prediction is exact, else 0; for a single row it is NaN.

    Args:
        y_true, y_pred: shape (rows, ...); each position after the rows is a separate output.
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
