"""How long to wait for a client that is gone and that nobody can stand in for: `--deadline`. Does no waiting itself."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable

from lanfit_server.clusters import REMIND_SECONDS
from lanfit_server.roster import Roster


class Patience:
    """The deadlines of the clients that are gone.

    Args:
        seconds: how long each is waited for; None: for ever.
    """

    def __init__(self, roster: Roster, seconds: float | None) -> None:
        self._roster = roster
        self._seconds = math.inf if seconds is None else seconds

    def left(self, name: str) -> float:
        """Seconds until a client has been waited for long enough; infinite while it is here."""
        member = self._roster[name]
        return math.inf if member.connected else member.gone_since + self._seconds - time.monotonic()

    def is_over(self, name: str) -> bool:
        return self.left(name) <= 0

    @property
    def how_long(self) -> str:
        """What to say behind `it is gone`."""
        return " for longer than --deadline" if self._seconds else ""

    def next_end(self, names: Iterable[str]) -> float:
        """Seconds until the next of these is waited for no longer, or until it is time to say who is waited for."""
        return max(0.0, min([REMIND_SECONDS, *map(self.left, names)]))

    def sentence(self, name: str) -> str:
        """What is said about one that is waited for."""
        return f"nobody else has its rows; it is waited for {max(0.0, self.left(name)):.0f} s more (--deadline)"
