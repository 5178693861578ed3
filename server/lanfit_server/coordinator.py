"""Runs a method over a cluster: deals shards, leases tasks, takes in results, ends the run.

Decisions are made elsewhere (methods/, tasks.py), models by a maker; this is the shell around them. It knows no socket.
"""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from lanfit.crash import crash_point
from lanfit.job import Job
from lanfit.room import Room
from lanfit.waits import Waits
from lanfit.wire.messages import Cancel, RunEnded
from lanfit_server.assembly import joined
from lanfit_server.clusters import (
    REMIND_SECONDS,
    Claimed,
    Cluster,
    EpochEnded,
    Event,
    Heard,
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
from lanfit_server.journal import Journal
from lanfit_server.ledger import OwnedTask
from lanfit_server.live_table import Facts, Held
from lanfit_server.makers import Maker
from lanfit_server.methods import Task
from lanfit_server.patience import Patience
from lanfit_server.provision import Provision
from lanfit_server.tasks import Record

log = logging.getLogger("lanfit.server")
#: A server whose loop stood still for so long (a suspended machine) can't blame its clients for their silence.
STOOD_STILL_SECONDS = 5.0
#: A client that has had nothing to do for so long is told what it waits for.
IDLE_SECONDS = 2.0
#: With more tasks than that in a round their epochs are only in the histories.
MOST_SHOWN = 10
#: A client is heard so many times as often of epochs of a task as it has any.
MOST_TELLS = 10


class Coordinator:
    """One run of a method on a cluster.

    Args:
        maker: what becomes of results.
        owners: the client that each shard is dealt to.
        patience: with those that are gone, where rows are their own.
        waits: how long clients may be silent, or get on with nothing.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        maker: Maker,
        course: Course,
        cluster: Cluster,
        journal: Journal,
        display: Display,
        provision: Provision,
        owners: Sequence[str],
        patience: Patience,
        waits: Waits,
    ) -> None:
        self.course = course
        self._job = job
        self._run = run
        self._maker = maker
        self._maker.on_made = self._made
        self._cluster = cluster
        self._journal = journal
        self._display = display
        self._provision = provision
        self._owners = owners
        self._told_epochs: Counter[tuple[str, str]] = Counter()
        """How often a client has told of epochs of a task."""
        self._idle: dict[str, float] = {}
        """Since when, on the monotonic clock, clients have had nothing to do; infinity for those who were told."""
        self._patience = patience
        self._waits = waits
        self._grace_ends = -math.inf
        self._round = 0
        self._looked = self._reminded = time.monotonic()

    async def run(self) -> None:
        """Return when every task is committed or given up, and all is made of the results that can be.

        Raises:
            TrainingError: a client that is needed will never come.
        """
        with self.course.timings.span("train"):
            await self._deal()
            await self._train()
            while tasks := await self._maker.advance():
                await self._begin(tasks)
                await self._train()
            await self._maker.settle()

    async def _deal(self) -> None:
        data, owners, ledger = self._provision.data, self._owners, self._run.ledger
        with ledger.noting():
            for name in self._cluster.roster.connected:
                self._joined(name)
        is_new = not ledger.owners()
        if is_new:
            ledger.deal(owners)
        await self._begin(await self._maker.start())
        if not is_new:
            self._take_up()
            return
        crash_point("server.tasks-dealt")
        for shard, owner in enumerate(owners):
            self._journal.event("dealt", shard=shard + 1, client=owner, rows=data.samples[shard])
            if data.claimed and data.claimed[shard] > data.trained[shard]:
                claimed, counts = data.claimed[shard], data.trained[shard]
                self._journal.event("capped", shard=shard + 1, client=owner, rows=claimed, counts=counts)

    async def _begin(self, tasks: Sequence[Task]) -> None:
        """These tasks are there to be done now."""
        bound = self._provision.data.own is not None
        for task in tasks:
            self.course.table.add(task, self._owners[task.shard], bound=bound)
        owned = [OwnedTask(task.key, self._owners[task.shard], task.round) for task in tasks]
        room = Room("Tasks can't be written down", self._display.say)
        await room.for_(lambda: self._run.ledger.add_tasks(owned), thread=False)

    def _take_up(self) -> None:
        """An earlier server has dealt the tasks: what came back to it is done, and its clients are on their way."""
        table, ledger, now = self.course.table, self._run.ledger, time.monotonic()
        self._grace_ends = now + self._waits.grace
        for stored in ledger.results():
            if stored.task in table:  # else its round is over
                table.commit(stored.task)
                self._maker.returned(table[stored.task])
        for lease in ledger.leases():
            if lease.task not in table:
                continue
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
            self._show()
            bound = dict.fromkeys(record.owner for record in self.course.table.open if record.bound)
            # No longer than a heartbeat, so that a stalled task, and our own standing still, are seen.
            left = max(0.0, self._maker.seconds_left())
            seconds = min(self._patience.next_end(bound), self._grace() or math.inf, self._waits.heartbeat, left)
            event = await next_event(self._cluster, seconds)
            self._notice_own_pause(seconds)
            if event is not None:
                await self._handle(event)
            else:
                self._give_up(name for name in bound if self._patience.is_over(name))
                self._remind()
            await self._leave_out()
        self._show()

    def _show(self) -> None:
        """Let the display know what the run is at."""
        open_, job = self.course.table.open, self._job
        held = {
            client: Held(record.owner if record.owner != client else "", record.task.fold or 0)
            for record in open_
            for client in record.leases
        }
        round_ = max((record.task.round or 0 for record in open_), default=self._round)
        self._round = round_
        # Of earlier rounds all tasks are over, those too that an earlier server saw.
        total = job.rounds * len(self._owners) if round_ else len(self.course.table.records())
        over = (round_ * len(self._owners) if round_ else total) - len(open_)
        folds = job.folds if any(record.task.fold for record in open_) or job.method == "kfold" else 0
        rounds = job.rounds if round_ else 0
        self._display.facts(Facts(self._run.run, over, total, round_, rounds, folds, held, frozenset(held)))

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
                self.course.too_late.add(task.key)
                self._journal.event("given up", task=task.key, client=name)
                self._display.say(f"{task.key} is given up: {reason}.")

    async def _leave_out(self) -> None:
        """Wait no longer for what its round goes on without."""
        for key, reason in self._maker.too_late() if self._maker.seconds_left() <= 0 else ():
            self._run.ledger.end_leases("not needed", task=key)
            self._journal.event("left out", task=key, client=self.course.table[key].owner, reason=reason)
            for name in self.course.table.leave_out(key, reason):
                await self._cluster.send(name, Cancel(self._run.run, key, reason))

    async def _lease_out(self) -> None:
        roster, table, now = self._cluster.roster, self.course.table, time.monotonic()
        expected = [name for name in self._owners if roster[name].state != "left"] if self._grace() else ()
        assignments = table.assign(roster.connected, now, expected, copies=self._cluster.own_machines)
        with self._run.ledger.noting():
            for assignment in assignments:
                client = assignment.client  # it may be new: what it delivers is held against its id
                self._run.ledger.remember(client, self._cluster.roster[client].client_id)
                self._run.ledger.lease(assignment.task.key, assignment.attempt, client)
        for assignment in assignments:
            task = assignment.task
            self._times(assignment.client).leased = now
            self._journal.event("leased", task=task.key, client=assignment.client, attempt=assignment.attempt)
            if len(table[task.key].leases) > 1:
                others = " and ".join(name for name in table[task.key].leases if name != assignment.client)
                self._display.say(f"{assignment.client} tries {task.key}, too: {others} takes over twice the median.")
            else:
                self._journal.start_history(assignment.owner, task.suffix, task.round or 0)
                if assignment.client != assignment.owner:
                    what = f"fold {task.fold}" if task.fold else "the shard"
                    self._display.say(f"{assignment.client} takes over {what} of {assignment.owner}.")
            lease = self._provision.lease(task, assignment.owner, assignment.attempt)
            await self._cluster.send(assignment.client, lease)
            crash_point("server.task-leased")
        await self._tell_idle(set(roster.connected) - table.holders(), now)

    async def _tell_idle(self, idle: set[str], now: float) -> None:
        """Tell those who have had nothing to do for a while; between two rounds that is nobody."""
        self._idle = {name: self._idle.get(name, now) for name in idle}
        for name, since in sorted(self._idle.items()):
            if now - since >= IDLE_SECONDS:
                self._idle[name] = math.inf  # told
                await self._cluster.tell(name, f"run {self._run.run} goes on with other clients; this one stands by")

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
                if event.lost and not event.broken and self._grace() and self.course.table.held_by(name):
                    self._display.say(f"The link to {name} ended ({event.reason}); it is expected back.")
                    return
                if event.broken and (held := table.held_by(name)) is not None:
                    # It would train the task again, and send the same: that is a failure, which is counted.
                    self._failed(TaskFailed(name, self._run.run, held.task.key, event.reason))
                task = self._lose(name, event.reason)
                what = f"; its task {task.key} waits for the next free client, or for its return" if task else ""
                if any(record.bound and record.owner == name for record in table.open):
                    what = f"; {self._patience.sentence(name)}"
                self._display.say(f"{name} {'was lost' if event.lost else 'left'} ({event.reason}){what}.")
            case Silent(_, seconds):
                self._journal.event("silent", client=name, seconds=round(seconds, 1))
                limit = self._waits.lost
                self._display.say(f"{name} has said nothing for {seconds:.0f} s; after {limit:.0f} s it is lost.")
            case Heard(_, seconds):
                self._journal.event("heard", client=name, seconds=round(seconds, 1))
                self._display.say(f"{name} is back: it said nothing for {seconds:.0f} s.")
            case Offered() if event.run == self._run.run and event.task in table:
                table.offer(event.task, name)
            case Repeated() if event.run == self._run.run:
                is_late = event.task in self.course.too_late
                kind = "late" if is_late else "duplicate"
                self._journal.event(kind, task=event.task, client=name, attempt=event.attempt)
            case EpochEnded() if event.run == self._run.run and event.task in table:
                self._epoch(table[event.task], event)
            case Logged() if event.run == self._run.run:
                if self._journal.client_log(name, event.lines):
                    self._display.say(f"{name} sends so many lines that its client.log is full; nothing more is added.")
            case Returned() if event.run == self._run.run:
                await self._returned(event)
            case Returned():
                self._display.say(f"{name} delivered a result of the earlier run {event.run}: it is kept there.")
            case TaskFailed() if event.run == self._run.run and event.task in table:
                self._failed(event)
            case Claimed() if event.run == self._run.run:
                self._journal.event("refused", task=event.task, client=name, what=event.what)
            case _:
                pass

    def _joined(self, name: str) -> None:
        self._times(name)
        member = self._cluster.roster[name]
        self._run.ledger.remember(name, member.client_id)
        self._journal.event("joined", client=name, address=member.address, backend=member.backend)

    def _epoch(self, record: Record, event: EpochEnded) -> None:
        told = self._told_epochs[event.task, event.client] = self._told_epochs[event.task, event.client] + 1
        most = self._run.record.epochs
        # An epoch that a killed trainer has begun is trained, and told, again.
        if record.holder == event.client and 0 <= event.epoch < most and told <= MOST_TELLS * most:
            task = record.task
            self._journal.epoch(record.owner, task.suffix, event.epoch, event.metrics)
            if task.round and len(self.course.table.open) > MOST_SHOWN:
                return
            self._display.epoch(event.client, task.fold, task.round, event.epoch, self._job.epochs, event.metrics)

    async def _returned(self, event: Returned) -> None:
        others = [name for name in self.course.table[event.task].leases if name != event.client]
        if not self.course.table.commit(event.task, event.client, time.monotonic()):
            return
        for name in others:
            await self._cluster.send(name, Cancel(self._run.run, event.task, f"{event.client} finished it"))
        times = self._times(event.client)
        times.returned, times.sending = time.monotonic(), event.seconds
        self._journal.event("returned", task=event.task, client=event.client)
        record, stored = self.course.table[event.task], self._run.ledger.result(event.task)
        if stored is not None and not record.task.round:
            self._journal.whole_history(record.owner, record.task.suffix, self._run.history(stored))
        self._maker.returned(record)

    def _failed(self, event: TaskFailed) -> None:
        failure, record = f"{event.client}: {event.error}", self.course.table[event.task]
        counts, others = record.fails_with(event.client), record.others(event.client)
        if counts and event.not_finite and record.task.round and not others:
            self._run.ledger.end_leases("failed", task=event.task, failure=failure)
            self._journal.event("left out", task=event.task, client=event.client, reason=event.error)
            self.course.table.leave_out(event.task, failure)
            return
        again = self.course.table.fail(event.task, event.client, failure, died=event.died)
        if not counts:
            log.info("%s fails at %s, which it does not have any more: %s", event.client, event.task, event.error)
            return
        ended = "died" if event.died else "failed"
        self._run.ledger.end_leases(ended, task=event.task, client=event.client, failure=failure)
        self._journal.event(ended, task=event.task, client=event.client, error=event.error)
        then = "it is tried again" if again else "it is given up"
        self._display.say(f"{event.client} could not train {event.task}: {event.error} — {then}.")

    def _made(self, line: str, what: str, metrics: Mapping[str, float]) -> None:
        """The maker has made something of results."""
        self._journal.event("scored", metrics, task=what)
        if line:
            shown = "  ".join(f"{key} {value:.4f}" for key, value in metrics.items())
            self._display.say(f"{line}: {shown}" if shown else f"{line}.")

    # --- the end ------------------------------------------------------------------------------------------------

    async def end(self, status: str) -> None:
        """Tell every client how the run ended, and how its model did."""
        ended = {}
        for name in self._cluster.roster.connected:
            scores = ", ".join(f"{key} {value:.4f}" for key, value in self._maker.metrics_for(name).items())
            over = f"run {self._run.run} is over: {status}"
            if status == "interrupted":
                over = (
                    f"run {self._run.run} was interrupted at the server, which may go on with it: what is done is kept"
                )
            text = over + (f"; your model: {scores}" if scores else "")
            ended[name] = RunEnded(self._run.run, status, text)
        await self._cluster.end_run(ended)
