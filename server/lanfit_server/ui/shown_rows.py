"""The test rows of a run whose predictions people follow: which they are, and the events about them.

Without watchers there are none: then neither clients nor the model process do anything for it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from lanfit.data.labels import Target, class_ids
from lanfit.data.shard import Samples
from lanfit.data.shown_rows import block_name, choose_rows, is_sent, shown_output, size_of
from lanfit.wire.arrays import AnyArray
from lanfit.wire.tasks import Model
from lanfit_server.models.handle import Seen
from lanfit_server.replay.row_pictures import VisibleRows, most_rows, write_rows
from lanfit_server.replay.shown_predictions import PredictionsFile
from lanfit_server.run.events import (
    ConfusionCounted,
    RowsPredicted,
    RowsShown,
    RunBegan,
    RunEvent,
    ShownRow,
    Subscriber,
)

log = logging.getLogger("lanfit.server")
#: Larger rows are not sent to clients, in bytes.
MOST_SENT = 32 << 20
#: A subscriber that needs nothing.
_NOBODY: Subscriber = lambda event, now: None  # noqa: E731


class ShownRows:
    """The rows that are shown of one run: a subscriber, after the one that shows them.

    Args:
        began: the event about them.
        sent: the rows as clients get them; empty if they predict none.
        values: how many values clients predict.
        file: the file with the predictions.
        show: the subscriber that shows them.
    """

    def __init__(
        self,
        began: RowsShown | None = None,
        sent: Mapping[str, AnyArray] | None = None,
        values: int = 0,
        file: PredictionsFile | None = None,
        show: Subscriber = _NOBODY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rows = tuple(row.id for row in began.rows) if began is not None else ()
        self.sent = sent or {}
        self.values = values
        self._began = began
        self._file = file
        self._show = show
        self._clock = clock

    def __call__(self, event: RunEvent, now: float) -> None:
        """Keep what clients predict; announce the rows when the run begins."""
        if isinstance(event, RunBegan) and self._began is not None:
            self._emit(self._began)
        elif self._file is not None:
            self._file.add(event)

    def _emit(self, event: RunEvent) -> None:
        if self._file is not None:
            self._file.add(event)
        self._show(event, self._clock())

    def on_seen(self, seen: Seen | None, model: str, at: int, fold: int = 0) -> None:
        """Emit what was seen when the server evaluated a model.

        Args:
            model: the client of the model; empty for that of all.
            at: the epoch or round of the model, from 1.
        """
        if seen is None:
            return
        self._emit(RowsPredicted(model, at, seen.outputs, fold, final=bool(model)))
        if seen.matrix:
            self._emit(ConfusionCounted(model, at, seen.matrix, seen.cells, fold))


NONE_SHOWN = ShownRows()


def show_rows(
    model: Model,
    test: Samples,
    seed: int,
    labels: Mapping[str, Sequence[str]],
    folder: Path,
    show: Subscriber,
) -> ShownRows:
    """Choose the rows of a run, and write what people can look up; return `NONE_SHOWN` if nothing can be shown.

    Args:
        test: the server's test rows.
        labels: the names of the classes of each target that has some.
        folder: that of the run.
        show: the subscriber that shows them.
    """
    try:
        return _show_rows(model, test, seed, labels, folder, show)
    except Exception:  # the run does not depend on rows that are shown
        log.exception("the predictions of this run can't be followed")
        return NONE_SHOWN


def _show_rows(
    model: Model, test: Samples, seed: int, labels: Mapping[str, Sequence[str]], folder: Path, show: Subscriber
) -> ShownRows:
    output = shown_output(model)
    if output is None or not len(test):
        return NONE_SHOWN
    target, names = Target(output.target), tuple(labels.get(output.name, ()))
    classes = class_ids(target, test.targets[output.name]) if target.is_classification else None
    ids = choose_rows(len(test), seed, classes)
    visible = VisibleRows.of(model, test.take(ids), output, names)
    rows = tuple(ShownRow(int(row), *visible.look_up(number)) for number, row in enumerate(ids))
    count = 2 if target is Target.BINARY else output.shape[-1] or 0 if classes is not None else 0
    named = (*names, *map(str, range(len(names), count)))[:count]
    with suppress(OSError):
        write_rows(folder, VisibleRows.of(model, test.take(slice(most_rows(model, test.inputs))), output, names))
    sent = {block_name(model, each): np.array(test.inputs[each.name][ids]) for each in model.takes}
    if not is_sent(output) or sum(array.nbytes for array in sent.values()) > MOST_SENT:
        sent = {}
    values = len(ids) * size_of(output) if sent else 0
    began = RowsShown(output.name, output.target, visible.shape, rows, named)
    return ShownRows(began, sent, values, PredictionsFile(folder), show)
