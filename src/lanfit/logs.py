"""Files that people read while training goes on: histories, logs. One write a line: a crash tears at most one."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from lanfit.text import printable, sanitize_lines

T = TypeVar("T")
#: What makes a spreadsheet take text for a formula; the wide ones do so in East Asian settings.
_FORMULA = tuple("=+-@\t\n\r＝＋－＠")


def harmless_cell(text: str) -> str:
    """Text for a cell of a CSV file or a workbook: nothing that is not shown, and never a formula."""
    cleaned = printable(text)
    return f"'{cleaned}" if text.startswith(_FORMULA) else cleaned


#: The column of a history over rounds.
ROUND = "round"


class HistoryFile:
    """A history in the form of Keras' CSVLogger: the epoch from 0, then the metrics by name.

    With rounds their epochs are counted on, and a column says which round an epoch is of.
    """

    def __init__(self, path: Path, round_number: int = 0) -> None:
        """Begin a new history; what was there is replaced. A round (from 1) goes on with what is there."""
        self._path = path
        self._columns: list[str] = []
        self._round = round_number
        self._first = 0
        """Which epoch of the history is the first of this round."""
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
        """Append one epoch. The first one decides the columns; one that is there already is not added again.

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
        """Replace it with a whole history: a list of numbers for each metric."""
        history = _columns(history)
        self._columns = sorted(history)
        rows = zip(*(history[name] for name in self._columns), strict=True)
        lines = [csv_line(["epoch", *self._columns]), *(csv_line([epoch, *row]) for epoch, row in enumerate(rows))]
        self._last = len(lines) - 2
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(lines), encoding="utf-8", newline="")


def _columns(named: Mapping[str, T]) -> dict[str, T]:
    """Metrics by column, as a file has it: one that is called like a column of a history's own gets another name."""
    own = ("epoch", ROUND)
    return {f"metric {name}" if name in own else harmless_cell(name): value for name, value in named.items()}


def append_log(path: Path, lines: Sequence[str]) -> None:
    """Append lines to a log, each with the local time; further lines of one are marked as such."""
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    append(path, "".join(f"{stamp} {sanitize_lines(line)}\n" for line in lines))


def csv_line(cells: Sequence[object]) -> str:
    """One CSV line, quoted where needed; text is made harmless."""
    buffer = io.StringIO()
    safe = [harmless_cell(cell) if isinstance(cell, str) else cell for cell in cells]
    csv.writer(buffer, lineterminator="\n").writerow(safe)
    return buffer.getvalue()


def append(path: Path, text: str) -> None:
    """Append text to a file in one write; the file and its folder are made when needed."""
    try:
        file = path.open("a", encoding="utf-8", newline="")
    except FileNotFoundError:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("a", encoding="utf-8", newline="")
    with file:
        file.write(text)


def cut_torn_line(path: Path) -> bool:
    """Cut off what a crash left of a last line; returns whether there was any."""
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
