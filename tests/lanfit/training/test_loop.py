"""The fit loop on its own, with a small NumPy backend: order, best epoch, progress, and what ends it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lanfit.core.seeds import derive_seed
from lanfit.data.shard import Samples
from lanfit.errors import TrainingError
from lanfit.training import loop
from lanfit.training.backend import Rows, Training
from lanfit.training.loop import FitJob, FitResult, Plan, epoch_order, fit
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Adjustment


class LinearRegression:
    """Least squares by gradient descent: y = x · w. Enough of a backend to see the loop at work."""

    def __init__(self, learning_rate: float = 0.1) -> None:
        self.learning_rate = learning_rate
        self.calls: list[tuple[str, list[int]]] = []
        self.released = 0

    def load(self, architecture: str, compile_json: str, weights: Mapping[str, AnyArray]) -> None:
        self.first = {name: np.array(array) for name, array in weights.items()}

    def start(
        self, seed: int, batch_size: int, data: Any, validation: Any, proximal: float = 0.0, first_step: int = 0
    ) -> None:
        self.w = self.first["w"].astype(np.float64)
        self.batch_size = batch_size
        self.data, self.validation = data, validation
        self.losses: list[float] = []

    def _errors(self, data: Any, rows: Rows) -> Any:
        error = (data.x[rows] * self.w).sum(axis=1) - data.y[rows]  # row by row: no order of summing to depend on
        self.losses.extend(error**2)
        return error

    def train(self, rows: Rows) -> float:
        self.calls.append(("train", rows.tolist()))
        for first in range(0, len(rows), self.batch_size):
            batch = rows[first : first + self.batch_size]
            self.w = self.w - self.learning_rate * 2 * self._errors(self.data, batch) @ self.data.x[batch] / len(batch)
        return float(np.mean(self.losses))

    def validate(self, rows: Rows) -> float:
        self.calls.append(("validate", rows.tolist()))
        self._errors(self.validation, rows)
        return float(np.mean(self.losses))

    def finish_epoch(self) -> dict[str, float]:
        losses, self.losses = self.losses, []
        return {"loss": float(np.mean(losses)), "worst": float(np.max(losses))}

    finish_validation = finish_epoch

    def weights(self) -> dict[str, AnyArray]:
        return {"w": self.w.copy()}

    def set_learning_rate(self, rate: float) -> None:
        self.learning_rate = rate

    def release(self) -> None:
        self.released += 1


class Notes:
    """A report that writes everything down."""

    def __init__(self) -> None:
        self.progress: list[tuple[int, int, int, float, float]] = []
        self.epochs: list[tuple[int, dict[str, float]]] = []

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        self.progress.append((epoch, step, steps, loss, samples_per_second))

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        self.epochs.append((epoch, metrics))


RANDOM = np.random.RandomState(0)
X = RANDOM.rand(50, 3)
Y = X @ np.array([1.0, -2.0, 0.5]) + RANDOM.normal(0, 0.3, 50)
X_VALIDATION = RANDOM.rand(11, 3)
Y_VALIDATION = X_VALIDATION @ np.array([1.0, -2.0, 0.5])


def run(
    backend: LinearRegression, job: FitJob, notes: Notes | None = None, rows: int = 50, validation: int = 11
) -> FitResult:
    checked: Training = backend
    checked.load("", "", {"w": np.zeros(3)})
    held = Samples.of(X_VALIDATION[:validation], Y_VALIDATION[:validation])
    return fit(checked, job, Samples.of(X[:rows], Y[:rows]), held, notes or Notes())


def test_every_epoch_trains_on_each_row_once_in_an_order_of_its_own() -> None:
    backend = LinearRegression()
    run(backend, FitJob(epochs=3, batch_size=8, seed=4))
    trained = [row for kind, rows in backend.calls if kind == "train" for row in rows]
    epochs = [trained[first : first + 50] for first in (0, 50, 100)]
    for number, epoch in enumerate(epochs):
        assert sorted(epoch) == list(range(50))
        assert epoch == epoch_order(4, number, 50).tolist()
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_order_of_an_epoch_is_numpys_legacy_stream_for_the_seed_and_the_epoch() -> None:
    expected = np.random.RandomState(derive_seed(7, "epoch", 2)).permutation(9)
    np.testing.assert_array_equal(epoch_order(7, 2, 9), expected)
    assert epoch_order(7, 2, 9).tolist() != epoch_order(8, 2, 9).tolist()


def test_validation_rows_are_evaluated_in_order_and_none_is_left_out() -> None:
    backend = LinearRegression()
    run(backend, FitJob(2, 4, 0))
    assert [row for kind, rows in backend.calls if kind == "validate" for row in rows] == [*range(11), *range(11)]


@given(rows=st.integers(1, 50), batch=st.integers(1, 60), epochs=st.integers(1, 3), seconds=st.floats(0, 1))
def test_results_do_not_depend_on_how_many_steps_a_call_takes(
    rows: int, batch: int, epochs: int, seconds: float
) -> None:
    def one(report_seconds: float) -> FitResult:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(loop, "REPORT_SECONDS", report_seconds)
            return run(LinearRegression(), FitJob(epochs, batch, 1), rows=rows)

    first, second = one(seconds * 1e-3), one(100)
    np.testing.assert_array_equal(first.weights["w"], second.weights["w"])
    np.testing.assert_array_equal(first.history, second.history)


@given(rows=st.integers(1, 50), batch=st.integers(1, 60), seconds=st.floats(0, 1e-4))
def test_only_the_last_batch_of_an_epoch_is_short(rows: int, batch: int, seconds: float) -> None:
    backend = LinearRegression()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "REPORT_SECONDS", seconds)
        run(backend, FitJob(1, batch, 0), rows=rows, validation=0)
    lengths = [len(trained) for _, trained in backend.calls]
    assert all(length % batch == 0 for length in lengths[:-1])
    assert sum(lengths) == rows


def test_the_weights_are_those_of_the_epoch_with_the_lowest_validation_loss() -> None:
    backend = LinearRegression(learning_rate=0.9)  # wanders about
    kept: list[AnyArray] = []

    class Keep(Notes):
        def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
            super().on_epoch(epoch, metrics)
            kept.append(backend.w.copy())

    result = run(backend, FitJob(12, 5, 3), Keep())
    losses = result.history[:, result.metrics.index("val_loss")]
    assert result.best_epoch == int(np.argmin(losses)) != 11
    np.testing.assert_array_equal(result.weights["w"], kept[result.best_epoch])


def test_without_validation_rows_the_training_loss_decides() -> None:
    result = run(LinearRegression(), FitJob(4, 5, 3), validation=0)
    assert result.metrics == ("loss", "worst")
    assert result.best_epoch == int(np.argmin(result.history[:, 0]))


def test_of_equal_epochs_the_first_is_the_best() -> None:
    result = run(LinearRegression(learning_rate=0.0), FitJob(3, 5, 3))
    assert result.best_epoch == 0


def test_the_history_has_a_line_an_epoch_and_columns_as_keras_names_them() -> None:
    notes = Notes()
    result = run(LinearRegression(), FitJob(3, 8, 0), notes)
    assert result.metrics == ("loss", "worst", "val_loss", "val_worst")
    assert (result.history.shape, result.history.dtype) == ((3, 4), np.float64)
    assert [epoch for epoch, _ in notes.epochs] == [0, 1, 2]
    assert [list(metrics.values()) for _, metrics in notes.epochs] == result.history.tolist()


def test_progress_counts_steps_to_the_end_of_each_epoch() -> None:
    notes = Notes()
    run(LinearRegression(), FitJob(2, 8, 0), notes)
    for epoch in (0, 1):
        steps = [step for at, step, _, _, _ in notes.progress if at == epoch]
        assert steps == sorted(steps)
        assert steps[-1] == 7
    assert {steps for _, _, steps, _, _ in notes.progress} == {7}
    assert all(speed > 0 and math.isfinite(loss) for _, _, _, loss, speed in notes.progress)
    assert notes.progress[-1][3] == pytest.approx(notes.epochs[-1][1]["loss"])


def test_a_slow_backend_gets_smaller_requests_so_that_progress_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(loop, "perf_counter", lambda: clock[0])
    reported: list[float] = []

    class Slow(LinearRegression):
        def train(self, rows: Rows) -> float:
            clock[0] += 0.05 * len(rows)
            return super().train(rows)

        def validate(self, rows: Rows) -> float:
            clock[0] += 0.05 * len(rows)
            return super().validate(rows)

    class Clocked(Notes):
        def on_progress(self, *args: Any) -> None:
            reported.append(clock[0])

    run(Slow(), FitJob(6, 1, 0), Clocked())
    assert clock[0] == pytest.approx(6 * 61 * 0.05)
    assert max(np.diff([0.0, *reported])) <= 1.0
    assert len(reported) < 100, "a fast step is not reported each time"


def test_seconds_are_distinguished() -> None:
    result = run(LinearRegression(), FitJob(2, 8, 0))
    assert set(result.seconds) == {"compile", "train", "validate"}
    assert all(value > 0 for value in result.seconds.values())
    assert run(LinearRegression(), FitJob(2, 8, 0), validation=0).seconds["validate"] == 0


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_loss_that_is_no_number_ends_it_and_names_epoch_and_learning_rate() -> None:
    notes = Notes()
    with pytest.raises(
        TrainingError, match=r"the loss became (inf|nan) in epoch \d+ of 500 \(learning rate 50\)"
    ) as error:
        run(LinearRegression(learning_rate=50), FitJob(500, 8, 0), notes)
    assert "--learning-rate 5" in error.value.hint
    assert all(math.isfinite(metrics["loss"]) for _, metrics in notes.epochs)


def test_a_validation_loss_that_is_no_number_ends_it_too() -> None:
    backend = LinearRegression()
    backend.load("", "", {"w": np.zeros(3)})
    with pytest.raises(TrainingError, match=r"the validation loss became nan in epoch 1 of 3"):
        fit(backend, FitJob(3, 8, 0), Samples.of(X, Y), Samples.of(X_VALIDATION, np.full(11, np.nan)), Notes())


def test_weights_that_are_no_numbers_are_not_given_back() -> None:
    class LastStepDiverges(LinearRegression):
        def weights(self) -> dict[str, AnyArray]:
            return {"w": self.w * np.inf}

    with pytest.raises(TrainingError, match="weight 'w' contains NaN or infinity") as error:
        run(LastStepDiverges(), FitJob(1, 8, 0), validation=0)
    assert error.value.code == "training.weight-not-finite"


def test_a_report_that_raises_ends_the_training_at_once() -> None:
    class Cancelled(Exception):
        pass

    class Cancelling(Notes):
        def on_progress(self, *args: Any) -> None:
            raise Cancelled

    backend = LinearRegression()
    with pytest.raises(Cancelled):
        run(backend, FitJob(100, 1, 0), Cancelling())
    assert len(backend.calls) == 1
    assert backend.released == 1


def test_the_rows_are_let_go_at_the_end() -> None:
    backend = LinearRegression()
    run(backend, FitJob(2, 8, 0))
    assert backend.released == 1


class Scripted(LinearRegression):
    """Goes through given losses, whatever the rows."""

    def __init__(self, losses: list[float]) -> None:
        super().__init__()
        self.script = losses
        self.epoch = -1

    def finish_epoch(self) -> dict[str, float]:
        self.epoch += 1
        self.w = np.full(3, float(self.epoch))
        return {"loss": self.script[self.epoch]}

    def finish_validation(self) -> dict[str, float]:
        return {"loss": 1.0}


@given(losses=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12), patience=st.integers(0, 4))
def test_patience_ends_it_where_keras_early_stopping_would(losses: list[float], patience: int) -> None:
    """Keras' own rule, retold: `wait` epochs in a row without a lower loss; see the test against Keras itself."""
    notes = Notes()
    result = run(Scripted(losses), FitJob(len(losses), 8, 0, patience), notes, validation=0)
    best, wait, expected = math.inf, 0, 0
    for loss in losses:
        expected += 1
        best, wait = (loss, 0) if loss < best else (best, wait + 1)
        if wait and wait >= patience:
            break
    assert len(result.history) == len(notes.epochs) == expected
    assert result.best_epoch == int(np.argmin(losses[:expected]))
    np.testing.assert_array_equal(result.weights["w"], np.full(3, float(result.best_epoch)))


@given(losses=st.lists(st.integers(0, 5).map(float), min_size=1, max_size=12), patience=st.none() | st.integers(0, 4))
def test_the_weights_of_the_last_epoch_on_request(losses: list[float], patience: int | None) -> None:
    best = run(Scripted(losses), FitJob(len(losses), 8, 0, patience), validation=0)
    last = run(Scripted(losses), FitJob(len(losses), 8, 0, patience, keep_last=True), validation=0)
    np.testing.assert_array_equal(last.history, best.history)
    assert last.best_epoch == len(last.history) - 1
    np.testing.assert_array_equal(last.weights["w"], np.full(3, float(last.best_epoch)))


@given(rows=st.integers(1, 50), batch=st.integers(1, 60), steps=st.integers(1, 30), seconds=st.floats(0, 1e-4))
def test_so_many_steps_go_through_the_rows_epoch_after_epoch(rows: int, batch: int, steps: int, seconds: float) -> None:
    backend, job = LinearRegression(), FitJob(1, batch, 4, local_steps=steps)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "REPORT_SECONDS", seconds)
        result = run(backend, job, rows=rows, validation=0)
    trained = [row for _, chunk in backend.calls for row in chunk]
    whole = math.ceil(rows / batch)
    expected: list[int] = []
    for step in range(steps):
        epoch, number = divmod(step, whole)
        expected += epoch_order(4, epoch, rows)[number * batch : (number + 1) * batch].tolist()
    assert trained == expected
    assert len(result.history) == job.epochs_over(rows) == math.ceil(steps / whole)


def test_without_patience_every_epoch_is_trained() -> None:
    result = run(LinearRegression(learning_rate=0.0), FitJob(7, 8, 0))
    assert (len(result.history), result.best_epoch) == (7, 0)


def test_patience_looks_at_the_validation_loss_where_there_is_one() -> None:
    result = run(Scripted([5.0, 4.0, 3.0, 2.0, 1.0]), FitJob(5, 8, 0, patience=2))
    assert (len(result.history), result.best_epoch) == (3, 0)


class Operator:
    """Wants something else from some call on: each epoch of 50 rows is one call here."""

    def __init__(self, *wanted: Adjustment) -> None:
        self.wanted = list(wanted)
        self.paused: list[float] = []

    def adjustment(self) -> Adjustment:
        return self.wanted[0]

    def wait_while_paused(self) -> float:
        if len(self.wanted) > 1:
            self.wanted.pop(0)
        return self.paused.pop(0) if self.paused else 0.0


def steered(plan: Plan, epochs: int = 4) -> tuple[LinearRegression, FitResult]:
    backend = LinearRegression()
    backend.load("", "", {"w": np.zeros(3)})
    job, none = FitJob(epochs=epochs, batch_size=50, seed=0), Samples.of(X[:0], Y[:0])
    return backend, fit(backend, job, Samples.of(X, Y), none, Notes(), plan=plan)


USUAL = Adjustment()


def test_a_learning_rate_is_changed_before_the_next_epoch_and_the_same_plan_repeats_it() -> None:
    plan = Plan(4, (), Operator(USUAL, Adjustment(learning_rate=0.01)))
    backend, result = steered(plan)
    assert (plan.rates, backend.learning_rate) == (((2, 0.01),), 0.01)
    repeated = Plan(4, plan.rates)
    np.testing.assert_array_equal(steered(repeated)[1].history, result.history)
    assert repeated.rates == plan.rates
    assert not np.array_equal(steered(Plan(4))[1].history, result.history)


def test_a_rate_that_the_operator_sets_replaces_those_that_were_planned_for_later() -> None:
    plan = Plan(4, ((2, 0.05), (4, 0.02)), Operator(USUAL, USUAL, Adjustment(learning_rate=0.01)))
    backend, _ = steered(plan)
    assert (plan.rates, backend.learning_rate) == (((2, 0.05), (3, 0.01)), 0.01)


def test_a_rate_that_holds_already_is_not_set_again() -> None:
    plan = Plan(4, ((2, 0.05),), Operator(USUAL, USUAL, Adjustment(learning_rate=0.05)))
    steered(plan)
    assert plan.rates == ((2, 0.05),)


@pytest.mark.parametrize(("wanted", "trained", "changed"), [(6, 6, 6), (3, 3, 3), (1, 2, 2), (4, 4, 0), (0, 4, 0)])
def test_the_number_of_epochs_can_be_changed_but_none_is_taken_back(wanted: int, trained: int, changed: int) -> None:
    plan = Plan(4, (), Operator(USUAL, USUAL, Adjustment(epochs=wanted)))
    _, result = steered(plan)
    assert len(result.history) == trained
    assert plan.changed_epochs(len(result.history)) == changed


def test_the_time_in_which_it_is_paused_is_no_time_of_training() -> None:
    operator = Operator(USUAL)
    operator.paused = [1000.0]
    _, result = steered(Plan(2, (), operator), epochs=2)
    assert result.seconds["train"] < 0, "the operator's clock is not the real one"
