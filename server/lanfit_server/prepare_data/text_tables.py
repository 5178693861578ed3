"""A table of any format as text cells: for the preview, and as the input of a recipe.

The layout of a csv file is detected in `layout`, a sheet is read in `xlsx`; only the cells stay text here.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.data.csvs import notes_of
from lanfit.data.current_file import reading
from lanfit.data.file_type import wrong_ending
from lanfit.data.files import FRAMES, SHEETS, TEXT, kind_of
from lanfit.data.frames import read_frame_texts
from lanfit.data.layout import find_layout, table_records
from lanfit.data.tables import is_missing, is_number
from lanfit.data.xlsx import read_xlsx_texts
from lanfit.errors import lanfit_error


@dataclass(frozen=True)
class TextTable:
    """The cells of a table, column by column."""

    path: Path
    names: tuple[str, ...]
    """Of each column, all different; "" for one without a name."""
    columns: tuple[Sequence[str], ...]
    has_header: bool
    points_may_group: bool = False
    """Whether a point in a number may separate thousands: commas do not separate the cells."""
    notes: tuple[str, ...] = ()

    @property
    def rows(self) -> int:
        return len(self.columns[0])


def read_text_table(path: Path) -> TextTable:
    """Read a table: csv and other text, xlsx, parquet or feather.

    Raises:
        InputError: it can't be read, holds no rows, or is of another kind.
    """
    with reading(path):
        kind = kind_of(path)
        if kind in SHEETS:
            header, rows, notes = read_xlsx_texts(path)
            return _table(path, header, rows, False, notes)
        if kind in FRAMES:
            names, columns, notes = read_frame_texts(path)
            unique, renamed = _all_different([name.strip() for name in names])
            return TextTable(path, unique, tuple(columns), True, notes=(*notes, *_notes_on(renamed)))
        if not kind.startswith(TEXT):
            raise lanfit_error("table.no-table", file=path)
        return _read_csv(path)


def _read_csv(path: Path) -> TextTable:
    try:
        layout = find_layout(path, as_text=True)
        rows: list[list[str]] = []
        header, width = layout.header, layout.width
        for line, cells in table_records(path, layout):
            if not rows and header and not header[-1].strip() and len(cells) == width - 1:
                header, width = header[:-1], width - 1  # only the first line ends with a separator
            if len(cells) != width:
                raise lanfit_error("csv.uneven-line", file=path, line=line, found=len(cells), expected=width)
            rows.append(cells)
    except UnicodeDecodeError as error:
        raise (wrong_ending(path) or lanfit_error("csv.not-utf8", file=path)) from error
    except csv.Error as error:
        raise lanfit_error("csv.quotes", file=path, reason=error) from error
    return _table(path, header, rows, layout.separator != ",", notes_of(layout))


def _table(
    path: Path,
    header: Sequence[str] | None,
    rows: list[list[str]],
    points_may_group: bool,
    notes: tuple[str, ...],
) -> TextTable:
    columns = list(zip(*rows, strict=True))
    if header is not None and _is_a_row(header, columns):
        columns = [(name, *column) for name, column in zip(header, columns, strict=True)]
        header, notes = None, (*notes, "the first line is read as a row: there is no header")
    if header is None:
        return TextTable(path, ("",) * len(columns), tuple(columns), False, points_may_group, notes)
    names, renamed = _all_different([name.strip() for name in header])
    return TextTable(path, names, tuple(columns), True, points_may_group, (*notes, *_notes_on(renamed)))


def _notes_on(renamed: Sequence[str]) -> tuple[str, ...]:
    return (f"columns with the same name are numbered: {', '.join(renamed[:5])}",) if renamed else ()


def _is_a_row(header: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether a first line with words is data: words occur again in their column, numbers among numbers."""
    if not any(is_number(name) for name in header):
        return False
    for name, column in zip(header, columns, strict=True):
        if is_number(name):
            if not all(is_number(cell) or is_missing(cell) for cell in column):
                return False
        elif not is_missing(name) and name not in map(str.strip, column):
            return False
    return True


def _all_different(names: Sequence[str]) -> tuple[tuple[str, ...], list[str]]:
    """Number the names that come again; the unnamed stay unnamed."""
    found, renamed = list[str](), list[str]()
    taken = set(names)
    for name in names:
        number = 2
        new = name
        while new and new in found:
            new = f"{name} ({number})"
            number += 1
            if new in taken:
                continue
        if new != name:
            renamed.append(new)
        found.append(new)
    return tuple(found), renamed
