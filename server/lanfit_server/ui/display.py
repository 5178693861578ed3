"""The operator's view of a run: a live table at a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from lanfit.core.gauge import Pace
from lanfit.core.terminal import Terminal
from lanfit_server.clusters.roster import Member
from lanfit_server.ui.live_table import Facts, Line, share_done, table_lines
from lanfit_server.watchers import Watchers


class Display:
    """Shows messages to the operator. Methods may be called from any thread.

    Args:
        terminal: where to print; while a question is open, after its answer. Default: stderr.
        watchers: they receive the same messages.
    """

    shows_rounds = False
    """Whether `round` shows anything, so that a round's metrics are needed when it is over."""

    def __init__(self, terminal: Terminal | None = None, watchers: Watchers | None = None) -> None:
        self._terminal = terminal or Terminal()
        self._watchers = watchers or Watchers()
        self._caption = ""
        self._facts = Facts()
        self._pace = Pace()
        self._is_live = False

    def log(self, text: str) -> None:
        """Print a permanent line."""
        self._terminal.log(text)
        self._watchers.on_log(text)

    def detail(self, text: str) -> None:
        """Print a line that the table shows in its own way."""
        self._terminal.detail(text)

    def began(self, run: str) -> None:
        """Show the start of a run, at a terminal in its table."""

    def facts(self, facts: Facts) -> None:
        """Update the state of the run in the table."""
        self._facts = facts
        self._watchers.facts(facts)

    def epoch(
        self, client: str, fold: int | None, round_: int | None, epoch: int, epochs: int, metrics: Mapping[str, float]
    ) -> None:
        """Show a finished epoch of a client, from 0; the table shows it in its own way."""
        shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        part = f" fold {fold}," if fold else f" round {round_}," if round_ else ""
        self.detail(f"{client}:{part} epoch {epoch + 1}/{epochs}  {shown}")

    def round(self, number: int, logs: Mapping[str, float]) -> None:
        """Show a finished round, from 1."""

    def waiting(self, text: str) -> None:
        """Update the reason for waiting; empty for none."""
        if text != self._caption:
            self._caption = text
            self._watchers.waiting(text)
            if text and not self._is_live:
                self.log(text)

    @contextlib.contextmanager
    def table(self, members: Callable[[], Sequence[Member]], notes: Callable[[], Sequence[str]]) -> Iterator[None]:
        """Show the live table of clients inside this block, if there is a terminal; then remove it."""
        self._facts, self._pace, self._caption = Facts(), Pace(), ""

        def draw(width: int, height: int) -> Sequence[Line]:
            return self._lines(members(), notes(), width, height)

        self._is_live = self._terminal.draws
        try:
            with self._terminal.area(draw):
                yield
        finally:
            self._is_live = False

    def _lines(self, members: Sequence[Member], notes: Sequence[str], width: int, height: int) -> Sequence[Line]:
        facts, now = self._facts, time.monotonic()
        left = self._pace.left(share_done(facts, members), now)
        return table_lines(members, facts, self._caption, notes, left, width, height, now)
