"""Detects the layout of a csv file: encoding, separator, signs in numbers, header, rows. Reads every byte once.

The rules depend on the file alone, so that it is always read in the same way. An ambiguous file is rejected with a hint
at the flag that decides.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from lanfit.core.memory import readable_size
from lanfit.data.compressed import open_bytes
from lanfit.data.tables import (
    FOUND_OUT,
    SAMPLE,
    Signs,
    counts_rows,
    is_header,
    is_number,
    is_numbering,
    may_be_thousands,
    numbering_names,
    sign_name,
    thousands_groups,
    to_number,
    unnamed_column,
)
from lanfit.errors import LanfitError, lanfit_error

SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas", "|": "bars"}
"""The separators in the order of detection: a comma may be a decimal sign in a file with another separator."""
SPACES = " "
"""Any number of blanks: `numpy.savetxt` writes one between numbers."""
ENCODINGS = {"utf-16": "UTF-16", "cp1252": "Windows-1252, as it is not valid UTF-8"}
CHUNK = 1 << 20
MAX_LINE = 64 << 20
_BLANK = re.compile(rb"\n[ \t]*\n")
_SIGNS = frozenset({b",", b".", b'"'})
#: The values of a grey image of 512 × 512 pixels; reading more as text takes minutes.
MOST_COLUMNS = 1 << 18
_BOM = b"\xef\xbb\xbf"
#: A line that Excel writes and reads above the table: it names the separator.
_SEP = re.compile(r'"?sep=([\t;,|:])"?[\t;,|:]*\r?\n?', re.IGNORECASE)


@dataclass(frozen=True)
class Layout:
    """How a csv file is read."""

    separator: str
    """A sign, or " " for any number of blanks."""
    decimal: str
    header: tuple[str, ...] | None
    start: int
    """Bytes before the first line of data, in UTF-8."""
    width: int
    """The number of cells of a line, including an index that is left out."""
    rows: int
    """The number of lines with data."""
    plain: bool
    """Whether there are neither quotes nor old line ends, so that every line end ends a row."""
    encoding: str = "utf-8"
    thousands: str = ""
    skipped: int = 0
    """The number of lines before the table."""
    index: bool = False
    """Whether the first column has no name and counts rows, so it is left out."""
    numbering: str = ""
    """How a first line 0, 1, … was read: as "names" or as a "row"; empty if there is none."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on its peculiarities, which follow "read with "."""
        found = []
        if self.separator != "," and self.width > 1:
            found.append(f"{SEPARATORS.get(self.separator, 'blanks')} between the cells")
        if self.decimal == ",":
            found.append("decimal commas")
        if self.thousands:
            found.append({",": "commas", ".": "points"}.get(self.thousands, "spaces") + " between thousands")
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The header, without the index."""
        return self.header[1:] if self.header and self.index else self.header


def find_layout(path: Path, signs: Signs = FOUND_OUT, numbering: str = "", *, as_text: bool = False) -> Layout:
    """Read the first two lines for separator and header, and all bytes for the number of lines and the signs.

    The separator is the one that a line `sep=` names, or the first of tab, semicolon, comma and bar that splits the
    first two lines into the same number of cells, at least two, or blanks between numbers; a first line without any of
    them means one column. A comma that is not the separator is the decimal sign if there are commas and no points, and
    at least one comma can't separate thousands.

    Args:
        signs: how numbers are written, if the user specified it.
        numbering: what a first line 0, 1, … is: "names" or "row"; empty: it is detected.
        as_text: cells stay text, so that columns may be unnamed and signs are not detected.

    Raises:
        InputError: no rows, no text, a line without end, a column without name, numbers that can be read in two ways,
            or it can't be read.
        UnicodeDecodeError, csv.Error: neither UTF-8, UTF-16 nor Windows-1252; quotes without end.
    """
    with open_bytes(path) as stream:
        start = stream.peek(4)[:4]
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) and not start.startswith(codecs.BOM_UTF32_LE):
        return _find(path, "utf-16", signs, numbering, as_text)
    try:
        return _find(path, "utf-8", signs, numbering, as_text)
    except UnicodeDecodeError:
        if start.startswith(_BOM):
            raise
        return _find(path, "cp1252", signs, numbering, as_text)


@contextmanager
def open_text(path: Path, encoding: str) -> Iterator[io.BufferedReader]:
    """Open a text file, decompressed if necessary, as a stream of UTF-8."""
    with open_bytes(path) as stream:
        yield stream if encoding == "utf-8" else io.BufferedReader(_Recoded(stream, encoding), 1 << 18)


def chunks_of(stream: io.BufferedReader, layout: Layout, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the rest of a plain file in chunks of about `size` bytes, each of whole lines, without blank chunks.

    A chunk has two parts, the bytes that were read and the rest of the last line, so that nothing large is copied.
    """
    blanks = _blanks(layout.separator) + b"\r\n"
    while chunk := stream.read(size):
        rest = stream.readline()
        # The first byte mostly decides; stripping would copy.
        if chunk[:1].strip(blanks) or chunk.strip(blanks) or rest.strip(blanks):
            yield chunk, rest


def text_of(stream: io.BufferedReader) -> TextIO:
    """Return the text in a stream of UTF-8, line ends as they are."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def records(lines: Iterator[str], separator: str, first: int = 0) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every line that is not blank, and its number (of the last line, if quotes span several).

    Args:
        first: the number of lines before the table, which are skipped.
    """
    for _ in range(first):
        next(lines, None)
    if separator == SPACES:
        lines = (line.rstrip(" \t\r\n") for line in lines)
        reader = csv.reader(lines, delimiter=" ", skipinitialspace=True, strict=True)
    else:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    return ((reader.line_num + first, cells) for cells in reader if not _blank(cells))


def table_records(path: Path, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of every row as text, including the index, and the number of the line."""
    with open_text(path, layout.encoding) as stream:
        lines = records(bounded_lines(path, text_of(stream)), layout.separator, layout.skipped)
        if layout.header is not None:
            next(lines, None)
        yield from lines


def bounded_lines(path: Path, text: TextIO) -> Iterator[str]:
    """Yield the lines of a file's text; raise an error for an endless one, which would take all memory."""
    for line in iter(lambda: text.readline(MAX_LINE + 1), ""):
        if len(line) > MAX_LINE:
            raise _endless(path)
        yield line


class _Recoded(io.RawIOBase):
    """A stream of another encoding, as UTF-8."""

    def __init__(self, stream: io.BufferedReader, encoding: str) -> None:
        self._stream, self._decoder, self._left = stream, codecs.getincrementaldecoder(encoding)(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            data = self._stream.read(1 << 16)
            self._left = self._decoder.decode(data, final=not data).encode()
            if not data:
                break
        given, self._left = self._left[: len(buffer)], self._left[len(buffer) :]
        buffer[: len(given)] = given
        return len(given)


def _find(path: Path, encoding: str, signs: Signs, numbering: str, as_text: bool) -> Layout:
    with open_text(path, encoding) as stream:
        layout = _read_head(path, stream, signs, numbering, encoding, as_text)
    with open_text(path, encoding) as stream:
        stream.read(layout.start)
        rows, seen = _count(path, stream, _blanks(layout.separator))
    if rows == 0 or layout.width == 0:
        raise lanfit_error("csv.no-rows", file=path)
    layout = replace(layout, rows=rows, plain=not seen & {b'"', b"\r"})
    if as_text:
        return layout
    if signs.decimal:
        return replace(layout, decimal=signs.decimal, thousands=signs.thousands or "")
    if layout.separator == "," or not seen & {b",", b"."}:
        return replace(layout, thousands=signs.thousands or "")
    if {b",", b"."} <= seen:
        return replace(layout, thousands=signs.thousands or "")
    sign = "," if b"," in seen else "."
    is_decimal = signs.thousands is not None or _is_decimal(path, layout, sign)
    return replace(layout, decimal="," if sign == "," and is_decimal else ".", thousands=signs.thousands or "")


def _is_decimal(path: Path, layout: Layout, sign: str) -> bool:
    """Return whether the only sign in a file's numbers is its decimal sign; False if no number has it.

    Raises:
        InputError: it separates thousands, or its meaning is ambiguous.
    """
    first: dict[int, tuple[int, str]] = {}
    whole: set[int] = set()
    for line, cells in table_records(path, layout):
        for column, cell in enumerate(cells[: layout.width]):
            if sign not in cell:
                if sign == "." and column not in whole and is_number(cell):
                    whole.add(column)
            elif is_number(cell, sign):
                if not may_be_thousands(cell, sign):
                    return True
                first.setdefault(column, (line, cell))
            elif thousands_groups(cell) == sign:
                raise with_thousands(path, layout, line, column, cell)
    # Three decimals everywhere are common with a decimal point, but not in a column with integers.
    doubted = [column for column in first if sign == "," or column in whole]
    if not doubted:
        return bool(first)
    line, cell = first[doubted[0]]
    raise ambiguous(path, layout, line, doubted[0], cell, sign)


def ambiguous(path: Path, layout: Layout, line: int, column: int, cell: str, sign: str) -> LanfitError:
    """Return the error for a number in which a sign may separate decimals or thousands."""
    return lanfit_error(
        "csv.ambiguous",
        file=path,
        line=line,
        column=column_name(layout, column),
        cell=cell.strip(),
        one=to_number(cell, sign),
        other=to_number(cell, "." if sign == "," else ",", sign),
        sign=sign_name(sign),
    )


def with_thousands(path: Path, layout: Layout, line: int, column: int, cell: str) -> LanfitError:
    """Return the error for a number with thousands separators that were not specified."""
    return lanfit_error(
        "csv.thousands",
        file=path,
        line=line,
        column=column_name(layout, column),
        cell=cell.strip()[:40],
        sign=sign_name(thousands_groups(cell)),
    )


def column_name(layout: Layout, column: int) -> str:
    """Return how messages call a column (from 0)."""
    return str(column + 1) if layout.header is None else f'"{layout.header[column]}"'


def _read_head(
    path: Path, stream: io.BufferedReader, signs: Signs, numbering: str, encoding: str, as_text: bool
) -> Layout:
    """Return the layout without the number of rows and the signs."""
    bom = len(_BOM) if stream.peek(len(_BOM)).startswith(_BOM) else 0
    seen: list[str] = []
    rest = bounded_lines(path, text_of(stream))

    def lines() -> Iterator[str]:
        yield from seen
        for line in rest:
            seen.append(line)
            yield line

    named = _SEP.fullmatch(next(lines(), ""))
    skipped = 1 if named else 0
    if named:
        separator, head = named[1], list(islice(records(lines(), named[1], 1), 2))
    else:
        separator, head = _choose(lines, signs)
    start = bom + sum(len(text.encode()) for text in seen[:skipped])
    if not head:
        return Layout(separator, ".", None, start, 0, 0, plain=True, encoding=encoding, skipped=skipped)
    (line, cells), width = head[0], len(head[0][1])
    if width > MOST_COLUMNS:
        raise lanfit_error("csv.many-columns", file=path, line=line, width=width, most=MOST_COLUMNS)
    layout = Layout(separator, ".", None, start, width, 0, plain=True, encoding=encoding, skipped=skipped)
    below = (row for _, row in islice(records(lines(), separator, skipped), 1, SAMPLE + 1))
    if is_numbering(cells):
        index = not cells[0].strip()
        if not numbering:
            given = [cell for row in below for cell in row[index:]]
            numbering = "names" if index or numbering_names(width, given) else "row"
        layout = replace(layout, numbering="" if index else numbering)
        if numbering == "row" and not index:
            return layout
    elif not is_header(cells):
        return layout
    names = tuple(cell.strip() for cell in cells)
    layout = replace(layout, header=names, start=bom + sum(len(text.encode()) for text in seen[:line]))
    unnamed = unnamed_column(names)
    index = unnamed == 1 or names[0] == "Unnamed: 0"
    if index and width > 1 and unnamed_column(names[1:]) is None:
        below = (row for _, row in islice(records(lines(), separator, skipped), 1, SAMPLE + 1))
        if counts_rows(row[0] for row in below):
            return replace(layout, index=True)
    if unnamed and not as_text:
        raise lanfit_error("csv.unnamed-column", file=path, line=line, column=unnamed)
    return layout


def _choose(lines: Callable[[], Iterator[str]], signs: Signs) -> tuple[str, list[tuple[int, list[str]]]]:
    """Return the separator, and the first two lines as it splits them."""
    heads: dict[str, list[tuple[int, list[str]]]] = {}
    for separator in SEPARATORS:
        try:
            heads[separator] = head = list(islice(records(lines(), separator), 2))
        except csv.Error:
            if separator == ",":
                raise
            continue
        widths = {len(cells) for _, cells in head}
        if separator == "," and signs.commas and not _cut_by_commas(head, lines):
            continue
        if len(widths) == 1 and widths != {1}:
            return separator, head
    if not heads[","]:
        return ",", []
    blanks = [] if signs.thousands == " " else _cut_by_blanks(lines)
    if blanks:
        return SPACES, blanks
    found = {separator: head for separator, head in heads.items() if separator != "|" and head}
    separator = ";" if signs.commas and ";" in found else max(reversed(found), key=lambda s: len(found[s][0][1]))
    if len(found[separator][0][1]) == 1 and ";" in found:
        separator = ";"
    return separator, found[separator]


def _cut_by_commas(head: list[tuple[int, list[str]]], lines: Callable[[], Iterator[str]]) -> bool:
    """Return whether commas separate cells although they are specified in numbers: below a header, or around quotes."""
    return bool(head) and (is_header(head[0][1]) or any('"' in line for line in islice(lines(), 2)))


def _cut_by_blanks(lines: Callable[[], Iterator[str]]) -> list[tuple[int, list[str]]]:
    """Return the first two lines split by blanks, if they have the same number of cells and the second has numbers."""
    try:
        head = list(islice(records(lines(), SPACES), 2))
    except csv.Error:
        return []
    if len({len(cells) for _, cells in head}) != 1 or len(head[-1][1]) < 2 or not all(map(is_number, head[-1][1])):
        return []
    if all(thousands_groups(" ".join(cells)) for _, cells in head):  # 1 200 is a number, or two
        return []
    return head


def _blanks(separator: str) -> bytes:
    """Return the characters of a blank line."""
    return b" " if separator == "\t" else b" \t"


def _count(path: Path, stream: io.BufferedReader, blanks: bytes) -> tuple[int, set[bytes]]:
    """Count lines that are not blank; also return which occur of comma, point, quote, and line ends of \\r alone.

    Raises:
        UnicodeDecodeError: the file is not UTF-8.
    """
    rows, rest, seen = 0, b"", set[bytes]()
    decoder = codecs.getincrementaldecoder("utf-8")()
    while True:
        chunk = stream.read(CHUNK)
        if b"\0" in chunk:
            raise lanfit_error("csv.not-text", file=path)
        if not chunk.isascii() or decoder.getstate()[0] or not chunk:
            decoder.decode(chunk, final=not chunk)
        seen |= {sign for sign in _SIGNS - seen if sign in chunk}
        if b"\r" in chunk:  # \r\n cut in two by a block makes a blank line, which is not counted
            chunk = chunk.replace(b"\r\n", b"\n")
            if chunk.find(b"\r", 0, len(chunk) - 1) >= 0:
                seen.add(b"\r")
            chunk = chunk.replace(b"\r", b"\n")
        first, last = chunk.find(b"\n"), chunk.rfind(b"\n")
        if first < 0:
            rest += chunk
        else:
            rows += bool((rest + chunk[:first]).strip(blanks)) + _not_blank(chunk, first, last, blanks)
            rest = chunk[last + 1 :]
        if len(rest) > MAX_LINE:
            raise _endless(path)
        if not chunk:
            return rows + bool(rest.strip(blanks)), seen


def _not_blank(text: bytes, first: int, last: int, blanks: bytes) -> int:
    """Return how many lines between two line ends are not blank; check first whether any is, because that is rare."""
    signs = np.frombuffer(text, np.uint8, last - first + 1, first)
    ends = np.flatnonzero(signs == ord("\n"))  # three times as fast as bytes.count
    if (signs[ends[:-1] + 1] <= ord(" ")).any() and _BLANK.search(text, first, last + 1):
        return sum(bool(line.strip(blanks)) for line in text[first + 1 : last].split(b"\n"))
    return len(ends) - 1


def _blank(cells: list[str]) -> bool:
    return not cells or (len(cells) == 1 and not cells[0].strip(" \t"))


def _endless(path: Path) -> LanfitError:
    return lanfit_error("csv.endless-line", file=path, size=readable_size(MAX_LINE))
