"""The checked targets of a source, in the standard shape, and the classes by which rows are split.

Labels are read first, because rows are partitioned by them; numbers are checked when they are copied to their place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lanfit.data.chunks import AnyArray, Chunk
from lanfit.data.labels import Shape, Target, arrange, check_labels, check_words, class_ids
from lanfit.data.shapes import shown
from lanfit.data.sources import Source
from lanfit.data.text_labels import Labels, unite
from lanfit.errors import lanfit_error
from lanfit.wire.tasks import OutputSpec

#: Checks a block before it is copied: its chunk, the block, and the number of its first row in the chunk.
Check = Callable[[Chunk, AnyArray, int], None]


@dataclass(frozen=True)
class Targets:
    """The targets for the inputs."""

    chunks: tuple[Chunk, ...]
    """None with order XX, where targets have no values."""
    row: tuple[int, ...]
    dtype: np.dtype[np.generic]
    check: Check
    classes: NDArray[np.int64] | None = None
    words: tuple[str, ...] | None = None


def targets_of(source: Source, output: OutputSpec) -> Targets:
    """Check everything that is known before numbers are read: rows, shapes, and all labels.

    Raises:
        InputError: targets do not match inputs, the loss or the model. The message names file and row.
    """
    target = Target(output.target)
    if target is Target.INPUT:
        return Targets((), (0,), np.dtype(np.uint8), _passed)
    given = source.targets[output.name]
    check_pairs(source, given)
    chunks = tuple(part for part in given if isinstance(part, Chunk))
    if chunks:
        return _numbers(chunks, target, output.shape, output.ignored)
    return _labels(tuple(part for part in given if isinstance(part, Labels)), target, output.shape, output.ignored)


def check_pairs(source: Source, given: Sequence[Chunk | Labels]) -> None:
    """Check that chunks have as many rows as those of the first input.

    Raises:
        InputError: two differ. The message names both.
    """
    for x, y in zip(next(iter(source.inputs.values())), given, strict=True):
        if len(x) != len(y):
            raise lanfit_error("rows.unequal", x_file=x.name, x_rows=len(x), y_file=y.name, y_rows=len(y))


def common_row(what: str, rows: Sequence[tuple[str, tuple[int, ...]]]) -> tuple[int, ...]:
    """Return the shape of a row that all chunks, given by name and shape, have.

    Raises:
        InputError: two differ. The message names both.
    """
    first_name, first = rows[0]
    for name, row in rows:
        if row != first:
            raise lanfit_error(
                "rows.other-columns",
                file=name,
                shape=shown(row),
                first_file=first_name,
                first_shape=shown(first),
                folder=what,
            )
    return first


def _numbers(chunks: tuple[Chunk, ...], target: Target, output_shape: Shape, ignored: int | None) -> Targets:
    rows = []
    for chunk in chunks:
        one = np.empty((1, *chunk.shape[1:]), chunk.dtype)
        rows.append((chunk.name, arrange(target, one, output_shape, chunk.name).shape[1:]))
    check = partial(_check_numbers, target, output_shape, ignored)
    return Targets(chunks, common_row("Y", rows), np.result_type(*(chunk.dtype for chunk in chunks)), check)


def _labels(files: tuple[Labels, ...], target: Target, output_shape: Shape, ignored: int | None) -> Targets:
    arrays, words = unite(files)
    if words:
        check_words(target, words, output_shape)
    chunks, classes = [], []
    for labels, array in zip(files, arrays, strict=True):
        check_labels(target, array, output_shape, labels.name, ignored=ignored)
        arranged = arrange(target, array, output_shape, labels.name)
        chunks.append(Chunk.of(labels.name, arranged))
        classes.append(class_ids(target, arranged, ignored))
    row = common_row("Y", [(chunk.name, chunk.shape[1:]) for chunk in chunks])
    known = [ids for ids in classes if ids is not None]
    return Targets(
        tuple(chunks),
        row,
        np.result_type(*(chunk.dtype for chunk in chunks)),
        _passed,
        np.concatenate(known) if len(known) == len(classes) else None,
        words,
    )


def _check_numbers(
    target: Target, output_shape: Shape, ignored: int | None, chunk: Chunk, block: AnyArray, first_row: int
) -> None:
    check_labels(target, block, output_shape, chunk.name, first_row, ignored)


def _passed(chunk: Chunk, block: AnyArray, first_row: int) -> None:
    """Accept a block that was checked before."""
