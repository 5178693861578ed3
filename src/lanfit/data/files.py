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
from lanfit.data.text_labels import Labels
from lanfit.data.xlsx import open_xlsx, read_xlsx_labels
from lanfit.errors import InputError

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
        raise InputError(
            f"{x_dir} has {_listed(xs)}, but {y_dir} has {_listed(ys)}",
            "Files pair in order, the first of X with the first of Y: both folders need the same number of files.",
        )
    return [Pair(x, y) for x, y in zip(xs, ys, strict=True)]


def open_file(path: Path, npz_key: str | None = None) -> Piece:
    """Find out what a file of numbers holds; csv and xlsx are read as float32, npz in its own dtype.

    Args:
        npz_key: which array of an npz file is read; needed if there are several.

    Raises:
        InputError: the file can't be read, or holds something else.
    """
    kind = _kind(path)
    if kind == ".npz":
        return open_npz(path, npz_key)
    return open_xlsx(path) if kind == ".xlsx" else open_csv(path)


def read_labels(path: Path, npz_key: str | None = None) -> Labels:
    """Read a whole file as labels, exactly: integers stay integers, words are coded.

    Raises:
        InputError: as `open_file`, or the labels are not all words or all numbers.
    """
    kind = _kind(path)
    if kind == ".npz":
        return read_npz_labels(path, npz_key)
    return read_xlsx_labels(path) if kind == ".xlsx" else read_csv_labels(path)


def _kind(path: Path) -> str:
    name = path.name.lower()
    ending = next((ending for ending in ENDINGS if name.endswith(ending)), None)
    if ending is None:
        raise InputError(f"{path} is of a kind that is not read", f"lanfit reads {_ALL} files.")
    return ending


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", f"Make it and put {_ALL} files into it.")
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _SKIPPED]
    for path in found:
        if path.is_dir():
            raise InputError(f"{path} is a folder", f"Put the files themselves into {folder}.")
        _kind(path)
    if not found:
        raise InputError(f"{folder} holds no data", f"Put {_ALL} files into it.")
    return sorted(found, key=lambda path: natural_key(path.name))


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:10]) + (", …" if len(paths) > 10 else "")
    return f"{len(paths)} file{'s' * (len(paths) != 1)} ({shown})"
