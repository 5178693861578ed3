"""The sample model that a clone comes with: `model/digits.h5` is what `model/digits.py` makes, and it learns."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.data.shard import Samples
from lanfit.models.compiling import read_spec
from lanfit.models.evaluation import WeightsEvaluator, check_batch
from lanfit.models.loading import load_model
from lanfit.training.keras.backend import KerasBackend
from lanfit.training.loop import FitJob, fit

pytestmark = pytest.mark.keras

FOLDER = Path(__file__).parents[3] / "model"


def test_the_committed_file_is_what_the_script_makes(tmp_path: Path) -> None:
    script = tmp_path / "digits.py"
    script.write_bytes((FOLDER / "digits.py").read_bytes())
    subprocess.run([sys.executable, str(script)], capture_output=True, check=True)
    made, committed = load_model(tmp_path / "digits.h5"), load_model(FOLDER / "digits.h5")
    assert json.loads(made.architecture) == json.loads(committed.architecture)
    assert made.compile == committed.compile
    for name, array in committed.weights.items():
        np.testing.assert_allclose(made.weights[name], array, rtol=1e-6)


def test_two_shards_of_the_digits_are_learned_in_ten_epochs() -> None:
    from sklearn.datasets import load_digits

    class Quiet:
        def on_progress(self, *args: Any) -> None: ...

        def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None: ...

    model = load_model(FOLDER / "digits.h5")
    assert 10_000 <= model.parameters <= 40_000
    spec = read_spec(model.compile or "")
    assert (spec.loss, spec.metrics) == ("sparse_categorical_crossentropy", ("accuracy",))

    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.data))
    x, y = (digits.data[order] / 16).astype(np.float32).reshape(-1, 8, 8, 1), digits.target[order]
    x_test, y_test, shards = x[:360], y[:360], np.array_split(np.arange(360, len(x)), 2)
    check_batch(model.architecture, spec.to_json(), model.weights, Samples.of(x[:32], y[:32]))
    backend, evaluator = KerasBackend(), WeightsEvaluator(model.architecture, spec.to_json())
    for seed, rows in enumerate(shards):
        validation, train = rows[:72], rows[72:]
        backend.load(model.architecture, spec.to_json(), model.weights)
        result = fit(
            backend,
            FitJob(10, 32, seed),
            Samples.of(x[train], y[train]),
            Samples.of(x[validation], y[validation]),
            Quiet(),
        )
        _, outputs = evaluator.evaluate(result.weights, Samples.of(x_test, y_test))
        predictions = outputs["y"]
        assert (predictions.argmax(axis=1) == y_test).mean() > 0.95
