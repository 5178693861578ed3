"""Numbers in human notation: with thousands separators, a decimal comma, a currency or a unit.

A column has one or several readings; if two give different values, nothing is guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

#: Prefixes of an amount. A cell with another prefix is a code: A5, CHEMBL25.
CURRENCIES = ("us$", "r$", "rs.", "rs", "usd", "eur", "gbp", "inr", "chf", "$", "€", "£", "¥", "₹", "₽", "₩")
MAX_UNIT = 12
LONGEST = 60
_SPACES = " \u00a0\u202f"
_CELL = re.compile(
    rf"(?P<front>[^\d+\-.,()]*?)\s*(?P<sign>[+\-\u2212]?)\s*(?P<front2>[$€£¥₹₽₩]?)\s*"
    rf"(?P<digits>\d[\d.,'{_SPACES}]*(?<=\d)|[.,]\d+|\d+[.,])(?P<power>[eE][+-]?\d+)?\s*(?P<unit>\D*)"
)
#: Decimal sign and thousands separator, in the order in which they are preferred where the values are equal.
_READINGS = ((".", ""), (".", ","), (",", ""), (",", "."), (".", " "), (",", " "), (".", "'"), (",", "'"))


@dataclass(frozen=True)
class Reading:
    """How the numbers of a column are written."""

    decimal: str = "."
    thousands: str = ""
    currency: str = ""
    unit: str = ""

    def value(self, cell: str) -> float | None:
        """Return the number in a cell; None if it is written in another way."""
        found = _parts(cell)
        if found is None or (found[0], found[3]) != (self.currency, self.unit):
            return None
        number = _number(found[2], self.decimal, self.thousands)
        return None if number is None else -number if found[1] else number

    @property
    def description(self) -> str:
        """A description of removed and converted text; empty for plain numbers."""
        parts = [f'"{text}" is removed' for text in (self.currency, self.unit) if text]
        if self.thousands:
            shown = {" ": "a space"}.get(self.thousands, f'"{self.thousands}"')
            parts.append(f"{shown} is the thousands separator")
        if self.decimal != ".":
            parts.append(f'"{self.decimal}" is the decimal separator')
        return ", ".join(parts)


def readings(cells: Iterable[str], decimal: str | None = None, thousands: str | None = None) -> tuple[Reading, ...]:
    """Return the readings under which every cell is a number, one for each distinct set of values.

    Args:
        cells: the distinct cells that are not empty.
        decimal: the decimal sign, if it is known.
        thousands: the thousands separator, if it is known.
    """
    parts: list[tuple[str, bool, str, str]] = []
    for cell in cells:
        part = _parts(cell)
        if part is None or (parts and (part[0], part[3]) != (parts[0][0], parts[0][3])):
            return ()
        parts.append(part)
    if not parts:
        return ()
    digits = [each[2] for each in parts]
    kept: dict[tuple[float, ...], Reading] = {}
    for sign, separator in _READINGS:
        if (
            decimal not in (None, sign)
            or thousands == sign
            or (thousands is not None and separator not in ("", thousands))
        ):
            continue
        values = _values(digits, sign, separator)
        if values is not None and values not in kept:
            kept[values] = Reading(sign, separator, parts[0][0], parts[0][3])
    return tuple(kept.values())


def shows_decimal_point(cell: str) -> bool:
    """Return whether the point in a number can only be a decimal sign: 0.5, 12.75, but not 1.200."""
    return re.fullmatch(r"\s*[+-]?(?:\d*\.(?:\d{1,2}|\d{4,})|0?\.\d+|\d{4,}\.\d+)\s*", cell) is not None


def _values(digits: Sequence[str], decimal: str, thousands: str) -> tuple[float, ...] | None:
    values = []
    for text in digits:
        value = _number(text, decimal, thousands)
        if value is None:
            return None
        values.append(value)
    return tuple(values)


def _parts(cell: str) -> tuple[str, bool, str, str] | None:
    """Return currency, whether it is negative, the digits with their signs, and the unit;

    None if it is not an amount.
    """
    found = _CELL.fullmatch(cell.strip()) if len(cell) <= LONGEST else None
    if found is None:
        return None
    currency = (found["front"] or found["front2"]).strip()
    unit = found["unit"].strip()
    if (currency and currency.lower() not in CURRENCIES) or len(unit) > MAX_UNIT:
        return None
    if found["front"] and found["front2"]:
        return None
    return currency, found["sign"] in ("-", "\u2212"), found["digits"] + (found["power"] or ""), unit


def _number(digits: str, decimal: str, thousands: str) -> float | None:
    text, _, power = digits.lower().partition("e")
    for space in _SPACES[1:]:
        text = text.replace(space, " ")
    whole, point, rest = text.partition(decimal)
    if thousands and thousands in whole:
        groups = whole.split(thousands)
        # 1,234,567 or, in India, 12,34,567
        if not 1 <= len(groups[0]) <= 3 or len(groups[-1]) != 3 or any(len(each) not in (2, 3) for each in groups[1:]):
            return None
        whole = "".join(groups)
    if not (whole + rest).isdecimal() or not (whole + rest).isascii():
        return None
    return float(f"{whole or 0}.{rest or 0}e{power or 0}" if point or power else whole)
