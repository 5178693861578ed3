"""Reads the cells of the first worksheet of an xlsx file, in a light child process (`reader_process`).

It uses python-calamine; if that is not installed or can't read a file, openpyxl, which is several times slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lanfit.data.sheets import DAMAGED, damage_named, damaged
from lanfit.errors import lanfit_error

Cell = Any
"""None or "", bool, int, float, str, or a date or time."""


def read_cells(path: Path) -> tuple[Sequence[Sequence[Cell]], tuple[str, ...]]:
    """Return the rows of the first sheet from cell A1 on, and notes."""
    reason: Exception | None = None
    try:
        import python_calamine
    except ImportError:
        pass
    else:
        try:
            with python_calamine.CalamineWorkbook.from_path(str(path)) as book:
                tables = [sheet.typ == python_calamine.SheetTypeEnum.WorkSheet for sheet in book.sheets_metadata]
                first = tables.index(True)
                rows = book.get_sheet_by_index(first).to_python(skip_empty_area=False)
                return rows, _other_sheets(book.sheet_names, first)
        except (python_calamine.CalamineError, OSError, *DAMAGED) as error:
            reason = error
    try:
        import openpyxl
    except ImportError as error:
        if reason:
            raise damaged(path, reason) from reason
        raise lanfit_error("xlsx.no-reader", file=path) from error
    with damage_named(path):
        book = openpyxl.load_workbook(path, read_only=True, data_only=True)
        try:
            first = book.worksheets[0]
            first.reset_dimensions()
            return list(first.iter_rows(values_only=True)), _other_sheets(
                book.sheetnames, book.sheetnames.index(first.title)
            )
        finally:
            book.close()


def _other_sheets(names: Sequence[str], read: int) -> tuple[str, ...]:
    if len(names) < 2:
        return ()
    which = "only the first" if read == 0 else "only the first with cells"
    return (f'of its {len(names)} sheets {which}, "{names[read]}", is read',)
