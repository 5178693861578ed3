"""Finds out how a csv file is laid out: separator, decimal sign, header, rows; reads every byte once and no number.

The rules look at the file alone and never at chance, so that a file is always read in the same way.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np

from lanfit.data.compressed import open_bytes
from lanfit.data.memory import readable_size
from lanfit.data.tables import is_header, unnamed_column
from lanfit.errors import LanfitError
from lanfit.mistakes import mistake

SEPARATORS = {"\t": "tabs", ";": "semicolons", ",": "commas"}
"""In the order in which they are tried: a comma may be a decimal sign in a file separated by the others."""
CHUNK = 1 << 20
MAX_LINE = 64 << 20
_BLANK = re.compile(rb"\n[ \t]*\n")
_SIGNS = frozenset({b",", b".", b'"'})
_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Layout:
    """How a csv file is read."""

    separator: str
    decimal: str
    header: tuple[str, ...] | None
    start: int
    """Bytes before the first line of data."""
    width: int
    rows: int
    """Lines of data that are not blank."""
    plain: bool
    """Neither quotes nor line ends of old systems: every line end ends a row."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What is unusual about it, to be said behind "read with "."""
        found = [f"{SEPARATORS[self.separator]} between the cells"] if self.separator != "," and self.width > 1 else []
        return (*found, "decimal commas") if self.decimal == "," else tuple(found)


def find_layout(path: Path) -> Layout:
    """Read the first two lines for separator and header, and all bytes for the number of lines and the decimal sign.

    The separator is the first of tab, semicolon and comma that cuts both lines into the same number of cells, at least
    two; a first line without any of them is a file of one column. Where the comma does not separate, it is the decimal
    sign if there are commas and no points.

    Raises:
        InputError: no rows, no text, a line without end, a column without name, or it can't be read.
        UnicodeDecodeError, csv.Error: not UTF-8, quotes without end.
    """
    with open_bytes(path) as stream:
        separator, header, start, width = _read_head(path, stream)
    with open_bytes(path) as stream:
        stream.read(start)
        rows, seen = _count(path, stream, _blanks(separator))
    if rows == 0 or width == 0:
        raise mistake("csv.no-rows", file=path)
    decimal = "," if separator != "," and b"," in seen and b"." not in seen else "."
    return Layout(separator, decimal, header, start, width, rows, plain=not seen & {b'"', b"\r"})


def pieces_of(stream: io.BufferedReader, layout: Layout, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Cut what is left of a plain file into pieces of some `size` bytes, each of whole lines, and none of blank ones.

    A piece is given in two parts, what was read and the rest of its last line, so that nothing large is copied.
    """
    blanks = _blanks(layout.separator) + b"\r\n"
    while chunk := stream.read(size):
        rest = stream.readline()
        # Mostly the first byte tells; stripping copies.
        if chunk[:1].strip(blanks) or chunk.strip(blanks) or rest.strip(blanks):
            yield chunk, rest


def text_of(stream: io.BufferedReader) -> TextIO:
    """The text in a stream of bytes, line ends as they are."""
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def records(lines: Iterator[str], separator: str) -> Iterator[tuple[int, list[str]]]:
    """Cells of every line that is not blank, and the number of the line (of its last, if quotes go over several)."""
    reader = csv.reader(lines, delimiter=separator, strict=True)
    return ((reader.line_num, cells) for cells in reader if not _blank(cells))


def bounded_lines(path: Path, text: TextIO) -> Iterator[str]:
    """The lines of a file's text; an endless one is an error instead of all the memory."""
    for line in iter(lambda: text.readline(MAX_LINE + 1), ""):
        if len(line) > MAX_LINE:
            raise _endless(path)
        yield line


def _read_head(path: Path, stream: io.BufferedReader) -> tuple[str, tuple[str, ...] | None, int, int]:
    """Separator, header, bytes before the data, and number of columns."""
    bom = len(_BOM) if stream.peek(len(_BOM)).startswith(_BOM) else 0
    seen: list[str] = []
    rest = bounded_lines(path, text_of(stream))

    def lines() -> Iterator[str]:
        yield from seen
        for line in rest:
            seen.append(line)
            yield line

    separator, first = _choose(lines)
    if first is None:
        return separator, None, bom, 0
    line, cells = first
    if not is_header(cells):
        return separator, None, bom, len(cells)
    if unnamed := unnamed_column(cells):
        raise mistake("csv.unnamed-column", file=path, line=line, column=unnamed)
    start = bom + sum(len(text.encode()) for text in seen[:line])
    return separator, tuple(cell.strip() for cell in cells), start, len(cells)


def _choose(lines: Callable[[], Iterator[str]]) -> tuple[str, tuple[int, list[str]] | None]:
    """The separator, and the first line as it cuts it."""
    heads: dict[str, list[tuple[int, list[str]]]] = {}
    for separator in SEPARATORS:
        try:
            heads[separator] = head = list(islice(records(lines(), separator), 2))
        except csv.Error:
            if separator == ",":
                raise
            continue
        widths = {len(cells) for _, cells in head}
        if len(widths) == 1 and widths != {1}:
            return separator, head[0]
    if not heads[","]:
        return ",", None
    separator = max(reversed(heads), key=lambda s: len(heads[s][0][1]))
    if len(heads[separator][0][1]) == 1 and ";" in heads:
        separator = ";"
    return separator, heads[separator][0]


def _blanks(separator: str) -> bytes:
    """What a blank line may hold."""
    return b" " if separator == "\t" else b" \t"


def _count(path: Path, stream: io.BufferedReader, blanks: bytes) -> tuple[int, set[bytes]]:
    """Lines that are not blank; and which there are of comma, point, quote, and line ends of \\r alone."""
    rows, rest, seen = 0, b"", set[bytes]()
    while True:
        chunk = stream.read(CHUNK)
        if b"\0" in chunk:
            raise mistake("csv.not-text", file=path)
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
    """How many lines between two line ends are not blank. Blank ones are rare, so first it is asked if there is one."""
    signs = np.frombuffer(text, np.uint8, last - first + 1, first)
    ends = np.flatnonzero(signs == ord("\n"))  # three times as fast as bytes.count
    if (signs[ends[:-1] + 1] <= ord(" ")).any() and _BLANK.search(text, first, last + 1):
        return sum(bool(line.strip(blanks)) for line in text[first + 1 : last].split(b"\n"))
    return len(ends) - 1


def _blank(cells: list[str]) -> bool:
    return not cells or (len(cells) == 1 and not cells[0].strip(" \t"))


def _endless(path: Path) -> LanfitError:
    return mistake("csv.endless-line", file=path, size=readable_size(MAX_LINE))
