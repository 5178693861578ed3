"""From what Keras' `fit` takes as rows to arrays that can be dealt out: arrays, DataFrames, datasets, PyDatasets.

Looks at kinds, numbers of rows and weights; whether rows fit the model is checked where those of files are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.mistakes import mistake
from lanfit_server.api.datasets import dataset_kind, only_one, read_dataset

AnyArray = NDArray[Any]
_SAVE = "Give an array, a DataFrame, a tf.data.Dataset that has an end, or a keras.utils.PyDataset"
_ONE = "A model has one input and one output array here: give one array, or a dict of one under its name"


@dataclass(frozen=True)
class Rows:
    """Rows of one kind: all training rows, or all validation rows."""

    x: AnyArray
    y: AnyArray | None
    weights: AnyArray | None
    """float32, one a row."""
    batch: int | None = None
    """The size of the batches in which they came; None if they did not."""
    notes: tuple[str, ...] = ()
    """What was done, for people."""
    frozen: str = ""
    """What was drawn at random when they were read, and is the same in every epoch; "" if nothing was."""


@dataclass(frozen=True)
class Names:
    """How a model calls its one input and its one output; empty: that is not known."""

    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


def rows_of(
    x: Any,
    y: Any,
    sample_weight: Any,
    rank: int,
    *,
    needs_targets: bool,
    name: str = "",
    wanted: int | None = None,
    names: Names = Names(),
    steps: int | None = None,
) -> Rows:
    """The rows in what `fit` was given.

    Args:
        rank: dimensions of the model's input, rows included: tells whether a dataset is batched.
        needs_targets: whether y must be there.
        name: what messages put in front of "x", "y" and "sample_weight".
        wanted: the size of batches that the user wants, if it was said.
        names: of the model's input and output: one array may come in a list, or in a dict under its name.
        steps: so many batches are read of a dataset; None: all.

    Raises:
        InputError: a kind that can't be dealt out, or lengths that differ.
    """
    batch: int | None = None
    notes: tuple[str, ...] = ()
    frozen = ""
    if (kind := dataset_kind(x)) is not None:
        for what, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise mistake("fit.targets-twice", kind=kind, name=name + what)
        read = read_dataset(
            x, kind, rank, names=(names.inputs, names.outputs, names.outputs), batch=wanted, steps=steps
        )
        x, y, sample_weight, batch = read.x, read.y, read.weights, read.batch
        notes, frozen = read.notes, read.frozen
    else:
        x, y = only_one(x, names.inputs), only_one(y, names.outputs)
        sample_weight = only_one(sample_weight, names.outputs)
    found = array_of(x, f"{name}x")
    if found.dtype.kind == "U":
        raise mistake("fit.not-rows", name=f"{name}x", kind="text", instead="Turn it into numbers first")
    if y is None and needs_targets:
        raise mistake("fit.no-targets")
    targets = None if y is None else array_of(y, f"{name}y")
    if targets is not None and len(targets) != len(found):
        raise mistake("fit.lengths", rows=len(found), name=f"{name}y", others=len(targets))
    weights = None if sample_weight is None else _weights(sample_weight, len(found), f"{name}sample_weight")
    return Rows(found, targets, weights, wanted or batch, notes, frozen)


def class_weights(class_weight: Mapping[int, float], rows: Rows, outputs: int) -> AnyArray:
    """The weight of each row by its class, as Keras has it: 1 for classes that are not named.

    Args:
        outputs: of the model: rows of so many values are one-hot.

    Raises:
        InputError: targets are no classes, or classes no whole numbers.
    """
    if rows.weights is not None:
        raise mistake("fit.two-weights")
    y = rows.y
    if y is None or y.dtype.kind not in "biuf":
        raise mistake("fit.class-weight", reason="the targets are no numbers")
    if y.ndim == 2 and y.shape[1] == outputs > 1:
        classes = y.argmax(axis=1)
    elif y.size == len(y):
        classes = y.reshape(-1)
    else:
        raise mistake("fit.class-weight", reason="a row has more than one class")
    if not isinstance(class_weight, Mapping):
        raise mistake("fit.class-weight", reason=f"it is {kind_of(class_weight)}")
    weights = np.ones(len(y), np.float32)
    for label, weight in class_weight.items():
        try:
            number, value = int(label), float(weight)
        except (TypeError, ValueError):
            raise mistake("fit.class-weight", reason=f"{label!r}: {weight!r} is no class with a weight") from None
        if not 0 <= value < np.inf:
            raise mistake("fit.class-weight", reason=f"the weight of class {number} is {value:g}")
        weights[classes == number] = value
    return weights


def array_of(value: Any, name: str) -> AnyArray:
    """An array with rows first, out of an array, a tensor, a DataFrame, a Series or a list of numbers.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, Mapping):
        named = ", ".join(repr(key) for key in value)
        raise mistake("fit.not-rows", name=name, kind=f"a dict of arrays ({named})", instead=_ONE)
    if isinstance(value, list | tuple):
        if any(hasattr(part, "shape") and getattr(part, "ndim", 0) for part in value):
            raise mistake("fit.not-rows", name=name, kind="a list of arrays", instead=_ONE)
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif not hasattr(value, "__array__"):
        raise mistake("fit.not-rows", name=name, kind=kind_of(value), instead=_SAVE)
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype == object:
        array = _plain(array, name)
    if array.ndim == 0 or array.dtype.kind not in "biufU":
        kind = "one value" if array.ndim == 0 else f"an array of {array.dtype}"
        raise mistake("fit.not-rows", name=name, kind=kind, instead="Give numbers, or text for labels; rows first")
    # Little-endian and contiguous: so it is written for the other processes.
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _plain(array: AnyArray, name: str) -> AnyArray:
    """An array of Python objects, as DataFrames give, as one of numbers or text."""
    values = array.reshape(-1)
    if len(values) and all(isinstance(value, str) for value in values):
        return array.astype(str)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        instead = "Turn its columns into numbers first, e.g. with pandas.get_dummies"
        raise mistake("fit.not-rows", name=name, kind="an array of mixed values", instead=instead) from None


def _weights(value: Any, rows: int, name: str) -> AnyArray:
    array = array_of(value, name)
    if len(array) != rows:
        raise mistake("fit.lengths", rows=rows, name=name, others=len(array))
    if array.size != rows:
        raise mistake("fit.sample-weight", name=name, reason=f"it has the shape {array.shape}")
    if array.dtype.kind == "U":
        raise mistake("fit.sample-weight", name=name, reason="it is text")
    weights = array.reshape(-1).astype(np.float32)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise mistake("fit.sample-weight", name=name, reason="it holds NaN, infinity or numbers below 0")
    return weights


def kind_of(value: object) -> str:
    """What a value is, for people."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
