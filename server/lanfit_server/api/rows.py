"""Converts the rows that Keras' `fit` accepts to arrays: from arrays, DataFrames, datasets, PyDatasets.

Looks at kinds, numbers of rows and weights; whether rows fit the model is checked where those of files are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.shard import Samples
from lanfit.errors import lanfit_error
from lanfit_server.api.datasets import NO_NAMES, Names, dataset_kind, only_one, parts_of, read_dataset

AnyArray = NDArray[Any]
_SAVE = "Pass an array, a DataFrame, a finite tf.data.Dataset, or a keras.utils.PyDataset"
_NAMED = "Pass one array; for a model with several inputs a list in their order, or a dict with their names"


@dataclass(frozen=True)
class Rows:
    """Rows of one kind: all training rows, or all validation rows."""

    inputs: Mapping[str, AnyArray]
    """By the model's names of its inputs; `X` for a model with one input and one output. Likewise `targets`."""
    targets: Mapping[str, AnyArray]
    """Empty if there are no targets."""
    weights: AnyArray | None
    """float32, one per row."""
    batch: int | None = None
    """The batch size; None if they were not batched."""
    notes: tuple[str, ...] = ()
    """Notes on conversions, for people."""
    frozen: str = ""
    """Randomness that was drawn once and is the same in every epoch; "" if there is none."""

    @property
    def samples(self) -> Samples:
        """Return the arrays alone."""
        return Samples(self.inputs, self.targets, self.weights)

    @property
    def x(self) -> AnyArray:
        """The only input, or the first."""
        return next(iter(self.inputs.values()))

    @property
    def y(self) -> AnyArray | None:
        """The only targets, or the first."""
        return next(iter(self.targets.values()), None)


def rows_of(
    x: Any,
    y: Any,
    sample_weight: Any,
    rank: int,
    *,
    needs_targets: bool,
    name: str = "",
    wanted: int | None = None,
    names: Names = NO_NAMES,
    steps: int | None = None,
) -> Rows:
    """Return the rows in the arguments of `fit`.

    Args:
        rank: dimensions of the model's first input, rows included: determines whether a dataset is batched.
        needs_targets: whether y must be there.
        name: what messages put in front of "x", "y" and "sample_weight".
        wanted: the size of batches that the user requested, if any.
        names: of the model's inputs and outputs: arrays may come in a list, or in a dict by them.
        steps: the number of batches to read from a dataset; None: all.

    Raises:
        InputError: a kind that can't be dealt out, or lengths that differ.
    """
    batch: int | None = None
    notes: tuple[str, ...] = ()
    frozen = ""
    inputs: Mapping[str, Any]
    targets: Mapping[str, Any]
    if (kind := dataset_kind(x)) is not None:
        for what, value in (("y", y), ("sample_weight", sample_weight)):
            if value is not None:
                raise lanfit_error("fit.targets-twice", kind=kind, name=name + what)
        read = read_dataset(x, kind, rank, names=names, batch=wanted, steps=steps)
        inputs, targets, sample_weight, batch = read.inputs, read.targets, read.weights, read.batch
        notes, frozen = read.notes, read.frozen
    else:
        inputs = parts_of(x, names, "inputs", f"{name}x")
        targets = {} if y is None else parts_of(y, names, "outputs", f"{name}y")
        sample_weight = sample_weight if names.several else only_one(sample_weight, names.outputs)
        given = [key for part in (x, y) if isinstance(part, Mapping) for key in part]
        unused = [str(key) for key in given if names.several and key not in (*names.inputs, *names.outputs)]
        if unused:
            notes = (f"{', '.join(unused)}: not used: the model has no array of that name.",)
    several = names.several
    found = {key: array_of(value, _called(f"{name}x", key, several)) for key, value in inputs.items()}
    for key, array in found.items():
        if array.dtype.kind == "U":
            called = _called(f"{name}x", key, several)
            raise lanfit_error("fit.not-rows", name=called, kind="text", instead="Convert it to numbers first")
    if not targets and needs_targets:
        raise lanfit_error("fit.no-targets")
    made = {key: array_of(value, _called(f"{name}y", key, several)) for key, value in targets.items()}
    rows = len(next(iter(found.values())))
    for side, arrays in (("x", found), ("y", made)):
        for key, array in arrays.items():
            if len(array) != rows:
                raise lanfit_error("fit.lengths", rows=rows, name=_called(name + side, key, several), others=len(array))
    weights = None if sample_weight is None else _weights(sample_weight, rows, f"{name}sample_weight", several=several)
    return Rows(found, made, weights, wanted or batch, notes, frozen)


def _called(what: str, key: str, several: bool) -> str:
    return f'{what}["{key}"]' if several else what


def class_weights(class_weight: Mapping[int, float], rows: Rows, outputs: int) -> AnyArray:
    """Return the weight of each row by its class, as in Keras: 1 for classes that are not named.

    Args:
        outputs: of the model: rows of so many values are one-hot.

    Raises:
        InputError: targets are no classes, or classes no whole numbers.
    """
    if rows.weights is not None:
        raise lanfit_error("fit.two-weights")
    if len(rows.targets) > 1:
        raise lanfit_error("fit.class-weight", reason="the model has several outputs, so a row has several classes")
    y = rows.y
    if y is None or y.dtype.kind not in "biuf":
        raise lanfit_error("fit.class-weight", reason="the targets are not numbers")
    if y.ndim == 2 and y.shape[1] == outputs > 1:
        classes = y.argmax(axis=1)
    elif y.size == len(y):
        classes = y.reshape(-1)
    else:
        raise lanfit_error("fit.class-weight", reason="a row has more than one class")
    if not isinstance(class_weight, Mapping):
        raise lanfit_error("fit.class-weight", reason=f"it is {kind_of(class_weight)}")
    weights = np.ones(len(y), np.float32)
    for label, weight in class_weight.items():
        try:
            number, value = int(label), float(weight)
        except (TypeError, ValueError):
            raise lanfit_error(
                "fit.class-weight", reason=f"{label!r}: {weight!r} is not a class with a weight"
            ) from None
        if not 0 <= value < np.inf:
            raise lanfit_error("fit.class-weight", reason=f"the weight of class {number} is {value:g}")
        weights[classes == number] = value
    return weights


def array_of(value: Any, name: str) -> AnyArray:
    """Return an array with rows first, from an array, a tensor, a DataFrame, a Series or a list of numbers.

    Raises:
        InputError: it is none.
    """
    if isinstance(value, Mapping):
        named = ", ".join(repr(key) for key in value)
        raise lanfit_error("fit.not-rows", name=name, kind=f"a dict of arrays ({named})", instead=_NAMED)
    if isinstance(value, list | tuple):
        if _are_arrays(value):
            raise lanfit_error("fit.not-rows", name=name, kind="a list of arrays", instead=_NAMED)
    elif hasattr(value, "to_numpy"):
        value = value.to_numpy()
    elif not hasattr(value, "__array__"):
        raise lanfit_error("fit.not-rows", name=name, kind=kind_of(value), instead=_SAVE)
    array = np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    if array.dtype == object:
        array = _plain(array, name)
    if array.ndim == 0 or array.dtype.kind not in "biufU":
        kind = "one value" if array.ndim == 0 else f"an array of {array.dtype}"
        raise lanfit_error(
            "fit.not-rows",
            name=name,
            kind=kind,
            instead="Pass numbers, or text for labels, with rows as the first dimension",
        )
    # Little-endian and contiguous, as it is written for the other processes.
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _are_arrays(value: Any) -> bool:
    """Return whether it is a list of arrays."""
    if not isinstance(value, list | tuple):
        return False
    return any(hasattr(part, "shape") and getattr(part, "ndim", 0) for part in value)


def _plain(array: AnyArray, name: str) -> AnyArray:
    """Return an array of Python objects, as from DataFrames, as one of numbers or text."""
    values = array.reshape(-1)
    if len(values) and all(isinstance(value, str) for value in values):
        return array.astype(str)
    try:
        return array.astype(np.float64)
    except (TypeError, ValueError):
        instead = "Convert its columns to numbers first, e.g. with pandas.get_dummies"
        raise lanfit_error("fit.not-rows", name=name, kind="an array of mixed values", instead=instead) from None


def _weights(value: Any, rows: int, name: str, *, several: bool) -> AnyArray:
    if several and (isinstance(value, Mapping) or _are_arrays(value)):
        raise lanfit_error(
            "fit.sample-weight", name=name, reason="there are several arrays, but a row has one weight for all outputs"
        )
    array = array_of(value, name)
    if len(array) != rows:
        raise lanfit_error("fit.lengths", rows=rows, name=name, others=len(array))
    if array.size != rows:
        raise lanfit_error("fit.sample-weight", name=name, reason=f"it has the shape {array.shape}")
    if array.dtype.kind == "U":
        raise lanfit_error("fit.sample-weight", name=name, reason="it is text")
    weights = array.reshape(-1).astype(np.float32)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise lanfit_error("fit.sample-weight", name=name, reason="it contains NaN, infinity or negative numbers")
    return weights


def kind_of(value: object) -> str:
    """Return a description of a value, for people."""
    if value is None:
        return "None"
    name = type(value).__name__
    return f"an {name}" if name[0] in "aeiouAEIOU" else f"a {name}"
