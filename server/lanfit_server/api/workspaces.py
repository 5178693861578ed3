"""Which workspace a Python program works in."""

from __future__ import annotations

import os
from pathlib import Path

from lanfit.workspace import Workspace, find_workspace
from lanfit_server.api.progress import Progress


def workspace_of(given: str | os.PathLike[str] | None) -> Workspace:
    """The workspace: the one that is given, else the current folder if it is one, else `./lanfit/`, made and named.

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
        Progress(1, "", 0).note(f"Models and logs go to {place.root} (workspace= names another folder).")
    return place
