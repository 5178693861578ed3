"""Finishes a run: final and merged models and the summary, from committed results; then the reports."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from lanfit.core.durable import atomic_write
from lanfit.core.failpoints import failpoint
from lanfit.data.shard import Arrays
from lanfit.models.trained_model import TrainedModel
from lanfit.settings.job import Job
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.workshop import Chosen, Workshop
from lanfit_server.models.handle import Metrics, ModelProcess, WriteFinal
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.report.predictions import Predictions, predictions_of
from lanfit_server.report.reports import write_reports
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.ledger import preprocessing_of
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import FinalFacts, ModelFacts, Summary, data_facts


@dataclass(frozen=True)
class Outcome:
    """What a run ends with, as far as it was computed."""

    summary: Summary
    predictions: Callable[[], dict[str, Predictions]]
    """Gives those of the final model for the server's test rows, by output; none without test rows."""


@dataclass(frozen=True)
class Finish:
    """Ends a run.

    Args:
        scratch: a folder for temporary files.
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

    async def end(self, roster: Roster, status: str, began: float) -> Outcome:
        """Write models, `preprocessing.json` and `summary.json`. `report` follows.

        Args:
            status: done, partial, failed or interrupted.
            began: when the run began, on the monotonic clock.
        """
        run, chosen = self.run, self.workshop.chosen()
        await self.workshop.finish()
        final, predictions = await self._final(chosen)
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
        return Outcome(summary, predictions)

    async def report(self, outcome: Outcome) -> list[str]:
        """Write what people read about the run; return a sentence for each report that could not be written."""
        return await asyncio.to_thread(write_reports, self.run.folder, outcome.summary, outcome.predictions)

    async def _final(self, chosen: Chosen | None) -> tuple[FinalFacts | None, Callable[[], dict[str, Predictions]]]:
        """Write the final model; return the facts about it, and what gives its predictions for the test rows."""
        if chosen is None:
            return None, dict
        run, path = self.run, self.run.collected("final.keras")
        predictions = str(self.scratch / "predictions.block")
        evaluated = await self.models.ask(WriteFinal(str(path), (chosen.file,), predictions), Metrics)
        member = TrainedModel.of(chosen.file.load(), run.record.model)
        preprocessing = preprocessing_of(run.record.model, member.normalizers, run.record.labels)
        atomic_write(path.parent / "preprocessing.json", preprocessing.to_json())
        if (recipe := run.folder / RECIPE).is_file():
            atomic_write(path.with_name(RECIPE), recipe.read_bytes())
        metrics = evaluated.metrics or dict(chosen.metrics)
        facts = FinalFacts(run.workspace.relative(path), chosen.client, metrics, chosen.round)
        return facts, partial(predictions_of, run.record, self.targets, evaluated.predictions, member.normalizers)
