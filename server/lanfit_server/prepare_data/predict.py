"""`lanfit predict`: raw rows through a recipe and a model to a table of named predictions. Uses plain Keras."""

from __future__ import annotations

import csv
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_file
from lanfit.core.logs import sanitize_cell
from lanfit.core.workspace import Workspace
from lanfit.data.chunks import AnyArray
from lanfit.data.files import ARRAYS, kind_of, natural_key, open_file
from lanfit.data.images import chunk_of, is_image, look_at, size_of
from lanfit.data.labels import Target, target_of
from lanfit.data.shapes import fit_row, shown
from lanfit.data.tables import is_number
from lanfit.errors import lanfit_error
from lanfit.training.metrics import predicted_classes
from lanfit_server.prepare_data.recipe import FILE, AnyRecipe, Recipe, apply_recipe, read_recipe
from lanfit_server.prepare_data.text_tables import TextTable, read_text_table

#: Tables with more columns than this are not repeated in the predictions: only the row number is.
MOST_REPEATED = 64
BATCH = 256
SOFTMAX = "softmax"


@dataclass(frozen=True)
class Rows:
    """Rows for a model, and their identification for people."""

    x: AnyArray
    heads: tuple[str, ...]
    cells: tuple[Sequence[object], ...]
    """Column by column."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Predicted:
    """The result, for people and for `--json`."""

    rows: int
    out: str
    classes: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Loaded:
    """A model loaded by Keras."""

    path: Path
    model: Any
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    target: Target


def predict(
    workspace: Workspace, model: str, rows: Path, out: Path, recipe: Path | None, *, replace: bool
) -> Predicted:
    """Predict rows of a file, or images, and write them with the predictions to a csv file.

    Raises:
        InputError: the model, the recipe or the rows can't be read or do not match, or the file exists already.
    """
    if out.exists() and not replace:
        raise lanfit_error("predict.out-exists", file=out)
    if not rows.exists():
        raise lanfit_error("predict.no-rows", path=rows)
    path = find_trained(workspace, model)
    found = _recipe_of(path, recipe)
    read = read_rows(rows, found) if isinstance(found, Recipe) and not _is_images(rows) else None
    loaded = load(path)
    read = read or raw_rows(rows, loaded)
    read = replace_x(read, _fitted(read.x, loaded, rows))
    outputs = np.asarray(loaded.model.predict(read.x, batch_size=BATCH, verbose=0), np.float32)
    names = _names(found, path)
    heads, columns = columns_of(outputs, loaded.target, names)
    with atomic_file(out) as temporary:
        _write(temporary, read, heads, columns)
    return Predicted(len(read.x), str(out), names if loaded.target.is_classification else (), read.notes)


def find_trained(workspace: Workspace, name: str) -> Path:
    """Return the file of a model: a path, a file in `model/`, a folder with `final.keras`, or the name of a run.

    Raises:
        InputError: there is none.
    """
    for path in (Path(name), workspace.models / name, workspace.collected(name)):
        if path.is_dir() and (path / "final.keras").is_file():
            return path / "final.keras"
        if path.is_file():
            return path
    raise lanfit_error("predict.no-model", name=name, folder=workspace.relative(workspace.models / "collected"))


def _recipe_of(model: Path, given: Path | None) -> AnyRecipe | None:
    path = given or model.with_name(FILE)
    return read_recipe(path) if given is not None or path.is_file() else None


def read_rows(path: Path, recipe: Recipe) -> Rows:
    """Return rows converted by the recipe; an npz file contains already converted rows.

    Raises:
        InputError: as `apply_recipe`, or the file can't be read.
    """
    if kind_of(path) in ARRAYS:
        return _numbered(open_file(path).read_all())
    table = read_text_table(path)
    applied = apply_recipe(recipe, table)
    notes = (*(f"{path.name}: {note}" for note in table.notes), *applied.notes)
    return replace(_repeated(table, applied.x), notes=notes)


def raw_rows(path: Path, loaded: Loaded) -> Rows:
    """Return rows without a recipe: images in the model's size, or numbers unchanged."""
    if not _is_images(path):
        chunk = open_file(path)
        return replace(_numbered(chunk.read_all()), notes=chunk.notes)
    paths = sorted(filter(is_image, path.rglob("*")), key=lambda each: natural_key(each.as_posix()))
    paths = paths if path.is_dir() else [path]
    if not paths:
        raise lanfit_error("predict.no-rows", path=path)
    images = [look_at(each) for each in paths]
    chunk = chunk_of(str(path), images, size_of(str(path), loaded.input_shape[1:]))
    names = [each.relative_to(path).as_posix() if path.is_dir() else each.name for each in paths]
    return Rows(chunk.read_all(), ("file",), (names,), chunk.notes)


def _is_images(path: Path) -> bool:
    return path.is_dir() or is_image(path)


def _numbered(x: AnyArray) -> Rows:
    return Rows(x, ("row",), (range(1, len(x) + 1),))


def _repeated(table: TextTable, x: AnyArray) -> Rows:
    """Return the cells of the table in front of the predictions, unless they are too many."""
    if len(table.names) > MOST_REPEATED:
        return _numbered(x)
    names = tuple(name or f"column {place}" for place, name in enumerate(table.names, 1))
    return Rows(x, names, table.columns)


def replace_x(rows: Rows, x: AnyArray) -> Rows:
    """Return the rows reshaped."""
    return replace(rows, x=x)


def load(path: Path) -> Loaded:
    """Load a model with plain Keras.

    Raises:
        InputError: Keras is missing or can't load it, or it has several inputs or outputs.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    try:
        with _nothing_on_stderr():
            import keras
    except ImportError as error:
        raise lanfit_error("predict.no-keras") from error
    try:
        with _nothing_on_stderr():
            model = _load(keras, path)
        shapes = (tuple(model.input_shape), tuple(model.output_shape))
    except Exception as error:
        raise lanfit_error(
            "predict.not-loaded", file=path, reason=str(error).strip().partition("\n")[0][:300]
        ) from error
    if not all(shape and all(n is None or isinstance(n, int) for n in shape) for shape in shapes):
        raise lanfit_error("predict.several", file=path)
    return Loaded(path, model, *shapes, _target(model, shapes[1]))


@contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """Suppress messages of a backend's libraries about this machine; errors are still raised."""
    kept = os.dup(2)
    try:
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _load(keras: Any, path: Path) -> Any:
    """Load the model with its loss, which determines its predictions; a custom loss is not needed for that."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a new optimizer does not matter for predictions
        try:
            return keras.models.load_model(path)
        except (TypeError, ValueError):
            return keras.models.load_model(path, compile=False)


def _target(model: Any, output_shape: tuple[int | None, ...]) -> Target:
    """Return whether it predicts classes: by the loss; without one, softmax means classes."""
    loss = getattr(model, "loss", None)
    if loss:
        name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
        return target_of(name, "XY", output_shape)
    activation = getattr(getattr(model.layers[-1], "activation", None), "__name__", "")
    return Target.CLASSES if activation == SOFTMAX else Target.VALUES


def _fitted(x: AnyArray, loaded: Loaded, path: Path) -> AnyArray:
    wanted = loaded.input_shape[1:]
    fitted = fit_row(x.shape[1:], wanted)
    if fitted is None:
        raise lanfit_error("predict.other-shape", file=path, shape=shown(x.shape[1:]), wanted=shown(wanted))
    return x.reshape(len(x), *fitted)


def _names(recipe: AnyRecipe | None, model: Path) -> tuple[str, ...]:
    """Return the class names: the recipe's, else those next to the model."""
    if isinstance(recipe, Recipe):
        return recipe.target.classes if recipe.target else ()
    if recipe is not None:
        return recipe.classes
    beside = model.with_name("preprocessing.json")
    try:
        labels = decode_json(beside.read_bytes(), dict[str, object]).get("labels") if beside.is_file() else None
        return msgspec.convert(labels or (), tuple[str, ...])
    except ValueError as error:
        raise lanfit_error("predict.no-preprocessing", file=beside, reason=error) from error


def columns_of(
    outputs: AnyArray, target: Target, names: Sequence[str]
) -> tuple[tuple[str, ...], tuple[Sequence[object], ...]]:
    """Return the columns of the predictions: the class and a probability of each, or the numbers."""
    rows = len(outputs)
    if not target.is_classification or outputs.ndim != 2:
        flat = outputs.reshape(rows, -1)
        each = [f"prediction{f' {n + 1}' * (flat.shape[1] > 1)}" for n in range(flat.shape[1])]
        return tuple(each), tuple(_plain(column) for column in flat.T)
    classes = predicted_classes(target, outputs).reshape(rows).tolist()
    shown_classes = [names[n] if n < len(names) else n for n in classes]
    chances = np.concatenate([1 - outputs, outputs], axis=1) if target is Target.BINARY else outputs
    heads = [names[n] if n < len(names) else n for n in range(chances.shape[1])]
    kind = "probability of" if bool(((chances >= 0) & (chances <= 1)).all()) else "output for"
    return ("prediction", *(f"{kind} {name}" for name in heads)), (shown_classes, *map(_plain, chances.T))


def _plain(column: AnyArray) -> list[float]:
    """Return numbers as short as float32 is written: 0.1 and not 0.10000000149."""
    return [float(text) for text in column.astype(np.float32).astype(str)]


def _write(path: Path, rows: Rows, heads: Sequence[str], columns: Sequence[Sequence[object]]) -> None:
    names = _different([*rows.heads, *heads])
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([sanitize_cell(name) for name in names])
        writer.writerows([_cell(value) for value in line] for line in _lines(rows.cells, columns))


def _lines(*groups: Sequence[Sequence[object]]) -> Iterator[tuple[object, ...]]:
    return zip(*(column for group in groups for column in group), strict=True)


def _cell(value: object) -> object:
    """Return a cell that no program interprets as a formula; a number stays one."""
    if not isinstance(value, str) or is_number(value):
        return value
    return sanitize_cell(value)


def _different(names: Sequence[str]) -> list[str]:
    """Return unique names: a table of predictions may be predicted again."""
    found: list[str] = []
    for name in names:
        number, new = 2, name
        while new in found:
            number, new = number + 1, f"{name} ({number})"
        found.append(new)
    return found
