"""`predictions.jsonl`: the predictions that people followed during a run, one event a line, in order.

The page and the report show a finished run from it. It stays small: when it has grown to `MOST_BYTES`, every second
prediction of each model is removed, and all but the last confusion matrix.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_write
from lanfit.core.logs import append, cut_torn_line
from lanfit_server.run.events import ConfusionCounted, RowsPredicted, RowsShown, RunEvent

FILE = "predictions.jsonl"
MOST_BYTES = 16 << 20

Seen = RowsShown | RowsPredicted | ConfusionCounted


class PredictionsFile:
    """The file of one run. If the disk is full, lines are left out."""

    def __init__(self, folder: Path, most_bytes: int = MOST_BYTES) -> None:
        self._path = folder / FILE
        self._most = most_bytes
        with suppress(OSError):
            cut_torn_line(self._path)
        self._size = self._path.stat().st_size if self._path.exists() else 0

    def add(self, event: RunEvent) -> None:
        """Append an event, if it is one of those."""
        if not isinstance(event, Seen):
            return
        line = msgspec.json.encode(event).decode() + "\n"
        with suppress(OSError):
            append(self._path, line)
            self._size += len(line)
            if self._size > self._most:
                self._size = self._thin_out()

    def _thin_out(self) -> int:
        kept = list(thinned(list(read_predictions(self._path.parent))))
        text = "".join(msgspec.json.encode(event).decode() + "\n" for event in kept)
        atomic_write(self._path, text)
        # What can't be made smaller grows by half before that is tried again.
        self._most = max(self._most, len(text) * 3 // 2)
        return len(text)


def thinned(events: list[Seen]) -> Iterator[Seen]:
    """Yield about half of the predictions of each model, always the last one, and the last confusion matrix of each."""
    predictions = Counter(_model(each) for each in events if isinstance(each, RowsPredicted) and not each.final)
    matrices = Counter(_model(each) for each in events if isinstance(each, ConfusionCounted))
    shown = 0
    for event in events:
        match event:
            case RowsShown():
                shown += 1
                if shown == 1:  # a run that was resumed has several, which are equal
                    yield event
            case RowsPredicted(final=True):
                yield event
            case RowsPredicted():
                predictions[_model(event)] -= 1
                if predictions[_model(event)] % 2 == 0:
                    yield event
            case ConfusionCounted():
                matrices[_model(event)] -= 1
                if matrices[_model(event)] == 0:
                    yield event


def _model(event: RowsPredicted | ConfusionCounted) -> tuple[str, int]:
    return event.model, event.fold


def read_predictions(folder: Path) -> Iterator[Seen]:
    """Yield the events in the file of a run; nothing without one. Lines that can't be read are left out."""
    try:
        lines = (folder / FILE).read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        with suppress(ValueError):
            yield decode_json(line, Seen)  # type: ignore[arg-type]
