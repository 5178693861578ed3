"""Files for people during training: histories, logs. One write per line, so that a crash damages at most one."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lanfit.core.text import printable, sanitize_lines

T = TypeVar("T")
#: Prefixes that make a spreadsheet interpret text as a formula; the wide ones do so in East Asian locales.
_FORMULA = tuple("=+-@\t\n\r＝＋－＠")


def sanitize_cell(text: str) -> str:
    """Return text for a cell of a CSV file or a workbook: without invisible characters, and never a formula."""
    cleaned = printable(text)
    return f"'{cleaned}" if text.startswith(_FORMULA) else cleaned


#: The column of a history over rounds.
ROUND = "round"


class HistoryFile:
    """A history in the format of Keras' CSVLogger: the epoch from 0, then the metrics by name.

    With rounds, epochs are numbered continuously, and a column contains the round of an epoch.
    """

    def __init__(self, path: Path, round_number: int = 0) -> None:
        """Start a new history, replacing an existing one. A round (from 1) continues the existing one."""
        self._path = path
        self._columns: list[str] = []
        self._round = round_number
        self._first = 0
        """Return the number of the first epoch of this round in the history."""
        self._last = -1
        if round_number:
            self._go_on()
        else:
            path.unlink(missing_ok=True)

    def _go_on(self) -> None:
        cut_torn_line(self._path)
        try:
            with self._path.open(encoding="utf-8", newline="") as file:
                header, *lines = csv.reader(file)
            at = header.index(ROUND)
            rounds = [int(line[at]) for line in lines]
        except (FileNotFoundError, ValueError, IndexError):
            self._path.unlink(missing_ok=True)  # there is none, or it is not ours
            return
        self._columns = header[1:]
        self._last = len(rounds) - 1
        self._first = rounds.index(self._round) if self._round in rounds else len(rounds)

    def add(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append one epoch. The first one determines the columns; an epoch that exists already is not added again.

        An epoch that is trained a second time, because a trainer was killed, gives the same numbers.
        """
        epoch += self._first
        if epoch <= self._last:
            return
        self._last = epoch
        metrics = _columns(metrics) | ({ROUND: self._round} if self._round else {})
        if not self._columns:
            self._columns = sorted(metrics)
            append(self._path, csv_line(["epoch", *self._columns]))
        append(self._path, csv_line([epoch, *(metrics.get(name, "") for name in self._columns)]))

    def write(self, history: Mapping[str, Sequence[float]]) -> None:
        """Replace it with a complete history: a list of numbers for each metric."""
        history = _columns(history)
        self._columns = sorted(history)
        rows = zip(*(history[name] for name in self._columns), strict=True)
        lines = [csv_line(["epoch", *self._columns]), *(csv_line([epoch, *row]) for epoch, row in enumerate(rows))]
        self._last = len(lines) - 2
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(lines), encoding="utf-8", newline="")


def _columns(named: Mapping[str, T]) -> dict[str, T]:
    """Return the metrics by column in a file: one that has the name of a history's own column gets another name."""
    own = ("epoch", ROUND)
    return {f"metric {name}" if name in own else sanitize_cell(name): value for name, value in named.items()}


def append_log(path: Path, lines: Sequence[str]) -> None:
    """Append lines to a log, each with the local time; further lines of a text are marked."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    append(path, "".join(f"{stamp} {sanitize_lines(line)}\n" for line in lines))


def csv_line(cells: Sequence[object]) -> str:
    """Return one CSV line, quoted where necessary; formulas are escaped."""
    buffer = io.StringIO()
    safe = [sanitize_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(buffer, lineterminator="\n").writerow(safe)
    return buffer.getvalue()


def append(path: Path, text: str) -> None:
    """Append text to a file in one write; the file and its folder are created if necessary."""
    try:
        file = path.open("a", encoding="utf-8", newline="")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", newline="")
    with file:
        file.write(text)


def cut_torn_line(path: Path) -> bool:
    """Remove an incomplete last line left by a crash; return whether there was one."""
    try:
        with path.open("r+b") as file:
            end = position = file.seek(0, io.SEEK_END)
            while position:
                start = max(0, position - 4096)
                file.seek(start)
                found = file.read(position - start).rfind(b"\n")
                if found >= 0:
                    position = start + found + 1
                    break
                position = start
            file.truncate(position)
            return position < end
    except FileNotFoundError:
        return False
