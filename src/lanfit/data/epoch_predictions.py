"""The predictions for a few rows at the end of epochs, which people follow. They change nothing in training."""

from __future__ import annotations

import math
from collections.abc import Callable
from time import perf_counter
from typing import Final

from lanfit.data.labels import Target
from lanfit.data.shard import Arrays, Normalizers
from lanfit.data.shown_rows import block_name, is_sent, pack, shown_output
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model

#: Predictions take at most this share of the time of a task; epochs in between have none.
SHARE: Final = 0.02
#: The most seconds between the first predictions and the next ones, if epochs are short.
FIRST_PAUSE: Final = 1.0


class EpochPredictions:
    """Predicts the same rows again and again with the weights that are being trained.

    Args:
        predict: of the backend.
        rows: the raw rows, as in the block of a lease.
        normalizers: those of the rows that are trained on.
    """

    def __init__(
        self,
        predict: Callable[[Model, Arrays], Arrays],
        model: Model,
        rows: Arrays,
        normalizers: Normalizers,
        clock: Callable[[], float] = perf_counter,
    ) -> None:
        self._predict = predict
        self._model = model
        output = shown_output(model)
        self._output = output if output is not None and is_sent(output) else None
        self._rows = rows
        self._normalizers = normalizers
        self._inputs: dict[str, AnyArray] = {}
        self._clock = clock
        self._next = -math.inf

    def predict(self, *, is_last: bool) -> bytes:
        """Return the packed predictions in original units; empty if there are none this time."""
        began = self._clock()
        if self._output is None or (began < self._next and not is_last):
            return b""
        is_first = not self._inputs
        try:
            self._inputs = self._inputs or self._normalized()
            outputs = self._predict(self._model, self._inputs)[self._output.name]
        except Exception:  # noqa: BLE001 - training continues after any error of a backend
            self._output = None
            return b""
        if Target(self._output.target) is Target.VALUES:
            outputs = self._normalizers.targets[self._output.name].inverse().apply(outputs)
        packed, ended = pack(outputs), self._clock()
        pause = (ended - began) / SHARE
        # The first call also prepares the backend, which later calls do not.
        self._next = ended + (min(pause, FIRST_PAUSE) if is_first else pause)
        return packed

    def _normalized(self) -> dict[str, AnyArray]:
        names = {each.name: block_name(self._model, each) for each in self._model.takes}
        return {name: self._normalizers.inputs[name].apply(self._rows[key]) for name, key in names.items()}
