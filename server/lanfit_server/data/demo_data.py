"""The demo data: the digits and a small model, from a clone or from an installed package."""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error

FILES = ("model/digits.h5", "dataset/X/digits.csv", "dataset/Y/digits.csv")


def demo_workspace(workspace: Workspace, start: Path) -> Workspace:
    """Return the workspace itself if it contains only the digits, as a clone does; else `start/lanfit`, created with
    them."""
    if _holds_the_digits(workspace):
        return workspace
    own = Workspace((start / "lanfit").resolve())
    for name in FILES:
        target = own.root / name
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(_sample(name), target)
    if not _holds_the_digits(own):
        raise lanfit_error("demo.other-files", folder=own.dataset)
    return own


def check_digits(workspace: Workspace) -> None:
    """Check that `dataset/` of a workspace has the digits, or can get them.

    Raises:
        InputError: it has other data.
    """
    data = {path.name for folder in (workspace.inputs, workspace.targets) for path in folder.glob("[!.]*")}
    if data - {"digits.csv", "README.md"}:
        raise lanfit_error("digits.other-files", folder=workspace.relative(workspace.dataset))


def add_digits(workspace: Workspace) -> None:
    """Copy the digits into `dataset/` of a workspace, unless they are there.

    Raises:
        InputError: it has other data, or the digits are not installed.
        OSError: they can't be written.
    """
    check_digits(workspace)
    for name in FILES[1:]:
        if not (target := workspace.root / name).exists():
            atomic_write(target, _sample(name).read_bytes())


def _holds_the_digits(workspace: Workspace) -> bool:
    data = [path.name for folder in (workspace.inputs, workspace.targets) for path in folder.glob("*.*")]
    return data == ["digits.csv", "digits.csv"] and (workspace.root / FILES[0]).is_file()


def sample_bytes(name: str) -> bytes | None:
    """Return the content of a demo file; None if there is none with this name."""
    path = _find_sample(name) if name in FILES else None
    return path.read_bytes() if path else None


def _sample(name: str) -> Path:
    path = _find_sample(name)
    if path is None:
        raise lanfit_error("demo.no-sample", name=name)
    return path


def _find_sample(name: str) -> Path | None:
    """Return a demo file: inside the installed package, or next to it in a clone."""
    package = Path(str(resources.files("lanfit_server")))
    for path in (package / "samples" / name, package.parents[1] / name):
        if path.is_file():
            return path
    return None
