"""Makes shards from a source of rows: reads, checks, splits and reshapes them, and fits the normalizers.

Labels are read first, because rows are partitioned by class. Then every row is copied directly from its file to its
final place, so that only a block of some MiB is held besides the final arrays. Nothing is normalized here: shards are
sent raw, in their own dtype.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from functools import cached_property, partial, reduce
from itertools import accumulate, pairwise
from math import prod
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.data.chunks import AnyArray, Chunk, check_memory, merged_numbers
from lanfit.data.images import holds_images
from lanfit.data.labels import Target
from lanfit.data.named import NamedArrays, npz_source
from lanfit.data.normalize import NO_NORMALIZER, Moments, fit_normalizer
from lanfit.data.partitioning import STRATIFIED, Partitioning
from lanfit.data.plan import Plan, plan_rows
from lanfit.data.shapes import fit_row, permuted, shown
from lanfit.data.shard import Normalizers, Samples, Shard
from lanfit.data.sources import Source, files_source, images_source, merged_notes
from lanfit.data.tables import Signs
from lanfit.data.targets import Check, Targets, check_pairs, common_row, targets_of
from lanfit.data.threads import in_order
from lanfit.errors import lanfit_error
from lanfit.settings.parts import PartRange
from lanfit.wire.tasks import InputSpec, OutputSpec

#: The least memory for each row while a plan is made: 28 bytes were measured without classes, 74 with ten.
PLAN_BYTES: Final = 28
#: Allocates an array for rows: name ("x" or "y", of several "x-1", …), shape, dtype. The server returns memory-mapped
#: files, which its model process and its connections read without a copy.
Allocate = Callable[[str, tuple[int, ...], np.dtype[np.generic]], AnyArray]


@dataclass(frozen=True)
class DataRequest:
    """What to read, and for which model. Shapes are as in Keras, rows first: (None, 8, 8, 1)."""

    x_dir: Path | None
    y_dir: Path | None
    """The folders; not used if `prepare` gets another source."""
    inputs: tuple[InputSpec, ...]
    outputs: tuple[OutputSpec, ...]
    """The inputs of the model, in its order."""
    shards: int
    batch_size: int
    test_split: float
    validation_split: float
    seed: int
    npz_key: str | None = None
    """The array of npz files to read: one name, or "x_name,y_name"."""
    samples: int | None = None
    """Use only this many rows, with classes in proportion."""
    partitioning: Partitioning = STRATIFIED
    decimal: str | None = None
    """The decimal sign of text files by its name, and the thousands separator; None: detected."""
    thousands: str | None = None
    arrays: NamedArrays | None = None
    """The names of the inputs and targets in one npz file; None: the folders are read."""


@dataclass(frozen=True)
class Prepared:
    """All rows in their final place, and notes about them."""

    rows: int
    all: Samples
    """All rows, raw, in the model's shapes: training rows of all shards, their validation rows, and the test rows."""
    shards: tuple[Shard, ...]
    """Contiguous views for each client; of rows in parts for each part, until `take_parts` assigns them."""
    test_samples: Samples
    """The test rows, which stay on the server, but for the few that clients predict for a page that is watched."""
    normalizers: Normalizers
    notes: tuple[str, ...]
    warnings: tuple[str, ...]
    train: int
    """The number of training rows of all shards, each counted once; likewise `validation`."""
    validation: int
    chunks: tuple[Shard, ...]
    """The disjoint sets of training rows: the shards, or the parts that are used."""
    numbers: tuple[str, ...]
    """The numeric targets, which are neither classes nor the input."""
    labels: Mapping[str, tuple[str, ...]]
    """The string labels of 0, 1, … by target; only of targets with string labels."""
    shared_validation: bool = False
    """Whether the validation rows of all shards are the test rows."""

    @cached_property
    def moments(self) -> dict[str, Moments]:
        """Return the moments of all training rows of each input, on which normalizers are fitted."""
        return {name: self._moments([chunk.train.inputs[name] for chunk in self.chunks]) for name in self.all.inputs}

    @cached_property
    def target_moments(self) -> dict[str, Moments]:
        """Return the moments of each numeric target."""
        return {name: self._moments([chunk.train.targets[name] for chunk in self.chunks]) for name in self.numbers}

    @staticmethod
    def _moments(arrays: Sequence[AnyArray]) -> Moments:
        return reduce(Moments.merge, map(Moments.of, arrays))

    @property
    def test(self) -> int:
        """The number of test rows."""
        return len(self.test_samples)


def in_memory(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
    """Allocate in ordinary memory.

    Raises:
        InputError: there is not enough free memory.
    """
    check_memory(f"the rows of {name.upper()} take", prod(shape) * dtype.itemsize)
    return np.empty(shape, dtype)


def prepare(request: DataRequest, allocate: Allocate = in_memory, source: Source | None = None) -> Prepared:
    """Read and check the rows, partition them, and fit the normalizers.

    Args:
        source: the source of rows, if not the folders of the request.

    Raises:
        InputError: files, shapes, labels, values or sizes can't be used. Nothing was changed.
    """
    for output in request.outputs:
        check_target_normalizer(output.normalizer, Target(output.target))
    source = source or _files_of(request)
    row_shapes = {each.name: _model_row(request, each, source.inputs[each.name]) for each in request.inputs}
    for each in request.inputs[1:]:
        check_pairs(source, source.inputs[each.name])
    targets = {each.name: targets_of(source, each) for each in request.outputs}
    # A file may declare any number of rows, and rows are assigned before any is read.
    check_memory(f"to decide where each of {source.rows:,} rows goes takes", source.rows * PLAN_BYTES)
    by = next((each for each in targets.values() if each.classes is not None), None)
    plan = plan_rows(
        source.rows,
        request.shards,
        request.test_split,
        request.validation_split,
        request.seed,
        by.classes if by else None,
        given_test=source.test,
        samples=request.samples,
        words=by.words if by else None,
        partitioning=request.partitioning,
    )
    if request.partitioning.how != "parts":
        _check_batch(plan, request.batch_size)
    place, rows = _places(plan, source.rows)
    final = Samples(*_scattered(request, source, targets, row_shapes, place, rows, allocate), None)
    train, held = ([len(getattr(shard, name)) for shard in plan.shards] for name in ("train", "validation"))
    shards, test = cut(train, held, final)
    if source.weights is not None:
        final_w = np.ones(rows, np.float32)
        final_w[place[place >= 0]] = source.weights[place >= 0]
        shards = _weighed(train, held, shards, final_w, validation=source.weigh_validation)
    if source.shared_validation:
        weights = None if source.weights is None else final_w[test:]
        shards = tuple(
            replace(shard, validation=replace(final.take(slice(test, None)), weights=weights)) for shard in shards
        )
    data = Prepared(
        rows=rows,
        all=final,
        shards=shards,
        test_samples=final.take(slice(test, None)),
        normalizers=no_normalizers(request.inputs, request.outputs),
        notes=(
            *source.notes,
            *_notes(request, source, row_shapes, targets),
            *merged_notes([chunk for chunks in source.inputs.values() for chunk in chunks]),
        ),
        warnings=plan.warnings,
        train=sum(len(shard.train) for shard in shards),
        validation=0 if source.shared_validation else sum(len(shard.validation) for shard in shards),
        chunks=shards,
        numbers=tuple(each.name for each in request.outputs if Target(each.target) is Target.VALUES),
        labels={name: each.words for name, each in targets.items() if each.words is not None},
        shared_validation=source.shared_validation,
    )
    names = {each.name: each.normalizer for each in request.inputs}
    return _fitted(data, names, {each.name: each.normalizer for each in request.outputs})


def _scattered(
    request: DataRequest,
    source: Source,
    targets: Mapping[str, Targets],
    row_shapes: Mapping[str, tuple[int, ...]],
    place: NDArray[np.int64],
    rows: int,
    allocate: Allocate,
) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
    """Return all inputs and all targets, with each row in its place."""
    final_targets, final_inputs = {}, {}
    for file, (name, each) in zip(names_of_places("y", targets), targets.items(), strict=True):
        final_targets[name] = allocate(file, (rows, *each.row), each.dtype)
        _scatter(each.chunks, place, final_targets[name], each.check)
    for file, spec in zip(names_of_places("x", request.inputs), request.inputs, strict=True):
        chunks = source.inputs[spec.name]
        dtype = np.result_type(*(chunk.dtype for chunk in chunks))
        final_inputs[spec.name] = allocate(file, (rows, *row_shapes[spec.name]), dtype)
        ids = spec.ids if spec.normalizer == NO_NORMALIZER.name else None
        _scatter(chunks, place, final_inputs[spec.name], partial(_check_values, ids))
    return final_inputs, final_targets


def names_of_places(kind: str, arrays: Sized) -> list[str]:
    """Return names for allocated arrays: names of inputs are not valid file names."""
    return [kind] if len(arrays) == 1 else [f"{kind}-{number}" for number in range(1, len(arrays) + 1)]


def check_target_normalizer(normalizer: str, target: Target) -> None:
    """Check that only numeric targets are normalized.

    Raises:
        InputError: the targets are classes, or the input.
    """
    if normalizer != "none" and target is not Target.VALUES:
        raise lanfit_error("targets.not-numbers", targets="the input" if target is Target.INPUT else "classes")


def _files_of(request: DataRequest) -> Source:
    if request.x_dir is None:
        raise lanfit_error("rows.no-folder")
    if request.arrays is not None or len(request.inputs) + len(request.outputs) > 2:
        return npz_source(request.x_dir, request.y_dir, request.inputs, request.outputs, request.arrays)
    [output] = request.outputs
    if holds_images(request.x_dir):
        return images_source(request.x_dir, request.y_dir, Target(output.target), request.inputs[0].shape)
    signs = Signs.named(request.decimal, request.thousands)
    return files_source(request.x_dir, request.y_dir, Target(output.target), request.npz_key, signs)


def _model_row(request: DataRequest, spec: InputSpec, chunks: Sequence[Chunk]) -> tuple[int, ...]:
    """Return the shape of a row for the model; all chunks must agree."""
    row = common_row("X", [(chunk.name, chunk.shape[1:]) for chunk in chunks])
    wanted = spec.shape[1:]
    fitted = fit_row(row, wanted)
    if fitted is None:
        if (other_order := permuted(chunks[0].name, row, wanted, "x")) is not None:
            raise other_order
        raise lanfit_error("rows.other-input", file=chunks[0].name, shape=shown(row), wanted=shown(wanted))
    output = request.outputs[0]
    if Target(output.target) is Target.INPUT and fit_row(fitted, output.shape[1:]) is None:
        raise lanfit_error("rows.other-output", shape=shown(fitted), output=shown(output.shape[1:]))
    return fitted


def _check_batch(plan: Plan, batch_size: int) -> None:
    sizes = [len(shard.train) for shard in plan.shards]
    if batch_size > (least := min(sizes)):
        raise lanfit_error(
            "split.batch-of-shard", batch=batch_size, rows=least, shard=sizes.index(least) + 1, shards=len(sizes)
        )


def _places(plan: Plan, rows: int) -> tuple[NDArray[np.int64], int]:
    """Return the place of each row, -1 for unused ones, and the number of used rows."""
    train, validation = ([getattr(shard, name) for shard in plan.shards] for name in ("train", "validation"))
    order = np.concatenate([*train, *validation, plan.test])
    place = np.full(rows, -1, np.int64)
    place[order] = np.arange(len(order))
    if np.count_nonzero(place >= 0) != len(order):
        raise AssertionError(f"the plan deals one of {rows} rows twice")
    return place, len(order)


def _scatter(chunks: Sequence[Chunk], place: NDArray[np.int64], final: AnyArray, check: Check) -> None:
    """Read the files in parallel, block by block, and copy every row to its place."""

    def read(chunk: Chunk, row: int) -> None:
        first = row
        for block in chunk.blocks():
            check(chunk, block, row - first)
            to = place[row : row + len(block)]
            rows = block.reshape(-1, *final.shape[1:])
            if (to < 0).any():
                rows, to = rows[to >= 0], to[to >= 0]
            final[to] = rows
            row += len(block)

    starts = accumulate((len(chunk) for chunk in chunks), initial=0)
    in_order(lambda job: read(*job), list(zip(chunks, starts, strict=False)))


def _check_values(ids: int | None, chunk: Chunk, block: AnyArray, first_row: int) -> None:
    """Check that values are finite as float32, which every model takes, and that ids are in range.

    Integers that are equal in float32 are recorded.
    """
    for place, numbers in merged_numbers(block).items():
        chunk.merged.setdefault(place, numbers)
    if ids is not None and (outside := (block < 0) | (block >= ids)).any():
        value, row, column = _first_of(chunk, block, first_row, outside)
        raise lanfit_error(
            "rows.unknown-id", file=chunk.name, row=row, column=column, value=value, ids=ids, last=ids - 1
        )
    if block.dtype.kind != "f":
        return
    with np.errstate(over="ignore"):
        bad = ~np.isfinite(block.astype(np.float32, copy=False))
    if bad.any():
        value, row, column = _first_of(chunk, block, first_row, bad)
        raise lanfit_error("rows.not-finite", file=chunk.name, row=row, column=column, value=value)


def _first_of(chunk: Chunk, block: AnyArray, first_row: int, bad: NDArray[np.bool_]) -> tuple[object, int, str]:
    """Return the first bad value, its row from 1, and the name of its column."""
    index = np.unravel_index(int(bad.argmax()), bad.shape)
    column = f", {chunk.column(int(index[1]))}" if block.ndim == 2 else ""
    return block[index], first_row + int(index[0]) + 1, column


def no_normalizers(inputs: Sequence[InputSpec], outputs: Sequence[OutputSpec]) -> Normalizers:
    """Return normalizers that change nothing."""
    return Normalizers({each.name: NO_NORMALIZER for each in inputs}, {each.name: NO_NORMALIZER for each in outputs})


def _fitted(data: Prepared, inputs: Mapping[str, str], targets: Mapping[str, str]) -> Prepared:
    """Return the data with normalizers of these names; compute only the moments that they need."""
    none = NO_NORMALIZER.name
    used = {
        name: NO_NORMALIZER if kind == none else fit_normalizer(kind, data.moments[name])
        for name, kind in inputs.items()
    }
    of_targets = {
        name: NO_NORMALIZER
        if kind == none or name not in data.numbers
        else fit_normalizer(kind, data.target_moments[name])
        for name, kind in targets.items()
    }
    normalizers = Normalizers(used, of_targets)
    shards = tuple(replace(shard, normalizers=normalizers) for shard in data.shards)
    return replace(data, normalizers=normalizers, shards=shards)


def take_parts(data: Prepared, taken: Sequence[PartRange], batch_size: int) -> Prepared:
    """Make a shard of each range of parts, as views, even if ranges overlap; fit the normalizers on the used parts.

    Args:
        data: rows that were partitioned into parts.

    Raises:
        InputError: a range has fewer training rows than a batch.
    """
    train = list(accumulate((len(part.train) for part in data.shards), initial=0))
    validation = list(accumulate((len(part.validation) for part in data.shards), initial=train[-1]))
    shards = []
    for parts in taken:
        t, v = (slice(places[parts.first - 1], places[parts.last]) for places in (train, validation))
        if batch_size > (rows := t.stop - t.start):
            raise lanfit_error(
                "parts.smaller-than-batch", batch=batch_size, rows=rows, parts=parts.description, most=max(1, rows)
            )
        shard = Shard(data.all.take(t), data.all.take(v), origin=parts.description)
        shards.append(_like_its_parts(data, shard, data.shards[parts.first - 1 : parts.last]))
    used = sorted({index for parts in taken for index in parts.indices})
    counts = [sum(len(getattr(data.shards[index], kind)) for index in used) for kind in ("train", "validation")]
    of_inputs, of_targets = (
        {name: each.name for name, each in normalizers.items()}
        for normalizers in (data.normalizers.inputs, data.normalizers.targets)
    )
    data = replace(
        data,
        rows=counts[0] + (0 if data.shared_validation else counts[1]) + data.test,
        shards=tuple(shards),
        train=counts[0],
        validation=0 if data.shared_validation else counts[1],
        chunks=tuple(data.shards[index] for index in used),
    )
    return _fitted(data, of_inputs, of_targets)


def _like_its_parts(data: Prepared, shard: Shard, parts: Sequence[Shard]) -> Shard:
    """Return the shard with the row weights of its parts, and with the test rows if they serve for validation."""

    def joined(kind: str) -> AnyArray | None:
        weights = [getattr(part, kind).weights for part in parts]
        return None if weights[0] is None else np.concatenate(weights)

    train = replace(shard.train, weights=joined("train"))
    if data.shared_validation:
        validation = replace(data.test_samples, weights=parts[0].validation.weights)
    else:
        validation = replace(shard.validation, weights=joined("validation"))
    return replace(shard, train=train, validation=validation)


def cut(train: Sequence[int], validation: Sequence[int], rows: Samples) -> tuple[tuple[Shard, ...], int]:
    """Return the shards as views, and where the test rows begin.

    Args:
        train: the number of training rows of each shard, in order; likewise `validation`, which follow them.
    """
    slices = list(zip(*_slices(train, validation), strict=True))
    shards = tuple(
        Shard(rows.take(t), rows.take(v), origin=f"shard {number} of {len(slices)}")
        for number, (t, v) in enumerate(slices, 1)
    )
    return shards, slices[-1][1].stop


def _slices(train: Sequence[int], validation: Sequence[int]) -> tuple[list[slice], list[slice]]:
    """Return the slices of the training rows and of the validation rows of each shard."""
    first = list(accumulate(train, initial=0))
    behind = list(accumulate(validation, initial=first[-1]))
    return [slice(*ends) for ends in pairwise(first)], [slice(*ends) for ends in pairwise(behind)]


def _weighed(
    train: Sequence[int],
    held: Sequence[int],
    shards: tuple[Shard, ...],
    weights: AnyArray,
    *,
    validation: bool,
) -> tuple[Shard, ...]:
    """Return the shards with row weights; for validation rows only if these are weighted."""
    return tuple(
        replace(
            shard,
            train=replace(shard.train, weights=weights[t]),
            validation=replace(shard.validation, weights=weights[v] if validation else None),
        )
        for shard, t, v in zip(shards, *_slices(train, held), strict=True)
    )


def _notes(
    request: DataRequest,
    source: Source,
    row_shapes: Mapping[str, tuple[int, ...]],
    targets: Mapping[str, Targets],
) -> tuple[str, ...]:
    notes, several = [], len(request.inputs) + len(request.outputs) > 2
    for spec in request.inputs:
        row, row_shape, of = source.inputs[spec.name][0].shape[1:], row_shapes[spec.name], ""
        if several:
            of = f" {spec.name}"
        if row != row_shape:
            values = pluralize(row[0], "value") if len(row) == 1 else f"{shown(row)} values"
            notes.append(f"rows of {values} are read as {shown(row_shape)}, the model's input{of}")
    if several and any(spec.normalizer != NO_NORMALIZER.name for spec in request.inputs):
        ids = [spec.name for spec in request.inputs if spec.ids is not None and spec.normalizer == NO_NORMALIZER.name]
        notes += [f"{name} contains ids for an Embedding layer: it is not normalized" for name in ids]
    for output in request.outputs:
        if Target(output.target) is Target.ONE_HOT and len(targets[output.name].row) + 1 < len(output.shape):
            outputs = pluralize(output.shape[-1] or 0, "output")
            of = f" of {output.name}" if several else ""
            notes.append(f"integer labels are one-hot encoded into the model's {outputs}{of}")
    by = [name for name, each in targets.items() if each.classes is not None]
    if len(targets) > 1 and by:
        notes.append(f"classes keep their proportions by the labels of {by[0]}")
    return tuple(notes)
