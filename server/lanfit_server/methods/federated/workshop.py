"""The work of rounds: sum updates, write and evaluate weights, keep models. rounds.py decides when.

Sums are computed in order of request, as are round models; both run concurrently. Arrays stay here: the method refers
to them only by the numbers of rounds.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import msgspec

from lanfit.core.failpoints import failpoint
from lanfit.errors import LanfitError
from lanfit.settings.job import Job
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.wire.arrays import AnyArray
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.federated.aggregation import drift, update_norm
from lanfit_server.methods.federated.facts import client_facts_of_rounds, round_facts
from lanfit_server.methods.federated.files import RoundFiles
from lanfit_server.methods.federated.global_weights import GlobalWeights, RoundWeights
from lanfit_server.methods.federated.rounds import (
    AddUpdates,
    CloseRound,
    Made,
    MakeRound,
    MeasureNorms,
    RestoreWeights,
    Rounds,
    ServeWeights,
    Setting,
    StepAgain,
    Stored,
    StoreRound,
    WriteRecord,
)
from lanfit_server.methods.federated.schedule import schedule_of
from lanfit_server.methods.workshop import Chosen, RoundChannel, RoundMade
from lanfit_server.methods.workshops import Context
from lanfit_server.models.handle import Done, Evaluate, Metrics, ModelProcess, WriteModel
from lanfit_server.run.dispatch import Dispatch
from lanfit_server.run.instructions import Work
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.ledger import RoundClient, RoundRecord
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import ClientFacts, MergedFacts, RoundFacts
from lanfit_server.ui.shown_rows import NONE_SHOWN, ShownRows

#: The number of best models of rounds that are kept after the run, in addition to the last.
BEST_KEPT = 3

P = ParamSpec("P")
T = TypeVar("T")


def begin(context: Context) -> tuple[Rounds, RoundsWorkshop]:
    """Return both halves of `federated` for a run, which needs its clients."""
    job, run, clients = context.job, context.run, context.clients
    assert clients is not None
    data = clients.dispatch.data
    setting = Setting(
        owners=clients.owners,
        rows=run.record.rows,
        samples=run.record.samples,
        bound=data.own is not None,
        validation=run.record.validation,
        test=run.record.test,
        norm_limit=job.norm_limit,
        round_deadline=job.round_deadline,
        deadline=60 * job.deadline,
        follows=clients.follows_rounds,
        decides=clients.channel is not None,
        grace=clients.grace,
        max_weight=job.max_weight,
    )
    method = Rounds(schedule_of(job), setting, context.stats.table)
    workshop = RoundsWorkshop(
        job,
        run,
        method,
        context.stats,
        context.models,
        clients.dispatch,
        GlobalWeights(job, clients.weights, data.normalizers.constants(), run.record.trainable),
        clients.owners,
        context.log,
        clients.channel,
        shown=context.shown,
    )
    return method, workshop


class RoundsWorkshop:
    """A `Workshop` for `Rounds`.

    Args:
        owners: the client that each shard belongs to.
        log: called with lines for the operator, when the disk is full.
        channel: the program that decides after every round whether there is a next one; None without one.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Rounds,
        stats: RunStats,
        models: ModelProcess,
        dispatch: Dispatch,
        weights: GlobalWeights,
        owners: Sequence[str],
        log: Callable[[str], None],
        channel: RoundChannel | None,
        clock: Callable[[], float] = time.monotonic,
        shown: ShownRows = NONE_SHOWN,
    ) -> None:
        self._job = job
        self._run = run
        self._method = method
        self._stats = stats
        self._models = models
        self._dispatch = dispatch
        self._weights = weights
        self._owners = owners
        self._log = log
        self._channel = channel
        self._shown = shown
        self._clock = clock
        self._files = RoundFiles(run)
        self._adding = asyncio.Lock()
        self._making = asyncio.Lock()
        self._given: dict[int, RoundWeights] = {}
        """The results of rounds that are not stored yet."""
        self._made: dict[str, ArrayFile] = {}
        """The models that clients are asked to evaluate, by name."""
        self._aggregating = 0.0
        """The time of the summation of the open round, in seconds."""
        self._ledger_seconds = run.ledger.seconds

    async def do(self, work: Work) -> Any:
        match work:
            case ServeWeights():
                self._dispatch.use(self._weights.block, self._weights.arrays)
                self._ledger_seconds = self._run.ledger.seconds
                return None
            case AddUpdates() | MeasureNorms() | CloseRound() | RestoreWeights() | StepAgain():
                async with self._adding:
                    return await self._on_sum(work)
            case MakeRound() | StoreRound() | WriteRecord():
                async with self._making:
                    return await self._on_round_made(work)
        raise TypeError(f"this method has no such work: {work}")

    async def _on_sum(self, work: Work) -> Any:
        match work:
            case AddUpdates(updates):
                return await self._add(updates)
            case MeasureNorms(tasks):
                start = self._weights.arrays
                return [await asyncio.to_thread(update_norm, start, self._update(task)) for task in tasks]
            case CloseRound():
                return await self._close(work)
            case RestoreWeights(record, stored):
                self._files.look(stored)
                if record is not None:
                    path = self._files.weights(record.number)
                    await asyncio.to_thread(self._weights.read, path, record.state)
            case StepAgain(record):
                self._weights.begin()
                for client in record.clients:
                    if not client.left_out:
                        await asyncio.to_thread(self._weights.add, self._update(client.task), client.rows)
                self._given[record.number] = await asyncio.to_thread(self._weights.step)
        return None

    async def _on_round_made(self, work: Work) -> Any:
        match work:
            case MakeRound():
                return await self._make(work)
            case StoreRound():
                return await self._store(work)
            case WriteRecord(record):
                await self._put(record)
        return None

    def files(self, model: str) -> Sequence[ArrayFile]:
        if model in self._made:
            return [self._made[model]]
        number = int(model.rpartition("-")[2])
        return [self._weights.file(self._files.weights(number))]

    # --- the sum ------------------------------------------------------------------------------------------------

    async def _compute(self, sets: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a function that processes sets of weights; in a thread if that takes long."""
        if self._weights.is_quick(sets):
            return function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    def _update(self, task: str) -> dict[str, AnyArray]:
        stored = self._run.ledger.result(task)
        assert stored is not None
        return self._run.load(stored)

    async def _add(self, updates: Sequence[tuple[str, int]]) -> None:
        for task, rows in updates:
            began = time.perf_counter()
            await self._compute(1, self._weights.add, self._update(task), rows)
            self._aggregating += time.perf_counter() - began

    async def _close(self, work: CloseRound) -> RoundRecord:
        """Apply the server optimizer, and record the participants. After a crash, the results are aggregated again."""
        await self._add(work.updates)
        began = time.perf_counter()
        accepted = sum(not client.left_out for client in work.clients)
        self._given[work.number] = await self._compute(accepted, self._weights.step)
        aggregate = self._aggregating + time.perf_counter() - began
        self._aggregating = 0.0
        clients = [self._with_result(client) for client in work.clients]
        wall = self._clock() - work.began
        slowest = max(_training(client.seconds) for client in clients if not client.left_out)
        seconds = {
            **work.seconds,
            "aggregate": aggregate,
            "wall": wall,
            "overhead": max(0.0, wall - slowest),
            "ledger": self._run.ledger.seconds - self._ledger_seconds,
        }
        record = RoundRecord(work.number, tuple(clients), seconds=seconds)
        await self._put(record)
        failpoint("server.round-closed")
        return record

    def _with_result(self, client: RoundClient) -> RoundClient:
        """Return the record of a client of a round, from its result."""
        stored = self._run.ledger.result(client.task) if client.trainer else None
        if stored is None:
            return client
        result = stored.result
        return msgspec.structs.replace(
            client,
            trainer=stored.client,
            history=self._run.history(stored),
            scores=result.scores,
            seconds=result.seconds,
            backend=result.backend,
        )

    async def _put(self, record: RoundRecord) -> None:
        retry = RetryWhenFull("A round can't be written down", self._log)
        await retry.for_(lambda: self._run.ledger.put_round(record), thread=False)

    # --- closed rounds -------------------------------------------------------------------------------------

    async def _make(self, work: MakeRound) -> Made:
        """Write a round's weights, keep them as a model, evaluate them."""
        if work.after_leases:  # the next round has started: its clients have priority
            await self._dispatch.sent()
        number, began = work.record.number, time.perf_counter()
        retry = RetryWhenFull("A round's weights can't be written", self._log)
        file = await retry.for_(lambda: self._files.write(number, self._given[number]))
        failpoint("server.round-written")
        await self._models.ask(WriteModel(str(self._files.model(number)), file), Done)
        checkpoint, began = time.perf_counter() - began, time.perf_counter()
        evaluated = await self._models.ask(Evaluate((file,), self._shown.rows), Metrics)
        self._shown.on_seen(evaluated.seen, "", number)
        self._made[f"round-{number}"] = file
        return Made(evaluated.metrics, {"checkpoint": checkpoint, "evaluate": time.perf_counter() - began})

    async def _store(self, work: StoreRound) -> Stored:
        """Record the metrics of a round; its results are not needed afterwards."""
        record = work.record
        given, file = self._given[record.number], self._made[f"round-{record.number}"]
        updates = {client.task: self._update(client.task) for client in record.clients if client.trainer}
        ends = given.before, given.aggregate
        clients = await self._compute(len(updates), _with_drift, record.clients, updates, *ends)
        record = msgspec.structs.replace(
            record,
            clients=clients,
            state=given.state_specs(),
            stored=True,
            weights_id=file.block.id,
            state_id=await self._compute(1, given.state_id),
        )
        await self._put(record)
        failpoint("server.round-stored")
        del self._given[record.number], self._made[f"round-{record.number}"]
        # For the next round, and for the outcome.
        self._files.tidy(record, {record.number, work.best})
        stop = self._channel is not None and await self._channel.ask(RoundMade(record.number, work.logs, file))
        return Stored(record, stop)

    # --- the end ------------------------------------------------------------------------------------------------

    def metrics_for(self, client: str) -> Mapping[str, float]:
        last = self._method.history.last
        return last.metrics if last is not None else {}

    async def finish(self) -> None:
        """Keep the last and the best models of rounds; record absent clients, which a repeated run must know."""
        records = self._run.ledger.rounds()
        absent = [f"{r.number}:{client.shard + 1}" for r in records for client in r.clients if client.absent]
        if absent:
            names = tuple(dict.fromkeys((*(self._job.absent or ()), *absent)))
            self._run.change_job({"absent": names})
        losses = self._method.history.losses()
        ranked = sorted(range(1, len(losses) + 1), key=lambda n: (math.isnan(losses[n - 1]), losses[n - 1], n))
        kept = {*ranked[:BEST_KEPT], len(losses), self._method.schedule.outcome(losses)}
        self._files.keep_models(len(losses), kept)

    def chosen(self) -> Chosen | None:
        number = self._method.schedule.outcome(self._method.history.losses())
        if not number:
            return None
        try:
            file = self._weights.file(self._files.weights(number))
        except (LanfitError, OSError):
            return None
        return Chosen(file, None, self._run.ledger.rounds()[number - 1].metrics, number)

    async def merged(self) -> tuple[MergedFacts, ...]:
        return ()

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        return client_facts_of_rounds(self._run, self._run.ledger.rounds(), self._stats, self._owners, roster, now)

    def rounds(self) -> tuple[RoundFacts, ...]:
        return round_facts(self._run, self._run.ledger.rounds(), self._files.model)


def _training(seconds: Mapping[str, float]) -> float:
    """Return the computing time of a client: its steps, with compilation and validation."""
    return sum(seconds.get(name, 0.0) for name in ("compile", "train", "validate"))


def _with_drift(
    clients: Sequence[RoundClient],
    updates: Mapping[str, Mapping[str, AnyArray]],
    before: Mapping[str, AnyArray],
    aggregate: Mapping[str, AnyArray],
) -> tuple[RoundClient, ...]:
    """Return the clients of a round, with the norms and directions of their updates."""
    found = []
    for client in clients:
        if client.task in updates:
            norm, cosine = drift(before, aggregate, updates[client.task])
            client = msgspec.structs.replace(client, norm=norm, cosine=cosine)
        found.append(client)
    return tuple(found)
