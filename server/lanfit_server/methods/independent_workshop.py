"""The work of `fit` and `kfold`: model file, chart and metrics of each result, and merged models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit.core.failpoints import failpoint
from lanfit.core.logs import HistoryFile
from lanfit.settings.changes import Changes
from lanfit.settings.job import Job
from lanfit.transfer.blocks import ArrayFile
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.base import Task
from lanfit_server.methods.client_facts import client_facts
from lanfit_server.methods.independent import EvaluateResult, Independent, Merge
from lanfit_server.methods.registry import METHODS
from lanfit_server.methods.workshop import Chosen
from lanfit_server.methods.workshops import Context
from lanfit_server.models.handle import Average, Done, Evaluate, Metrics, ModelProcess, WriteFinal, WriteModel, Written
from lanfit_server.report.charts import draw_chart, draw_history
from lanfit_server.run.instructions import Work
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.ledger import StoredResult
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import ClientFacts, MergedFacts, RoundFacts
from lanfit_server.ui.shown_rows import NONE_SHOWN, ShownRows


def begin(context: Context) -> tuple[Independent, IndependentWorkshop]:
    """Return both halves of `fit` and `kfold` for a run."""
    job, run, stats, kind = context.job, context.run, context.stats, METHODS[context.job.method]
    method = Independent(
        kind.tasks(job),
        stats.table,
        folds=kind.folds(job),
        changes=Changes.of(job.changes),
        merge=job.merge or (),
        compares=context.clients is not None and run.record.own is not None and run.record.test > 0,
        limit=60 * job.deadline,
        max_weight=job.max_weight,
    )
    return method, IndependentWorkshop(job, run, method, stats, context.models, context.scratch, context.shown)


class IndependentWorkshop:
    """A `Workshop` for `Independent`.

    Args:
        scratch: a folder for temporary files of the run.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Independent,
        stats: RunStats,
        models: ModelProcess,
        scratch: Path,
        shown: ShownRows = NONE_SHOWN,
    ) -> None:
        self._job = job
        self._run = run
        self._method = method
        self._stats = stats
        self._models = models
        self._scratch = scratch
        self._shown = shown
        self._merged: dict[str, Sequence[ArrayFile]] = {}
        """The merged models that clients evaluate."""

    async def do(self, work: Work) -> Any:
        match work:
            case EvaluateResult(task, owner):
                return await self._evaluate(task, owner)
            case Merge(name):
                return await self._merge(name)
        raise TypeError(f"this method has no such work: {work}")

    def files(self, model: str) -> Sequence[ArrayFile]:
        if model in self._merged:
            return self._merged[model]
        stored = self._run.ledger.result(model)
        return [self._run.file(stored)] if stored is not None else []

    async def _evaluate(self, task: Task, owner: str) -> dict[str, float]:
        """Return metrics on the server's test rows, else those that the client measured."""
        run, stored = self._run, self._run.ledger.result(task.key)
        assert stored is not None
        path = run.model_file(f"{owner}{task.suffix}")
        await self._models.ask(WriteModel(str(path), run.file(stored)), Done)
        await self._draw(stored, owner, task.suffix)
        evaluated = await self._models.ask(Evaluate((run.file(stored),), self._shown.rows), Metrics)
        self._shown.on_seen(evaluated.seen, owner, stored.result.best_epoch + 1, task.fold or 0)
        failpoint("server.model-evaluated")
        return evaluated.metrics or stored.result.scores or run.validation_metrics(stored)

    async def _draw(self, stored: StoredResult, owner: str, suffix: str) -> None:
        """Draw the curves of a result in the folder of the client of its shard."""
        path = self._run.client_folder(owner) / f"history{suffix}.png"
        title = f"{owner}{suffix.replace('-', ' ')}"
        await draw_chart(path, draw_history, self._run.history(stored), title, stored.result.best_epoch)

    # --- merged models -----------------------------------------------------------------------------------

    async def _merge(self, name: str) -> MergedFacts:
        run, stored = self._run, self._run.ledger.results()
        files = tuple(run.file(each) for each in stored)
        if name == "average":
            path = run.model_file(name)
            metrics = await self._average(path, files, stored)
        else:
            path = run.collected("ensemble.keras")
            metrics = (await self._models.ask(WriteFinal(str(path), files), Metrics)).metrics
            self._merged[name] = files
        return MergedFacts(name, run.workspace.relative(path), metrics)

    async def _average(
        self, path: Path, files: tuple[ArrayFile, ...], stored: Sequence[StoredResult]
    ) -> dict[str, float]:
        shards = {record.task.key: record.task.shard for record in self._stats.table.records()}
        rows = tuple(self._run.record.samples[shards[each.task]] for each in stored)
        written = await self._models.ask(Average(str(self._scratch / "average.block"), files, rows), Written)
        await self._models.ask(WriteModel(str(path), written.arrays), Done)
        self._merged["average"] = [written.arrays]
        return (await self._models.ask(Evaluate((written.arrays,)), Metrics)).metrics

    # --- the end ------------------------------------------------------------------------------------------------

    def metrics_for(self, client: str) -> Mapping[str, float]:
        chosen = self._method.outcome().by_shard.values()
        best = next((task for task in chosen if self._stats.table[task.key].owner == client), None)
        return self._stats.metrics.get(best.key, {}) if best else {}

    async def finish(self) -> None:
        """Copy the best fold's model, history and curves as those of the client."""
        for task in self._method.outcome().by_shard.values():
            stored = self._run.ledger.result(task.key)
            if task.fold and stored is not None:
                owner = self._stats.table[task.key].owner
                path = self._run.model_file(owner)
                await self._models.ask(WriteModel(str(path), self._run.file(stored)), Done)
                await self._draw(stored, owner, "")
                HistoryFile(self._run.client_folder(owner) / "history.csv").write(self._run.history(stored))

    def chosen(self) -> Chosen | None:
        best = self._method.outcome().best
        stored = self._run.ledger.result(best.key) if best is not None else None
        if stored is None:
            return None
        owner = self._stats.table[stored.task].owner
        return Chosen(self._run.file(stored), owner, self._stats.metrics.get(stored.task, {}))

    async def merged(self) -> tuple[MergedFacts, ...]:
        names = self._job.merge or ()
        if not self._run.ledger.results():
            return ()
        made = self._method.merged
        return tuple([made[name] if name in made else await self._merge(name) for name in names])

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        return client_facts(self._run, self._stats, self._method.outcome(), roster, now)

    def rounds(self) -> tuple[RoundFacts, ...]:
        return ()
