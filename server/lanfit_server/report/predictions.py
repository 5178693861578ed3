"""The predictions on the test rows as a table for people: what was true, what was predicted. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target, arrange
from lanfit.training.metrics import predicted_classes

AnyArray = NDArray[Any]
Cell = str | int | float | None

#: What a sheet of Excel holds, less the line of the heads.
MOST_ROWS = 1_048_576 - 1
MOST_COLUMNS = 16_384
#: A million cells take some ten seconds to write, and the program that opens them is slow, too.
MOST_CELLS = 2_000_000
_AT_ONCE = 1_000


@dataclass(frozen=True)
class Predictions:
    """What the outcome of a run predicts for the server's test rows."""

    target: Target
    y: AnyArray
    """Shape (rows, ...): the targets as the files have them, words as their numbers; for `Target.INPUT` the inputs."""
    predictions: NDArray[np.float32]
    """Shape (rows, output dimensions...), in original units."""
    labels: Sequence[str] | None
    """The names of the classes by their number; None if they have none."""


@dataclass(frozen=True)
class Table:
    """Heads, and rows as long as they: first the number of the test row, from 1."""

    heads: list[str]
    rows: Iterator[list[Cell]]
    left_out: str
    """What does not fit into a sheet, in words; empty when all does."""


def table_of(predictions: Predictions, most_cells: int = MOST_CELLS) -> Table:
    """The predictions as a table.

    Classes: the true and the predicted class, by name if they have names, then the model's output for each class.
    Numbers: target and prediction of each output, side by side.

    Raises:
        InputError: the targets do not have the shape that the predictions ask for.
    """
    outputs = predictions.predictions
    y = arrange(predictions.target, predictions.y, (None, *outputs.shape[1:]))
    columns = (_classes if predictions.target.is_classification else _numbers)(predictions, y)
    heads = ["row", *columns.heads]
    rows = min(len(outputs), MOST_ROWS, most_cells // min(len(heads), MOST_COLUMNS))
    left_out = [
        f"the first {most:,} of {all_:,} {what}"
        for most, all_, what in ((rows, len(outputs), "test rows"), (MOST_COLUMNS, len(heads), "columns"))
        if most < all_
    ]
    return Table(heads[:MOST_COLUMNS], columns.rows(rows), " and ".join(left_out))


@dataclass(frozen=True)
class _Columns:
    """What is shown of a row: pairs of what is true and what was predicted, then the rest."""

    heads: list[str]
    true: AnyArray
    predicted: AnyArray
    """Both of shape (rows, pairs)."""
    rest: AnyArray
    """Shape (rows, any)."""
    names: Sequence[str] = ()
    """Of the numbers in `true` and `predicted`, where they have names."""

    def rows(self, most: int) -> Iterator[list[Cell]]:
        for start in range(0, most, _AT_ONCE):
            part = slice(start, min(start + _AT_ONCE, most))
            lines = zip(_plain(self.true[part]), _plain(self.predicted[part]), _plain(self.rest[part]), strict=True)
            for number, (true, predicted, rest) in enumerate(lines, start + 1):
                pairs = [value for pair in zip(true, predicted, strict=True) for value in pair]
                if self.names:
                    pairs = [self.names[value] if value < len(self.names) else value for value in pairs]
                yield [number, *pairs, *rest][:MOST_COLUMNS]


def _classes(predictions: Predictions, y: AnyArray) -> _Columns:
    target, outputs, names = predictions.target, predictions.predictions, predictions.labels or ()
    are_labels = y.ndim < outputs.ndim and target is not Target.BINARY
    true = y if are_labels else predicted_classes(target, y)
    predicted = predicted_classes(target, outputs)
    classes = [1] if target is Target.BINARY else range(outputs.shape[-1])
    count = len(outputs)
    places = prod(predicted.shape[1:])
    rest = outputs.reshape(count, places * len(classes))
    kind = "probability of" if ((rest >= 0) & (rest <= 1) | np.isnan(rest)).all() else "output for"
    pairs = [f"{what} class{at}" for at in _places(places) for what in ("true", "predicted")]
    shown = [names[number] if number < len(names) else number for number in classes]
    return _Columns(
        heads=[*pairs, *(f"{kind} {name}{at}" for at in _places(places) for name in shown)],
        true=true.reshape(count, places).astype(np.int64),
        predicted=predicted.reshape(count, places),
        rest=rest,
        names=names,
    )


def _numbers(predictions: Predictions, y: AnyArray) -> _Columns:
    outputs = predictions.predictions
    count, each = len(outputs), prod(outputs.shape[1:])
    return _Columns(
        heads=[f"{what}{at}" for at in _places(each) for what in ("target", "prediction")],
        true=y.reshape(count, each),
        predicted=outputs.reshape(count, each),
        rest=np.empty((count, 0)),
    )


def _places(count: int) -> list[str]:
    """What tells several of one kind apart."""
    return [""] if count == 1 else [f" {number}" for number in range(1, count + 1)]


def _plain(part: AnyArray) -> list[list[Any]]:
    """Numbers of Python; float32 as short as it is written, 0.1 and not 0.10000000149."""
    if part.dtype.kind == "f" and part.dtype.itemsize < 8:
        part = part.astype(str).astype(np.float64)
    found: list[list[Any]] = (part.astype(np.uint8) if part.dtype.kind == "b" else part).tolist()
    return found
