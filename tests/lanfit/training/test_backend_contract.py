"""What a backend must keep, whichever it is: the tests' own fake one, and Keras on whatever this process runs."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from fakes.backend import FakeBackend

from lanfit.data.labels import Target
from lanfit.data.shard import Samples
from lanfit.errors import InputError
from lanfit.models.trained_model import TrainedModel
from lanfit.training.backend import Backend
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model

RANDOM = np.random.RandomState(0)
X = RANDOM.rand(50, 4).astype(np.float32)
Y = X.argmax(axis=1).clip(0, 2).astype(np.int32)
TRAIN, VALIDATION = Samples.of(X, Y), Samples.of(X[:11] + 0.1, Y[:11])
ROWS = np.arange(50)


@dataclass(frozen=True)
class Kit:
    """Where backends come from, and a model for them. What they did before is part of the test: it must not matter."""

    make: Callable[[], Backend]
    model: Model
    weights: Mapping[str, AnyArray]
    foreign: str
    """The architecture of a model that can't be built."""

    def begun(self, seed: int = 5, data: Samples = TRAIN, **options: Any) -> Backend:
        """A backend that has its model and rows, and is about to train."""
        return self.begin(self.make(), seed, data, **options)

    def begin(self, backend: Backend, seed: int = 5, data: Samples = TRAIN, **options: Any) -> Backend:
        backend.load(self.model.architecture, self.model.compile, self.weights)
        backend.start(seed, 8, data, VALIDATION, **options)
        return backend


def fake_kit() -> Kit:
    weights = {"dense/kernel": np.full((4, 3), 0.25, np.float32), "dense/bias": np.zeros(3, np.float32)}
    model = Model("{}", "{}", (None, 4), (None, 3), Target.CLASSES, "none", "none")
    return Kit(FakeBackend, model, weights, '{"unknown": 1}')


def keras_kit() -> Kit:
    import keras

    from lanfit.models.compiling import override
    from lanfit.models.weights import get_weights
    from lanfit.training.keras.backend import KerasBackend

    name = keras.backend.backend()
    keras.utils.set_random_seed(1)
    hidden = [keras.layers.Dense(8, activation="relu"), keras.layers.Dropout(0.3)]
    net = keras.Sequential([keras.Input((4,)), *hidden, keras.layers.Dense(3, activation="softmax")])
    compiled = override(None, "adam", "sparse_categorical_crossentropy", None, ("accuracy",)).to_json()
    model = Model(net.to_json(), compiled, (None, 4), (None, 3), Target.CLASSES, "none", "none")
    warm = itertools.cycle([KerasBackend(name) for _ in range(4)])  # compiling is what costs
    foreign = model.architecture.replace('"units": 8', '"units": 8, "some_new_key": 1')
    return Kit(lambda: next(warm), model, get_weights(net), foreign)


@pytest.fixture(scope="module", params=["fake", pytest.param("keras", marks=pytest.mark.keras)])
def kit(request: pytest.FixtureRequest) -> Kit:
    return fake_kit() if request.param == "fake" else keras_kit()


def epoch(backend: Backend, *calls: slice, rows: Any = ROWS) -> dict[str, float]:
    for call in calls or (slice(None),):
        backend.train(rows[call])
    return backend.finish_epoch()


def assert_equal(one: Mapping[str, AnyArray], other: Mapping[str, AnyArray]) -> None:
    assert [*one] == [*other]
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def differ(one: Mapping[str, AnyArray], other: Mapping[str, AnyArray]) -> bool:
    return any(not np.array_equal(one[name], other[name]) for name in one)


def test_the_same_calls_give_the_same_bits_whatever_was_trained_before(kit: Kit) -> None:
    fresh = kit.begun()
    lines = [epoch(fresh), epoch(fresh)]
    used = kit.begun(9)
    epoch(used, rows=ROWS[::-1])
    kit.begin(used)
    assert [epoch(used), epoch(used)] == lines
    assert_equal(used.weights(), fresh.weights())
    used.release()
    used.forget_start()
    other = kit.begun(6)
    epoch(other)
    epoch(other)
    assert differ(other.weights(), fresh.weights())


def test_it_trains_and_returns_copies_of_the_weights_under_their_names(kit: Kit) -> None:
    backend = kit.begun()
    assert_equal(backend.weights(), dict(kit.weights))
    losses = [epoch(backend)["loss"] for _ in range(6)]
    assert losses[-1] < losses[0]
    before = backend.weights()
    kept = {name: array.copy() for name, array in before.items()}
    assert differ(before, dict(kit.weights))
    epoch(backend)
    assert_equal(before, kept)
    for name, array in kit.weights.items():
        assert (before[name].dtype, before[name].shape) == (array.dtype, array.shape)


def test_a_learning_rate_that_is_set_holds_until_the_next_start_and_belongs_to_the_state(kit: Kit) -> None:
    usual = kit.begun()
    first = usual.learning_rate
    lines = [epoch(usual), epoch(usual)]
    changed = kit.begun()
    assert epoch(changed) == lines[0]
    changed.set_learning_rate(first / 4)
    assert changed.learning_rate == pytest.approx(first / 4)
    state = {name: np.array(array) for name, array in changed.state().items()}
    line = epoch(changed)
    assert line != lines[1]
    again = kit.begun()
    assert again.learning_rate == first
    again.restore(state)
    assert again.learning_rate == changed.learning_rate
    assert epoch(again) == line
    assert_equal(again.weights(), changed.weights())


# A trainer has one backend. Two that are compared here train one after the other: PyTorch's stream of random numbers
# belongs to the process.


def test_how_rows_are_cut_into_calls_changes_nothing(kit: Kit) -> None:
    one = kit.begun()
    line = epoch(one)
    many = kit.begun()
    assert epoch(many, slice(0, 8), slice(8, 32), slice(32, 50)) == line
    assert_equal(one.weights(), many.weights())


def test_the_order_of_rows_and_their_weights_count(kit: Kit) -> None:
    plain = kit.begun()
    line = epoch(plain)
    turned = kit.begun()
    epoch(turned, rows=ROWS[::-1])
    assert differ(turned.weights(), plain.weights())
    ones = kit.begun(data=Samples.of(X, Y, np.ones(50, np.float32)))
    assert epoch(ones)["loss"] == pytest.approx(line["loss"], rel=1e-5)
    heavy = kit.begun(data=Samples.of(X, Y, np.full(50, 3, np.float32)))
    assert epoch(heavy)["loss"] != pytest.approx(line["loss"], rel=1e-2)


def test_validation_changes_nothing_and_begins_a_count_of_its_own(kit: Kit) -> None:
    other = kit.begun()
    lines = [epoch(other), epoch(other)]
    backend = kit.begun()
    line = epoch(backend)
    loss = backend.validate(np.arange(11))
    evaluated = backend.finish_validation()
    assert evaluated["loss"] == pytest.approx(loss)
    assert set(evaluated) <= set(line)
    backend.validate(np.arange(3))
    assert backend.finish_validation()["loss"] != pytest.approx(loss), "of these rows alone"
    backend.validate(np.arange(11))
    assert backend.finish_validation() == evaluated
    assert [line, epoch(backend)] == lines
    assert_equal(backend.weights(), other.weights())
    far = kit.make()
    far.load(kit.model.architecture, kit.model.compile, kit.weights)
    far.start(5, 8, TRAIN, Samples.of(VALIDATION.x + 9, VALIDATION.y))
    epoch(far)
    far.validate(np.arange(11))
    assert far.finish_validation()["loss"] != pytest.approx(loss), "of the validation rows"


def test_predictions_between_epochs_change_no_bit_of_training(kit: Kit) -> None:
    other = kit.begun()
    lines = [epoch(other), epoch(other), epoch(other)]
    backend = kit.begun()
    found, reported = [], []
    for _ in range(3):
        reported.append(epoch(backend))
        state = backend.state()
        found.append(np.array(backend.predict(kit.model, {"x": X[:7]})["y"]))
        assert_equal(backend.state(), state)
        again = backend.predict(kit.model, {"x": X[:7]})["y"]
        np.testing.assert_array_equal(again, found[-1])
    assert reported == lines
    assert_equal(backend.weights(), other.weights())
    assert [each.shape for each in found] == [(7, 3)] * 3
    assert found[0].dtype == np.float32
    assert np.allclose(found[0].sum(axis=1), 1, atol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 1e-6, "of the weights at the time"
    other_rows = np.array(backend.predict(kit.model, {"x": X[7:14]})["y"])
    assert np.abs(other_rows - found[2]).max() > 1e-6


def test_a_state_is_all_that_another_process_needs_to_continue_to_the_same_bits(kit: Kit) -> None:
    backend = kit.begun()
    epoch(backend)
    state = backend.state()
    kept = {name: np.array(array) for name, array in state.items()}
    lines = [epoch(backend), epoch(backend)]
    assert_equal(state, kept)
    other = kit.begun()
    other.restore(kept)
    assert [epoch(other), epoch(other)] == lines
    assert_equal(other.weights(), backend.weights())


def test_a_state_of_something_else_is_refused_and_changes_nothing(kit: Kit) -> None:
    line = epoch(kit.begun())
    backend = kit.begun()
    state = backend.state()
    name = next(name for name, array in state.items() if array.ndim)
    for wrong in ({}, {each: array for each, array in state.items() if each != name}, {**state, name: np.zeros(99)}):
        with pytest.raises(ValueError, match="it has no"):
            backend.restore(wrong)
    assert epoch(backend) == line


def test_a_proximal_term_holds_weights_near_where_they_began_and_is_not_reported(kit: Kit) -> None:
    def distance(mu: float) -> float:
        backend = kit.begun(proximal=mu)
        first = backend.train(ROWS[:8])
        backend.train(ROWS[8:])
        backend.finish_epoch()
        for _ in range(4):
            epoch(backend)
        losses.append(first)
        after = backend.weights()
        return sum(float(np.square(after[name] - array).sum()) for name, array in kit.weights.items())

    losses: list[float] = []
    assert distance(50.0) < distance(0.0)
    assert losses[0] == losses[1]


def test_rows_that_were_placed_train_as_those_that_were_not(kit: Kit) -> None:
    line = epoch(kit.begun())
    backend = kit.make()
    kit.begin(backend, data=TRAIN.map(backend.place))
    assert epoch(backend) == line


def test_metrics_of_one_model_and_of_several(kit: Kit) -> None:
    backend = kit.make()
    member = TrainedModel(kit.weights)
    scores = backend.evaluate(kit.model, [member], TRAIN)
    assert list(scores) == ["loss", "accuracy", "precision", "recall", "f1"]
    assert backend.evaluate(kit.model, [member, member], TRAIN) == pytest.approx(scores, rel=1e-5)
    assert backend.evaluate(kit.model, [member], TRAIN.take(slice(0))) == {}
    assert backend.evaluate(kit.model, [member], TRAIN.take(slice(20))) != scores


def test_what_does_not_fit_is_refused_with_a_reason(kit: Kit, tmp_path: Path) -> None:
    backend = kit.make()
    backend.use_custom(())
    backend.check_model(kit.model, "3.999.0")
    with pytest.raises(InputError) as error:
        backend.check_model(msgspec.structs.replace(kit.model, architecture=kit.foreign), "3.999.0")
    assert error.value.code == "model.other-keras"
    assert f"this client (Keras {backend.versions[0]}) can't build" in error.value.message
    assert "the model of the server (Keras 3.999.0)" in error.value.message
    backend.check_batch(kit.model, kit.weights, TRAIN.take(slice(8)))
    with pytest.raises(InputError) as error:
        backend.check_batch(kit.model, kit.weights, Samples.of(np.full((8, 4), np.nan, np.float32), Y[:8]))
    assert error.value.code == "batch.not-finite"
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        backend.write_model(tmp_path / "file" / "model.h5", kit.model, kit.weights)


def test_it_names_the_versions_that_a_checkpoint_depends_on_and_writes_a_model(kit: Kit, tmp_path: Path) -> None:
    backend = kit.make()
    assert all(backend.versions)
    backend.write_model(tmp_path / "model.h5", kit.model, kit.weights)
    assert (tmp_path / "model.h5").stat().st_size
    assert os.listdir(tmp_path) == ["model.h5"]
    assert 0 < kit.begun().learning_rate < 1
