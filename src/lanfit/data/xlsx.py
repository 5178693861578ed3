"""Reads the first worksheet of an xlsx file as a whole: numbers, or exact labels.

A child process reads it (`reader_process`, `workbook`). Before that, `sheets` checks its decompressed size and the
extent of its cells, and finds what readers do not report: formulas without a value, hidden rows.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.core.text import pluralize
from lanfit.data.chunks import Chunk, merged_numbers
from lanfit.data.reader_process import read_sheet
from lanfit.data.refusals import MOST_CELLS, Obstacle, is_of_numbers, lead_of, many_columns, way_out
from lanfit.data.sheets import SheetFacts, check_archive, column_letters, damage_named
from lanfit.data.tables import (
    INDEX_NOTE,
    SAMPLE,
    counts_rows,
    is_header,
    is_missing,
    is_numbering,
    is_row,
    note_on_numbering,
    numbering_names,
    unnamed_column,
)
from lanfit.data.text_labels import Labels, labels_of_texts
from lanfit.errors import LanfitError, lanfit_error

Cell = Any
"""None or "", bool, int, float, str, or a date or time."""


@dataclass(frozen=True)
class _Sheet:
    path: Path
    header: tuple[str, ...] | None
    rows: list[Sequence[Cell]]
    """The rows without header and blank ones; all of the same length."""
    places: list[int]
    """The number of each row in the sheet, from 1."""
    left: int
    """The number of empty columns on the left."""
    notes: tuple[str, ...]
    numbering: str = ""
    """How a first line 0, 1, … was read: as "names" or as a "row"; empty if there is none."""

    def where(self, row: int, column: int) -> str:
        name = f', column "{self.header[column]}"' if self.header else ""
        return f"{self.path}, cell {column_letters(self.left + column)}{self.places[row]}{name}"


def open_xlsx(path: Path, numbering: str = "") -> Chunk:
    """Return the first sheet's rows as float32, shape (rows, columns); they are read at once.

    Args:
        numbering: what a first line 0, 1, … is: "names" or "row"; empty: it is detected.

    Raises:
        InputError: the file is damaged, empty, or too large, a column has no name, or a cell is not a number or has no
            value. The message names the cell.
    """
    sheet = _read_sheet(path, numbering)
    if not set(map(type, chain.from_iterable(sheet.rows))) <= {float, int, bool}:
        raise _no_numbers(sheet)
    with damage_named(path), np.errstate(over="ignore"):
        exact = np.array(sheet.rows, np.float64)
        chunk = Chunk.of(str(path), exact.astype(np.float32))
    chunk.merged.update(merged_numbers(exact))
    return replace(chunk, notes=sheet.notes, columns=sheet.header, numbering=sheet.numbering)


def read_xlsx_labels(path: Path, numbering: str = "") -> Labels:
    """Read all cells of the first sheet as labels, shape (rows, columns).

    A first row that looks like a header is a row if each of its cells occurs again in its column.

    Raises:
        InputError: as `open_xlsx`, or the labels mix strings and numbers.
    """
    sheet = _read_sheet(path, numbering)
    rows = [[_label(sheet, row, column) for column in range(len(cells))] for row, cells in enumerate(sheet.rows)]
    notes = sheet.notes
    if sheet.header and not sheet.numbering and is_row(sheet.header, map(set, zip(*rows, strict=True))):
        rows = [list(sheet.header), *rows]
        notes = (*notes, "the first line is read as a label, not as a header")
    places: dict[str, int] = {}
    codes = np.array([[places.setdefault(cell, len(places)) for cell in cells] for cells in rows], np.int32)
    labels = labels_of_texts(str(path), codes, list(places))
    return replace(labels, notes=notes + labels.notes, numbering=sheet.numbering)


def _label(sheet: _Sheet, row: int, column: int) -> str:
    cell = sheet.rows[row][column]
    if isinstance(cell, (bool, int, float)) or (isinstance(cell, str) and cell.strip()):
        return _written(cell)
    raise _no_number(sheet, row, column)


def _written(cell: Cell) -> str:
    """Return a cell as text; sheets have no integers, so 3.0 becomes 3."""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return "" if cell is None else str(cell)


def _no_numbers(sheet: _Sheet) -> LanfitError:
    """Return the error for a sheet with cells that are not numbers, which names all their columns."""
    found: dict[int, tuple[int, Obstacle]] = {}
    for row, cells in enumerate(sheet.rows):
        for column, cell in enumerate(cells):
            if column not in found and not isinstance(cell, (float, int)):
                place = f"cell {column_letters(sheet.left + column)}{sheet.places[row]}"
                name = f'"{sheet.header[column]}"' if sheet.header else column_letters(sheet.left + column)
                found[column] = row, Obstacle(column, name, place, _text(cell))
    [(row, first), *others] = found.values()
    if not others:
        return _no_number(sheet, row, first.column)
    width = len(sheet.rows[0])
    shown = {
        column: [_text(cells[column]) for cells in sheet.rows[: max(1000, MOST_CELLS // width)]] for column in found
    }
    obstacles = [obstacle for _, obstacle in found.values()]
    names = sheet.header or [""] * width
    return many_columns(sheet.path, obstacles, names, shown, width, header_of_numbers=is_of_numbers(sheet.header))


def _no_number(sheet: _Sheet, row: int, column: int) -> LanfitError:
    """Return the error for the only column with such a cell."""
    cell, where = sheet.rows[row][column], sheet.where(row, column)
    names = sheet.header or [""] * len(sheet.rows[0])
    way = way_out(
        sheet.path,
        Obstacle(column, "", where, _text(cell)),
        names,
        [_text(cells[column]) for cells in sheet.rows],
        False,
    )
    if isinstance(cell, (datetime.date, datetime.time, datetime.timedelta)):
        return lanfit_error("xlsx.date", cell=where, date=cell, way=way)
    text = _written(cell).strip()
    if not text:
        return lanfit_error("xlsx.empty-cell", cell=where, way=way)
    if is_missing(text):
        return lanfit_error("xlsx.missing", cell=where, text=text, way=way)
    lead = lead_of(is_of_numbers(sheet.header))
    return lanfit_error("xlsx.not-a-number", cell=where, text=text[:40], names=lead, way=way)


def read_xlsx_texts(path: Path) -> tuple[tuple[str, ...] | None, list[list[str]], tuple[str, ...]]:
    """Return the names of the first sheet's columns, if it has any, its rows as text, and notes.

    Raises:
        InputError: the file is damaged, empty, or too large, or a cell has no value.
    """
    sheet = _read_sheet(path, "", as_text=True)
    return sheet.header, [[_text(cell) for cell in cells] for cells in sheet.rows], sheet.notes


def _text(cell: Cell) -> str:
    """Return a cell as a csv file would hold it."""
    if isinstance(cell, datetime.datetime):
        return cell.date().isoformat() if cell.time() == datetime.time() else cell.isoformat(" ", "seconds")
    return _written(cell)


def _read_sheet(path: Path, numbering: str, *, as_text: bool = False) -> _Sheet:
    """Read the sheet, drop empty rows and margins, split off the header and check its names."""
    with damage_named(path):
        facts = check_archive(path)
    rows, notes = read_sheet(path, facts.needed)
    kept = [(place, cells) for place, cells in enumerate(rows, 1) if any(cell not in (None, "") for cell in cells)]
    if not kept:
        raise lanfit_error("xlsx.empty-sheet", file=path)
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
    sheet = _Sheet(path, None, table, places, left, (*notes, *_hidden(facts, places, left, right)))
    sheet = _with_header(sheet, numbering)
    return sheet if as_text else _without_index(sheet)


def _with_header(sheet: _Sheet, numbering: str) -> _Sheet:
    """Split off a first line with the names of the columns."""
    first, below = sheet.rows[0], sheet.rows[1:]
    texts = tuple(_written(cell).strip() for cell in first)
    index = not texts[0]
    if is_numbering(texts):
        given = [_written(cell) for row in below[:SAMPLE] for cell in row[index:]]
        if not numbering:
            numbering = "names" if index or numbering_names(len(texts), given) else "row"
        if index:
            numbering = ""
        elif numbering == "row":
            return replace(sheet, numbering=numbering)
        else:
            notes = note_on_numbering(len(texts), names=True)
            sheet = replace(sheet, numbering=numbering, notes=(*sheet.notes, notes))
    elif not is_header([cell for cell in first if isinstance(cell, str)]):
        return sheet
    if not below:
        raise lanfit_error("xlsx.only-names", file=sheet.path)
    return replace(sheet, header=texts, rows=below, places=sheet.places[1:])


def _without_index(sheet: _Sheet) -> _Sheet:
    """Remove a first column without a name that counts the rows."""
    if sheet.header is None:
        return sheet
    unnamed = unnamed_column(sheet.header)
    others = sheet.header[1:]
    if (
        (unnamed == 1 or sheet.header[0] == "Unnamed: 0")
        and others
        and unnamed_column(others) is None
        and counts_rows(_written(row[0]) for row in sheet.rows)
    ):
        rows, notes = [row[1:] for row in sheet.rows], (*sheet.notes, INDEX_NOTE)
        return replace(sheet, header=others, rows=rows, left=sheet.left + 1, notes=notes)
    if unnamed:
        place = f"{column_letters(sheet.left + unnamed - 1)}{sheet.places[0] - 1}"
        raise lanfit_error("xlsx.unnamed-column", cell=f"{sheet.path}, cell {place}")
    return sheet


def _hidden(facts: SheetFacts, places: Sequence[int], left: int, right: int) -> tuple[str, ...]:
    """Return the note on hidden rows and columns, which are read, too."""
    rows = len(facts.hidden_rows & set(places))
    columns = len(facts.hidden_columns & set(range(left + 1, right + 1)))
    if not rows + columns:
        return ()
    found = [pluralize(number, what) for number, what in ((rows, "row"), (columns, "column")) if number]
    verb = "is" if rows + columns == 1 else "are"
    return (f"{' and '.join(found)} {verb} hidden in the sheet, but read anyway",)
