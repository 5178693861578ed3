"""`lanfit.attach`: the outcome of a run whose program has ended; follows a run that is still in progress."""

from __future__ import annotations

import logging
import os
import time
from functools import cached_property
from pathlib import Path
from typing import Any

from lanfit.core.decoding import decode_json
from lanfit.core.lock import FolderLock
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit_server.api.outcome import load_models, outcome_file
from lanfit_server.api.progress import Progress
from lanfit_server.api.watching import fill_history, final_path, make_history
from lanfit_server.api.workspaces import workspace_of
from lanfit_server.run.events import EVENTS
from lanfit_server.run.resume import job_of_run, status_of, summary_of
from lanfit_server.run.runner import lock_of
from lanfit_server.store.summary import Summary

logger = logging.getLogger("lanfit.server")
#: The intervals of reading the files of a run in progress, and of messages about the wait, in seconds.
LOOK_SECONDS = 0.5
REMIND_SECONDS = 30.0
#: Events of a journal that are shown while a run is followed.
_SHOWN_EVENTS = ("leased", "returned", "scored", "round", "lost", "given up", "left out")


class Attached:
    """A run that has ended: `run`, `status`, `summary`, `history`, `model`, `models` and the path of `final`."""

    def __init__(self, workspace: Workspace, summary: Summary) -> None:
        self.workspace = workspace
        self.summary = summary
        self.run = summary.run
        self.status = summary.status
        self.clients = summary.clients
        self.final = final_path(summary, workspace)
        """`final.keras`: the outcome with its normalizer in front; None without a model."""

    @cached_property
    def model(self) -> Any:
        """The outcome as a compiled Keras model, as `fit` would have left it; None when there is none."""
        import keras

        path = outcome_file(self.summary, self.workspace)
        return keras.models.load_model(path) if path is not None else None

    @cached_property
    def models(self) -> list[Any]:
        """The clients' models (methods fit and kfold), in the order of `clients`."""
        return load_models(self.summary, self.workspace)

    @cached_property
    def history(self) -> Any:
        """The `keras.callbacks.History` that `fit` would have returned."""
        job = job_of_run(self.workspace, self.run)
        total = job.rounds if self.summary.rounds else job.epochs
        return fill_history(make_history(self.model), self.summary, self.workspace, 0, total)


def attach(run: str, workspace: str | os.PathLike[str] | None = None, *, verbose: int = 1) -> Attached:
    """Return the outcome of a run; follow a run in progress until it has ended.

    Args:
        run: its id: the name of its folder in logs/.
        workspace: as for `Cluster`.

    Raises:
        InputError: there is no such run, or it is unfinished and no server runs it.
    """
    place = workspace_of(workspace)
    progress = Progress(2 if verbose else 0, "epoch", 0)
    _follow(place, run, progress)
    return Attached(place, summary_of(place, run))


def _follow(place: Workspace, run: str, progress: Progress) -> None:
    """Wait until a run has ended, and show its events."""
    began = reminded = time.monotonic()
    events = _Events(place.run_folder(run) / EVENTS)
    while status_of(place, run) == "unfinished":
        if not _is_worked_on(place, run) and status_of(place, run) == "unfinished":
            raise lanfit_error("attach.abandoned", run=run, workspace=place.root)
        if began == reminded or time.monotonic() - reminded > REMIND_SECONDS:
            reminded = time.monotonic()
            waited = f", for {reminded - began:.0f} s now" if reminded - began > 1 else ""
            progress.note(f"Run {run} is still being finished by its server: waiting for its summary{waited}.")
        for line in events.new():
            progress.note(line)
        time.sleep(LOOK_SECONDS)


def _is_worked_on(place: Workspace, run: str) -> bool:
    """Return whether a process works on the run: it holds a lock as long as it lives."""
    lock = FolderLock.take(lock_of(place, run))
    if lock is None:
        return True
    lock.remove()
    return False


class _Events:
    """Converts the lines that are added to `events.jsonl` to sentences."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = path.stat().st_size if path.is_file() else 0

    def new(self) -> list[str]:
        try:
            with self._path.open("rb") as file:
                file.seek(self._read)
                whole, newline, _ = file.read().rpartition(b"\n")
        except OSError:
            return []
        self._read += len(whole) + len(newline)
        events = [event for line in whole.splitlines() if line.strip() and (event := self._event_in(line)) is not None]
        return [_in_words(event) for event in events if event["event"] in _SHOWN_EVENTS]

    def _event_in(self, line: bytes) -> dict[str, Any] | None:
        """Return the event of a line; None for a damaged one."""
        try:
            event = decode_json(line, dict[str, Any])
        except ValueError as error:
            logger.warning("a line of %s can't be read and is skipped: %s", self._path, error)
            return None
        return event if isinstance(event.get("event"), str) else None


def _in_words(event: dict[str, Any]) -> str:
    facts = " ".join(f"{key}={value}" for key, value in event.items() if key not in ("time", "event"))
    return f"{event['event']}: {facts}"
