"""Errors for tables with columns that are not numbers: all columns at once, with a hint for each.

The hint is `lanfit prepare`, so the message gives its effect on a column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.data.columns import Column, describe_table
from lanfit.data.tables import is_missing, is_number
from lanfit.errors import LanfitError, lanfit_error

#: The most cells that are examined to describe columns, and the most columns that are named.
MOST_CELLS = 2_000_000
MOST_NAMED = 12
_SHOWN = 40


@dataclass(frozen=True)
class Obstacle:
    """The first cell of a column that is not a number."""

    column: int
    """The index of the column, from 0."""
    name: str
    """The name of the column in messages."""
    where: str
    """For example "line 2", "cell B2"."""
    cell: str
    detail: str = ""
    """What the cell is, if its text does not show that."""

    @property
    def shown(self) -> str:
        """The cell in the form for messages."""
        text = self.cell.strip()
        if not text:
            return f"empty in {self.where}"
        return f'"{text[:_SHOWN]}" in {self.where}{", which marks a missing value" if is_missing(text) else ""}'


def many_columns(
    path: Path,
    found: Sequence[Obstacle],
    names: Sequence[str],
    columns: Mapping[int, Sequence[str]],
    width: int,
    *,
    header_of_numbers: bool,
    points_may_group: bool = False,
) -> LanfitError:
    """Return the error for a table with several columns that are not numbers.

    Args:
        found: at least one for each of these columns.
        names: the header of all columns; "" for one without a name.
        columns: the cells of these columns.
        header_of_numbers: whether the line that was read as a header has numbers in it.
        points_may_group: whether a point may separate thousands.
    """
    described = _described(found, names, columns, points_may_group)
    more = ", …" if len(found) > MOST_NAMED else ""
    listed = ", ".join(f"{each.name} ({described[each.column].kind}: {each.shown})" for each in found[:MOST_NAMED])
    proposed = "; ".join(f"{each.name}: {described[each.column].proposal}" for each in found[:MOST_NAMED])
    return lanfit_error(
        "columns.not-numbers",
        file=path,
        count=len(found),
        width=width,
        columns=listed + more,
        names=lead_of(header_of_numbers),
        command=command(path),
        proposals=proposed + more,
    )


def way_out(path: Path, found: Obstacle, names: Sequence[str], cells: Sequence[str], points_may_group: bool) -> str:
    """Return the hint for a single column, without its full stop."""
    column = _described([found], names, {found.column: cells}, points_may_group)[found.column]
    use = f"use `{command(path)}`, which proposes for this column: {column.proposal}"
    return f"{'Fill in the value' if is_missing(found.cell) else 'Correct the cell'}, leave the row out, or {use}"


def command(path: Path) -> str:
    """Return the command that converts a table to numbers; a table in X or Y is moved away first."""
    text = f'"{path}"' if " " in str(path) else str(path)
    replaced = " --replace" if path.parent.name in ("X", "Y") else ""
    return f"lanfit prepare {text} --target COLUMN{replaced}"


def lead_of(header_of_numbers: bool) -> str:
    """Return the phrase for a row that may have been read as a header."""
    return "; the first line was read as column names" if header_of_numbers else ""


def is_of_numbers(header: Sequence[str] | None) -> bool:
    """Return whether a header contains numbers, so that it may be a row."""
    return header is not None and any(map(is_number, header))


def _described(
    found: Sequence[Obstacle], names: Sequence[str], columns: Mapping[int, Sequence[str]], points_may_group: bool
) -> dict[int, Column]:
    places = [each.column for each in found]
    described = describe_table(
        [names[place] for place in places], [columns[place] for place in places], points_may_group=points_may_group
    )
    return dict(zip(places, described, strict=True))
