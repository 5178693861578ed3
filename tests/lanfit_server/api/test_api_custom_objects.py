"""What `cluster.fit` finds out of a model with layers, losses and metrics of one's own, and which files it takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from lanfit.data.shard import Samples
from lanfit.errors import InputError
from lanfit.models import custom, custom_files
from lanfit.models.loading import load_model
from lanfit.models.weights import get_weights
from lanfit_server.api.custom_objects import (
    check_arrays,
    check_own_training,
    files_for,
    named_files,
    travelling,
    used_by,
)

pytestmark = pytest.mark.keras
SOURCE = """
import keras
from keras import layers

class Scale(layers.Layer):
    def build(self, shape):
        self.factor = self.add_weight(shape=(shape[-1],), initializer="ones", name="factor")
    def call(self, x):
        return x * self.factor

class Far(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return keras.ops.mean(keras.ops.abs(y_true - y_pred), axis=-1)

def worst(y_true, y_pred):
    return keras.ops.max(keras.ops.abs(y_true - y_pred), axis=-1)

@keras.saving.register_keras_serializable("mine")
def bent(x):
    return keras.ops.maximum(x, 0.1 * x)

class Net(keras.Model):
    def __init__(self, units, **options):
        super().__init__(**options)
        self.units = units
        self.scale, self.end = Scale(), layers.Dense(units)
    def call(self, x):
        return self.end(self.scale(x))
    def get_config(self):
        return {**super().get_config(), "units": self.units}

class Ids(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.table, self.end = layers.Embedding(10, 3), layers.Dense(1)
    def call(self, x):
        return self.end(layers.Flatten()(self.table(x)))

class NoConfig(keras.Model):
    def __init__(self, block):
        super().__init__()
        self.block = block
    def call(self, x):
        return self.block(x)

class Trains(Net):
    def train_step(self, data):
        return {}

class Wants(keras.Model):
    def call(self, x):
        return layers.Conv2D(1, 3)(x)

def make_local():
    class Local(layers.Layer):
        def call(self, x):
            return x
    return Local()
"""


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    (tmp_path / "layers_for_fit.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("layers_for_fit")
    sys.modules.pop("layers_for_fit", None)
    custom.forget()


def small(mine: ModuleType, *more: Any) -> Any:
    import keras

    dense = keras.layers.Dense(2, activation=mine.bent)
    model = keras.Sequential([keras.Input((3,)), mine.Scale(), dense, *more])
    model.compile("adam", mine.Far(), metrics=[mine.worst, "mae"])
    return model


def test_layers_activations_losses_and_metrics_are_found_with_the_file_that_defines_them(mine: ModuleType) -> None:
    used = used_by(small(mine))

    assert set(used.files) == {"Scale", "bent", "Far", "worst"}
    assert set(used.files.values()) == {Path(str(mine.__file__))}
    assert used.objects["mine>bent"] is mine.bent
    assert files_for(used, (), own_machines=True) == (Path(str(mine.__file__)),)


def test_a_model_of_keras_alone_needs_no_file_whatever_is_named(mine: ModuleType) -> None:
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, "relu")])
    model.compile("adam", "mse", metrics=["mae", keras.metrics.RootMeanSquaredError()])
    used = used_by(model)

    assert used.objects == {}
    assert files_for(used, (Path(str(mine.__file__)),), own_machines=False) == ()


def test_machines_of_the_lan_must_be_told_of_the_file(mine: ModuleType) -> None:
    used, file = used_by(small(mine)), Path(str(mine.__file__))
    with pytest.raises(InputError) as error:
        files_for(used, (), own_machines=False)

    assert error.value.code == "custom.not-named"
    assert f"custom_objects={str(file)!r}" in error.value.hint
    assert "--custom-objects layers_for_fit.py" in error.value.hint
    assert files_for(used, named_files(file), own_machines=False) == (file,)


def test_a_file_can_be_named_by_its_path_its_module_and_as_keras_has_it(mine: ModuleType) -> None:
    file = Path(str(mine.__file__))
    for given in (str(file), file, mine, "layers_for_fit", [file, mine], {"Scale": mine.Scale, "bent": mine.bent}):
        assert named_files(given) == (file,)
    assert named_files(None) == ()


@pytest.mark.parametrize("given", ["no_such_module_at_all", 3, sys.modules["__main__"], {"x": 3}])
def test_what_names_no_file_is_refused(given: object) -> None:
    with pytest.raises(InputError) as error:
        named_files(given)
    assert error.value.code == "custom.no-module"


def test_what_a_notebook_a_script_or_a_function_defines_is_to_be_moved_to_a_file(mine: ModuleType) -> None:
    here: dict[str, Any] = {"__name__": "__main__"}
    exec(SOURCE, here)  # noqa: S102 - as a notebook does
    main = ModuleType("main")
    main.__dict__.update(here)
    used = used_by(small(main))
    with pytest.raises(InputError) as error:
        files_for(used, (), own_machines=True)
    assert error.value.code == "custom.no-source"
    assert "Scale" in error.value.message
    assert "from my_layers import Scale" in error.value.hint

    with pytest.raises(InputError, match=r"Local: defined in a function of layers_for_fit\.py"):
        files_for(used_by(small(mine, mine.make_local())), (), own_machines=True)


def test_a_subclassed_model_travels_as_a_functional_one_with_the_same_weights(mine: ModuleType, tmp_path: Path) -> None:
    model = mine.Net(2)
    model.compile("adam", mine.Far(), metrics=[mine.worst])
    x = np.ones((4, 3), "float32")
    used = used_by(model)
    sent = travelling(model, used, Samples.of(x, x))
    sent.save(tmp_path / "net.keras")
    custom.use([custom_files.allow(path) for path in files_for(used, (), own_machines=True)])

    loaded = load_model(tmp_path / "net.keras")

    assert (loaded.input_shape, loaded.output_shape) == ((3,), (2,))
    assert np.array_equal(sent(x), model(x))
    own, there = list(get_weights(model).values()), list(loaded.weights.values())
    assert all(np.array_equal(a, b) for a, b in zip(own, there, strict=True))
    assert travelling(small(mine), used, Samples.of(x, x)).name.startswith("sequential")


def test_the_file_of_a_subclassed_model_loads_with_its_custom_objects(mine: ModuleType, tmp_path: Path) -> None:
    model = mine.Ids()
    model(np.zeros((2, 5), "int32"))
    model.compile("adam", "mse")
    model.save(tmp_path / "ids.keras")
    with pytest.raises(InputError, match="'Ids'"):
        load_model(tmp_path / "ids.keras")

    custom.use([custom_files.allow(Path(str(mine.__file__)))])
    loaded = load_model(tmp_path / "ids.keras")

    assert (loaded.input_shape, loaded.inputs[0].dtype, loaded.output_shape) == ((5,), "int32", (1,))


def test_a_subclassed_model_that_keras_can_not_write_down_is_refused_in_a_sentence(mine: ModuleType) -> None:
    import keras

    model = mine.NoConfig(keras.layers.Dense(1))
    model.compile("adam", "mse")
    with pytest.raises(InputError) as error:
        used_by(model)
    assert error.value.code == "custom.not-serializable"
    assert "NoConfig" in error.value.message
    assert "\n" not in error.value.message
    assert "get_config()" in error.value.hint


def test_a_subclassed_model_that_trains_in_its_own_way_is_refused_by_its_method(mine: ModuleType) -> None:
    with pytest.raises(InputError, match=r"the class Trains has its own train_step\(\)"):
        check_own_training(mine.Trains(1))
    check_own_training(mine.Net(1))
    check_own_training(small(mine))


def test_a_subclassed_model_of_several_arrays_is_refused(mine: ModuleType) -> None:
    x, model = np.ones((4, 3), "float32"), mine.Net(2)
    check_arrays(model, x, [1.0, 2.0])
    check_arrays(small(mine), [x, x], x)
    for given in ([x, x], {"a": x, "b": x}):
        with pytest.raises(InputError) as error:
            check_arrays(model, given, x)
        assert error.value.code == "fit.subclassed-several"


def test_a_subclassed_model_that_can_not_be_called_on_the_rows_is_refused_before_anything_is_sent(
    mine: ModuleType,
) -> None:
    model = mine.Wants()
    model.compile("adam", "mse")
    with pytest.raises(InputError) as error:
        travelling(model, used_by(model), Samples.of(np.ones((4, 3), "float32"), np.ones(4)))
    assert error.value.code == "model.not-called"
