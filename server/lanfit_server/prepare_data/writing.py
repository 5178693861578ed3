"""Writes prepared data into `dataset/`. Files of the user are never overwritten: they stay, or are moved aside.

Two kinds of files are replaced with a note: the unchanged sample, and the output of an earlier `lanfit prepare`.
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanfit.core.durable import atomic_write
from lanfit.core.logs import sanitize_cell
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.data.files import is_data
from lanfit.data.tables import is_header
from lanfit.errors import lanfit_error
from lanfit_server.data.demo_data import sample_bytes
from lanfit_server.prepare_data.recipe import FILE, AnyRecipe, Float32, read_recipe, to_json


@dataclass(frozen=True)
class Ready:
    """A dataset folder that may be written to, and the files that must be removed first."""

    workspace: Workspace
    remove: tuple[Path, ...] = ()
    aside: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()


def check_dataset(workspace: Workspace, *, replace_others: bool) -> Ready:
    """Inspect `dataset/X`, `dataset/Y` and `dataset/recipe.json`. Changes nothing.

    Raises:
        InputError: there are files that are neither the sample nor from an earlier `prepare`, and may not be replaced.
    """
    recipe = workspace.dataset / FILE
    found = [
        path for folder in (workspace.inputs, workspace.targets) if folder.is_dir()
        for path in sorted(folder.iterdir()) if is_data(path)
    ]  # fmt: skip
    ours = _digests(recipe)
    samples = [path for path in found if _is_sample(workspace, path)]
    earlier = [path for path in found if ours.get(_name(workspace, path)) == _digest(path)]
    others = [path for path in found if path not in samples and path not in earlier]
    if recipe.exists() and not ours:
        others.append(recipe)
    if others and not replace_others:
        shown = ", ".join(workspace.relative(path) for path in others[:5]) + (", …" if len(others) > 5 else "")
        raise lanfit_error("prepare.in-the-way", files=shown, folder=workspace.relative(workspace.dataset))
    notes = []
    if samples:
        notes.append(f"the sample data is replaced: {', '.join(workspace.relative(path) for path in samples)}")
    if earlier:
        notes.append(
            f"previously prepared files are replaced: {', '.join(workspace.relative(path) for path in earlier)}"
        )
    if others:
        files = pluralize(len(others), "file that was there is", "files that were there are")
        notes.append(f"{files} now in {workspace.relative(_aside(workspace))}")
    return Ready(workspace, (*samples, *earlier), tuple(others), tuple(notes))


def write_dataset(ready: Ready, recipe: AnyRecipe, files: Mapping[str, bytes]) -> None:
    """Write the files, by their names in `dataset/`, and the recipe last."""
    dataset = ready.workspace.dataset
    if ready.aside:
        folder = _aside(ready.workspace)
        for path in ready.aside:
            target = folder / path.relative_to(dataset)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(path, target)
    for path in ready.remove:
        path.unlink(missing_ok=True)
    for name, content in files.items():
        atomic_write(dataset / name, content)
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    kept: AnyRecipe = _with_files(recipe, digests)
    atomic_write(dataset / FILE, to_json(kept))


def current_recipe(workspace: Workspace) -> bytes | None:
    """Return the recipe of `dataset/`, if the files in X and Y are still those that were written with it."""
    recipe = workspace.dataset / FILE
    digests = _digests(recipe)
    names = [
        _name(workspace, path) for folder in (workspace.inputs, workspace.targets) if folder.is_dir()
        for path in folder.iterdir() if is_data(path)
    ]  # fmt: skip
    if not digests or not set(names) <= set(digests):
        return None
    if any(digests[name] != _digest(workspace.dataset / name) for name in names):
        return None
    return recipe.read_bytes()


def inputs_csv(names: Sequence[str], x: Float32) -> bytes:
    """Return the rows of X as a csv file; integers without a decimal point."""
    head = [sanitize_cell(name) for name in names]
    if not is_header(head):  # a header of numbers only would be read as a row
        head = [f"column {name}" for name in head]
    whole = [bool(np.all(np.mod(column, 1) == 0)) and bool(np.all(np.abs(column) < 2**53)) for column in x.T]
    columns = [
        column.astype(np.int64).tolist() if is_whole else [float(text) for text in column.astype(str)]
        for column, is_whole in zip(x.T, whole, strict=True)
    ]
    return _csv(head, zip(*columns, strict=True))


def targets_csv(name: str, y: Sequence[object]) -> bytes:
    """Return the targets as a csv file; a name that is also a label, or a number, gets a suffix."""
    head = sanitize_cell(name)
    if not is_header([head]) or head in y:
        head = f"{head} (target)"
    return _csv([head], ([value] for value in y))


def _csv(head: Sequence[str], rows: object) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)  # type: ignore[arg-type]
    return text.getvalue().encode()


def _with_files(recipe: AnyRecipe, digests: dict[str, str]) -> AnyRecipe:
    import msgspec

    return msgspec.structs.replace(recipe, files=digests)


def _digests(recipe: Path) -> Mapping[str, str]:
    from lanfit.errors import InputError

    try:
        return read_recipe(recipe).files if recipe.is_file() else {}
    except InputError:
        return {}


def _is_sample(workspace: Workspace, path: Path) -> bool:
    content = sample_bytes(f"dataset/{_name(workspace, path)}")
    return content is not None and path.is_file() and path.read_bytes() == content


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _name(workspace: Workspace, path: Path) -> str:
    return path.relative_to(workspace.dataset).as_posix()


def _aside(workspace: Workspace) -> Path:
    """Return the first folder `dataset/replaced-1`, `-2`, … that does not exist."""
    number = 1
    while (folder := workspace.dataset / f"replaced-{number}").exists():
        number += 1
    return folder
