"""The state of the live page: what runs, queue and clients look like now."""

from __future__ import annotations

from lanfit_server.watchers import Watcher


class Board(Watcher):
    """Follows runs for the page."""
