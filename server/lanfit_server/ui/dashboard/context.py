"""What the routes of the live page work with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lanfit.core.workspace import Workspace
from lanfit.settings.fields import Value
from lanfit.settings.timeouts import Timeouts
from lanfit_server.run.runner import RunHost
from lanfit_server.session import Session
from lanfit_server.ui.dashboard.board import Board


@dataclass(frozen=True)
class Context:
    """What the routes of one page work with. They are called in the loop of the session."""

    workspace: Workspace
    session: Session
    host: RunHost
    """An `Endpoint`, or a `Simulation`."""
    board: Board
    """The state of the page."""
    timeouts: Timeouts
    defaults: Mapping[str, Value]
    """Settings of a job from flags, the job file and server.toml, by key."""
