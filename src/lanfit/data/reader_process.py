"""Reads what native code reads (sheets, parquet and feather files) in a process of its own, under a memory limit.

A damaged or made-up file can end such a reader, and what ends is a process, not an error. This one is light: it imports
the reader and no more. It ends with its parent, and gives back plain cells, or a file of columns.
"""

from __future__ import annotations

import datetime
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lanfit import errors
from lanfit.data.memory import free_memory, limit_memory, readable_size
from lanfit.mistakes import mistake

#: What any file may take while it is read, in bytes.
LEAST_MEMORY: Final = 1 << 30
#: Without a process of its own, for tests that stand in for a reader.
HERE = False
#: What Rust prints when it gets no memory, before it aborts; what Python raises.
_NO_MEMORY = ("memory allocation of", "MemoryError", "bad_alloc", "ArrowMemoryError")
_DATETIME, _DATE, _TIME, _DURATION, _NUMBER = range(5)
_PLAIN = (str, float, bool, type(None))


class _Problem(msgspec.Struct, tag="problem"):
    kind: str
    message: str
    hint: str
    code: str


class _Sheet(msgspec.Struct, tag="sheet"):
    rows: list[list[Any]]
    notes: tuple[str, ...]


class _Done(msgspec.Struct, tag="done"):
    pass


_Answer = _Problem | _Sheet | _Done


def read_sheet(path: Path, needed: int) -> tuple[Sequence[Sequence[Any]], tuple[str, ...]]:
    """The rows of the first sheet from cell A1 on, and notes; `lanfit.data.workbook.read_cells` in a process.

    Args:
        needed: what reading it should take, in bytes, by the size of its parts.

    Raises:
        InputError: it can't be read, whatever that did to the reader.
    """
    if HERE:
        from lanfit.data.workbook import read_cells

        return read_cells(path)
    answer = _ask(path, needed, "sheet")
    assert isinstance(answer, _Sheet)
    return answer.rows, answer.notes


def read_table(path: Path, needed: int, into: Path) -> None:
    """Write the columns of a parquet or feather file as an Arrow file; `lanfit.data.frames.convert` in a process.

    Raises:
        InputError: it can't be read, whatever that did to the reader.
    """
    _ask(path, needed, "table", str(into))


def _ask(path: Path, needed: int, *order: str) -> _Answer:
    from lanfit.child import own_group  # not at the top: the process needs no asyncio

    limit = max(LEAST_MEMORY, 4 * needed)
    limit = min(limit, free_memory() or limit)
    command = [sys.executable, "-P", "-m", "lanfit.data.reader_process", str(limit), str(path), *order]
    with tempfile.TemporaryFile() as said:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": said}
        # A backtrace would hide the line that says why.
        environment = {**os.environ, "RUST_BACKTRACE": "0"}
        with subprocess.Popen(command, env=environment, **pipes, **own_group()) as process:  # type: ignore[call-overload]
            try:
                answer = process.stdout.read()  # its input stays open as long as this process lives
            except BaseException:
                process.kill()
                raise
        said.seek(0)
        last = said.read()[-4000:].decode(errors="replace")
    if process.returncode:
        if any(mark in last for mark in _NO_MEMORY):
            raise mistake("file.reader-memory", file=path, limit=readable_size(limit))
        code = process.returncode
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        lines = last.strip().splitlines()
        raise mistake("file.reader-died", file=path, how=how, last=f" ({lines[-1][:200]})" if lines else "")
    found = msgspec.msgpack.decode(answer, type=_Answer, ext_hook=_cell_of)
    if isinstance(found, _Problem):
        raise getattr(errors, found.kind)(found.message, found.hint, found.code)
    return found


# --- in the process ---------------------------------------------------------------------------------------------


def main() -> None:
    """Read one file, and end."""
    limit, path, kind, *rest = sys.argv[1:]
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        answer = _answer(int(limit), Path(path), kind, rest)
    except errors.LanfitError as wrong:
        known = next(cls.__name__ for cls in type(wrong).__mro__ if cls.__module__ == "lanfit.errors")
        answer = _Problem(known, wrong.message, wrong.hint, wrong.code)
    output.write(msgspec.msgpack.encode(answer))
    output.flush()
    os._exit(0)


def _answer(limit: int, path: Path, kind: str, rest: Sequence[str]) -> _Answer:
    if kind == "table":
        from lanfit.data.frames import convert

        limit_memory(limit)
        convert(path, Path(rest[0]))
        return _Done()
    from lanfit.data.workbook import read_cells

    limit_memory(limit)
    rows, notes = read_cells(path)
    return _Sheet([[cell if type(cell) in _PLAIN else _as_extension(cell) for cell in row] for row in rows], notes)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)


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
    main()
