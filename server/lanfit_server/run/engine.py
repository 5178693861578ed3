"""The engine: decides what happens in a run. Pure: no I/O, no clock, no arrays.

Theory of operation. `handle(event, now)` takes one event, changes the state of the engine, and returns instructions in
the order in which they must be carried out. The shell (shell.py) feeds events to the engine and carries out its
instructions, so any order of events can be tested in a unit test.

The handler of an event only records what has changed. Afterwards the engine examines its whole state once (`_decide`):
clients that are absent for too long, tasks without progress, idle clients. The state consists of

- `table`: the tasks and their leases (tasks.py);
- the `method`: which tasks exist, and how results are used (methods/);
- the `evaluations` that clients were asked for (evaluations.py);
- the connected clients, the absent ones with the time of their loss, and the `grace` period in which an absence counts
  as a suspension of this server.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.data.shown_rows import unpack
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.changes import AS_IN_JOB, TaskSettings
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.messages import Adjustment
from lanfit_server.clusters.events import (
    REMIND_SECONDS,
    Claimed,
    ClientJoined,
    ClientLeft,
    ClientSeen,
    ClientSilent,
    ClientUnavailable,
    DuplicateResult,
    EpochCompleted,
    Evaluated,
    Event,
    ResultCommitted,
    ResultOffered,
    TaskFailed,
)
from lanfit_server.clusters.roster import in_order
from lanfit_server.methods.base import Method, Task
from lanfit_server.methods.changes import checked
from lanfit_server.run import events
from lanfit_server.run.evaluations import Evaluations
from lanfit_server.run.instructions import (
    AddTasks,
    Adjust,
    AdjustTasks,
    AskClients,
    AssignShards,
    Cancel,
    Change,
    Command,
    Emit,
    EndRun,
    ForgetTasks,
    Instruction,
    Lease,
    LeaveOut,
    Notify,
    Pause,
    Persist,
    RecordClient,
    RecordEnd,
    RecordLeases,
    Resume,
    Stop,
    StopClient,
    Suspended,
    Tick,
    WorkDone,
)
from lanfit_server.run.tasks import Record, TaskTable
from lanfit_server.store.leases import StoredLease
from lanfit_server.store.ledger import OwnedTask, RoundRecord
from lanfit_server.store.summary import known_seconds
from lanfit_server.ui.live_table import Facts, Held

#: A client without work for this long, in seconds, is notified what it waits for.
IDLE_SECONDS = 2.0
#: With more tasks in a round, their epochs are only in the histories.
MOST_SHOWN = 10
STOPPED = "the operator stopped it"
#: The number of epoch reports of a task that are accepted is this many times its number of epochs.
MOST_EPOCH_EVENTS = 10
#: Input events: reports of the cluster and of the shell, and commands.
Input = Event | WorkDone | Suspended | Tick | Command


@dataclass(frozen=True)
class Past:
    """What an earlier server recorded about a run that is resumed."""

    results: Sequence[tuple[str, str]] = ()
    """The task and the client of each committed result."""
    leases: Sequence[StoredLease] = ()
    rounds: Sequence[RoundRecord] = ()
    trained: Mapping[str, TaskSettings] = field(default_factory=dict)
    """The settings that tasks with results had in the end."""


@dataclass(frozen=True)
class Terms:
    """The settings of a run.

    Args:
        owners: the client that each shard belongs to.
        bound: whether clients have their own data, so that no other client can do their tasks.
        deadline: how long such a client is waited for, in seconds.
        copies: whether a client that has nothing to do may try another's task.
        epochs: of each task; `shown_epochs` are those in messages.
        folds: of the job; 0 without.
        method: the job's.
        unchangeable: settings that can't be changed in this run, and why.
        shown_values: how many values clients predict for the rows that are shown; 0 without such rows.
    """

    run: str
    owners: Sequence[str]
    bound: bool
    deadline: float
    copies: bool
    epochs: int
    shown_epochs: int
    folds: int
    timeouts: Timeouts
    method: str
    unchangeable: Mapping[str, LanfitError] = field(default_factory=dict)
    shown_values: int = 0


@dataclass
class Presence:
    """When clients left, on the monotonic clock; only absent clients."""

    gone_since: dict[str, float] = field(default_factory=dict)
    left: set[str] = field(default_factory=set)
    """Those that left on purpose."""

    def join(self, client: str) -> None:
        self.gone_since.pop(client, None)
        self.left.discard(client)

    def leave(self, client: str, now: float, *, lost: bool) -> None:
        self.gone_since[client] = now
        if not lost:
            self.left.add(client)


class RunEngine:
    """One run of a method."""

    def __init__(self, terms: Terms, method: Method, table: TaskTable) -> None:
        self.table = table
        self.method = method
        self._terms = terms
        self._presence = Presence()
        # Without client data, the run does not wait for evaluations: only a metric would be missing.
        wait = terms.deadline if terms.bound else 0.0
        self._evaluations = Evaluations(
            terms.owners, lambda client, now: self._seconds_left(client, wait, now), waits=wait > 0
        )
        self._past = Past()
        self._early: list[ResultCommitted] = []
        """The results that came before the first tasks were opened: after a restart,
        rounds that an earlier server closed are processed first."""
        self._has_opened = False
        """Whether tasks were opened."""
        self._grace_ends = -math.inf
        self._idle: dict[str, float] = {}
        """When clients became idle; infinity for those that were notified."""
        self._epochs: dict[str, Counter[str]] = {}
        """By task the number of epoch reports of each client."""
        self._reminded = 0.0
        self._round = 0
        self._adjusted: dict[str, Adjustment] = {}
        """What the operator changed about tasks that clients have."""
        self._paused_at: float | None = None
        """When the run was paused, on the monotonic clock; None while it goes on."""
        self._stopping = False
        self._over = False
        self._out: list[Instruction] = []

    # --- state for others ---------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Return the progress of the run, for the operator's table."""
        open_, terms = self.table.open, self._terms
        held = {
            client: Held(record.owner if record.owner != client else "", record.task.fold or 0)
            for record in open_
            for client in record.leases
        }
        round_ = self._round = max((record.task.round or 0 for record in open_), default=self._round)
        # All tasks of earlier rounds are over, including those under an earlier server.
        total = self.method.rounds * len(terms.owners) if round_ else len(self.table.records())
        over = (round_ * len(terms.owners) if round_ else total) - len(open_)
        rounds = self.method.rounds if round_ else 0
        return Facts(terms.run, over, total, round_, rounds, terms.folds, held, frozenset(held))

    def wake(self, now: float) -> float:
        """Return the seconds until a `Tick` may have an effect. Stalled tasks are detected at heartbeats."""
        bound = {record.owner for record in self.table.open if record.bound}
        left = [self._seconds_left(owner, self._terms.deadline, now) for owner in bound]
        grace = self._grace_ends - now if self._grace_ends > now else math.inf
        method = self.method.seconds_left(now) if self.table.open and self._paused_at is None else math.inf
        return max(0.0, min([REMIND_SECONDS, self._terms.timeouts.heartbeat, grace, method, *left,
                             self._evaluations.wake(now)]))  # fmt: skip

    def _seconds_left(self, client: str, deadline: float, now: float) -> float:
        """Return the seconds until the deadline of an absent client; infinite while it is connected."""
        if client in self.table.here:
            return math.inf
        return self._presence.gone_since.get(client, now) + deadline - now

    # --- start ----------------------------------------------------------------------------------------------

    def begin(
        self, here: Iterable[ClientJoined], gone_since: Mapping[str, float], past: Past | None, now: float
    ) -> list[Instruction]:
        """Start or resume a run.

        Args:
            here: the clients that are connected.
            gone_since: those that are not, and since when.
            past: what an earlier server has written down; None for a new run.
        """
        self._out = []
        self._presence.gone_since = dict(gone_since)
        self._reminded = now
        here = tuple(here)
        self._do(*(RecordClient(each.client) for each in here))  # in a row: the shell writes them in one commit
        for client in here:
            self._joined(client, came=False)
        for owner in self._terms.owners:
            if owner not in self.table.here:
                self._presence.gone_since.setdefault(owner, now)
        if past is None:
            self._do(AssignShards(self._terms.owners))
        else:
            self._past = past
            self._grace_ends = now + self._terms.timeouts.grace
        self._follow(self.method.begin(past.rounds if past else (), now), now)
        self._decide(now)
        return self._taken()

    def _taken(self) -> list[Instruction]:
        out, self._out = self._out, []
        return out

    def _do(self, *instructions: Instruction) -> None:
        self._out += instructions

    def _emit(self, event: events.RunEvent) -> None:
        self._out.append(Emit(event))

    def _follow(self, instructions: Iterable[Instruction], now: float) -> None:
        """Carry out the instructions of the method."""
        for each in instructions:
            match each:
                case AddTasks(tasks):
                    self._add(tasks, now)
                case AdjustTasks():
                    self._adjust(each)
                case ForgetTasks(keys):
                    self._forget(keys)
                case LeaveOut(task, reason, late):
                    self._leave_out(task, reason, late=late)
                case AskClients():
                    self._do(*self._evaluations.add(each, now))
                    if self._stopping:
                        self._evaluations.give_up()
                case _:
                    self._do(each)

    def _add(self, tasks: Sequence[Task], now: float) -> None:
        owners = self._terms.owners
        for task in tasks:
            self.table.add(task, owners[task.shard], bound=self._terms.bound)
        epochs = max((task.settings.epochs or 0 for task in tasks), default=0)
        self._do(Persist([OwnedTask(task.key, owners[task.shard], task.round) for task in tasks], epochs))
        self._take_up({task.key for task in tasks}, now)

    def _take_up(self, keys: set[str], now: float) -> None:
        """Restore the tasks of an earlier server: those with results are done, clients of the others may return."""
        past, early = self._past, self._early
        # Tasks that are opened later are new: no earlier server has leased them.
        self._past, self._early, self._has_opened = Past(), [], True
        results = [(task, client, past.trained.get(task, AS_IN_JOB)) for task, client in past.results]
        for task, client, trained in (*results, *((each.task, each.client, each.trained) for each in early)):
            if task in keys and self.table.commit(task, client, now, trained):
                self._follow(self.method.on_committed(self.table[task], now), now)
        for lease in past.leases:
            if lease.task not in keys:
                continue
            if lease.ended is None:
                self.table.restore(lease.task, lease.client, lease.attempt, now)
                if lease.client in self.table.here:  # joined before its lease was restored
                    self._lose(lease.client, "it joined again")
            else:
                died = lease.ended == "died"
                self.table.remember(lease.task, lease.client, lease.attempt, lease.failure, died=died)

    def _forget(self, keys: Iterable[str]) -> None:
        for key in keys:
            self.table.forget(key)
            self._epochs.pop(key, None)
            self._adjusted.pop(key, None)

    # --- events -------------------------------------------------------------------------------------------------

    def handle(self, event: Input, now: float) -> list[Instruction]:
        """Handle an event; return instructions.

        Raises:
            LanfitError: a client that is needed will never come, or a command can't be followed.
        """
        self._out = []
        match event:
            case Pause() | Resume() | Stop() | Change() | StopClient():
                self._command(event, now)
            case WorkDone(work, result):
                self._follow(self.method.on_work_done(work, result, now), now)
            case Suspended(seconds):
                self._grace_ends = now + self._terms.timeouts.grace
                self.table.renew(now)
                self._emit(events.ServerStoodStill(round(seconds, 1)))
            case Tick():
                self._tick(event, now)
            case _:
                self._handle(event, now)
        self._decide(now)
        return self._taken()

    def _command(self, command: Command, now: float) -> None:
        match command:
            case Pause():
                self._paused_at = now if self._paused_at is None else self._paused_at
                self._emit(events.Commanded("pause"))
                self._adjust_all()
            case Resume():
                if self._paused_at is not None:
                    self.method.postpone(now - self._paused_at)
                    self.table.renew(now)
                    self._paused_at = None
                self._emit(events.Commanded("resume"))
                self._adjust_all()
            case Change():
                self._follow(self.method.on_change(checked(command, self._terms.method, self._terms.unchangeable)), now)
            case StopClient(client):
                self._stop_client(client, now)
            case Stop(waiting):
                self._stopping = True
                self.method.stop(for_good=waiting)
                self._evaluations.give_up()
                if waiting:
                    self._emit(events.Commanded("stop"))
                    self._emit(events.CutShort("it was stopped"))
                    for record in self.table.open:
                        self._leave_out(record.task.key, "the run was stopped")

    def _adjust(self, wanted: AdjustTasks) -> None:
        """Change tasks that clients have, and all later leases of them."""
        fields = {"epochs": wanted.epochs, "learning_rate": wanted.learning_rate}
        changed = {name: value for name, value in fields.items() if value is not None}
        if wanted.epochs is not None:
            self._do(Persist((), wanted.epochs))
        for key in wanted.tasks:
            self._adjusted[key] = msgspec.structs.replace(self._adjusted.get(key, Adjustment()), **changed)
            self._send_adjustment(key, self.table[key].leases)

    def _adjust_all(self) -> None:
        """Tell all clients with tasks whether the run is paused."""
        for record in self.table.open:
            self._send_adjustment(record.task.key, record.leases)

    def _send_adjustment(self, key: str, clients: Iterable[str]) -> None:
        paused = self._paused_at is not None
        adjustment = msgspec.structs.replace(self._adjusted.get(key, Adjustment()), paused=paused)
        self._do(*(Adjust(client, key, adjustment) for client in clients))

    def _stop_client(self, client: str, now: float) -> None:
        if client not in self.table.here:
            raise lanfit_error("command.no-client", client=client, run=self._terms.run)
        self._emit(events.Commanded("stop client", client))
        for record in self.table.open:
            if client in record.leases or client in record.returning:
                self._do(Cancel(client, record.task.key, STOPPED))
        self._do(Notify(client, f"{STOPPED} in run {self._terms.run}; restart it to take part again"))
        self._left(ClientLeft(client, STOPPED, lost=False), now)

    def _handle(self, event: Event, now: float) -> None:
        """Record a report of the cluster; `_decide` decides what follows."""
        name, run = event.client, self._terms.run
        match event:
            case ClientUnavailable(_, error):
                raise error
            case ClientJoined():
                # It may have been restarted while its old link seemed alive; if it still trains, it continues.
                self._lose(name, "it joined again")
                self._do(RecordClient(name))
                self._joined(event, came=True)
                self._do(*self._evaluations.join(name))
            case ClientLeft():
                self._left(event, now)
            case ClientSilent(_, seconds):
                self._emit(events.ClientSilent(name, round(seconds, 1), self._terms.timeouts.lost))
            case ClientSeen(_, seconds):
                self._emit(events.ClientSeen(name, round(seconds, 1)))
            case ResultOffered() if event.run == run and event.task in self.table:
                self.table.offer(event.task, name, now)
            case DuplicateResult() if event.run == run:
                kind = events.ResultLate if self.table.is_late(event.task) else events.ResultDuplicate
                self._emit(kind(event.task, name, event.attempt))
            case EpochCompleted() if event.run == run and event.task in self.table:
                self._epoch(self.table[event.task], event)
            case ResultCommitted() if event.run == run and event.task in self.table:
                self._returned(event, now)
            case ResultCommitted() if event.run == run:
                if not self._has_opened:
                    self._early.append(event)
            case ResultCommitted():
                self._emit(events.EarlierResult(name, event.run))
            case TaskFailed() if event.run == run and event.task in self.table:
                self._failed(event)
            case TaskFailed() if event.run == run:
                self._do(*self._evaluations.fail(name, event.task, event.error))
            case Evaluated() if event.run == run:
                self._evaluations.answer(event)
            case Claimed() if event.run == run:
                self._emit(events.ClaimRefused(event.task, name, event.what))
            case _:
                pass

    def _joined(self, joined: ClientJoined, *, came: bool) -> None:
        client = joined.client
        self.table.here.add(client)
        self._presence.join(client)
        self._emit(events.ClientJoined(client, joined.address, joined.backend, came))

    def _left(self, left: ClientLeft, now: float) -> None:
        name = left.client
        self.table.here.discard(name)
        self._presence.leave(name, now, lost=left.lost)
        self._do(*self._evaluations.leave(name, left.reason, broken=left.broken))
        held = self.table.held_by(name)
        if left.lost and not left.broken and self._in_grace(now) and held:
            self._emit(events.ClientLeft(name, left.reason, left.lost, expected=True))
            return
        if left.broken and held is not None:
            # It would train the task again with the same result, so this counts as a failure.
            self._failed(TaskFailed(name, self._terms.run, held.task.key, left.reason))
        task = self._lose(name, left.reason)
        is_needed = self._evaluations.awaits(name) or any(r.bound and r.owner == name for r in self.table.open)
        deadline = self._seconds_left(name, self._terms.deadline, now) if is_needed and self._terms.bound else None
        self._emit(events.ClientLeft(name, left.reason, left.lost, task=task.key if task else "", deadline=deadline))

    def _in_grace(self, now: float) -> bool:
        """Return whether absent clients keep their tasks: after a restart or a suspension of the server."""
        return now < self._grace_ends

    def _lose(self, name: str, reason: str) -> Task | None:
        """Release the tasks of a client; return the one that no other client has."""
        task = self.table.lose(name)
        self._do(RecordEnd("lost", client=name))
        if task is not None:
            self._emit(events.TaskLost(task.key, name, reason))
        return task

    def _epoch(self, record: Record, event: EpochCompleted) -> None:
        counts = self._epochs.setdefault(event.task, Counter())
        counts[event.client] += 1
        own = self._adjusted.get(event.task, Adjustment()).epochs or record.task.settings.epochs
        reported, most = counts[event.client], own or self._terms.epochs
        # An epoch that was interrupted by the death of a trainer is trained and reported again.
        if record.holder != event.client or not 0 <= event.epoch < most or reported > MOST_EPOCH_EVENTS * most:
            return
        task = record.task
        crowded = task.round is not None and len(self.table.open) > MOST_SHOWN
        self._emit(
            events.EpochCompleted(
                event.client,
                record.owner,
                event.epoch,
                own or self._terms.shown_epochs,
                event.metrics,
                task.fold or 0,
                task.round or 0,
                crowded,
                known_seconds(event.spent),
            )
        )
        if outputs := unpack(event.predictions, self._terms.shown_values):
            self._emit(events.RowsPredicted(record.owner, event.epoch + 1, outputs, task.fold or 0))

    def _returned(self, event: ResultCommitted, now: float) -> None:
        record = self.table[event.task]
        others = [name for name in record.leases if name != event.client]
        if not self.table.commit(event.task, event.client, now, event.trained):
            return
        self._do(*(Cancel(name, event.task, f"{event.client} finished it") for name in others))
        task = record.task
        committed = (record.owner, task.fold or 0, task.round or 0, known_seconds(event.spent))
        self._emit(events.ResultCommitted(event.task, event.client, round(event.seconds, 4), *committed))
        self._follow(self.method.on_committed(record, now), now)

    def _failed(self, event: TaskFailed) -> None:
        record = self.table[event.task]
        failure = f"{event.client}: {event.error}"
        counts, others = record.fails_with(event.client), record.others(event.client)
        if counts and event.not_finite and record.task.round and not others:
            self._do(RecordEnd("failed", task=event.task, failure=failure))
            self._emit(events.TaskLeftOut(event.task, event.client, event.error))
            self.table.leave_out(event.task, failure)
            return
        again = self.table.fail(event.task, event.client, failure, died=event.died)
        if not counts:
            return  # the client does not have the task any more
        self._do(RecordEnd("died" if event.died else "failed", event.task, event.client, failure))
        kind = events.TrainerDied if event.died else events.TaskFailed
        self._emit(kind(event.task, event.client, event.error, again))

    def _leave_out(self, key: str, reason: str, *, late: bool = False) -> None:
        self._do(RecordEnd("not needed", task=key))
        self._emit(events.TaskLeftOut(key, self.table[key].owner, reason))
        self._do(*(Cancel(client, key, reason) for client in self.table.leave_out(key, reason, late=late)))

    def _tick(self, tick: Tick, now: float) -> None:
        limit = self._terms.timeouts.no_progress if self._paused_at is None else math.inf
        for record, client in self.table.stalled(now, tick.advanced, tick.delivered, limit):
            reason = f"it made no progress for {limit:.0f} s (no_progress in server.toml)"
            self._do(Cancel(client, record.task.key, reason))
            self._failed(TaskFailed(client, self._terms.run, record.task.key, reason))
        if tick.idle and now - self._reminded >= REMIND_SECONDS:
            self._reminded = now
            self._remind(now)

    def _remind(self, now: float) -> None:
        """Report from time to time what the run waits for while no client works."""
        waiting, here = self.table.open, self.table.here
        gone = [name for name in dict.fromkeys(record.owner for record in waiting) if name not in here]
        if self._terms.bound:
            for name in gone:
                self._emit(events.WaitingForClient(name, self._seconds_left(name, self._terms.deadline, now)))
        elif not here and waiting:
            self._emit(events.NoClient(tuple(gone)))

    # --- decisions ----------------------------------------------------------------------------------------------

    def _decide(self, now: float) -> None:
        """Decide what follows from the current state."""
        if self._over:
            return
        if -math.inf < self._grace_ends <= now:
            self._grace_ends = -math.inf
            for name in sorted(self.table.holders() - self.table.here):
                self._lose(name, "it did not come back")
        self._give_up(now)
        for record, client in self.table.torn():
            task = record.task.key
            self._do(Cancel(client, task, "a client of the group was lost; all tasks of the group restart"))
            self._do(RecordEnd("not needed", task, client))
            record.drop(client, "lose")
        if self.table.open and self._paused_at is None and self.method.seconds_left(now) <= 0:
            self._follow(self.method.on_deadline(now), now)
        self._do(*self._evaluations.look(now))
        self._advance(now)
        if self._paused_at is None and not self._stopping:
            self._lease_out(now)

    def _give_up(self, now: float) -> None:
        """Give up waiting for clients with client data that are absent for too long."""
        for name in dict.fromkeys(record.owner for record in self.table.open if record.bound):
            if self._seconds_left(name, self._terms.deadline, now) > 0:
                continue
            waited = f"{self._terms.deadline:.0f} s"
            reason = f"{name} was away for longer than {waited} (--deadline), and only it has its rows"
            for task in self.table.give_up(name, reason):
                self._emit(events.TaskGivenUp(task.key, name, reason))

    def _advance(self, now: float) -> None:
        """Let the method decide what follows when no task is open and no answer is pending."""
        while True:
            while (done := self._evaluations.finished(now)) is not None:
                model, answers, following = done
                self._do(*following)
                self._follow(self.method.on_evaluated(model, answers, now), now)
            if self.table.open or self._evaluations.open:
                return
            before = len(self._out)
            self._follow(self.method.advance(now), now)
            if self.method.is_over:
                self._over = True
                self._do(EndRun())
                return
            if len(self._out) == before:
                return  # work of the method is pending

    def _lease_out(self, now: float) -> None:
        here, table = self.table.here, self.table
        left = self._presence.left
        expected = [name for name in self._terms.owners if name not in left] if self._in_grace(now) else ()
        assignments = table.assign(in_order(here), now, expected, copies=self._terms.copies)
        if assignments:
            self._do(*(RecordClient(assignment.client) for assignment in assignments), RecordLeases(assignments))
        for assignment in assignments:
            task = assignment.task
            others = [name for name in table[task.key].leases if name != assignment.client]
            leased = events.TaskLeased(
                task.key,
                assignment.client,
                assignment.attempt,
                assignment.owner,
                task.fold or 0,
                task.round or 0,
                tuple(others),
            )
            self._do(Emit(leased), Lease(assignment))
            if task.key in self._adjusted:
                self._send_adjustment(task.key, [assignment.client])
        self._notify_idle(here - table.holders(), now)

    def _notify_idle(self, idle: set[str], now: float) -> None:
        """Notify clients that have been idle for a while, but not between two rounds."""
        self._idle = {name: self._idle.get(name, now) for name in idle}
        for name, since in sorted(self._idle.items()):
            if now - since >= IDLE_SECONDS:
                self._idle[name] = math.inf  # told
                self._do(Notify(name, f"run {self._terms.run} continues with other clients; this one is on standby"))
