"""Brings a run up to date that an earlier server left behind: scores its results, writes its models and its summary."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lanfit.data.labels import Target
from lanfit.data.prepare import Prepared
from lanfit.data.sources import Source
from lanfit.errors import LanfitError
from lanfit.fields import read_toml
from lanfit.job import ARRAYS, FIELDS, Job, make_job
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model
from lanfit.workspace import Workspace
from lanfit_server.apart import Apart
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.custom_files import files_of
from lanfit_server.damage import mend
from lanfit_server.evaluate import Done, ModelProcess, UseData, UseModel
from lanfit_server.finish import Finish
from lanfit_server.given_rows import GivenRows
from lanfit_server.methods.choose import method_of
from lanfit_server.methods.federated import Federated
from lanfit_server.prepare import no_rows, targets_of_test, test_rows
from lanfit_server.reading import read_data
from lanfit_server.roster import Roster
from lanfit_server.sets import load_set, source_of
from lanfit_server.summary import Summary


class CatchingUp:
    """Does what the earlier server would have done once the results were in.

    Args:
        scratch: for the data, which is read again as the run's own job says.
    """

    def __init__(self, workspace: Workspace, models: ModelProcess, scratch: Path, say: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._models = models
        self._scratch = scratch
        self._say = say

    async def run(self, run: OpenRun, roster: Roster) -> Summary | None:
        """Return the run's new summary: `done` when no result is missing any more, else `partial`.

        None for a run in rounds: what comes next depends on its results, and only a server that goes on can do it.
        """
        began = time.monotonic()
        record = run.record
        job = make_job(read_toml(record.job, f"job of run {run.run}", FIELDS))
        if job.method == "federated":
            self._say(f"Run {run.run} is in rounds: its results are kept. Go on with it: --resume {run.run}.")
            return None
        await mend(run, self._say, f"To have it trained again go on with the run: --resume {run.run}")
        await self._models.ask(UseModel(record.model, files_of(job.custom_objects, self._workspace)), Done)
        targets = await self._use_data(run, job)
        method, course = method_of(job), Course()
        assert not isinstance(method, Federated)  # rounds are gone on with, not collected
        maker = Apart(job, run, method, course, self._models)
        tasks = {task.key: task for task in method.start()}
        for owned in run.ledger.tasks():
            course.table.add(tasks[owned.key], owned.owner, bound=record.own is not None)
        for stored in run.ledger.results():
            course.table.commit(stored.task)
        await maker.settle()
        status = "partial" if course.table.open else "done"
        finish = Finish(run, job, maker, course, self._models, self._scratch, targets)
        summary = await finish.end(roster, status, began)
        await finish.report(summary)
        if status == "done":
            run.end(status)
        return summary

    async def _use_data(self, run: OpenRun, job: Job) -> AnyArray | None:
        """Read the run's data again for its test rows; without them the clients' own figures must do.

        Returns the targets of the test rows, None without any.
        """
        rows = no_rows(self._scratch)
        targets: AnyArray | None = None
        if run.record.own is None:
            try:
                model, source = run.record.model, None
                if job.data == ARRAYS:
                    source = GivenRows.kept(run.folder).source(Target(model.target))
                if job.dataset is not None:
                    self._say(f"Loading {job.dataset} …")
                    args = job.dataset_args or ""
                    loaded = await load_set(self._models, job.dataset, args, model.input_shape, self._scratch)
                    source = source_of(loaded, model)
                data = await self._read(job, model, source)
                rows, targets = test_rows(data, self._scratch), targets_of_test(data, job)
            except LanfitError as wrong:
                self._say(f"The models of run {run.run} can't be scored by the server: {wrong.message}.")
        await self._models.ask(UseData(rows), Done)
        return targets

    async def _read(self, job: Job, model: Model, source: Source | None) -> Prepared:
        """Read in a thread, which ends at once when this is cancelled."""
        stop = threading.Event()
        try:
            return await asyncio.to_thread(read_data, job, self._workspace, model, self._scratch, source, stop)
        finally:
            stop.set()
