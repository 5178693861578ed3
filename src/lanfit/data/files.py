"""Finds the files of X and Y, pairs them in natural order, and picks the reader by the ending of a name.

One module a format (`npz`, `csvs`, `xlsx`); what is done with the rows is decided in `prepare`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.data.compressed import PACKINGS
from lanfit.data.csvs import open_csv, read_csv_labels
from lanfit.data.npz import open_npz, read_npz_labels
from lanfit.data.pieces import Piece
from lanfit.data.tables import FOUND_OUT, Signs
from lanfit.data.text_labels import Labels
from lanfit.data.xlsx import open_xlsx, read_xlsx_labels
from lanfit.mistakes import counted, mistake

ENDINGS = (".npz", ".xlsx", ".csv", *(f".csv{packing}" for packing in PACKINGS))
_ALL = f"{', '.join(ENDINGS[:-1])} and {ENDINGS[-1]}"
#: What people and their systems leave in a folder beside the data; hidden files are skipped as well.
_SKIPPED = frozenset({"readme.md", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Pair:
    """A file of inputs and the file with the same rows' outputs; `y` is None when the input is its own target."""

    x: Path
    y: Path | None


def natural_key(name: str) -> tuple[list[str | int], str]:
    """A sort key that reads numbers as numbers: "part-2" comes before "part-10"."""
    pieces = re.split(r"(\d+)", name.casefold())
    return [int(piece) if i % 2 else piece for i, piece in enumerate(pieces)], name


def find_pairs(x_dir: Path, y_dir: Path | None) -> list[Pair]:
    """Pair the data files of two folders in natural order; without `y_dir` the pairs have no `y`.

    Raises:
        InputError: a folder is missing or empty, holds something that is not read, or the counts differ.
    """
    xs = _data_files(x_dir)
    if y_dir is None:
        return [Pair(x, None) for x in xs]
    ys = _data_files(y_dir)
    if len(xs) != len(ys):
        raise mistake("folder.counts-differ", x_folder=x_dir, x_files=_listed(xs), y_folder=y_dir, y_files=_listed(ys))
    return [Pair(x, y) for x, y in zip(xs, ys, strict=True)]


def open_file(path: Path, npz_key: str | None = None, signs: Signs = FOUND_OUT, numbering: str = "") -> Piece:
    """Find out what a file of numbers holds; csv and xlsx are read as float32, npz in its own dtype.

    Args:
        npz_key: which array of an npz file is read; needed if there are several.
        signs: how the numbers of text files are written, where somebody said so.
        numbering: what a first line 0, 1, … of a table is: "names" or "row"; empty: it is found out.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    kind = kind_of(path)
    if kind == ".npz":
        return open_npz(path, npz_key)
    return open_xlsx(path, numbering) if kind == ".xlsx" else open_csv(path, signs, numbering)


def read_labels(path: Path, npz_key: str | None = None, signs: Signs = FOUND_OUT, numbering: str = "") -> Labels:
    """Read a whole file as labels, exactly: integers stay integers, words are coded.

    Raises:
        InputError: as `open_file`, or the labels are not all words or all numbers.
    """
    kind = kind_of(path)
    if kind == ".npz":
        return read_npz_labels(path, npz_key)
    return read_xlsx_labels(path, numbering) if kind == ".xlsx" else read_csv_labels(path, signs, numbering)


def kind_of(path: Path) -> str:
    """The ending that says how a file is read.

    Raises:
        InputError: there is no such kind.
    """
    name = path.name.lower()
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        raise mistake("file.unknown-kind", file=path, kinds=_ALL)
    return ending


def is_data(path: Path) -> bool:
    """Whether a file or folder counts as data: it is neither hidden nor what people and systems leave beside it."""
    return not path.name.startswith(".") and path.name.lower() not in _SKIPPED


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise mistake("folder.missing", folder=folder, kinds=_ALL)
    found = [path for path in folder.iterdir() if is_data(path)]
    for path in found:
        if path.is_dir():
            raise mistake("folder.in-folder", path=path, folder=folder)
        kind_of(path)
    if not found:
        raise mistake("folder.empty", folder=folder, kinds=_ALL)
    return sorted(found, key=lambda path: natural_key(path.name))


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:10]) + (", …" if len(paths) > 10 else "")
    return f"{counted(len(paths), 'file')} ({shown})"
