"""Targets: the form that the loss of a model implies, the check of labels, and the conversion.

The checks run once, on the server, on all rows; the conversion runs on any slice of rows.
Reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lanfit.data.normalize import NO_NORMALIZER, Normalizer
from lanfit.data.shapes import fit_row, matches, permuted, shown
from lanfit.data.split import NO_CLASS
from lanfit.errors import lanfit_error
from lanfit.wire.tasks import OutputSpec

AnyArray = NDArray[Any]
Shape = Sequence[int | None]


class Target(StrEnum):
    """The form in which the model's loss takes its targets."""

    INPUT = "input"
    """The normalized input itself (order XX)."""
    VALUES = "values"
    """Numbers: regression, and several binary outputs."""
    CLASSES = "classes"
    """Integer labels."""
    ONE_HOT = "one_hot"
    """One output per class; integer labels are one-hot encoded."""
    BINARY = "binary"
    """One binary output: 0 or 1."""

    @property
    def is_classification(self) -> bool:
        return self in (Target.CLASSES, Target.ONE_HOT, Target.BINARY)


_SPARSE = frozenset({"sparse_categorical_crossentropy"})
_CATEGORICAL = frozenset({"categorical_crossentropy", "categorical_focal_crossentropy"})
_BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy", "bce"})


def target_of(loss: str, order: str, output_shape: Shape, *, is_softmax: bool = False) -> Target:
    """Return the form of the target for a loss (a Keras name, of the function or the class) and the order XY or XX.

    Binary cross-entropy over several outputs treats each independently, so its targets are values, not classes; but a
    softmax (`is_softmax`) decides between its outputs, for any loss.
    """
    if order.upper() == "XX":
        return Target.INPUT
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", loss).lower()
    if name in _SPARSE:
        return Target.CLASSES
    if name in _CATEGORICAL:
        return Target.ONE_HOT
    if name in _BINARY and prod(n or 0 for n in output_shape[1:]) == 1:
        return Target.BINARY
    if name in _BINARY and is_softmax and len(output_shape) == 2:
        return Target.ONE_HOT
    return Target.VALUES


def class_ids(target: Target, y: AnyArray, ignored: int | None = None) -> NDArray[np.int64] | None:
    """Return one class number per row, to stratify by; None if rows have no class or more than one.

    Args:
        y: labels that `check_labels` has passed, shape (rows,), (rows, 1) or one-hot (rows, outputs).
        ignored: a label that the loss leaves out; such rows get NO_CLASS.
    """
    if not target.is_classification:
        return None
    if y.size == len(y):
        ids = y.reshape(-1).astype(np.int64)
        return ids if ignored is None else np.where(ids == ignored, NO_CLASS, ids)
    return y.argmax(axis=1).astype(np.int64) if target is Target.ONE_HOT and y.ndim == 2 else None


def row_classes(outputs: Sequence[OutputSpec], targets: Mapping[str, AnyArray]) -> NDArray[np.int64] | None:
    """Return one class number per row, to stratify by, from the first output whose rows have one; None if none has.

    Args:
        targets: by the name of the output, as `class_ids` takes them.
    """
    found = _with_classes(outputs, targets)
    return None if found is None else class_ids(Target(found.target), targets[found.name], found.ignored)


def words_of_classes(
    outputs: Sequence[OutputSpec], targets: Mapping[str, AnyArray], labels: Mapping[str, tuple[str, ...]]
) -> tuple[str, ...] | None:
    """Return the names of those classes; None when they have none."""
    found = _with_classes(outputs, targets)
    return None if found is None else labels.get(found.name)


def _with_classes(outputs: Sequence[OutputSpec], targets: Mapping[str, AnyArray]) -> OutputSpec | None:
    """Return the first output whose rows have one class each."""
    found = (each for each in outputs if class_ids(Target(each.target), targets[each.name][:1]) is not None)
    return next(found, None)


def arrange(target: Target, y: AnyArray, output_shape: Shape, where: str = "the targets") -> AnyArray:
    """Return targets in the standard shape, as a view; dtype and values do not change.

    Labels: (rows, places...), where places are the model's output dimensions between rows and classes (usually none).
    One-hot rows and values: (rows, output dimensions...).

    Raises:
        InputError: the shape does not fit the model's output.
    """
    row, output = y.shape[1:], tuple(output_shape[1:])
    if target in (Target.CLASSES, Target.ONE_HOT):
        places = row[:-1] if len(row) == len(output) and row[-1] == 1 else row
        if matches(places, output[:-1]):
            return y.reshape(len(y), *places)
    if target is not Target.CLASSES:
        fitted = fit_row(row, output)
        if fitted is not None:
            return y.reshape(len(y), *fitted)
        if (other_order := permuted(where, row, output, "y")) is not None:
            raise other_order
    takes = {
        Target.CLASSES: f"one label for each of {shown(output[:-1])} positions" if output[:-1] else "one label",
        Target.ONE_HOT: f"one label, or {shown(output)} one-hot values",
    }.get(target, f"{shown(output)}, the shape of the model's output")
    raise lanfit_error("targets.wrong-shape", file=where, shape=shown(row), wanted=takes)


def check_order(loss: str, order: str) -> None:
    """Check that the loss is not a categorical one if the input is the target.

    Raises:
        InputError: order XX with a categorical cross-entropy.
    """
    if target_of(loss, "XY", (None, 2)) in (Target.CLASSES, Target.ONE_HOT) and order.upper() == "XX":
        raise lanfit_error("targets.classes-with-xx", loss=loss)


def check_labels(
    target: Target, y: AnyArray, output_shape: Shape, where: str, first_row: int = 0, ignored: int | None = None
) -> None:
    """Check every target of a file, or of the part of it that begins at `first_row` (from 0).

    Args:
        ignored: a label that the loss leaves out, and that may be any number.

    Raises:
        InputError: wrong shape, not finite, or labels that are not integers, negative, or too large for the model's
            outputs. The message names `where` (the file) and the row, from 1.
    """
    if target is Target.INPUT:
        return
    y = arrange(target, y, output_shape, where)
    first = partial(_first, y, first_row)
    if y.dtype.kind == "f":
        with np.errstate(over="ignore"):
            finite = np.isfinite(y.astype(np.float32, copy=False))
        if bad := first(~finite):
            raise lanfit_error("targets.not-finite", file=where, row=bad.row, value=bad.value)
    outputs = output_shape[-1]
    if target is Target.BINARY:
        if bad := first((y != 0) & (y != 1)):
            raise lanfit_error("labels.not-0-or-1", file=where, row=bad.row, value=bad.value)
    elif target is Target.ONE_HOT and y.ndim == len(output_shape):
        if bad := first((y < 0).any(axis=-1) | (np.abs(y.sum(axis=-1, dtype=np.float64) - 1) > 1e-3)):
            raise lanfit_error("labels.not-one-hot", file=where, row=bad.row, value=bad.value)
    elif target.is_classification:
        if y.dtype.kind == "f" and (bad := first(y != np.floor(y))):
            raise lanfit_error("labels.not-whole", file=where, row=bad.row, value=bad.value)
        counts = y != ignored if ignored is not None else True
        if bad := first((y < 0) & counts):
            raise lanfit_error("labels.negative", file=where, row=bad.row, value=bad.value)
        if outputs is not None and (bad := first((y >= outputs) & counts)):
            raise lanfit_error(
                "labels.above-outputs", file=where, row=bad.row, value=bad.value, outputs=outputs, last=outputs - 1
            )


def check_words(target: Target, words: Sequence[str], output_shape: Shape) -> None:
    """Check that a model has enough outputs for these labels.

    Raises:
        InputError: there are more labels than outputs. The message names them.
    """
    outputs = 2 if target is Target.BINARY else output_shape[-1]
    if outputs is not None and len(words) > outputs:
        named = ", ".join(words[:10]) + (", …" if len(words) > 10 else "")
        if target is Target.BINARY:
            raise lanfit_error("labels.more-than-two", count=len(words), labels=named)
        raise lanfit_error("labels.more-than-outputs", count=len(words), labels=named, outputs=outputs)


def make_target(
    target: Target,
    y: AnyArray,
    x_normalized: AnyArray,
    output_shape: Shape,
    normalizer: Normalizer = NO_NORMALIZER,
) -> AnyArray:
    """Convert targets, or any slice of their rows, to what Keras' `fit` takes.

    Args:
        y: raw values; not used for `Target.INPUT`.
        x_normalized: float32, the same rows.
        output_shape: of the model, rows first: (None, 10).
        normalizer: applied to `Target.VALUES`, and to nothing else.

    Returns:
        float32 of the shape of the model's output; `Target.CLASSES`: int32 without the dimension of the classes.

    Raises:
        InputError: the shape does not fit the model's output.
    """
    if target is Target.INPUT:
        return arrange(target, x_normalized, output_shape, "the input, which is its own target,")
    y = arrange(target, y, output_shape)
    if target is Target.CLASSES:
        return y.astype(np.int32)
    if target is Target.ONE_HOT and y.ndim < len(output_shape):
        outputs = output_shape[-1]
        if outputs is None:
            raise lanfit_error("labels.open-outputs")
        encoded = np.zeros((y.size, outputs), np.float32)
        encoded[np.arange(y.size), y.reshape(-1).astype(np.int64)] = 1
        return encoded.reshape(*y.shape, outputs)
    return normalizer.apply(y) if target is Target.VALUES else y.astype(np.float32)


class _Bad(NamedTuple):
    """A target that can't be used, and its row, from 1."""

    row: int
    value: str


def _first(y: AnyArray, first_row: int, bad: NDArray[np.bool_]) -> _Bad | None:
    """Return the first bad target; None if there is none."""
    if not bad.any():
        return None
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    return _Bad(first_row + int(index[0]) + 1, np.array2string(y[index], threshold=8, separator=", "))
