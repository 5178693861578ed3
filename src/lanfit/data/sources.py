"""Sources of rows: folders of files, or arrays in memory, behind one interface.

A source knows the number of its rows before they are read. Keras datasets become sources in lanfit_server.models.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lanfit.data.bundles import Bundle, find_bundle
from lanfit.data.chunks import AnyArray, Chunk
from lanfit.data.compressed import PACKINGS
from lanfit.data.files import SHEETS, TEXT, find_pairs, is_data, open_elsewhere, open_file, read_labels
from lanfit.data.images import chunk_of, find_images, holds_images, labels_of, size_of
from lanfit.data.labels import Target
from lanfit.data.npz import open_npz, read_npz_labels
from lanfit.data.shard import Samples
from lanfit.data.tables import FOUND_OUT, Signs, note_on_numbering
from lanfit.data.text_labels import Labels, labels_of_array
from lanfit.data.threads import in_order
from lanfit.errors import lanfit_error
from lanfit.wire.tasks import OutputSpec, X, Y

ChunkOrLabels = TypeVar("ChunkOrLabels", bound=Chunk | Labels)
OTHER = {"names": "row", "row": "names"}

#: The endings of tables that `lanfit prepare` takes.
RAW = (*SHEETS, *TEXT, *(f"{text}{packing}" for text in TEXT for packing in PACKINGS))


@dataclass(frozen=True)
class Source:
    """The rows of a job in order: chunks of each input, and for each chunk the targets of the same rows."""

    inputs: Mapping[str, tuple[Chunk, ...]]
    """By the model's names of its inputs; `X` for a model with one input and one output."""
    targets: Mapping[str, tuple[Chunk, ...] | tuple[Labels, ...]] = field(default_factory=dict)
    """Labels for classification, else numbers; none with `Target.INPUT`."""
    test: int = 0
    """The number of the source's own test rows, which are the last ones; 0: they are drawn."""
    notes: tuple[str, ...] = ()
    weights: AnyArray | None = None
    """The weight of each row in the loss: float32, (rows,); None: all equal."""
    weigh_validation: bool = True
    """Whether weights also apply to validation rows."""
    shared_validation: bool = False
    """Whether the source's own test rows are also every client's validation rows."""

    @property
    def rows(self) -> int:
        return sum(map(len, next(iter(self.inputs.values()))))

    @property
    def x(self) -> tuple[Chunk, ...]:
        """The chunks of the input, for a model with one input."""
        [chunks] = self.inputs.values()
        return chunks


def files_source(
    x_dir: Path, y_dir: Path | None, target: Target, npz_key: str | None = None, signs: Signs = FOUND_OUT
) -> Source:
    """Return the files of two folders.

    Args:
        y_dir: not used with `Target.INPUT`.
        npz_key: the array of npz files to read: one name, or "x_name,y_name".
        signs: how numbers in text files are written, if the user specified it.

    Raises:
        InputError: the files can't be used.
    """
    y_dir = None if target is Target.INPUT else y_dir
    if (bundle := _bundle(x_dir, y_dir, npz_key)) is not None:
        return _bundle_source(bundle, target)
    pairs = find_pairs(x_dir, y_dir)
    x_key, y_key = _keys(npz_key)
    read = partial(read_labels if target.is_classification else open_file, npz_key=y_key, signs=signs)
    x = in_order(lambda pair: open_file(pair.x, x_key, signs), pairs)
    if target is Target.INPUT:
        notes = (*gathered([_undecided(chunk) for chunk in x]), *open_elsewhere(x_dir))
        return Source({X: tuple(x)}, notes=notes)
    files = [pair.y for pair in pairs if pair.y is not None]
    if not files:
        raise lanfit_error("targets.no-files")
    given: list[Chunk | Labels] = in_order(read, files)
    for number, (pair, file) in enumerate(zip(pairs, files, strict=True)):
        x_again, y_again = partial(open_file, pair.x, x_key, signs), partial(read, file)
        x[number], given[number] = _settled(x[number], given[number], x_again, y_again)
    notes = (*gathered((*x, *given)), *open_elsewhere(x_dir, y_dir), *_not_read(x_dir))
    if target.is_classification:
        return Source({X: tuple(x)}, {Y: tuple(chunk for chunk in given if isinstance(chunk, Labels))}, notes=notes)
    return Source({X: tuple(x)}, {Y: tuple(chunk for chunk in given if isinstance(chunk, Chunk))}, notes=notes)


def check_folders(x_dir: Path, y_dir: Path | None) -> None:
    """Check that there are files to read, without reading them.

    Raises:
        InputError: a folder is missing or empty, contains a file of another type, or the counts differ; or there is
            only a table that has to be prepared.
    """
    if holds_images(x_dir):
        return
    if _bundle(x_dir, y_dir, None) is None:
        if not (x_dir.is_dir() and any(map(is_data, x_dir.iterdir()))) and (raw := _raw_tables(x_dir)):
            line = f"lanfit prepare {' '.join(shlex.quote(str(path)) for path in raw)}"
            raise lanfit_error("folder.raw-table", file=raw[0], folder=x_dir, line=line)
        find_pairs(x_dir, y_dir)


def _raw_tables(x_dir: Path) -> list[Path]:
    """Return tables next to X and Y, which were not prepared."""
    folder = x_dir.parent
    found = [path for path in folder.iterdir() if path.is_file() and is_data(path)] if folder.is_dir() else []
    return sorted(path for path in found if path.name.lower().endswith(RAW) and not path.name.startswith("~"))


def _bundle(x_dir: Path, y_dir: Path | None, npz_key: str | None) -> Bundle | None:
    """Return the npz file with inputs and targets next to X and Y, if these contain no data."""
    if any(folder.is_dir() and any(map(is_data, folder.iterdir())) for folder in (x_dir, y_dir) if folder is not None):
        return None
    found = find_bundle(x_dir.parent)
    if found is None or npz_key is None:
        return found
    x, y = _keys(npz_key)
    return replace(found, x=x or found.x, y=y or found.y, x_test="", y_test="", unused=())


def _bundle_source(bundle: Bundle, target: Target) -> Source:
    """Return the rows of one npz file, its own test rows last."""
    pairs = [(bundle.x, bundle.y), *([(bundle.x_test, bundle.y_test)] if bundle.x_test else [])]

    def numbers(key: str) -> Chunk:
        return replace(open_npz(bundle.path, key), name=f"{bundle.path} ({key})")

    def classes(key: str) -> Labels:
        return replace(read_npz_labels(bundle.path, key), name=f"{bundle.path} ({key})")

    x = tuple(numbers(key) for key, _ in pairs)
    test = len(x[1]) if len(x) > 1 else 0
    if target is Target.INPUT:
        return Source({X: x}, test=test, notes=(bundle.note,))
    if target.is_classification:
        labels = tuple(classes(key) for _, key in pairs)
        return Source({X: x}, {Y: labels}, test=test, notes=(bundle.note, *gathered(labels)))
    return Source({X: x}, {Y: tuple(numbers(key) for _, key in pairs)}, test=test, notes=(bundle.note,))


def _not_read(x_dir: Path) -> tuple[str, ...]:
    """Return a note on data next to X and Y, which is not read."""
    found = sorted(path.name for path in x_dir.parent.iterdir() if path.suffix.lower() == ".npz" and path.is_file())
    named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
    notes = [f"{named} next to X and Y is not read, because X and Y contain data"] if found else []
    raw = [] if (x_dir.parent / "recipe.json").exists() else _raw_tables(x_dir)
    if raw:
        line = f"lanfit prepare {shlex.quote(str(raw[0]))}"
        notes.append(f"{raw[0].name} next to X and Y is not read; `{line}` creates X and Y from it")
    return tuple(notes)


def _settled(x: Chunk, y: Chunk | Labels, x_again: Any, y_again: Any) -> tuple[Chunk, Any]:
    """Return both files, with a first line 0, 1, … read in the other way if their numbers of rows match only then.

    A label 0 in the first line may be the name that pandas gives a single column: the number of rows of X decides.
    """
    if len(x) == len(y):
        return (_undecided(x), _undecided(y)) if x.numbering and y.numbering else (x, y)
    if _other_rows(y) == len(x):
        return x, y_again(numbering=OTHER[y.numbering])
    if _other_rows(x) == len(y):
        return _undecided(x_again(numbering=OTHER[x.numbering])), y
    if _other_rows(x) and _other_rows(x) == _other_rows(y):
        return _undecided(x_again(numbering=OTHER[x.numbering])), y_again(numbering=OTHER[y.numbering])
    return x, y


def _other_rows(chunk: Chunk | Labels) -> int:
    """Return how many rows there are if a first line 0, 1, … is read in the other way; 0 if there is no such line."""
    return {"": 0, "names": len(chunk) + 1, "row": len(chunk) - 1}[chunk.numbering]


def _undecided(chunk: ChunkOrLabels) -> ChunkOrLabels:
    """Return the part with a note if a first line 0, 1, … was read as a row, and no other file confirms that."""
    if chunk.numbering != "row":
        return chunk
    width = chunk.shape[1] if isinstance(chunk, Chunk) else chunk.values.shape[1]
    return replace(chunk, notes=(*chunk.notes, note_on_numbering(width, names=False)))


def images_source(x_dir: Path, y_dir: Path | None, target: Target, input_shape: Sequence[int | None]) -> Source:
    """Return the images of a folder, in the size of the model's input; the names of their folders are the labels.

    Args:
        y_dir: not read; a note reports data in it.

    Raises:
        InputError: the images can't be used, or the targets are not classes.
    """
    name = str(x_dir)
    images = find_images(x_dir)
    x = chunk_of(name, images, size_of(name, input_shape[1:]))
    if target is Target.INPUT:
        return Source({X: (x,)}, notes=gathered((x,)))
    if not target.is_classification:
        raise lanfit_error("images.no-numbers", folder=x_dir)
    labels = labels_of(name, images)
    notes = gathered((x, labels))
    if y_dir is not None and y_dir.is_dir() and any(map(is_data, y_dir.iterdir())):
        notes = (*notes, f"{y_dir.name} is not read: the labels are the names of the image folders")
    return Source({X: (x,)}, {Y: (labels,)}, notes=notes)


def arrays_source(
    parts: Sequence[tuple[str, AnyArray, AnyArray | None]], target: Target, test: int = 0, notes: tuple[str, ...] = ()
) -> Source:
    """Return a source of arrays in memory, which are not copied, for a model with one input and one output.

    Args:
        parts: what messages call it, inputs, and targets (not looked at with `Target.INPUT`); rows first.
        test: so many of the last rows of all parts are the test rows; 0: they are drawn.

    Raises:
        InputError: no rows, other values than numbers (or, as labels, text), or targets are missing.
    """
    x = tuple(Chunk.of(name, inputs) for name, inputs, _ in parts)
    if target is Target.INPUT:
        return Source({X: x}, test=test, notes=notes)
    targets = [(f"y of {name}", y) for name, _, y in parts if y is not None]
    if len(targets) < len(parts):
        raise lanfit_error("targets.none", name=parts[0][0])
    found, more = _target_chunks(targets, target)
    return Source({X: x}, {Y: found}, test=test, notes=(*notes, *more))


def named_source(
    parts: Sequence[tuple[str, Samples]], outputs: Sequence[OutputSpec], test: int = 0, notes: tuple[str, ...] = ()
) -> Source:
    """Named arrays in memory, which are not copied, for a model of several inputs or outputs.

    Args:
        parts: what messages put behind the names of its arrays, and its rows.
        outputs: of the model; they determine which targets are labels.
        test: as for `arrays_source`.

    Raises:
        InputError: as `arrays_source`.
    """
    first = parts[0][1]
    inputs = {
        name: tuple(Chunk.of(f'x["{name}"]{behind}', samples.inputs[name]) for behind, samples in parts)
        for name in first.inputs
    }
    targets = {}
    for each in outputs:
        given = [(f'y["{each.name}"]{behind}', samples.targets[each.name]) for behind, samples in parts]
        targets[each.name], more = _target_chunks(given, Target(each.target))
        notes += more
    return Source(inputs, targets, test=test, notes=notes)


def _target_chunks(
    given: Sequence[tuple[str, AnyArray]], target: Target
) -> tuple[tuple[Chunk, ...] | tuple[Labels, ...], tuple[str, ...]]:
    """Convert arrays of targets to chunks or labels; also return notes."""
    if target.is_classification:
        labels = tuple(labels_of_array(name, y) for name, y in given)
        return labels, gathered(labels)
    return tuple(Chunk.of(name, y) for name, y in given), ()


def gathered(chunks: Iterable[Chunk | Labels]) -> tuple[str, ...]:
    """Return the peculiarities of files, one sentence for all files that share one."""
    found: dict[str, list[str]] = {}
    for chunk in chunks:
        for note in chunk.notes:
            found.setdefault(note, []).append(Path(chunk.name).name)
    return tuple(
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {note}"
        for note, names in found.items()
    )


def merged_notes(chunks: Iterable[Chunk]) -> tuple[str, ...]:
    """Return notes on whole numbers that float32 can't distinguish; known once the rows have been read."""
    return gathered(replace(chunk, notes=chunk.notes_on_merged) for chunk in chunks if chunk.merged)


def _keys(npz_key: str | None) -> tuple[str | None, str | None]:
    if npz_key is None:
        return None, None
    keys = [key.strip() for key in npz_key.split(",")]
    if len(keys) > 2 or not all(keys):
        raise lanfit_error("npz.wrong-key", key=npz_key)
    return keys[0], keys[-1]
