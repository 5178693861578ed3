"""What models make of test rows, as it is shown: the sections `samples` and `confusion` of the live page. Pure.

`SamplesView` is built from events, during a run or from its `predictions.jsonl` afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lanfit.data.labels import Target
from lanfit_server.replay.row_pictures import VisibleRows, read_rows
from lanfit_server.replay.shown_predictions import read_predictions
from lanfit_server.run.events import ConfusionCounted, RowsPredicted, RowsShown, RunEvent

#: The most numbers that are kept of the predictions of all models together, and the most moments of one model.
MOST_NUMBERS = 40_000
MOST_MOMENTS = 30
#: The most models, and the most cells of all confusion matrices together. Those that changed last are kept.
MOST_MODELS = 1_000
MOST_CELLS = 200_000
#: The most rows that are looked up at once.
MOST_LOOKED_UP = 200


@dataclass
class _History:
    """The predictions of one model: by moment (an epoch or a round), for each row its probabilities or values."""

    moments: dict[int, list[list[float]]] = field(default_factory=dict)
    best: int | None = None
    """The epoch of the model that the client returned."""

    def add(self, at: int, rows: list[list[float]], most: int) -> None:
        """Add a moment; of more than `most`, every second one is removed, but neither the last nor the best."""
        self.moments[at] = rows
        if len(self.moments) > most or at < max(self.moments):
            self.moments = dict(sorted(self.moments.items()))
        self.thin(most)

    def thin(self, most: int) -> None:
        while len(self.moments) > max(1, most):
            last = max(self.moments)
            kept = [at for number, at in enumerate(self.moments) if number % 2 == 0 or at == last or at == self.best]
            if len(kept) == len(self.moments):
                kept = [last]
            self.moments = {at: self.moments[at] for at in kept}


class SamplesView:
    """The sections `samples` and `confusion` of one run."""

    def __init__(self) -> None:
        self._shown: RowsShown | None = None
        self._meta: dict[str, Any] = {}
        self._histories: dict[str, _History] = {}
        self._matrices: dict[str, dict[str, Any]] = {}
        self._changed: set[tuple[str, str]] = set()

    def update(self, event: RunEvent, now: float = 0.0) -> bool:
        """Follow an event; return whether something that is shown has changed."""
        match event:
            case RowsShown():
                if self._shown != event:
                    self._shown, self._meta, self._histories, self._matrices = event, meta_of(event), {}, {}
                    self._changed = {("samples", "")}
            case RowsPredicted() if self._shown is not None:
                return self._predicted(self._shown, event)
            case ConfusionCounted() if self._shown is not None:
                self._on_confusion(event)
            case _:
                return False
        return True

    def _predicted(self, shown: RowsShown, event: RowsPredicted) -> bool:
        rows = rows_of(event.outputs, len(shown.rows))
        if not rows:
            return False
        name = name_of(event.model, event.fold)
        history = self._histories.pop(name, None) or _History()
        self._histories[name] = history  # the last one is the one that changed last
        if len(self._histories) > MOST_MODELS:
            del self._histories[next(iter(self._histories))]
        if event.final:
            history.best = event.at
        numbers = len(self._histories) * len(shown.rows) * len(rows[0])
        history.add(event.at, shown_numbers(shown.target, rows), min(MOST_MOMENTS, MOST_NUMBERS // numbers))
        self._changed.add(("samples", name))
        return True

    def _on_confusion(self, event: ConfusionCounted) -> None:
        name = name_of(event.model, event.fold)
        self._matrices.pop(name, None)
        self._matrices[name] = {
            "at": event.at,
            "matrix": [list(line) for line in event.matrix],
            "rows": {cell: list(rows) for cell, rows in event.cells.items()},
        }
        while len(self._matrices) > max(1, MOST_CELLS // max(1, len(event.matrix) ** 2)):
            del self._matrices[next(iter(self._matrices))]
        self._changed.add(("confusion", name))

    # --- the view -----------------------------------------------------------------------------------------------

    def meta(self, section: str) -> dict[str, Any] | None:
        """Return what does not depend on models; None as long as there is nothing to show."""
        shown = self._shown
        if shown is None:
            return None
        if section == "confusion":
            return {"classes": list(shown.classes)} if self._matrices else None
        return self._meta

    def models(self, section: str, names: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the view of these models; None for all."""
        if section == "confusion":
            return {name: self._matrices[name] for name in names or self._matrices if name in self._matrices}
        return {name: self._of_model(name) for name in names or self._histories if name in self._histories}

    def _of_model(self, name: str) -> dict[str, Any]:
        assert self._shown is not None
        history = self._histories[name]
        found: dict[str, Any] = {
            "at": list(history.moments),
            "probabilities": {
                str(row.id): [moment[number] for moment in history.moments.values()]
                for number, row in enumerate(self._shown.rows)
            },
        }
        return found if history.best is None else {**found, "best": history.best}

    def snapshot(self) -> dict[str, Any]:
        """Return both sections; a section is None as long as there is nothing to show."""
        found = {}
        for section in ("samples", "confusion"):
            meta = self.meta(section)
            found[section] = None if meta is None else {**meta, "models": self.models(section)}
        return found

    def take_changes(self) -> dict[str, dict[str, Any]]:
        """Return, by section, the models that have changed since the last call."""
        changed, self._changed = self._changed, set()
        found: dict[str, dict[str, Any]] = {}
        for section in dict.fromkeys(section for section, _ in sorted(changed)):
            names = [name for of, name in changed if of == section]
            found[section] = self.models(section, names) if names else {}
        return found


def name_of(client: str, fold: int = 0) -> str:
    """Return the name under which a model is shown."""
    return f"{client}, fold {fold}" if fold else client


def meta_of(shown: RowsShown) -> dict[str, Any]:
    """Return what the section `samples` has beside the predictions of models."""
    return {
        "kind": "image" if any(row.picture for row in shown.rows) else "values",
        "shape": list(shown.shape),
        "target": shown.target,
        "classes": list(shown.classes) or None,
        "rows": [row_of(row.id, row.truth, row.picture, row.values) for row in shown.rows],
    }


def row_of(number: int, truth: str, picture: str, values: Sequence[float]) -> dict[str, Any]:
    """Return a row as it is shown."""
    return {"id": number, "truth": truth, "picture": picture or None, "values": list(values) or None}


def rows_of(outputs: Sequence[float], rows: int) -> list[list[float]]:
    """Return the outputs of each row; nothing if that can't be."""
    size = len(outputs) // rows if rows else 0
    if not size or size * rows != len(outputs):
        return []
    return [list(outputs[first : first + size]) for first in range(0, len(outputs), size)]


def shown_numbers(target: str, rows: list[list[float]]) -> list[list[float]]:
    """Return a probability for each class, or the values, as short as they are shown."""
    kind = Target(target)
    if kind is Target.BINARY:
        return [[round(1 - row[0], 4), round(row[0], 4)] for row in rows]
    if not kind.is_classification:
        return [[float(f"{value:.6g}") for value in row] for row in rows]
    if any(not -1e-6 <= value <= 1 + 1e-6 for row in rows for value in row):  # the model gives logits
        rows = [softmax(row) for row in rows]
    return [[round(value, 4) for value in row] for row in rows]


def softmax(logits: Sequence[float]) -> list[float]:
    """Return the probabilities of logits."""
    most = max(logits)
    powers = [math.exp(value - most) for value in logits]
    return [power / sum(powers) for power in powers]


# --- after a run, and what is looked up ---------------------------------------------------------------------------


def samples_of_run(folder: Path) -> dict[str, Any]:
    """Return both sections of a run from its files, as `SamplesView.snapshot` does."""
    view = SamplesView()
    for event in read_predictions(folder):
        view.update(event)
    return view.snapshot()


def rows_of_run(folder: Path, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return these test rows of a run as they are shown, from its files; those that it does not have are missing."""
    kept = read_rows(folder)
    return [] if kept is None else look_up(kept, numbers)


def look_up(kept: VisibleRows, numbers: Sequence[int]) -> list[dict[str, Any]]:
    """Return these rows as they are shown; those that are not kept are missing."""
    found = [number for number in dict.fromkeys(numbers) if 0 <= number < len(kept.truth)][:MOST_LOOKED_UP]
    return [row_of(number, *kept.look_up(number)) for number in found]
