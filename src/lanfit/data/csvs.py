"""Reads csv files of numbers: comma-separated, UTF-8, with or without a header line.

The fast reader is pandas' C engine; only when it refuses a file is the file read once more, slowly, to name the line
and column. Semicolons, decimal commas and text labels are not read.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from lanfit.errors import InputError

BLOCK_VALUES = 1 << 20
_HINT = "lanfit reads numbers with a decimal point, separated by commas, the same count in every line."
#: pandas must neither guess missing values nor take a first column for row names.
_OPTIONS = {"header": None, "index_col": False, "na_filter": False, "engine": "c"}
#: Cells that make a first line data although they are no numbers: were it taken for a header, a row would be lost.
_NO_NAMES = frozenset({"", "na", "n/a", "nan", "-nan", "<na>", "#n/a", "null", "none", "true", "false"})


def describe_csv(path: Path) -> tuple[int, int]:
    """Count the rows and columns of the file, without converting a cell.

    Raises:
        InputError: not text, or no rows in it.
    """
    with _errors_named(path), _open(path) as file:
        _, width = _start(file)
        rows = sum(1 for line in file if line.strip(" \t\r\n"))
    if rows == 0 or width == 0:
        raise InputError(f"{path} holds no rows", "Every line is one row; a first line with names is no row.")
    return rows, width


def column_names(path: Path) -> list[str] | None:
    """The cells of the header line, or None when the first line is data."""
    with _errors_named(path), _open(path) as file:
        return _start(file)[0]


def read_csv_blocks(path: Path) -> Iterator[NDArray[np.generic]]:
    """Yield the rows in order as float32 of shape (rows of the block, columns), about 4 MiB each.

    Raises:
        InputError: a cell that is no number, a line with more or fewer cells, not UTF-8, no rows; file, line and
            column are named.
    """
    pandas = _pandas(path)
    with _errors_named(path), _open(path) as file:
        _, width = _start(file)
        size = max(1, BLOCK_VALUES // width)
        for frame in pandas.read_csv(file, dtype=np.float64, chunksize=size, **_OPTIONS):
            with np.errstate(over="ignore"):  # 1e39 becomes inf, which the check of all values names
                block = frame.to_numpy(np.float32)
            yield _of_width(block, width)


def read_csv_exactly(path: Path) -> NDArray[np.generic]:
    """Read the whole file as int64 when every cell is an integer (True and False: bool), else as float64.

    Shape (rows, columns). For labels, where float32 would join integers above 2**24.

    Raises:
        InputError: as `read_csv_blocks`.
    """
    pandas = _pandas(path)
    with _errors_named(path), _open(path) as file:
        _, width = _start(file)
        frame = pandas.read_csv(file, low_memory=False, **_OPTIONS)
        if any(not isinstance(dtype, np.dtype) or dtype.kind not in "biuf" for dtype in frame.dtypes):
            raise ValueError("a column holds text")
        return _of_width(frame.to_numpy(np.result_type(*frame.dtypes)), width)


def _pandas(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise InputError(f"{path} is a csv file, and reading those needs pandas", "pip install pandas") from error
    return pandas


def _open(path: Path) -> TextIO:
    return path.open(encoding="utf-8-sig", newline="")


def _start(file: TextIO) -> tuple[list[str] | None, int]:
    """Read the header line if there is one, leave the file at the first line of data; return header and width."""
    first = next((cells for cells in csv.reader(file, strict=True) if not _blank(cells)), [])
    if any(not _is_number(cell) and cell.strip().lower() not in _NO_NAMES for cell in first):
        return first, len(first)
    file.seek(0)
    return None, len(first)


def _of_width(block: NDArray[np.generic], width: int) -> NDArray[np.generic]:
    if block.shape[1] != width:
        raise ValueError(f"the first line has {width} cells, the next {block.shape[1]}")
    return block


@contextmanager
def _errors_named(path: Path) -> Iterator[None]:
    """Turn what pandas and csv raise into an InputError that names the line and the column."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no UTF-8 text", "Save it as csv in UTF-8.") from error
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error}", "Check that the file is there, and who may read it."
        ) from error
    except (ValueError, OverflowError, MemoryError, csv.Error) as error:
        raise InputError(f"{path}, {_cause(path) or str(error).strip()}", _HINT) from error


def _cause(path: Path) -> str:
    """Read the file slowly and say where the first line is that breaks the rules; empty if none is found."""
    try:
        with _open(path) as file:
            header, width = _start(file)
            file.seek(0)
            reader = csv.reader(file, strict=True)
            lines = (cells for cells in reader if not _blank(cells))
            if header is not None:
                next(lines)
            for cells in lines:
                if len(cells) != width:
                    return f"line {reader.line_num} has {len(cells)} cells, the first line {width}"
                for column, cell in enumerate(cells):
                    if not _is_number(cell) or cell.strip().lower().lstrip("+-") == "nan":
                        name = column + 1 if header is None else f'"{header[column]}"'
                        what = f'"{cell[:40]}" is not a number' if cell.strip() else "the cell is empty"
                        return f"line {reader.line_num}, column {name}: {what}"
    except (csv.Error, OSError, ValueError):
        pass  # what pandas said is told instead
    return ""


def _blank(cells: list[str]) -> bool:
    return not cells or (len(cells) == 1 and not cells[0].strip(" \t"))


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
