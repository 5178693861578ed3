"""Finds the files of X and Y, pairs them in natural order, and picks the reader by the ending of a name.

There is one module per format (`npz`, `csvs`, `xlsx`); `prepare` decides how the rows are used.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.text import pluralize
from lanfit.data.chunks import Chunk
from lanfit.data.compressed import PACKINGS
from lanfit.data.csvs import open_csv, read_csv_labels
from lanfit.data.current_file import reading
from lanfit.data.file_type import wrong_ending
from lanfit.data.frames import open_frame, read_frame_labels
from lanfit.data.npz import open_npz, read_npz_labels
from lanfit.data.tables import FOUND_OUT, Signs
from lanfit.data.text_labels import Labels
from lanfit.data.xlsx import open_xlsx, read_xlsx_labels
from lanfit.errors import lanfit_error

#: How the names of text files end, also in front of a packing.
TEXT = (".csv", ".tsv", ".txt")
SHEETS = (".xlsx", ".xlsm")
ARRAYS = (".npz", ".npy")
FRAMES = (".parquet", ".feather")
_PACKED = tuple(f"{text}{packing}" for text in TEXT for packing in PACKINGS)
ENDINGS = (*ARRAYS, *SHEETS, *TEXT, *_PACKED, *FRAMES)
_ALL = f"{', '.join((*ARRAYS, '.xlsx', *TEXT))}, packed text (.csv{', .csv'.join(PACKINGS)}), {' and '.join(FRAMES)}"
#: Files that operating systems add to folders; hidden files are skipped as well.
_SKIPPED = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx"})
_SKIPPED_ENDINGS = (".tmp", ".part", ".crdownload", "~")
_READ_BY_PEOPLE = re.compile(r"(?:readme|licen[cs]e)(?:\.(?:md|txt|rst))?", re.IGNORECASE)
#: Lock files of Excel and LibreOffice next to an open sheet.
_OPEN = {"~$": "Excel", ".~lock.": "LibreOffice"}
#: Advice for files of known types that are not read.
_WAYS = {
    ".xls": "It is a spreadsheet in the old Excel format: open it and save it as .xlsx or as CSV UTF-8.",
    ".xlsb": "Open it in Excel and save it as .xlsx.",
    ".ods": "Open it in LibreOffice and save it as .xlsx.",
    ".numbers": "Export it from Numbers as .xlsx or csv.",
    ".pkl": 'Pickles can execute code, so they are never loaded: save `frame.to_csv("x.csv", index=False)` instead.',
    ".pickle": 'Pickles can execute code, so they are never loaded: save `frame.to_csv("x.csv", index=False)` instead.',
    ".json": 'In Python: `pandas.read_json("x.json").to_csv("x.csv", index=False)`.',
    ".jsonl": 'In Python: `pandas.read_json("x.jsonl", lines=True).to_csv("x.csv", index=False)`.',
    ".mat": 'In Python: `numpy.savez("x.npz", scipy.io.loadmat("x.mat")["x"])`.',
    ".h5": "Put models into model/; save data as npz.",
    ".keras": "Put models into model/.",
    ".zip": "Extract it, or rename a compressed csv file to .csv.zip.",
    ".gz": "Extract it, or rename a compressed csv file to .csv.gz.",
    ".png": "Convert a folder of images with `lanfit prepare FOLDER`.",
    ".jpg": "Convert a folder of images with `lanfit prepare FOLDER`.",
    ".jpeg": "Convert a folder of images with `lanfit prepare FOLDER`.",
}


@dataclass(frozen=True)
class Pair:
    """A file of inputs and the file with the same rows' outputs; `y` is None when the input is its own target."""

    x: Path
    y: Path | None


def natural_key(name: str) -> tuple[list[str | int], str]:
    """Return a sort key that reads numbers as numbers: "part-2" comes before "part-10"."""
    chunks = re.split(r"(\d+)", name.casefold())
    return [int(chunk) if i % 2 else chunk for i, chunk in enumerate(chunks)], name


def find_pairs(x_dir: Path, y_dir: Path | None) -> list[Pair]:
    """Pair the data files of two folders in natural order; without `y_dir` the pairs have no `y`.

    Raises:
        InputError: a folder is missing or empty, contains a file of another type, or the counts differ.
    """
    xs = _data_files(x_dir)
    if y_dir is None:
        return [Pair(x, None) for x in xs]
    ys = _data_files(y_dir)
    if len(xs) != len(ys):
        raise lanfit_error(
            "folder.counts-differ", x_folder=x_dir, x_files=_listed(xs), y_folder=y_dir, y_files=_listed(ys)
        )
    return [Pair(x, y) for x, y in zip(xs, ys, strict=True)]


def open_file(path: Path, npz_key: str | None = None, signs: Signs = FOUND_OUT, numbering: str = "") -> Chunk:
    """Open a file of numbers; tables are read as float32, arrays in their own dtype.

    Args:
        npz_key: the name of the array in an npz file; required if there are several.
        signs: how numbers in text files are written, if the user specified it.
        numbering: what a first line 0, 1, … of a table is: "names" or "row"; empty: it is detected.

    Raises:
        InputError: the file can't be read, or contains something else.
    """
    with reading(path):
        kind = kind_of(path)
        if kind in ARRAYS:
            return open_npz(path, npz_key)
        if kind in FRAMES:
            return open_frame(path)
        return open_xlsx(path, numbering) if kind in SHEETS else open_csv(path, signs, numbering)


def read_labels(path: Path, npz_key: str | None = None, signs: Signs = FOUND_OUT, numbering: str = "") -> Labels:
    """Read a whole file as labels: integers stay exact, strings are encoded.

    Raises:
        InputError: as `open_file`, or the labels mix strings and numbers.
    """
    with reading(path):
        kind = kind_of(path)
        if kind in ARRAYS:
            return read_npz_labels(path, npz_key)
        if kind in FRAMES:
            return read_frame_labels(path)
        return read_xlsx_labels(path, numbering) if kind in SHEETS else read_csv_labels(path, signs, numbering)


def kind_of(path: Path) -> str:
    """Return the ending that determines how a file is read.

    Raises:
        InputError: there is no such kind.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):  # opening a pipe would block
        raise lanfit_error("file.no-file", file=path)
    name = path.name.lower()
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        if path.suffix.lower() == ".xls" and (other := wrong_ending(path)) is not None:
            raise other
        raise lanfit_error("file.unknown-kind", file=path, kinds=_ALL, way=_WAYS.get(path.suffix.lower(), ""))
    return ending


def is_data(path: Path) -> bool:
    """Return whether a file or folder is data: neither hidden nor added by an operating system."""
    name = path.name.lower()
    if name.startswith((".", "~$")) or name in _SKIPPED or name.endswith(_SKIPPED_ENDINGS):
        return False
    return not _READ_BY_PEOPLE.fullmatch(name)


def open_elsewhere(*folders: Path | None) -> tuple[str, ...]:
    """Return notes on sheets that are open in another program, which creates a lock file next to them."""
    notes = []
    for path in sorted(path for folder in folders if folder is not None for path in folder.iterdir()):
        for mark, program in _OPEN.items():
            if path.name.startswith(mark):
                sheet = path.name.removeprefix(mark).removesuffix("#")
                notes.append(
                    f"{sheet} is open in {program}: save and close it there first, the file lacks unsaved changes"
                )
    return tuple(notes)


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise lanfit_error("folder.missing", folder=folder, kinds=_ALL)
    found = [path for path in folder.iterdir() if is_data(path)]
    for path in found:
        if path.is_dir():
            raise lanfit_error("folder.in-folder", path=path, folder=folder)
        kind_of(path)
    if not found:
        raise lanfit_error("folder.empty", folder=folder, kinds=_ALL)
    return sorted(found, key=lambda path: natural_key(path.name))


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:10]) + (", …" if len(paths) > 10 else "")
    return f"{pluralize(len(paths), 'file')} ({shown})"
