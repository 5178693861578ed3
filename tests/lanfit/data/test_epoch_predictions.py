"""Predictions at the end of epochs: in original units, at little cost, and never the end of a task."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import numpy as np
import pytest

from lanfit.data.epoch_predictions import SHARE, EpochPredictions
from lanfit.data.normalize import Moments, fit_normalizer
from lanfit.data.shard import Normalizers
from lanfit.data.shown_rows import unpack
from lanfit.wire.figures import LONGEST_NAME, MOST_BYTES, MOST_METRICS
from lanfit.wire.frames import CONTROL_LIMIT_FROM_CLIENT
from lanfit.wire.messages import MOST_SHOWN, MOST_SHOWN_OUTPUTS, Epoch, Model

ROWS = {"x": np.array([[1.0, 10], [3, 30]])}


class Backend:
    """Gives the sum of each row, and takes as long as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.takes = 1.0
        self.asked: list[Mapping[str, Any]] = []
        self.error: Exception | None = None

    def predict(self, model: Model, inputs: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(inputs)
        self.now += self.takes
        if self.error is not None:
            raise self.error
        return {"y": inputs["x"].sum(axis=1, keepdims=True)}


def predictions(backend: Backend, target: str = "values", outputs: int = 1, **rows: Any) -> EpochPredictions:
    model = Model("{}", "{}", (None, 2), (None, outputs), target, "zscore", "zscore")
    x = fit_normalizer("zscore", Moments.of(np.array([[0.0, 0], [2, 20]])))
    y = fit_normalizer("zscore", Moments.of(np.array([[100.0], [300]])))
    given = {**ROWS, **rows}
    return EpochPredictions(backend.predict, model, given, Normalizers.single(x, y), lambda: backend.now)


def test_rows_are_normalized_and_values_are_in_the_units_of_the_targets() -> None:
    backend = Backend()
    found = unpack(predictions(backend).predict(is_last=False), 2)
    np.testing.assert_allclose(backend.asked[0]["x"], [[0, 0], [2, 2]])
    assert found == pytest.approx((200, 600))
    assert unpack(predictions(backend, "classes", 3).predict(is_last=False), 2) == pytest.approx((0, 4))


def test_predictions_take_a_small_share_of_the_time_but_the_first_ones_and_the_last_always_come() -> None:
    backend = Backend()
    each = predictions(backend)
    took = when = 0.0
    count = 0
    for _ in range(2000):
        backend.takes = 5.0 if not count else 0.01
        backend.now += 0.1
        before = backend.now
        if each.predict(is_last=False):
            count += 1
            took += (backend.now - before) * (count > 1)
            when = backend.now
    assert count > 100
    assert took <= SHARE * (when - 5) * 1.05
    backend.now += 0.001
    assert each.predict(is_last=True)


@pytest.mark.parametrize("error", [ValueError("no such shape"), MemoryError(), RuntimeError("of a device")])
def test_an_error_ends_the_predictions_not_the_task(error: Exception) -> None:
    backend = Backend()
    each = predictions(backend)
    assert each.predict(is_last=False)
    backend.error = error
    backend.now += 1000
    assert each.predict(is_last=False) == b""
    backend.error = None
    backend.now += 1000
    assert each.predict(is_last=True) == b""
    assert len(backend.asked) == 2


@pytest.mark.parametrize("rows", [{"x": np.zeros((2, 3))}, {"x": np.array([["a", "b"]])}])
def test_rows_that_do_not_fit_the_model_are_an_error_like_any_other(rows: dict[str, Any]) -> None:
    backend = Backend()
    assert predictions(backend, **rows).predict(is_last=True) == b""
    assert not backend.asked


def test_an_output_that_is_too_large_for_a_message_is_not_predicted() -> None:
    backend = Backend()
    assert predictions(backend, "classes", MOST_SHOWN_OUTPUTS + 1).predict(is_last=True) == b""
    assert not backend.asked


def test_the_largest_predictions_fit_into_a_message_with_all_metrics() -> None:
    names = [f"{n:03}" + "m" * (MOST_BYTES // MOST_METRICS - 3) for n in range(MOST_METRICS)]
    assert len(names[0]) < LONGEST_NAME
    metrics = {front + name: 0.1 for front in ("", "val_") for name in names}
    seconds = {f"part-{n}": 0.1 for n in range(32)}
    largest = Epoch("r" * 64, "t" * 64, 2**31, metrics, seconds, bytes(4 * MOST_SHOWN * MOST_SHOWN_OUTPUTS))
    assert len(msgspec.msgpack.encode(largest)) < CONTROL_LIMIT_FROM_CLIENT
