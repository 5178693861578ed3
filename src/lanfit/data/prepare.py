"""From a source of rows to shards that can be sent: reads, checks, splits, reshapes, fits the normalizers.

Labels are read first, because classes decide who gets which row. Then every row goes straight from its file to its
final place, so that beside the final arrays only a block of some MiB is held. Nothing is normalized here: shards travel
raw, in their own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lanfit.data.dealing import STRATIFIED, Dealing
from lanfit.data.images import holds_images
from lanfit.data.labels import Target
from lanfit.data.normalize import NO_NORMALIZER, Moments, Normalizer, fit_normalizer
from lanfit.data.pieces import AnyArray, Piece, check_memory, merged_numbers
from lanfit.data.plan import Plan, plan_rows
from lanfit.data.shapes import fit_row, permuted, shown
from lanfit.data.sources import Source, files_source, images_source, merged_notes
from lanfit.data.tables import Signs
from lanfit.data.targets import Check, Targets, common_row, targets_of
from lanfit.data.threads import in_order
from lanfit.mistakes import mistake
from lanfit.parts import PartRange
from lanfit.text import pluralize

#: What a plan takes while it is made, for each row, at least: 28 bytes were measured without classes, 74 with ten.
PLAN_BYTES: Final = 28
Shape = tuple[int | None, ...]
#: Makes the array in which rows get their final place: name ("x" or "y"), shape, dtype. The server gives memory-mapped
#: files, which its model process and its connections read without a copy.
Allocate = Callable[[str, tuple[int, ...], np.dtype[np.generic]], AnyArray]


@dataclass(frozen=True)
class DataRequest:
    """What is to be read, and for which model. Shapes are Keras', rows first: (None, 8, 8, 1)."""

    x_dir: Path | None
    y_dir: Path | None
    """The folders; not looked at when `prepare` is given another source."""
    input_shape: Shape
    output_shape: Shape
    target: Target
    shards: int
    batch_size: int
    test_split: float
    validation_split: float
    normalizer: str
    seed: int
    npz_key: str | None = None
    """Which array of npz files is read: one name, or "x_name,y_name"."""
    samples: int | None = None
    """Use only so many rows, with classes in their proportions."""
    normalize_targets: str = "none"
    """The normalizer of the targets; numbers only."""
    dealing: Dealing = STRATIFIED
    decimal: str | None = None
    """The decimal sign of text files by its name, and what separates thousands; None: found out."""
    thousands: str | None = None
    ids: int | None = None
    """Rows are ids from 0 to below this number; None: any numbers."""
    ignored: int | None = None
    """The label that the loss leaves out."""


@dataclass(frozen=True)
class ShardRows:
    """One client's rows: contiguous views, X raw and in the model's shape. With order XX y has the shape (rows, 0)."""

    x_train: AnyArray
    y_train: AnyArray
    x_validation: AnyArray
    y_validation: AnyArray
    w_train: AnyArray | None = None
    """What each row weighs in the loss, float32; None: all the same."""
    w_validation: AnyArray | None = None


@dataclass(frozen=True)
class Prepared:
    """All rows at their place, and what is to be said about them."""

    rows: int
    x: AnyArray
    """All rows: the training rows shard after shard, then their validation rows likewise, the test rows last."""
    y: AnyArray
    shards: tuple[ShardRows, ...]
    """Of each client; where rows are dealt in parts, of each part, until `take_parts` says whose they are."""
    x_test: AnyArray
    y_test: AnyArray
    normalizer: Normalizer
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    train: int
    """Training rows of all shards, each counted once; so are `validation` rows."""
    validation: int
    pieces: tuple[ShardRows, ...]
    """What the training rows were dealt in: the shards, or the parts that are taken; each row is in one of them."""
    numbers: bool
    """Whether targets are numbers, and neither classes nor the input."""
    target_normalizer: Normalizer = NO_NORMALIZER
    """For `make_target`; its `inverse` brings predictions back to original units."""
    labels: tuple[str, ...] | None = None
    """The words behind labels 0, 1, …; None when labels are numbers."""
    shared_validation: bool = False
    """Whether the validation rows of all shards are the test rows."""

    @cached_property
    def moments(self) -> Moments:
        """Of all training rows of X: what the normalizer was fitted on, to be merged with those of others."""
        return reduce(Moments.merge, (Moments.of(piece.x_train) for piece in self.pieces))

    @cached_property
    def target_moments(self) -> Moments | None:
        """Of their targets; None when they are classes or the input."""
        if not self.numbers:
            return None
        return reduce(Moments.merge, (Moments.of(piece.y_train) for piece in self.pieces))

    @property
    def test(self) -> int:
        """Test rows, which stay on the server."""
        return len(self.x_test)


def in_memory(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
    """Allocate in ordinary memory.

    Raises:
        InputError: there is not as much free.
    """
    check_memory(f"the rows of {name.upper()} take", prod(shape) * dtype.itemsize)
    return np.empty(shape, dtype)


def prepare(request: DataRequest, allocate: Allocate = in_memory, source: Source | None = None) -> Prepared:
    """Read and check the rows, draw who gets which, put them there, fit the normalizers.

    Args:
        source: where the rows come from, if not from the folders of the request.

    Raises:
        InputError: anything about files, shapes, labels, values or sizes that does not fit; nothing was changed.
    """
    check_target_normalizer(request.normalize_targets, request.target)
    source = source or _files_of(request)
    row_shape = _model_row(request, source.x)
    targets = targets_of(source, request.target, request.output_shape, request.ignored)
    # A file may declare any number of rows, and none is read before it is decided where each goes.
    check_memory(f"to decide where each of {source.rows:,} rows goes takes", source.rows * PLAN_BYTES)
    plan = plan_rows(
        source.rows,
        request.shards,
        request.test_split,
        request.validation_split,
        request.seed,
        targets.classes,
        own_test=source.test,
        samples=request.samples,
        words=targets.words,
        dealing=request.dealing,
    )
    if request.dealing.how != "parts":
        _check_batch(plan, request.batch_size)
    place, rows = _places(plan, source.rows)
    final_y = allocate("y", (rows, *targets.row), targets.dtype)
    _scatter(targets.pieces, place, final_y, targets.check)
    final_x = allocate("x", (rows, *row_shape), np.result_type(*(piece.dtype for piece in source.x)))
    _scatter(source.x, place, final_x, partial(_check_values, request.ids))
    train, held = ([len(getattr(shard, name)) for shard in plan.shards] for name in ("train", "validation"))
    shards, test = cut(train, held, final_x, final_y)
    if source.weights is not None:
        final_w = np.ones(rows, np.float32)
        final_w[place[place >= 0]] = source.weights[place >= 0]
        shards = _weighed(train, held, shards, final_w, validation=source.weigh_validation)
    if source.shared_validation:
        weights = None if source.weights is None else final_w[test:]
        shards = tuple(
            replace(shard, x_validation=final_x[test:], y_validation=final_y[test:], w_validation=weights)
            for shard in shards
        )
    data = Prepared(
        rows=rows,
        x=final_x,
        y=final_y,
        shards=shards,
        x_test=final_x[test:],
        y_test=final_y[test:],
        normalizer=NO_NORMALIZER,
        notes=(*source.notes, *_notes(request, source, row_shape, targets), *merged_notes(source.x)),
        warnings=plan.warnings,
        train=sum(len(shard.x_train) for shard in shards),
        validation=0 if source.shared_validation else sum(len(shard.x_validation) for shard in shards),
        pieces=shards,
        numbers=request.target is Target.VALUES,
        labels=targets.words,
        shared_validation=source.shared_validation,
    )
    return _fitted(data, request.normalizer, request.normalize_targets)


def check_target_normalizer(normalizer: str, target: Target) -> None:
    """Refuse to normalize what is no number.

    Raises:
        InputError: the targets are classes, or the input.
    """
    if normalizer != "none" and target is not Target.VALUES:
        raise mistake("targets.not-numbers", targets="the input" if target is Target.INPUT else "classes")


def _files_of(request: DataRequest) -> Source:
    if request.x_dir is None:
        raise mistake("rows.no-folder")
    if holds_images(request.x_dir):
        return images_source(request.x_dir, request.y_dir, request.target, request.input_shape)
    signs = Signs.named(request.decimal, request.thousands)
    return files_source(request.x_dir, request.y_dir, request.target, request.npz_key, signs)


def _model_row(request: DataRequest, pieces: Sequence[Piece]) -> tuple[int, ...]:
    """The shape of a row as the model takes it; all pieces must agree."""
    row = common_row("X", [(piece.name, piece.shape[1:]) for piece in pieces])
    wanted = request.input_shape[1:]
    fitted = fit_row(row, wanted)
    if fitted is None:
        if (other_order := permuted(pieces[0].name, row, wanted, "x")) is not None:
            raise other_order
        raise mistake("rows.other-input", file=pieces[0].name, shape=shown(row), wanted=shown(wanted))
    if request.target is Target.INPUT and fit_row(fitted, request.output_shape[1:]) is None:
        raise mistake("rows.other-output", shape=shown(fitted), output=shown(request.output_shape[1:]))
    return fitted


def _check_batch(plan: Plan, batch_size: int) -> None:
    sizes = [len(shard.train) for shard in plan.shards]
    if batch_size > (least := min(sizes)):
        raise mistake(
            "split.batch-of-shard", batch=batch_size, rows=least, shard=sizes.index(least) + 1, shards=len(sizes)
        )


def _places(plan: Plan, rows: int) -> tuple[NDArray[np.int64], int]:
    """Where each row goes, -1 for those not used, and how many are: the training rows shard after shard, then their
    validation rows likewise, the test rows last. So those of neighbours lie side by side."""
    train, validation = ([getattr(shard, name) for shard in plan.shards] for name in ("train", "validation"))
    order = np.concatenate([*train, *validation, plan.test])
    place = np.full(rows, -1, np.int64)
    place[order] = np.arange(len(order))
    if np.count_nonzero(place >= 0) != len(order):
        raise AssertionError(f"the plan deals one of {rows} rows twice")
    return place, len(order)


def _scatter(pieces: Sequence[Piece], place: NDArray[np.int64], final: AnyArray, check: Check) -> None:
    """Read block by block, the files at the same time, and put every row where it belongs."""

    def read(piece: Piece, row: int) -> None:
        first = row
        for block in piece.blocks():
            check(piece, block, row - first)
            to = place[row : row + len(block)]
            rows = block.reshape(-1, *final.shape[1:])
            if (to < 0).any():
                rows, to = rows[to >= 0], to[to >= 0]
            final[to] = rows
            row += len(block)

    starts = accumulate((len(piece) for piece in pieces), initial=0)
    in_order(lambda job: read(*job), list(zip(pieces, starts, strict=False)))


def _check_values(ids: int | None, piece: Piece, block: AnyArray, first_row: int) -> None:
    """Refuse what is not finite, or is not once it is float32, as which every model takes it, and ids out of range.

    What numbers it merges is noted.
    """
    for place, numbers in merged_numbers(block).items():
        piece.merged.setdefault(place, numbers)
    if ids is not None and (outside := (block < 0) | (block >= ids)).any():
        value, row, column = _first_of(piece, block, first_row, outside)
        raise mistake("rows.unknown-id", file=piece.name, row=row, column=column, value=value, ids=ids, last=ids - 1)
    if block.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(block.astype(np.float32, copy=False))
    if bad.any():
        value, row, column = _first_of(piece, block, first_row, bad)
        raise mistake("rows.not-finite", file=piece.name, row=row, column=column, value=value)


def _first_of(piece: Piece, block: AnyArray, first_row: int, bad: NDArray[np.bool_]) -> tuple[object, int, str]:
    """The first value that is bad, its row from 1, and its column as messages name it."""
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    column = f", {piece.column(int(index[1]))}" if block.ndim == 2 else ""
    return block[index], first_row + int(index[0]) + 1, column


def _fitted(data: Prepared, normalizer: str, of_targets: str) -> Prepared:
    """The data with these normalizers. What none asks for is not computed: it takes longer than to read the rows."""
    inputs = targets = NO_NORMALIZER
    if normalizer != inputs.name:
        inputs = fit_normalizer(normalizer, data.moments)
    if of_targets != targets.name and data.target_moments is not None:
        targets = fit_normalizer(of_targets, data.target_moments)
    return replace(data, normalizer=inputs, target_normalizer=targets)


def take_parts(data: Prepared, taken: Sequence[PartRange], batch_size: int) -> Prepared:
    """Make a shard of each range of parts: views, also where ranges overlap; normalizers are fitted on what is taken.

    Args:
        data: rows that were dealt in parts.

    Raises:
        InputError: a range has fewer training rows than a batch.
    """
    train = list(accumulate((len(part.x_train) for part in data.shards), initial=0))
    validation = list(accumulate((len(part.x_validation) for part in data.shards), initial=train[-1]))
    shards = []
    for parts in taken:
        t, v = (slice(places[parts.first - 1], places[parts.last]) for places in (train, validation))
        if batch_size > (rows := t.stop - t.start):
            raise mistake("parts.smaller-than-batch", batch=batch_size, rows=rows, parts=parts.said, most=max(1, rows))
        shard = ShardRows(data.x[t], data.y[t], data.x[v], data.y[v])
        shards.append(_like_its_parts(data, shard, data.shards[parts.first - 1 : parts.last]))
    used = sorted({index for parts in taken for index in parts.indices})
    counts = [sum(len(getattr(data.shards[index], name)) for index in used) for name in ("x_train", "x_validation")]
    data = replace(
        data,
        rows=counts[0] + (0 if data.shared_validation else counts[1]) + data.test,
        shards=tuple(shards),
        train=counts[0],
        validation=0 if data.shared_validation else counts[1],
        pieces=tuple(data.shards[index] for index in used),
    )
    return _fitted(data, data.normalizer.name, data.target_normalizer.name)


def _like_its_parts(data: Prepared, shard: ShardRows, parts: Sequence[ShardRows]) -> ShardRows:
    """The shard with the weights of the rows of its parts, and with the test rows where they are for validation."""

    def joined(name: str) -> AnyArray | None:
        weights = [getattr(part, name) for part in parts]
        return None if weights[0] is None else np.concatenate(weights)

    shard = replace(shard, w_train=joined("w_train"))
    if data.shared_validation:
        held = parts[0].w_validation
        return replace(shard, x_validation=data.x_test, y_validation=data.y_test, w_validation=held)
    return replace(shard, w_validation=joined("w_validation"))


def cut(train: Sequence[int], validation: Sequence[int], x: AnyArray, y: AnyArray) -> tuple[tuple[ShardRows, ...], int]:
    """The shards as views, and where the test rows begin.

    Args:
        train: how many training rows each shard has, as they lie one after the other; so `validation`, behind them.
    """
    slices = list(zip(*_slices(train, validation), strict=True))
    return tuple(ShardRows(x[t], y[t], x[v], y[v]) for t, v in slices), slices[-1][1].stop


def _slices(train: Sequence[int], validation: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Where the training rows of each shard lie, and its validation rows."""
    first = list(accumulate(train, initial=0))
    behind = list(accumulate(validation, initial=first[-1]))
    return [slice(*ends) for ends in pairwise(first)], [slice(*ends) for ends in pairwise(behind)]


def _weighed(
    train: Sequence[int],
    held: Sequence[int],
    shards: tuple[ShardRows, ...],
    weights: AnyArray,
    *,
    validation: bool,
) -> tuple[ShardRows, ...]:
    """The shards with the weights of their rows; those of validation rows only where they count."""
    return tuple(
        replace(shard, w_train=weights[t], w_validation=weights[v] if validation else None)
        for shard, t, v in zip(shards, *_slices(train, held), strict=True)
    )


def _notes(request: DataRequest, source: Source, row_shape: tuple[int, ...], targets: Targets) -> tuple[str, ...]:
    notes, row = [], source.x[0].shape[1:]
    if row != row_shape:
        values = pluralize(row[0], "value") if len(row) == 1 else f"{shown(row)} values"
        notes.append(f"rows of {values} are read as {shown(row_shape)}, the model's input")
    if request.target is Target.ONE_HOT and len(targets.row) + 1 < len(request.output_shape):
        outputs = pluralize(request.output_shape[-1] or 0, "output")
        notes.append(f"integer labels are one-hot encoded into the model's {outputs}")
    return tuple(notes)
