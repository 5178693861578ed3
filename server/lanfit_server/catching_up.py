"""Brings a run up to date that an earlier server left behind: scores its results, writes its models and its summary."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from lanfit.errors import LanfitError
from lanfit.fields import read_toml
from lanfit.job import FIELDS, Job, make_job
from lanfit.workspace import Workspace
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import Done, ModelProcess, Restore
from lanfit_server.finish import finish
from lanfit_server.methods.fit import Fit
from lanfit_server.prepare import read_data, use_data
from lanfit_server.roster import Roster
from lanfit_server.scoring import score
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

    async def run(self, run: OpenRun, roster: Roster) -> Summary:
        """Return the run's new summary: `done` when no result is missing any more, else `partial`."""
        began = time.monotonic()
        record = run.record
        job = make_job(read_toml(record.job, f"job of run {run.run}", FIELDS))
        await self._models.ask(Restore(record.architecture, record.compile, record.output_shape), Done)
        await self._use_data(run, job)
        method, course = Fit(job.clients, job.seed), Course()
        tasks = {task.key: task for task in method.start()}
        for owned in run.ledger.tasks():
            course.table.add(tasks[owned.key], owned.owner)
        for stored in run.ledger.results():
            task, owner = tasks[stored.task], course.table[stored.task].owner
            course.table.commit(stored.task)
            course.metrics[stored.task] = await score(run, stored, owner, self._models)
            method.on_result(task, course.metrics[stored.task].get("loss", float("nan")))
        status = "partial" if course.table.open else "done"
        summary = await finish(run, job, method, course, roster, self._models, status, began)
        if status == "done":
            run.end(status)
        return summary

    async def _use_data(self, run: OpenRun, job: Job) -> None:
        """Read the run's data again for its test rows; without them the clients' own figures must do."""
        record = run.record
        try:
            data = await asyncio.to_thread(
                read_data, job, self._workspace, record.loss, record.input_shape, record.output_shape, self._scratch
            )
            await self._models.ask(use_data(data, record.target, self._scratch), Done)
        except LanfitError as wrong:
            self._say(f"The models of run {run.run} can't be scored by the server: {wrong.message}.")
