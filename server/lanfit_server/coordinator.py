"""Runs a method over a cluster: deals shards, leases tasks, takes in results, ends the run.

Decisions are made elsewhere (methods/, tasks.py); this is the shell around them. It knows no socket.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Sequence

from lanfit.crash import crash_point
from lanfit.job import Job
from lanfit.waits import Waits
from lanfit.wire.messages import Cancel, RunEnded
from lanfit_server.assembly import joined
from lanfit_server.clusters import (
    REMIND_SECONDS,
    Cluster,
    EpochEnded,
    Event,
    Hopeless,
    Joined,
    Left,
    Logged,
    Offered,
    Repeated,
    Returned,
    Silent,
    TaskFailed,
    next_event,
)
from lanfit_server.collect import OpenRun
from lanfit_server.course import ClientTimes, Course
from lanfit_server.display import Display
from lanfit_server.evaluate import ModelProcess
from lanfit_server.journal import Journal
from lanfit_server.ledger import OwnedTask
from lanfit_server.methods import Method, Task
from lanfit_server.patience import Patience
from lanfit_server.provision import Provision
from lanfit_server.scoring import ClientScores, score
from lanfit_server.tasks import Record, State

#: A server whose loop stood still for so long (a suspended machine) can't blame its clients for their silence.
STOOD_STILL_SECONDS = 5.0


class Coordinator:
    """One run of a method on a cluster.

    Args:
        owners: the client that each shard is dealt to.
        patience: with those that are gone, where rows are their own.
        waits: how long clients may be silent, or get on with nothing.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        method: Method,
        cluster: Cluster,
        models: ModelProcess,
        journal: Journal,
        display: Display,
        provision: Provision,
        owners: Sequence[str],
        patience: Patience,
        waits: Waits,
    ) -> None:
        self.course = Course()
        self._job = job
        self._run = run
        self._method = method
        self._cluster = cluster
        self._models = models
        self._journal = journal
        self._display = display
        self._provision = provision
        self._owners = owners
        self._scoring: list[asyncio.Task[None]] = []
        self._standing_by: set[str] = set()
        self._patience = patience
        self._waits = waits
        self._grace_ends = -math.inf
        self._looked = self._reminded = time.monotonic()

    async def run(self, client_scores: ClientScores | None = None) -> None:
        """Return when every task is committed or given up, and scored.

        Args:
            client_scores: what compares models where the server has no test rows.

        Raises:
            TrainingError: a client that is needed will never come.
        """
        self._deal()
        with self.course.timings.span("train"):
            await self._train()
            await asyncio.gather(*self._scoring)
        if client_scores is not None:
            await self._judge(client_scores)

    def _deal(self) -> None:
        data, owners, ledger = self._provision.data, self._owners, self._run.ledger
        for name in self._cluster.roster.connected:
            self._joined(name)
        for task in self._method.start():
            self.course.table.add(task, owners[task.shard], bound=data.own is not None)
        if ledger.tasks():
            self._take_up()
            return
        ledger.deal([OwnedTask(record.task.key, record.owner) for record in self.course.table.records()])
        crash_point("server.tasks-dealt")
        for shard, owner in enumerate(owners):
            self._journal.event("dealt", shard=shard + 1, client=owner, rows=data.samples[shard])

    def _take_up(self) -> None:
        """An earlier server has dealt the tasks: what came back to it is done, and its clients are on their way."""
        table, ledger, now = self.course.table, self._run.ledger, time.monotonic()
        self._grace_ends = now + self._waits.grace
        for stored in ledger.results():
            table.commit(stored.task)
            self._scoring.append(asyncio.create_task(self._score(stored.task)))
        for lease in ledger.leases():
            if lease.ended is None:
                table.restore(lease.task, lease.client, lease.attempt, now)
            else:
                died = lease.ended == "died"
                table.remember(lease.task, lease.client, lease.attempt, lease.failure, died=died)

    # --- training -----------------------------------------------------------------------------------------------

    async def _train(self) -> None:
        while self.course.table.open:
            await self._look()
            await self._lease_out()
            bound = dict.fromkeys(record.owner for record in self.course.table.open if record.bound)
            # No longer than a heartbeat, so that a stalled task, and our own standing still, are seen.
            seconds = min(self._patience.next_end(bound), self._grace() or math.inf, self._waits.heartbeat)
            event = await next_event(self._cluster, seconds)
            self._notice_own_pause(seconds)
            if event is not None:
                await self._handle(event)
            else:
                self._give_up(name for name in bound if self._patience.is_over(name))
                self._remind()

    def _grace(self) -> float:
        """Seconds for which clients that are gone keep their tasks: after a restart, or an own standing still."""
        return max(0.0, self._grace_ends - time.monotonic())

    def _notice_own_pause(self, expected: float) -> None:
        """Give every lease its full time again when this process stood still for longer than it meant to wait."""
        now = time.monotonic()
        stood, self._looked = now - self._looked - expected, now
        if stood > STOOD_STILL_SECONDS:
            self._grace_ends = now + self._waits.grace
            self.course.table.renew(now)
            self._journal.event("stood still", seconds=round(stood, 1))
            self._display.say(f"This server stood still for {stood:.0f} s; every client keeps its task.")

    async def _look(self) -> None:
        """Take tasks from those that are gone for good, and from those that do not get on."""
        table, now, here = self.course.table, time.monotonic(), set(self._cluster.roster.connected)
        if -math.inf < self._grace_ends <= now:
            self._grace_ends = -math.inf
            for name in sorted(table.holders() - here):
                self._lose(name, "it did not come back")
        advanced = {name: self._cluster.roster[name].advanced for name in here}
        for record, client in table.stalled(now, advanced, self._waits.no_progress):
            reason = f"it has not got on for {self._waits.no_progress:.0f} s (no_progress in server.toml)"
            await self._cluster.send(client, Cancel(self._run.run, record.task.key, reason))
            self._failed(TaskFailed(client, self._run.run, record.task.key, reason))
        self._looked = time.monotonic()

    def _lose(self, name: str, reason: str) -> Task | None:
        """What a client had waits for others; returns the task that nobody has now."""
        task = self.course.table.lose(name)
        self._run.ledger.end_leases("lost", client=name)
        if task is not None:
            self._journal.event("lost", task=task.key, client=name, reason=reason)
        return task

    def _remind(self) -> None:
        """Say now and then what is waited for, when nobody works on it."""
        if time.monotonic() - self._reminded < REMIND_SECONDS:
            return
        self._reminded = time.monotonic()
        here, waiting = self._cluster.roster.connected, self.course.table.open
        gone = [name for name in dict.fromkeys(record.owner for record in waiting) if name not in here]
        if self._provision.data.own is not None:
            for name in gone:
                self._display.say(f"Waiting for {name}: {self._patience.sentence(name)}.")
        elif not here and waiting:
            self._display.say(
                f"No client is connected; the shards of {', '.join(gone)} wait. Start the clients again, or end with "
                "Ctrl-C."
            )

    def _give_up(self, names: Iterable[str]) -> None:
        """Wait no longer for these clients, whose rows are their own."""
        for name in names:
            waited = f"{60 * self._job.deadline:.0f} s"
            reason = f"{name} was gone for longer than {waited} (--deadline); its rows are its own"
            for task in self.course.table.give_up(name, reason):
                self._journal.event("given up", task=task.key, client=name)
                self._display.say(f"{task.key} is given up: {reason}.")

    async def _lease_out(self) -> None:
        roster, table, now = self._cluster.roster, self.course.table, time.monotonic()
        expected = [name for name in self._owners if roster[name].state != "left"] if self._grace() else ()
        for assignment in table.assign(roster.connected, now, expected):
            task = assignment.task
            self._run.ledger.lease(task.key, assignment.attempt, assignment.client)
            self._times(assignment.client).leased = now
            self._journal.event("leased", task=task.key, client=assignment.client, attempt=assignment.attempt)
            if len(table[task.key].leases) > 1:
                others = " and ".join(name for name in table[task.key].leases if name != assignment.client)
                self._display.say(f"{assignment.client} tries {task.key}, too: {others} takes over twice the median.")
            else:
                self._journal.start_history(assignment.owner, task.suffix)
                if assignment.client != assignment.owner:
                    self._display.say(f"{assignment.client} takes over the shard of {assignment.owner}.")
            lease = self._provision.lease(task, assignment.owner, assignment.attempt)
            await self._cluster.send(assignment.client, lease)
            crash_point("server.task-leased")
        idle = {name for name in self._cluster.roster.connected if self.course.table.held_by(name) is None}
        for name in sorted(idle - self._standing_by):
            await self._cluster.tell(name, f"run {self._run.run} goes on with other clients; this one stands by")
        self._standing_by = idle

    def _times(self, client: str) -> ClientTimes:
        return self.course.times.setdefault(client, ClientTimes(time.monotonic()))

    async def _handle(self, event: Event) -> None:
        """Note what happened; who gets what next is decided in `_lease_out`."""
        table = self.course.table
        name = event.client
        match event:
            case Joined():
                # It may have been started anew while its old link seemed alive; if it still trains, it goes on.
                self._lose(name, "it joined again")
                self._joined(name)
                self._display.say(joined(self._cluster, name))
            case Hopeless(_, error):
                raise error
            case Left():
                self._journal.event("left", client=name, reason=event.reason)
                if event.lost and self._grace() and self.course.table.held_by(name):
                    self._display.say(f"The link to {name} ended ({event.reason}); it is expected back.")
                    return
                task = self._lose(name, event.reason)
                what = f"; its task {task.key} waits for the next free client, or for its return" if task else ""
                if any(record.bound and record.owner == name for record in table.open):
                    what = f"; {self._patience.sentence(name)}"
                self._display.say(f"{name} {'was lost' if event.lost else 'left'} ({event.reason}){what}.")
            case Silent(_, seconds):
                self._journal.event("silent", client=name, seconds=round(seconds, 1))
                limit = self._waits.lost
                self._display.say(f"{name} has said nothing for {seconds:.0f} s; after {limit:.0f} s it is lost.")
            case Offered() if event.run == self._run.run and event.task in table:
                table.offer(event.task, name)
            case Repeated() if event.run == self._run.run:
                self._journal.event("duplicate", task=event.task, client=name, attempt=event.attempt)
            case EpochEnded() if event.run == self._run.run and event.task in table:
                self._epoch(table[event.task], event)
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

    def _joined(self, name: str) -> None:
        self._times(name)
        member = self._cluster.roster[name]
        self._run.ledger.remember(name, member.client_id)
        self._journal.event("joined", client=name, address=member.address, backend=member.backend)

    def _epoch(self, record: Record, event: EpochEnded) -> None:
        if record.holder == event.client:
            self._journal.epoch(record.owner, record.task.suffix, event.epoch, event.metrics)
            shown = "  ".join(f"{key} {value:.4g}" for key, value in event.metrics.items())
            fold = f" fold {record.task.fold}," if record.task.fold else ""
            self._display.detail(f"{event.client}:{fold} epoch {event.epoch + 1}/{self._job.epochs}  {shown}")

    async def _returned(self, event: Returned) -> None:
        others = [name for name in self.course.table[event.task].leases if name != event.client]
        if not self.course.table.commit(event.task, event.client, time.monotonic()):
            return
        for name in others:
            await self._cluster.send(name, Cancel(self._run.run, event.task, f"{event.client} finished it"))
        times = self._times(event.client)
        times.returned, times.sending = time.monotonic(), event.seconds
        self._journal.event("returned", task=event.task, client=event.client)
        self._scoring.append(asyncio.create_task(self._score(event.task)))

    def _failed(self, event: TaskFailed) -> None:
        failure = f"{event.client}: {event.error}"
        again = self.course.table.fail(event.task, event.client, failure, died=event.died)
        ended = "died" if event.died else "failed"
        self._run.ledger.end_leases(ended, task=event.task, client=event.client, failure=failure)
        self._journal.event(ended, task=event.task, client=event.client, error=event.error)
        then = "it is tried again" if again else "it is given up"
        self._display.say(f"{event.client} could not train {event.task}: {event.error} — {then}.")

    async def _score(self, task: str) -> None:
        """Score a committed result and write its model file."""
        record = self.course.table[task]
        stored = self._run.ledger.result(task)
        assert stored is not None
        self._journal.whole_history(record.owner, record.task.suffix, self._run.history(stored))
        metrics = await score(self._run, stored, record.task, record.owner, self._models)
        crash_point("server.model-scored")
        self.course.metrics[task] = metrics
        self._method.on_result(record.task, metrics.get("loss", float("nan")))
        shown = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
        self._journal.event("scored", task=task, client=record.owner, **metrics)
        what = f"{record.owner}, fold {record.task.fold} of {self._job.folds}," if record.task.fold else record.owner
        self._display.say(f"{what} is done: {shown}")

    async def _judge(self, scores: ClientScores) -> None:
        """Compare the clients' models by the test rows of all clients: each is sent round."""
        for task in self._method.finish().by_shard.values():
            stored = self._run.ledger.result(task.key)
            if stored is None:
                continue
            metrics = await scores.of(task.key, [self._run.file(stored)])
            if metrics:
                self.course.metrics[task.key] = metrics
                self._method.judge(task, metrics.get("loss", float("nan")))
                self._journal.event("scored by clients", task=task.key, **metrics)

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
        ended, chosen = {}, self._method.finish().by_shard.values()
        for name in self._cluster.roster.connected:
            best = next((task for task in chosen if self.course.table[task.key].owner == name), None)
            metrics = self.course.metrics.get(best.key, {}) if best else {}
            scores = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items())
            text = f"run {self._run.run} is over: {status}" + (f"; your model: {scores}" if scores else "")
            ended[name] = RunEnded(self._run.run, status, text)
        await self._cluster.end_run(ended)
