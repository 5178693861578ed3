"""The fit loop: epochs over seeded permutations of the rows, progress at least once a second, the best epoch kept.

It uses neither the network nor Keras. An exception that a report raises ends it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from lanfit.core.seeds import derive_seed
from lanfit.data.shard import Samples
from lanfit.errors import lanfit_error
from lanfit.training.backend import Rows, Training
from lanfit.training.checkpoint import Checkpointer, Snapshot
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Adjustment, RateChange

#: The target duration of one call of the backend: the time between two reports, and until a cancel takes effect.
REPORT_SECONDS: Final = 0.25


@dataclass(frozen=True)
class FitJob:
    """The settings of a fit."""

    epochs: int
    batch_size: int
    seed: int
    patience: int | None = None
    """Stop after this many consecutive epochs without a new best one; None: never."""
    local_steps: int = 0
    """Train on this many batches instead of `epochs`; the last epoch may be incomplete. 0: whole epochs."""
    proximal: float = 0.0
    """The mu of FedProx; see Backend.start."""
    first_step: int = 0
    """The number of steps in earlier rounds, at which a learning rate schedule continues."""
    keep_last: bool = False
    """Return the weights of the last epoch instead of those of the best."""

    def epochs_over(self, rows: int) -> int:
        """Return how many epochs over this many rows are started."""
        return math.ceil(self.local_steps / self._steps_per_epoch(rows)) if self.local_steps else self.epochs

    def steps_of(self, epoch: int, rows: int) -> int:
        """Return how many batches an epoch (from 0) over this many rows has."""
        steps = self._steps_per_epoch(rows)
        return min(steps, self.local_steps - epoch * steps) if self.local_steps else steps

    def _steps_per_epoch(self, rows: int) -> int:
        return max(1, math.ceil(rows / self.batch_size))


@dataclass(frozen=True)
class FitResult:
    """The result of a fit."""

    weights: dict[str, AnyArray]
    """The weights of the best or the last epoch, with the names and in the order in which they were loaded."""
    metrics: tuple[str, ...]
    """The columns of the history, as Keras names them: loss, …, val_loss, …"""
    history: NDArray[np.float64]
    """Shape (epochs, metrics); fewer epochs than requested if early stopping ended the fit."""
    best_epoch: int
    """The epoch of the weights, from 0. The best has the lowest val_loss; without validation rows, the lowest loss."""
    seconds: dict[str, float]
    """The times of compile, train and validate, including those before the fit was resumed."""


class Steering(Protocol):
    """What the operator wants of a fit."""

    def adjustment(self) -> Adjustment:
        """Return it as it is now."""
        ...

    def wait_while_paused(self) -> float:
        """Return after how many seconds of waiting the fit goes on. An exception ends it."""
        ...


class Unsteered:
    """The steering of a fit that nobody changes."""

    def adjustment(self) -> Adjustment:
        return Adjustment()

    def wait_while_paused(self) -> float:
        return 0.0


class Plan:
    """The epochs and learning rates of a fit. The operator may change them; a change holds from the next epoch on.

    Args:
        rates: (epoch from 1, learning rate) pairs that the task has from the beginning.
    """

    def __init__(
        self,
        epochs: int,
        rates: Sequence[RateChange] = (),
        steering: Steering | None = None,
    ) -> None:
        self.steering = steering or Unsteered()
        self.rates = tuple(rates)
        """The rates of the fit, with those that the operator set."""
        self._epochs = epochs

    @property
    def epochs(self) -> int:
        """Return the number of epochs as it is now."""
        return self.steering.adjustment().epochs or self._epochs

    def rate_from(self, epoch: int) -> float | None:
        """Return the learning rate to set before an epoch (from 0); None: it stays."""
        earlier = [rate for begin, rate in self.rates if begin <= epoch + 1]
        wanted = self.steering.adjustment().learning_rate
        if wanted and wanted != (earlier[-1] if earlier else None):
            before = [each for each in self.rates if each[0] < epoch + 1]
            self.rates = (*before, (epoch + 1, wanted))
            return wanted
        return dict(self.rates).get(epoch + 1)

    def changed_epochs(self, trained: int) -> int:
        """Return the number of epochs if the operator changed it; else 0.

        Args:
            trained: how many there were: a smaller number does not take any back.
        """
        wanted = self.steering.adjustment().epochs
        epochs = max(wanted, trained) if wanted else 0
        return epochs if epochs != self._epochs else 0


class Report(Protocol):
    """Receives the progress of a fit. An exception that it raises ends the fit."""

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        """`step` of `steps` batches of an epoch (from 0) are done; `loss` is the epoch's mean so far."""
        ...

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """Handle the end of an epoch (from 0); `metrics` is its entry in the history."""
        ...

    def on_resume(self, history: Sequence[dict[str, float]]) -> None:
        """Handle a fit that is resumed after these epochs."""
        ...


def epoch_order(seed: int, epoch: int, rows: int) -> Rows:
    """Return the order of the rows in an epoch. It depends on the arguments alone, so any epoch can be repeated.

    It is drawn with RandomState, because NumPy guarantees that its stream never changes.
    """
    return np.random.RandomState(derive_seed(seed, "epoch", epoch)).permutation(rows).astype(np.int64)


def fit(
    backend: Training,
    job: FitJob,
    train: Samples,
    validation: Samples,
    report: Report,
    checkpointer: Checkpointer | None = None,
    paces: Paces | None = None,
    seconds: dict[str, float] | None = None,
    plan: Plan | None = None,
) -> FitResult:
    """Train the loaded model and return the weights of its best or last epoch. There may be no validation rows.

    With a checkpointer, a fit is resumed from its last checkpoint, with bit-identical results.

    Args:
        train, validation: normalized rows; their weights are the `sample_weight` of Keras' fit.
        paces: the measured speed of the same model. The result does not depend on it.
        seconds: is kept up to date with the times of the result.
        plan: may change the epochs and the learning rate meanwhile; not with `local_steps`.

    Raises:
        TrainingError: the loss became NaN or infinite. The message names epoch and learning rate.
    """
    try:
        seconds = {} if seconds is None else seconds
        plan = plan or Plan(job.epochs_over(len(train)))
        paces = paces or new_paces(job.batch_size)
        return _fit(backend, job, train, validation, report, checkpointer, paces, seconds, plan)
    finally:
        if checkpointer is not None:
            checkpointer.close()
        backend.release()


def _fit(
    backend: Training,
    job: FitJob,
    train: Samples,
    validation: Samples,
    report: Report,
    checkpointer: Checkpointer | None,
    paces: Paces,
    seconds: dict[str, float],
    plan: Plan,
) -> FitResult:
    rows, validation_rows = len(train), len(validation)
    seconds |= dict.fromkeys(("compile", "train", "validate"), 0.0)
    begin = perf_counter()
    backend.start(job.seed, job.batch_size, train, validation, job.proximal, job.first_step)
    seconds["compile"] = perf_counter() - begin

    pace, validation_pace = paces
    history: list[dict[str, float]] = []
    best_epoch, best_loss, weights = 0, math.inf, dict[str, AnyArray]()
    if checkpointer is not None and (last := _restore(backend, checkpointer)) is not None:
        history, best_epoch = list(last.history), last.best_epoch
        best_loss, weights = _monitored_loss(history[best_epoch]), dict(last.best) or backend.weights()
        seconds |= {name: spent + last.seconds.get(name, 0.0) for name, spent in seconds.items()}
        plan.rates = last.rates
        report.on_resume(history)
    while (epoch := len(history)) < (epochs := plan.epochs):
        if (rate := plan.rate_from(epoch)) is not None:
            backend.set_learning_rate(rate)
        begin = perf_counter()
        steps = job.steps_of(epoch, rows)
        order = epoch_order(job.seed, epoch, rows)[: steps * job.batch_size]
        for done, loss in pace.run(backend.train, order):
            _check_finite(backend, epochs, epoch, "loss", loss)
            speed = done / (perf_counter() - begin)
            report.on_progress(epoch, math.ceil(done / job.batch_size), steps, loss, speed)
            begin += plan.steering.wait_while_paused()
        metrics = backend.finish_epoch()
        seconds["train"] += perf_counter() - begin

        if validation_rows:
            begin = perf_counter()
            for _, validation_loss in validation_pace.run(backend.validate, np.arange(validation_rows)):
                _check_finite(backend, epochs, epoch, "validation loss", validation_loss)
                report.on_progress(epoch, steps, steps, loss, speed)
                begin += plan.steering.wait_while_paused()
            metrics |= {f"val_{name}": value for name, value in backend.finish_validation().items()}
            seconds["validate"] += perf_counter() - begin

        history.append(metrics)
        report.on_epoch(epoch, metrics)
        epoch_loss = _monitored_loss(metrics)
        if epoch_loss < best_loss:
            best_epoch, best_loss = epoch, epoch_loss
            weights = {} if job.keep_last else backend.weights()
        elif job.patience is not None and epoch - best_epoch >= job.patience:
            break
        if checkpointer is not None and epoch + 1 < plan.epochs:
            best = {} if best_epoch == epoch else weights
            checkpointer.offer(partial(_snapshot, backend, history, best_epoch, best, seconds, plan.rates))

    if job.keep_last:
        best_epoch, weights = len(history) - 1, backend.weights()
    for name, array in weights.items():
        if not np.isfinite(array).all():
            rate = backend.learning_rate
            raise lanfit_error(
                "training.weight-not-finite",
                name=name,
                epoch=best_epoch + 1,
                epochs=len(history),
                rate=rate,
                lower=rate / 10,
            )
    columns = tuple(history[0]) if history else ()
    table = np.array([[line[name] for name in columns] for line in history], dtype=np.float64)
    return FitResult(weights, columns, table, best_epoch, seconds)


def _monitored_loss(metrics: Mapping[str, float]) -> float:
    """Return the loss by which epochs are compared."""
    return metrics.get("val_loss", metrics["loss"])


def _snapshot(
    backend: Training,
    history: Sequence[dict[str, float]],
    best_epoch: int,
    best: Mapping[str, AnyArray],
    seconds: Mapping[str, float],
    rates: tuple[RateChange, ...],
) -> Snapshot:
    return Snapshot(list(history), best_epoch, best, backend.state(), dict(seconds), rates)


def _restore(backend: Training, checkpointer: Checkpointer) -> Snapshot | None:
    """Restore the backend from the last usable checkpoint and return that; None if there is none."""
    last = checkpointer.last()
    if last is not None:
        try:
            backend.restore(last.state)
        except ValueError as error:
            checkpointer.refuse(str(error))
            return None
    return last


@dataclass
class Pace:
    """Chooses the number of batches for a call of the backend, so that it takes about `REPORT_SECONDS`.

    It depends on the clock; results do not depend on it.
    """

    batch_size: int
    batches: int = field(default=1, init=False)

    def run(self, call: Callable[[Rows], float], rows: Rows) -> Iterator[tuple[int, float]]:
        """Call the function with consecutive slices of the rows; yield the number of rows done and its return value."""
        done = 0
        while done < len(rows):
            chunk = rows[done : done + self.batches * self.batch_size]
            begin = perf_counter()
            loss = call(chunk)
            taken = max(perf_counter() - begin, 1e-6)
            batches = math.ceil(len(chunk) / self.batch_size)
            self.batches = max(1, min(8 * self.batches, int(batches * REPORT_SECONDS / taken)))
            done += len(chunk)
            yield done, loss


Paces = tuple[Pace, Pace]
"""The paces of training and of validation."""


def new_paces(batch_size: int) -> Paces:
    """Return the paces of a model that was not measured yet."""
    return Pace(batch_size), Pace(batch_size)


def _check_finite(backend: Training, epochs: int, epoch: int, what: str, loss: float) -> None:
    if not math.isfinite(loss):
        rate = backend.learning_rate
        raise lanfit_error(
            "training.loss-not-finite",
            what=what,
            value=loss,
            epoch=epoch + 1,
            epochs=epochs,
            rate=rate,
            lower=rate / 10,
        )
