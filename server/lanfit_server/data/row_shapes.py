"""The shape of the rows in files, and what their targets are, before there is a model. A process of its own looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

import msgspec
import numpy as np

from lanfit.core.decoding import decode_msgpack
from lanfit.core.memory import limit_memory
from lanfit.core.processor_time import limit_processor_time, most_seconds
from lanfit.data.labels import Target
from lanfit.data.processes import ReaderEnded, ask, serve
from lanfit.data.sources import check_folders, files_source
from lanfit.data.text_labels import Labels
from lanfit.errors import InputError

MODULE: Final = "lanfit_server.data.row_shapes"


class RowShape(msgspec.Struct, frozen=True):
    """What a model for these rows takes and gives.

    Args:
        inputs: the shape of one row.
        outputs: the number of classes, or of target values.
        is_classes: whether the targets are labels.
    """

    inputs: tuple[int, ...]
    outputs: int
    is_classes: bool


class _Folders(msgspec.Struct):
    inputs: bytes
    targets: bytes


def shape_of_files(inputs: Path, targets: Path) -> RowShape:
    """Return the shape of the rows in two folders.

    Raises:
        LanfitError: they can't be used.
    """
    check_folders(inputs, targets)
    order = msgspec.msgpack.encode(_Folders(os.fsencode(inputs), os.fsencode(targets)))
    try:
        return decode_msgpack(ask(MODULE, order), RowShape)
    except ReaderEnded as ended:
        raise ended.named(inputs) from None


def look(inputs: Path, targets: Path) -> RowShape:
    """Look at the files, in this process."""
    try:
        source = files_source(inputs, targets, Target.CLASSES)
    except InputError:
        source = files_source(inputs, targets, Target.VALUES)
    [given] = source.targets.values()
    row = source.x[0].shape[1:]
    classes = _classes_of([part for part in given if isinstance(part, Labels)])
    if classes:
        return RowShape(row, classes, is_classes=True)
    shape = given[0].values.shape if isinstance(given[0], Labels) else given[0].shape
    return RowShape(row, int(np.prod(shape[1:], dtype=np.int64)), is_classes=False)


def _classes_of(labels: list[Labels]) -> int:
    """Return the number of classes; 0 if the targets are numbers to be predicted: fractions, or very many."""
    if not labels or any(part.values.size != len(part) for part in labels):
        return 0
    if any(part.words is not None for part in labels):
        return len({word for part in labels for word in part.words or ()})
    values = np.concatenate([part.values.reshape(-1) for part in labels])
    if not (np.isfinite(values).all() and (values == np.floor(values)).all() and (values >= 0).all()):
        return 0
    largest = int(values.max())
    return largest + 1 if largest < max(2, min(1000, len(values) // 2)) else 0


def answer(order: bytes, limit: int) -> bytes:
    """Answer an order, in the process."""
    folders = decode_msgpack(order, _Folders)
    inputs, targets = Path(os.fsdecode(folders.inputs)), Path(os.fsdecode(folders.targets))
    if limit:
        limit_memory(limit)
    size = sum(path.stat().st_size for folder in (inputs, targets) for path in folder.rglob("*") if path.is_file())
    with limit_processor_time(most_seconds(size)):
        return msgspec.msgpack.encode(look(inputs, targets))


if __name__ == "__main__":
    serve(answer)
