"""HTML of text, numbers, tables and cards, with the classes of the live page."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from lanfit.core.text import printable


def text_of(text: object) -> str:
    """Return text in which nothing is markup, on one line."""
    return escape(printable(str(text)))


def number_of(value: float | None) -> str:
    """Return a number with four digits, and all its digits for programs."""
    if value is None or not math.isfinite(value):
        return "–" if value is None else text_of(value)
    if isinstance(value, int) or float(value).is_integer():
        return f'<data value="{value!r}">{value:,.0f}</data>'
    return f'<data value="{value!r}">{value:{".4f" if 1e-3 <= abs(value) < 1e6 else ".2e"}}</data>'


def _cell(value: object) -> str:
    if isinstance(value, int | float):
        return f'<td class="number">{number_of(value)}</td>'
    kind = ' class="why"' if len(str(value)) > 40 else ""
    return f"<td{kind}>{'' if value is None else text_of(value)}</td>"


def card(title: str, content: str) -> str:
    """Return a part of the page; nothing without content."""
    return f'<section class="card"><h2>{title}</h2>{content}</section>' if content else ""


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; numbers, and the heads of columns that begin with one, are aligned right."""
    listed = list(rows)
    if not listed:
        return ""
    numbers = [isinstance(value, int | float) for value in listed[0]]
    head = "".join(
        f'<th scope="col"{" class=number" if is_number else ""}>{text_of(name)}</th>'
        for name, is_number in zip(heads, numbers, strict=True)
    )
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in listed)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
