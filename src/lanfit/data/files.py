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
from lanfit.data.file_type import wrong_ending
from lanfit.data.frames import open_frame, read_frame_labels
from lanfit.data.in_hand import reading
from lanfit.data.npz import open_npz, read_npz_labels
from lanfit.data.pieces import Piece
from lanfit.data.tables import FOUND_OUT, Signs
from lanfit.data.text_labels import Labels
from lanfit.data.xlsx import open_xlsx, read_xlsx_labels
from lanfit.mistakes import mistake
from lanfit.text import pluralize

#: How the names of text files end, also in front of a packing.
TEXT = (".csv", ".tsv", ".txt")
SHEETS = (".xlsx", ".xlsm")
ARRAYS = (".npz", ".npy")
FRAMES = (".parquet", ".feather")
_PACKED = tuple(f"{text}{packing}" for text in TEXT for packing in PACKINGS)
ENDINGS = (*ARRAYS, *SHEETS, *TEXT, *_PACKED, *FRAMES)
_ALL = f"{', '.join((*ARRAYS, '.xlsx', *TEXT))}, packed text (.csv{', .csv'.join(PACKINGS)}), {' and '.join(FRAMES)}"
#: What people and their systems leave in a folder beside the data; hidden files are skipped as well.
_SKIPPED = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})
_SKIPPED_ENDINGS = (".tmp", ".part", ".crdownload", "~")
_READ_BY_PEOPLE = re.compile(r"(?:readme|licen[cs]e)(?:\.(?:md|txt|rst))?", re.IGNORECASE)
#: What Excel and LibreOffice leave beside a sheet that is open.
_OPEN = {"~$": "Excel", ".~lock.": "LibreOffice"}
#: What to do with files of kinds that are known, and not read.
_WAYS = {
    ".xls": "It is a sheet of Excel's old format: open it and save it as .xlsx or as CSV UTF-8.",
    ".xlsb": "Open it in Excel and save it as .xlsx.",
    ".ods": "Open it in LibreOffice and save it as .xlsx.",
    ".numbers": "Export it from Numbers as .xlsx or csv.",
    ".pkl": 'Pickles can run code, so they are never loaded: save `frame.to_csv("x.csv", index=False)` instead.',
    ".pickle": 'Pickles can run code, so they are never loaded: save `frame.to_csv("x.csv", index=False)` instead.',
    ".json": 'In Python: `pandas.read_json("x.json").to_csv("x.csv", index=False)`.',
    ".jsonl": 'In Python: `pandas.read_json("x.jsonl", lines=True).to_csv("x.csv", index=False)`.',
    ".mat": 'In Python: `numpy.savez("x.npz", scipy.io.loadmat("x.mat")["x"])`.',
    ".h5": "A model belongs into model/; save data as npz.",
    ".keras": "A model belongs into model/.",
    ".zip": "Unpack it; a packed csv file is called .csv.zip.",
    ".gz": "Unpack it; a packed csv file is called .csv.gz.",
    ".png": "A folder of images becomes data with `lanfit prepare FOLDER`.",
    ".jpg": "A folder of images becomes data with `lanfit prepare FOLDER`.",
    ".jpeg": "A folder of images becomes data with `lanfit prepare FOLDER`.",
}


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
    """Find out what a file of numbers holds; tables are read as float32, arrays in their own dtype.

    Args:
        npz_key: which array of an npz file is read; needed if there are several.
        signs: how the numbers of text files are written, where somebody said so.
        numbering: what a first line 0, 1, … of a table is: "names" or "row"; empty: it is found out.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    with reading(path):
        kind = kind_of(path)
        if kind in ARRAYS:
            return open_npz(path, npz_key)
        if kind in FRAMES:
            return open_frame(path)
        return open_xlsx(path, numbering) if kind in SHEETS else open_csv(path, signs, numbering)


def read_labels(path: Path, npz_key: str | None = None, signs: Signs = FOUND_OUT, numbering: str = "") -> Labels:
    """Read a whole file as labels, exactly: integers stay integers, words are coded.

    Raises:
        InputError: as `open_file`, or the labels are not all words or all numbers.
    """
    with reading(path):
        kind = kind_of(path)
        if kind in ARRAYS:
            return read_npz_labels(path, npz_key)
        if kind in FRAMES:
            return read_frame_labels(path)
        return read_xlsx_labels(path, numbering) if kind in SHEETS else read_csv_labels(path, signs, numbering)


def kind_of(path: Path) -> str:
    """The ending that says how a file is read.

    Raises:
        InputError: there is no such kind.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # to open a pipe waits for who writes into it
        raise mistake("file.no-file", file=path)
    name = path.name.lower()
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        if path.suffix.lower() == ".xls" and (other := wrong_ending(path)) is not None:
            raise other
        raise mistake("file.unknown-kind", file=path, kinds=_ALL, way=_WAYS.get(path.suffix.lower(), ""))
    return ending


def is_data(path: Path) -> bool:
    """Whether a file or folder counts as data: it is neither hidden nor what people and systems leave beside it."""
    name = path.name.lower()
    if name.startswith((".", "~$")) or name in _SKIPPED or name.endswith(_SKIPPED_ENDINGS):
        return False
    return not _READ_BY_PEOPLE.fullmatch(name)


def open_elsewhere(*folders: Path | None) -> tuple[str, ...]:
    """Notes on sheets that are open in another program, which leaves a file beside them."""
    notes = []
    for path in sorted(path for folder in folders if folder is not None for path in folder.iterdir()):
        for mark, program in _OPEN.items():
            if path.name.startswith(mark):
                sheet = path.name.removeprefix(mark).removesuffix("#")
                notes.append(f"{sheet} is open in {program}: close it there first, unsaved changes are not in the file")
    return tuple(notes)


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
    return f"{pluralize(len(paths), 'file')} ({shown})"
