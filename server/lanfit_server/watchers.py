"""Watchers: whoever looks on while runs go on, such as the live page. No run knows who they are.

They are given to a `Session` and its `Display` when these are made. An error in one of them is logged and changes
nothing: a run does not depend on who watches it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.settings.job import Job
from lanfit_server.data.prepare import RunData
from lanfit_server.requests import RunHandle
from lanfit_server.run.events import RunEvent
from lanfit_server.store.ledger import RunRecord
from lanfit_server.ui.live_table import Facts

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunFacts:
    """What is certain about a run before its first event."""

    run: str
    job: Job
    record: RunRecord
    data: RunData
    owners: tuple[str, ...]
    """The client of each shard."""
    folder: Path
    """The run's folder in logs/."""


class Watcher:
    """Override what you want to know. Everything but `on_log` is called in the loop of the session."""

    follows_predictions = False
    """Whether it shows predictions for test rows while a run goes on, which cost some time."""

    def request(self, handle: RunHandle) -> None:
        """A request was queued, or has got further; at its end it has a summary or an error."""

    def began(self, facts: RunFacts) -> None:
        """A run is about to begin, or to be resumed: its events follow."""

    def event(self, event: RunEvent, now: float) -> None:
        """Something has happened in the run that goes on."""

    def facts(self, facts: Facts) -> None:
        """The run that goes on has got so far: who works on what, and how much is done."""

    def waiting(self, text: str) -> None:
        """This is waited for; empty for nothing."""

    def on_log(self, text: str) -> None:
        """The operator was told this. From any thread."""


class Watchers(Watcher):
    """Several watchers as one, whose errors go no further."""

    def __init__(self, watchers: Sequence[Watcher] = ()) -> None:
        self._watchers = tuple(watchers)
        self._failed: set[Watcher] = set()
        """Those with an error that was logged."""

    @property
    def follows_predictions(self) -> bool:  # type: ignore[override]
        return any(each.follows_predictions for each in self._watchers)

    def request(self, handle: RunHandle) -> None:
        self._each(lambda watcher: watcher.request(handle))

    def began(self, facts: RunFacts) -> None:
        self._each(lambda watcher: watcher.began(facts))

    def event(self, event: RunEvent, now: float) -> None:
        self._each(lambda watcher: watcher.event(event, now))

    def facts(self, facts: Facts) -> None:
        self._each(lambda watcher: watcher.facts(facts))

    def waiting(self, text: str) -> None:
        self._each(lambda watcher: watcher.waiting(text))

    def on_log(self, text: str) -> None:
        self._each(lambda watcher: watcher.on_log(text))

    def _each(self, call: Callable[[Watcher], None]) -> None:
        for watcher in self._watchers:
            try:
                call(watcher)
            except Exception:
                if watcher not in self._failed:
                    self._failed.add(watcher)
                    logger.exception("a watcher of the runs failed")
