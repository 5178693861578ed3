"""Writes the log files of a run: a subscriber of its events. finish.py writes the summary at the end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from lanfit.core.logs import HistoryFile, append, append_log, cut_torn_line
from lanfit.core.memory import readable_size
from lanfit.core.text import printable
from lanfit.core.workspace import inside
from lanfit_server.run.events import ELSEWHERE, EVENTS, EpochCompleted, ResultCommitted, RunEvent, TaskLeased, facts_of

logger = logging.getLogger("lanfit.server")
HistoryOf = Callable[[str], Mapping[str, Sequence[float]]]
#: The maximum size of a client's client.log in one run, in bytes: a day's worth of an honest one, which fills no
#: disk.
LOG_LIMIT = 16 * 1024 * 1024


class _Printable(logging.Formatter):
    """Return lines of a log that can be shown on any terminal, with all control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Journal:
    """The files of one run, in `logs/<run>/`. If the disk is full, lines are dropped and the run continues.

    Args:
        history_of: gives the history of a task's committed result.
    """

    def __init__(self, folder: Path, history_of: HistoryOf = lambda task: {}) -> None:
        self._folder = folder
        self._history_of = history_of
        self._histories: dict[tuple[str, int], HistoryFile] = {}
        self._log_sizes: dict[str, int] = {}
        """The sizes of the logs of clients, in bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        grown = [folder / EVENTS, *sorted((folder / "clients").glob("*/*.log"))]
        self.repaired = [path.relative_to(folder).as_posix() for path in grown if cut_torn_line(path)]
        """Files in which an earlier server was killed while writing a line."""
        self._handler = logging.FileHandler(folder / "server.log", encoding="utf-8")
        self._handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        self._handler.handleError = lambda record: None  # type: ignore[method-assign]
        logger = logging.getLogger("lanfit")
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        for name in self.repaired:
            logger.warning("%s ended in an incomplete line, which is removed", name)

    def __call__(self, event: RunEvent, now: float) -> None:
        """Append a line to events.jsonl, and the same to server.log; epochs go into the histories."""
        match event:
            case EpochCompleted():
                with suppress(OSError):
                    self._histories[event.owner, event.fold].add(event.epoch, event.metrics)
            case TaskLeased(others=()):
                self._start_history(event.owner, event.fold, event.round)
            case _:
                pass
        if not isinstance(event, ELSEWHERE):
            self._write(event)
        if isinstance(event, ResultCommitted) and not event.round:
            self._full_history(event)

    def _write(self, event: RunEvent) -> None:
        facts = facts_of(event)
        with suppress(OSError):
            append(self._folder / EVENTS, msgspec.json.encode({"time": time.time(), **facts}).decode() + "\n")
        kind = facts.pop("event")
        logger.info("%s %s", kind, " ".join(f"{key}={value}" for key, value in facts.items()))

    def _client(self, name: str) -> Path:
        return inside(self._folder / "clients", name)

    def _start_history(self, owner: str, fold: int, round_: int = 0) -> None:
        """Start the history of an attempt: replace that of an earlier one, or continue that of earlier rounds."""
        suffix = f"-fold-{fold}" if fold else ""
        self._histories[owner, fold] = HistoryFile(self._client(owner) / f"history{suffix}.csv", round_)

    def _full_history(self, event: ResultCommitted) -> None:
        """Replace a history.csv with that of its result: a link may have been down for some epochs."""
        if history := self._history_of(event.task):
            with suppress(OSError):
                self._start_history(event.owner, event.fold)
                self._histories[event.owner, event.fold].write(history)

    def client_log(self, name: str, lines: Sequence[str]) -> bool:
        """Append lines that a client sent to its client.log, up to its size limit.

        Returns:
            Whether the log has become full: once, and never for one that an earlier server found full.
        """
        path = self._client(name) / "client.log"
        if name not in self._log_sizes:
            self._log_sizes[name] = path.stat().st_size if path.exists() else 0
        before = self._log_sizes[name]
        if before >= LOG_LIMIT:
            return False
        # Each line needs at least as many additional characters in the log.
        self._log_sizes[name] += sum(len(line.encode("utf-8", "replace")) + 21 for line in lines)
        full = self._log_sizes[name] >= LOG_LIMIT
        if full:
            lines = [f"This log is full: the server keeps {readable_size(LOG_LIMIT)} of a client."]
            self._log_sizes[name] = LOG_LIMIT
        with suppress(OSError):
            append_log(path, lines)
        return full

    def close(self) -> None:
        logging.getLogger("lanfit").removeHandler(self._handler)
        with suppress(OSError):
            self._handler.close()
