"""From a folder of files to shards that can be sent: reads, checks, splits, reshapes, fits the normalizer.

Y is read first, because classes decide who gets which row. Then every row of X goes straight from its file to its
final place, so that beside the final array only a block of some MiB is held. X is not normalized here: shards travel
raw, in their own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanfit.data.files import Declared, Pair, column_label, describe, find_pairs, read_array, read_blocks
from lanfit.data.labels import Target, arrange, check_labels, class_ids
from lanfit.data.memory import free_memory, readable_size
from lanfit.data.normalize import Moments, Normalizer, fit_normalizer
from lanfit.data.shapes import fit_row, shown
from lanfit.data.split import Plan, plan_rows
from lanfit.errors import InputError

AnyArray = NDArray[np.generic]
Shape = tuple[int | None, ...]
#: Makes the array in which rows get their final place: name ("x" or "y"), shape, dtype. The server gives memory-mapped
#: files, which its model process and its connections read without a copy.
Allocate = Callable[[str, tuple[int, ...], np.dtype[np.generic]], AnyArray]


@dataclass(frozen=True)
class DataRequest:
    """What is to be read, and for which model. Shapes are Keras', rows first: (None, 8, 8, 1)."""

    x_dir: Path
    y_dir: Path | None
    input_shape: Shape
    output_shape: Shape
    target: Target
    shards: int
    batch_size: int
    test_split: float
    validation_split: float
    normalizer: str
    seed: int


@dataclass(frozen=True)
class ShardRows:
    """One client's rows: contiguous views, X raw and in the model's shape. With order XX y has the shape (rows, 0)."""

    x_train: AnyArray
    y_train: AnyArray
    x_validation: AnyArray
    y_validation: AnyArray


@dataclass(frozen=True)
class Prepared:
    """All rows at their place, and what is to be said about them."""

    rows: int
    shards: tuple[ShardRows, ...]
    x_test: AnyArray
    y_test: AnyArray
    normalizer: Normalizer
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def train(self) -> int:
        """Training rows of all shards."""
        return sum(len(shard.x_train) for shard in self.shards)

    @property
    def validation(self) -> int:
        """Validation rows of all shards."""
        return sum(len(shard.x_validation) for shard in self.shards)

    @property
    def test(self) -> int:
        """Test rows, which stay on the server."""
        return len(self.x_test)


def in_memory(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
    """Allocate in ordinary memory.

    Raises:
        InputError: there is not as much free.
    """
    size, free = int(np.prod(shape, dtype=object)) * dtype.itemsize, free_memory()
    if free and size > free:
        raise InputError(
            f"the rows of {name.upper()} take {readable_size(size)}, but {readable_size(free)} of memory are free",
            "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory.",
        )
    return np.empty(shape, dtype)


def prepare(request: DataRequest, allocate: Allocate = in_memory) -> Prepared:
    """Read and check the files, draw who gets which rows, put them there, fit the normalizer.

    Raises:
        InputError: anything about files, shapes, labels, values or sizes that does not fit; nothing was changed.
    """
    pairs = find_pairs(request.x_dir, request.y_dir)
    declared = [describe(pair.x) for pair in pairs]
    row_shape = _model_row(request, pairs, declared)
    y = _read_targets(request, pairs, declared)
    plan = plan_rows(
        len(y),
        request.shards,
        request.test_split,
        request.validation_split,
        request.seed,
        class_ids(request.target, y),
    )
    _check_batch(plan, request.batch_size)
    place = _places(plan, len(y))
    final_y = allocate("y", y.shape, y.dtype)
    final_y[place] = y
    final_x = allocate("x", (len(y), *row_shape), np.result_type(*(d.dtype for d in declared)))
    _scatter(pairs, declared, place, final_x)
    shards, test = _cut(plan, final_x, final_y)
    moments = reduce(Moments.merge, (Moments.of(shard.x_train) for shard in shards))
    return Prepared(
        rows=len(y),
        shards=shards,
        x_test=final_x[test:],
        y_test=final_y[test:],
        normalizer=fit_normalizer(request.normalizer, moments),
        notes=_notes(request, declared[0].shape[1:], row_shape, y),
        warnings=plan.warnings,
    )


def _model_row(request: DataRequest, pairs: Sequence[Pair], declared: Sequence[Declared]) -> tuple[int, ...]:
    """The shape of a row as the model takes it; all files must agree."""
    row = declared[0].shape[1:]
    for pair, found in zip(pairs, declared, strict=True):
        if found.shape[1:] != row:
            raise InputError(
                f"{pair.x} has rows of {shown(found.shape[1:])} values, but {pairs[0].x} has rows of {shown(row)}",
                "All files of X must have the same columns.",
            )
    wanted = request.input_shape[1:]
    fitted = fit_row(row, wanted)
    if fitted is None:
        raise InputError(
            f"{pairs[0].x} has rows of {shown(row)} values, but the model takes {shown(wanted)}",
            "Check that the files belong to this model; a csv row needs as many columns as the model takes values.",
        )
    if request.target is Target.INPUT and fit_row(fitted, request.output_shape[1:]) is None:
        raise InputError(
            f"with order XX the input, rows of {shown(fitted)} values, is the target, but the model puts out "
            f"{shown(request.output_shape[1:])}",
            "Use a model whose output has as many values as its input, or order XY.",
        )
    return fitted


def _read_targets(request: DataRequest, pairs: Sequence[Pair], declared: Sequence[Declared]) -> AnyArray:
    """All targets in the order of the files, checked; with order XX as many rows of nothing."""
    if request.target is Target.INPUT:
        return np.empty((sum(found.shape[0] for found in declared), 0), np.uint8)
    files: list[AnyArray] = []
    for pair, found in zip(pairs, declared, strict=True):
        if pair.y is None:
            raise InputError("there are no files of Y, and this loss needs targets", "Use order XX, or name a folder.")
        y = read_array(pair.y, exact=request.target.is_classification)
        if len(y) != found.shape[0]:
            raise InputError(
                f"{pair.x} has {found.shape[0]} rows, but {pair.y} has {len(y)}",
                "Files pair in natural order, row by row: each pair needs the same number of rows.",
            )
        check_labels(request.target, y, request.output_shape, str(pair.y))
        files.append(arrange(request.target, y, request.output_shape, str(pair.y)))
        if files[-1].shape[1:] != files[0].shape[1:]:
            raise InputError(
                f"{pair.y} has rows of {shown(files[-1].shape[1:])} values, "
                f"but {pairs[0].y} has rows of {shown(files[0].shape[1:])}",
                "All files of Y must have the same columns.",
            )
    return files[0] if len(files) == 1 else np.concatenate(files)


def _check_batch(plan: Plan, batch_size: int) -> None:
    sizes = [len(shard.train) for shard in plan.shards]
    if batch_size > min(sizes):
        raise InputError(
            f"a batch of {batch_size} rows is larger than the {min(sizes)} training rows of "
            f"shard {sizes.index(min(sizes)) + 1} of {len(sizes)}",
            f"Use --batch-size {min(sizes)} or less, fewer clients, or more rows.",
        )


def _places(plan: Plan, rows: int) -> NDArray[np.int64]:
    """Where each row goes: shard after shard, training before validation rows, the test rows last."""
    order = np.concatenate([*(part for shard in plan.shards for part in (shard.train, shard.validation)), plan.test])
    place = np.full(rows, -1, np.int64)
    place[order] = np.arange(len(order))
    if len(order) != rows or (place < 0).any():
        raise AssertionError(f"the plan deals {len(order)} of {rows} rows, or one of them twice")
    return place


def _scatter(pairs: Sequence[Pair], declared: Sequence[Declared], place: NDArray[np.int64], final_x: AnyArray) -> None:
    """Read X block by block, and put every row where it belongs."""
    start = 0
    for pair, found in zip(pairs, declared, strict=True):
        row = 0
        for block in read_blocks(pair.x, found):
            _check_values(block, pair.x, row)
            final_x[place[start + row : start + row + len(block)]] = block.reshape(-1, *final_x.shape[1:])
            row += len(block)
        start += row


def _check_values(block: AnyArray, path: Path, first_row: int) -> None:
    """Refuse what is not finite, or is not once it is float32, as which every model takes it."""
    if block.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(block.astype(np.float32, copy=False))
    if bad.any():
        index = np.unravel_index(int(bad.argmax()), bad.shape)
        column = f", {column_label(path, int(index[1]))}" if block.ndim == 2 else ""
        raise InputError(
            f"{path}, row {first_row + int(index[0]) + 1}{column}: {block[index]} is not a number that float32 holds",
            "Remove or repair the row; a model that sees one such value learns nothing.",
        )


def _cut(plan: Plan, x: AnyArray, y: AnyArray) -> tuple[tuple[ShardRows, ...], int]:
    """The shards as views, and where the test rows begin."""
    shards, position = [], 0
    for shard in plan.shards:
        train = slice(position, position + len(shard.train))
        validation = slice(train.stop, train.stop + len(shard.validation))
        shards.append(ShardRows(x[train], y[train], x[validation], y[validation]))
        position = validation.stop
    return tuple(shards), position


def _notes(request: DataRequest, row: tuple[int, ...], row_shape: tuple[int, ...], y: AnyArray) -> tuple[str, ...]:
    notes = []
    if row != row_shape:
        notes.append(f"rows of {shown(row)} values are read as {shown(row_shape)}, the model's input")
    if request.target is Target.ONE_HOT and y.ndim < len(request.output_shape):
        notes.append(f"integer labels are one-hot encoded into the model's {request.output_shape[-1]} outputs")
    return tuple(notes)
