"""Method `federated`: in each round, clients train the global weights on their shards; the updates are aggregated.

A task is one round on one shard. McMahan et al. 2017, algorithm 1.

Theory of operation. A round has three steps; the last two are work of the workshop:

1. Its tasks are leased. Results are added to the sum in task order, as soon as no earlier task is missing.
2. All tasks are over. With a norm limit, the norms of updates are computed first (`MeasureNorms`). `CloseRound` adds
   the remaining updates, applies the server optimizer and records the participants. From then on, the weights can be
   computed again from the results, even if a process dies.
3. `MakeRound` writes the weights, keeps them as a model and evaluates them. `StoreRound` records the metrics, after
   which the results are not needed any more.

The next round starts after step 2, concurrently with step 3, unless the evaluation decides whether there is a next
round. At most `MOST_IN_MAKING` rounds are in step 3 at once, so that memory is bounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from lanfit.errors import lanfit_error
from lanfit_server.methods.base import Task
from lanfit_server.methods.claims import weighted
from lanfit_server.methods.federated.aggregation import outliers
from lanfit_server.methods.federated.facts import as_logs, logs_of_round
from lanfit_server.methods.federated.history import RoundHistory
from lanfit_server.methods.federated.schedule import Schedule
from lanfit_server.run.events import Commanded, CutShort, ModelEvaluated, RoundCompleted, RoundExtended
from lanfit_server.run.instructions import (
    AddTasks,
    AskClients,
    Change,
    Do,
    DoNow,
    Emit,
    ForgetTasks,
    Instruction,
    LeaveOut,
    RecordSettings,
    Work,
)
from lanfit_server.run.tasks import Record, State, TaskTable
from lanfit_server.store.ledger import RoundClient, RoundRecord

if TYPE_CHECKING:
    from lanfit_server.clusters.events import Evaluated

#: The maximum number of rounds that are closed but not yet stored.
MOST_IN_MAKING = 3


# --- work -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RestoreWeights(Work):
    """Restore the weights of this round, the last one that an earlier server stored; 0: the initial weights.

    Args:
        stored: how many rounds have their weights stored.
    """

    record: RoundRecord | None
    stored: int


@dataclass(frozen=True)
class StepAgain(Work):
    """Aggregate the results of a round again that an earlier server closed but did not store."""

    record: RoundRecord


@dataclass(frozen=True)
class ServeWeights(Work):
    """Serve the current weights as starting weights."""


@dataclass(frozen=True)
class AddUpdates(Work):
    """Add these updates to the sum, in this order; each is the key of a task and its weight in rows."""

    updates: Sequence[tuple[str, int]]


@dataclass(frozen=True)
class MeasureNorms(Work):
    """Compute the Euclidean norms of updates, which are its result."""

    tasks: Sequence[str]


@dataclass(frozen=True)
class CloseRound(Work):
    """Add the remaining updates, apply the server optimizer, and record the round; its result is the record.

    Args:
        clients: the participants, in task order; their reports are in their results.
        updates: of those that count, those that are not in the sum yet.
        began: when the round began, on the monotonic clock.
        seconds: the server's time that was measured so far, by kind.
    """

    number: int
    clients: Sequence[RoundClient]
    updates: Sequence[tuple[str, int]]
    began: float
    seconds: Mapping[str, float]


@dataclass(frozen=True)
class MakeRound(Work):
    """Write a closed round's weights, keep them as a model, and evaluate them; its result is a `Made`.

    Args:
        after_leases: whether that can wait until the clients of the next round have their weights.
    """

    record: RoundRecord
    after_leases: bool


@dataclass(frozen=True)
class Made:
    """The server's metrics of a round's weights (none without test rows), and the time it took."""

    metrics: dict[str, float]
    seconds: dict[str, float]


@dataclass(frozen=True)
class StoreRound(Work):
    """Record the metrics of a round, which ends it; its result is a `Stored`.

    Args:
        best: the round with the lowest loss until now, whose weights are kept.
    """

    record: RoundRecord
    best: int
    logs: Mapping[str, float]


@dataclass(frozen=True)
class Stored:
    """A round that is completely on disk."""

    record: RoundRecord
    stop: bool
    """Whether a callback of the Python program stops the run."""


@dataclass(frozen=True)
class WriteRecord(Work):
    """Record further metrics of a stored round."""

    record: RoundRecord


# --- the method -------------------------------------------------------------------------------------------------


@dataclass
class OpenRound:
    """The round whose tasks are open."""

    number: int
    tasks: Sequence[Task]
    away: Mapping[int, str]
    """Shards that do not participate, with reasons."""
    began: float
    """On the monotonic clock; likewise `ends`."""
    ends: float
    added: int = 0
    """The number of tasks that were passed to the sum."""
    extended: bool = False
    out: Mapping[str, str] | None = None
    """The tasks whose updates are much longer than most, with reasons; None: not measured yet."""
    closing: bool = False
    waiting_since: float | None = None
    """The start of the wait for earlier rounds to be stored."""


@dataclass
class Making:
    """A round that is closed but not yet stored. Rounds are processed one at a time, in order."""

    record: RoundRecord
    after_leases: bool
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    validation: dict[str, dict[str, float]] = field(default_factory=dict)
    pending_evaluations: list[AskClients] = field(default_factory=list)
    """The evaluations that are still to be requested."""
    asked_at: float = 0.0


@dataclass(frozen=True)
class Setting:
    """The settings of a run in rounds, in addition to its schedule.

    Args:
        owners: the client that each shard belongs to.
        rows: training rows of each shard, which its update counts.
        samples: rows of each shard by which clients' figures are weighted.
        bound: whether clients have their own data.
        validation, test: how many rows there are on the clients, and on the server or the clients.
        norm_limit: updates longer than this multiple of the median are left out; None: none.
        round_deadline: seconds; 0 or None: none.
        deadline: seconds for which a round with too few clients waits for more.
        follows: whether a watcher or program needs the metrics of each round as soon as it is over.
        decides: whether a program decides after each round whether there is a next one.
        grace: seconds for which clients are expected back by a server that resumes a run.
        max_weight: the maximum weight of the rows of one client.
    """

    owners: Sequence[str]
    rows: Sequence[int]
    samples: Sequence[int]
    bound: bool
    validation: int
    test: int
    norm_limit: float | None
    round_deadline: float | None
    deadline: float
    follows: bool
    decides: bool
    grace: float
    max_weight: float


class Rounds:
    """A `Method`: see the theory of operation above."""

    def __init__(self, schedule: Schedule, setting: Setting, table: TaskTable) -> None:
        self.failure = ""
        self.is_over = False
        self.waits_for_clients = True
        self.schedule = schedule
        self.history = RoundHistory(dict(zip(setting.owners, setting.samples, strict=True)))
        self._setting = setting
        self._table = table
        self._open: OpenRound | None = None
        self._making: dict[int, Making] = {}
        self._restoring: list[RoundRecord] = []
        """Rounds that an earlier server closed but did not store."""
        self._restored: set[int] = set()
        """All tasks of these, whose clients may return."""
        self._working = 0
        self._stopped = False
        self._is_cut = False
        """Whether the operator stopped it, so that a repeated run ends after the same round."""
        self._ended_by_program = False
        self._last_validated = False
        self._begun = 0
        """The last round whose tasks may have been leased, also by an earlier server."""

    @property
    def rounds(self) -> int:
        return self.schedule.rounds

    # --- settings ----------------------------------------------------------------------------------------

    @property
    def asks_at_once(self) -> bool:
        """Whether clients evaluate each round on their validation rows before the next one starts.

        This is the case if there is no other evaluation; otherwise clients evaluate the weights when they start the
        next round.
        """
        setting = self._setting
        needed = self.schedule.compares or setting.follows or setting.decides
        return needed and setting.validation > 0 and not setting.test

    @property
    def _asks_for_test(self) -> bool:
        return self._setting.bound and self._setting.test > 0

    @property
    def _waits_until_made(self) -> bool:
        """Whether the next round depends on the evaluation of this one, or the evaluation needs the clients."""
        return self.schedule.compares or self._asks_for_test or self._setting.decides or self.asks_at_once

    # --- start ----------------------------------------------------------------------------------------------

    def begin(self, rounds: Sequence[RoundRecord], now: float) -> Sequence[Instruction]:
        self.history.add(rounds)
        if not rounds:
            return self._next(now)
        self._begun = len(rounds) + 1
        stored = [record for record in rounds if record.stored]
        self._restoring = list(rounds[len(stored) :])
        self._restored = {record.number for record in self._restoring}
        return [self._do(RestoreWeights(stored[-1] if stored else None, len(stored)))]

    def _do(self, work: Work) -> Instruction:
        self._working += 1
        return Do(work)

    def _next(self, now: float) -> list[Instruction]:
        """Open the next round, if there is one."""
        if self._stopped or self._ended_by_program or self.failure or self.schedule.is_over(self.history.losses()):
            return []
        number, away = len(self.history) + 1, self._away()
        self._begun = max(self._begun, number)
        # Clients evaluate each result at once, or else when they start from it.
        starts = not self.asks_at_once
        tasks = [replace(task, evaluates_start=starts) for task in self.schedule.tasks(number, away)]
        ends = now + self._setting.round_deadline if self._setting.round_deadline else math.inf
        self._open = OpenRound(number, tasks, away, now, ends)
        return [DoNow(ServeWeights()), AddTasks(tasks)]

    def _away(self) -> dict[int, str]:
        """Return clients with client data that the last round stopped waiting for, and that are still gone."""
        last = self.history.last
        return {
            client.shard: f"{client.owner} is not back"
            for client in (last.clients if last is not None else ())
            if client.absent and self._setting.bound and client.owner not in self._table.here
        }

    # --- a round ------------------------------------------------------------------------------------------------

    def on_committed(self, record: Record, now: float) -> Sequence[Instruction]:
        round_ = self._open
        if round_ is None or round_.closing or self._setting.norm_limit is not None:
            return []  # with a norm limit, all updates of a round are compared first
        ready = []
        while round_.added < len(round_.tasks):
            task = round_.tasks[round_.added]
            if self._table[task.key].state is not State.COMMITTED:
                break  # early results wait on disk for those before them
            ready.append((task.key, self._setting.rows[task.shard]))
            round_.added += 1
        return [Do(AddUpdates(tuple(ready)))] if ready else []

    def advance(self, now: float) -> Sequence[Instruction]:
        round_ = self._open
        if round_ is not None:
            return self._close(round_, now)
        if self._working or self._making or self._restoring:
            return []
        if following := self._next(now):
            return following
        if (evaluation := self._pending_evaluation()) is not None:
            return [evaluation]
        self.is_over = True
        done = len(self.history)
        is_cut = (self._is_cut or self._ended_by_program) and 0 < done < self.schedule.rounds
        return [RecordSettings({"rounds": done})] if is_cut else []

    def _close(self, round_: OpenRound, now: float) -> Sequence[Instruction]:
        """Handle the end of all tasks of the round."""
        if round_.closing:
            return []
        if round_.out is None:
            if self._setting.norm_limit is None:
                round_.out = {}
            else:
                round_.closing = True
                return [self._do(MeasureNorms([task.key for task in self._came(round_)]))]
        clients = self._clients(round_, round_.out)
        accepted = [client for client in clients if not client.left_out]
        if len(accepted) < max(1, self.schedule.minimum):
            return self._fail(round_, clients)
        if len(self._making) >= MOST_IN_MAKING:
            round_.waiting_since = now if round_.waiting_since is None else round_.waiting_since
            return []
        round_.closing = True
        added = {task.key for task in round_.tasks[: round_.added]}
        updates = tuple((client.task, client.rows) for client in accepted if client.task not in added)
        waited = now - round_.waiting_since if round_.waiting_since is not None else 0.0
        return [self._do(CloseRound(round_.number, clients, updates, round_.began, {"wait": waited}))]

    def _came(self, round_: OpenRound) -> list[Task]:
        return [task for task in round_.tasks if self._table[task.key].state is State.COMMITTED]

    def _clients(self, round_: OpenRound, out: Mapping[str, str]) -> list[RoundClient]:
        """Return all participants of the round, in the order of the shards.

        Args:
            out: tasks that came back and are left out all the same, and why.
        """
        owners, rows = self._setting.owners, self._setting.rows
        found = [self._client(task, out.get(task.key, "")) for task in round_.tasks]
        found += [
            RoundClient("", owners[shard], shard, rows[shard], left_out=why, absent=True)
            for shard, why in round_.away.items()
        ]
        return sorted(found, key=lambda client: client.shard)

    def _client(self, task: Task, out: str) -> RoundClient:
        record, rows = self._table[task.key], self._setting.rows[task.shard]
        if record.state is State.COMMITTED:
            return RoundClient(task.key, record.owner, task.shard, rows, record.committed_by, left_out=out)
        why = record.failures[-1] if record.failures else "it did not come back"
        return RoundClient(task.key, record.owner, task.shard, rows, left_out=why, absent=record.is_late)

    def _fail(self, round_: OpenRound, clients: Sequence[RoundClient]) -> list[Instruction]:
        """End the run with its results so far, because too few clients are left for a round."""
        missing = "; ".join(f"{client.owner}: {client.left_out}" for client in clients if client.left_out)
        least, came = max(1, self.schedule.minimum), sum(not client.left_out for client in clients)
        self.failure = f"round {round_.number} has {came} of at least {least} updates ({missing})"
        self._open = None
        return [Emit(CutShort(self.failure))]

    # --- closed rounds ---------------------------------------------------------------------------------

    def on_work_done(self, work: Work, result: Any, now: float) -> Sequence[Instruction]:
        if isinstance(work, AddUpdates | ServeWeights):
            return []
        self._working -= 1
        match work:
            case RestoreWeights() | StepAgain():
                return self._restore(work)
            case MeasureNorms(tasks):
                return self._measured(tasks, result, now)
            case CloseRound():
                return self._closed(result, now)
            case MakeRound(record):
                return self._made(record.number, result, now)
            case StoreRound():
                return self._stored(result)
            case _:  # WriteRecord
                return []

    def _restore(self, work: Work) -> Sequence[Instruction]:
        """Process the rounds that an earlier server closed, one after the other."""
        if isinstance(work, StepAgain):
            self._restoring.pop(0)
            return self._make(work.record, after_leases=False)
        return [self._do(StepAgain(self._restoring[0]))] if self._restoring else []

    def _measured(self, tasks: Sequence[str], norms: Sequence[float], now: float) -> Sequence[Instruction]:
        round_, limit = self._open, self._setting.norm_limit
        if round_ is None or limit is None:
            return []
        round_.closing = False
        round_.out = {
            tasks[index]: f"the norm of its update, {norms[index]:.3g}, is more than {limit:g} times the "
            "median of the round (--norm-limit)"
            for index in outliers(norms, limit)
        }
        return self._close(round_, now)

    def _closed(self, record: RoundRecord, now: float) -> Sequence[Instruction]:
        self.history.add([record])
        assert self._open is not None
        over = ForgetTasks([task.key for task in self._open.tasks])
        self._open = None
        if self._waits_until_made:
            return [over, *self._make(record, after_leases=False)]
        following = self._next(now)
        return [over, *self._make(record, after_leases=bool(following)), *following]

    def _make(self, record: RoundRecord, *, after_leases: bool) -> list[Instruction]:
        self._making[record.number] = Making(record, after_leases, validation=record.validation)
        return self._make_next() if len(self._making) == 1 else []

    def _make_next(self) -> list[Instruction]:
        """Process the oldest closed round."""
        making = next(iter(self._making.values()), None)
        return [self._do(MakeRound(making.record, making.after_leases))] if making is not None else []

    def _made(self, number: int, made: Made, now: float) -> Sequence[Instruction]:
        making = self._making[number]
        making.metrics, making.seconds, making.asked_at = made.metrics, made.seconds, now
        model, everybody = f"round-{number}", range(len(self._setting.owners))
        if not made.metrics and self._asks_for_test:
            making.pending_evaluations.append(AskClients(model, "test", everybody, self._setting.deadline))
        if self.asks_at_once:
            shards = [client.shard for client in making.record.clients if client.trainer]
            making.pending_evaluations.append(self._ask_for_validation(number, shards))
        return self._go_on(making, now)

    def _ask_for_validation(self, number: int, shards: Sequence[int]) -> AskClients:
        limit = self._setting.round_deadline or self._setting.deadline
        grace = self._setting.grace if number in self._restored else 0.0
        return AskClients(f"round-{number}", "validation", shards, limit, grace)

    def _go_on(self, making: Making, now: float) -> Sequence[Instruction]:
        """Request the pending evaluations, or end the round."""
        if making.pending_evaluations and self.waits_for_clients:
            return [making.pending_evaluations[0]]
        spent = now - making.asked_at
        seconds = {**making.record.seconds, **making.seconds}
        seconds["evaluate"] = seconds.get("evaluate", 0.0) + spent
        record = msgspec.structs.replace(
            making.record, metrics=making.metrics, validation=making.validation, seconds=seconds
        )
        # The known losses of rounds up to this one.
        self.history.replace(record)
        best = self.schedule.best(self.history.losses()[: record.number])
        logs = logs_of_round(record, self.history.evaluated(record.metrics, record.validation))
        return [self._do(StoreRound(record, best, logs))]

    def on_evaluated(self, model: str, answers: Mapping[str, Evaluated], now: float) -> Sequence[Instruction]:
        number = int(model.rpartition("-")[2])
        making = self._making.get(number)
        by_client = {name: answer.metrics for name, answer in answers.items() if answer.metrics}
        last = self.history.last
        if making is None and last is not None:  # the last round is stored
            record = msgspec.structs.replace(last, validation=by_client)
            self.history.replace(record)
            return [self._do(WriteRecord(record))]
        assert making is not None
        if making.pending_evaluations.pop(0).rows == "test":
            making.metrics = weighted(list(answers.values()), self._setting.max_weight)
        else:
            making.validation = by_client
        return self._go_on(making, now)

    def _stored(self, stored: Stored) -> Sequence[Instruction]:
        record = stored.record
        self.history.replace(record)
        del self._making[record.number]
        self._ended_by_program = self._ended_by_program or stored.stop
        figures = record.metrics or as_logs({}, self.history.evaluated({}, record.validation))
        instructions: list[Instruction] = [
            Emit(ModelEvaluated(f"round-{record.number}", figures)),
            Emit(
                RoundCompleted(
                    record.number,
                    self.schedule.rounds,
                    sum(not client.left_out for client in record.clients),
                    record.seconds["wall"],
                    figures,
                    {client.owner: client.left_out for client in record.clients if client.left_out},
                    logs_of_round(record, self.history.evaluated(record.metrics, record.validation)),
                    {name: round(seconds, 4) for name, seconds in record.seconds.items()},
                )
            ),
        ]
        if self._restoring:
            return [*instructions, self._do(StepAgain(self._restoring[0]))]
        return [*instructions, *self._make_next()]

    def _pending_evaluation(self) -> Instruction | None:
        """Let clients evaluate the last weights on their validation rows, because no round follows that does it."""
        last = self.history.last
        if self._last_validated or not self.waits_for_clients or last is None or not self._setting.validation:
            return None
        self._last_validated = True
        return None if last.validation else self._ask_for_validation(last.number, sorted(self.history.trained))

    # --- deadlines and commands ---------------------------------------------------------------------------------

    def seconds_left(self, now: float) -> float:
        return math.inf if self._open is None or self._open.closing else self._open.ends - now

    def on_deadline(self, now: float) -> Sequence[Instruction]:
        round_, table = self._open, self._table
        if round_ is None or round_.closing:
            return []
        open_ = [task for task in round_.tasks if table[task.key].state not in (State.COMMITTED, State.GIVEN_UP)]
        came, least = len(self._came(round_)), max(1, self.schedule.minimum)
        if came < least and not round_.extended:
            round_.extended, more = True, self._setting.deadline
            round_.ends += more
            missing = tuple(table[task.key].owner for task in open_)
            return [Emit(RoundExtended(round_.number, came, least, missing, more))]
        why = f"it took longer than {self._setting.round_deadline:g} s (--round-deadline)"
        return [LeaveOut(task.key, why, late=True) for task in open_]

    def on_change(self, change: Change) -> Sequence[Instruction]:
        """Change the number of rounds, or a setting from the next round on."""
        setting, value = change.setting, change.value
        if setting == "rounds":
            rounds = max(int(value), len(self.history) + (self._open is not None))
            self.schedule = replace(self.schedule, rounds=rounds)
            return [RecordSettings({"rounds": rounds}), Emit(Commanded("set rounds", f"{rounds}"))]
        number = self._begun + 1
        if number > self.schedule.rounds or self._stopped or self._ended_by_program or self.failure:
            raise lanfit_error("command.no-round-left", setting=setting, rounds=self.schedule.rounds)
        changes = self.schedule.changes.from_round(number, setting, value)
        self.schedule = replace(self.schedule, changes=changes)
        return [
            RecordSettings({"changes": changes.listed()}),
            Emit(Commanded(f"set {setting}", f"{value:g}", round=number)),
        ]

    def postpone(self, seconds: float) -> None:
        if self._open is not None:
            self._open.ends += seconds

    def stop(self, *, for_good: bool) -> None:
        self._stopped = True
        self._is_cut = for_good
        self.waits_for_clients = False
        if self._open is not None and not self._open.closing:
            self._open = None  # an incomplete round does not count

    def status(self) -> str:
        if not self.history:
            return "failed"
        absent = not self._setting.round_deadline and self.history.has_absent
        over = self._ended_by_program or self.schedule.is_over(self.history.losses())
        return "done" if over and not absent and not self.failure else "partial"
