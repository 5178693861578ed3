"""What people see of the predictions for the test rows: those for a few rows, and the confusion matrix. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Target, class_ids
from lanfit.data.shown_rows import shown_output
from lanfit.data.split import NO_CLASS
from lanfit.training.metrics import predicted_classes
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model
from lanfit.wire.tasks import OutputSpec
from lanfit_server.models.handle import Seen

#: With more classes there is no confusion matrix.
MOST_CLASSES = 100
#: How many rows of a cell are known by number.
MOST_OF_CELL = 12


def seen_of(
    model: Model, targets: Mapping[str, AnyArray], predictions: Mapping[str, AnyArray], shown: Sequence[int]
) -> Seen | None:
    """Return a sample of the predictions for all test rows; None if no output can be shown.

    Args:
        targets: as the files have them, in the model's shapes.
        predictions: in original units.
        shown: the rows that are shown.
    """
    output = shown_output(model)
    if output is None:
        return None
    found = predictions[output.name]
    outputs = np.nan_to_num(found[list(shown)].astype(np.float64)).reshape(-1)
    classes = classes_of(output, targets[output.name], found)
    if classes is None:
        return Seen(tuple(outputs.tolist()))
    matrix, cells = confusion(*classes, number_of_classes(output))
    lines = tuple(tuple(line) for line in matrix.tolist())
    return Seen(tuple(outputs.tolist()), lines, {f"{true},{guess}": rows for (true, guess), rows in cells.items()})


def number_of_classes(output: OutputSpec) -> int:
    """Return the number of classes of an output; 0 if it has none, or too many for a matrix."""
    target, last = Target(output.target), output.shape[-1] or 0
    count = 2 if target is Target.BINARY else last if target.is_classification and len(output.shape) == 2 else 0
    return count if count <= MOST_CLASSES else 0


def classes_of(
    output: OutputSpec, targets: AnyArray, predictions: AnyArray
) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the true and the predicted class of each row; None if rows do not have one class each."""
    target = Target(output.target)
    true = class_ids(target, targets, output.ignored) if number_of_classes(output) else None
    if true is None:
        return None
    return true, predicted_classes(target, predictions).reshape(-1).astype(np.int64)


def confusion(
    true: NDArray[np.int64], predicted: NDArray[np.int64], classes: int
) -> tuple[NDArray[np.int64], dict[tuple[int, int], tuple[int, ...]]]:
    """Return the confusion matrix, equal to scikit-learn's, and the first rows of each cell that is not empty.

    Args:
        true: a class per row; rows of NO_CLASS are left out.
        classes: their number, including those that do not occur.
    """
    counts = np.flatnonzero(true != NO_CLASS)
    cell = true[counts] * classes + predicted[counts]
    matrix = np.bincount(cell, minlength=classes * classes).reshape(classes, classes)
    order = np.argsort(cell, kind="stable")
    numbers, firsts = np.unique(cell[order], return_index=True)
    ends = np.minimum(np.append(firsts[1:], len(order)), firsts + MOST_OF_CELL)
    rows = {
        divmod(int(number), classes): tuple(counts[order[first:end]].tolist())
        for number, first, end in zip(numbers, firsts, ends, strict=True)
    }
    return matrix.astype(np.int64), rows
