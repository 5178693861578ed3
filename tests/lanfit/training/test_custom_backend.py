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
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model

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


RESTLESS = """
import keras

class Times(keras.layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.numbers = keras.random.SeedGenerator(4)

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

    def call(self, x):
        self.calls.assign_add(1.0)
        return x + keras.random.normal(keras.ops.shape(x), stddev=0.1, seed=self.numbers) + 0.01 * self.calls
"""


def test_predictions_put_back_what_a_layer_changes_even_outside_of_training(tmp_path: Path) -> None:
    file = tmp_path / "times.py"
    file.write_text(RESTLESS)
    loaded = load_model(saved(tmp_path, file))
    assert loaded.compile is not None
    model = Model(loaded.architecture, loaded.compile, (None, 2), (None, 1), "values", "none", "none")
    x = np.random.RandomState(0).rand(12, 2).astype("float32")
    backend = KerasBackend()

    def trained(*, predicts: bool) -> tuple[list[float], dict[str, AnyArray]]:
        backend.load(loaded.architecture, loaded.compile or "", loaded.weights)
        backend.start(1, 4, Samples.of(x, x[:, :1]), Samples.of(x[:0], x[:0, :1]))
        losses = []
        for _ in range(3):
            backend.train(np.arange(12))
            losses.append(backend.finish_epoch()["loss"])
            if predicts:
                before = backend.state()
                found = backend.predict(model, {"x": x[:5]})["y"]
                assert found.shape == (5, 1)
                after = backend.state()
                assert all(np.array_equal(before[name], after[name]) for name in before)
        return losses, backend.state()

    trained(predicts=False)  # building such a layer changes it, too
    plain, state = trained(predicts=False)
    with_them, same = trained(predicts=True)
    assert with_them == plain
    assert all(np.array_equal(state[name], same[name]) for name in state)
    # A model that can't predict such rows leaves no trace either.
    before = backend.state()
    with pytest.raises(Exception, match=""):
        backend.predict(model, {"x": x[:5, :1]})
    assert all(np.array_equal(before[name], each) for name, each in backend.state().items())
