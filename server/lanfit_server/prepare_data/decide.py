"""Decides how each column of a table is used: proposals, corrections, the target, the recipe. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lanfit.core.text import pluralize
from lanfit.data.columns import FEW_CATEGORIES, Column, Kind, count_cells, describe_table
from lanfit.data.dates import date_forms, parts_of, read_date
from lanfit.data.quantities import readings
from lanfit.data.tables import is_missing, is_number
from lanfit.errors import InputError, lanfit_error
from lanfit_server.prepare_data.recipe import (
    Category,
    Date,
    Float32,
    LeftOut,
    Number,
    Recipe,
    TargetColumn,
    Use,
    apply_recipe,
    number_of,
)
from lanfit_server.prepare_data.text_tables import TextTable

TASKS = {"1": "classification", "2": "regression"}
NO_TARGET = "none"
#: The uses that a correction can assign to a column.
USES = ("number", "category", "date", "drop")
#: Usual names of a target, in the order in which they are looked up.
TARGET_NAMES = (
    "target", "label", "labels", "class", "y", "output", "outcome", "result", "survived", "exited", "churn", "species",
    "variety", "diagnosis", "saleprice", "medv", "price", "median_house_value", "quality", "charges", "purchased",
    "loan_status", "default", "attrition", "stroke",
)  # fmt: skip
#: Integers with at most this many distinct values are classes.
MOST_CLASS_NUMBERS = 10
MOST_CLASSES = 1000
#: The maximum number of one-hot columns of one category, even if requested.
MOST_VALUES = 10_000


@dataclass(frozen=True)
class Corrections:
    """The user's corrections of the proposals."""

    uses: Mapping[str, str] = field(default_factory=dict)
    """Of columns, by name: one of `USES`."""
    decimal: str | None = None
    thousands: str | None = None
    day_first: bool | None = None
    missing: tuple[str, ...] = ()
    """Additional cells that mark a missing value."""


def concatenate(tables: Sequence[TextTable]) -> TextTable:
    """Return all rows of several tables.

    Raises:
        InputError: their columns differ; the first difference is named.
    """
    first = tables[0]
    columns = [list(column) for column in first.columns]
    for table in tables[1:]:
        if sorted(table.names) != sorted(first.names) or table.has_header != first.has_header:
            raise _other_columns(first, table)
        order = [table.names.index(name) for name in first.names] if _named(first) else range(len(first.names))
        for column, place in zip(columns, order, strict=True):
            column += table.columns[place]
    grouped = any(table.points_may_group for table in tables)
    notes = tuple(f"{table.path.name}: {note}" for table in tables for note in table.notes)
    return replace(first, columns=tuple(columns), points_may_group=grouped, notes=notes)


def _named(table: TextTable) -> bool:
    return table.has_header and len(set(table.names)) == len(table.names)


def _other_columns(first: TextTable, other: TextTable) -> InputError:
    lacking = [name for name in first.names if name not in other.names]
    added = [name for name in other.names if name not in first.names]
    differences = [
        f"{what} {', '.join(f'{name!r}' for name in names[:5])}"
        for what, names in (("it lacks", lacking), ("it has", added))
        if names and other.has_header and first.has_header
    ]
    difference = " and ".join(differences) or f"it has {pluralize(len(other.names), 'column')}, not {len(first.names)}"
    wrong = lanfit_error("prepare.tables-differ", file=other.path, first=first.path, difference=difference)
    assert isinstance(wrong, InputError)
    return wrong


def with_missing(table: TextTable, marks: Sequence[str]) -> TextTable:
    """Return the table with additional marks for missing values cleared."""
    if not marks:
        return table
    gone = frozenset(marks)
    columns = tuple(["" if cell.strip() in gone else cell for cell in column] for column in table.columns)
    return replace(table, columns=columns)


def columns_of(table: TextTable, corrections: Corrections) -> tuple[Column, ...]:
    """Return the contents of the columns and their uses, including corrections.

    Raises:
        InputError: a correction names no column, or is not possible.
    """
    signs = (corrections.decimal, corrections.thousands)
    found = list(describe_table(table.names, table.columns, *signs, points_may_group=table.points_may_group))
    for place, column in enumerate(found):
        if column.kind is Kind.DATE and column.doubt and corrections.day_first is not None:
            form = "dmy" if corrections.day_first else "mdy"
            found[place] = replace(column, form=form, doubt="", proposal=f"date, {_order(form)}, split into its parts")
    for name, use in corrections.uses.items():
        place = column_place(found, name)
        found[place] = corrected(found[place], table.columns[place], use, corrections)
    return tuple(found)


def column_place(columns: Sequence[Column], name: str) -> int:
    """Return the column with this name, ignoring case if that is unambiguous; a number counts from 1.

    Raises:
        InputError: there is none.
    """
    names = [column.name for column in columns]
    if name in names:
        return names.index(name)
    alike = [place for place, each in enumerate(names) if each.lower() == name.strip().lower()]
    if len(alike) == 1:
        return alike[0]
    if name.isdecimal() and 1 <= int(name) <= len(names):
        return int(name) - 1
    shown = ", ".join(names[:30]) + (f" and {len(names) - 30} more" if len(names) > 30 else "")
    raise lanfit_error("prepare.no-such-column", name=name, names=shown)


def corrected(column: Column, cells: Sequence[str], use: str, corrections: Corrections) -> Column:
    """Return the column with the requested use.

    Raises:
        InputError: its cells do not allow that; one is named.
    """
    values = [value for value in count_cells(cells) if not is_missing(value)]
    if use == "drop":
        return replace(column, kind=Kind.TEXT, proposal="left out, as given", doubt="")
    if use == "category":
        if not 0 < len(values) <= MOST_VALUES:
            raise lanfit_error("prepare.no-category", column=column.name, count=len(values), most=MOST_VALUES)
        proposal = f"category, as given: one column for each of {len(values)}"
        return replace(column, kind=Kind.CATEGORY, proposal=proposal, doubt="", missing=_missing(cells))
    if use == "date":
        forms = date_forms(values)
        wanted = {True: "dmy", False: "mdy", None: ""}[corrections.day_first]
        if not forms or ({"dmy", "mdy"} <= set(forms) and not wanted and column.doubt):
            odd = next((value for value in values if not date_forms([value])), values[0] if values else "")
            raise lanfit_error("prepare.no-date", column=column.name, cell=odd[:40])
        form = wanted if wanted in forms else forms[0]
        return replace(column, kind=Kind.DATE, form=form, doubt="", proposal=f"date, as given, {_order(form)}")
    numbers = [value for value in values if value not in column.marks]
    plain = [value for value in numbers if not is_number(value, column.reading.decimal)]
    if not plain and numbers:
        return replace(column, kind=Kind.NUMBER, doubt="", proposal="number, as given")
    ways = readings(numbers, corrections.decimal, corrections.thousands)
    if len(ways) != 1:
        odd = plain[0] if plain else ""
        raise lanfit_error(
            "prepare.no-number", column=column.name, cell=odd[:40], doubt=column.doubt or "it is not a number"
        )
    return replace(column, kind=Kind.QUANTITY, reading=ways[0], doubt="", proposal=f"number: {ways[0].description}")


def _missing(cells: Sequence[str]) -> int:
    return sum(map(is_missing, cells))


def _order(form: str) -> str:
    return {"dmy": "day first", "mdy": "month first"}.get(form, "year first" if form[0] == "y" else form)


def guess_target(columns: Sequence[Column]) -> str | None:
    """Return the name of the column that is probably the target: one of the usual names, else the last one."""
    likely = [column for column in columns if column.kind not in (Kind.EMPTY, Kind.INDEX, Kind.DATE)]
    likely = [column for column in likely if column.distinct > 1 and not column.doubt]
    likely = [column for column in likely if column.kind not in (Kind.TEXT, Kind.ID) or _can_be_classes(column)]
    names = {re.sub(r"\W", "_", column.name.strip().lower()): column.name for column in reversed(likely)}
    for name in TARGET_NAMES:
        if name in names:
            return names[name]
    usable = [column for column in likely if column.kind in (Kind.NUMBER, Kind.QUANTITY, Kind.CATEGORY)]
    return usable[-1].name if usable else None


def _can_be_classes(column: Column) -> bool:
    """Return whether text has few enough values to be classes."""
    return column.distinct <= min(MOST_CLASSES, (column.rows - column.missing) // 2)


def is_numeric(column: Column, cells: Sequence[str]) -> bool:
    """Return whether all values of a column are numbers."""
    return all(number_of(cell, column.reading) is not None for cell in values_of(column, cells))


def values_of(column: Column, cells: Sequence[str]) -> list[str]:
    """Return the distinct values of a column."""
    return [value for value in count_cells(cells) if not is_missing(value) and value not in column.marks]


def propose_task(column: Column, cells: Sequence[str]) -> str:
    """Return classification for strings and for few integers, regression for other numbers."""
    if column.marks or not is_numeric(column, cells):
        return "regression" if column.marks and column.distinct > MOST_CLASS_NUMBERS else "classification"
    numbers = [number_of(value, column.reading) or 0.0 for value in values_of(column, cells)]
    few = column.distinct <= MOST_CLASS_NUMBERS and all(number.is_integer() for number in numbers)
    return "classification" if few and column.distinct * 2 <= max(column.rows - column.missing, 4) else "regression"


def check_target(column: Column, cells: Sequence[str], task: str) -> None:
    """Reject a target that can't be learned.

    Raises:
        InputError: it has no values or only one, is ambiguous, a date, or does not suit the task.
    """
    values = values_of(replace(column, marks=()) if task == "classification" else column, cells)
    if len(values) < 2:
        raise lanfit_error("prepare.constant-target", column=column.name, count=pluralize(len(values), "value"))
    if column.doubt:
        raise lanfit_error("prepare.doubtful-target", column=column.name, doubt=column.doubt)
    if task == "regression" and not is_numeric(column, cells):
        odd = next(value for value in values if number_of(value, column.reading) is None)
        raise lanfit_error("prepare.no-number-target", column=column.name, cell=odd[:40])
    if task == "classification" and len(values) > min(MOST_CLASSES, max(2, column.rows - column.missing - 1)):
        raise lanfit_error("prepare.too-many-classes", column=column.name, count=len(values))


@dataclass(frozen=True)
class Decided:
    """All results that are to be written."""

    recipe: Recipe
    x: Float32
    y: tuple[str | float | int, ...]
    """The targets as they are written; empty without a target."""
    dropped: int
    """Rows without a target."""
    notes: tuple[str, ...]


def decide(table: TextTable, columns: Sequence[Column], target: int | None, task: str, names: Sequence[str]) -> Decided:
    """Fit the recipe on all rows that have a target, and apply it to them.

    Args:
        target: the position of the target among the columns.
        names: of the tables, for the recipe.

    Raises:
        InputError: no column is left as an input, or no row has a target.
    """
    kept = np.ones(table.rows, bool)
    goal, y = None, tuple[str | float | int, ...]()
    if target is not None:
        column = columns[target]
        if task == "classification":
            column = replace(column, marks=())  # strings among numbers are classes like the others
        check_target(column, table.columns[target], task)
        kept = np.array([not is_missing(c) and c.strip() not in column.marks for c in table.columns[target]], bool)
        goal = _target(column, table.columns[target], task)
        y = _targets(goal, [cell for cell, keep in zip(table.columns[target], kept, strict=True) if keep])
    rows = table if kept.all() else _rows(table, kept)
    uses = tuple(
        _use(column, cells, is_target=place == target)
        for place, (column, cells) in enumerate(zip(columns, rows.columns, strict=True))
    )
    inputs = tuple(name for use in uses for name in use.inputs)
    if not inputs:
        raise lanfit_error("prepare.no-inputs", columns=", ".join(f"{c.name} ({c.proposal})" for c in columns[:10]))
    recipe = Recipe(
        tables=tuple(names), has_header=table.has_header, columns=uses, target=goal, inputs=_different(inputs)
    )
    named = rows if rows.has_header else replace(rows, names=("",) * len(columns))
    applied = apply_recipe(recipe, named)
    return Decided(recipe, applied.x, y, int((~kept).sum()), applied.notes)


def _rows(table: TextTable, kept: NDArray[np.bool_]) -> TextTable:
    columns = tuple([cell for cell, keep in zip(column, kept, strict=True) if keep] for column in table.columns)
    return replace(table, columns=columns)


def _different(names: Sequence[str]) -> tuple[str, ...]:
    """Return unique names for the columns of X."""
    seen = Counter[str]()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return tuple(found)


def _use(column: Column, cells: Sequence[str], *, is_target: bool) -> Use:
    """Return the conversion of a column; its categories and fill values come from all rows."""
    if is_target:
        return LeftOut(column.name, "the target")
    counts = count_cells(cells)
    values = [value for value in counts if not is_missing(value) and value not in column.marks]
    if not values:
        return LeftOut(column.name, "it has no values")
    most = max(values, key=lambda value: (counts[value], value))
    if column.doubt or column.kind not in (Kind.NUMBER, Kind.QUANTITY, Kind.CATEGORY, Kind.DATE):
        return LeftOut(column.name, column.doubt or column.proposal.removeprefix("left out: "))
    if column.kind is Kind.CATEGORY:
        return Category(column.name, tuple(sorted(values, key=class_order)), most)
    if column.kind is Kind.DATE:
        moments = [moment for value in values if (moment := read_date(value, column.form)) is not None]
        parts = parts_of(moments)
        return Date(column.name, column.form, parts, most) if parts else LeftOut(column.name, "constant")
    numbers = np.array([number_of(value, column.reading) or 0.0 for value in values])
    fill = float(np.median(np.repeat(numbers, [counts[value] for value in values])))
    return Number(column.name, column.reading, fill, column.marks)


def class_order(value: str) -> tuple[int, float, str]:
    """Return the sort key of classes and categories: numbers in numeric order, before strings."""
    return (0, number_of(value, _PLAIN) or 0.0, value) if is_number(value) else (1, 0.0, value)


def _target(column: Column, cells: Sequence[str], task: str) -> TargetColumn:
    if task == "regression":
        return TargetColumn(name=column.name, task=task, reading=column.reading, marks=column.marks)
    values = values_of(column, cells)
    return TargetColumn(name=column.name, task=task, classes=tuple(sorted(values, key=class_order)))


def _targets(goal: TargetColumn, cells: Sequence[str]) -> tuple[str | float | int, ...]:
    """Return the values for Y: numbers; strings unchanged if lanfit reads them as labels; else the class numbers."""
    if goal.task == "regression":
        numbers = [number_of(cell, goal.reading) or 0.0 for cell in cells]
        return tuple(int(n) if n.is_integer() and abs(n) < 2**53 else n for n in numbers)
    return written_classes(goal.classes, [cell.strip() for cell in cells])


def written_classes(classes: Sequence[str], cells: Sequence[str]) -> tuple[str | int, ...]:
    """Return the classes as they are in Y: by name if lanfit reads them as labels, else by number."""
    if all(map(_is_label, classes)):
        return tuple(cells)
    place = {name: number for number, name in enumerate(classes)}
    return tuple(place[cell] for cell in cells)


def _is_label(name: str) -> bool:
    """Return whether a class can be written to a csv file by its name, and is read back as such."""
    if is_number(name) or is_number(name, ",") or name.lower() in ("true", "false") or len(name) > FEW_CATEGORIES * 5:
        return False
    return name.isprintable() and name[0] not in "=+-@" and not is_missing(name)


_PLAIN = TargetColumn(name="", task="").reading
