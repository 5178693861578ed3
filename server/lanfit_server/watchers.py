"""Watchers: observers of runs, such as the live page. Runs do not depend on them.

A `Session` and its `Display` get them at construction. An error in one of them is logged, and has no other effect.
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
    """The facts about a run that are known before its first event."""

    run: str
    job: Job
    record: RunRecord
    data: RunData
    owners: tuple[str, ...]
    """The client of each shard."""
    folder: Path
    """The run's folder in logs/."""


class Watcher:
    """Override the notifications that you need. All but `on_log` are called in the loop of the session."""

    follows_predictions = False
    """Whether it shows predictions for test rows during a run, which cost some time."""

    def request(self, handle: RunHandle) -> None:
        """Handle a request that was queued or changed state; at its end it has a summary or an error."""

    def began(self, facts: RunFacts) -> None:
        """Handle the start of a run, or of a resumed one: its events follow."""

    def event(self, event: RunEvent, now: float) -> None:
        """Handle an event of the current run."""

    def facts(self, facts: Facts) -> None:
        """Handle the progress of the current run: the task of each client, and how much is done."""

    def waiting(self, text: str) -> None:
        """Handle a change of what the server waits for; empty for nothing."""

    def on_log(self, text: str) -> None:
        """Handle a message to the operator. From any thread."""


class Watchers(Watcher):
    """Several watchers as one; contains their errors."""

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
