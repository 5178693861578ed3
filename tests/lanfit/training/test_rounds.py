"""What rounds ask of a fit: weights of rows, so many steps, FedProx's term, the last epoch's weights. Against Keras."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from compile_options import read_config

from lanfit.data.shard import Samples, Shard
from lanfit.models.allowlist import OPTIMIZER_NAMES
from lanfit.models.compiling import CompileSpec, compile_model, override
from lanfit.models.weights import get_weights, set_weights
from lanfit.training import checkpoint
from lanfit.training.checkpoint import Checkpointer
from lanfit.training.folds import rows_of_fold, rows_of_shard
from lanfit.training.keras.backend import KerasBackend, begins_the_same
from lanfit.training.loop import FitJob, FitResult, epoch_order, fit, new_paces
from lanfit.wire.messages import Fold, Model

pytestmark = pytest.mark.keras

RANDOM = np.random.RandomState(0)
X, Y = RANDOM.rand(75, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 75)
X_VALIDATION, Y_VALIDATION = RANDOM.rand(21, 6, 6, 1).astype(np.float32), RANDOM.randint(0, 3, 21)
W, W_VALIDATION = RANDOM.exponential(size=75).astype(np.float32), RANDOM.exponential(size=21).astype(np.float32)
SPARSE = "sparse_categorical_crossentropy"


def net() -> Any:
    import keras
    from keras import layers

    hidden = [
        layers.Conv2D(4, 3, activation="relu", kernel_regularizer="l2"),
        layers.BatchNormalization(),
        layers.Flatten(),
    ]
    return keras.Sequential([keras.Input((6, 6, 1)), *hidden, layers.Dense(3, activation="softmax")])


def spec(optimizer: str = "adam", rate: float = 0.01) -> CompileSpec:
    return override(None, optimizer, SPARSE, rate, ("accuracy",))


class Quiet:
    def __init__(self) -> None:
        self.progress: list[tuple[int, int, int]] = []
        self.resumed = 0

    def on_progress(self, epoch: int, step: int, steps: int, *args: Any) -> None:
        self.progress.append((epoch, step, steps))

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None: ...

    def on_resume(self, history: Any) -> None:
        self.resumed = len(history)


def train(
    backend: KerasBackend, given: tuple[str, str, Any], job: FitJob, w: Any = None, w_validation: Any = None
) -> FitResult:
    backend.load(*given)
    return fit(backend, job, Samples.of(X, Y, w), Samples.of(X_VALIDATION, Y_VALIDATION, w_validation), Quiet())


def assert_equal(first: Any, second: Any) -> None:
    for one, other in zip(first.values(), second.values(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_weighted_rows_train_and_validate_as_sample_weight_of_plain_keras_to_the_bit() -> None:
    import keras

    model, job, compiled = net(), FitJob(3, 16, 5, keep_last=True), spec()
    given = (model.to_json(), compiled.to_json(), get_weights(model))
    backend = KerasBackend()
    result = train(backend, given, job, w=W, w_validation=W_VALIDATION)
    keras.utils.set_random_seed(5)
    plain = keras.models.model_from_json(given[0])
    set_weights(plain, given[2])
    compile_model(plain, compiled)
    history = []
    for epoch in range(3):
        order = epoch_order(5, epoch, 75)
        done = plain.fit(
            X[order],
            Y[order],
            sample_weight=W[order],
            batch_size=16,
            shuffle=False,
            verbose=0,
            validation_data=(X_VALIDATION, Y_VALIDATION, W_VALIDATION),
        )
        history.append({name: values[0] for name, values in done.history.items()})
    assert_equal(result.weights, get_weights(plain))
    assert result.history.tolist() == [[line[name] for name in result.metrics] for line in history]

    unweighted = train(backend, given, job)
    assert not np.array_equal(unweighted.history, result.history)
    assert_equal(unweighted.weights, train(KerasBackend(), given, job).weights)
    assert_equal(train(backend, given, job, w=W, w_validation=W_VALIDATION).weights, result.weights)


def test_weights_of_rows_go_with_their_rows_into_a_shard_and_into_a_fold() -> None:
    model = Model("", "", (None, 6, 6, 1), (None, 3), "classes", "none", "none")
    numbers = np.arange(75, dtype=np.float32)
    shard = {"x_train": X, "y_train": Y, "x_validation": X_VALIDATION, "y_validation": Y_VALIDATION}
    constants = {"subtract": np.zeros(()), "multiply": np.ones(())}
    shard |= {**constants, **{f"target_{name}": array for name, array in constants.items()}}
    assert rows_of_shard(model, Shard.of_block(model, shard)).train.weights is None
    weighted = {**shard, "w_train": numbers, "w_validation": W_VALIDATION}
    rows = rows_of_shard(model, Shard.of_block(model, weighted))
    assert rows.train.weights is numbers
    assert rows.validation.weights is W_VALIDATION
    fold = rows_of_fold(model, Shard.of_block(model, weighted), Fold(2, 5, 3, 0.2))
    assert fold.train.weights is not None
    assert fold.validation.weights is not None
    np.testing.assert_array_equal(fold.train.x, X[fold.train.weights.astype(int)])
    np.testing.assert_array_equal(fold.validation.x, X[fold.validation.weights.astype(int)])
    assert rows_of_fold(model, Shard.of_block(model, shard), Fold(2, 5, 3, 0.2)).train.weights is None


# --- FedProx ----------------------------------------------------------------------------------------------------


def reference(architecture: str, compiled: CompileSpec, weights: Any, job: FitJob) -> dict[str, Any]:
    """Keras' own fit of a model whose loss is its loss and the term, written as it stands in the paper."""
    import keras
    from keras import ops

    built = keras.models.model_from_json(architecture)
    set_weights(built, weights)
    start = [np.array(variable) for variable in built.trainable_variables]

    class WithTerm(keras.Model):  # type: ignore[misc, unused-ignore]
        def compute_loss(self, *args: Any, training: bool = True, **options: Any) -> Any:
            loss = super().compute_loss(*args, training=training, **options)
            pairs = zip(self.trainable_variables, start, strict=True)
            return loss + job.proximal / 2 * sum(ops.sum((w - w_start) ** 2) for w, w_start in pairs)

    keras.utils.set_random_seed(job.seed)
    model = WithTerm(built.inputs, built.outputs)
    compile_model(model, compiled)
    for epoch in range(job.epochs):
        order = epoch_order(job.seed, epoch, len(X))
        model.fit(X[order], Y[order], batch_size=job.batch_size, shuffle=False, verbose=0)
    return get_weights(model)


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("mu", [0.01, 3.0])
def test_the_proximal_term_pulls_as_a_loss_with_it_does(optimizer: str, mu: float) -> None:
    model, job = net(), FitJob(3, 16, 5, proximal=mu, keep_last=True)
    given = (model.to_json(), spec(optimizer).to_json(), get_weights(model))
    result = train(KerasBackend(), given, job)
    for ours, theirs in zip(
        result.weights.values(), reference(given[0], spec(optimizer), given[2], job).values(), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


def test_the_loss_that_is_reported_is_without_the_term() -> None:
    """One batch an epoch: the loss of the second epoch is the model's after the first, which the term had moved."""
    import keras

    model, compiled = net(), spec("sgd", 0.3)
    model = keras.Sequential([keras.Input((6, 6, 1)), keras.layers.Flatten(), keras.layers.Dense(3, "softmax")])
    given = (model.to_json(), compiled.to_json(), get_weights(model))
    backend = KerasBackend()
    once = train(backend, given, FitJob(1, 75, 5, proximal=50.0, keep_last=True))
    twice = train(backend, given, FitJob(2, 75, 5, proximal=50.0, keep_last=True))
    compile_model(model, compiled)
    set_weights(model, once.weights)
    order = epoch_order(5, 1, 75)
    expected = model.evaluate(X[order], Y[order], batch_size=75, verbose=0, return_dict=True)["loss"]
    assert twice.history[1, 0] == pytest.approx(expected, abs=1e-6)
    far = sum(float(np.sum((one - given[2][name]) ** 2)) for name, one in once.weights.items())
    assert 25 * far > 1e-3, "else the term would not show"


def test_the_term_is_scaled_with_the_loss_of_16_bit_numbers() -> None:
    import json

    import keras
    from keras import layers

    half = [layers.Flatten(), layers.Dense(8, activation="relu", dtype="mixed_float16")]
    model = keras.Sequential([keras.Input((6, 6, 1)), *half, layers.Dense(3, activation="softmax")])
    architecture = model.to_json()  # later it would say how it was compiled, too
    model.compile(keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.1), initial_scale=64.0), loss=SPARSE)
    compiled = read_config(json.dumps(model.get_compile_config()))
    assert compiled is not None
    given, job = (
        (architecture, compiled.to_json(), get_weights(model)),
        FitJob(2, 16, 5, proximal=1.0, keep_last=True),
    )
    ours = train(KerasBackend(), given, job).weights
    for one, other in zip(ours.values(), reference(given[0], compiled, given[2], job).values(), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)


def test_another_mu_and_other_weights_compile_nothing_and_none_is_as_if_there_never_was_one() -> None:
    model, other = net(), net()
    given = (model.to_json(), spec().to_json(), get_weights(model))
    backend = KerasBackend()
    plain = train(backend, given, FitJob(1, 16, 5))
    train(backend, (*given[:2], get_weights(other)), FitJob(1, 16, 9, proximal=7.0))
    loops = dict(backend._loops)
    warm = train(backend, given, FitJob(2, 16, 5, proximal=0.5))
    assert backend._loops == loops
    cold = train(KerasBackend(), given, FitJob(2, 16, 5, proximal=0.5))
    assert_equal(warm.weights, cold.weights)
    np.testing.assert_array_equal(warm.history, cold.history)
    assert_equal(train(backend, given, FitJob(1, 16, 5)).weights, plain.weights)


# --- so many steps, and the last epoch --------------------------------------------------------------------------


@pytest.mark.parametrize("steps", [1, 4, 5, 7, 13])
def test_local_steps_are_a_fit_that_is_cut_by_hand(steps: int) -> None:
    """Five batches are an epoch; the last of them is short."""
    import keras

    model, compiled = net(), spec()
    given = (model.to_json(), compiled.to_json(), get_weights(model))
    result = train(KerasBackend(), given, FitJob(99, 16, 5, local_steps=steps, keep_last=True))
    keras.utils.set_random_seed(5)
    plain = keras.models.model_from_json(given[0])
    set_weights(plain, given[2])
    compile_model(plain, compiled)
    left = steps
    for epoch in range(-(-steps // 5)):
        order = epoch_order(5, epoch, 75)
        batches = [order[first : first + 16] for first in range(0, 75, 16)][:left]
        left -= len(batches)
        for batch in batches:
            plain.fit(X[batch], Y[batch], batch_size=16, shuffle=False, verbose=0)
    assert left == 0
    assert_equal(result.weights, get_weights(plain))
    assert len(result.history) == -(-steps // 5)
    assert result.best_epoch == len(result.history) - 1


def test_progress_of_a_cut_epoch_counts_to_its_own_end() -> None:
    model, notes = net(), Quiet()
    backend = KerasBackend()
    backend.load(model.to_json(), spec().to_json(), get_weights(model))
    job = FitJob(1, 16, 5, local_steps=7)
    fit(backend, job, Samples.of(X, Y), Samples.of(X[:0], Y[:0]), notes)
    assert {(epoch, steps) for epoch, _, steps in notes.progress} == {(0, 5), (1, 2)}
    assert notes.progress[-1] == (1, 2, 2)
    assert job.epochs_over(75) == 2


def test_the_last_epochs_weights_are_kept_also_when_patience_ends_it() -> None:
    model, compiled = net(), spec(rate=0.3)
    given = (model.to_json(), compiled.to_json(), get_weights(model))
    backend = KerasBackend()
    last = train(backend, given, FitJob(40, 16, 5, patience=2, keep_last=True))
    assert_equal(last.weights, backend.weights())
    best = train(backend, given, FitJob(40, 16, 5, patience=2))
    np.testing.assert_array_equal(last.history, best.history)
    assert last.best_epoch == len(last.history) - 1 == best.best_epoch + 2 < 39
    assert any(not np.array_equal(last.weights[name], best.weights[name]) for name in best.weights)


def test_a_round_that_is_cut_off_is_gone_on_with_and_ends_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cut(Exception):
        pass

    class Cutting(Quiet):
        def on_progress(self, epoch: int, *args: Any) -> None:
            if epoch == 2:
                raise Cut

    class Waiting(Checkpointer):
        def offer(self, take: Any) -> None:
            super().offer(take)
            self.close()

    monkeypatch.setattr(checkpoint, "INTERVAL_SECONDS", 0.0)
    model = net()
    given = (model.to_json(), spec().to_json(), get_weights(model))
    job = FitJob(99, 16, 5, local_steps=13, proximal=0.5, keep_last=True)
    whole = train(KerasBackend(), given, job, w=W, w_validation=W_VALIDATION)
    results = []
    for notes in (Cutting(), Quiet()):
        backend = KerasBackend()
        backend.load(*given)
        checkpointer = Waiting(tmp_path / "state.checkpoint", b"key", lambda text: None)
        rows = (Samples.of(X, Y, W), Samples.of(X_VALIDATION, Y_VALIDATION, W_VALIDATION))
        with suppress(Cut):
            results.append(fit(backend, job, *rows, notes, checkpointer))
    assert notes.resumed == 2
    [gone_on] = results
    assert_equal(gone_on.weights, whole.weights)
    np.testing.assert_array_equal(gone_on.history, whole.history)


# --- what a warm trainer does not do again -----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted({*OPTIMIZER_NAMES.values()}))
def test_whether_the_variables_of_an_optimizer_begin_the_same_is_found_out(name: str) -> None:
    """If so they are remembered, instead of making an optimizer for each round."""
    import keras

    made = []
    for _ in range(2):
        chosen = override(None, name, SPARSE, 0.01)
        assert chosen.optimizer is not None
        chosen.optimizer["config"].update(use_ema=True)
        model = net()
        for weight in model.trainable_variables:
            weight.assign(RANDOM.normal(size=weight.shape))
        compile_model(model, chosen)
        model.optimizer.build(model.trainable_variables)
        made.append([keras.ops.convert_to_numpy(variable) for variable in model.optimizer.variables])
    assert len(made[0]) == len(made[1]) > 0
    same = all(np.array_equal(one, other) for one, other in zip(*made, strict=True))
    assert begins_the_same(model.optimizer) == same == (name != "ScheduleFreeAdamW")


@pytest.mark.parametrize("optimizer", ["adam", "schedulefreeadamw"])
def test_other_starting_weights_are_trained_as_by_a_fresh_backend(optimizer: str) -> None:
    model, other = net(), net()
    given = (model.to_json(), spec(optimizer).to_json(), get_weights(model))
    backend = KerasBackend()
    train(backend, (*given[:2], get_weights(other)), FitJob(1, 16, 9))
    assert_equal(
        train(backend, given, FitJob(1, 16, 5)).weights, train(KerasBackend(), given, FitJob(1, 16, 5)).weights
    )


def test_a_round_leaves_compiled_functions_as_they_are_prepared() -> None:
    """Setting TensorFlow's own seed makes it prepare all of them again: some 50 ms each."""
    import keras

    if keras.backend.backend() != "tensorflow":
        pytest.skip("only TensorFlow does that")
    import tensorflow as tf
    from tensorflow.python.eager import context

    model, set_seed = net(), tf.random.set_seed
    given = (model.to_json(), spec().to_json(), get_weights(model))
    backend = KerasBackend()
    train(backend, given, FitJob(1, 16, 5))
    assert context.global_seed() == 5
    train(backend, given, FitJob(1, 16, 6))
    assert context.global_seed() == 5
    assert tf.random.set_seed is set_seed


def test_a_warm_pace_continues_where_it_was_and_changes_no_result() -> None:
    model = net()
    given = (model.to_json(), spec().to_json(), get_weights(model))
    backend = KerasBackend()
    calls = []
    results = []
    paces = new_paces(16)
    for _ in range(2):
        notes = Quiet()
        backend.load(*given)
        job = FitJob(4, 16, 5)
        results.append(fit(backend, job, Samples.of(X, Y), Samples.of(X[:0], Y[:0]), notes, paces=paces))
        calls.append([step for epoch, step, _ in notes.progress if epoch == 0])
    assert calls[0][0] == 1
    assert calls[1][0] > 1
    assert_equal(*(result.weights for result in results))


# --- schedules of the learning rate -----------------------------------------------------------------------------


def scheduled(kind: str, shift: int = 0) -> CompileSpec:
    """A learning rate that falls after 8 and after 12 steps, or so many steps earlier."""
    import keras

    rate = keras.optimizers.schedules.PiecewiseConstantDecay([8 - shift, 12 - shift], [0.1, 0.01, 0.001])
    optimizer = {"sgd": keras.optimizers.SGD, "adam": keras.optimizers.Adam}[kind](rate)
    options = {"optimizer": keras.saving.serialize_keras_object(optimizer), "loss": SPARSE, "metrics": ["accuracy"]}
    compiled = read_config(json.dumps(options))  # as out of a file: on PyTorch Keras names a module of its own
    assert compiled is not None
    return compiled


@pytest.mark.parametrize("kind", ["sgd", "adam"])
def test_a_schedule_continues_where_the_round_begins_and_gives_the_same_bits_warm(kind: str) -> None:
    model, backend = net(), KerasBackend()
    given = (model.to_json(), scheduled(kind).to_json(), get_weights(model))
    # Five steps an epoch: in the second round the schedule is at step 5 and counts on, the optimizer is fresh.
    second = train(backend, given, FitJob(2, 16, 5, first_step=5, keep_last=True))
    plain = train(KerasBackend(), (given[0], scheduled(kind, 5).to_json(), given[2]), FitJob(2, 16, 5, keep_last=True))
    assert_equal(second.weights, plain.weights)
    assert second.metrics[:3] == ("loss", "accuracy", "learning_rate")
    # Of the step that comes next, as Keras' own callbacks read it.
    np.testing.assert_allclose(second.history[:, 2], [0.01, 0.001], rtol=1e-6)

    first = train(backend, given, FitJob(1, 16, 5, keep_last=True))
    np.testing.assert_allclose(first.history[:, 2], [0.1], rtol=1e-6)
    assert_equal(train(backend, given, FitJob(2, 16, 5, first_step=5, keep_last=True)).weights, second.weights)


def test_a_constant_learning_rate_is_no_column_of_the_history() -> None:
    model = net()
    result = train(KerasBackend(), (model.to_json(), spec().to_json(), get_weights(model)), FitJob(1, 16, 5))
    assert "learning_rate" not in result.metrics
