"""What is written about a run while it goes on: events, histories, logs. The summary is made at the end (finish.py)."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType

import msgspec

from lanfit.data.memory import readable_size
from lanfit.logs import HistoryFile, append, append_log, cut_torn_line
from lanfit.text import printable

log = logging.getLogger("lanfit.server")
EVENTS = "events.jsonl"
#: What the client.log of one client may have in one run, in bytes: a day's worth of an honest one, and no disk full.
LOG_LIMIT = 16 * 1024 * 1024


class _Printable(logging.Formatter):
    """Lines of a log that can be shown on any terminal, whatever they quote."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))


class Journal:
    """The files of one run, in `logs/<run>/`. What the disk has no room for is left out: the run goes on."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._histories: dict[str, HistoryFile] = {}
        self._log_sizes: dict[str, int] = {}
        """What the logs of clients have, in bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        grown = [folder / EVENTS, *sorted((folder / "clients").glob("*/*.log"))]
        self.repaired = [path.relative_to(folder).as_posix() for path in grown if cut_torn_line(path)]
        """Files in which an earlier server was killed amid a line."""
        self._handler = logging.FileHandler(folder / "server.log", encoding="utf-8")
        self._handler.setFormatter(_Printable("%(asctime)s %(levelname)s %(message)s"))
        self._handler.handleError = lambda record: None  # type: ignore[method-assign]
        logger = logging.getLogger("lanfit")
        logger.addHandler(self._handler)
        logger.setLevel(logging.INFO)
        for name in self.repaired:
            log.warning("%s ended in half a line, which is cut off", name)

    def event(
        self, kind: str, figures: Mapping[str, float] = MappingProxyType({}), /, **facts: str | int | float | None
    ) -> None:
        """Append a line to events.jsonl, and the same to server.log.

        Args:
            figures: metrics by name; one that is called like a fact is left out.
        """
        facts = {**facts, **{name: value for name, value in figures.items() if name not in {"time", "event", *facts}}}
        line = msgspec.json.encode({"time": time.time(), "event": kind, **facts})
        with suppress(OSError):
            append(self._folder / EVENTS, line.decode() + "\n")
        log.info("%s %s", kind, " ".join(f"{key}={value}" for key, value in facts.items()))

    def _client(self, name: str) -> Path:
        return self._folder / "clients" / name

    def start_history(self, owner: str, suffix: str, round_: int = 0) -> None:
        """An attempt begins: its history replaces that of an earlier one, or goes on with that of earlier rounds."""
        self._histories[owner + suffix] = HistoryFile(self._client(owner) / f"history{suffix}.csv", round_)

    def epoch(self, owner: str, suffix: str, epoch: int, metrics: Mapping[str, float]) -> None:
        """Append an epoch to the owner's history.csv, or to that of a fold."""
        with suppress(OSError):
            self._histories[owner + suffix].add(epoch, metrics)

    def whole_history(self, owner: str, suffix: str, history: Mapping[str, Sequence[float]]) -> None:
        """Replace a history.csv with that of its result: a link may have been down for some epochs."""
        with suppress(OSError):
            self.start_history(owner, suffix)
            self._histories[owner + suffix].write(history)

    def client_log(self, name: str, lines: Sequence[str]) -> bool:
        """Append lines that a client sent to its client.log, as far as it has room.

        Returns:
            Whether the log has become full: once, and never for one that an earlier server found full.
        """
        path = self._client(name) / "client.log"
        if name not in self._log_sizes:
            self._log_sizes[name] = path.stat().st_size if path.exists() else 0
        before = self._log_sizes[name]
        if before >= LOG_LIMIT:
            return False
        # As many characters of the log's own for each line, at least.
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
