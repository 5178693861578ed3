"""Reads the first sheet of an xlsx file: numbers, or labels exactly. A sheet is read whole: no format for big data.

python-calamine reads; where it is not installed or can't read a file, openpyxl does, several times slower. Before
either sees the file, its unpacked size and the reach of its cells are held against limits.
"""

from __future__ import annotations

import datetime
import re
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.data.memory import readable_size
from lanfit.data.pieces import Piece, free_if_less, unreadable
from lanfit.data.tables import is_blank, is_header, is_row, unnamed_column
from lanfit.data.text_labels import Labels, labels_of_texts
from lanfit.errors import LanfitError
from lanfit.mistakes import mistake

MAX_RATIO = 100
#: Memory that a cell takes while it is read, and that a byte of the unpacked file can come to.
CELL_BYTES = 64
FACTOR = 8
_CELL = re.compile(rb'r="([A-Z]{1,3})\d{1,7}"[^>/]*>')
_ROW = re.compile(rb'<row [^>]*?r="(\d{1,7})"')
_TAIL = 512  # of a chunk, looked at again with the next one: a cell's tag may be cut
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    RuntimeError, SyntaxError, ArithmeticError, MemoryError,
)  # fmt: skip

Cell = Any
"""None or "", bool, int, float, str, or a date or time."""


@dataclass(frozen=True)
class _Sheet:
    path: Path
    header: tuple[str, ...] | None
    rows: list[Sequence[Cell]]
    """Without the header and blank rows; all of the same length."""
    places: list[int]
    """Which row of the sheet each is, from 1."""
    left: int
    """Empty columns on the left."""
    notes: tuple[str, ...]

    def where(self, row: int, column: int) -> str:
        name = f', column "{self.header[column]}"' if self.header else ""
        return f"{self.path}, cell {column_letters(self.left + column)}{self.places[row]}{name}"


def open_xlsx(path: Path) -> Piece:
    """The first sheet's rows as float32, shape (rows, columns); they are read at once, and kept until they are used.

    Raises:
        InputError: damaged, empty, too large, a column without name, or a cell that is no number; the cell is named.
    """
    sheet = _read_sheet(path)
    if not set(map(type, chain.from_iterable(sheet.rows))) <= {float, int, bool}:
        for row, cells in enumerate(sheet.rows):
            for column, cell in enumerate(cells):
                if not isinstance(cell, (float, int)):
                    raise _no_number(sheet.where(row, column), cell)
    with _damage_named(path), np.errstate(over="ignore"):
        array = np.array(sheet.rows, np.float64).astype(np.float32)
    return replace(Piece.of(str(path), array), notes=sheet.notes, columns=sheet.header)


def read_xlsx_labels(path: Path) -> Labels:
    """Read all cells of the first sheet as labels, shape (rows, columns).

    A first row that reads like a header is a row if each of its cells stands again in its column.

    Raises:
        InputError: as `open_xlsx`, or the labels are not all words or all numbers.
    """
    sheet = _read_sheet(path)
    rows = [[_label(sheet, row, column) for column in range(len(cells))] for row, cells in enumerate(sheet.rows)]
    notes = sheet.notes
    if sheet.header and is_row(sheet.header, map(set, zip(*rows, strict=True))):
        rows = [list(sheet.header), *rows]
        notes = (*notes, "its first line is a label, not a header")
    places: dict[str, int] = {}
    codes = np.array([[places.setdefault(cell, len(places)) for cell in cells] for cells in rows], np.int32)
    labels = labels_of_texts(str(path), codes, list(places))
    return replace(labels, notes=notes + labels.notes)


def column_letters(column: int) -> str:
    """How a sheet calls a column (from 0): A, …, Z, AA, …"""
    letters = ""
    column += 1
    while column:
        column, digit = divmod(column - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters


def _label(sheet: _Sheet, row: int, column: int) -> str:
    cell = sheet.rows[row][column]
    if isinstance(cell, (bool, int, float)) or (isinstance(cell, str) and cell.strip()):
        return _written(cell)
    raise _no_number(sheet.where(row, column), cell)


def _written(cell: Cell) -> str:
    """A cell as text; a sheet knows no integers, so 3.0 is written 3."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


def _no_number(where: str, cell: Cell) -> LanfitError:
    if isinstance(cell, (datetime.date, datetime.time, datetime.timedelta)):
        return mistake("xlsx.date", cell=where, date=cell)
    text = _written(cell)
    if is_blank(text):
        return mistake("xlsx.empty-cell", cell=where)
    return mistake("xlsx.not-a-number", cell=where, text=text[:40])


def _read_sheet(path: Path) -> _Sheet:
    """Read, drop what is empty on all sides and between, split off the header, check its names."""
    with _damage_named(path):
        _check_archive(path)
    rows, notes = _cells(path)
    kept = [(place, cells) for place, cells in enumerate(rows, 1) if any(cell not in (None, "") for cell in cells)]
    if not kept:
        raise mistake("xlsx.empty-sheet", file=path)
    right = max(len(cells) for _, cells in kept)
    kept = [
        (place, cells if len(cells) == right else [*cells, *[None] * (right - len(cells))]) for place, cells in kept
    ]
    left = 0
    while all(cells[left] in (None, "") for _, cells in kept):
        left += 1
    while all(cells[right - 1] in (None, "") for _, cells in kept):
        right -= 1
    places = [place for place, _ in kept]
    table = [cells[left:right] for _, cells in kept]
    sheet = _Sheet(path, None, table, places, left, notes)
    names = [cell for cell in table[0] if isinstance(cell, str)]
    if not is_header(names):
        return sheet
    texts = [_written(cell).strip() for cell in table[0]]
    if unnamed := unnamed_column(texts):
        raise mistake("xlsx.unnamed-column", cell=sheet.where(0, unnamed - 1))
    if len(table) == 1:
        raise mistake("xlsx.only-names", file=path)
    return replace(sheet, header=tuple(texts), rows=table[1:], places=places[1:])


def _cells(path: Path) -> tuple[Sequence[Sequence[Cell]], tuple[str, ...]]:
    """The rows of the first sheet from cell A1 on, and notes."""
    reason: Exception | None = None
    try:
        import python_calamine
    except ImportError:
        pass
    else:
        try:
            with python_calamine.CalamineWorkbook.from_path(str(path)) as book:
                rows = book.get_sheet_by_index(0).to_python(skip_empty_area=False)
                return rows, _other_sheets(book.sheet_names)
        except (python_calamine.CalamineError, OSError, *_DAMAGED) as error:
            reason = error
    try:
        import openpyxl
    except ImportError as error:
        if reason:
            raise _damaged(path, reason) from reason
        raise mistake("xlsx.no-reader", file=path) from error
    with _damage_named(path):
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            first = book.worksheets[0]
            first.reset_dimensions()
            return list(first.iter_rows(values_only=True)), _other_sheets(book.sheetnames)
        finally:
            book.close()


def _other_sheets(names: Sequence[str]) -> tuple[str, ...]:
    return (f'of its {len(names)} sheets only the first, "{names[0]}", is read',) if len(names) > 1 else ()


def _check_archive(path: Path) -> None:
    """Unpack everything once, which checks sizes and checksums, and see how far the cells reach.

    A stray cell in the last corner of a sheet is honest XML of some bytes, and a table of 17 billion cells.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_RATIO * path.stat().st_size:
            raise mistake("xlsx.bomb", file=path, ratio=MAX_RATIO)
        if free := free_if_less(needed := size * FACTOR):
            raise mistake(
                "xlsx.larger-than-memory",
                file=path,
                unpacked=readable_size(size),
                factor=FACTOR,
                size=readable_size(needed),
                free=free,
            )
        for member in members:
            reach = [0, 0]
            tail = b""
            with archive.open(member) as stream:
                while chunk := stream.read(1 << 20):
                    if b"<!DOCTYPE" in chunk and member.filename.endswith(".xml"):
                        raise ValueError("it defines a document type, which no sheet does")  # entities can be bombs
                    if member.filename.startswith("xl/worksheets/"):
                        chunk = tail + chunk
                        tail = chunk[-_TAIL:]
                        reach = [max(pair) for pair in zip(reach, _reach(chunk), strict=True)]
            cells = reach[0] * reach[1]
            last = f"{column_letters(reach[1] - 1)}{reach[0]}"
            if free := free_if_less(needed := cells * CELL_BYTES):
                raise mistake(
                    "xlsx.stray-cell",
                    file=path,
                    sheet=member.filename,
                    last=last,
                    cells=cells,
                    size=readable_size(needed),
                    free=free,
                )


def _reach(xml: bytes) -> tuple[int, int]:
    """The last row and the last column, from 1, of the cells in a piece of a sheet; 0 without any."""
    columns = {column.rjust(3) for column in set(_CELL.findall(xml))}
    letters = max(columns, default=b"")
    column = 0
    for letter in letters.strip():
        column = column * 26 + letter - ord("A") + 1
    return max(map(int, _ROW.findall(xml)), default=0), column


@contextmanager
def _damage_named(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        raise unreadable(path, error) from error
    except (OSError, *_DAMAGED) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, reason: Exception) -> LanfitError:
    return mistake("xlsx.damaged", file=path, reason=str(reason) or type(reason).__name__)
