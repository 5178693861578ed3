"""What the operator sees while a run goes on: a live table at a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from lanfit.gauge import Pace
from lanfit.terminal import Terminal
from lanfit_server.live_table import Facts, Line, share_done, table_lines
from lanfit_server.roster import Member


class Display:
    """Talks to the operator. Methods may be called from any thread.

    Args:
        terminal: where, and after the answer while a question is open there; stderr otherwise.
    """

    shows_rounds = False
    """Whether `round` shows anything, so that a round's figures are needed when it is over."""

    def __init__(self, terminal: Terminal | None = None) -> None:
        self._terminal = terminal or Terminal()
        self._caption = ""
        self._facts = Facts()
        self._pace = Pace()
        self._is_live = False

    def say(self, text: str) -> None:
        """A line that stays."""
        self._terminal.say(text)

    def detail(self, text: str) -> None:
        """A line that the table shows in its own way."""
        self._terminal.detail(text)

    def began(self, run: str) -> None:
        """A run has begun. At a terminal its table says so."""

    def facts(self, facts: Facts) -> None:
        """What the run is at now, for the table."""
        self._facts = facts

    def epoch(
        self, client: str, fold: int | None, round_: int | None, epoch: int, epochs: int, metrics: Mapping[str, float]
    ) -> None:
        """A client has finished an epoch, from 0; the table shows it in its own way."""
        shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
        part = f" fold {fold}," if fold else f" round {round_}," if round_ else ""
        self.detail(f"{client}:{part} epoch {epoch + 1}/{epochs}  {shown}")

    def round(self, number: int, logs: Mapping[str, float]) -> None:
        """A round is over, from 1. What is to be said of it is said where it is made."""

    def waiting(self, text: str) -> None:
        """What is waited for; empty when nothing is."""
        if text != self._caption:
            self._caption = text
            if text and not self._is_live:
                self.say(text)

    @contextlib.contextmanager
    def table(self, members: Callable[[], Sequence[Member]], notes: Callable[[], Sequence[str]]) -> Iterator[None]:
        """Show the live table of clients inside this block, when there is a terminal to show it on; then it is gone."""
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
