"""Where rows come from: folders of files, or arrays in memory. All that is different between them ends here.

A source knows its rows before they are read; the sets of Keras are made into one in `keras_sets`.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from lanfit.data.bundles import Bundle, find_bundle
from lanfit.data.compressed import PACKINGS
from lanfit.data.files import SHEETS, TEXT, find_pairs, is_data, open_elsewhere, open_file, read_labels
from lanfit.data.images import find_images, holds_images, labels_of, piece_of, size_of
from lanfit.data.labels import Target
from lanfit.data.npz import open_npz, read_npz_labels
from lanfit.data.pieces import AnyArray, Piece
from lanfit.data.tables import FOUND_OUT, Signs, said_of_numbering
from lanfit.data.text_labels import Labels, labels_of_array
from lanfit.data.threads import in_order
from lanfit.mistakes import mistake

Part = TypeVar("Part", bound=Piece | Labels)
OTHER = {"names": "row", "row": "names"}

#: How the tables that `lanfit prepare` takes end.
RAW = (*SHEETS, *TEXT, *(f"{text}{packing}" for text in TEXT for packing in PACKINGS))


@dataclass(frozen=True)
class Source:
    """The rows of a job in order: pieces of inputs, and for each the same rows' targets, which are of one kind."""

    x: tuple[Piece, ...]
    y: tuple[Piece, ...] = ()
    """Numbers, if they are what is predicted."""
    labels: tuple[Labels, ...] = ()
    """Labels, if classes are."""
    test: int = 0
    """So many of the last rows are the source's own test rows; 0: they are drawn."""
    notes: tuple[str, ...] = ()
    weights: AnyArray | None = None
    """What each row weighs in the loss: float32, (rows,); None: all the same."""
    weigh_validation: bool = True
    """Whether weights count for validation rows, too."""
    shared_validation: bool = False
    """Whether the source's own test rows are also every client's validation rows."""

    @property
    def rows(self) -> int:
        return sum(map(len, self.x))


def files_source(
    x_dir: Path, y_dir: Path | None, target: Target, npz_key: str | None = None, signs: Signs = FOUND_OUT
) -> Source:
    """The files of two folders.

    Args:
        y_dir: not looked at with `Target.INPUT`.
        npz_key: which array of npz files is read: one name, or "x_name,y_name".
        signs: how the numbers of text files are written, where somebody said so.

    Raises:
        InputError: anything about the files that does not fit.
    """
    y_dir = None if target is Target.INPUT else y_dir
    if (bundle := _bundle(x_dir, y_dir, npz_key)) is not None:
        return _bundle_source(bundle, target)
    pairs = find_pairs(x_dir, y_dir)
    x_key, y_key = _keys(npz_key)
    read = partial(read_labels if target.is_classification else open_file, npz_key=y_key, signs=signs)
    x = in_order(lambda pair: open_file(pair.x, x_key, signs), pairs)
    if target is Target.INPUT:
        return Source(tuple(x), notes=(*gathered([_undecided(piece) for piece in x]), *open_elsewhere(x_dir)))
    files = [pair.y for pair in pairs if pair.y is not None]
    if not files:
        raise mistake("targets.no-files")
    given: list[Piece | Labels] = in_order(read, files)
    for number, (pair, file) in enumerate(zip(pairs, files, strict=True)):
        x_again, y_again = partial(open_file, pair.x, x_key, signs), partial(read, file)
        x[number], given[number] = _settled(x[number], given[number], x_again, y_again)
    notes = (*gathered((*x, *given)), *open_elsewhere(x_dir, y_dir), *_not_read(x_dir))
    if target.is_classification:
        return Source(tuple(x), labels=tuple(part for part in given if isinstance(part, Labels)), notes=notes)
    return Source(tuple(x), tuple(part for part in given if isinstance(part, Piece)), notes=notes)


def check_folders(x_dir: Path, y_dir: Path | None) -> None:
    """Whether there is something to read, before anything is read.

    Raises:
        InputError: a folder is missing or empty, holds something that is not read, or the counts differ; or there is
            only a table that is to be prepared.
    """
    if holds_images(x_dir):
        return
    if _bundle(x_dir, y_dir, None) is None:
        if not (x_dir.is_dir() and any(map(is_data, x_dir.iterdir()))) and (raw := _raw_tables(x_dir)):
            line = f"lanfit prepare {' '.join(shlex.quote(str(path)) for path in raw)}"
            raise mistake("folder.raw-table", file=raw[0], folder=x_dir, line=line)
        find_pairs(x_dir, y_dir)


def _raw_tables(x_dir: Path) -> list[Path]:
    """Tables beside X and Y, where somebody put them as they are."""
    folder = x_dir.parent
    found = [path for path in folder.iterdir() if path.is_file() and is_data(path)] if folder.is_dir() else []
    return sorted(path for path in found if path.name.lower().endswith(RAW) and not path.name.startswith("~"))


def _bundle(x_dir: Path, y_dir: Path | None, npz_key: str | None) -> Bundle | None:
    """One npz file beside X and Y with inputs and targets, where these hold no data."""
    if any(folder.is_dir() and any(map(is_data, folder.iterdir())) for folder in (x_dir, y_dir) if folder is not None):
        return None
    found = find_bundle(x_dir.parent)
    if found is None or npz_key is None:
        return found
    x, y = _keys(npz_key)
    return replace(found, x=x or found.x, y=y or found.y, x_test="", y_test="", unused=())


def _bundle_source(bundle: Bundle, target: Target) -> Source:
    """The rows of one npz file, its own test rows last."""
    pairs = [(bundle.x, bundle.y), *([(bundle.x_test, bundle.y_test)] if bundle.x_test else [])]

    def numbers(key: str) -> Piece:
        return replace(open_npz(bundle.path, key), name=f"{bundle.path} ({key})")

    def classes(key: str) -> Labels:
        return replace(read_npz_labels(bundle.path, key), name=f"{bundle.path} ({key})")

    x = tuple(numbers(key) for key, _ in pairs)
    test = len(x[1]) if len(x) > 1 else 0
    if target is Target.INPUT:
        return Source(x, test=test, notes=(bundle.note,))
    if target.is_classification:
        labels = tuple(classes(key) for _, key in pairs)
        return Source(x, labels=labels, test=test, notes=(bundle.note, *gathered(labels)))
    return Source(x, tuple(numbers(key) for _, key in pairs), test=test, notes=(bundle.note,))


def _not_read(x_dir: Path) -> tuple[str, ...]:
    """A note on data that stands beside X and Y, where nobody looks."""
    found = sorted(path.name for path in x_dir.parent.iterdir() if path.suffix.lower() == ".npz" and path.is_file())
    named = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
    notes = [f"{named} beside X and Y: not read, as X and Y hold data"] if found else []
    raw = [] if (x_dir.parent / "recipe.json").exists() else _raw_tables(x_dir)
    if raw:
        line = f"lanfit prepare {shlex.quote(str(raw[0]))}"
        notes.append(f"{raw[0].name} beside X and Y: not read; `{line}` makes X and Y of it")
    return tuple(notes)


def _settled(x: Piece, y: Piece | Labels, x_again: Any, y_again: Any) -> tuple[Piece, Any]:
    """Both files with as many rows, if the first line of one, 0, 1, …, is read in the other way; else as they are.

    A label 0 on top may be the name that pandas gives a single column: the rows of X tell.
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


def _other_rows(part: Piece | Labels) -> int:
    """How many rows there are if a first line 0, 1, … is read in the other way; 0 if there is no such line."""
    return {"": 0, "names": len(part) + 1, "row": len(part) - 1}[part.numbering]


def _undecided(part: Part) -> Part:
    """With a note where a first line 0, 1, … was read as a row, and no other file says that this is right."""
    if part.numbering != "row":
        return part
    width = part.shape[1] if isinstance(part, Piece) else part.values.shape[1]
    return replace(part, notes=(*part.notes, said_of_numbering(width, names=False)))


def images_source(x_dir: Path, y_dir: Path | None, target: Target, input_shape: Sequence[int | None]) -> Source:
    """The images of a folder, in the size of the model's input; the names of their folders are the labels.

    Args:
        y_dir: not read; that is said if something is in it.

    Raises:
        InputError: anything about the images that does not fit, or the targets are no classes.
    """
    name = str(x_dir)
    images = find_images(x_dir)
    x = piece_of(name, images, size_of(name, input_shape[1:]))
    if target is Target.INPUT:
        return Source((x,), notes=gathered((x,)))
    if not target.is_classification:
        raise mistake("images.no-numbers", folder=x_dir)
    labels = labels_of(name, images)
    notes = gathered((x, labels))
    if y_dir is not None and y_dir.is_dir() and any(map(is_data, y_dir.iterdir())):
        notes = (*notes, f"{y_dir.name} is not read: the labels are the names of the folders of images")
    return Source((x,), labels=(labels,), notes=notes)


def arrays_source(
    parts: Sequence[tuple[str, AnyArray, AnyArray | None]], target: Target, test: int = 0, notes: tuple[str, ...] = ()
) -> Source:
    """Arrays in memory, which are not copied.

    Args:
        parts: what messages call it, inputs, and targets (not looked at with `Target.INPUT`); rows first.
        test: so many of the last rows of all parts are the test rows; 0: they are drawn.

    Raises:
        InputError: no rows, other values than numbers (or, as labels, text), or targets are missing.
    """
    x = tuple(Piece.of(name, inputs) for name, inputs, _ in parts)
    if target is Target.INPUT:
        return Source(x, test=test, notes=notes)
    targets = [(f"y of {name}", y) for name, _, y in parts if y is not None]
    if len(targets) < len(parts):
        raise mistake("targets.none", name=parts[0][0])
    if target.is_classification:
        labels = tuple(labels_of_array(name, y) for name, y in targets)
        return Source(x, labels=labels, test=test, notes=(*notes, *gathered(labels)))
    return Source(x, tuple(Piece.of(name, y) for name, y in targets), test=test, notes=notes)


def gathered(pieces: Iterable[Piece | Labels]) -> tuple[str, ...]:
    """What is unusual about files, one sentence for all files of which the same is to be said."""
    found: dict[str, list[str]] = {}
    for piece in pieces:
        for note in piece.notes:
            found.setdefault(note, []).append(Path(piece.name).name)
    return tuple(
        f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}: {note}"
        for note, names in found.items()
    )


def merged_notes(pieces: Iterable[Piece]) -> tuple[str, ...]:
    """Notes on whole numbers that float32 can't tell apart; known once the rows have been read."""
    return gathered(replace(piece, notes=piece.said_of_merged) for piece in pieces if piece.merged)


def _keys(npz_key: str | None) -> tuple[str | None, str | None]:
    if npz_key is None:
        return None, None
    keys = [key.strip() for key in npz_key.split(",")]
    if len(keys) > 2 or not all(keys):
        raise mistake("npz.wrong-key", key=npz_key)
    return keys[0], keys[-1]
