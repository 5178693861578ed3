"""The trainer: a child process that holds the backend and stays warm between tasks. Knows no network.

Imports the backend at once, while the agent joins and receives.
"""

from __future__ import annotations

import hashlib
import os
import queue
import sys
import threading
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lanfit import __version__
from lanfit.child import Parent
from lanfit.data.memory import free_of_machine, limit_memory, ran_out
from lanfit.errors import LanfitError
from lanfit.files import ArrayFile
from lanfit.mistakes import mistake
from lanfit.models import custom
from lanfit.models.architecture import build, first_line
from lanfit.models.compiling import compile_model, read_spec
from lanfit.models.member import HISTORY, Member
from lanfit.partial import is_full
from lanfit.room import AGAIN_SECONDS, Room
from lanfit.system import refused
from lanfit.timing import Timings
from lanfit.training.kept_rows import KeptRows, ReadyRows
from lanfit.training.orders import (
    Build,
    Built,
    EpochDone,
    Fit,
    NotDone,
    Note,
    NotReady,
    Order,
    Ready,
    Resumed,
    Score,
    Scored,
    Step,
    Stop,
    Survey,
    Surveyed,
    Trained,
    Work,
)
from lanfit.training.own_rows import (
    OwnFiles,
    check_enough,
    check_scored,
    fewest_to_train,
    least_batch,
    rows_to_test,
    rows_to_validate,
    shard_of,
    statistics,
    try_batch,
)
from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import FitTask, Model, Runtime

if TYPE_CHECKING:
    from lanfit.training.judging import Judge
    from lanfit.training.loop import Paces

#: The variable in which a trainer finds its `Runtime`, as JSON.
RUNTIME_VARIABLE = "LANFIT_RUNTIME"
#: What an order may take in any case, in bytes: the system can make room by writing something else to the disk.
LEAST_MEMORY = 2 << 30


class Stopped(Exception):
    """The agent does not want the order any more."""


class Reporter:
    """Tells the agent how far an order is, and raises Stopped in the middle of training when it is not wanted."""

    def __init__(self, order: Fit, epochs: int, parent: Parent[Order], stopped: set[int]) -> None:
        """`epochs`: how many there will be, unless patience ends it."""
        self._order = order
        self._epochs = epochs
        self._parent = parent
        self._stopped = stopped

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        """Called during an epoch (from 0) with the loss so far."""
        if self._order.number in self._stopped:
            raise Stopped
        number, epochs = self._order.number, self._epochs
        self._parent.send(Step(number, "training", epoch + 1, epochs, step, steps, loss, samples_per_second))

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Called after each epoch (from 0) with its line of the history."""
        self._parent.send(EpochDone(self._order.number, epoch, dict(metrics)))

    def on_resume(self, history: Sequence[Mapping[str, float]]) -> None:
        """Called first if a checkpoint is gone on from, with the epochs that it holds."""
        self._parent.send(Resumed(self._order.number, len(history)))
        for epoch, metrics in enumerate(history):
            self._parent.send(EpochDone(self._order.number, epoch, dict(metrics), again=True))

    def on_note(self, text: str) -> None:
        """Called with what the user should know."""
        self._parent.send(Note(self._order.number, text))


def try_to_build(order: Build) -> Built:
    """Build and compile the model of an order.

    Raises:
        InputError: this Keras can't, and is of another version than the server's.
    """
    import keras

    try:
        compile_model(build(order.model.architecture), read_spec(order.model.compile))
    except LanfitError as wrong:
        raise mistake("model.other-keras", here=keras.__version__, there=order.keras, reason=wrong.message) from wrong
    return Built(order.number)


class Trainer:
    """Takes orders one by one; a stop reaches also the one that is being trained."""

    def __init__(self) -> None:
        self._parent: Parent[Order] = Parent(Order)
        self._orders: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._stopped: set[int] = set()
        self._news = threading.Condition()
        self._judging: Judge | None = None
        self._own = OwnFiles()
        self._paces: tuple[object, Paces] | None = None

    def run(self) -> None:
        """Work until the agent is gone."""
        self._parent.listen(self._take)
        began = time.perf_counter()
        runtime = msgspec.json.decode(os.environ[RUNTIME_VARIABLE], type=Runtime)
        from lanfit.models.runtime import prepare_keras

        try:
            device = prepare_keras(runtime.backend, runtime.threads, runtime.device)
        except LanfitError as wrong:
            self._parent.send(NotReady(wrong.message, wrong.hint))
            threading.Event().wait()  # until the agent ends this process
        from lanfit.training.keras_backend import KerasBackend

        self._backend = KerasBackend()
        self._rows = KeptRows(self._backend.place)
        keras, module = sys.modules["keras"], sys.modules[runtime.backend]
        self._computes_on = (
            *(str(version) for version in (__version__, keras.__version__, module.__version__)),
            *(str(part) for part in (runtime.backend, runtime.threads, device)),
        )
        self._limited = device.kind == "cpu"
        seconds = time.perf_counter() - began
        self._parent.send(Ready(runtime.backend, device.kind, runtime.threads, seconds, device.name))
        while True:
            order = self._orders.get()
            self._parent.send(self._work(order))
            self._backend.forget_start()  # unmapping a large file takes a while: not when the next order waits

    def _take(self, order: Order) -> None:
        """In the listening thread: note what is wanted."""
        if isinstance(order, Stop):
            with self._news:
                self._stopped.add(order.number)
                self._news.notify_all()
        else:
            self._orders.put(order)

    def _work(self, order: Work) -> Trained | Surveyed | Scored | Built | NotDone:
        try:
            return self._do(order)
        except Stopped:
            return NotDone(order.number, True, "the task was stopped", "")
        except Exception as failed:  # noqa: BLE001 - whatever a backend raises fails the task, not the trainer
            wrong = explained(failed)
            return NotDone(order.number, False, wrong.message, wrong.hint, wrong.code)

    def _do(self, order: Work) -> Trained | Surveyed | Scored | Built:
        if order.number in self._stopped:
            raise Stopped
        self._limit_memory()
        custom.use(order.custom)
        match order:
            case Fit():
                return self._train(order)
            case Survey():
                return self._survey(order)
            case Score():
                return self._score(order)
            case Build():
                return try_to_build(order)

    def _limit_memory(self) -> None:
        """Let an order take no more memory than there is: what its server made up must not stop this machine.

        Anew for each order: what is free changes. Not with a GPU, whose driver maps what is no memory of this machine.
        """
        if self._limited and (free := free_of_machine()):
            limit_memory(max(LEAST_MEMORY, free))

    def _survey(self, order: Survey) -> Surveyed:
        rows = self._own.read(Path(order.data), order.model, order.own)
        train = fewest_to_train(rows, order.own)
        check_enough(train, (rows.validation, rows.test), order.own.batch_size, order.least_rows)
        try_batch(order.model, order.weights.load(), rows)
        values = rows.target_moments.count if rows.target_moments else 0
        block = ArrayFile.write(Path(order.result), statistics(rows))
        notes = (*rows.notes, *rows.warnings)
        return Surveyed(order.number, rows.train, rows.validation, rows.test, rows.moments.count, values, block, notes)

    def _score(self, order: Score) -> Scored:
        model, shard = order.model, order.shard.load()
        if order.own is not None:
            own = self._own.read(Path(order.data), model, order.own)
            x, y = rows_to_test(own, shard) if order.rows == "test" else rows_to_validate(own, shard)
            check_scored([len(x)], order.least_rows)
        else:
            x, y = shard["x_validation"], shard["y_validation"]
        members = [Member.of(file.load(), model.normalizer, model.target_normalizer) for file in order.members]
        return Scored(order.number, len(x), self._judge(model).score(members, x, y))

    def _train(self, order: Fit) -> Trained:
        from lanfit.models.export import write_model
        from lanfit.training.checkpoint import Keeper
        from lanfit.training.loop import FitJob, fit

        task, timings = order.fit, Timings()
        with timings.span("prepare"):
            ready = self._rows_of(order)
            rows = ready.rows
            weights = order.weights.load()
            self._backend.load(task.model.architecture, task.model.compile, weights)
        job = FitJob(
            epochs=task.epochs,
            batch_size=task.batch_size,
            seed=task.seed,
            patience=task.patience or None,
            local_steps=task.local_steps,
            proximal=task.proximal,
            first_step=task.first_step,
            keep_last=task.keep_last,
        )
        scores = {}
        if task.score_start and rows.held_out is None:
            with timings.span("score"):
                start = Member(weights, rows.normalizer, rows.targets)
                scores = self._judge(task.model).score([start], *ready.to_score)
        reporter = Reporter(order, job.epochs_over(len(rows.x)), self._parent, self._stopped)
        if ready.left_out and task.round <= 1:
            reporter.on_note("One row is left out, so that no step is of a single row.")
        key = checkpoint_key(order, ready.shard, self._computes_on)
        keeper = Keeper(Path(order.checkpoint), key, reporter.on_note)
        result = fit(
            self._backend,
            job,
            rows.x,
            rows.y,
            rows.x_validation,
            rows.y_validation,
            reporter,
            keeper,
            rows.w,
            rows.w_validation,
            self._paces_of(task),
        )
        member = Member(result.weights, rows.normalizer, rows.targets)
        if rows.held_out is not None:
            with timings.span("score"):
                scores = self._judge(task.model).score([member], *rows.held_out)
        arrays = {**result.weights, **member.constants(), HISTORY: result.history}
        block = self._write(order, arrays, reporter)
        if order.copy:
            try:
                write_model(Path(order.copy), task.model.architecture, task.model.compile, result.weights)
            except OSError as wrong:  # the result is what counts
                reporter.on_note(f"This client's own copy of the model was not written: {refused(wrong).message}.")
            except (TypeError, ValueError) as wrong:  # of Keras
                reporter.on_note(f"This client's own copy of the model was not written: {first_line(wrong)}.")
        seconds = {**result.seconds, **timings.seconds}
        return Trained(order.number, block, result.metrics, result.best_epoch, scores, seconds)

    def _write(self, order: Fit, arrays: Mapping[str, AnyArray], reporter: Reporter) -> ArrayFile:
        """Write a result. Hours of training are in it: when the disk is full, it waits until there is room."""
        room, waited = Room("A finished result can't be written", reporter.on_note), False
        while True:
            try:
                block = ArrayFile.write(Path(order.result), arrays)
                break
            except OSError as wrong:
                if not is_full(wrong):
                    raise
                room.is_missing(wrong)
            waited = True
            with self._news:
                if self._news.wait_for(lambda: order.number in self._stopped, AGAIN_SECONDS):
                    raise Stopped
        if waited:
            reporter.on_note("There was room for the result.")
        return block

    def _rows_of(self, order: Fit) -> ReadyRows:
        task = order.fit
        if task.own is None:
            self._own.forget()
            return self._rows.of(task, order.shard.block, None, order.shard.load)
        own, least = self._own.read(Path(order.data), task.model, task.own), order.least_rows
        ready = self._rows.of(
            task, order.shard.block, own, lambda: shard_of(own, order.shard.load()), least_batch(least)
        )
        held_out = len(ready.rows.held_out[0]) if ready.rows.held_out else 0
        train = len(ready.rows.x) + ready.left_out
        check_enough(train, (len(ready.rows.x_validation), held_out), task.batch_size, least)
        return ready

    def _paces_of(self, task: FitTask) -> Paces:
        """How fast this model went last; what another one did says nothing."""
        from lanfit.training.loop import new_paces

        model = (task.model.architecture, task.model.compile, task.batch_size)
        if self._paces is None or self._paces[0] != model:
            self._paces = model, new_paces(task.batch_size)
        return self._paces[1]

    def _judge(self, model: Model) -> Judge:
        """What scores this model; stays warm while the model is the same."""
        from lanfit.training.judging import Judge

        if self._judging is None or self._judging.model != model:
            self._judging = Judge(model)
        return self._judging


def checkpoint_key(order: Fit, shard: BlockSpec, computes_on: Sequence[str]) -> bytes:
    """What a checkpoint is for: another task, other rows, another backend give another key, and another training."""
    return hashlib.sha256(msgspec.msgpack.encode((order.fit, order.weights.block, shard, computes_on))).digest()


def explained(failed: Exception) -> LanfitError:
    """What a user is told of an exception that an order ended with."""
    match failed:
        case LanfitError():
            return failed
        case _ if ran_out(failed):
            return mistake("training.out-of-memory")
        case OSError():
            return refused(failed)
        case _:
            traceback.print_exception(failed)
            first = str(failed).strip().partition("\n")[0]
            return mistake("training.failed", kind=type(failed).__name__, reason=first)


if __name__ == "__main__":
    Trainer().run()
