"""The recipe: how the raw columns of a table are converted to numbers, and the class names. Plain JSON with a version.

It is fitted once, on all rows, and applied to later rows: `lanfit predict` converts a row to the numbers that training
would have seen. It does not normalize: the normalizer does, fitted on training rows only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from lanfit.core.decoding import decode_json
from lanfit.core.text import pluralize
from lanfit.data.dates import read_date
from lanfit.data.quantities import Reading
from lanfit.data.tables import is_missing, is_number, to_number
from lanfit.errors import lanfit_error
from lanfit_server.prepare_data.text_tables import TextTable

VERSION = 1
FILE = "recipe.json"
Float32 = NDArray[np.float32]


class Number(msgspec.Struct, frozen=True, tag_field="use", tag="number"):
    """A column of numbers: one input."""

    name: str
    reading: Reading
    fill: float
    """The median, which fills missing values."""
    marks: tuple[str, ...] = ()
    """Texts that count as missing."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return (self.name,)

    @property
    def filled(self) -> str:
        return f"{self.fill:g}"

    def numbers(self, cell: str) -> tuple[float, ...] | None:
        if is_missing(cell) or cell.strip() in self.marks:
            return None
        value = number_of(cell, self.reading)
        if value is None or not np.isfinite(np.float32(value)):
            raise _Unreadable("a number")
        return (value,)

    def missing(self) -> tuple[float, ...]:
        return (self.fill,)


class Category(msgspec.Struct, frozen=True, tag_field="use", tag="category"):
    """A column of a few distinct strings: one input of 0 or 1 for each."""

    name: str
    values: tuple[str, ...]
    fill: str
    """The most frequent value, which fills missing values."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(f"{self.name}={value}" for value in self.values)

    @property
    def filled(self) -> str:
        return f'"{self.fill}"'

    def numbers(self, cell: str) -> tuple[float, ...] | None:
        if is_missing(cell):
            return None
        value = cell.strip()
        if value not in self.values:
            raise _Unknown
        return tuple(float(value == each) for each in self.values)

    def missing(self) -> tuple[float, ...]:
        return tuple(float(self.fill == each) for each in self.values)


class Date(msgspec.Struct, frozen=True, tag_field="use", tag="date"):
    """A column of dates or times: an input for each of its parts."""

    name: str
    form: str
    """Their format: one of `lanfit.data.dates.FORMS`."""
    parts: tuple[str, ...]
    fill: str
    """The most frequent value, which fills missing values."""

    @property
    def inputs(self) -> tuple[str, ...]:
        return tuple(f"{self.name} {part}" for part in self.parts)

    @property
    def filled(self) -> str:
        return self.fill

    def numbers(self, cell: str) -> tuple[float, ...] | None:
        if is_missing(cell):
            return None
        moment = read_date(cell, self.form)
        if moment is None:
            raise _Unreadable(f'a date like "{self.fill}"')
        return tuple(float(moment.part(part)) for part in self.parts)

    def missing(self) -> tuple[float, ...]:
        return self.numbers(self.fill) or ()


class LeftOut(msgspec.Struct, frozen=True, tag_field="use", tag="left out"):
    """A column that is not an input."""

    name: str
    why: str

    @property
    def inputs(self) -> tuple[str, ...]:
        return ()


Step = Number | Category | Date
Use = Step | LeftOut


class TargetColumn(msgspec.Struct, frozen=True, kw_only=True):
    """The target."""

    name: str
    task: str
    """classification or regression."""
    classes: tuple[str, ...] = ()
    """The names of classes 0, 1, …, as in the table."""
    reading: Reading = Reading()
    """The number format, for regression."""
    marks: tuple[str, ...] = ()


class Recipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="table"):
    """The conversion of a table."""

    version: int = VERSION
    tables: tuple[str, ...]
    has_header: bool
    columns: tuple[Use, ...]
    """In the order of the table; by name if it has names."""
    target: TargetColumn | None
    inputs: tuple[str, ...]
    """The columns of X."""
    files: dict[str, str] = {}
    """The files written with it: names in dataset/ and SHA-256 digests."""


class ImageRecipe(msgspec.Struct, frozen=True, kw_only=True, tag_field="kind", tag="images"):
    """The conversion of a folder of images."""

    version: int = VERSION
    folder: str
    height: int
    width: int
    channels: int
    classes: tuple[str, ...]
    files: dict[str, str] = {}


AnyRecipe = Recipe | ImageRecipe


def to_json(recipe: AnyRecipe) -> bytes:
    """Return the text of recipe.json."""
    return msgspec.json.format(msgspec.json.encode(recipe), indent=2) + b"\n"


def read_recipe(path: Path) -> AnyRecipe:
    """Read a recipe.json.

    Raises:
        InputError: it has a later version, or is not a recipe.
    """
    try:
        data = decode_json(path.read_bytes(), object)
        version = data.get("version") if isinstance(data, dict) else None
        if isinstance(version, int) and version > VERSION:
            raise lanfit_error("recipe.version", file=path, version=version, known=VERSION)
        found: AnyRecipe = msgspec.convert(data, Recipe | ImageRecipe)
    except ValueError as error:
        raise lanfit_error("recipe.no-recipe", file=path, reason=error) from error
    except OSError as error:
        raise lanfit_error("file.unreadable", file=path, reason=error.strerror or error) from error
    return found


class _Unreadable(Exception):
    """A cell has the wrong type for its column."""


class _Unknown(Exception):
    """A cell is a category that was not seen before."""


@dataclass(frozen=True)
class Applied:
    """Rows converted by a recipe."""

    x: Float32
    notes: tuple[str, ...]


def number_of(cell: str, reading: Reading) -> float | None:
    """Return the number in a cell; None if it is not a number."""
    plain = not (reading.thousands or reading.currency or reading.unit)
    if plain and is_number(cell, reading.decimal) and "n" not in cell.lower():
        return float(to_number(cell, reading.decimal))
    return reading.value(cell)


def apply_recipe(recipe: Recipe, table: TextTable) -> Applied:
    """Convert the rows of a table to numbers.

    A missing value gets the fill value of its column; for a category that the recipe does not know, all inputs of the
    column are 0. Both are reported.

    Raises:
        InputError: a column is missing, or a cell has the wrong type; file, row and column are named.
    """
    cells_of, notes = _columns(recipe, table)
    parts = []
    for step in recipe.columns:
        if not isinstance(step, LeftOut):
            part, remarks = _apply(step, cells_of(step.name), table)
            parts.append(part)
            notes += remarks
    x = np.concatenate(parts, axis=1) if parts else np.empty((table.rows, 0), np.float32)
    return Applied(x, tuple(notes))


def _columns(recipe: Recipe, table: TextTable) -> tuple[Callable[[str], Sequence[str]], list[str]]:
    """Return how the cells of a column are found: by name, or by position if the tables have no names."""
    target = recipe.target.name if recipe.target else None
    names = [use.name for use in recipe.columns]
    if table.has_header:
        places = {name or f"column {place + 1}": place for place, name in enumerate(table.names)}
    else:
        rest = [name for name in names if name != target]
        if len(table.names) not in (len(names), len(rest)):
            raise lanfit_error(
                "recipe.other-columns", file=table.path, found=len(table.names), wanted=len(rest), names=_few(rest)
            )
        places = {name: place for place, name in enumerate(names if len(table.names) == len(names) else rest)}
    needed = [use.name for use in recipe.columns if not isinstance(use, LeftOut)]
    if lacking := [name for name in needed if name not in places]:
        raise lanfit_error("recipe.missing-columns", file=table.path, names=_few(lacking))
    extra = [name for name in places if name not in names and name != target]
    notes = [f"columns that are not in the recipe are ignored: {_few(extra)}"] if extra else []
    return (lambda name: table.columns[places[name]]), notes


def _apply(step: Step, cells: Sequence[str], table: TextTable) -> tuple[Float32, list[str]]:
    places: dict[str, int] = {}
    codes = np.fromiter((places.setdefault(cell, len(places)) for cell in cells), np.int64, len(cells))
    values = np.empty((len(places), len(step.inputs)), np.float32)
    filled, unknown = np.zeros(len(places), bool), dict[str, int]()
    for cell, place in places.items():
        try:
            numbers = step.numbers(cell)
        except _Unreadable as error:
            row = int((codes == place).argmax()) + 1
            raise lanfit_error(
                "recipe.other-value", file=table.path, row=row, column=step.name, cell=cell.strip()[:40], wanted=error
            ) from None
        except _Unknown:
            unknown[cell.strip()] = place
            numbers = (0.0,) * len(step.inputs)
        filled[place] = numbers is None
        values[place] = step.missing() if numbers is None else numbers
    notes = []
    if missing := int(filled[codes].sum()):
        notes.append(f'"{step.name}": {pluralize(missing, "missing value")} filled with {step.filled}')
    if unknown:
        count = int(np.isin(codes, list(unknown.values())).sum())
        notes.append(
            f'"{step.name}": {_few(list(unknown))} in {pluralize(count, "row")}: not seen in training, encoded as all '
            f"zeros"
        )
    return values[codes], notes


def _few(names: Sequence[str], most: int = 10) -> str:
    return ", ".join(f'"{name}"' for name in names[:most]) + (f" and {len(names) - most} more" * (len(names) > most))
