"""Steps 6 and 7: from committed results to the final and the merged models, the report and the summary."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanfit.crash import crash_point
from lanfit.data.labels import Target
from lanfit.durable import write_whole
from lanfit.errors import LanfitError
from lanfit.files import ArrayFile
from lanfit.job import Job
from lanfit.logs import HistoryFile
from lanfit.wire.arrays import AnyArray
from lanfit_server.client_facts import client_facts
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import Average, Done, ModelProcess, Predict, Score, Scored, WriteFinal, WriteModel, Written
from lanfit_server.ledger import Preprocessing, StoredResult
from lanfit_server.methods import Method, Outcome
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.workbook import write_report
from lanfit_server.roster import Roster
from lanfit_server.scoring import ClientScores, draw
from lanfit_server.summary import FinalFacts, MergedFacts, ModelFacts, Summary, data_facts

log = logging.getLogger("lanfit.server")


@dataclass(frozen=True)
class Finish:
    """Ends a run.

    Args:
        scratch: a folder for what is only needed meanwhile.
        targets: of the server's test rows, as the files hold them (with order XX the inputs); None without test rows.
        scores: what compares models where the server has no test rows.
    """

    run: OpenRun
    job: Job
    method: Method
    course: Course
    models: ModelProcess
    scratch: Path
    targets: AnyArray | None
    scores: ClientScores | None = None

    async def end(self, roster: Roster, status: str, began: float) -> Summary:
        """Write models, `preprocessing.json`, `summary.json` and `report.xlsx`; return the summary.

        Args:
            status: done, partial, failed or interrupted.
            began: when the run began, on the monotonic clock.
        """
        run, outcome = self.run, self.method.finish()
        await self._best_of_folds(outcome)
        final = await self._final(outcome)
        merged = await self._merged()
        crash_point("server.models-written")
        now = time.monotonic()
        clients = client_facts(run, self.course, outcome, roster, now)
        seconds = self.course.timings.seconds
        errors = [error for client in clients for error in client.errors]
        summary = Summary(
            run=run.run,
            status=status,
            method=self.job.method,
            seed=self.job.seed,
            metrics_from="server" if self.targets is not None else "clients",
            model=ModelFacts(run.record.file, run.record.parameters),
            data=data_facts(run.record, self.job.data),
            clients=clients,
            final=final,
            merged=merged,
            seconds={"total": round(now - began, 4), "train": round(seconds.get("train", 0.0), 4)},
            error=errors[-1] if errors and status != "done" else None,
        )
        write_whole(run.folder / "summary.json", summary.to_json())
        await self._report(summary, outcome)
        return summary

    async def _report(self, summary: Summary, outcome: Outcome) -> None:
        """Write the workbook; a run that has its summary does not fail for want of it."""
        path = self.run.folder / "report.xlsx"
        try:
            await asyncio.to_thread(write_report, path, summary, await self._predictions(outcome))
        except (LanfitError, OSError, ImportError) as wrong:
            log.warning("%s was not written: %s", path, wrong)

    def _best(self, outcome: Outcome) -> StoredResult | None:
        return self.run.ledger.result(outcome.best.key) if outcome.best is not None else None

    async def _best_of_folds(self, outcome: Outcome) -> None:
        """The best fold's model, history and curves are the client's."""
        for task in outcome.by_shard.values():
            stored = self.run.ledger.result(task.key)
            if task.fold and stored is not None:
                owner = self.course.table[task.key].owner
                path = self.run.collected(f"{owner}.h5")
                await self.models.ask(WriteModel(str(path), self.run.file(stored)), Done)
                await draw(self.run, stored, owner, "")
                HistoryFile(self.run.client_folder(owner) / "history.csv").write(self.run.history(stored))

    async def _final(self, outcome: Outcome) -> FinalFacts | None:
        stored = self._best(outcome)
        if stored is None:
            return None
        run, path = self.run, self.run.collected("final.keras")
        scored = await self.models.ask(WriteFinal(str(path), (run.file(stored),)), Scored)
        member = run.member(stored)
        preprocessing = Preprocessing.of(member.normalizer, member.targets, run.record.labels)
        write_whole(path.parent / "preprocessing.json", preprocessing.to_json())
        metrics = scored.metrics or self.course.metrics.get(stored.task, {})
        return FinalFacts(run.workspace.relative(path), self.course.table[stored.task].owner, metrics)

    async def _merged(self) -> tuple[MergedFacts, ...]:
        """What the operator wants made of all models together, in task order."""
        run, stored = self.run, self.run.ledger.results()
        if not self.job.merge or not stored:
            return ()
        files = tuple(run.file(each) for each in stored)
        made = []
        for name in self.job.merge:
            if name == "average":
                path = run.collected("average.h5")
                metrics = await self._average(path, files, stored)
            else:
                path = run.collected("ensemble.keras")
                metrics = (await self.models.ask(WriteFinal(str(path), files), Scored)).metrics
                metrics = metrics or await self._scored_by_clients(name, files)
            made.append(MergedFacts(name, run.workspace.relative(path), metrics))
        return tuple(made)

    async def _average(
        self, path: Path, files: tuple[ArrayFile, ...], stored: Sequence[StoredResult]
    ) -> dict[str, float]:
        shards = {record.task.key: record.task.shard for record in self.course.table.records()}
        rows = tuple(self.run.record.samples[shards[each.task]] for each in stored)
        written = await self.models.ask(Average(str(self.scratch / "average.block"), files, rows), Written)
        await self.models.ask(WriteModel(str(path), written.arrays), Done)
        scored = await self.models.ask(Score((written.arrays,)), Scored)
        return scored.metrics or await self._scored_by_clients("average", [written.arrays])

    async def _scored_by_clients(self, name: str, files: Sequence[ArrayFile]) -> dict[str, float]:
        return await self.scores.of(name, files) if self.scores is not None else {}

    async def _predictions(self, outcome: Outcome) -> Predictions | None:
        stored = self._best(outcome)
        if stored is None or self.targets is None:
            return None
        target = Target(self.run.record.model.target)
        y = self.run.member(stored).normalizer.apply(self.targets) if target is Target.INPUT else self.targets
        path = str(self.scratch / "predictions.block")
        written = await self.models.ask(Predict(self.run.file(stored), path), Written)
        return Predictions(
            target=target,
            y=y,
            predictions=np.asarray(written.arrays.load()["predictions"], np.float32),
            labels=self.run.record.labels,
        )
