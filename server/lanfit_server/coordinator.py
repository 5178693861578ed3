"""Runs a method over a cluster: waits for clients, deals shards, leases tasks, takes in results, ends the run.

Decisions are made elsewhere (methods/, tasks.py); this is the shell around them. It knows no socket.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence

from lanfit.data.prepare import ShardRows
from lanfit.errors import TrainingError
from lanfit.job import Job
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import FitTask, Lease, RunEnded
from lanfit_server.clusters import Cluster, EpochEnded, Event, Hopeless, Joined, Left, Logged, Returned, TaskFailed
from lanfit_server.collect import OpenRun
from lanfit_server.course import ClientTimes, Course
from lanfit_server.display import Display
from lanfit_server.evaluate import ModelProcess
from lanfit_server.journal import Journal
from lanfit_server.ledger import OwnedTask
from lanfit_server.methods import Method, Task
from lanfit_server.scoring import score
from lanfit_server.tasks import State

#: How often a wait is said again, in seconds.
REMIND_SECONDS = 30.0


class Coordinator:
    """One run of a method on a cluster."""

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Method,
        cluster: Cluster,
        models: ModelProcess,
        journal: Journal,
        display: Display,
        shards: Sequence[ShardRows],
        weights: Mapping[str, AnyArray],
    ) -> None:
        self.course = Course()
        self._job = job
        self._run = run
        self._method = method
        self._cluster = cluster
        self._models = models
        self._journal = journal
        self._display = display
        self._shards = [self._serve_shard(rows) for rows in shards]
        self._weights = self._serve(weights)
        self._scoring: list[asyncio.Task[None]] = []
        self._standing_by: set[str] = set()

    def _serve(self, arrays: Mapping[str, AnyArray]) -> BlockSpec:
        spec = block_of(arrays)
        self._cluster.serve_block(spec, arrays)
        return spec

    def _serve_shard(self, rows: ShardRows) -> BlockSpec:
        arrays = {
            "x_train": rows.x_train,
            "y_train": rows.y_train,
            "x_validation": rows.x_validation,
            "y_validation": rows.y_validation,
        }
        return self._serve({**arrays, **self._run.record.preprocessing.constants()})

    async def run(self) -> None:
        """Return when every task is committed or given up, and scored."""
        with self.course.timings.span("wait"):
            await self._gather()
        self._deal()
        with self.course.timings.span("train"):
            await self._train()
            await asyncio.gather(*self._scoring)

    async def _next_event(self, waiting_for: str) -> Event | None:
        """The next event, or None after a while in which nothing happened: then it was said what is waited for."""
        try:
            return await asyncio.wait_for(self._cluster.events.get(), REMIND_SECONDS)
        except TimeoutError:
            if waiting_for:
                self._display.say(waiting_for)
            return None

    # --- waiting for clients, dealing ---------------------------------------------------------------------------

    async def _gather(self) -> None:
        began = time.monotonic()
        while len(self._cluster.roster.connected) < self._job.clients:
            here = len(self._cluster.roster.connected)
            text = f"{here} of {self._job.clients} clients are here; training begins when all are"
            await self._tell_all(text)
            waited = f", for {time.monotonic() - began:.0f} s now" if time.monotonic() - began > 1 else ""
            self._display.waiting(
                f"Waiting for {self._job.clients - here} more of {self._job.clients} clients{waited}."
            )
            event = await self._next_event("")
            if event is not None:
                await self._handle(event)
        # What was left in the queue is from before the deal.
        while not self._cluster.events.empty():
            await self._handle(self._cluster.events.get_nowait())
        self._display.waiting("")

    async def _tell_all(self, text: str) -> None:
        await asyncio.gather(*(self._cluster.tell(name, text) for name in self._cluster.roster.connected))

    def _deal(self) -> None:
        """Deal the shards to the clients in the natural order of their names: who joined first makes no difference."""
        owners = self._cluster.roster.connected[: self._job.clients]
        for task in self._method.start():
            self.course.table.add(task, owners[task.shard])
        self._run.ledger.deal([OwnedTask(record.task.key, record.owner) for record in self.course.table.records()])
        for record in self.course.table.records():
            rows = self._run.record.samples[record.task.shard]
            self._journal.event("dealt", task=record.task.key, client=record.owner, rows=rows)

    # --- training -----------------------------------------------------------------------------------------------

    async def _train(self) -> None:
        while self.course.table.open:
            await self._lease_out()
            event = await self._next_event(self._waiting_line())
            if event is not None:
                await self._handle(event)

    def _waiting_line(self) -> str:
        if self._cluster.roster.connected:
            return ""
        tasks = ", ".join(record.owner for record in self.course.table.open)
        return f"No client is connected; the shards of {tasks} wait. Start the clients again, or end with Ctrl-C."

    async def _lease_out(self) -> None:
        for assignment in self.course.table.assign(self._cluster.roster.connected):
            task = assignment.task
            self._times(assignment.client).leased = time.monotonic()
            self._journal.start_history(assignment.owner)
            self._journal.event("leased", task=task.key, client=assignment.client, attempt=assignment.attempt)
            if assignment.client != assignment.owner:
                self._display.say(f"{assignment.client} takes over the shard of {assignment.owner}.")
            await self._cluster.lease(assignment.client, self._lease(task, assignment.owner, assignment.attempt))
        idle = {name for name in self._cluster.roster.connected if self.course.table.held_by(name) is None}
        for name in sorted(idle - self._standing_by):
            await self._cluster.tell(name, f"run {self._run.run} goes on with other clients; this one stands by")
        self._standing_by = idle

    def _lease(self, task: Task, owner: str, attempt: int) -> Lease:
        fit = FitTask(
            epochs=self._job.epochs,
            batch_size=self._job.batch_size,
            seed=task.seed,
            target=self._run.record.target,
            normalizer=self._run.record.preprocessing.normalizer,
            compile=self._run.record.compile,
            architecture=self._run.record.architecture,
            output_shape=self._run.record.output_shape,
            threads=self._job.threads or 0,
        )
        return Lease(self._run.run, task.key, attempt, owner, fit, self._weights, self._shards[task.shard])

    def _times(self, client: str) -> ClientTimes:
        return self.course.times.setdefault(client, ClientTimes(time.monotonic()))

    async def _handle(self, event: Event) -> None:
        """Note what happened; who gets what next is decided in `_lease_out`."""
        table = self.course.table
        name = event.client
        match event:
            case Joined():
                self._times(name)
                # It may have been started anew while its old link seemed alive; if it still trains, it goes on.
                table.lose(name)
                member = self._cluster.roster[name]
                self._journal.event("joined", client=name, address=member.address, backend=member.backend)
                self._display.say(f"{name} joined from {member.address} ({member.backend}, {member.threads} threads).")
            case Hopeless(_, reason):
                raise TrainingError(reason, "the lines above say why")
            case Left():
                self._journal.event("left", client=name, reason=event.reason)
                task = table.lose(name)
                what = f"; its task {task.key} waits for the next free client, or for its return" if task else ""
                self._display.say(f"{name} {'was lost' if event.lost else 'left'} ({event.reason}){what}.")
            case EpochEnded() if event.run == self._run.run and event.task in table:
                self._epoch(table[event.task].owner, event)
            case Logged() if event.run == self._run.run:
                self._journal.client_log(name, event.lines)
            case Returned() if event.run == self._run.run:
                await self._returned(event)
            case Returned():
                self._display.say(f"{name} delivered a result of the earlier run {event.run}: it is kept there.")
            case TaskFailed() if event.run == self._run.run and event.task in table:
                self._failed(event)
            case _:
                pass

    def _epoch(self, owner: str, event: EpochEnded) -> None:
        if self.course.table[event.task].holder == event.client:
            self._journal.epoch(owner, event.epoch, event.metrics)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in event.metrics.items())
            self._display.detail(f"{event.client}: epoch {event.epoch + 1}/{self._job.epochs}  {shown}")

    async def _returned(self, event: Returned) -> None:
        holder = self.course.table[event.task].holder
        if not self.course.table.commit(event.task):
            return
        if holder is not None and holder != event.client:
            await self._cluster.cancel(holder, self._run.run, event.task)
        times = self._times(event.client)
        times.returned, times.sending = time.monotonic(), event.seconds
        self._journal.event("returned", task=event.task, client=event.client)
        self._scoring.append(asyncio.create_task(self._score(event.task)))

    def _failed(self, event: TaskFailed) -> None:
        again = self.course.table.fail(event.task, event.client, f"{event.client}: {event.error}")
        self._journal.event("failed", task=event.task, client=event.client, error=event.error)
        then = "it is tried once more" if again else "it is given up"
        self._display.say(f"{event.client} could not train {event.task}: {event.error} — {then}.")

    async def _score(self, task: str) -> None:
        """Score a committed result and write its model file."""
        record = self.course.table[task]
        stored = self._run.ledger.result(task)
        assert stored is not None
        self._journal.whole_history(record.owner, self._run.history(stored))
        metrics = await score(self._run, stored, record.owner, self._models)
        self.course.metrics[task] = metrics
        self._method.on_result(record.task, metrics.get("loss", float("nan")))
        shown = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        self._journal.event("scored", task=task, client=record.owner, **metrics)
        self._display.say(f"{record.owner} is done: {shown}")

    # --- the end ------------------------------------------------------------------------------------------------

    def status(self) -> str:
        """How the run ended, as far as tasks say."""
        states = [record.state for record in self.course.table.records()]
        if states and all(state is State.COMMITTED for state in states):
            return "done"
        return "partial" if State.COMMITTED in states else "failed"

    async def score_the_rest(self) -> None:
        """After an interruption: score what is committed and was not scored yet."""
        await asyncio.gather(*self._scoring, return_exceptions=True)
        for record in self.course.table.records():
            if record.state is State.COMMITTED and record.task.key not in self.course.metrics:
                await self._score(record.task.key)

    async def end(self, status: str) -> None:
        """Tell every client how the run ended, and how its own model did."""
        ended = {}
        for name in self._cluster.roster.connected:
            own = next((r for r in self.course.table.records() if r.owner == name), None)
            metrics = self.course.metrics.get(own.task.key, {}) if own else {}
            scores = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
            text = f"run {self._run.run} is over: {status}" + (f"; your model: {scores}" if scores else "")
            ended[name] = RunEnded(self._run.run, status, text)
        await self._cluster.end_run(ended)
