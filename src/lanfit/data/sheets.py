"""Checks the archive of an xlsx file before it is read: sizes, damage, and facts that readers do not report.

A sheet's XML is only searched, never parsed, because it may be larger than memory.
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from lanfit.core.memory import readable_size
from lanfit.data.file_type import wrong_ending
from lanfit.errors import LanfitError, lanfit_error

MAX_RATIO = 100
#: The memory of a cell while it is read, and the most memory per byte of the decompressed file.
CELL_BYTES = 64
FACTOR = 8
WORKBOOK = "xl/workbook.xml"
RELATIONS = "xl/_rels/workbook.xml.rels"
SMALL = 4 << 20
"""The maximum size of the list of sheets."""
LAST_COLUMN = 16384
_CELL = re.compile(rb'r="([A-Z]{1,3})\d{1,7}"[^>/]*>')
_ROW = re.compile(rb'<row [^>]*?r="(\d{1,7})"')
_HIDDEN_ROW = re.compile(rb'<(?:\w+:)?row (?=[^>]*\bhidden="(?:1|true)")[^>]*?\br="(\d{1,7})"[^>]*(?<!/)>')
_HIDDEN_COLUMN = re.compile(rb'<(?:\w+:)?col (?=[^>]*\bhidden="(?:1|true)")[^>]*>')
_FORMULA = re.compile(
    rb"<(?:\w+:)?c ([^>/]*)><(?:\w+:)?f(?:/>|[ >][^<]*(?:</(?:\w+:)?f>|(?<=/>)))"
    rb"(?:<(?:\w+:)?v>([^<]*)</(?:\w+:)?v>|<(?:\w+:)?v\s*/>)?</(?:\w+:)?c>"
)
_PLACE = re.compile(rb'\br="([A-Z]{1,3}\d{1,7})"')
_TAIL = 16 << 10  # of a chunk, searched again with the next one: a formula of up to 8,192 characters may be cut
DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError,
    RuntimeError, SyntaxError, ArithmeticError,
)  # fmt: skip


@dataclass
class SheetFacts:
    """Facts in the XML of a sheet besides the values of its cells."""

    hidden_rows: set[int] = field(default_factory=set)
    """Numbers of hidden rows, from 1; rows without cells are not included."""
    hidden_columns: set[int] = field(default_factory=set)
    zero: str = ""
    """The first cell with a formula whose value is 0."""
    empty: str = ""
    """The first cell with a formula that has no value."""
    cells: int = 0
    """The size of the rectangle from A1 that contains all cells."""
    needed: int = 0
    """The estimated memory for reading the file, in bytes."""


def check_archive(path: Path) -> SheetFacts:
    """Return the extent of the cells; decompresses everything once, which checks sizes and checksums.

    A single cell in the last corner of a sheet takes a few bytes of XML, but makes a table of 17 billion cells.

    Raises:
        InputError: it is too large, or a formula in its first worksheet has no value.
    """
    from lanfit.data.chunks import free_if_less  # not at the top: reading cells needs no NumPy

    found: dict[str, SheetFacts] = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        size = sum(member.file_size for member in members)
        if size > MAX_RATIO * path.stat().st_size:
            raise lanfit_error("xlsx.bomb", file=path, ratio=MAX_RATIO)
        if free := free_if_less(needed := size * FACTOR):
            raise lanfit_error(
                "xlsx.larger-than-memory",
                file=path,
                unpacked=readable_size(size),
                factor=FACTOR,
                size=readable_size(needed),
                free=free,
            )
        for member in members:
            facts = _look_through(archive, member, path)
            if member.filename.startswith("xl/worksheets/") and member.filename.endswith(".xml"):
                found[member.filename] = facts
        facts = found.get(_first_worksheet(archive, set(found)), SheetFacts())
        _check_formulas(archive, path, facts)
        facts.needed = size * FACTOR + max((each.cells for each in found.values()), default=0) * CELL_BYTES
    return facts


def column_letters(column: int) -> str:
    """Return the name of a column (from 0) in a sheet: A, …, Z, AA, …"""
    letters = ""
    column += 1
    while column:
        column, digit = divmod(column - 1, 26)
        letters = chr(ord("A") + digit) + letters
    return letters


@contextmanager
def damage_named(path: Path) -> Iterator[None]:
    """Convert exceptions of zipfile, its decompressors and the readers to an error that names the damaged file."""
    try:
        yield
    except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
        from lanfit.data.chunks import unreadable

        raise unreadable(path, error) from error
    except (OSError, *DAMAGED) as error:
        raise damaged(path, error) from error


def damaged(path: Path, reason: Exception) -> LanfitError:
    """Return the error for a damaged sheet."""
    return wrong_ending(path) or lanfit_error("xlsx.damaged", file=path, reason=str(reason) or type(reason).__name__)


def _look_through(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path) -> SheetFacts:
    from lanfit.data.chunks import free_if_less

    reach, tail, facts = [0, 0], b"", SheetFacts()
    with archive.open(member) as stream:
        while chunk := stream.read(1 << 20):
            if b"<!DOCTYPE" in chunk and member.filename.endswith((".xml", ".rels")):
                raise ValueError("it defines a document type, which no sheet does")  # entities can be bombs
            if member.filename.startswith("xl/worksheets/"):
                chunk = tail + chunk
                tail = chunk[-_TAIL:]
                reach = [max(pair) for pair in zip(reach, _reach(chunk), strict=True)]
                _note_facts(chunk, facts)
    cells = reach[0] * reach[1]
    if free := free_if_less(needed := cells * CELL_BYTES):
        raise lanfit_error(
            "xlsx.stray-cell",
            file=path,
            sheet=member.filename,
            last=f"{column_letters(reach[1] - 1)}{reach[0]}",
            cells=cells,
            size=readable_size(needed),
            free=free,
        )
    facts.cells = cells
    return facts


def _note_facts(xml: bytes, facts: SheetFacts) -> None:
    facts.hidden_rows.update(map(int, _HIDDEN_ROW.findall(xml)))
    for tag in _HIDDEN_COLUMN.findall(xml):
        ends = [re.search(rb'\b%s="(\d{1,5})"' % name, tag) for name in (b"min", b"max")]
        if all(ends):
            first, last = (int(end[1]) for end in ends if end)
            facts.hidden_columns.update(range(first, min(last, LAST_COLUMN) + 1))
    if (facts.zero and facts.empty) or not (b"<f" in xml or b":f" in xml):
        return
    for attributes, value in _FORMULA.findall(xml):
        place = _PLACE.search(attributes)
        if place is None or b't="str"' in attributes:  # a formula may give an empty text
            continue
        if not value.strip():
            facts.empty = facts.empty or place[1].decode()
        elif value.strip() in (b"0", b"0.0"):
            facts.zero = facts.zero or place[1].decode()


def _check_formulas(archive: zipfile.ZipFile, path: Path, facts: SheetFacts) -> None:
    """Reject formulas without a value; and those with value 0 in a file whose formulas were never computed."""
    never = facts.empty
    if facts.zero and not never:
        workbook = archive.read(WORKBOOK)[:SMALL] if WORKBOOK in archive.namelist() else b""
        if re.search(rb'\bfullCalcOnLoad="(?:1|true)"', workbook):
            never = facts.zero
    if never:
        raise lanfit_error("xlsx.not-computed", file=path, cell=never)


def _first_worksheet(archive: zipfile.ZipFile, sheets: set[str]) -> str:
    """Return the archive member of the first worksheet, which is a sheet with cells, not only a chart."""
    names = set(archive.namelist())
    if not {WORKBOOK, RELATIONS} <= names:
        return min(sheets) if len(sheets) == 1 else ""
    targets = {}
    for relation in ElementTree.fromstring(archive.read(RELATIONS)[:SMALL]):
        target = relation.get("Target", "")
        targets[relation.get("Id")] = target[1:] if target.startswith("/") else f"xl/{target}"
    for element in ElementTree.fromstring(archive.read(WORKBOOK)[:SMALL]).iter():
        if element.tag.endswith("}sheet"):
            number = next((value for name, value in element.items() if name.endswith("}id")), None)
            if targets.get(number) in sheets:
                return targets[number]
    return ""


def _reach(xml: bytes) -> tuple[int, int]:
    """Return the last row and the last column, from 1, of the cells in a chunk of a sheet; 0 without any."""
    columns = {column.rjust(3) for column in set(_CELL.findall(xml))}
    letters = max(columns, default=b"")
    column = 0
    for letter in letters.strip():
        column = column * 26 + letter - ord("A") + 1
    return max(map(int, _ROW.findall(xml)), default=0), column
