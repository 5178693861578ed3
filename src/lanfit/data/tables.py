"""What csv files and sheets have in common: which cells are numbers, and whether the first line names the columns."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

#: Cells that mark missing values.
MISSING = frozenset(
    {"", "na", "n/a", "n.a.", "nan", "-nan", "<na>", "null", "none", "?", "-", "--", ".", "..", "*", "\u2013", "\u2014"}
    | {"#n/a", "#num!", "#value!", "#div/0!", "#ref!", "#name?", "#null!"}
)
#: Cells that make a first line data although they are not numbers: as a header, the row would be lost.
_NO_NAMES = MISSING | {"true", "false"}
_NUMBER = re.compile(r"[+-]?(?:(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|inf(?:inity)?|nan)", re.IGNORECASE | re.ASCII)
_WHOLE = re.compile(r"[+-]?\d+", re.ASCII)
_BLANKS = " \t\r\n"
#: Spaces between thousands: French spreadsheets write a non-breaking one.
SPACES = " \u00a0\u202f"
#: The names of signs in flags and job files.
DECIMALS = {"point": ".", "comma": ","}
THOUSANDS = {"comma": ",", "point": ".", "space": " ", "none": ""}
#: The number of rows that are examined to decide what the first line is.
SAMPLE = 1000
INDEX_NOTE = "the first column has no name and numbers the rows: it is an index and is left out"
_NAME_OF_SIGN = {sign: name for name, sign in THOUSANDS.items() if sign}


@dataclass(frozen=True)
class Signs:
    """How numbers in text files are written, as specified by the user; None: detected."""

    decimal: str | None = None
    """The sign itself: "." or ","."""
    thousands: str | None = None
    """The sign itself; empty if there is none."""

    @classmethod
    def named(cls, decimal: str | None, thousands: str | None) -> Signs:
        """Return the signs by their names in `DECIMALS` and `THOUSANDS`.

        One may imply the other, because they differ.
        """
        found = None if decimal is None else DECIMALS[decimal]
        between = None if thousands is None else THOUSANDS[thousands]
        if found is None and between in (",", "."):
            found = "." if between == "," else ","
        return cls(found, between)

    @property
    def commas(self) -> bool:
        """Whether the user specified commas in numbers."""
        return "," in (self.decimal, self.thousands)


FOUND_OUT = Signs()


def sign_name(sign: str) -> str:
    """Return the name of a sign in flags."""
    return _NAME_OF_SIGN[sign]


def is_number(cell: str, decimal: str = ".", thousands: str = "") -> bool:
    """Return whether a cell reads as a number, with the given decimal sign and thousands separator."""
    text = without_thousands(cell, decimal, thousands)
    if text is None:
        return False
    if decimal != ".":
        if "." in text:
            return False
        text = text.replace(decimal, ".")
    return _NUMBER.fullmatch(text) is not None


def to_number(cell: str, decimal: str = ".", thousands: str = "") -> int | float:
    """Return the value of a cell that `is_number`: int when it is written as one and fits 64 bits."""
    text = (without_thousands(cell, decimal, thousands) or "").replace(decimal, ".")
    try:
        number = int(text)
    except ValueError:
        return float(text)
    return number if -(2**63) <= number < 2**63 else float(text)


def without_thousands(cell: str, decimal: str, thousands: str) -> str | None:
    """Return a number without its thousands separators; None if one is in a wrong place: 1,23 or 1,,234."""
    text = cell.strip(_BLANKS)
    if not thousands:
        return text
    if thousands == " ":
        for space in SPACES[1:]:
            text = text.replace(space, " ")
    whole, sign, rest = text.partition(decimal)
    if thousands in rest:
        return None
    if thousands in whole:
        groups = whole.lstrip("+-").split(thousands)
        if not (1 <= len(groups[0]) <= 3 and all(len(group) == 3 for group in groups[1:])):
            return None
        if not all(group.isascii() and group.isdecimal() for group in groups):
            return None
    return whole.replace(thousands, "") + sign + rest


def thousands_groups(cell: str) -> str:
    """Return the sign in a cell that must separate thousands, as in 1,234,567 or 1.234,5; empty if there is none."""
    text = cell.strip(_BLANKS)
    for space in SPACES[1:]:
        text = text.replace(space, " ")
    for sign, decimal in ((",", "."), (".", ","), (" ", "."), (" ", ",")):
        plain = without_thousands(text, decimal, sign)
        if plain is None or not is_number(plain, decimal):
            continue
        whole, point, _ = text.partition(decimal)
        if whole.count(sign) > 1 or (whole.count(sign) and (point or sign == " ")):
            return sign
    return ""


def may_be_thousands(cell: str, sign: str) -> bool:
    """Return whether a sign in a number may separate thousands or decimals: 1,234 but neither 0,123 nor 12,5."""
    return re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}{re.escape(sign)}\d{{3}}", cell.strip(_BLANKS), re.ASCII) is not None


def is_missing(cell: str) -> bool:
    """Return whether a cell marks a missing value."""
    return cell.strip().lower() in MISSING


def is_header(cells: Sequence[str]) -> bool:
    """Return whether a first line is a header: one of its cells has a letter or no digit, and is not a value."""
    return any(_is_name(cell.strip(_BLANKS)) for cell in cells)


def is_numbering(cells: Sequence[str]) -> bool:
    """Return whether a first line is 0, 1, 2, …, perhaps after an index: the column numbers that pandas writes."""
    texts = [cell.strip(_BLANKS) for cell in cells]
    texts = texts[1:] if texts and not texts[0] else texts
    return bool(texts) and texts == [str(number) for number in range(len(texts))]


def numbering_names(width: int, cells: Iterable[str]) -> bool:
    """Return whether a first line 0, 1, … is a header, judging by the `cells` below it; else it may be a row.

    pandas writes a number that is not an integer with a point. A single 0 may also be a label, and 0 and 1 a row of
    booleans, so they are a header only above cells of another kind.
    """
    if width > 2:
        return True
    texts = {cell.strip(_BLANKS) for cell in cells}
    if not any(_WHOLE.fullmatch(text) for text in texts):
        return bool(texts)
    return width == 2 and not texts <= {"0", "1"}


def note_on_numbering(width: int, *, names: bool) -> str:
    """Return the note on a first line 0, 1, …: how it was read."""
    shown = ", ".join(map(str, range(min(width, 3)))) + (", …" if width > 3 else "")
    return (
        f"the first line, {shown}, is read as column numbers written by pandas, not as a row"
        if names
        else f"the first line, {shown}, is read as a row, not as column numbers"
    )


def counts_rows(cells: Iterable[str], start: int | None = None) -> bool:
    """Return whether cells are consecutive integers, beginning with `start` if it is given."""
    for cell in cells:
        text = cell.strip(_BLANKS)
        if not _WHOLE.fullmatch(text) or len(text) > 18:
            return False
        if start is not None and int(text) != start:
            return False
        start = int(text) + 1
    return True


def is_row(header: Sequence[str], columns: Iterable[Container[str]]) -> bool:
    """Return whether an apparent header is a row of labels: each of its cells occurs again in its column."""
    return all(name in column for name, column in zip(header, columns, strict=True))


def unnamed_column(names: Sequence[str]) -> int | None:
    """Return the first column (from 1) of a header that has no name: an index, or cells that were merged."""
    return next((number for number, name in enumerate(names, 1) if not name.strip(_BLANKS)), None)


def is_blank(cell: str) -> bool:
    """Return whether a cell is blank."""
    return not cell.strip(_BLANKS)


def _is_name(cell: str) -> bool:
    if cell.lower() in _NO_NAMES or is_number(cell) or is_number(cell, ","):
        return False
    return any(map(str.isalpha, cell)) or not any(map(str.isdigit, cell))
