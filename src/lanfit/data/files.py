"""Finds the files of X and Y, pairs them in natural order, and reads npz and csv into arrays.

One module a format (`npz`, `csvs`); what is done with the rows is decided in `prepare`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lanfit.data.csvs import column_names, describe_csv, read_csv_blocks, read_csv_exactly
from lanfit.data.memory import free_memory, readable_size
from lanfit.data.npz import describe_npz, read_npz_blocks
from lanfit.errors import InputError

AnyArray = NDArray[np.generic]
ENDINGS = (".npz", ".csv")
#: What people and their systems leave in a folder beside the data; hidden files are skipped as well.
_SKIPPED = frozenset({"readme.md", "thumbs.db", "desktop.ini"})


@dataclass(frozen=True)
class Pair:
    """A file of inputs and the file with the same rows' outputs; `y` is None when the input is its own target."""

    x: Path
    y: Path | None


@dataclass(frozen=True)
class Declared:
    """What a file says it holds: the shape with its rows first, and the dtype it is read as."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize


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


def describe(path: Path) -> Declared:
    """Find out shape and dtype without reading the values; csv files count as float32.

    Raises:
        InputError: the file can't be read, or declares more than the memory that is free.
    """
    if _format(path) == ".npz":
        declared = Declared(*describe_npz(path))
    else:
        declared = Declared(describe_csv(path), np.dtype(np.float32))
    free = free_memory()
    if free and declared.nbytes > free:
        raise InputError(
            f"{path} declares an array of shape {declared.shape}, {readable_size(declared.nbytes)}, "
            f"but {readable_size(free)} of memory are free",
            "Use fewer rows, a smaller dtype (uint8, float16), or a machine with more memory.",
        )
    return declared


def read_blocks(path: Path, declared: Declared | None = None) -> Iterator[AnyArray]:
    """Yield the rows in order, a few MiB at a time; together they are what `describe` said (asked if not given).

    Raises:
        InputError: the file is damaged or holds something else than numbers.
    """
    declared = declared or describe(path)
    rows = 0
    for block in read_npz_blocks(path) if _format(path) == ".npz" else read_csv_blocks(path):
        rows += len(block)
        if block.shape[1:] != declared.shape[1:] or rows > declared.shape[0]:
            break
        yield block
    if rows != declared.shape[0]:
        raise InputError(
            f"{path} looks like {declared.shape[0]} rows, but {rows} could be read",
            "Look for line breaks inside quotes.",
        )


def read_array(path: Path, *, exact: bool = False) -> AnyArray:
    """Read the whole file: npz in its own dtype, csv as float32 with shape (rows, columns).

    With `exact` a csv of integers gives int64 and any other float64: labels must not be rounded.

    Raises:
        InputError: as `describe` and `read_blocks`.
    """
    declared = describe(path)
    if exact and _format(path) == ".csv":
        return read_csv_exactly(path)
    array = np.empty(declared.shape, declared.dtype)
    row = 0
    for block in read_blocks(path, declared):
        array[row : row + len(block)] = block
        row += len(block)
    return array


def column_label(path: Path, column: int) -> str:
    """How a column (from 0) of a file is named in messages: by its header if there is one, else by number from 1."""
    names = column_names(path) if _format(path) == ".csv" else None
    return f'column "{names[column]}"' if names else f"column {column + 1}"


def _format(path: Path) -> str:
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{path} is of a kind that is not read", f"lanfit reads {' and '.join(ENDINGS)} files.")
    return ending


def _data_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}", f"Make it and put {' or '.join(ENDINGS)} files into it.")
    found = [p for p in folder.iterdir() if not p.name.startswith(".") and p.name.lower() not in _SKIPPED]
    for path in found:
        if path.is_dir():
            raise InputError(f"{path} is a folder", f"Put the files themselves into {folder}.")
        _format(path)
    if not found:
        raise InputError(f"{folder} holds no data", f"Put {' or '.join(ENDINGS)} files into it.")
    return sorted(found, key=lambda path: natural_key(path.name))


def _listed(paths: Sequence[Path]) -> str:
    shown = ", ".join(path.name for path in paths[:10]) + (", …" if len(paths) > 10 else "")
    return f"{len(paths)} file{'s' * (len(paths) != 1)} ({shown})"
