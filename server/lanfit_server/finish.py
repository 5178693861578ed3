"""Steps 6 and 7: from committed results to the final and the merged models, the report and the summary."""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanfit.crash import crash_point
from lanfit.data.labels import Target
from lanfit.durable import write_whole
from lanfit.errors import LanfitError
from lanfit.job import Job
from lanfit.models.member import Member
from lanfit.wire.arrays import AnyArray
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import ModelProcess, Predict, Scored, WriteFinal, Written
from lanfit_server.ledger import Preprocessing
from lanfit_server.makers import Chosen, Maker
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.report.predictions import Predictions
from lanfit_server.report.workbook import write_report
from lanfit_server.roster import Roster
from lanfit_server.summary import FinalFacts, ModelFacts, Summary, data_facts

log = logging.getLogger("lanfit.server")


@dataclass(frozen=True)
class Finish:
    """Ends a run.

    Args:
        scratch: a folder for what is only needed meanwhile.
        targets: of the server's test rows, as the files hold them (with order XX the inputs); None without test rows.
    """

    run: OpenRun
    job: Job
    maker: Maker
    course: Course
    models: ModelProcess
    scratch: Path
    targets: AnyArray | None

    async def end(self, roster: Roster, status: str, began: float) -> Summary:
        """Write models, `preprocessing.json` and `summary.json`; return the summary. `report` is still to come.

        Args:
            status: done, partial, failed or interrupted.
            began: when the run began, on the monotonic clock.
        """
        run, chosen = self.run, self.maker.chosen()
        await self.maker.finish()
        final = await self._final(chosen)
        merged = await self.maker.merged(self.scratch)
        crash_point("server.models-written")
        now = time.monotonic()
        clients = self.maker.clients(roster, now)
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
            clients_wanted=run.record.clients_wanted,
            rounds=self.maker.rounds(),
            final=final,
            merged=merged,
            seconds={"total": round(now - began, 4), "train": round(seconds.get("train", 0.0), 4)},
            error=self.maker.failure or (errors[-1] if errors and status != "done" else None),
        )
        write_whole(run.folder / "summary.json", summary.to_json())
        return summary

    async def report(self, summary: Summary) -> None:
        """Write `report.xlsx`; a run that has its summary does not fail for want of it."""
        path = self.run.folder / "report.xlsx"
        try:
            await asyncio.to_thread(write_report, path, summary, await self._predictions(self.maker.chosen()))
        except (LanfitError, OSError, ImportError) as wrong:
            log.warning("%s was not written: %s", path, wrong)

    def _member(self, chosen: Chosen) -> Member:
        model = self.run.record.model
        return Member.of(chosen.file.load(), model.normalizer, model.target_normalizer)

    async def _final(self, chosen: Chosen | None) -> FinalFacts | None:
        if chosen is None:
            return None
        run, path = self.run, self.run.collected("final.keras")
        scored = await self.models.ask(WriteFinal(str(path), (chosen.file,)), Scored)
        member = self._member(chosen)
        preprocessing = Preprocessing.of(member.normalizer, member.targets, run.record.labels)
        write_whole(path.parent / "preprocessing.json", preprocessing.to_json())
        if (recipe := run.folder / RECIPE).is_file():
            write_whole(path.with_name(RECIPE), recipe.read_bytes())
        metrics = scored.metrics or dict(chosen.metrics)
        return FinalFacts(run.workspace.relative(path), chosen.client, metrics, chosen.round)

    async def _predictions(self, chosen: Chosen | None) -> Predictions | None:
        if chosen is None or self.targets is None:
            return None
        target = Target(self.run.record.model.target)
        y = self._member(chosen).normalizer.apply(self.targets) if target is Target.INPUT else self.targets
        path = str(self.scratch / "predictions.block")
        written = await self.models.ask(Predict(chosen.file, path), Written)
        return Predictions(
            target=target,
            y=y,
            predictions=np.asarray(written.arrays.load()["predictions"], np.float32),
            labels=self.run.record.labels,
        )
