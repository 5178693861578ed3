"""Dates and times in tables. A column has one form; a column with ambiguous days and months is reported.

Two-digit years are read as Python's `strptime` does: 69 to 99 are 1969 to 1999.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WORD = (
    r"(?P<m>jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|"
    r"oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)\.?"
)
_TIME = (
    r"(?P<hh>\d{1,2}):(?P<mm>\d{2})(?::(?P<ss>\d{2})(?:[.,]\d{1,9})?)?\s*(?P<half>[ap]\.?m\.?)?"
    r"\s*(?:z|utc|gmt|[+-]\d{2}:?\d{2})?"
)
_AFTER = rf"(?:(?:[t ]|,)\s*{_TIME})?"
_DAY_NAME = r"(?:(?:mon|tues?|wed(?:nes)?|thu(?:rs)?|fri|sat(?:ur)?|sun)(?:day)?\.?,?\s+)?"
#: The forms, each as a pattern of the whole cell. With points, the day always comes first.
_FORMS: dict[str, re.Pattern[str]] = {
    name: re.compile(pattern, re.IGNORECASE | re.ASCII)
    for name, pattern in {
        "ymd": rf"(?P<y>\d{{4}})([-/.])(?P<m>\d{{1,2}})\2(?P<d>\d{{1,2}}){_AFTER}",
        "ym": r"(?P<y>\d{4})[-/](?P<m>\d{1,2})",
        "compact": r"(?P<y>(?:19|20)\d{2})(?P<m>\d{2})(?P<d>\d{2})(?:t(?P<hh>\d{2})(?P<mm>\d{2})(?P<ss>\d{2})?z?)?",
        "dmy": rf"(?P<d>\d{{1,2}})([-/.])(?P<m>\d{{1,2}})\2(?P<y>\d{{4}}|\d{{2}}){_AFTER}",
        "mdy": rf"(?P<m>\d{{1,2}})([-/])(?P<d>\d{{1,2}})\2(?P<y>\d{{4}}|\d{{2}}){_AFTER}",
        "d month y": (
            rf"{_DAY_NAME}(?P<d>\d{{1,2}})(?:st|nd|rd|th)?[-\s/]+{_WORD}[-\s/,]+(?P<y>\d{{4}}|\d{{2}}){_AFTER}"
        ),
        "month d y": rf"{_DAY_NAME}{_WORD}[-\s/]+(?P<d>\d{{1,2}})(?:st|nd|rd|th)?,?[-\s/]+(?P<y>\d{{4}}){_AFTER}",
        "month y": rf"{_WORD}[-\s/,]+(?P<y>\d{{4}})",
        "time": _TIME,
    }.items()
}
FORMS = tuple(_FORMS)
#: No date is longer than this.
LONGEST = 60
#: The columns that a date is converted to, in order.
PARTS = ("year", "month", "day", "weekday", "hour", "minute", "second")


def date_forms(cells: Iterable[str], forms: Collection[str] = FORMS) -> tuple[str, ...]:
    """Return the forms under which every cell is a date; "dmy" and "mdy" both where no day is above 12."""
    left = [form for form in FORMS if form in forms]
    for cell in cells:
        left = [form for form in left if read_date(cell, form) is not None]
        if not left:
            break
    return tuple(left)


def read_date(cell: str, form: str) -> Moment | None:
    """Return the date in a cell that is written in this form; None if it is not, or if there is no such day."""
    found = _FORMS[form].fullmatch(cell.strip()) if len(cell) <= LONGEST else None
    if found is None:
        return None
    named = found.groupdict()
    clock = _clock(named)
    if clock is None:
        return None
    if "y" not in named:
        return Moment(None, clock)
    year, month = int(named["y"]), named["m"]
    if len(named["y"]) == 2:
        year += 1900 if year >= 69 else 2000
    number = int(month) if month.isdecimal() else MONTHS.index(month[:3].lower()) + 1
    try:
        return Moment(datetime.date(year, number, int(named.get("d") or 1)), clock if named.get("hh") else None)
    except ValueError:
        return None


def parts_of(moments: Iterable[Moment]) -> tuple[str, ...]:
    """Return the parts that differ among dates: a constant part has no information."""
    values: dict[str, set[int]] = {part: set() for part in PARTS}
    for moment in moments:
        for part in PARTS:
            values[part].add(moment.part(part))
    return tuple(part for part in PARTS if len(values[part]) > 1)


@dataclass(frozen=True)
class Moment:
    """A day, a time of day, or both."""

    day: datetime.date | None
    clock: datetime.time | None

    def part(self, name: str) -> int:
        """Return its year, month, day, weekday (Monday is 0), hour, minute or second; 0 if it has no such part."""
        if name == "weekday":
            return self.day.weekday() if self.day else 0
        part: int = getattr(self.day if name in ("year", "month", "day") else self.clock, name, 0)
        return part


def _clock(named: dict[str, str | None]) -> datetime.time | None:
    """Return the time of day; midnight without one, None if there is no such time."""
    hour, minute, second = (int(named.get(key) or 0) for key in ("hh", "mm", "ss"))
    if half := named.get("half"):
        if not 1 <= hour <= 12:
            return None
        hour = hour % 12 + 12 * (half[0] in "pP")
    try:
        return datetime.time(hour, minute, second)
    except ValueError:
        return None
