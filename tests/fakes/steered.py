"""A run whose clients train at once, in this process, with the fake backend; engine, shell, ledger, files are real."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from only_tasks import terms_of

from fakes.backend import FakeBackend
from fakes.fake_cluster import FakeCluster, RecordingDisplay
from lanfit.core.workspace import Workspace
from lanfit.data.shard import Normalizers, Samples, Shard
from lanfit.models.compiling import CompileSpec, unchecked_spec
from lanfit.models.trained_model import HISTORY, TrainedModel
from lanfit.settings.fields import Value
from lanfit.settings.job import Job, make_job
from lanfit.settings.timeouts import Timeouts
from lanfit.training.loop import FitJob, Plan, fit
from lanfit.training.row_cache import RowCache
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import AnyArray, block_of
from lanfit.wire.messages import Adjust, Adjustment, FitTask, Lease, Message, Model, Result
from lanfit_server.clusters.events import ResultCommitted, settings_of
from lanfit_server.data.prepare import RunData, open_run, record_of
from lanfit_server.methods.base import Task
from lanfit_server.methods.changes import unchangeable
from lanfit_server.methods.independent import Independent
from lanfit_server.methods.independent_workshop import IndependentWorkshop
from lanfit_server.methods.registry import folds_of
from lanfit_server.methods.workshops import Clients, Context, begin
from lanfit_server.models.handle import Done, Evaluate, Loaded, Metrics, WriteModel
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.engine import RunEngine
from lanfit_server.run.events import Commanded, RunEvent
from lanfit_server.run.instructions import Command
from lanfit_server.run.journal import Journal
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.shell import Shell
from lanfit_server.store.ledger import Ledger, StoredResult
from lanfit_server.store.result_store import OpenRun
from lanfit_server.ui.narrator import Narrator

WAITS = Timeouts(heartbeat=0.01, suspect=15, lost=60, no_progress=600, grace=0.0)
NAMES = ("lab-1", "lab-2")
ROWS = (24, 16)
START = {"dense/kernel": np.zeros((3, 2), np.float32), "dense/bias": np.zeros(2, np.float32)}
SGD = {"module": "keras.optimizers", "class_name": "SGD", "config": {"learning_rate": 0.05}, "registered_name": None}
MODEL = Model("{}", CompileSpec(SGD, "mse").to_json(), (None, 3), (None, 2), "values", "none", "none")


class Models:
    """Stands for the model process."""

    async def ask(self, request: Any, answer: type) -> Any:
        if isinstance(request, WriteModel):
            Path(request.path).parent.mkdir(parents=True, exist_ok=True)
            Path(request.path).touch()
            return Done()
        assert isinstance(request, Evaluate)
        return Metrics({"loss": abs(10 - float(request.members[0].load()["dense/kernel"].flat[0]))})


class Operator:
    """The report and the steering of a fit that is adjusted during its first epoch."""

    def __init__(self, wanted: Adjustment) -> None:
        self._wanted = wanted
        self._begun = False

    def on_progress(self, epoch: int, step: int, steps: int, loss: float, samples_per_second: float) -> None:
        self._begun = True

    def on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        pass

    def on_resume(self, history: Any) -> None:
        pass

    def adjustment(self) -> Adjustment:
        return self._wanted if self._begun else Adjustment()

    def wait_while_paused(self) -> float:
        return 0.0


class TrainingCluster(FakeCluster):
    """Clients that have trained a task as soon as it is sent to them; one that is to be adjusted after that.

    Args:
        changes: by task, what is changed while a client has it.
        dies_at: the task that is never trained.
    """

    def __init__(self, changes: Mapping[str, Command], dies_at: str) -> None:
        super().__init__(*NAMES)
        self.changes = dict(changes)
        self.refused: list[Exception] = []
        self.dies_at = dies_at
        self.has_died = asyncio.Event()
        self.leased: dict[str, FitTask] = {}
        self.leases: dict[str, Lease] = {}
        self.adjusted: dict[str, Adjustment] = {}
        self.adjusting: set[str] = set()
        """The tasks whose clients train when they are adjusted."""
        self.withdrawn: list[str] = []
        self.served: dict[str, Mapping[str, AnyArray]] = {}
        self.run: OpenRun
        self.shell: Shell

    def serve_block(self, spec: Any, arrays: Mapping[str, AnyArray], on_sent: Any = None) -> None:
        super().serve_block(spec, arrays, on_sent)
        self.served[spec.id] = arrays

    def withdraw_block(self, block_id: str) -> None:
        self.withdrawn.append(block_id)

    async def send(self, client: str, message: Message) -> None:
        await super().send(client, message)
        if isinstance(message, Adjust) and message.task in self.adjusting:
            self.adjusting.discard(message.task)
            self.adjusted[message.task] = message.adjustment
            self._train(client, self.leases[message.task], message.adjustment)
        if not isinstance(message, Lease):
            return
        self.leased[message.task], self.leases[message.task] = message.fit, message
        change = self.changes.pop(message.task, None)
        if change is not None:
            giving = asyncio.create_task(self._change(change))
            await asyncio.sleep(0)
            self.giving = giving
        if message.task == self.dies_at:
            self.has_died.set()
        elif change is not None and not message.fit.round:
            self.adjusting.add(message.task)
        else:
            self._train(client, message, Adjustment())

    def _train(self, client: str, message: Lease, adjustment: Adjustment) -> None:
        weights, shard = self.served[message.weights.id], self.served[message.shard.id]
        lists = self.served[message.rows.id] if message.rows else None
        result, arrays = trained(message, weights, shard, lists, adjustment)
        self.run.check(result)
        path = self.run.block(result.task)
        path.parent.mkdir(parents=True, exist_ok=True)
        BlockFile.write(path, arrays)
        self.run.ledger.commit(StoredResult(result.task, client, result))
        self.events.put_nowait(ResultCommitted(client, "run-1", result.task, 0.1, trained=settings_of(result)))

    async def _change(self, change: Command) -> None:
        try:
            await self.shell.command(change)
        except Exception as refused:  # noqa: BLE001 - the test looks at it
            self.refused.append(refused)


def trained(
    lease: Lease,
    weights: Mapping[str, AnyArray],
    block: Mapping[str, AnyArray],
    lists: Mapping[str, AnyArray] | None = None,
    adjustment: Adjustment | None = None,
) -> tuple[Result, dict[str, AnyArray]]:
    """What a client makes of a lease that is adjusted during the first epoch."""
    task, backend = lease.fit, FakeBackend()
    chosen: Any = SimpleNamespace(block=lease.rows, load=lambda: lists) if lease.rows else None
    cache = RowCache(lambda array: array)
    rows = cache.of(task, lease.shard, None, lambda: Shard.of_block(task.model, block), chosen=chosen).rows
    backend.load(task.model.architecture, task.model.compile, weights)
    job = FitJob(
        task.epochs, task.batch_size, task.seed, task.patience or None, task.local_steps, task.proximal,
        task.first_step, task.keep_last,
    )  # fmt: skip
    operator = Operator(adjustment or Adjustment())
    plan = Plan(job.epochs_over(len(rows.train)), task.rates, operator)
    done = fit(backend, job, rows.train, rows.validation, operator, plan=plan)
    arrays = {**done.weights, **TrainedModel(done.weights, rows.normalizers).constants(), HISTORY: done.history}
    result = Result(
        lease.run, lease.task, lease.attempt, block_of(arrays), done.metrics, done.best_epoch, {}, {"train": 0.0},
        "fake", "cpu", 1, plan.changed_epochs(len(done.history)), plan.rates,
    )  # fmt: skip
    return result, arrays


class Run:
    """A run in a folder; one that is there already is resumed."""

    def __init__(
        self,
        folder: Path,
        job: Job | None,
        changes: Mapping[str, Command],
        dies_at: str,
        tasks: Sequence[Task] | None = None,
    ) -> None:
        self.place, self.data, self.is_new = Workspace(folder), rows_of_run(), job is not None
        if job is not None:
            spec = ArrayFile("weights.block", block_of(START))
            loaded = Loaded("{}", "SGD", "mse", (), (), 8, spec, tuple(START))
            self.run = open_run(
                self.place, record_of("run-1", job, b"s" * 16, loaded, MODEL, self.data), START, self.data
            )
        else:
            ledger = Ledger(self.place.run_folder("run-1"))
            assert ledger.record is not None
            self.run = OpenRun(self.place, "run-1", ledger, ledger.record)
            job = self.run.job
        self.job, self.output = job, RecordingDisplay()
        self.cluster = TrainingCluster(changes, dies_at)
        for name in () if self.is_new else NAMES:
            self.cluster.leave(name, time.monotonic())
        while not self.cluster.events.empty():
            self.cluster.events.get_nowait()
        self.stats, self.journal = RunStats(), Journal(self.place.run_folder("run-1"))
        dispatch = Dispatch(job, self.run, self.cluster, self.data, START)
        models: Any = Models()
        self.method, self.workshop = begin(
            Context(
                job, self.run, self.stats, models, folder / "scratch", self.output.log, Clients(dispatch, START, NAMES)
            )
        )  # fmt: skip
        if tasks is not None:
            self.method = Independent(tasks, self.stats.table)
            self.workshop = IndependentWorkshop(job, self.run, self.method, self.stats, models, folder / "scratch")
        optimizer = unchecked_spec(MODEL.compile).optimizer
        terms = terms_of(
            NAMES, timeouts=WAITS, copies=False, method=job.method, epochs=self.run.record.epochs, folds=folds_of(job),
            unchangeable=unchangeable(job.local_steps, optimizer),
        )  # fmt: skip
        self.commands: list[Commanded] = []
        self.shell = Shell(
            self.run, RunEngine(terms, self.method, self.stats.table), self.workshop, self.cluster, dispatch,
            self.journal, self.output, (self.stats, self.journal, dispatch, Narrator(self.output, str), self._on_event),
            WAITS.heartbeat,
        )  # fmt: skip
        self.cluster.run, self.cluster.shell = self.run, self.shell

    def _on_event(self, event: RunEvent, now: float) -> None:
        if isinstance(event, Commanded):
            self.commands.append(event)

    @property
    def leased(self) -> Mapping[str, FitTask]:
        return self.cluster.leased

    def weights(self) -> list[str]:
        """What the run has given: of rounds the weights of each, else of each task its result."""
        ledger = self.run.ledger
        if self.method.rounds:
            return [record.weights_id for record in ledger.rounds()]
        return [stored.result.block.id for stored in ledger.results()]

    def job_file(self) -> Path:
        return self.run.folder / "job.toml"


def rows_of_run() -> RunData:
    chance = np.random.RandomState(0)

    def rows(count: int) -> Samples:
        return Samples.of(chance.rand(count, 3).astype(np.float32), chance.rand(count, 2).astype(np.float32))

    shards = [Shard(rows(count), rows(6)) for count in ROWS]
    return RunData(shards, tuple(count + 6 for count in ROWS), sum(ROWS), 0, 5, Normalizers.single(), {}, ROWS)


@contextlib.asynccontextmanager
async def _open(
    folder: Path, job: Job | None, changes: Mapping[str, Command], dies_at: str, tasks: Sequence[Task] | None
) -> AsyncIterator[tuple[Run, asyncio.Task[None]]]:
    run = Run(folder, job, changes, dies_at, tasks)
    working = asyncio.create_task(run.shell.run())
    try:
        while not run.is_new and not run.stats.table.open:
            await asyncio.sleep(0.001)
        for name in () if run.is_new else NAMES:  # they come back
            run.cluster.join(name)
        yield run, working
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)
        await run.shell.close()
        run.journal.close()


async def done(
    folder: Path,
    job: Job | None = None,
    changes: Mapping[str, Command] | None = None,
    dies_at: str = "",
    tasks: Sequence[Task] | None = None,
) -> Run:
    """A run from its beginning, or from where an earlier server has died, to its end, or until the server dies.

    Args:
        job: None: resume the run in this folder.
        changes: by task, what is changed while a client has it.
        dies_at: the task at which the server dies.
        tasks: instead of those of the job's method.
    """
    async with _open(folder, job, changes or {}, dies_at, tasks) as (run, working):
        if dies_at:
            await run.cluster.has_died.wait()
            await run.cluster.giving
        else:
            await working
            assert not run.cluster.changes, "a task that was to be changed at was never leased"
            await run.workshop.finish()
        return run


def job_of(method: str, **values: Value) -> Job:
    usual: dict[str, Value] = {"model": "net.h5", "clients": 2, "epochs": 2, "batch_size": 8, "validation_split": 0.25}
    return make_job({**usual, "method": method, **values})
