"""Models written by lanfit, opened by plain Keras: in this process, and in one that has never heard of lanfit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lanfit.core.durable import atomic_file
from lanfit.data.normalize import NO_NORMALIZER, Moments, Normalizer, fit_normalizer
from lanfit.data.shard import Normalizers
from lanfit.errors import InputError
from lanfit.models import allowlist
from lanfit.models.compiling import override
from lanfit.models.export import write_final, write_model
from lanfit.models.merge import write_ensemble
from lanfit.models.trained_model import TrainedModel
from lanfit.models.weights import get_weights

pytestmark = pytest.mark.keras


def net(units: int = 3, activation: str | None = "softmax", shape: tuple[int, ...] = (4,)) -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input(shape),
            layers.Flatten(),
            layers.Dense(5, activation="relu"),
            layers.BatchNormalization(),
            layers.Dense(units, activation=activation),
        ],
        name="net",
    )


def parts(model: Any, loss: str = "sparse_categorical_crossentropy", metrics: tuple[str, ...] = ("accuracy",)) -> Any:
    return model.to_json(), override(None, "adam", loss, 0.01, metrics).to_json(), get_weights(model)


def constants(subtract: Any, multiply: Any) -> Normalizer:
    return Normalizer("minmax", np.asarray(subtract, np.float64), np.asarray(multiply, np.float64))


def final(path: Path, model: Any, *normalizers: Normalizer, loss: str = "sparse_categorical_crossentropy") -> None:
    architecture, compiled, weights = parts(model, loss, ())
    write_final(path, architecture, compiled, TrainedModel(weights, Normalizers.single(*normalizers)))


def rows(shape: tuple[int, ...] = (4,), count: int = 32) -> Any:
    return np.random.RandomState(0).uniform(0, 9, (count, *shape)).astype(np.float32)


def test_plain_keras_opens_and_trains_a_collected_h5(tmp_path: Path) -> None:
    import keras

    model = net()
    write_model(tmp_path / "net.h5", *parts(model))
    opened = keras.models.load_model(tmp_path / "net.h5")
    np.testing.assert_array_equal(opened.predict(rows(), verbose=0), model.predict(rows(), verbose=0))
    for name, weight in get_weights(model).items():
        assert any(np.array_equal(weight, other) for other in get_weights(opened).values()), name
    losses = opened.fit(rows(), np.zeros(32), epochs=8, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    assert opened.metrics_names


@pytest.mark.parametrize("loss", ["mse", "mae", "mape", "msle", "MeanSquaredError", "log_cosh", "huber", "poisson"])
def test_plain_keras_opens_an_h5_with_any_spelling_of_the_loss(loss: str, tmp_path: Path) -> None:
    import keras

    model = net(1, "softplus")
    write_model(tmp_path / "net.h5", *parts(model, loss, ("mae", "mse", "RootMeanSquaredError")))
    opened = keras.models.load_model(tmp_path / "net.h5")
    opened.run_eagerly = True
    opened.fit(rows(), np.ones(32), verbose=0)
    scores = opened.evaluate(rows(), np.ones(32), verbose=0, return_dict=True)
    assert {"loss", "mean_absolute_error", "mean_squared_error", "root_mean_squared_error"} <= scores.keys()


@pytest.mark.parametrize("optimizer", sorted(allowlist.OPTIMIZERS - {"Lamb"}))
def test_plain_keras_opens_and_trains_an_h5_with_any_optimizer(optimizer: str, tmp_path: Path) -> None:
    import keras

    model = net()
    architecture, _, weights = parts(model)
    compiled = override(None, optimizer, "sparse_categorical_crossentropy", 0.125).to_json()
    write_model(tmp_path / "net.h5", architecture, compiled, weights)
    opened = keras.models.load_model(tmp_path / "net.h5")
    assert type(opened.optimizer).__name__ == optimizer
    assert float(opened.optimizer.learning_rate) == 0.125
    opened.run_eagerly = True
    assert np.isfinite(opened.fit(rows(), np.zeros(32), verbose=0).history["loss"]).all()


def test_plain_keras_opens_an_h5_with_all_metrics(tmp_path: Path) -> None:
    import keras

    write_model(tmp_path / "net.h5", *parts(net(), metrics=(*sorted(allowlist.METRICS), *sorted(allowlist.ACCURACIES))))
    assert keras.models.load_model(tmp_path / "net.h5").compiled


@pytest.mark.parametrize("loss", sorted(allowlist.LOSSES))
def test_plain_keras_opens_an_h5_with_any_loss(loss: str, tmp_path: Path) -> None:
    import keras

    write_model(tmp_path / "net.h5", *parts(net(), loss, ()))
    assert keras.models.load_model(tmp_path / "net.h5").compiled


PLAIN = """
import json, sys
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
x = np.load(sys.argv[2])
before = model.predict(x, verbose=0)
history = model.fit(x, np.zeros(len(x)), epochs=2, verbose=0).history
assert "lanfit" not in sys.modules
print(json.dumps({"predictions": before.tolist(), "loss": history["loss"], "input": str(model.inputs[0].dtype)}))
"""


def in_a_plain_process(path: Path, x: Any, tmp_path: Path) -> Any:
    np.save(tmp_path / "x.npy", x)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, str(path), str(tmp_path / "x.npy")],
        capture_output=True,
        text=True,
        check=False,
        env={**environment, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_final_model_takes_raw_bytes_in_a_process_without_lanfit(tmp_path: Path) -> None:
    model = net(shape=(4, 4, 1))
    x = np.random.RandomState(1).randint(0, 256, (16, 4, 4, 1)).astype(np.uint8)
    subtract, multiply = np.float32([10.0]), np.float32([1 / 245])
    final(tmp_path / "final.keras", model, constants(subtract, multiply))
    output = in_a_plain_process(tmp_path / "final.keras", x, tmp_path)
    expected = model.predict((x.astype(np.float32) - subtract) * multiply, verbose=0)
    np.testing.assert_allclose(output["predictions"], expected, rtol=1e-5, atol=1e-6)
    assert output["loss"][1] < output["loss"][0]


def test_a_collected_h5_opens_and_trains_in_a_process_without_lanfit(tmp_path: Path) -> None:
    model = net()
    write_model(tmp_path / "net.h5", *parts(model))
    output = in_a_plain_process(tmp_path / "net.h5", rows(), tmp_path)
    np.testing.assert_allclose(output["predictions"], model.predict(rows(), verbose=0), rtol=1e-5, atol=1e-6)


def test_an_ensemble_opens_and_trains_in_a_process_without_lanfit(tmp_path: Path) -> None:
    models = [net(), net()]
    architecture, compiled, _ = parts(models[0])
    members = [TrainedModel(get_weights(model), Normalizers.single(constants(3, 0.5))) for model in models]
    write_ensemble(tmp_path / "ensemble.keras", architecture, compiled, members)
    output = in_a_plain_process(tmp_path / "ensemble.keras", rows(), tmp_path)
    expected = np.mean([model.predict((rows() - 3) / 2, verbose=0) for model in models], axis=0)
    np.testing.assert_allclose(output["predictions"], expected, rtol=1e-5, atol=1e-6)
    assert output["loss"][1] < output["loss"][0]


def test_a_final_model_has_the_constants_of_each_column(tmp_path: Path) -> None:
    import keras

    model, x = net(), rows()
    subtract, multiply = np.float32([1, 2, 0.5, 7]), np.float32([0.5, 0, 3, 1e-3])
    final(tmp_path / "final.keras", model, constants(subtract, multiply))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        opened = keras.models.load_model(tmp_path / "final.keras")
    assert not [warning for warning in caught if issubclass(warning.category, UserWarning)]
    np.testing.assert_array_equal(opened.predict(x, verbose=0), model.predict((x - subtract) * multiply, verbose=0))
    assert [type(layer).__name__ for layer in opened.layers] == ["InputLayer", "Rescaling", "Rescaling", "Sequential"]
    assert opened.input_shape == (None, 4)
    assert int(opened.optimizer.iterations) == 0


def test_constants_of_columns_fit_a_model_that_reshapes_them(tmp_path: Path) -> None:
    import keras

    model, x = net(shape=(2, 2, 1)), rows((2, 2, 1))
    subtract, multiply = np.arange(4, dtype=np.float32), np.full(4, 0.5, np.float32)
    final(tmp_path / "final.keras", model, constants(subtract, multiply))
    expected = model.predict((x.reshape(-1, 4) - subtract).reshape(x.shape) * np.float32(0.5), verbose=0)
    opened = keras.models.load_model(tmp_path / "final.keras")
    np.testing.assert_array_equal(opened.predict(x, verbose=0), expected)


def test_constants_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"3 constants.*\(4,\)") as error:
        final(tmp_path / "final.keras", net(), constants(np.ones(3), np.ones(3)))
    assert error.value.code == "normalizer.other-model"
    with pytest.raises(InputError, match=r"2 constants.*output.*\(3,\)"):
        final(tmp_path / "final.keras", net(), NO_NORMALIZER, constants(np.ones(2), np.ones(2)))
    assert not list(tmp_path.iterdir())


def test_without_a_normalizer_nothing_is_put_in_front_and_the_dtype_stays(tmp_path: Path) -> None:
    import keras

    words = keras.Sequential(
        [keras.Input((4,), dtype="int32"), keras.layers.Embedding(10, 2), keras.layers.Flatten(), keras.layers.Dense(1)]
    )
    final(tmp_path / "final.keras", words, loss="mse")
    opened = keras.models.load_model(tmp_path / "final.keras")
    assert str(opened.inputs[0].dtype) == "int32"
    assert [layer.name for layer in opened.layers] == [layer.name for layer in words.layers]
    x = rows().astype(np.int32)
    np.testing.assert_array_equal(opened.predict(x, verbose=0), words.predict(x, verbose=0))
    assert np.isfinite(opened.fit(x, np.zeros(32), verbose=0).history["loss"]).all()


def regression(units: int, **options: Any) -> Any:
    import keras

    return keras.Sequential([keras.Input((4,)), keras.layers.Dense(6), keras.layers.Dense(units)], **options)


def trained_on_normalized_targets(model: Any, targets: Normalizer, x: Any, y: Any) -> Any:
    import keras

    model.compile(keras.optimizers.Adam(0.03), "mse")
    model.fit(x, targets.apply(y), epochs=30, verbose=0)
    return model


@pytest.mark.parametrize("units", [1, 3])
def test_a_regression_on_zscored_targets_predicts_in_original_units(units: int, tmp_path: Path) -> None:
    import keras

    x = rows(count=200)
    y = 1000 + x @ np.arange(4 * units, dtype=np.float32).reshape(4, units) * 50
    inputs, targets = (fit_normalizer("zscore", Moments.of(array)) for array in (x, y))
    model = trained_on_normalized_targets(regression(units), targets, inputs.apply(x), y)
    final(tmp_path / "final.keras", model, inputs, targets, loss="mse")
    opened = keras.models.load_model(tmp_path / "final.keras")
    expected = targets.inverse().apply(model.predict(inputs.apply(x), verbose=0))
    np.testing.assert_allclose(opened.predict(x, verbose=0), expected, rtol=1e-5)
    relative = opened.evaluate(x, y, verbose=0) / y.var()
    assert relative < 0.1, "the loss of the file is in original units too"
    assert [layer.name for layer in opened.layers] == ["raw", "subtract", "multiply", model.name, "original_units"]


def test_a_constant_target_gets_its_value_again(tmp_path: Path) -> None:
    import keras

    targets = fit_normalizer("minmax", Moments.of(np.array([[5.0, 1.0], [5.0, 3.0]])))
    final(tmp_path / "final.keras", regression(2), NO_NORMALIZER, targets, loss="mse")
    opened = keras.models.load_model(tmp_path / "final.keras")
    assert (opened.predict(rows(), verbose=0)[:, 0] == 5).all()


@pytest.mark.parametrize("name", ["raw", "subtract", "original_units"])
def test_a_model_may_be_called_what_we_call_a_layer(name: str, tmp_path: Path) -> None:
    import keras

    model, both = regression(1, name=name), constants(3, 0.5)
    final(tmp_path / "final.keras", model, both, both, loss="mse")
    opened = keras.models.load_model(tmp_path / "final.keras")
    expected = model.predict((rows() - 3) / 2, verbose=0) * 2 + 3
    np.testing.assert_allclose(opened.predict(rows(), verbose=0), expected, rtol=1e-5, atol=1e-5)


def test_weights_of_another_model_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "net.h5"
    path.write_text("old")
    architecture, compiled, _ = parts(net())
    with pytest.raises(InputError, match=r"needs float32 \(5, 3\)"):
        write_model(path, architecture, compiled, get_weights(net(units=4)))
    assert path.read_text() == "old"


def test_a_file_is_written_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file.txt"
    with atomic_file(path) as temporary:
        assert temporary.parent == path.parent
        temporary.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new"

    def interrupted() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "new"
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
