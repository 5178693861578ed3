"""The Keras backend against plain `model.fit`: equal to the bit, whatever was trained before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compile_options import read_config

from lanfit.data.shard import Samples
from lanfit.errors import InputError, TrainingError
from lanfit.models.compiling import CompileSpec, compile_model, override
from lanfit.models.weights import get_weights, set_weights
from lanfit.training import loop
from lanfit.training.keras.backend import KerasBackend
from lanfit.training.keras.steps import steps_of
from lanfit.training.keras.tensorflow_steps import resident
from lanfit.training.loop import FitJob, FitResult, epoch_order, fit

pytestmark = pytest.mark.keras

RANDOM = np.random.RandomState(0)
X, Y = RANDOM.rand(75, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 75)
X_VALIDATION, Y_VALIDATION = RANDOM.rand(21, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 21)
VALIDATION = Samples.of(X_VALIDATION, Y_VALIDATION)
SPARSE = "sparse_categorical_crossentropy"


def mlp() -> Any:
    import keras
    from keras import layers

    hidden = [layers.Dense(16, activation="relu"), layers.Dropout(0.3)]
    return keras.Sequential([keras.Input((6, 6, 1)), layers.Flatten(), *hidden, layers.Dense(3, activation="softmax")])


def cnn() -> Any:
    import keras
    from keras import layers

    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.RandomFlip(),
            layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
            layers.BatchNormalization(),
            layers.GaussianNoise(0.1),
            layers.Flatten(),
            layers.Dense(3, activation="softmax", kernel_constraint="max_norm"),
        ]
    )


def adapted() -> Any:
    import keras
    from keras import layers

    layer = layers.Normalization()
    layer.adapt(X * RANDOM.uniform(2, 9))
    return keras.Sequential([keras.Input((6, 6, 1)), layer, layers.Flatten(), layers.Dense(3, activation="softmax")])


def spec(optimizer: str = "adam", metrics: tuple[str, ...] = ("accuracy",), **options: Any) -> CompileSpec:
    chosen = override(None, optimizer, SPARSE, 0.01, metrics)
    assert chosen.optimizer is not None
    chosen.optimizer["config"].update(options)
    return chosen


class Quiet:
    def on_progress(self, *args: Any) -> None: ...

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None: ...


def train(backend: KerasBackend, model: tuple[str, str, Any], job: FitJob, rows: int = 75) -> FitResult:
    backend.load(*model)
    return fit(backend, job, Samples.of(X[:rows], Y[:rows]), VALIDATION, Quiet())


def plain_fit(
    architecture: str, compiled: CompileSpec, weights: Any, job: FitJob, validation: int = 21, stopping: Any = None
) -> tuple[Any, list[dict[str, float]]]:
    """What Keras does by itself, an epoch at a time; `stopping` is its callback that may end it."""
    import keras

    keras.utils.set_random_seed(job.seed)
    model = keras.models.model_from_json(architecture)
    set_weights(model, weights)
    compile_model(model, compiled)
    stopping = stopping or keras.callbacks.Callback()
    stopping.set_model(model)
    stopping.on_train_begin()
    history = []
    for epoch in range(job.epochs):
        order = epoch_order(job.seed, epoch, len(X))
        done = model.fit(
            X[order],
            Y[order],
            batch_size=job.batch_size,
            shuffle=False,
            verbose=0,
            validation_data=(X_VALIDATION[:validation], Y_VALIDATION[:validation]) if validation else None,
        )
        history.append({name: values[0] for name, values in done.history.items()})
        for variable in model.trainable_variables:
            # On JAX, averaged weights share their arrays with the optimizer, and the next `fit` fails.
            variable.assign(keras.ops.copy(variable))
        stopping.on_epoch_end(epoch, history[-1])
        if model.stop_training:
            break
    stopping.on_train_end()
    return model, history


def assert_equal(first: Any, second: Any) -> None:
    for one, other in zip(first.values(), second.values(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("net", [mlp, cnn, adapted])
def test_weights_and_history_equal_plain_keras_to_the_bit(net: Callable[[], Any]) -> None:
    model, job, compiled = net(), FitJob(epochs=2, batch_size=16, seed=5), spec()
    backend = KerasBackend()
    result = train(backend, (model.to_json(), compiled.to_json(), get_weights(model)), job)
    plain, history = plain_fit(model.to_json(), compiled, get_weights(model), job)
    assert_equal(backend.weights(), get_weights(plain))
    assert sorted(result.metrics) == sorted(history[0])
    assert result.history.tolist() == [[line[name] for name in result.metrics] for line in history]


@pytest.mark.parametrize(
    "compiled",
    [
        spec("sgd", momentum=0.9, nesterov=True),
        spec("nadam", clipnorm=1.0),
        spec("adagrad"),
        spec("adamw", use_ema=True, ema_momentum=0.9),
        spec("rmsprop", gradient_accumulation_steps=2),
        spec("ftrl", metrics=("accuracy", "SparseTopKCategoricalAccuracy")),
    ],
    ids=lambda compiled: compiled.optimizer["class_name"],
)
def test_every_kind_of_optimizer_equals_plain_keras_cold_and_warm(compiled: CompileSpec) -> None:
    model, job = mlp(), FitJob(2, 16, 5)
    given = (model.to_json(), compiled.to_json(), get_weights(model))
    plain, _ = plain_fit(model.to_json(), compiled, get_weights(model), job)
    backend = KerasBackend()
    for _ in range(2):
        train(backend, given, job)
        assert_equal(backend.weights(), get_weights(plain))


def test_averaged_weights_are_trained_on_without_validation_rows() -> None:
    """At the end of an epoch the averages become the weights: on JAX one array is then in two variables."""
    model, job, compiled = cnn(), FitJob(3, 16, 5), spec("adam", use_ema=True, ema_momentum=0.9)
    backend = KerasBackend()
    backend.load(model.to_json(), compiled.to_json(), get_weights(model))
    fit(backend, job, Samples.of(X, Y), VALIDATION.take(slice(0)), Quiet())
    plain, _ = plain_fit(model.to_json(), compiled, get_weights(model), job, validation=0)
    assert_equal(backend.weights(), get_weights(plain))


@pytest.mark.parametrize(("patience", "validation"), [(0, 21), (2, 21), (3, 0)])
def test_patience_ends_a_fit_where_keras_early_stopping_does(patience: int, validation: int) -> None:
    """Equal to the bit: the number of epochs, the history, and the weights that are restored."""
    import keras

    model, job, compiled = mlp(), FitJob(60, 25, 5, patience), spec(learning_rate=0.05)
    backend = KerasBackend()
    backend.load(model.to_json(), compiled.to_json(), get_weights(model))
    result = fit(backend, job, Samples.of(X, Y), VALIDATION.take(slice(validation)), Quiet())
    stopping = keras.callbacks.EarlyStopping("val_loss" if validation else "loss", patience=patience)
    stopping.restore_best_weights = True
    plain, history = plain_fit(model.to_json(), compiled, get_weights(model), job, validation, stopping)
    assert 1 < len(result.history) < job.epochs
    assert result.history.tolist() == [[line[name] for name in result.metrics] for line in history]
    assert result.best_epoch == stopping.best_epoch
    assert_equal(result.weights, get_weights(plain))


@pytest.mark.parametrize("net", [mlp, cnn, adapted])
def test_a_result_does_not_depend_on_the_tasks_before_it(net: Callable[[], Any]) -> None:
    model, other = net(), net()
    compiled = spec().to_json()
    given, job = (model.to_json(), compiled, get_weights(model)), FitJob(2, 16, 5)
    fresh = train(KerasBackend(), given, job)
    backend = KerasBackend()
    train(backend, (model.to_json(), compiled, get_weights(other)), FitJob(1, 7, 9), rows=40)
    train(backend, (mlp().to_json(), spec("sgd").to_json(), get_weights(mlp())), FitJob(1, 7, 9))
    train(backend, (model.to_json(), compiled, get_weights(other)), FitJob(1, 7, 9), rows=40)
    for _ in range(2):
        again = train(backend, given, job)
        assert_equal(again.weights, fresh.weights)
        np.testing.assert_array_equal(again.history, fresh.history)


def test_the_loss_scale_of_mixed_precision_is_put_back_too() -> None:
    import keras
    from keras import layers

    half = [layers.Flatten(), layers.Dense(8, activation="relu", dtype="mixed_float16")]
    model = keras.Sequential([keras.Input((6, 6, 1)), *half, layers.Dense(3, activation="softmax")])
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), dynamic_growth_steps=3), loss=SPARSE)
    compiled = read_config(json.dumps(model.get_compile_config()))
    assert compiled is not None
    given, job = (model.to_json(), compiled.to_json(), get_weights(model)), FitJob(2, 16, 5)
    backend = KerasBackend()
    first, second = train(backend, given, job), train(backend, given, job)
    assert_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.history, second.history)
    assert_equal(backend.weights(), get_weights(plain_fit(*given[:1], compiled, given[2], job)[0]))


def test_the_same_seed_repeats_and_another_seed_does_not() -> None:
    model = mlp()
    given = (model.to_json(), spec().to_json(), get_weights(model))
    backend = KerasBackend()
    first, second, other = (train(backend, given, FitJob(1, 16, seed)) for seed in (1, 1, 2))
    assert_equal(first.weights, second.weights)
    assert not np.array_equal(next(iter(first.weights.values())), next(iter(other.weights.values())))


def test_results_do_not_depend_on_the_number_of_steps_in_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    model = cnn()
    given, job = (model.to_json(), spec().to_json(), get_weights(model)), FitJob(2, 16, 5)
    backend = KerasBackend()
    results = []
    for seconds in (0.0, 100.0):
        monkeypatch.setattr(loop, "REPORT_SECONDS", seconds)
        results.append(train(backend, given, job))
    assert_equal(results[0].weights, results[1].weights)
    np.testing.assert_array_equal(results[0].history, results[1].history)


def test_a_model_that_comes_again_is_not_compiled_again(monkeypatch: pytest.MonkeyPatch) -> None:
    import keras

    compiled_again: list[int] = []
    steps = steps_of(keras.backend.backend())
    loops = steps.loops

    def counting(*args: Any) -> Any:
        compiled_again.append(1)
        return loops(*args)

    monkeypatch.setattr(steps, "loops", counting)
    model, other = mlp(), mlp()
    backend = KerasBackend()
    train(backend, (model.to_json(), spec().to_json(), get_weights(model)), FitJob(1, 16, 0))
    first = len(compiled_again)
    train(backend, (model.to_json(), spec().to_json(), get_weights(other)), FitJob(3, 9, 1), rows=33)
    assert (first, len(compiled_again)) == (1, 1)
    train(backend, (model.to_json(), spec("sgd").to_json(), get_weights(other)), FitJob(1, 16, 0))
    assert len(compiled_again) == 2


def test_rows_may_lie_in_a_file_and_have_any_dtype_that_keras_takes(tmp_path: Path) -> None:
    model = mlp()
    compiled = spec().to_json()
    pixels = RANDOM.randint(0, 256, (40, 6, 6, 1)).astype(np.uint8)
    np.save(tmp_path / "x.npy", pixels)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    results = []
    for x in (pixels, mapped, pixels.astype(np.float64), pixels.astype(np.float32)):
        backend = KerasBackend()
        backend.load(model.to_json(), compiled, get_weights(model))
        rows = Samples.of(x, Y[:40].astype(np.uint8))
        results.append(fit(backend, FitJob(1, 16, 0), rows, rows.take(slice(0)), Quiet()))
    for result in results[1:]:
        assert_equal(result.weights, results[0].weights)


def test_training_learns() -> None:
    model = mlp()
    backend = KerasBackend()
    backend.load(model.to_json(), spec().to_json(), get_weights(model))
    labels = (X.mean(axis=(1, 2, 3)) > 0.5).astype(np.int64)
    result = fit(backend, FitJob(60, 8, 0), Samples.of(X, labels), Samples.of(X[:0], labels[:0]), Quiet())
    assert result.history[-1, result.metrics.index("accuracy")] > 0.9


def test_the_weights_come_back_under_the_names_they_were_given() -> None:
    model = mlp()
    weights = {f"w{number}": array for number, array in enumerate(get_weights(model).values())}
    result = train(KerasBackend(), (model.to_json(), spec().to_json(), weights), FitJob(1, 16, 0))
    assert list(result.weights) == list(weights)


def test_a_learning_rate_far_too_high_ends_in_an_error_that_names_it() -> None:
    import keras

    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(1)])
    backend = KerasBackend()
    backend.load(model.to_json(), override(None, "sgd", "mse", 1e6).to_json(), get_weights(model))
    rows = Samples.of(X, Y.astype(np.float32))
    with pytest.raises(TrainingError, match=r"learning rate 1e\+06"):
        fit(backend, FitJob(20, 8, 0), rows, rows.take(slice(0)), Quiet())


def test_what_a_server_may_not_send_is_refused() -> None:
    model = mlp()
    lambda_ = '{"module": "keras.layers", "class_name": "Lambda", "config": {"name": "f"}, "registered_name": null}'
    hostile = model.to_json().replace('"layers": [', f'"layers": [{lambda_}, ', 1)
    backend = KerasBackend()
    with pytest.raises(InputError, match="Lambda"):
        backend.load(hostile, spec().to_json(), get_weights(model))
    with pytest.raises(InputError):
        backend.load(model.to_json(), '{"loss": "my_loss"}', get_weights(model))
    backend.load(model.to_json(), spec().to_json(), {"w": np.zeros(3)})
    with pytest.raises(InputError, match="weight arrays"):
        fit(backend, FitJob(1, 8, 0), Samples.of(X, Y), Samples.of(X[:0], Y[:0]), Quiet())


def test_a_refused_task_leaves_the_backend_ready_for_the_next() -> None:
    model, job = mlp(), FitJob(1, 16, 5)
    given = (model.to_json(), spec().to_json(), get_weights(model))
    fresh = train(KerasBackend(), given, job)
    backend = KerasBackend()
    backend.load(*given[:2], {"w": np.zeros(3)})
    with pytest.raises(InputError):
        fit(backend, job, Samples.of(X, Y), Samples.of(X[:0], Y[:0]), Quiet())
    assert_equal(train(backend, given, job).weights, fresh.weights)


def test_a_cancelled_task_leaves_nothing_behind() -> None:
    class Cancelled(Exception):
        pass

    class Cancelling(Quiet):
        def on_progress(self, *args: Any) -> None:
            raise Cancelled

    model, job = cnn(), FitJob(2, 16, 5)
    given = (model.to_json(), spec().to_json(), get_weights(model))
    fresh = train(KerasBackend(), given, job)
    backend = KerasBackend()
    backend.load(*given)
    with pytest.raises(Cancelled):
        fit(backend, job, Samples.of(X, Y), VALIDATION, Cancelling())
    again = train(backend, given, job)
    assert_equal(again.weights, fresh.weights)
    np.testing.assert_array_equal(again.history, fresh.history)


@pytest.mark.parametrize(
    "dtype", ["float16", "float32", "float64", "bool", "int8", "int32", "int64", "uint8", "uint16"]
)
@pytest.mark.parametrize("form", ["whole", "shifted", "strided", "read only", "empty", "transposed"])
def test_any_array_becomes_a_tensor_of_the_same_numbers(dtype: str, form: str) -> None:
    array = RANDOM.randint(0, 2, (40, 3)).astype(dtype)
    array = {"shifted": array[1:], "strided": array[::2, :2], "empty": array[:0], "transposed": array.T}.get(
        form, array
    )
    array.flags.writeable = form != "read only"
    tensor = resident(array)
    assert tuple(tensor.shape) == array.shape
    assert tensor.dtype.name == ("float32" if array.dtype.kind == "f" else dtype)
    np.testing.assert_array_equal(tensor.numpy(), array)


def test_aligned_rows_are_not_copied() -> None:
    memory = np.zeros(4096, np.uint8)
    start = -memory.ctypes.data % 64
    array = memory[start : start + 2048].view(np.float32)
    tensor = resident(array)
    array[3] = 7
    assert float(tensor[3]) == 7
