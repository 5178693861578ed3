"""The section `timeline` of the live page: what a board shows of it while a run goes on."""

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
    """Show on a board what is new."""
    view = _VIEWS.setdefault(board, TimelineView())
    if view.update(event, now):
        board.add_spans(view.take_new())
