"""The predictions on the test rows as a table for people: what was true, what was predicted. Writes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.data.labels import Target, arrange
from lanfit.data.shard import Normalizers
from lanfit.training.metrics import predicted_classes
from lanfit.transfer.blocks import ArrayFile
from lanfit_server.store.ledger import RunRecord, labels_by_target

AnyArray = NDArray[Any]
Cell = str | int | float | None

#: What a sheet of Excel holds.
MOST_COLUMNS = 16_384
#: The cells of a file with all predictions. More take many seconds to write, and more to open.
MOST_CELLS = 2_000_000
#: The cells of a sheet, which takes ten times as long (bench/report.py).
SHEET_CELLS = 20_000
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


def predictions_of(
    record: RunRecord, targets: Mapping[str, AnyArray] | None, outputs: ArrayFile | None, normalizers: Normalizers
) -> dict[str, Predictions]:
    """Return the predictions of a run by output; none without test rows.

    Args:
        targets: of the server's test rows, as the files have them (with order XX the inputs).
        outputs: of the final model.
        normalizers: of the final model.
    """
    if targets is None or outputs is None:
        return {}
    arrays, labels = outputs.load(), labels_by_target(record.model, record.labels)
    found = {}
    for each in record.model.gives:
        target, y = Target(each.target), targets[each.name]
        if target is Target.INPUT:
            y = normalizers.x.apply(y)
        found[each.name] = Predictions(target, y, np.asarray(arrays[each.name], np.float32), labels.get(each.name))
    return found


@dataclass(frozen=True)
class Table:
    """Heads, and rows as long as they: first the number of the test row, from 1."""

    heads: list[str]
    rows: Iterator[list[Cell]]
    left_out: str
    """What is in the table if not everything is, in words; empty when everything is."""


def table_of(predictions: Predictions, most_cells: int = MOST_CELLS) -> Table:
    """Return the predictions as a table.

    Classes: the true and the predicted class, by name if they have names, then the model's output for each class.
    Numbers: target and prediction of each output, side by side.

    Raises:
        InputError: the targets do not have the shape that the predictions ask for.
    """
    columns, heads = _columns_of(predictions)
    count = len(predictions.predictions)
    most = max(1, most_cells // len(heads))
    left_out = f"the first {most:,} of {count:,} test rows" if most < count else ""
    return Table(heads, columns.rows(np.arange(min(count, most)), len(heads)), left_out)


def sheet_of(predictions: Predictions, most_cells: int = SHEET_CELLS) -> Table:
    """Return the table for a sheet: everything if it fits, else the wrong predictions, the worst first.

    The worst prediction of a class is the one of which the model is most certain; that of a number is farthest off.

    Raises:
        InputError: as `table_of`.
    """
    columns, heads = _columns_of(predictions)
    count, width = len(predictions.predictions), min(len(heads), MOST_COLUMNS)
    most, left_out = max(1, most_cells // width), []
    order: NDArray[np.intp] = np.arange(count)
    if most < count:
        order, selection = _worst(predictions, columns, most)
        left_out.append(f"{selection} of {count:,} test rows")
    if width < len(heads):
        left_out.append(f"the first {width:,} of {pluralize(len(heads), 'column', grouped=True)}")
    return Table(heads[:width], columns.rows(order, width), " and ".join(left_out))


def _columns_of(predictions: Predictions) -> tuple[_Columns, list[str]]:
    y = arrange(predictions.target, predictions.y, (None, *predictions.predictions.shape[1:]))
    columns = (_classes if predictions.target.is_classification else _numbers)(predictions, y)
    return columns, ["row", *columns.heads]


def _worst(predictions: Predictions, columns: _Columns, most: int) -> tuple[NDArray[np.intp], str]:
    """Return the rows that are shown if not all are, the worst first; and what they are, in words."""
    if not predictions.target.is_classification:
        off = np.abs(columns.predicted - columns.true).astype(np.float64)
        order = np.argsort(-np.nan_to_num(off, nan=np.inf).max(axis=1), kind="stable")[:most]
        return order, f"the {len(order):,} largest errors"
    wrong = np.flatnonzero((columns.predicted != columns.true).any(axis=1))
    outputs = columns.rest[wrong]
    sure = np.nan_to_num(np.abs(outputs - 0.5) if outputs.shape[1] == 1 else outputs, nan=np.inf)
    order = wrong[np.argsort(-sure.max(axis=1, initial=0), kind="stable")]
    if len(order) > most:
        return order[:most], f"the {most:,} most certain of {len(order):,} wrong predictions"
    return order, f"the {pluralize(len(order), 'wrong prediction', grouped=True)}"


@dataclass(frozen=True)
class _Columns:
    """The cells of a row: pairs of true and predicted values, then the rest."""

    heads: list[str]
    true: AnyArray
    predicted: AnyArray
    """Both of shape (rows, pairs)."""
    rest: AnyArray
    """Shape (rows, any)."""
    names: Sequence[str] = ()
    """Of the numbers in `true` and `predicted`, where they have names."""

    def rows(self, order: NDArray[np.intp], width: int) -> Iterator[list[Cell]]:
        """Yield rows in this order, their number in front."""
        for start in range(0, len(order), _AT_ONCE):
            part = order[start : start + _AT_ONCE]
            lines = zip(_plain(self.true[part]), _plain(self.predicted[part]), _plain(self.rest[part]), strict=True)
            for number, (true, predicted, rest) in zip(part.tolist(), lines, strict=True):
                pairs = [value for pair in zip(true, predicted, strict=True) for value in pair]
                if self.names:
                    pairs = [self.names[value] if value < len(self.names) else value for value in pairs]
                yield [number + 1, *pairs, *rest][:width]


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
    """Return suffixes that distinguish several columns of one kind."""
    return [""] if count == 1 else [f" {number}" for number in range(1, count + 1)]


def _plain(part: AnyArray) -> list[list[Any]]:
    """Convert to numbers of Python, with the shortest form of a float32: 0.1, not 0.10000000149."""
    if part.dtype.kind == "f" and part.dtype.itemsize < 8:
        part = part.astype(str).astype(np.float64)
    found: list[list[Any]] = (part.astype(np.uint8) if part.dtype.kind == "b" else part).tolist()
    return found
