"""Finishes a run: final and merged models, report and summary from committed results."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanfit.core.durable import atomic_write
from lanfit.core.failpoints import failpoint
from lanfit.data.labels import Target
from lanfit.data.shard import Arrays
from lanfit.errors import LanfitError
from lanfit.models.trained_model import TrainedModel
from lanfit.settings.job import Job
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.workshop import Chosen, Workshop
from lanfit_server.models.handle import Metrics, ModelProcess, Predict, WriteFinal, Written
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.report.charts import draw_chart, draw_rounds
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.workbook import write_report
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.ledger import labels_by_target, preprocessing_of
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import FinalFacts, ModelFacts, Summary, data_facts

logger = logging.getLogger("lanfit.server")


@dataclass(frozen=True)
class Finish:
    """Ends a run.

    Args:
        scratch: a folder for what is only needed meanwhile.
        targets: of the server's test rows, as the files hold them (with order XX the inputs); None without test rows.
        failure: why the run ended earlier than the job wants; empty when it did not.
    """

    run: OpenRun
    job: Job
    workshop: Workshop
    stats: RunStats
    models: ModelProcess
    scratch: Path
    targets: Arrays | None
    failure: str = ""

    async def end(self, roster: Roster, status: str, began: float) -> Summary:
        """Write models, `preprocessing.json` and `summary.json`; return the summary. `report` follows.

        Args:
            status: done, partial, failed or interrupted.
            began: when the run began, on the monotonic clock.
        """
        run, chosen = self.run, self.workshop.chosen()
        await self.workshop.finish()
        final = await self._final(chosen)
        merged = await self.workshop.merged()
        failpoint("server.models-written")
        now = time.monotonic()
        clients = self.workshop.clients(roster, now)
        seconds = self.stats.timings.seconds
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
            clients_wanted=run.record.clients_wanted,
            rounds=self.workshop.rounds(),
            final=final,
            merged=merged,
            seconds={"total": round(now - began, 4), "train": round(seconds.get("train", 0.0), 4)},
            error=self.failure or (errors[-1] if errors and status != "done" else None),
        )
        atomic_write(run.folder / "summary.json", summary.to_json())
        return summary

    async def report(self, summary: Summary) -> None:
        """Write `report.xlsx`, and after rounds `history.png`. A failure does not affect a run with a summary."""
        if summary.rounds:
            best = summary.final.round if summary.final is not None else None
            await draw_chart(self.run.folder / "history.png", draw_rounds, summary.rounds, f"Run {summary.run}", best)
        path = self.run.folder / "report.xlsx"
        try:
            await asyncio.to_thread(write_report, path, summary, await self._predictions(self.workshop.chosen()))
        except (LanfitError, OSError, ImportError) as wrong:
            logger.warning("%s was not written: %s", path, wrong)

    def _member(self, chosen: Chosen) -> TrainedModel:
        return TrainedModel.of(chosen.file.load(), self.run.record.model)

    async def _final(self, chosen: Chosen | None) -> FinalFacts | None:
        if chosen is None:
            return None
        run, path = self.run, self.run.collected("final.keras")
        evaluated = await self.models.ask(WriteFinal(str(path), (chosen.file,)), Metrics)
        member = self._member(chosen)
        preprocessing = preprocessing_of(run.record.model, member.normalizers, run.record.labels)
        atomic_write(path.parent / "preprocessing.json", preprocessing.to_json())
        if (recipe := run.folder / RECIPE).is_file():
            atomic_write(path.with_name(RECIPE), recipe.read_bytes())
        metrics = evaluated.metrics or dict(chosen.metrics)
        return FinalFacts(run.workspace.relative(path), chosen.client, metrics, chosen.round)

    async def _predictions(self, chosen: Chosen | None) -> dict[str, Predictions]:
        """Return the facts about each output; none without test rows."""
        if chosen is None or self.targets is None:
            return {}
        record = self.run.record
        path = str(self.scratch / "predictions.block")
        written = (await self.models.ask(Predict(chosen.file, path), Written)).arrays.load()
        labels = labels_by_target(record.model, record.labels)
        found = {}
        for each in record.model.gives:
            target, y = Target(each.target), self.targets[each.name]
            if target is Target.INPUT:
                y = self._member(chosen).normalizers.x.apply(y)
            predictions = np.asarray(written[each.name], np.float32)
            found[each.name] = Predictions(target, y, predictions, labels.get(each.name))
        return found
