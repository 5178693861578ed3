"""The workspace of a Python program."""

from __future__ import annotations

import os
from pathlib import Path

from lanfit.core.workspace import Workspace, find_workspace
from lanfit_server.api.progress import Progress


def workspace_of(given: str | os.PathLike[str] | None) -> Workspace:
    """Return the workspace: the given one, else the current folder if it is one, else a new `./lanfit/`.

    Raises:
        InputError: the one that is given is a file.
    """
    here = Path.cwd()
    if given is not None:
        return find_workspace(Path(given), here)
    if (here / "model").is_dir() and (here / "dataset").is_dir():
        return Workspace(here.resolve())
    place = Workspace((here / "lanfit").resolve())
    if not place.root.is_dir():
        place.root.mkdir()
        Progress(1, "", 0).note(f"Models and logs are written to {place.root} (workspace= sets another folder).")
    return place
