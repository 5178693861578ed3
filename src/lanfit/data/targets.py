"""The targets of a source, checked, in the one shape used from here on, and the classes by which rows are split.

Labels are read whole, because they decide who gets which row; numbers are checked when they are put to their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lanfit.data.labels import Shape, Target, arrange, check_labels, check_words, class_ids
from lanfit.data.pieces import AnyArray, Piece
from lanfit.data.shapes import shown
from lanfit.data.sources import Source
from lanfit.data.text_labels import Labels, unite
from lanfit.mistakes import mistake

#: Looks at a block before it is put to its place: the piece it is of, the block, the number of its first row there.
Check = Callable[[Piece, AnyArray, int], None]


@dataclass(frozen=True)
class Targets:
    """What is to be put beside the inputs."""

    pieces: tuple[Piece, ...]
    """None with order XX, where the rows hold nothing."""
    row: tuple[int, ...]
    dtype: np.dtype[np.generic]
    check: Check
    classes: NDArray[np.int64] | None = None
    words: tuple[str, ...] | None = None


def targets_of(source: Source, target: Target, output_shape: Shape, ignored: int | None = None) -> Targets:
    """Check what can be before numbers are read: rows, shapes, and all labels.

    Args:
        ignored: the label that the loss leaves out.

    Raises:
        InputError: targets and inputs do not pair, or targets do not fit the loss or the model; file and row are named.
    """
    if target is Target.INPUT:
        return Targets((), (0,), np.dtype(np.uint8), _passed)
    given: Sequence[Piece | Labels] = source.y or source.labels
    for x, y in zip(source.x, given, strict=True):
        if len(x) != len(y):
            raise mistake("rows.unequal", x_file=x.name, x_rows=len(x), y_file=y.name, y_rows=len(y))
    if source.y:
        return _numbers(source.y, target, output_shape, ignored)
    return _labels(source.labels, target, output_shape, ignored)


def common_row(what: str, rows: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
    """The shape of a row that all pieces, given by name and shape, have.

    Raises:
        InputError: one has another; both are named.
    """
    first_name, first = rows[0]
    for name, row in rows:
        if row != first:
            raise mistake(
                "rows.other-columns",
                file=name,
                shape=shown(row),
                first_file=first_name,
                first_shape=shown(first),
                folder=what,
            )
    return first


def _numbers(pieces: tuple[Piece, ...], target: Target, output_shape: Shape, ignored: int | None) -> Targets:
    rows = []
    for piece in pieces:
        one = np.empty((1, *piece.shape[1:]), piece.dtype)
        rows.append((piece.name, arrange(target, one, output_shape, piece.name).shape[1:]))
    check = partial(_check_numbers, target, output_shape, ignored)
    return Targets(pieces, common_row("Y", rows), np.result_type(*(piece.dtype for piece in pieces)), check)


def _labels(files: tuple[Labels, ...], target: Target, output_shape: Shape, ignored: int | None) -> Targets:
    arrays, words = unite(files)
    if words:
        check_words(target, words, output_shape)
    pieces, classes = [], []
    for labels, array in zip(files, arrays, strict=True):
        check_labels(target, array, output_shape, labels.name, ignored=ignored)
        arranged = arrange(target, array, output_shape, labels.name)
        pieces.append(Piece.of(labels.name, arranged))
        classes.append(class_ids(target, arranged, ignored))
    row = common_row("Y", [(piece.name, piece.shape[1:]) for piece in pieces])
    known = [ids for ids in classes if ids is not None]
    return Targets(
        tuple(pieces),
        row,
        np.result_type(*(piece.dtype for piece in pieces)),
        _passed,
        np.concatenate(known) if len(known) == len(classes) else None,
        words,
    )


def _check_numbers(
    target: Target, output_shape: Shape, ignored: int | None, piece: Piece, block: AnyArray, first_row: int
) -> None:
    check_labels(target, block, output_shape, piece.name, first_row, ignored)


def _passed(piece: Piece, block: AnyArray, first_row: int) -> None:
    """For what has been checked before."""
