"""Makes of each result a model of its own: its file, its chart, its scores; the best of them is the outcome."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lanfit.crash import crash_point
from lanfit.files import ArrayFile
from lanfit.job import Job
from lanfit.logs import HistoryFile
from lanfit_server.client_facts import client_facts
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import Average, Done, ModelProcess, Score, Scored, WriteFinal, WriteModel, Written
from lanfit_server.ledger import StoredResult
from lanfit_server.makers import Chosen
from lanfit_server.methods import Method, Outcome, Task
from lanfit_server.roster import Roster
from lanfit_server.scoring import ClientScores, draw, score
from lanfit_server.summary import ClientFacts, MergedFacts, RoundFacts
from lanfit_server.tasks import Record, State


class Apart:
    """A `lanfit_server.makers.Maker` for methods whose tasks need nothing of each other.

    Args:
        scores: what compares models where the server has no test rows.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Method,
        course: Course,
        models: ModelProcess,
        scores: ClientScores | None = None,
    ) -> None:
        self.failure = ""
        self.on_made: Callable[[str, str, Mapping[str, float]], None] = lambda line, what, metrics: None
        self._job = job
        self._run = run
        self._method = method
        self._course = course
        self._models = models
        self._scores = scores
        self._scoring: list[asyncio.Task[None]] = []

    async def start(self) -> Sequence[Task]:
        return self._method.start()

    def returned(self, record: Record) -> None:
        self._scoring.append(asyncio.create_task(self._score(record)))

    async def _score(self, record: Record) -> None:
        """Score a committed result and write its model file."""
        task, owner = record.task, record.owner
        stored = self._run.ledger.result(task.key)
        assert stored is not None
        metrics = await score(self._run, stored, task, owner, self._models)
        crash_point("server.model-scored")
        self._course.metrics[task.key] = metrics
        self._method.on_result(task, metrics.get("loss", math.nan))
        what = f"{owner}, fold {task.fold} of {self._job.folds}," if task.fold else owner
        self.on_made(f"{what} is done", task.key, metrics)

    async def advance(self) -> Sequence[Task]:
        return ()

    def seconds_left(self) -> float:
        return math.inf

    def too_late(self) -> Sequence[tuple[str, str]]:
        return ()

    async def settle(self, *, waiting: bool = True) -> None:
        await asyncio.gather(*self._scoring, return_exceptions=not waiting)
        if not waiting:
            self._scores = None
        for record in self._course.table.records():
            # After an interruption: what is committed and was not scored yet.
            if record.state is State.COMMITTED and record.task.key not in self._course.metrics:
                await self._score(record)
        if self._scores is not None:
            await self._judge(self._scores)

    async def _judge(self, scores: ClientScores) -> None:
        """Compare the clients' models by the test rows of all clients: each is sent round."""
        for task in self._outcome.by_shard.values():
            stored = self._run.ledger.result(task.key)
            if stored is None:
                continue
            metrics = await scores.of(task.key, [self._run.file(stored)])
            if metrics:
                self._course.metrics[task.key] = metrics
                self._method.judge(task, metrics.get("loss", math.nan))
                self.on_made("", task.key, metrics)

    def status(self) -> str:
        states = [record.state for record in self._course.table.records()]
        if states and all(state is State.COMMITTED for state in states):
            return "done"
        return "partial" if State.COMMITTED in states else "failed"

    def metrics_for(self, client: str) -> Mapping[str, float]:
        chosen = self._outcome.by_shard.values()
        best = next((task for task in chosen if self._course.table[task.key].owner == client), None)
        return self._course.metrics.get(best.key, {}) if best else {}

    @property
    def _outcome(self) -> Outcome:
        return self._method.finish()

    # --- the end ------------------------------------------------------------------------------------------------

    async def finish(self) -> None:
        """The best fold's model, history and curves are the client's."""
        for task in self._outcome.by_shard.values():
            stored = self._run.ledger.result(task.key)
            if task.fold and stored is not None:
                owner = self._course.table[task.key].owner
                path = self._run.model_file(owner)
                await self._models.ask(WriteModel(str(path), self._run.file(stored)), Done)
                await draw(self._run, stored, owner, "")
                HistoryFile(self._run.client_folder(owner) / "history.csv").write(self._run.history(stored))

    def chosen(self) -> Chosen | None:
        best = self._outcome.best
        stored = self._run.ledger.result(best.key) if best is not None else None
        if stored is None:
            return None
        owner = self._course.table[stored.task].owner
        return Chosen(self._run.file(stored), owner, self._course.metrics.get(stored.task, {}))

    async def merged(self, scratch: Path) -> tuple[MergedFacts, ...]:
        run, stored = self._run, self._run.ledger.results()
        if not self._job.merge or not stored:
            return ()
        files = tuple(run.file(each) for each in stored)
        made = []
        for name in self._job.merge:
            if name == "average":
                path = run.model_file("average")
                metrics = await self._average(path, files, stored, scratch)
            else:
                path = run.collected("ensemble.keras")
                metrics = (await self._models.ask(WriteFinal(str(path), files), Scored)).metrics
                metrics = metrics or await self._scored_by_clients(name, files)
            made.append(MergedFacts(name, run.workspace.relative(path), metrics))
        return tuple(made)

    async def _average(
        self, path: Path, files: tuple[ArrayFile, ...], stored: Sequence[StoredResult], scratch: Path
    ) -> dict[str, float]:
        shards = {record.task.key: record.task.shard for record in self._course.table.records()}
        rows = tuple(self._run.record.samples[shards[each.task]] for each in stored)
        written = await self._models.ask(Average(str(scratch / "average.block"), files, rows), Written)
        await self._models.ask(WriteModel(str(path), written.arrays), Done)
        scored = await self._models.ask(Score((written.arrays,)), Scored)
        return scored.metrics or await self._scored_by_clients("average", [written.arrays])

    async def _scored_by_clients(self, name: str, files: Sequence[ArrayFile]) -> dict[str, float]:
        return await self._scores.of(name, files) if self._scores is not None else {}

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        return client_facts(self._run, self._course, self._outcome, roster, now)

    def rounds(self) -> tuple[RoundFacts, ...]:
        return ()
