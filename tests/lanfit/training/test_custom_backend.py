"""A trainer's backend and models of custom objects: nothing is built that no loaded file defines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lanfit.data.shard import Samples
from lanfit.errors import InputError
from lanfit.models import custom, custom_files
from lanfit.models.loading import load_model
from lanfit.training.keras.backend import KerasBackend

pytestmark = pytest.mark.keras
SOURCE = """
import keras

class Times(keras.layers.Layer):
    def call(self, x):
        return {factor} * x
"""


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    yield
    custom.forget()


def saved(folder: Path, file: Path) -> Path:
    import keras

    custom.use([custom_files.allow(file)])
    times = custom.class_named("Times")
    assert times is not None
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1, kernel_initializer="ones"), times()])
    model.compile("sgd", "mse")
    model.save(folder / "net.keras")
    return folder / "net.keras"


def loss(backend: KerasBackend) -> float:
    """The loss before anything is trained: the square of what the model predicts for a row of ones."""
    rows = Samples.of(np.ones((4, 2), "float32"), np.zeros((4, 1), "float32"))
    backend.start(1, 4, rows, rows)
    return float(backend.validate(np.arange(4)))


def test_a_server_that_does_not_name_the_file_gets_nothing_built_and_another_file_is_another_model(
    tmp_path: Path,
) -> None:
    twice, thrice = tmp_path / "times.py", tmp_path / "other" / "times.py"
    thrice.parent.mkdir()
    twice.write_text(SOURCE.format(factor=2.0))
    thrice.write_text(SOURCE.format(factor=3.0))
    loaded = load_model(saved(tmp_path, twice))
    assert loaded.compile is not None
    parts = loaded.architecture, loaded.compile, loaded.weights
    backend = KerasBackend()

    custom.use(())
    with pytest.raises(InputError, match="Times"):
        backend.load(*parts)

    custom.use([custom_files.allow(twice)])
    backend.load(*parts)
    assert loss(backend) == pytest.approx(16.0)

    custom.use([custom_files.allow(thrice)])
    backend.load(*parts)
    assert loss(backend) == pytest.approx(36.0)

    custom.use(())  # the model is warm, and must not be used all the same
    with pytest.raises(InputError, match="Times"):
        backend.load(*parts)
