"""Reads the files that need native code (sheets, parquet and feather files) in a child process (`processes`).

It returns plain cells, or writes a file of columns.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lanfit.core.memory import limit_memory
from lanfit.core.processor_time import limit_processor_time, most_seconds
from lanfit.data.processes import ReaderEnded, ask, serve

#: The memory in bytes that reading any file may use.
LEAST_MEMORY: Final = 1 << 30
#: Read in this process, for tests that replace a reader.
HERE = False
MODULE: Final = "lanfit.data.reader_process"
_DATETIME, _DATE, _TIME, _DURATION, _NUMBER = range(5)
_PLAIN = (str, float, bool, type(None))


class SheetRequest(msgspec.Struct):
    """What to read: cells; or columns, into a file."""

    path: bytes
    into: bytes = b""

    @classmethod
    def of(cls, path: Path, into: Path | None = None) -> SheetRequest:
        return cls(os.fsencode(path), b"" if into is None else os.fsencode(into))


class _Sheet(msgspec.Struct):
    rows: list[list[Any]]
    notes: tuple[str, ...]


def read_sheet(path: Path, needed: int) -> tuple[Sequence[Sequence[Any]], tuple[str, ...]]:
    """Return the rows of the first sheet from cell A1 on, and notes; `lanfit.data.workbook.read_cells` in a process.

    Args:
        needed: the estimated memory for reading it, in bytes.

    Raises:
        InputError: it can't be read, or the reader process died of it.
    """
    if HERE:
        from lanfit.data.workbook import read_cells

        return read_cells(path)
    sheet = msgspec.msgpack.decode(_ask(SheetRequest.of(path), needed), type=_Sheet, ext_hook=_cell_of)
    return sheet.rows, sheet.notes


def read_table(path: Path, needed: int, into: Path) -> None:
    """Write the columns of a parquet or feather file as an Arrow file; `lanfit.data.arrow.convert` in a process.

    Raises:
        InputError: it can't be read, or the reader process died of it.
    """
    _ask(SheetRequest.of(path, into), needed)


def _ask(request: SheetRequest, needed: int) -> bytes:
    try:
        return ask(MODULE, msgspec.msgpack.encode(request), max(LEAST_MEMORY, 4 * needed))
    except ReaderEnded as ended:
        raise ended.named(os.fsdecode(request.path)) from None


# --- in the process ---------------------------------------------------------------------------------------------


def answer(request: bytes, limit: int) -> bytes:
    """Read one file."""
    wanted = msgspec.msgpack.decode(request, type=SheetRequest)
    path = Path(os.fsdecode(wanted.path))
    with limit_processor_time(most_seconds(path.stat().st_size)):
        return _read(path, wanted.into, limit)


def _read(path: Path, into: bytes, limit: int) -> bytes:
    if into:
        from lanfit.data.arrow import convert

        limit_memory(limit)
        convert(path, Path(os.fsdecode(into)))
        return msgspec.msgpack.encode(None)
    from lanfit.data.workbook import read_cells

    limit_memory(limit)
    rows, notes = read_cells(path)
    cells = [[cell if type(cell) in _PLAIN else _as_extension(cell) for cell in row] for row in rows]
    return msgspec.msgpack.encode(_Sheet(cells, notes))


def _as_extension(cell: Any) -> Any:
    match cell:
        case int():
            return cell if abs(cell) < 1 << 63 else msgspec.msgpack.Ext(_NUMBER, str(cell).encode())
        case datetime.datetime():
            return msgspec.msgpack.Ext(_DATETIME, cell.isoformat().encode())
        case datetime.date():
            return msgspec.msgpack.Ext(_DATE, cell.isoformat().encode())
        case datetime.time():
            return msgspec.msgpack.Ext(_TIME, cell.isoformat().encode())
        case datetime.timedelta():
            return msgspec.msgpack.Ext(_DURATION, str(cell // datetime.timedelta(microseconds=1)).encode())
        case _:
            return str(cell)


def _cell_of(code: int, data: memoryview) -> Any:
    text = bytes(data).decode()
    match code:
        case 0:
            return datetime.datetime.fromisoformat(text)
        case 1:
            return datetime.date.fromisoformat(text)
        case 2:
            return datetime.time.fromisoformat(text)
        case 3:
            return datetime.timedelta(microseconds=int(text))
        case _:
            return int(text)


if __name__ == "__main__":
    serve(answer)
