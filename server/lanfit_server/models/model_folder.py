"""The model files of a workspace."""

from __future__ import annotations

from pathlib import Path

from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.models.model_file import is_model_name


def find_model(workspace: Workspace, name: str) -> Path:
    """Return the model file of an answer: a file in `model/`, or a path.

    Raises:
        InputError: there is none.
    """
    for path in (workspace.models / name, workspace.root / name, Path(name).expanduser()):
        if path.is_file() or (path / "saved_model.pb").is_file():  # a SavedModel, which is refused as that
            return path
    folder = workspace.relative(workspace.models)
    if not name:
        raise lanfit_error("model.none", folder=folder)
    found = ", ".join(path.name for path in models_in(workspace)) or "no model"
    raise lanfit_error("model.not-found", name=name, folder=folder, found=found)


def check_there(path: Path) -> None:
    """Check that a model file that was found before is still there.

    Raises:
        InputError: it was removed.
    """
    if not path.exists():
        found = ", ".join(sorted(each.name for each in path.parent.glob("*") if is_model_name(each.name)))
        raise lanfit_error("model.not-found", name=path.name, folder=path.parent.name, found=found or "no model")


def models_in(workspace: Workspace) -> list[Path]:
    """Return the model files of a workspace, newest first; of equal age by name."""
    found = [path for path in workspace.models.glob("*") if is_model_name(path.name) and path.is_file()]
    return sorted(found, key=lambda path: (-path.stat().st_mtime, path.name))
