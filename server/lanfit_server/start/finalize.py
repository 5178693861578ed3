"""Finalizes a run of an earlier server: evaluates its results, writes its models and its summary."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lanfit.core.loop import in_thread
from lanfit.core.workspace import Workspace
from lanfit.data.prepare import Prepared
from lanfit.data.shard import Arrays
from lanfit.data.sources import Source
from lanfit.errors import LanfitError
from lanfit.settings.fields import read_toml
from lanfit.settings.job import FIELDS, Job, make_job
from lanfit.wire.messages import Model
from lanfit_server.clusters.events import settings_of
from lanfit_server.clusters.roster import Roster
from lanfit_server.data.keras_datasets import RowSource
from lanfit_server.data.prepare import no_rows, targets_of_test, test_rows
from lanfit_server.data.reading import read_data
from lanfit_server.methods.base import Method
from lanfit_server.methods.registry import METHODS
from lanfit_server.methods.workshop import Workshop
from lanfit_server.methods.workshops import Context, begin
from lanfit_server.models.custom_files import files_of
from lanfit_server.models.handle import Done, ModelProcess, UseData, UseModel
from lanfit_server.run.damage import mend
from lanfit_server.run.finish import Finish
from lanfit_server.run.instructions import Do, Emit, RecordSettings
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.tasks import Record
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Summary


class Finalizer:
    """Does what the earlier server would have done with complete results.

    Args:
        scratch: for the data, which is read again with the run's own job.
    """

    def __init__(self, workspace: Workspace, models: ModelProcess, scratch: Path, log: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._models = models
        self._scratch = scratch
        self._log = log

    async def run(self, run: OpenRun, roster: Roster) -> Summary | None:
        """Return the run's new summary: `done` if no result is missing, else `partial`.

        None for a run in rounds: the next step depends on its results, and only a server that resumes it can do it.
        """
        began = time.monotonic()
        record = run.record
        job = make_job(read_toml(record.job, f"job of run {run.run}", FIELDS))
        kind = METHODS[job.method]
        if kind.in_rounds:
            self._log(f"Run {run.run} has rounds: its results are kept. Resume it with --resume {run.run}.")
            return None
        await mend(run, self._log, f"To train it again, resume the run: --resume {run.run}")
        await self._models.ask(UseModel(record.model, files_of(job.custom_objects, self._workspace)), Done)
        targets = await self._use_data(run, job)
        stats = RunStats()
        method, workshop = begin(Context(job, run, stats, self._models, self._scratch, self._log, clients=None))
        tasks = {task.key: task for task in kind.tasks(job)}
        for owned in run.ledger.tasks():
            stats.table.add(tasks[owned.key], owned.owner, bound=record.own is not None)
        for stored in run.ledger.results():
            stats.table.commit(stored.task, stored.client, trained=settings_of(stored.result))
            await self._make(run, stats.table[stored.task], method, workshop, stats)
        status = "partial" if stats.table.open else "done"
        finish = Finish(run, job, workshop, stats, self._models, self._scratch, targets)
        outcome = await finish.end(roster, status, began)
        if status == "done":
            run.end(status)
        for note in await finish.report(outcome):
            self._log(f"Note: {note}")
        return outcome.summary

    async def _make(self, run: OpenRun, record: Record, method: Method, workshop: Workshop, stats: RunStats) -> None:
        """Make and evaluate the model of a result."""
        now = time.monotonic()
        for each in method.on_committed(record, now):
            if isinstance(each, RecordSettings):
                run.change_job(each.values)
                continue
            assert isinstance(each, Do)
            for instruction in method.on_work_done(each.work, await workshop.do(each.work), now):
                assert isinstance(instruction, Emit)
                stats(instruction.event, now)

    async def _use_data(self, run: OpenRun, job: Job) -> Arrays | None:
        """Read the run's data again for its test rows; without them, the clients' own metrics are used.

        Returns the targets of the test rows, None without any.
        """
        rows = no_rows(run.record.model, self._scratch)
        targets: Arrays | None = None
        if run.record.own is None:
            try:
                model = run.record.model
                source = RowSource(job, self._models, self._scratch, kept=run.folder, log=self._log)
                data = await self._read(job, model, await source.open(model))
                rows, targets = test_rows(data, model, self._scratch), targets_of_test(data, job)
            except LanfitError as error:
                self._log(f"The models of run {run.run} can't be evaluated by the server: {error.message}.")
        await self._models.ask(UseData(rows), Done)
        return targets

    async def _read(self, job: Job, model: Model, source: Source | None) -> Prepared:
        """Read in a thread that ends at once if this is cancelled."""
        stop = threading.Event()
        read = partial(read_data, job, self._workspace, model, self._scratch, source, stop)
        return await in_thread(read, on_cancel=stop.set)
