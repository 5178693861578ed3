"""Reads parquet and feather files as a whole, if pyarrow is installed: numbers, or exact labels.

A separate process (`reader_process`) reads the file and writes its columns to a temporary file.
"""

from __future__ import annotations

import datetime
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.core.memory import free_memory
from lanfit.data import reader_process
from lanfit.data.arrow import read_table, readers
from lanfit.data.chunks import AnyArray, Chunk, check_fits, merged_numbers
from lanfit.data.text_labels import Labels, labels_of_array
from lanfit.errors import lanfit_error

#: What pandas calls its index where it writes it as a column.
_INDEX = "__index_level_"


def open_frame(path: Path) -> Chunk:
    """Return the columns of a parquet or feather file as float32, shape (rows, columns).

    Raises:
        InputError: pyarrow is missing, the file can't be read, or a column holds something else than numbers.
    """
    table, notes = _read(path)
    names = tuple(table.column_names)
    check_fits(str(path), (table.num_rows, len(names)), np.dtype(np.float32))
    array = np.empty((table.num_rows, len(names)), np.float32)
    others, merged = [], {}
    for place, name in enumerate(names):
        column = _array(path, table, name)
        if column.dtype.kind not in "biuf":
            others.append(f'"{name}" ({table.schema.field(name).type})')
        else:
            with np.errstate(over="ignore"):
                array[:, place] = column
            if found := merged_numbers(column.reshape(-1, 1)):
                merged[place] = found[0]
    if others:
        raise lanfit_error("frame.not-numbers", file=path, columns=", ".join(others[:20]))
    return replace(Chunk.of(str(path), array), columns=names, notes=notes, merged=merged)


def read_frame_labels(path: Path) -> Labels:
    """Read all columns as labels, shape (rows, columns).

    Raises:
        InputError: as `open_frame`, or the labels mix strings and numbers.
    """
    table, notes = _read(path)
    columns = [_array(path, table, name) for name in table.column_names]
    if any(column.dtype.kind not in "biuf" for column in columns):
        columns = [column.astype(str) for column in columns]
    labels = labels_of_array(str(path), np.stack(columns, axis=1))
    return replace(labels, notes=notes + labels.notes)


def read_frame_texts(path: Path) -> tuple[tuple[str, ...], list[list[str]], tuple[str, ...]]:
    """Return the names of the columns, their cells as a csv file would hold them, and notes.

    Raises:
        InputError: pyarrow is missing, or the file can't be read.
    """
    table, notes = _read(path)
    return tuple(table.column_names), [list(map(_text, column.to_pylist())) for column in table.columns], notes


def _text(value: object) -> str:
    if isinstance(value, datetime.datetime):
        return value.date().isoformat() if value.time() == datetime.time() else value.isoformat(" ", "seconds")
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "" if value is None else str(value)


def _array(path: Path, table: Any, name: str) -> AnyArray:
    column = table.column(name)
    if column.null_count:
        row = column.is_null().index(True).as_py() + 1
        raise lanfit_error("frame.missing", file=path, row=row, column=name, count=column.null_count)
    array: AnyArray = column.to_numpy()
    return array


def _read(path: Path) -> tuple[Any, tuple[str, ...]]:
    pyarrow, _, _ = readers(path)
    if reader_process.HERE:
        table = read_table(path)
    else:
        with tempfile.TemporaryDirectory(prefix="lanfit-") as folder:
            columns = Path(folder) / "columns.arrow"
            reader_process.read_table(path, free_memory(), columns)
            with pyarrow.OSFile(str(columns)) as file:
                table = pyarrow.ipc.open_file(file).read_all()
    index = [name for name in table.column_names if name.startswith(_INDEX)]
    table = table.drop_columns(index) if index else table
    if not table.num_rows or not table.num_columns:
        raise lanfit_error("file.no-rows", file=path, shape=(table.num_rows, table.num_columns))
    return table, ("the index column that pandas wrote is left out",) if index else ()
