"""What csv files and sheets have in common: which cells are numbers, and whether the first line names the columns."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence

#: Cells that make a first line data although they are no numbers: were it taken for a header, a row would be lost.
_NO_NAMES = frozenset({"", "na", "n/a", "nan", "-nan", "<na>", "#n/a", "null", "none", "true", "false"})
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE | re.ASCII)
_BLANKS = " \t\r\n"


def is_number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell reads as a number, with the given decimal separator and none for thousands."""
    text = cell.strip(_BLANKS)
    if decimal != ".":
        if "." in text:
            return False
        text = text.replace(decimal, ".")
    return _NUMBER.fullmatch(text) is not None


def to_number(cell: str, decimal: str = ".") -> int | float:
    """The value of a cell that `is_number`: int when it is written as one and fits 64 bits."""
    text = cell.strip(_BLANKS).replace(decimal, ".")
    try:
        number = int(text)
    except ValueError:
        return float(text)
    return number if -(2**63) <= number < 2**63 else float(text)


def is_header(cells: Sequence[str]) -> bool:
    """Whether a first line names the columns: one of its cells has a letter or no digit, and is no value."""
    return any(_is_name(cell.strip(_BLANKS)) for cell in cells)


def is_row(header: Sequence[str], columns: Iterable[Container[str]]) -> bool:
    """Whether what reads like a header is a row of labels: each of its cells stands again in its column."""
    return all(name in column for name, column in zip(header, columns, strict=True))


def unnamed_column(names: Sequence[str]) -> int | None:
    """The first column (from 1) of a header that has no name: an index, or cells that were merged."""
    return next((number for number, name in enumerate(names, 1) if not name.strip(_BLANKS)), None)


def is_blank(cell: str) -> bool:
    """Whether a cell holds nothing."""
    return not cell.strip(_BLANKS)


def _is_name(cell: str) -> bool:
    if cell.lower() in _NO_NAMES or is_number(cell) or is_number(cell, ","):
        return False
    return any(map(str.isalpha, cell)) or not any(map(str.isdigit, cell))
