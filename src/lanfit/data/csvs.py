"""Reads csv files, packed or not: numbers in blocks, or labels exactly.

The fast reader is pandas' C engine; only when it refuses a file is the file read once more, slowly, to name the line
and column. The layout of a file is detected in `layout`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lanfit.data.chunks import AnyArray, Chunk, merged_numbers, rows_differ
from lanfit.data.file_type import wrong_ending
from lanfit.data.layout import (
    ENCODINGS,
    SPACES,
    Layout,
    ambiguous,
    chunks_of,
    column_name,
    find_layout,
    open_text,
    table_records,
    with_thousands,
)
from lanfit.data.refusals import MOST_CELLS, Obstacle, is_of_numbers, lead_of, many_columns, way_out
from lanfit.data.tables import (
    FOUND_OUT,
    INDEX_NOTE,
    Signs,
    counts_rows,
    is_blank,
    is_missing,
    is_number,
    is_row,
    may_be_thousands,
    note_on_numbering,
    thousands_groups,
    to_number,
)
from lanfit.data.text_labels import Labels, labels_of_texts
from lanfit.data.threads import CORES, ahead
from lanfit.errors import LanfitError, lanfit_error

#: Small blocks stay in the processor's cache: a million values take half as long again.
BLOCK_VALUES = 1 << 17
#: The bytes of a plain file that are parsed at once: enough to hide the cost of a pandas call, and they fit the cache.
CHUNK_BYTES = 2 << 20
#: glibc returns free memory to the system above twice the size of the largest freed block (of up to 32 MiB).
LARGEST_FREED = 30 << 20
_OUT_OF_MEMORY = "C error: out of memory"
T = TypeVar("T")


def open_csv(path: Path, signs: Signs = FOUND_OUT, numbering: str = "") -> Chunk:
    """Return the rows of a csv file as float32, shape (rows, columns).

    Args:
        signs: how its numbers are written, if the user specified it.
        numbering: what a first line 0, 1, … is: "names" or "row"; empty: it is detected.

    Raises:
        InputError: the file is not text or has no rows; and, while reading: a cell is not a number, or a line has more
            or fewer cells. The message names file, line and column.
    """
    with _errors_named(path):
        layout = find_layout(path, signs, numbering)
    shape = (layout.rows, layout.width - layout.index)
    read = partial(_blocks, path, layout, str if layout.thousands else np.float64, partial(_as_float32, layout))
    merged: dict[int, tuple[int, int]] = {}
    return Chunk(
        str(path),
        shape,
        np.dtype(np.float32),
        partial(_remembering, read, merged),
        notes_of(layout),
        layout.names,
        layout.numbering,
        merged,
    )


def read_csv_labels(path: Path, signs: Signs = FOUND_OUT, numbering: str = "") -> Labels:
    """Read all cells of a csv file as labels, shape (rows, columns).

    A first line that looks like a header is a row if each of its cells occurs again in its column: a file of string
    labels needs no header.

    Raises:
        InputError: as `open_csv`, or the labels mix strings and numbers.
    """
    with _errors_named(path):
        layout = find_layout(path, signs, numbering)
    places: dict[str, int] = {}
    blocks: list[NDArray[np.int32]] = []
    for frame in _blocks(path, layout, str, lambda frame: frame, numbers=False):
        before = sum(map(len, blocks))
        blocks.append(codes := np.empty(frame.shape, np.int32))
        for place, column in enumerate(frame):
            found, texts = frame[column].factorize()
            empty = np.isin(found, [-1, *(code for code, text in enumerate(texts) if not text.strip())])
            if empty.any():
                row = before + int(empty.argmax()) + 1
                raise _cause(path, layout, numbers=False) or lanfit_error("labels.empty", file=path, row=row)
            codes[:, place] = np.array([places.setdefault(text, len(places)) for text in texts], np.int32)[found]
    codes = np.concatenate(blocks)
    if len(codes) != layout.rows:
        raise rows_differ(str(path), layout.rows, len(codes))
    texts, notes, header = [text.strip() for text in places], notes_of(layout), layout.names
    if header and not layout.numbering and is_row(header, ({texts[c] for c in np.unique(part)} for part in codes.T)):
        first = [places.setdefault(name, len(places)) for name in header]
        codes = np.concatenate([np.array([first], np.int32), codes])
        notes = (*notes, "the first line is read as a label, not as a header")
    labels = labels_of_texts(str(path), codes, list(places), layout.decimal, layout.thousands)
    return replace(labels, notes=notes + labels.notes, numbering=layout.numbering)


class _Bytes:
    """Bytes that pandas' parser takes as they are; it would first decode the bytes of an `io` object."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self.read = read

    def __iter__(self) -> Iterator[bytes]:
        """Exist, because pandas accepts only iterable objects as files; it calls `read`."""
        return iter(partial(self.read, BLOCK_VALUES), b"")

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> _Bytes:
        """Return a file that gives each text as a whole, although pandas asks for less."""
        given = filter(None, texts)
        return cls(lambda size: next(given, b""))


def _as_float32(layout: Layout, frame: Any) -> tuple[AnyArray, dict[int, tuple[int, int]]]:
    """Return a block of rows, and the integers in it that are equal in float32."""
    if layout.thousands:
        frame = frame.map(partial(_value, layout))
    exact = frame.to_numpy()
    with np.errstate(over="ignore"):  # 1e39 becomes inf, which the check of values reports
        return exact.astype(np.float32), merged_numbers(exact)


def _remembering(
    read: Callable[[], Iterator[tuple[AnyArray, dict[int, tuple[int, int]]]]], merged: dict[int, tuple[int, int]]
) -> Iterator[AnyArray]:
    """Yield the blocks; record the numbers that are equal in float32."""
    for block, found in read():
        for column, numbers in found.items():
            merged.setdefault(column, numbers)
        yield block


def _value(layout: Layout, cell: str) -> float:
    """Return the value of a number with thousands separators; pandas would remove them anywhere, as in 1,23."""
    if not is_number(cell, layout.decimal, layout.thousands):
        raise ValueError(f"{cell!r} is not a number")
    return float(to_number(cell, layout.decimal, layout.thousands))


def _blocks(path: Path, layout: Layout, dtype: type, take: Callable[[Any], T], *, numbers: bool = True) -> Iterator[T]:
    """Yield the result of `take` for blocks of rows, which pandas reads with cells of `dtype`.

    A plain file is parsed in several threads if there are several cores: pandas releases the GIL. (The threads of
    pandas 3.1 itself hold all rows of a file twice, and read only uncompressed files.)
    """
    parse = partial(_pandas(path).read_csv, **_options(layout, dtype))
    counted = None

    def taken(frame: Any) -> Any:
        if frame.shape[1] != layout.width:
            raise ValueError(f"the first line has {layout.width} cells, the next {frame.shape[1]}")
        return (frame[0], take(frame.drop(columns=0))) if layout.index else (None, take(frame))

    np.empty(
        LARGEST_FREED, np.uint8
    )  # else the memory of each chunk is returned and requested again, which takes 20 % of the time
    with _errors_named(path, layout, numbers=numbers), open_text(path, layout.encoding) as stream:
        stream.read(layout.start)
        if layout.plain:
            chunks = chunks_of(stream, layout, CHUNK_BYTES)
            blocks = ahead(lambda chunk: taken(parse(_Bytes.of(chunk))), chunks, CORES)
        else:
            blocks = map(taken, parse(_Bytes(stream.read), chunksize=max(1, BLOCK_VALUES // layout.width)))
        for index, block in blocks:
            if index is not None and len(index):
                if not counts_rows(index, counted):
                    raise lanfit_error("csv.unnamed-column", file=path, line=_line_of_header(path, layout), column=1)
                counted = int(index.iloc[-1]) + 1
            yield block


def _line_of_header(path: Path, layout: Layout) -> int:
    return next((line for line, _ in table_records(path, replace(layout, header=None))), 1)


def _options(layout: Layout, dtype: type) -> dict[str, Any]:
    """Return options for pandas, which must neither guess missing values nor use the first column as row names."""
    fixed = {"header": None, "index_col": False, "na_filter": False, "engine": "c", "low_memory": False}
    of_columns: Any = {column: str if layout.index and column == 0 else dtype for column in range(layout.width)}
    separator = r"\s+" if layout.separator == SPACES else layout.separator
    signs = {"sep": separator, "decimal": layout.decimal}
    return {**signs, **fixed, "dtype": of_columns if layout.index else dtype}


def notes_of(layout: Layout) -> tuple[str, ...]:
    """Return the peculiarities of a file, one sentence each."""
    notes = [f"read with {' and '.join(layout.notes)}"] if layout.notes else []
    if layout.encoding in ENCODINGS:
        notes.append(f"read as {ENCODINGS[layout.encoding]}")
    if layout.numbering == "names":
        notes.append(note_on_numbering(layout.width, names=True))
    if layout.index:
        notes.append(INDEX_NOTE)
    return tuple(notes)


def _pandas(path: Path) -> Any:
    try:
        import pandas
    except ImportError as error:
        raise lanfit_error("csv.no-pandas", file=path) from error
    return pandas


@contextmanager
def _errors_named(path: Path, layout: Layout | None = None, *, numbers: bool = True) -> Iterator[None]:
    """Convert exceptions of pandas and csv to an error that names line and column."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise (wrong_ending(path) or lanfit_error("csv.not-utf8", file=path)) from error
    except csv.Error as error:
        raise lanfit_error("csv.quotes", file=path, reason=error) from error
    except (ValueError, OverflowError) as error:
        if _OUT_OF_MEMORY in str(error):  # the parser's own words
            raise MemoryError from error
        raise _error(path, layout, error, numbers) from error


def _error(path: Path, layout: Layout | None, reason: Exception, numbers: bool) -> LanfitError:
    cause = _cause(path, layout, numbers) if layout else None
    return cause or lanfit_error("csv.unreadable", file=path, reason=str(reason).strip())


def _cause(path: Path, layout: Layout, numbers: bool) -> LanfitError | None:
    """Read the file slowly and return an error with the lines and columns that break the rules;

    None if there are none.
    """
    found: dict[int, Obstacle] = {}
    columns: list[list[str]] = [[] for _ in range(layout.width)]
    most = max(1000, MOST_CELLS // layout.width)
    try:
        for line, cells in table_records(path, layout):
            if len(cells) != layout.width:
                if found:
                    break
                return lanfit_error("csv.uneven-line", file=path, line=line, found=len(cells), expected=layout.width)
            if numbers and len(columns[0]) < most:
                for column, cell in zip(columns, cells, strict=True):
                    column.append(cell)
            elif found:
                break
            for place, cell in enumerate(cells):
                if (place == 0 and layout.index) or place in found:
                    continue
                if is_blank(cell) or (numbers and _is_wrong(cell, layout)):
                    found[place] = Obstacle(place, column_name(layout, place), f"line {line}", cell)
            if found and not numbers:
                break
    except UnicodeDecodeError:
        return wrong_ending(path) or lanfit_error("csv.not-utf8", file=path)
    except csv.Error as error:
        if not found:
            return lanfit_error("csv.quotes", file=path, reason=error)
    return _refusal(path, layout, list(found.values()), columns) if found else None  # else pandas' message


def _refusal(path: Path, layout: Layout, found: list[Obstacle], columns: list[list[str]]) -> LanfitError:
    """Return the error for a table; `found` has the first cell of each column that is not a number."""
    first = found[0]
    line = int(first.where.split()[1])
    grouped = [each for each in found if thousands_groups(each.cell)]
    doubted = [each for each in found if any(may_be_thousands(each.cell, sign) for sign in (",", "."))]
    if len(grouped) == len(found):
        return with_thousands(path, layout, line, first.column, first.cell)
    if len(doubted) == len(found):
        sign = "," if "," in first.cell else "."
        return ambiguous(path, layout, line, first.column, first.cell, sign)
    names, points = layout.header or [""] * layout.width, layout.separator != ","
    numbers_on_top = is_of_numbers(layout.header)
    if len(found) > 1 and columns[0]:
        shown = {each.column: columns[each.column] for each in found}
        return many_columns(
            path, found, names, shown, layout.width, header_of_numbers=numbers_on_top, points_may_group=points
        )
    way = (
        way_out(path, first, names, columns[first.column], points)
        if columns[0]
        else "Fill in the value, or remove the row"
    )
    if is_blank(first.cell):
        return lanfit_error("csv.empty-cell", file=path, line=line, column=first.name, way=way)
    cell = first.cell.strip()[:40]
    if is_missing(first.cell):
        return lanfit_error("csv.missing", file=path, line=line, column=first.name, cell=cell, way=way)
    return lanfit_error(
        "csv.not-a-number",
        file=path,
        line=line,
        column=first.name,
        cell=cell,
        names=lead_of(numbers_on_top),
        way=way
        if layout.decimal == "," or not is_number(first.cell, ",")
        else f"{way}. Use --decimal comma to read the comma as decimal separator",
    )


def _is_wrong(cell: str, layout: Layout) -> bool:
    return not is_number(cell, layout.decimal, layout.thousands) or cell.strip().lower().lstrip("+-") == "nan"
