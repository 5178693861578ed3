"""The section `timeline` of the live page: its view on the board during a run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from lanfit_server.replay.timeline import Span, TimelineView
from lanfit_server.run.events import RunEvent


class Shower(Protocol):
    """What a board shows spans with."""

    def add_spans(self, spans: Sequence[Span]) -> None: ...


_VIEWS: WeakKeyDictionary[Shower, TimelineView] = WeakKeyDictionary()


def began(board: Shower, facts: object) -> None:
    """Forget what an earlier run has shown."""
    _VIEWS.pop(board, None)


def feed(board: Shower, event: RunEvent, now: float) -> None:
    """Update the board with new spans."""
    view = _VIEWS.setdefault(board, TimelineView())
    if view.update(event, now):
        board.add_spans(view.take_new())
