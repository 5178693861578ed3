"""What the operator sees while a run goes on: a live table at a terminal, plain lines elsewhere. Decides nothing."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from lanfit_server.roster import Member

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

COLUMNS = ("name", "backend", "state", "progress", "loss", "samples/s", "last seen")


class Display:
    """Talks to the operator on stderr. Methods may be called from any thread."""

    shows_rounds = False
    """Whether `round` shows anything, so that a round's figures are needed when it is over."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._live = False
        self._console: Console | None = None
        self._caption = ""

    def say(self, text: str) -> None:
        """A line that stays."""
        if self._console is not None:
            # No markup: a client's name or an error may hold brackets.
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)
        else:
            print(text, file=self._stream, flush=True)

    def detail(self, text: str) -> None:
        """A line that the table shows in its own way."""
        if not self._live:
            self.say(text)

    def began(self, run: str) -> None:
        """A run has begun. At a terminal its table says so."""

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
        if self._live:
            self._caption = text
        elif text and text != self._caption:
            self._caption = text
            self.say(text)

    @contextlib.contextmanager
    def table(self, members: Callable[[], Sequence[Member]], notes: Callable[[], Sequence[str]]) -> Iterator[None]:
        """Show the live table of clients inside this block, when there is a terminal to show it on."""
        if not self._stream.isatty():
            yield
            return
        from rich.console import Console
        from rich.live import Live

        self._console = Console(file=self._stream)
        self._live = True
        try:
            with Live(
                console=self._console,
                get_renderable=lambda: self._render(members(), notes()),
                refresh_per_second=4,
                redirect_stdout=False,
                redirect_stderr=False,
            ):
                yield
        finally:
            self._live = False
            self._console = None

    def _render(self, members: Sequence[Member], notes: Sequence[str]) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(*COLUMNS, caption=Text("\n".join([*filter(None, [self._caption]), *notes])), expand=False)
        now = time.monotonic()
        for member in members:
            table.add_row(*(Text(cell) for cell in row(member, now)))
        return table


def row(member: Member, now: float) -> tuple[str, ...]:
    """The cells of a client in the live table.

    Args:
        now: seconds on the monotonic clock.
    """
    bar = "█" * round(member.progress * 10)
    return (
        member.name,
        f"{member.backend}/{member.device}",
        member.state,
        f"{bar:<10} {member.progress:4.0%} {member.epoch}".rstrip(),
        "" if member.loss is None else f"{member.loss:.4f}",
        "" if not member.samples_per_second else f"{member.samples_per_second:,.0f}",
        "now" if member.connected and now - member.last_seen < 2 else f"{now - member.last_seen:.0f} s ago",
    )
