"""What the columns of a table contain, and what lanfit proposes to do with each. Works on text cells; reads no file.

The rules are deterministic. If two rules apply to a column, the safer one is used. What is left out or doubtful is
reported, and can be corrected.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from lanfit.data.dates import date_forms
from lanfit.data.quantities import Reading, readings, shows_decimal_point
from lanfit.data.tables import is_missing, is_number, may_be_thousands, to_number

#: A text column with more distinct values than this is not a category, unless the user declares it one.
MOST_CATEGORIES = 50
#: A column with up to this many distinct values is a category if one of them occurs twice.
FEW_CATEGORIES = 20
#: Text longer than this, on average, is free text.
FREE_TEXT = 40
#: Up to this many distinct words in a column of numbers are markers of missing values, if they are rare.
MOST_MARKS = 3
RARE = 0.1
#: A named column that counts fewer rows than this may be a measurement.
LEAST_COUNTED = 20
#: Integers above this are not exact in float32.
EXACT = 1 << 24
#: A number with a decimal point and nothing else.
PLAIN = Reading()
_ID = re.compile(r"(?:^|[\W_])(?:id|uuid|guid|key|no|nr|number|index|serial|rownames|sno|sl)[\W_]*$|[a-z]I[dD]s?$")
_COUNTER = re.compile(r"^(?:|#|x|s\W*no|sr\W*no|sl\W*no|row\W*(?:number|names?|id)?|instant|unnamed: ?\d+|index)\W*$")
_TIMES = re.compile(r"date|day|time|year|month|week|hour|minute|step|epoch", re.IGNORECASE)


class Kind(StrEnum):
    """What a column holds."""

    NUMBER = "number"
    QUANTITY = "number with unit or separators"
    CATEGORY = "category"
    DATE = "date"
    ID = "id"
    TEXT = "text"
    INDEX = "index"
    EMPTY = "empty"


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    name: str
    """The name in the header; "column 3" without one."""
    kind: Kind
    rows: int
    missing: int
    """Cells without a value."""
    distinct: int
    """The number of distinct values, without missing ones."""
    example: str
    """The first cell with a value."""
    proposal: str
    """What `lanfit prepare` would do with it, for people."""
    reading: Reading = PLAIN
    """How its numbers are written."""
    form: str = ""
    """The form of dates."""
    marks: tuple[str, ...] = ()
    """Words among its numbers that mark missing values."""
    doubt: str = ""
    """Why its values are ambiguous; nothing is guessed in this case."""

    @property
    def is_used(self) -> bool:
        """Whether it is proposed as an input."""
        varied = self.distinct > 1 or self.missing == 0 < self.distinct
        return self.kind in (Kind.NUMBER, Kind.QUANTITY, Kind.CATEGORY, Kind.DATE) and varied


def describe_table(
    names: Sequence[str],
    columns: Sequence[Sequence[str]],
    decimal: str | None = None,
    thousands: str | None = None,
    *,
    points_may_group: bool = False,
) -> tuple[Column, ...]:
    """Describe all columns of a table.

    Args:
        names: of each column; "" for one without a name.
        columns: the cells of each, as text.
        decimal: the decimal sign of the table, if it is known.
        thousands: the thousands separator, if it is known.
        points_may_group: whether a point may also separate thousands.
    """
    counts = [count_cells(cells) for cells in columns]
    if decimal is None and thousands != "." and any(any(map(shows_decimal_point, found)) for found in counts):
        decimal = "."
    return tuple(
        describe(name, cells, found, position, decimal, thousands, points_may_group=points_may_group)
        for position, (name, cells, found) in enumerate(zip(names, columns, counts, strict=True))
    )


def count_cells(cells: Iterable[str]) -> Counter[str]:
    """Return how often each distinct cell occurs in a column, without surrounding blanks."""
    counts: Counter[str] = Counter()
    for cell, number in Counter(cells).items():
        counts[cell.strip()] += number
    return counts


def describe(
    name: str,
    cells: Sequence[str],
    counts: Mapping[str, int] | None = None,
    position: int = 0,
    decimal: str | None = None,
    thousands: str | None = None,
    *,
    points_may_group: bool = False,
) -> Column:
    """Describe one column.

    Args:
        cells: its cells as text, in the order of the rows.
        counts: the result of `count_cells`, if it is known.
        position: the index of the column in its table, from 0.
        decimal: the decimal sign, where it is known.
        thousands: the thousands separator, where it is known.
        points_may_group: whether a point may also separate thousands.
    """
    counts = count_cells(cells) if counts is None else counts
    values = [cell for cell in counts if not is_missing(cell)]
    missing = sum(number for cell, number in counts.items() if is_missing(cell))
    shown = name.strip() or f"column {position + 1}"
    found = _Facts(shown, name.strip(), cells, counts, values, len(cells) - missing, position)
    if points_may_group and decimal is None and thousands is None and _are_grouped(values):
        return _doubtful(found, missing, (Reading(",", "."), PLAIN))
    return _describe(found, missing, decimal, thousands)


@dataclass(frozen=True)
class _Facts:
    name: str
    header: str
    cells: Sequence[str]
    counts: Mapping[str, int]
    values: list[str]
    """The different values."""
    filled: int
    """Cells with a value."""
    position: int

    def column(self, kind: Kind, proposal: str, missing: int, **more: object) -> Column:
        example = self.values[0] if self.values else ""
        return Column(
            self.name,
            kind,
            len(self.cells),
            missing,
            len(self.values),
            example,
            proposal,
            **more,  # type: ignore[arg-type]
        )


def _describe(found: _Facts, missing: int, decimal: str | None, thousands: str | None) -> Column:
    if not found.values:
        return found.column(Kind.EMPTY, "left out: it has no values", missing)
    point = decimal or "."
    fill = f", {count_of_cells(missing)} filled with the median" if missing else ""
    # "1.200" is a number; where the point is known to separate thousands, it is read below.
    plain = thousands in (None, "", ",", " ", "'") or point != "."
    if plain and all(is_number(value, point) and "n" not in value.lower() for value in found.values):
        return _numbers(found, missing, point, fill)
    forms = date_forms(found.values)
    if forms:
        return _dates(found, missing, forms)
    ways = readings(found.values, decimal, thousands)
    if len(ways) == 1:
        if ways[0] == Reading(point):
            return _numbers(found, missing, point, fill)
        proposal = f"number: {ways[0].description}{fill}"
        return found.column(Kind.QUANTITY, proposal, missing, reading=ways[0])
    if ways:
        return _doubtful(found, missing, ways)
    if marked := _marked(found, missing, decimal, thousands):
        return marked
    return _words(found, missing)


def _are_grouped(values: Sequence[str]) -> bool:
    """Return whether all points in numbers may separate thousands, as in 1.200 and 950."""
    pointed = [value for value in values if "." in value]
    numbers = all(map(is_number, values)) and len(pointed) < len(values)
    return bool(pointed) and numbers and all(may_be_thousands(value, ".") for value in pointed)


def _numbers(found: _Facts, missing: int, decimal: str, fill: str) -> Column:
    reading = Reading(decimal)
    # "−42" and "- 42", which a quantity may be written as, are numbers, but none that Python reads.
    whole = all(is_number(value, decimal) and type(to_number(value, decimal)) is int for value in found.values)
    if whole and not missing:
        kind = _count_or_id(found, decimal)
        if kind is Kind.INDEX:
            return found.column(kind, "left out: it numbers the rows", missing, reading=reading)
        if kind is Kind.ID:
            return found.column(kind, "left out: it is an identifier of the row", missing, reading=reading)
    if len(found.values) == 1 and not missing and found.filled > 1:
        return found.column(Kind.NUMBER, "number, constant", missing, reading=reading)
    forms = date_forms(found.values, ("compact",)) if whole and len(found.values) > 2 else ()
    if forms:
        return _dates(found, missing, forms)
    return found.column(Kind.NUMBER, f"number{fill}", missing, reading=reading)


def _count_or_id(found: _Facts, decimal: str) -> Kind | None:
    """Return whether integers count the rows or identify them; None if neither."""
    all_differ = len(found.values) == found.filled
    numbers = [int(to_number(value, decimal)) for value in found.values]
    name = found.header.lower()
    if all_differ and found.filled > 1:
        counts_rows = numbers[0] in (0, 1) and all(n == numbers[0] + place for place, n in enumerate(numbers))
        likely = bool(_COUNTER.match(name)) or bool(_ID.search(found.header) or _ID.search(name))
        if found.position == 0 and found.filled >= LEAST_COUNTED and not _TIMES.search(name):
            likely = True
        if counts_rows and likely:
            return Kind.INDEX
    if (_ID.search(found.header) or _ID.search(name)) and len(numbers) > max(FEW_CATEGORIES, found.filled // 5):
        return Kind.ID
    # Numbers that float32 can't distinguish are identifiers, not measurements.
    if max(map(abs, numbers)) > EXACT and len(np.unique(np.array(numbers, np.float32))) < 0.99 * len(numbers):
        return Kind.ID
    return None


def _dates(found: _Facts, missing: int, forms: tuple[str, ...]) -> Column:
    if set(forms) >= {"dmy", "mdy"} and "ymd" not in forms:
        value = found.values[0]
        doubt = f'"{value}" may be day first or month first: no value is above 12'
        if any(read_differs(each) for each in found.values):
            return found.column(Kind.DATE, "left out: day and month are ambiguous", missing, doubt=doubt)
    fill = f", {count_of_cells(missing)} filled with the most frequent" if missing else ""
    return found.column(Kind.DATE, f"date, split into its parts{fill}", missing, form=forms[0])


def read_differs(value: str) -> bool:
    """Return whether exchanging day and month of a numeric date gives another date."""
    first, second = re.findall(r"\d+", value)[:2]
    return int(first) != int(second)


def _doubtful(found: _Facts, missing: int, ways: Sequence[Reading]) -> Column:
    value = next(v for v in found.values if len({way.value(v) for way in ways}) > 1)
    described = " or ".join(f"{way.value(value):g}" for way in ways[:2])
    doubt = f'"{value}" may be {described}'
    return found.column(Kind.QUANTITY, f"left out: {doubt}", missing, doubt=doubt)


def _marked(found: _Facts, missing: int, decimal: str | None, thousands: str | None) -> Column | None:
    """Return a column of numbers in which a few words mark missing values."""
    words = [value for value in found.values if not any(map(str.isdigit, value))]
    if not 0 < len(words) <= MOST_MARKS or len(words) == len(found.values):
        return None
    marked = sum(found.counts[word] for word in words)
    if marked > RARE * found.filled or len(found.values) - len(words) < 3:
        return None
    numbers = [value for value in found.values if value not in words]
    ways = readings(numbers, decimal, thousands)
    if len(ways) != 1:
        return None
    marks = ", ".join(f'"{word}"' for word in words)
    described = f" ({ways[0].description})" if ways[0].description else ""
    proposal = (
        f"number{described}: {marks} counts as missing, {count_of_cells(missing + marked)} filled with the median"
    )
    kind = Kind.QUANTITY  # as it is, it can't be read
    return found.column(kind, proposal, missing + marked, reading=ways[0], marks=tuple(words))


def _words(found: _Facts, missing: int) -> Column:
    count, filled = len(found.values), found.filled
    length = sum(len(value) * found.counts[value] for value in found.values) / filled
    if count == filled > 1:
        spaced = sum(" " in value for value in found.values) > count / 2
        if length > FREE_TEXT or spaced:
            return found.column(Kind.TEXT, "left out: text, unique in every row", missing)
        return found.column(Kind.ID, "left out: unique in every row", missing)
    most = FEW_CATEGORIES if count > filled / 2 else MOST_CATEGORIES
    if count > most or length > 2 * FREE_TEXT:
        return found.column(Kind.TEXT, f"left out: text, {count:,} distinct values", missing)
    fill = f", {count_of_cells(missing)} filled with the most frequent" if missing else ""
    if count == 1 and not missing and filled > 1:
        return found.column(Kind.CATEGORY, "category, constant", missing)
    return found.column(Kind.CATEGORY, f"category, one column for each of {count}{fill}", missing)


def count_of_cells(number: int) -> str:
    """Return a phrase with the number of missing values."""
    return f"{number:,} missing {'value' if number == 1 else 'values'}"
