"""What the command line says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lanfit.core.workspace import Workspace
from lanfit.settings.fields import Value


@dataclass(frozen=True)
class Options:
    """The command line; questions that `given` answers (flags, then the job file) are not asked."""

    workspace: Workspace
    given: Mapping[str, Value]
    passphrase_file: Path | None = None
    passphrase: str | None = None
    resume: str | None = None
    """Resume this run."""
