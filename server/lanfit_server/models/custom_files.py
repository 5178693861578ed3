"""The custom objects files of a job: found, read and hashed. The model process executes them, not the server."""

from __future__ import annotations

from pathlib import Path

from lanfit.core.workspace import Workspace
from lanfit.models.custom_files import AllowedFile, allow_named, pinned
from lanfit.settings.fields import Value


def files_of(value: Value, workspace: Workspace) -> tuple[AllowedFile, ...]:
    """Return the files named by a job's `custom_objects`: relative to here, to the workspace, or to its model/.

    Raises:
        InputError: one is missing, is not Python, or has changed since the job was written.
    """
    texts = value if isinstance(value, tuple) else ()
    return allow_named(texts, (Path.cwd(), workspace.root, workspace.models))


def stored_names(files: tuple[AllowedFile, ...], workspace: Workspace) -> tuple[str, ...] | None:
    """Return what a job records of them: paths and hashes. None for none."""
    return tuple(pinned(file, workspace.relative(Path(file.path))) for file in files) or None
