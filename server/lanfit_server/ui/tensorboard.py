"""Event files for TensorBoard in Keras' layout, during a run: `tensorboard/` in the folder of the run.

`train` and `validation` have the global model, or the mean of the clients; `clients/<name>/` and, with k-fold,
`clients/<name>-fold-3/` have the same of one training. Steps are epochs (or rounds) from 0, as those of Keras.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from lanfit.core.text import printable
from lanfit.core.workspace import inside
from lanfit.models.compiling import unchecked_spec
from lanfit.wire.figures import part_of
from lanfit_server.replay.curves import TRAINING, histories_of, mean_history
from lanfit_server.report.event_files import EventFile
from lanfit_server.requests import RunHandle, State
from lanfit_server.run.events import Commanded, EpochCompleted, RoundCompleted, RunEvent, TaskLeased
from lanfit_server.watchers import RunFacts, Watcher

FOLDER = "tensorboard"
_RATE = "learning_rate"


class TensorBoard(Watcher):
    """Writes the event files of the current run. A full disk leaves gaps in them, and has no other effect."""

    def __init__(self) -> None:
        self._clear(None)

    def _clear(self, folder: Path | None) -> None:
        self._folder = folder
        self._files: dict[Path, EventFile] = {}
        self._rate: float | None = None
        """The learning rate of the job; None if it changes by a schedule."""
        self._rates: dict[tuple[str, int], float] = {}
        """Those of trainings for which the operator changed it, by client and fold."""
        self._changed: dict[str, float] = {}
        """The same by task, before the task is leased."""
        self._from_round: dict[int, float] = {}
        self._of_task: dict[str, tuple[str, int]] = {}
        """The client and the fold of each leased task."""

    def began(self, facts: RunFacts) -> None:
        self._clear(facts.folder / FOLDER)
        optimizer = unchecked_spec(facts.record.model.compile).optimizer or {}
        rate = (facts.job.learning_rate or optimizer.get("config", {}).get(_RATE)) if optimizer else None
        self._rate = float(rate) if isinstance(rate, int | float) else None
        for change in facts.job.changes or ():
            where, _, setting = change.rpartition(":")
            if setting.startswith(f"{_RATE}="):
                value = float(setting.partition("=")[2])
                if where.isdigit():
                    self._from_round[int(where)] = value
                else:
                    self._changed[where] = value

    def event(self, event: RunEvent, now: float) -> None:
        match event:
            case TaskLeased():
                self._of_task[event.task] = event.owner, event.fold
                if event.task in self._changed:
                    self._rates[event.owner, event.fold] = self._changed[event.task]
            case Commanded() if event.command == f"set {_RATE}":
                self._changed |= dict.fromkeys((*event.tasks, *event.begun), float(event.value))
                self._rates |= {self._of_task[task]: float(event.value) for task in event.begun}
                if event.round:
                    self._from_round[event.round] = float(event.value)
            case EpochCompleted():
                step = max(0, event.round - 1) * max(1, event.epochs) + event.epoch
                name = f"{event.owner}-fold-{event.fold}" if event.fold else event.owner
                own = self._rates.get((event.owner, event.fold), self._rate)
                rate = self._rate_of(event.round) if event.round else own
                self._write(("clients", name), step, event.metrics, rate)
            case RoundCompleted():
                self._write((), event.round - 1, event.logs, self._rate_of(event.round))
            case _:
                pass

    def request(self, handle: RunHandle) -> None:
        """Write the mean of separate trainings at their end."""
        if handle.state != State.FINISHING or handle.summary is None or handle.summary.rounds:
            return
        mean = mean_history(histories_of(handle.summary.clients))
        for step in range(max(map(len, mean.values()), default=0)):
            metrics = {name: values[step] for name, values in mean.items() if step < len(values)}
            self._write((), step, metrics, None if self._changed else self._rate)

    def _rate_of(self, round_: int) -> float | None:
        begun = [number for number in self._from_round if number <= round_]
        return self._from_round[max(begun)] if begun else self._rate

    def _write(self, names: tuple[str, ...], step: int, metrics: Mapping[str, float], rate: float | None) -> None:
        """Write the metrics of an epoch or a round, those of training with the learning rate."""
        if self._folder is None:
            return
        folder = inside(self._folder, *names)
        scalars: dict[str, dict[str, float]] = {"train": {}, "validation": {}}
        for name, value in metrics.items():
            metric, part = part_of(name)
            scalars["train" if part == TRAINING else part][_tag(metric)] = value
        if rate is not None:
            scalars["train"].setdefault(_tag(_RATE), rate)
        for part, found in scalars.items():
            if found:
                with suppress(OSError):
                    self._file(folder / part).write(time.time(), step, found)

    def _file(self, folder: Path) -> EventFile:
        if folder not in self._files:
            self._files[folder] = EventFile(folder, time.time())
        return self._files[folder]


def _tag(metric: str) -> str:
    return f"epoch_{printable(metric)}"
