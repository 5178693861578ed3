"""The files with custom objects of a job: found, read and hashed. The server executes none: the model process does."""

from __future__ import annotations

from pathlib import Path

from lanfit.fields import Value
from lanfit.models.custom import AllowedFile, allow_named, pinned
from lanfit.workspace import Workspace


def files_of(value: Value, workspace: Workspace) -> tuple[AllowedFile, ...]:
    """The files that a job's `custom_objects` names: from here on, from the workspace on, or in its model/.

    Raises:
        InputError: one is missing, is not Python, or is not what it was when the job was written down.
    """
    texts = value if isinstance(value, tuple) else ()
    return allow_named(texts, (Path.cwd(), workspace.root, workspace.models))


def kept(files: tuple[AllowedFile, ...], workspace: Workspace) -> tuple[str, ...] | None:
    """What a job keeps of them: where they are, and their hashes. None for none."""
    return tuple(pinned(file, workspace.relative(Path(file.path))) for file in files) or None
