"""The fit loop: epochs over rows in an order of our own, progress at least once a second, the best epoch kept.

It knows no network and no Keras. It stops when the report raises.
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

from lanfit.mistakes import mistake
from lanfit.seeds import derive_seed
from lanfit.training.backend import Backend, Data, Rows
from lanfit.training.checkpoint import Keeper, Snapshot
from lanfit.wire.arrays import AnyArray

#: How long one call of the backend should take: the time between two reports, and to a cancel.
REPORT_SECONDS: Final = 0.25


@dataclass(frozen=True)
class FitJob:
    """What to do with the rows."""

    epochs: int
    batch_size: int
    seed: int
    patience: int | None = None
    """Stop after so many epochs in a row without a new best one; None: never."""
    local_steps: int = 0
    """Train on so many batches instead of `epochs`; the last epoch may be cut short. 0: whole epochs."""
    proximal: float = 0.0
    """FedProx's mu; see Backend.start."""
    first_step: int = 0
    """Where a schedule of the learning rate begins: so many steps were trained before, in earlier rounds."""
    keep_last: bool = False
    """Give the weights of the last epoch, not of the best."""

    def epochs_over(self, rows: int) -> int:
        """How many epochs over so many rows are begun."""
        return math.ceil(self.local_steps / self._whole(rows)) if self.local_steps else self.epochs

    def steps_of(self, epoch: int, rows: int) -> int:
        """How many batches an epoch (from 0) over so many rows has."""
        whole = self._whole(rows)
        return min(whole, self.local_steps - epoch * whole) if self.local_steps else whole

    def _whole(self, rows: int) -> int:
        return max(1, math.ceil(rows / self.batch_size))


@dataclass(frozen=True)
class FitResult:
    """What a fit gave."""

    weights: dict[str, AnyArray]
    """Of the best epoch, or of the last, under the names and in the order they were loaded with."""
    metrics: tuple[str, ...]
    """The columns of the history, as Keras names them: loss, …, val_loss, …"""
    history: NDArray[np.float64]
    """(epochs, metrics); fewer epochs than asked for if patience ended it"""
    best_epoch: int
    """The one that the weights are of, from 0. The best has the lowest val_loss, or loss without validation rows."""
    seconds: dict[str, float]
    """compile, train, validate; with what went before the checkpoint that it went on from"""


class Report(Protocol):
    """Who is told how it goes. What it raises ends the training."""

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        """`step` of `steps` batches of an epoch (from 0) are done; `loss` is the epoch's mean so far."""
        ...

    def on_epoch(self, epoch: int, metrics: dict[str, float]) -> None:
        """An epoch (from 0) is done; `metrics` is its line of the history."""
        ...

    def on_resume(self, history: Sequence[dict[str, float]]) -> None:
        """It goes on after these epochs, which were trained before."""
        ...


def epoch_order(seed: int, epoch: int, rows: int) -> Rows:
    """The order of the rows in an epoch. It depends on nothing else, so any epoch can be repeated alone.

    RandomState, because NumPy promises that its stream never changes.
    """
    return np.random.RandomState(derive_seed(seed, "epoch", epoch)).permutation(rows).astype(np.int64)


def fit(
    backend: Backend,
    job: FitJob,
    x: AnyArray,
    y: AnyArray,
    x_validation: AnyArray,
    y_validation: AnyArray,
    report: Report,
    keeper: Keeper | None = None,
    w: AnyArray | None = None,
    w_validation: AnyArray | None = None,
    paces: Paces | None = None,
) -> FitResult:
    """Train the loaded model and return the weights of its best epoch, or its last. No validation rows is fine.

    With a keeper it goes on from the last checkpoint of the same fit, and the result is the same, to the bit.

    Args:
        w, w_validation: (rows,), float32: what each row weighs in the loss, as `sample_weight` of Keras' fit; None:
            all the same.
        paces: how fast the same model went before, which the result does not depend on.

    Raises:
        TrainingError: the loss became NaN or infinite; names epoch and learning rate.
    """
    try:
        data = (x, y) if w is None else (x, y, w)
        validation = (
            (x_validation, y_validation) if w_validation is None else (x_validation, y_validation, w_validation)
        )
        return _fit(backend, job, data, validation, report, keeper, paces or new_paces(job.batch_size))
    finally:
        if keeper is not None:
            keeper.close()
        backend.release()


def _fit(
    backend: Backend, job: FitJob, data: Data, validation: Data, report: Report, keeper: Keeper | None, paces: Paces
) -> FitResult:
    rows, validation_rows = len(data[0]), len(validation[0])
    epochs = job.epochs_over(rows)
    seconds = dict.fromkeys(("compile", "train", "validate"), 0.0)
    begin = perf_counter()
    backend.start(job.seed, job.batch_size, data, validation, job.proximal, job.first_step)
    seconds["compile"] = perf_counter() - begin

    pace, validation_pace = paces
    history: list[dict[str, float]] = []
    best_epoch, best_loss, weights = 0, math.inf, dict[str, AnyArray]()
    if keeper is not None and (last := _restore(backend, keeper)) is not None:
        history, best_epoch = list(last.history), last.best_epoch
        best_loss, weights = _judged(history[best_epoch]), dict(last.best) or backend.weights()
        seconds = {name: spent + last.seconds.get(name, 0.0) for name, spent in seconds.items()}
        report.on_resume(history)
    for epoch in range(len(history), epochs):
        begin = perf_counter()
        steps = job.steps_of(epoch, rows)
        order = epoch_order(job.seed, epoch, rows)[: steps * job.batch_size]
        for done, loss in pace.run(backend.train, order):
            _check_finite(backend, epochs, epoch, "loss", loss)
            speed = done / (perf_counter() - begin)
            report.on_progress(epoch, math.ceil(done / job.batch_size), steps, loss, speed)
        metrics = backend.finish_epoch()
        seconds["train"] += perf_counter() - begin

        if validation_rows:
            begin = perf_counter()
            for _, validation_loss in validation_pace.run(backend.validate, np.arange(validation_rows)):
                _check_finite(backend, epochs, epoch, "validation loss", validation_loss)
                report.on_progress(epoch, steps, steps, loss, speed)
            metrics |= {f"val_{name}": value for name, value in backend.finish_validation().items()}
            seconds["validate"] += perf_counter() - begin

        history.append(metrics)
        report.on_epoch(epoch, metrics)
        epoch_loss = _judged(metrics)
        if epoch_loss < best_loss:
            best_epoch, best_loss = epoch, epoch_loss
            weights = {} if job.keep_last else backend.weights()
        elif job.patience is not None and epoch - best_epoch >= job.patience:
            break
        if keeper is not None and epoch + 1 < epochs:
            best = {} if best_epoch == epoch else weights
            keeper.offer(partial(_snapshot, backend, history, best_epoch, best, seconds))

    if job.keep_last:
        best_epoch, weights = len(history) - 1, backend.weights()
    for name, array in weights.items():
        if not np.isfinite(array).all():
            rate = backend.learning_rate
            raise mistake(
                "training.weight-not-finite",
                name=name,
                epoch=best_epoch + 1,
                epochs=epochs,
                rate=rate,
                lower=rate / 10,
            )
    columns = tuple(history[0]) if history else ()
    table = np.array([[line[name] for name in columns] for line in history], dtype=np.float64)
    return FitResult(weights, columns, table, best_epoch, seconds)


def _judged(metrics: Mapping[str, float]) -> float:
    """The loss by which epochs are compared."""
    return metrics.get("val_loss", metrics["loss"])


def _snapshot(
    backend: Backend,
    history: Sequence[dict[str, float]],
    best_epoch: int,
    best: Mapping[str, AnyArray],
    seconds: Mapping[str, float],
) -> Snapshot:
    return Snapshot(list(history), best_epoch, best, backend.state(), dict(seconds))


def _restore(backend: Backend, keeper: Keeper) -> Snapshot | None:
    """Put the backend where the last checkpoint was taken, if there is one that can be used."""
    last = keeper.last()
    if last is not None:
        try:
            backend.restore(last.state)
        except ValueError as wrong:
            keeper.refuse(str(wrong))
            return None
    return last


@dataclass
class Pace:
    """How many batches one call of the backend gets, so that it takes about `REPORT_SECONDS`.

    It follows the clock, and results do not depend on it.
    """

    batch_size: int
    batches: int = field(default=1, init=False)

    def run(self, call: Callable[[Rows], float], rows: Rows) -> Iterator[tuple[int, float]]:
        """Call with one piece of the rows after the other; yield how many rows are done, and what was returned."""
        done = 0
        while done < len(rows):
            piece = rows[done : done + self.batches * self.batch_size]
            begin = perf_counter()
            loss = call(piece)
            taken = max(perf_counter() - begin, 1e-6)
            batches = math.ceil(len(piece) / self.batch_size)
            self.batches = max(1, min(8 * self.batches, int(batches * REPORT_SECONDS / taken)))
            done += len(piece)
            yield done, loss


Paces = tuple[Pace, Pace]
"""Of training and of validation."""


def new_paces(batch_size: int) -> Paces:
    """Of a model that nothing is known of."""
    return Pace(batch_size), Pace(batch_size)


def _check_finite(backend: Backend, epochs: int, epoch: int, what: str, loss: float) -> None:
    if not math.isfinite(loss):
        rate = backend.learning_rate
        raise mistake(
            "training.loss-not-finite",
            what=what,
            value=loss,
            epoch=epoch + 1,
            epochs=epochs,
            rate=rate,
            lower=rate / 10,
        )
