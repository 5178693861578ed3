"""The options of the command line."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from lanfit.core.workspace import Workspace
from lanfit.settings.fields import Value

if TYPE_CHECKING:
    from lanfit_server.store.summary import Summary


@dataclass(frozen=True)
class Options:
    """The command line; questions that `given` answers (flags, then the job file) are not asked."""

    workspace: Workspace
    given: Mapping[str, Value]
    passphrase_file: Path | None = None
    passphrase: str | None = None
    resume: str | None = None
    """Resume this run."""
    show: Callable[[Summary], None] = lambda summary: None
    """Called with the outcome of a run as soon as models and summary are on disk; the reports follow."""
    page: Mapping[str, Value] = field(default_factory=dict)
    """Flags about the live page."""
    stays: bool = False
    """Whether the server stays after its run, for runs that are set up on the page, until it is ended."""
    only_page: bool = False
    """Whether there is no run at the beginning: all are set up on the page."""
