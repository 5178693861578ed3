"""What is said of a table that does not hold numbers alone: every column in the way at once, and the way out of each.

The way out is `lanfit prepare`, so what it would do with a column is said in its own words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.data.columns import Column, describe_table
from lanfit.data.tables import is_missing, is_number
from lanfit.errors import LanfitError
from lanfit.mistakes import mistake

#: So many cells of a table are looked at to describe its columns, and so many columns are named.
MOST_CELLS = 2_000_000
MOST_NAMED = 12
_SHOWN = 40


@dataclass(frozen=True)
class Obstacle:
    """The first cell of a column that is no number."""

    column: int
    """From 0."""
    name: str
    """As messages call it."""
    where: str
    """line 2, cell B2."""
    cell: str
    said: str = ""
    """What it is, where the text alone does not tell."""

    @property
    def shown(self) -> str:
        """The cell as messages show it."""
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
    """The error for a table of which several columns hold something else than numbers.

    Args:
        found: at least one for each of these columns.
        names: in the header, of all columns; "" for one without.
        columns: the cells of the columns in the way.
        header_of_numbers: whether the line that was taken for names has numbers in it.
        points_may_group: whether a point may separate thousands.
    """
    described = _described(found, names, columns, points_may_group)
    more = ", …" if len(found) > MOST_NAMED else ""
    listed = ", ".join(f"{each.name} ({described[each.column].kind}: {each.shown})" for each in found[:MOST_NAMED])
    proposed = "; ".join(f"{each.name}: {described[each.column].proposal}" for each in found[:MOST_NAMED])
    return mistake(
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
    """The hint for a single column in the way, without its full stop."""
    column = _described([found], names, {found.column: cells}, points_may_group)[found.column]
    use = f"use `{command(path)}`, which proposes for this column: {column.proposal}"
    return f"{'Fill the gap' if is_missing(found.cell) else 'Repair the cell'}, leave the row out, or {use}"


def command(path: Path) -> str:
    """The command that makes numbers of a table; a table that lies in X or Y itself gives way."""
    text = f'"{path}"' if " " in str(path) else str(path)
    replaced = " --replace" if path.parent.name in ("X", "Y") else ""
    return f"lanfit prepare {text} --target COLUMN{replaced}"


def lead_of(header_of_numbers: bool) -> str:
    """What is said where a row may have been taken for names."""
    return "; its first line was read as the names of the columns" if header_of_numbers else ""


def is_of_numbers(header: Sequence[str] | None) -> bool:
    """Whether some names of a header are numbers, so that it may be a row."""
    return header is not None and any(map(is_number, header))


def _described(
    found: Sequence[Obstacle], names: Sequence[str], columns: Mapping[int, Sequence[str]], points_may_group: bool
) -> dict[int, Column]:
    places = [each.column for each in found]
    described = describe_table(
        [names[place] for place in places], [columns[place] for place in places], points_may_group=points_may_group
    )
    return dict(zip(places, described, strict=True))
