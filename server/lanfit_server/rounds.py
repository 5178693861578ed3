"""Makes one model of all clients' work, round after round: what a round's tasks give becomes the next one's weights.

A round ends in two steps. Its members are written down and the next round begins; meanwhile its weights are written,
evaluated and kept as a model, one round after the other. A server that dies between the two makes the weights again of
the rounds' results.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from lanfit.crash import crash_point
from lanfit.durable import write_whole
from lanfit.errors import LanfitError
from lanfit.files import ArrayFile
from lanfit.job import Job, to_toml
from lanfit.room import Room
from lanfit.text import pluralize
from lanfit.wire.arrays import AnyArray
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import Done, ModelProcess, Score, Scored, WriteModel
from lanfit_server.global_weights import GlobalWeights, RoundWeights
from lanfit_server.ledger import RoundClient, RoundRecord
from lanfit_server.makers import Chosen
from lanfit_server.methods import Task
from lanfit_server.methods.aggregation import outliers, update_norm
from lanfit_server.methods.federated import Federated
from lanfit_server.participants import OpenRound, Participants, closed, count, with_drift
from lanfit_server.provision import Provision
from lanfit_server.roster import Roster
from lanfit_server.round_facts import (
    as_logs,
    client_facts_of_rounds,
    evaluated,
    logs_of_round,
    round_facts,
    validation_of,
)
from lanfit_server.round_files import RoundFiles
from lanfit_server.scoring import ClientScores
from lanfit_server.summary import ClientFacts, MergedFacts, RoundFacts
from lanfit_server.tasks import Record, State

#: Of the models of rounds so many of the best stay when the run is over, and the last.
BEST_KEPT = 3
#: So many rounds at most are over and not yet written and evaluated: one that takes long delays nobody at once, and
#: memory is bounded.
MOST_IN_MAKING = 3

P = ParamSpec("P")
T = TypeVar("T")
#: Takes a round's number, its line as Keras has it, and its weights; returns whether to stop after it.
OnRound = Callable[[int, Mapping[str, float], ArrayFile], Awaitable[bool]]


class Rounds:
    """A `lanfit_server.makers.Maker` for method `federated`.

    Args:
        owners: the client that each shard belongs to.
        asking: asks clients for scores on their validation rows.
        scores: what evaluates weights where the server has no test rows.
        say: called with lines for the operator.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Federated,
        course: Course,
        models: ModelProcess,
        provision: Provision,
        weights: GlobalWeights,
        owners: Sequence[str],
        roster: Roster,
        say: Callable[[str], None],
        asking: ClientScores,
        scores: ClientScores | None = None,
    ) -> None:
        self.on_made: Callable[[str, str, Mapping[str, float]], None] = lambda line, what, metrics: None
        self.on_round: OnRound | None = None
        """Called with every round that is made and evaluated; the next one waits for it. `heard`: nobody waits."""
        self.heard: Callable[[int, Mapping[str, float]], None] = lambda number, logs: None
        self.is_heard = False
        """Whether somebody looks at what rounds are told with: then it has the figures of their evaluation."""
        self.grace = 0.0
        """How long clients are waited for that have not come back yet to a server that goes on with a run."""
        self.failure = ""
        self._job = job
        self._run = run
        self._method = method
        self._course = course
        self._models = models
        self._provision = provision
        self._weights = weights
        self._owners = owners
        self._participants = Participants(run, course, owners)
        self._roster = roster
        self._say = say
        self._asking = asking
        self._scores = scores
        self._files = RoundFiles(run)
        self._records: list[RoundRecord] = []
        self._open: OpenRound | None = None
        self._adding = asyncio.Lock()
        self._feeding: set[asyncio.Task[None]] = set()
        self._making: deque[asyncio.Task[None]] = deque()
        self._stopped = False
        self._grace = 0.0

    # --- rounds -------------------------------------------------------------------------------------------------

    async def start(self) -> Sequence[Task]:
        self._records = self._run.ledger.rounds()
        self._provision.scores_starts = not self._asks_at_once
        stored = [record for record in self._records if record.stored]
        if stored:
            self._files.look(len(stored))
            path = self._files.weights(stored[-1].number)
            await asyncio.to_thread(self._weights.read, path, stored[-1].state)
        self._grace = self.grace
        for record in self._records[len(stored) :]:
            await self._make(record, await self._sum_up_again(record))
        self._grace = 0.0
        return self._next()

    async def _sum_up_again(self, record: RoundRecord) -> RoundWeights:
        """The weights of a round whose end an earlier server did not live to write."""
        self._weights.begin()
        for client in record.clients:
            if not client.left_out:
                await asyncio.to_thread(self._weights.add, self._update(client.task), client.rows)
        return await asyncio.to_thread(self._weights.step)

    def _next(self) -> Sequence[Task]:
        """Open the next round, if there is one."""
        if self._stopped or self._method.is_over(self._losses()):
            return ()
        number, now = len(self._records) + 1, time.monotonic()
        away = self._away()
        tasks = self._method.tasks(number, away)
        ends = now + self._job.round_deadline if self._job.round_deadline else math.inf
        self._open = OpenRound(number, tasks, away, now, ends, self._run.ledger.seconds)
        self._provision.use(self._weights.block, self._weights.arrays)
        return tasks

    @property
    def _asks_at_once(self) -> bool:
        """Whether clients evaluate each round on their validation rows before the next one begins.

        Where nobody else does, and somebody needs to know; otherwise it is found out as they begin the next round.
        """
        record = self._run.record
        needed = self._method.compares or self.is_heard or self.on_round is not None
        return needed and record.validation > 0 and not record.test

    def _evaluated(
        self, metrics: Mapping[str, float], validation: Mapping[str, Mapping[str, float]]
    ) -> dict[str, float]:
        samples = dict(zip(self._owners, self._run.record.samples, strict=True))
        return evaluated(metrics, validation, samples)

    def _losses(self) -> list[float]:
        records = self._records
        found = [self._evaluated(each.metrics, validation_of(records, index)) for index, each in enumerate(records)]
        return [figures.get("loss", math.nan) for figures in found]

    def _away(self) -> dict[int, str]:
        """Who has rows of its own, was not waited for any longer in the last round, and is not back."""
        last = self._records[-1].clients if self._records else ()
        return {
            client.shard: f"{client.owner} is not back"
            for client in last
            if client.absent and self._run.record.own is not None and not self._roster[client.owner].connected
        }

    def returned(self, record: Record) -> None:
        if self._is_summed_at_once:
            adding = asyncio.create_task(self._add())
            self._feeding.add(adding)
            adding.add_done_callback(self._feeding.discard)

    @property
    def _is_summed_at_once(self) -> bool:
        """Whether an update can be added as soon as it is there; else all of a round are held against each other."""
        return self._job.norm_limit is None

    async def _add(self, out: Mapping[str, str] | None = None) -> None:
        """Add the updates that can be, in task order: what comes early waits on disk for those before it.

        Args:
            out: tasks that are left out, and why.
        """
        async with self._adding:
            round_ = self._open
            while round_ is not None and round_.added < len(round_.tasks):
                task = round_.tasks[round_.added]
                state = self._course.table[task.key].state
                if state not in (State.COMMITTED, State.GIVEN_UP):
                    return
                if state is State.COMMITTED and task.key not in (out or {}):
                    began = time.perf_counter()
                    await self._compute(1, self._weights.add, self._update(task.key), self._run.record.rows[task.shard])
                    count(round_.seconds, "aggregate", began)
                round_.added += 1

    async def _compute(self, sets: int, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call what goes through so many sets of weights: where that takes long, in a thread."""
        if self._weights.is_quick(sets):
            return function(*args, **kwargs)
        return await asyncio.to_thread(function, *args, **kwargs)

    def _update(self, task: str) -> dict[str, AnyArray]:
        stored = self._run.ledger.result(task)
        assert stored is not None
        return self._run.load(stored)

    async def advance(self) -> Sequence[Task]:
        round_ = self._open
        if round_ is None:
            return ()
        out = await self._outliers(round_)
        clients = self._participants.of(round_, out)
        counted = [client for client in clients if not client.left_out]
        if len(counted) < max(1, self._method.minimum):
            self._fail(round_, clients)
            return ()
        await self._add(out)
        began = time.perf_counter()
        given = await self._compute(len(counted), self._weights.step)
        count(round_.seconds, "aggregate", began)
        began = time.perf_counter()
        await self._wait_until_made(MOST_IN_MAKING - 1)
        count(round_.seconds, "wait", began)
        record = await self._close(round_, clients)
        making = asyncio.create_task(self._make(record, given, self._making[-1] if self._making else None))
        # Whoever waits for it hears what was wrong; of several that wait for each other that is one.
        making.add_done_callback(lambda made: made.cancelled() or made.exception())
        self._making.append(making)
        if self._method.compares or self._scores is not None or self.on_round is not None or self._asks_at_once:
            await self._wait_until_made()
        return self._next()

    async def _wait_until_made(self, left: int = 0) -> None:
        """Wait until no more than so many rounds are being written and evaluated."""
        while self._making and (len(self._making) > left or self._making[0].done()):
            await self._making[0]
            self._making.popleft()

    async def _close(self, round_: OpenRound, clients: Sequence[RoundClient]) -> RoundRecord:
        record = closed(round_, clients, time.monotonic(), self._run.ledger.seconds)
        await self._put(record)
        crash_point("server.round-closed")
        self._records.append(record)
        self._open = None
        return record

    async def _put(self, record: RoundRecord) -> None:
        room = Room("A round can't be written down", self._say)
        await room.for_(lambda: self._run.ledger.put_round(record), thread=False)

    async def _outliers(self, round_: OpenRound) -> dict[str, str]:
        """The tasks whose updates are much longer than most."""
        if self._job.norm_limit is None:
            return {}
        tasks = [task for task in round_.tasks if self._course.table[task.key].state is State.COMMITTED]
        start = self._weights.arrays
        norms = [await asyncio.to_thread(update_norm, start, self._update(task.key)) for task in tasks]
        return {
            tasks[index].key: f"the norm of its update, {norms[index]:.3g}, is over {self._job.norm_limit:g} times the "
            "median of the round (--norm-limit)"
            for index in outliers(norms, self._job.norm_limit)
        }

    def _fail(self, round_: OpenRound, clients: Sequence[RoundClient]) -> None:
        """Too few are left for a round: the run ends with what it has."""
        missing = "; ".join(f"{client.owner}: {client.left_out}" for client in clients if client.left_out)
        least, came = max(1, self._method.minimum), sum(not client.left_out for client in clients)
        self.failure = f"round {round_.number} has {came} of at least {least} updates ({missing})"
        self._say(f"The run ends with what it has: {self.failure}.")
        self._open = None

    # --- what a round gives -------------------------------------------------------------------------------------

    async def _make(self, record: RoundRecord, given: RoundWeights, earlier: asyncio.Task[None] | None = None) -> None:
        """Write a round's weights, evaluate them, keep them as a model; then its results are needed no more.

        Args:
            earlier: the same for the round before, which comes first.
        """
        if earlier is not None:
            await earlier
        if self._open is not None:  # the next round has begun: its clients come first
            await self._provision.sent()
        seconds = dict(record.seconds)
        began = time.perf_counter()
        room = Room("A round's weights can't be written", self._say)
        file = await room.for_(lambda: self._files.write(record.number, given))
        crash_point("server.round-written")
        await self._models.ask(WriteModel(str(self._files.model(record.number)), file), Done)
        count(seconds, "checkpoint", began)
        began = time.perf_counter()
        metrics = (await self._models.ask(Score((file,)), Scored)).metrics
        if not metrics and self._scores is not None:
            metrics = await self._scores.of(f"round-{record.number}", [file])
        validation = record.validation
        if self._asks_at_once:
            validation = await self._validation(record.number, file, [c.shard for c in record.clients if c.trainer])
        count(seconds, "evaluate", began)
        updates = {client.task: self._update(client.task) for client in record.clients if client.trainer}
        ends = given.before, given.aggregate
        clients = await self._compute(len(updates), with_drift, record.clients, updates, *ends)
        made = msgspec.structs.replace(
            record,
            metrics=metrics,
            validation=validation,
            seconds=seconds,
            clients=clients,
            state=given.state_specs(),
            stored=True,
            weights_id=file.block.id,
            state_id=await self._compute(1, given.state_id),
        )
        await self._put(made)
        crash_point("server.round-stored")
        self._records[record.number - 1] = made
        # To go on, and for the outcome.
        self._files.tidy(made, {made.number, self._method.best(self._losses()[: made.number])})
        self._tell(made)
        logs = logs_of_round(made, self._evaluated(made.metrics, made.validation))
        self.heard(made.number, logs)
        if self.on_round is not None and await self.on_round(made.number, logs, file):
            self._stopped = True

    def _tell(self, record: RoundRecord) -> None:
        counted = sum(not client.left_out for client in record.clients)
        clients = pluralize(counted, "client")
        line = f"Round {record.number}/{self._method.rounds}, {clients}, {record.seconds['wall']:.1f} s"
        for client in record.clients:
            if client.left_out:
                self._say(f"Round {record.number} went on without {client.owner}: {client.left_out}.")
        figures = record.metrics or as_logs({}, self._evaluated({}, record.validation))
        self.on_made(line, f"round-{record.number}", figures)

    # --- deadlines ----------------------------------------------------------------------------------------------

    def seconds_left(self) -> float:
        return math.inf if self._open is None else self._open.ends - time.monotonic()

    def too_late(self) -> Sequence[tuple[str, str]]:
        round_, table = self._open, self._course.table
        if round_ is None:
            return ()
        open_ = [task for task in round_.tasks if table[task.key].state not in (State.COMMITTED, State.GIVEN_UP)]
        came = sum(table[task.key].state is State.COMMITTED for task in round_.tasks)
        least = max(1, self._method.minimum)
        if came < least and not round_.extended:
            round_.extended, more = True, 60 * self._job.deadline
            round_.ends += more
            missing = ", ".join(table[task.key].owner for task in open_)
            self._say(
                f"Round {round_.number} has {came} of at least {least} updates; {missing} did not answer in time "
                f"(--round-deadline). They are waited for {more:.0f} s more (--deadline), then the run ends."
            )
            return ()
        why = f"it took longer than {self._job.round_deadline:g} s (--round-deadline)"
        self._course.too_late.update(task.key for task in open_)
        return [(task.key, why) for task in open_]

    # --- the end ------------------------------------------------------------------------------------------------

    async def settle(self, *, waiting: bool = True) -> None:
        if waiting:
            await self._wait_until_made()
        else:
            await asyncio.gather(*self._making, return_exceptions=True)
        if waiting and self._records and self._run.record.validation and not self._records[-1].validation:
            await self._validate(self._records[-1])

    async def _validate(self, record: RoundRecord) -> None:
        """Have the last weights scored on the validation rows of all who took part: no round follows that does it."""
        took_part = {client.shard for each in self._records for client in each.clients if not client.left_out}
        file = self._weights.file(self._files.weights(record.number))
        validation = await self._validation(record.number, file, sorted(took_part))
        self._records[-1] = msgspec.structs.replace(record, validation=validation)
        await self._put(self._records[-1])

    async def _validation(self, number: int, file: ArrayFile, shards: Sequence[int]) -> dict[str, dict[str, float]]:
        """Have weights scored by the clients of these shards on their validation rows."""
        names = [self._owners[shard] for shard in shards]
        answers = await self._asking.by_client(f"round-{number}", [file], names, "validation", self._grace)
        return {name: answers[name].metrics for name in names if name in answers and answers[name].metrics}

    def status(self) -> str:
        if not self._records:
            return "failed"
        gone = any(client.absent and not self._job.round_deadline for r in self._records for client in r.clients)
        over = self._stopped or self._method.is_over(self._losses())
        return "done" if over and not gone and not self.failure else "partial"

    def metrics_for(self, client: str) -> Mapping[str, float]:
        return self._records[-1].metrics if self._records else {}

    async def finish(self) -> None:
        """Of the models of rounds, the last and the best stay; who was absent is what a repeated run must know."""
        absent = [f"{r.number}:{client.shard + 1}" for r in self._records for client in r.clients if client.absent]
        if absent:
            names = tuple(dict.fromkeys((*(self._job.absent or ()), *absent)))
            path = self._run.folder / "job.toml"
            comments = [line for line in path.read_text("utf-8").splitlines(keepends=True) if line.startswith("#")]
            write_whole(path, "".join(comments) + to_toml(msgspec.structs.replace(self._job, absent=names)))
        losses = self._losses()
        ranked = sorted(range(1, len(losses) + 1), key=lambda n: (math.isnan(losses[n - 1]), losses[n - 1], n))
        kept = {*ranked[:BEST_KEPT], len(losses), self._method.outcome(losses)}
        self._files.keep_models(len(losses), kept)

    def chosen(self) -> Chosen | None:
        number = self._method.outcome(self._losses())
        if not number:
            return None
        try:
            file = self._weights.file(self._files.weights(number))
        except (LanfitError, OSError):
            return None
        return Chosen(file, None, self._records[number - 1].metrics, number)

    async def merged(self, scratch: Path) -> tuple[MergedFacts, ...]:
        return ()

    def clients(self, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
        return client_facts_of_rounds(self._run, self._records, self._course, self._owners, roster, now)

    def rounds(self) -> tuple[RoundFacts, ...]:
        return round_facts(self._run, self._records, self._files.model)
