"""The sections `samples` and `confusion` of the live page: their view on the board during a run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from lanfit_server.replay.samples import SamplesView
from lanfit_server.run.events import RunEvent


class Shower(Protocol):
    """What a board shows these sections with."""

    def show(self, section: str, meta: dict[str, Any], models: Mapping[str, Any]) -> None: ...


_VIEWS: WeakKeyDictionary[Shower, SamplesView] = WeakKeyDictionary()


def began(board: Shower, facts: object) -> None:
    """Forget what an earlier run has shown."""
    _VIEWS.pop(board, None)


def feed(board: Shower, event: RunEvent, now: float) -> None:
    """Show on a board what has changed."""
    view = _VIEWS.setdefault(board, SamplesView())
    if view.update(event, now):
        for section, models in view.take_changes().items():
            meta = view.meta(section)
            if meta is not None:
                board.show(section, meta, models)
