"""What a model is asked to predict: which form of target its loss implies, whether the labels fit, and the conversion.

The checks run once, on the server, on all rows; the conversion runs on whatever slice of rows is trained or scored.
Reads no files.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.shapes import fit_row, matches, shown
from lanfit.errors import InputError

AnyArray = NDArray[Any]
Shape = Sequence[int | None]


class Target(StrEnum):
    """The form in which the model's loss takes its targets."""

    INPUT = "input"
    """The normalized input itself (order XX)."""
    VALUES = "values"
    """Numbers: regression, and several yes-or-no outputs."""
    CLASSES = "classes"
    """Integer labels."""
    ONE_HOT = "one_hot"
    """One output a class; integer labels are one-hot encoded."""
    BINARY = "binary"
    """One yes-or-no output: 0 or 1."""

    @property
    def is_classification(self) -> bool:
        return self in (Target.CLASSES, Target.ONE_HOT, Target.BINARY)


_SPARSE = frozenset({"sparse_categorical_crossentropy"})
_CATEGORICAL = frozenset({"categorical_crossentropy", "categorical_focal_crossentropy"})
_BINARY = frozenset({"binary_crossentropy", "binary_focal_crossentropy", "bce"})


def target_of(loss: str, order: str, output_shape: Shape) -> Target:
    """Tell the form of the target from the loss (a Keras name, of the function or the class) and the order XY or XX.

    Binary cross-entropy over several outputs judges each for itself, so its targets are values, not classes.
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
    return Target.VALUES


def class_ids(target: Target, y: AnyArray) -> NDArray[np.int64] | None:
    """One class number a row, to stratify by; None when rows have no class or more than one.

    Args:
        y: labels that `check_labels` has passed, shape (rows,), (rows, 1) or one-hot (rows, outputs).
    """
    if not target.is_classification:
        return None
    if y.size == len(y):
        return y.reshape(-1).astype(np.int64)
    return y.argmax(axis=1).astype(np.int64) if target is Target.ONE_HOT and y.ndim == 2 else None


def arrange(target: Target, y: AnyArray, output_shape: Shape, where: str = "the targets") -> AnyArray:
    """Bring targets into the one shape used from here on: a view; dtype and values stay.

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
    takes = {
        Target.CLASSES: f"one label for each of {shown(output[:-1])} places" if output[:-1] else "one label",
        Target.ONE_HOT: f"one label, or {shown(output)} one-hot values",
    }.get(target, f"{shown(output)}, the shape of the model's output")
    raise InputError(
        f"{where} has rows of {shown(row)}, but here a row must be {takes}",
        "Check that the file belongs to this model, and that the loss (--loss) is the right one.",
    )


def check_labels(target: Target, y: AnyArray, output_shape: Shape, where: str) -> None:
    """Check every target of a file.

    Raises:
        InputError: wrong shape, not finite, or labels that are no integers, negative or above the model's outputs;
            `where` (the file) and the row, from 1, are named.
    """
    if target is Target.INPUT:
        return
    y = arrange(target, y, output_shape, where)
    if y.dtype.kind == "f":
        _refuse(~np.isfinite(y), y, "the value {} in {place} is no finite number", where, "Remove or repair the row.")
    outputs = output_shape[-1]
    if target is Target.BINARY:
        text = "label {} in {place}, but this loss takes 0 and 1"
        _refuse((y != 0) & (y != 1), y, text, where, "Write the two classes as 0 and 1.")
    elif target is Target.ONE_HOT and y.ndim == len(output_shape):
        bad = (y < 0).any(axis=-1) | (np.abs(y.sum(axis=-1, dtype=np.float64) - 1) > 1e-3)
        text = "{} in {place} is no one-hot row: its values must be 0 or more and add up to 1"
        _refuse(bad, y, text, where, "Write one-hot rows, or integer labels, one a row.")
    elif target.is_classification:
        if y.dtype.kind == "f":
            text = "label {} in {place} is no integer"
            _refuse(y != np.floor(y), y, text, where, "For numbers that are no classes choose another --loss.")
        _refuse(y < 0, y, "label {} in {place} is negative", where, "Labels are counted from 0.")
        if outputs is not None:
            text = f"label {{}} in {{place}}, but the model has {outputs} outputs (0-{outputs - 1})"
            _refuse(y >= outputs, y, text, where, "Labels are counted from 0; the model needs one output for each.")


def make_target(target: Target, y: AnyArray, x_normalized: AnyArray, output_shape: Shape) -> AnyArray:
    """Convert targets, or any slice of their rows, to what Keras' `fit` takes.

    Args:
        y: as in the files; not looked at for `Target.INPUT`.
        x_normalized: float32, the same rows.
        output_shape: of the model, rows first: (None, 10).

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
            raise InputError("labels can't be one-hot encoded for an open number of outputs", "Give one-hot rows.")
        encoded = np.zeros((y.size, outputs), np.float32)
        encoded[np.arange(y.size), y.reshape(-1).astype(np.int64)] = 1
        return encoded.reshape(*y.shape, outputs)
    return y.astype(np.float32)


def _refuse(bad: NDArray[np.bool_], y: AnyArray, text: str, where: str, hint: str) -> None:
    """Raise for the first row that holds something bad, if there is one."""
    if not bad.any():
        return
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    value = np.array2string(y[index], threshold=8, separator=", ")
    raise InputError(text.format(value, place=f"{where}, row {index[0] + 1}"), hint)
