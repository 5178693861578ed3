"""`lanfit prepare`: from tables or images to `dataset/`, and optionally a model. Asks, decides, then writes.

Nothing is written before everything is decided.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.data.columns import Column
from lanfit.data.images import notes_of
from lanfit.errors import lanfit_error
from lanfit_server.prepare_data import dialog, image_folder
from lanfit_server.prepare_data.decide import (
    NO_TARGET,
    Corrections,
    Decided,
    columns_of,
    concatenate,
    decide,
    guess_target,
    with_missing,
)
from lanfit_server.prepare_data.models import check_model, file_name, model_script, write_model
from lanfit_server.prepare_data.recipe import FILE, LeftOut
from lanfit_server.prepare_data.text_tables import read_text_table
from lanfit_server.prepare_data.writing import check_dataset, inputs_csv, targets_csv, write_dataset


@dataclass(frozen=True)
class Request:
    """The command line."""

    workspace: Workspace
    paths: tuple[Path, ...]
    target: str | None = None
    task: str | None = None
    model: str | None = None
    size: str | None = None
    corrections: Corrections = field(default_factory=Corrections)
    replace: bool = False


@dataclass(frozen=True)
class Outcome:
    """The result, for people and for `--json`."""

    rows: int
    shape: tuple[int, ...]
    """Of a row of X."""
    inputs: tuple[str, ...]
    target: str | None
    task: str | None
    classes: tuple[str, ...]
    left_out: Mapping[str, str]
    """Columns that are not inputs, and why."""
    rows_left_out: int
    files: tuple[str, ...]
    model: str | None
    notes: tuple[str, ...]
    next: tuple[str, ...]
    """The commands that come next."""

    def lines(self) -> list[str]:
        """Return the result for people."""
        shape = "×".join(map(str, self.shape))
        text = [f"Prepared: {pluralize(self.rows, 'row')} of {shape} inputs.", *(f"  {name}" for name in self.files)]
        if self.classes:
            shown = ", ".join(self.classes[:10]) + (" …" if len(self.classes) > 10 else "")
            text.append(f'Target: "{self.target}", {pluralize(len(self.classes), "class")}: {shown}')
        elif self.target:
            text.append(f'Target: "{self.target}", a number')
        puts_out = len(self.classes) or 1
        wanted = f" with a model of {shape} inputs and {pluralize(puts_out, 'output')} (--model creates one)"
        return [*text, f"Next{'' if self.model else wanted}:", *(f"  {line}" for line in self.next)]


def prepare_tables(request: Request, terminal: Terminal) -> Outcome:
    """Create `dataset/` from tables.

    Raises:
        InputError: a table can't be read or used, or files of the user are in the way; nothing was written.
    """
    ready = check_dataset(request.workspace, replace_others=request.replace)
    table = with_missing(concatenate([read_text_table(path) for path in request.paths]), request.corrections.missing)
    columns = columns_of(table, request.corrections)
    guess = request.target or guess_target(columns)
    given, alone = request.target, ""
    if given is None and guess is not None and terminal.take_defaults and not _leaves_inputs(columns, guess):
        given, alone = (
            NO_TARGET,
            f'"{guess}" is the only possible input, so there is no target: only X is written, for order XX',
        )
    shown = next((place for place, column in enumerate(columns) if column.name == guess and not alone), None)
    terminal.log(
        f"{_shown(request.paths)}: {pluralize(table.rows, 'row', grouped=True)}, {pluralize(len(columns), 'column')}."
    )
    dialog.show_columns(terminal, columns, shown)
    target, guessed = dialog.ask_target(terminal, columns, table, given)
    task = ""
    if target is not None:
        task = dialog.ask_task(terminal, columns[target], table.columns[target], request.task)
    columns = dialog.ask_corrections(terminal, table, columns, request.corrections, target)
    kind = dialog.ask_model(terminal, request.model, "mlp")
    decided = decide(table, columns, target, task, [path.name for path in request.paths])
    name = file_name(request.paths[0])
    if kind != "none":
        check_model(request.workspace, name, replace=request.replace)
    script = _script_of(decided, kind, name)
    doubts = [
        f'"{column.name}" is left out: {column.doubt}{_way_out(column.doubt)}' for column in columns if column.doubt
    ]
    dropped = []
    if decided.dropped:
        marks = decided.recipe.target.marks if decided.recipe.target else ()
        counting = f"; {', '.join(marks)} among its numbers is read as missing" if marks else ""
        dropped = [f"{pluralize(decided.dropped, 'row')} without a target left out{counting}"]
    guesses = [note for note in (guessed, alone) if note]
    notes = (*ready.notes, *table.notes, *guesses, *doubts, *dropped, *decided.notes)
    files = {f"X/{name}.csv": inputs_csv(decided.recipe.inputs, decided.x)}
    if decided.recipe.target is not None:
        files[f"Y/{name}.csv"] = targets_csv(decided.recipe.target.name, decided.y)
    write_dataset(ready, decided.recipe, files)
    model = write_model(request.workspace, name, script) if script else None
    dialog.print_notes(notes)
    return _outcome(request, decided, files, model, notes)


def _leaves_inputs(columns: Sequence[Column], target: str) -> bool:
    """Return whether an input is left to predict the target from, or may be once a doubt is resolved."""
    return any(column.name != target and (column.is_used or column.doubt) for column in columns)


def _way_out(doubt: str) -> str:
    return ": use --day-first or --month-first" if "month" in doubt else ": use --thousands or --decimal"


def _shown(paths: Sequence[Path]) -> str:
    return paths[0].name if len(paths) == 1 else f"{paths[0].name} and {len(paths) - 1} more"


def _script_of(decided: Decided, kind: str, name: str) -> str | None:
    """Return the script of the model, if one is requested.

    Raises:
        InputError: there is no target, so the output is unknown.
    """
    if kind == "none":
        return None
    recipe = decided.recipe
    if recipe.target is None:
        raise lanfit_error("prepare.model-without-target")
    classes = len(recipe.target.classes) or None
    comment = f": {pluralize(len(recipe.inputs), 'column')}."
    return model_script(kind, name, recipe.tables[0], (len(recipe.inputs),), classes, comment)


def _outcome(
    request: Request, decided: Decided, files: Mapping[str, bytes], model: Path | None, notes: tuple[str, ...]
) -> Outcome:
    recipe, workspace = decided.recipe, request.workspace
    goal = recipe.target
    targets = " --normalize-targets zscore" if goal and goal.task == "regression" else ""
    name = f" --model {model.name}" if model else ""
    return Outcome(
        rows=len(decided.x),
        shape=decided.x.shape[1:],
        inputs=recipe.inputs,
        target=goal.name if goal else None,
        task=goal.task if goal else None,
        classes=goal.classes if goal else (),
        left_out={use.name: use.why for use in recipe.columns if isinstance(use, LeftOut) and use.why != "the target"},
        rows_left_out=decided.dropped,
        files=_written(workspace, files, model),
        model=workspace.relative(model) if model else None,
        notes=notes,
        next=next_commands(f"{name} --normalizer zscore{targets}", request.paths[0].name),
    )


def _written(workspace: Workspace, files: Mapping[str, bytes], model: Path | None) -> tuple[str, ...]:
    """Return the written files, as shown to users."""
    written = [workspace.dataset / name for name in (*files, FILE)]
    written += [model, model.with_suffix(".py")] if model else []
    return tuple(map(workspace.relative, written))


def next_commands(server: str, rows: str) -> tuple[str, ...]:
    """Return the commands that follow `prepare`."""
    return (
        f"lanfit server{server}",
        f"lanfit predict model/collected/<run>/final.keras {rows} --out predictions.csv",
    )


def prepare_any(request: Request, terminal: Terminal) -> Outcome:
    """Create `dataset/` from tables, or from a folder of images.

    Raises:
        InputError: as `prepare_tables`, or a path does not exist.
    """
    for path in request.paths:
        if not path.exists():
            raise lanfit_error("prepare.not-found", path=path)
    folders = [path for path in request.paths if path.is_dir()]
    if folders and len(request.paths) > 1:
        raise lanfit_error("prepare.several-folders", folder=folders[0])
    return prepare_images(request, terminal) if folders else prepare_tables(request, terminal)


def prepare_images(request: Request, terminal: Terminal) -> Outcome:
    """Create `dataset/` from a folder of images.

    Raises:
        InputError: an image can't be read, or files of the user are in the way; nothing was written.
    """
    workspace, [folder] = request.workspace, request.paths
    ready = check_dataset(workspace, replace_others=request.replace)
    images = image_folder.read_folder(folder)
    counts = Counter(image.label for image in images)
    shown = ", ".join(f"{label} ({count:,})" for label, count in list(counts.items())[:20])
    terminal.log(
        f"{folder.name}: {pluralize(len(images), 'image', grouped=True)} of {pluralize(len(counts), 'class')}: {shown}."
    )
    size = image_folder.ask_size(terminal, images, request.size)
    kind = dialog.ask_model(terminal, request.model, "cnn")
    recipe = image_folder.make_recipe(folder, images, size)
    name = file_name(folder.resolve())
    script = None
    if kind != "none":
        check_model(workspace, name, replace=request.replace)
        script = model_script(kind, name, folder.name, size.shape, len(recipe.classes), ": an image, 0 to 255.")
    x, y = image_folder.arrays_of(folder, images, size, recipe)
    files = {f"X/{name}.npz": x, f"Y/{name}.csv": targets_csv("class", y)}
    write_dataset(ready, recipe, files)
    model = write_model(workspace, name, script) if script else None
    notes = (*ready.notes, *notes_of(images, size))
    dialog.print_notes(notes)
    return Outcome(
        rows=len(images),
        shape=size.shape,
        inputs=(),
        target="class",
        task="classification",
        classes=recipe.classes,
        left_out={},
        rows_left_out=0,
        files=_written(workspace, files, model),
        model=workspace.relative(model) if model else None,
        notes=notes,
        next=next_commands(f"{f' --model {model.name}' if model else ''} --normalizer scale", "NEW_IMAGES"),
    )
