"""The trainer: a child process with the backend, which is reused for many tasks. No network code.

It imports the backend that the agent names at once, while the agent logs in and receives blocks. It depends on the
protocol `lanfit.training.backend.Backend` only, not on any particular backend.
"""

from __future__ import annotations

import hashlib
import os
import queue
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from lanfit import __version__
from lanfit.backends import make_backend
from lanfit.core.child import Parent, end_process
from lanfit.core.decoding import decode_json
from lanfit.core.memory import free_of_machine, limit_memory, ran_out
from lanfit.core.system import refused
from lanfit.core.timing import Timings
from lanfit.data.epoch_predictions import EpochPredictions
from lanfit.data.shard import Shard
from lanfit.errors import LanfitError, lanfit_error
from lanfit.models.trained_model import HISTORY, TrainedModel
from lanfit.training.backend import Backend
from lanfit.training.checkpoint import Checkpointer
from lanfit.training.client_data import (
    ClientFiles,
    batch_to_try,
    check_enough,
    check_evaluated,
    fewest_to_train,
    least_batch,
    rows_to_test,
    rows_to_validate,
    shard_of,
    statistics,
)
from lanfit.training.commands import (
    Adjust,
    Build,
    Built,
    Command,
    EpochDone,
    Evaluate,
    Evaluated,
    Fit,
    NotDone,
    Note,
    NotReady,
    Ready,
    Resumed,
    Step,
    Stop,
    Survey,
    Surveyed,
    Trained,
    Work,
)
from lanfit.training.loop import FitJob, Paces, Plan, fit, new_paces
from lanfit.training.row_cache import ReadyRows, RowCache
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.disk_space import AGAIN_SECONDS, RetryWhenFull
from lanfit.transfer.partial import is_full
from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import Adjustment, FitTask, Runtime
from lanfit.wire.tasks import X, Y

#: The environment variable with a trainer's `Setup` as JSON. The process that starts a trainer always sets it.
SETUP_VARIABLE = "LANFIT_TRAINER"
#: The memory in bytes that a command may always use: the system can free some by swapping.
LEAST_MEMORY = 2 << 30


class Setup(msgspec.Struct, frozen=True):
    """The settings with which a trainer is started."""

    runtime: Runtime
    make: str
    """The `make` function of its backend, from the registry of the process that starts it."""


class Stopped(Exception):
    """The agent has stopped the command."""


class Reporter:
    """Reports the progress of a command to the agent, and follows what the operator wants of it: it is the `Report` and
    the `Steering` of a fit. It raises Stopped during training if the command was stopped."""

    def __init__(
        self,
        command: Fit,
        epochs: int,
        parent: Parent[Command],
        requests: Requests,
        predictions: EpochPredictions | None = None,
        seconds: Callable[[], dict[str, float]] = dict,
    ) -> None:
        """`epochs`: as the job has them. `seconds` gives the times of the task so far."""
        self.plan = Plan(epochs, command.fit.rates, self)
        self._predictions = predictions
        self._seconds = seconds
        self._command = command
        self._parent = parent
        self._requests = requests

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        """Handle progress within an epoch (from 0), with the loss so far."""
        number = self._command.number
        if self._requests.is_stopped(number):
            raise Stopped
        self._step = Step(number, "training", epoch + 1, self.plan.epochs, step, steps, loss, samples_per_second)
        self._parent.send(self._step)

    def adjustment(self) -> Adjustment:
        """Return what the operator wants of the command."""
        return self._requests.adjustment(self._command.number)

    def wait_while_paused(self) -> float:
        """Called after progress: wait while the command is paused, and return for how many seconds."""
        if not self.adjustment().paused:
            return 0.0
        self._parent.send(msgspec.structs.replace(self._step, state="paused", samples_per_second=0.0))
        return self._requests.wait_while_paused(self._command.number)

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Handle the end of an epoch (from 0), with its entry in the history."""
        is_last = epoch + 1 >= self.plan.epochs
        predictions = self._predictions.predict(is_last=is_last) if self._predictions is not None else b""
        done = EpochDone(self._command.number, epoch, dict(metrics), seconds=self._seconds(), predictions=predictions)
        self._parent.send(done)

    def on_resume(self, history: Sequence[Mapping[str, float]]) -> None:
        """Handle a fit that is resumed from a checkpoint with these epochs; called first."""
        self._parent.send(Resumed(self._command.number, len(history)))
        for epoch, metrics in enumerate(history):
            self._parent.send(EpochDone(self._command.number, epoch, dict(metrics), again=True))

    def on_note(self, text: str) -> None:
        """Handle a message for the user."""
        self._parent.send(Note(self._command.number, text))


class Requests:
    """What the agent wants of the commands that it has given. Written in the listening thread."""

    def __init__(self) -> None:
        self._stopped: set[int] = set()
        self._adjusted: dict[int, Adjustment] = {}
        self._news = threading.Condition()

    def stop(self, number: int) -> None:
        with self._news:
            self._stopped.add(number)
            self._news.notify_all()

    def adjust(self, number: int, adjustment: Adjustment) -> None:
        with self._news:
            self._adjusted = {number: adjustment}  # earlier commands are over
            self._news.notify_all()

    def adjustment(self, number: int) -> Adjustment:
        return self._adjusted.get(number, Adjustment())

    def is_stopped(self, number: int) -> bool:
        return number in self._stopped

    def wait_while_paused(self, number: int) -> float:
        """Wait until a command is not paused, or is stopped; return the seconds."""
        began = time.perf_counter()
        with self._news:
            self._news.wait_for(lambda: self.is_stopped(number) or not self.adjustment(number).paused)
        return time.perf_counter() - began

    def wait_for_stop(self, number: int, seconds: float) -> bool:
        """Wait for so long; return whether the command was stopped."""
        with self._news:
            return self._news.wait_for(lambda: self.is_stopped(number), seconds)


class Trainer:
    """Carries out commands one by one; Stop and Adjust also reach the current one."""

    def __init__(self) -> None:
        self._parent: Parent[Command] = Parent(Command)
        self._commands: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._requests = Requests()
        self._own = ClientFiles()
        self._paces: tuple[object, Paces] | None = None

    def run(self) -> None:
        """Carry out commands until the agent has ended."""
        self._parent.listen(self._take)
        began = time.perf_counter()
        setup = decode_json(os.environ[SETUP_VARIABLE], Setup)
        runtime = setup.runtime
        self._backend: Backend = make_backend(runtime.backend, setup.make)
        try:
            device = self._backend.prepare(runtime.threads, runtime.device)
        except LanfitError as error:
            self._parent.send(NotReady(error.message, error.hint))
            threading.Event().wait()  # until the agent ends this process
        self._rows = RowCache(self._backend.place)
        self._computes_on = (
            *(__version__, *self._backend.versions),
            *(str(part) for part in (runtime.backend, runtime.threads, device)),
        )
        self._limited = device.kind == "cpu"
        seconds = time.perf_counter() - began
        self._parent.send(Ready(runtime.backend, device.kind, runtime.threads, seconds, device.name))
        while True:
            command = self._commands.get()
            self._parent.send(self._work(command))
            self._backend.forget_start()  # unmapping a large file takes time: not while a command waits

    def _take(self, command: Command) -> None:
        """Queue a command, or note what is requested of one. Runs in the listening thread."""
        match command:
            case Stop(number):
                self._requests.stop(number)
            case Adjust(number, adjustment):
                self._requests.adjust(number, adjustment)
            case _:
                self._commands.put(command)

    def _work(self, command: Work) -> Trained | Surveyed | Evaluated | Built | NotDone:
        try:
            return self._do(command)
        except Stopped:
            return NotDone(command.number, True, "the task was stopped", "")
        except Exception as failed:  # noqa: BLE001 - an exception of a backend fails the task, not the trainer
            wrong = explained(failed)
            return NotDone(command.number, False, wrong.message, wrong.hint, wrong.code)

    def _do(self, command: Work) -> Trained | Surveyed | Evaluated | Built:
        if self._requests.is_stopped(command.number):
            raise Stopped
        self._limit_memory()
        self._backend.use_custom(command.custom)
        match command:
            case Fit():
                return self._train(command)
            case Survey():
                return self._survey(command)
            case Evaluate():
                return self._evaluate(command)
            case Build():
                self._backend.check_model(command.model, command.keras)
                return Built(command.number)

    def _limit_memory(self) -> None:
        """Limit the memory of a command to what is available, so that a task can't exhaust this machine.

        The limit is set for each command, because the available memory changes. There is none with a GPU, because its
        driver maps address space that is not memory of this machine.
        """
        if self._limited and (free := free_of_machine()):
            limit_memory(max(LEAST_MEMORY, free))

    def _survey(self, command: Survey) -> Surveyed:
        rows = self._own.read(Path(command.data), command.model, command.own)
        train = fewest_to_train(rows, command.own)
        check_enough(train, (rows.validation, rows.test), command.own.batch_size, command.least_rows)
        self._backend.check_batch(command.model, command.weights.load(), batch_to_try(command.model, rows))
        values = rows.target_moments[Y].count if Y in rows.target_moments else 0
        block = ArrayFile.write(Path(command.result), statistics(rows))
        notes = (*rows.notes, *rows.warnings)
        return Surveyed(
            command.number, rows.train, rows.validation, rows.test, rows.moments[X].count, values, block, notes
        )

    def _evaluate(self, command: Evaluate) -> Evaluated:
        model = command.model
        shard = Shard.of_block(model, command.shard.load())
        if command.own is not None:
            own = self._own.read(Path(command.data), model, command.own)
            rows = rows_to_test(own, shard) if command.rows == "test" else rows_to_validate(own, shard)
            check_evaluated([len(rows)], command.least_rows)
        else:
            rows = shard.validation
        members = [TrainedModel.of(file.load(), model) for file in command.members]
        return Evaluated(command.number, len(rows), self._backend.evaluate(model, members, rows))

    def _train(self, command: Fit) -> Trained:
        task, timings = command.fit, Timings()
        with timings.span("prepare"):
            ready = self._rows_of(command)
            rows = ready.rows
            weights = command.weights.load()
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
                start = TrainedModel(weights, rows.normalizers)
                scores = self._backend.evaluate(task.model, [start], ready.to_evaluate)
        shown, of_loop = None, dict[str, float]()
        if command.shown is not None:
            shown = EpochPredictions(self._backend.predict, task.model, command.shown.load(), rows.normalizers)
        epochs, seconds_so_far = job.epochs_over(len(rows.train)), lambda: {**of_loop, **timings.seconds}
        reporter = Reporter(command, epochs, self._parent, self._requests, shown, seconds_so_far)
        if ready.left_out and task.round <= 1:
            reporter.on_note("One row is left out so that no batch has a single row.")
        key = checkpoint_key(command, ready.shard, self._computes_on)
        checkpointer = Checkpointer(Path(command.checkpoint), key, reporter.on_note)
        paces = self._paces_of(task)
        plan = reporter.plan
        result = fit(self._backend, job, rows.train, rows.validation, reporter, checkpointer, paces, of_loop, plan)
        member = TrainedModel(result.weights, rows.normalizers)
        if rows.held_out is not None:
            with timings.span("score"):
                scores = self._backend.evaluate(task.model, [member], rows.held_out)
        arrays = {**result.weights, **member.constants(), HISTORY: result.history}
        block = self._write(command, arrays, reporter)
        if command.copy:
            try:
                self._backend.write_model(Path(command.copy), task.model, result.weights)
            except OSError as error:  # the copy is optional
                reporter.on_note(f"The local copy of the model was not written: {refused(error).message}.")
            except ValueError as error:
                reporter.on_note(f"The local copy of the model was not written: {error}.")
        seconds = {**result.seconds, **timings.seconds}
        steered = plan.changed_epochs(len(result.history)), plan.rates
        return Trained(command.number, block, result.metrics, result.best_epoch, scores, seconds, *steered)

    def _write(self, command: Fit, arrays: Mapping[str, AnyArray], reporter: Reporter) -> ArrayFile:
        """Write a result. If the disk is full, wait until there is space: the result took long to train."""
        retry, waited = RetryWhenFull("A finished result can't be written", reporter.on_note), False
        while True:
            try:
                block = ArrayFile.write(Path(command.result), arrays)
                break
            except OSError as error:
                if not is_full(error):
                    raise
                retry.is_missing(error)
            waited = True
            if self._requests.wait_for_stop(command.number, AGAIN_SECONDS):
                raise Stopped
        if waited:
            reporter.on_note("The result fits on the disk again.")
        return block

    def _rows_of(self, command: Fit) -> ReadyRows:
        task = command.fit
        if task.own is None:
            self._own.forget()
            shard = command.shard
            return self._rows.of(
                task, shard.block, None, lambda: Shard.of_block(task.model, shard.load()), chosen=command.rows
            )
        own, least = self._own.read(Path(command.data), task.model, task.own), command.least_rows

        def load() -> Shard:
            return shard_of(own, Shard.of_block(task.model, command.shard.load()))

        ready = self._rows.of(task, command.shard.block, own, load, least_batch(least))
        held_out = len(ready.rows.held_out) if ready.rows.held_out else 0
        train = len(ready.rows.train) + ready.left_out
        check_enough(train, (len(ready.rows.validation), held_out), task.batch_size, least)
        return ready

    def _paces_of(self, task: FitTask) -> Paces:
        """Return the last paces of this model; new ones for another model."""
        model = (task.model.architecture, task.model.compile, task.batch_size)
        if self._paces is None or self._paces[0] != model:
            self._paces = model, new_paces(task.batch_size)
        return self._paces[1]


def checkpoint_key(command: Fit, shard: BlockSpec, computes_on: Sequence[str]) -> bytes:
    """Return the key of a checkpoint: a hash of everything that training depends on, such as task, rows and backend."""
    parts = (command.fit, command.weights.block, shard, computes_on, *([command.rows.block] if command.rows else []))
    return hashlib.sha256(msgspec.msgpack.encode(parts)).digest()


def explained(failed: Exception) -> LanfitError:
    """Return the error for the user about an exception of a command."""
    match failed:
        case LanfitError():
            return failed
        case _ if ran_out(failed):
            return lanfit_error("training.out-of-memory")
        case OSError():
            return refused(failed)
        case _:
            traceback.print_exception(failed)
            first = str(failed).strip().partition("\n")[0]
            return lanfit_error("training.failed", kind=type(failed).__name__, reason=first)


if __name__ == "__main__":
    try:
        Trainer().run()
    except Exception:  # noqa: BLE001 - of the backend, before the first command
        traceback.print_exc()
        end_process(1)
