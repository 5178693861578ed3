"""The task table: the tasks of a run and their leases. Pure: no I/O, and time is passed in.

Theory of operation. Each task has one `State`, and `TRANSITIONS` lists which event may happen in which state; any other
event is a bug and raises an error. The usual path is waiting → leased → returned → committed:

- *waiting*: no client has the task. `lease` gives it to an idle client, its owner first.
- *leased*: at least one client trains it. The task of a straggler gets a second lease (`copy`); the first result
  counts.
- *returned*: a client has offered a result, which is being received. Its lease remains until the result is on disk.
- *committed*: the result is on disk. Everything that arrives later for this task is a duplicate.
- *given up*: the task failed too often, killed too many trainers, or the run stopped waiting for it. A result that
  arrives nevertheless is committed, because training it was expensive.

An event of one client changes the state only if no other client has the task (`Record.drop`): a lost copy does not make
a task waiting while the original trains. The table outlives the server: leases are recorded in the ledger, and
`restore` gives the tasks of an earlier server back to the clients that most likely still train them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from enum import StrEnum
from statistics import median

from lanfit.errors import LocalProtocolError
from lanfit.settings.changes import AS_IN_JOB, TaskSettings
from lanfit_server.methods.base import Task

#: A task is given up after this many failures.
MOST_FAILURES = 2
#: A task is given up after it killed this many trainers.
MOST_DEATHS = 3
#: A task that takes this many times the median is also leased to an idle client.
STRAGGLES = 2.0
#: The least time before that, in seconds: the first task of a client also waits for its backend.
LEAST_SECONDS = 60.0
#: The median is that of so many of the last tasks.
MOST_TIMES = 1000


class State(StrEnum):
    """The state of a task."""

    WAITING = "waiting"
    LEASED = "leased"
    RETURNED = "returned"
    COMMITTED = "committed"
    GIVEN_UP = "given up"


#: The states of a task that is finished.
OVER = (State.COMMITTED, State.GIVEN_UP)

#: event → (allowed states, next state, meaning). docs/failures.md is generated from it.
TRANSITIONS: Mapping[str, tuple[frozenset[State], State, str]] = {
    "lease": (frozenset({State.WAITING}), State.LEASED, "a client is free"),
    "copy": (frozenset({State.LEASED}), State.LEASED, "it takes over twice the median, so another client tries, too"),
    "return": (frozenset({State.WAITING, State.LEASED}), State.RETURNED, "a client offers a result"),
    "miss": (frozenset({State.RETURNED}), State.LEASED, "the result did not arrive; another client still trains"),
    "lose": (frozenset({State.LEASED, State.RETURNED}), State.WAITING, "the client is lost, or left"),
    "retry": (frozenset({State.LEASED, State.RETURNED}), State.WAITING, "it failed, and is tried again"),
    "give up": (
        frozenset({State.WAITING, State.LEASED, State.RETURNED}),
        State.GIVEN_UP,
        "it failed too often, no other client has its rows, or the round continued without it",
    ),
    # A late result, from a client that was considered lost, also counts.
    "commit": (
        frozenset({State.WAITING, State.LEASED, State.RETURNED, State.GIVEN_UP}),
        State.COMMITTED,
        "its result is on disk",
    ),
}


@dataclass
class Lease:
    """A task that a client has."""

    attempt: int
    since: float
    """On the monotonic clock; reset when the server was suspended."""
    first: float
    """When the client first had this task: a client that was lost and returns continues with it."""


@dataclass
class Record:
    """One task: its owner (the client of its shard), its state, and its leases."""

    task: Task
    owner: str
    bound: bool = False
    """Whether only the owner can do it, because the rows are client data."""
    state: State = State.WAITING
    leases: dict[str, Lease] = field(default_factory=dict)
    """By client; more than one when a straggler's task was copied."""
    returning: dict[str, float] = field(default_factory=dict)
    """The clients whose result is not on disk yet, and since when, on the monotonic clock."""
    attempt: int = 0
    last: str = ""
    """The last client, which may still be training it."""
    failures: list[str] = field(default_factory=list)
    deaths: int = 0
    failed_at: set[str] = field(default_factory=set)
    begun: dict[str, float] = field(default_factory=dict)
    """By client: when it had the task first, on the monotonic clock."""
    is_late: bool = False
    """Whether the run stopped waiting for it."""
    committed_by: str = ""
    """The client of its result."""
    trained: TaskSettings = AS_IN_JOB
    """The settings that it had in the end, see `clusters.events.settings_of`."""

    @property
    def is_untouched(self) -> bool:
        """Whether no client has received it yet."""
        return self.state is State.WAITING and self.attempt == 0

    def lease(self, client: str, attempt: int, now: float) -> None:
        """Lease it to a client."""
        self.leases[client] = Lease(attempt, now, self.begun.setdefault(client, now))

    @property
    def holder(self) -> str | None:
        """Return the client with the oldest lease."""
        return next(iter(self.leases), None)

    def fails_with(self, client: str) -> bool:
        """Return whether a failure of this client counts for the task: it has a lease, or had the last one.

        A failure of any other former client is not counted: it has no bearing on the clients that train it now.
        """
        return client in self.leases or (not self.leases and client in self.returning and client == self.last)

    def others(self, client: str) -> set[str]:
        """Return the other clients that may still deliver a result."""
        return {*self.leases, *self.returning} - {client}

    @property
    def has_failed_too_often(self) -> bool:
        return self.deaths >= MOST_DEATHS or len(self.failures) - self.deaths >= MOST_FAILURES

    def move(self, event: str) -> None:
        """Change the state according to the table.

        Raises:
            LocalProtocolError: the event can't happen in this state.
        """
        allowed, target, _ = TRANSITIONS[event]
        if self.state not in allowed:
            raise LocalProtocolError(f"task {self.task.key} is {self.state}: it can't {event}")
        self.state = target
        if target in OVER:
            self.leases.clear()
            self.returning.clear()

    def drop(self, client: str, event: str) -> bool:
        """End the lease of a client; if no other client has one, apply this event. Return whether it was applied."""
        self.leases.pop(client, None)
        self.returning.pop(client, None)
        if self.returning:
            return False
        if self.leases:
            if self.state is State.RETURNED:
                self.move("miss")
            return False
        self.move(event)
        return True


@dataclass(frozen=True)
class Assignment:
    """A task that is to be leased to a client."""

    task: Task
    owner: str
    client: str
    attempt: int


class TaskTable:
    """The tasks of a run, in task order; without those that were forgotten."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._open: dict[str, Record] = {}
        """Open tasks, so that finished ones are not examined at every event of a long run."""
        self._durations: deque[float] = deque(maxlen=MOST_TIMES)
        """The time of the last tasks, in seconds."""
        self._late_keys: set[str] = set()
        """Of forgotten tasks, those that the run stopped waiting for."""
        self.here: set[str] = set()
        """The clients that are connected and can take part."""

    def add(self, task: Task, owner: str, *, bound: bool = False) -> None:
        self._records[task.key] = self._open[task.key] = Record(task, owner, bound)

    def change(self, key: str, settings: TaskSettings) -> None:
        """Change the settings of a task that no client has received yet."""
        record = self._records[key]
        record.task = replace(record.task, settings=settings)

    def forget(self, key: str) -> None:
        """Drop a task that is over.

        Raises:
            LocalProtocolError: it is open.
        """
        record = self._records.pop(key)
        if record.state not in OVER:
            raise LocalProtocolError(f"task {key} is {record.state}: it can't be forgotten")
        self._open.pop(key, None)
        if record.is_late:
            self._late_keys.add(key)

    def is_late(self, key: str) -> bool:
        """Return whether the run stopped waiting for a task. It may be one that was forgotten, or unknown."""
        return key in self._late_keys or (key in self._records and self._records[key].is_late)

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def records(self) -> Sequence[Record]:
        return list(self._records.values())

    @property
    def open(self) -> list[Record]:
        """Return the open tasks."""
        for key in [key for key, record in self._open.items() if record.state in OVER]:
            del self._open[key]
        return list(self._open.values())

    def held_by(self, client: str) -> Record | None:
        return next((record for record in self.open if client in record.leases), None)

    def holders(self) -> set[str]:
        """Return the clients that have a task."""
        return {client for record in self.open for client in record.leases}

    # --- records of an earlier server ----------------------------------------------------------------------

    def restore(self, key: str, client: str, attempt: int, now: float) -> None:
        """Restore a lease of an earlier server; the client most likely still has the task."""
        record = self._records[key]
        record.attempt, record.last = max(record.attempt, attempt), client
        if record.state is State.WAITING:
            record.move("lease")
        if record.state is State.LEASED:
            record.lease(client, attempt, now)

    def remember(self, key: str, client: str, attempt: int, failure: str | None, *, died: bool) -> None:
        """End such a lease; with a failure, if it failed."""
        record = self._records[key]
        record.attempt, record.last = max(record.attempt, attempt), client
        if failure is not None:
            self._note(record, client, failure, died=died)
            if record.has_failed_too_often and record.state is State.WAITING:
                record.move("give up")

    # --- leases -------------------------------------------------------------------------------------------------

    def assign(
        self, clients: Iterable[str], now: float, expected: Iterable[str] = (), *, copies: bool = True
    ) -> list[Assignment]:
        """Lease waiting tasks to idle clients.

        A client gets what it had last, then its own shard. Another's shard goes to a client that has nothing else to
        do, when its owner is absent or could not train it; a task never goes back to a client where it failed while
        another client is connected. When nothing waits, a straggler's task is copied.

        Args:
            clients: the names of all connected clients, in a stable order.
            now: seconds on the monotonic clock.
            expected: those that are expected to return: their tasks are not reassigned.
            copies: whether stragglers' tasks are copied.
        """
        connected, waited_for, holders = list(clients), set(expected), self.holders()
        waiting = {record.task.key: record for record in self.open if record.state is State.WAITING}
        late = self._late(now) if copies else []
        assignments = self._assign_groups(waiting, [name for name in connected if name not in holders], now)
        holders |= {assignment.client for assignment in assignments}
        # This is called at every event of a run, so idle clients are only determined if a task waits.
        for name in [name for name in connected if name not in holders] if waiting or late else ():
            record, event = self._next_for(name, waiting.values(), connected, waited_for), "lease"
            if record is None:
                record, event = next((each for each in late if self._may_copy(each, name)), None), "copy"
            if record is not None:
                waiting.pop(record.task.key, None)
                assignments.append(self._lease(record, name, event, now))
        return assignments

    @staticmethod
    def _lease(record: Record, name: str, event: str, now: float) -> Assignment:
        record.move(event)
        record.attempt += 1
        record.last = name
        record.lease(name, record.attempt, now)
        return Assignment(record.task, record.owner, name, record.attempt)

    def _assign_groups(self, waiting: dict[str, Record], idle: list[str], now: float) -> list[Assignment]:
        """Lease the waiting tasks of a group if there is an idle client for each: its owner if that is idle.

        Takes tasks of groups out of `waiting`. None of a group is leased while others wait: see `torn`.
        """
        groups: dict[str, list[Record]] = {}
        for record in [record for record in waiting.values() if record.task.group]:
            groups.setdefault(record.task.group, []).append(waiting.pop(record.task.key))
        assignments = []
        for records in groups.values():
            free = [name for name in idle if name not in {record.owner for record in records}]
            names = [r.owner if r.owner in idle else free.pop(0) if free and not r.bound else None for r in records]
            if None not in names:
                for record, name in zip(records, names, strict=True):
                    assert name is not None
                    idle.remove(name)
                    assignments.append(self._lease(record, name, "lease", now))
        return assignments

    def torn(self) -> list[tuple[Record, str]]:
        """Return the leases of groups in which another task waits: all tasks of a group restart together."""
        waiting = {record.task.group for record in self.open if record.state is State.WAITING} - {""}
        return [(record, client) for record in self.open if record.task.group in waiting for client in record.leases]

    def _next_for(
        self, name: str, waiting: Iterable[Record], connected: Sequence[str], expected: Set[str]
    ) -> Record | None:
        waiting = [record for record in waiting if self._may(record, name, connected)]
        if not waiting:
            return None
        had = [r for r in waiting if r.last == name and not (r.bound and r.owner != name)]
        own = [r for r in waiting if r.owner == name]
        here = expected | set(connected)
        others = [r for r in waiting if not r.bound and (r.owner not in here or r.owner in r.failed_at)]
        return next(iter(had + own + others), None)

    @staticmethod
    def _may(record: Record, name: str, connected: Sequence[str]) -> bool:
        # A bound task returns to the client at which it failed: there is no other.
        return record.bound or name not in record.failed_at or all(other in record.failed_at for other in connected)

    def _late(self, now: float) -> list[Record]:
        """Return the tasks for redundant leases: those that take too long, the oldest first."""
        since = [
            (lease.first, record)
            for record in self.open
            if record.state is State.LEASED and not record.bound and not record.task.group and len(record.leases) == 1
            for lease in record.leases.values()
            if now - lease.first > LEAST_SECONDS
        ]
        if not since or not self._durations:
            return []
        limit = STRAGGLES * median(self._durations)
        return [record for began, record in sorted(since, key=lambda each: each[0]) if now - began > limit]

    @staticmethod
    def _may_copy(record: Record, name: str) -> bool:
        return len(record.leases) == 1 and name not in record.failed_at

    def stalled(
        self, now: float, advanced: Mapping[str, float], delivered: Mapping[str, float], limit: float
    ) -> list[tuple[Record, str]]:
        """Return the tasks without progress for this many seconds, with their clients.

        For an offered result, only its delivery counts: reports of its client about the work are ignored.

        Args:
            advanced: when each client's work last made progress, on the monotonic clock.
            delivered: when the delivery of a result of each client last made progress.
        """
        late = []
        for record in self.open:
            for client, lease in record.leases.items():
                if client not in record.returning and now - max(lease.since, advanced.get(client, lease.since)) > limit:
                    late.append((record, client))
            for client, since in record.returning.items():
                if now - max(since, delivered.get(client, since)) > limit:
                    late.append((record, client))
        return late

    def renew(self, now: float) -> None:
        """Reset the time of every lease, after the server was suspended."""
        for record in self.open:
            for lease in record.leases.values():
                lease.since = lease.first = now
            record.begun = dict.fromkeys(record.begun, now)
            record.returning = dict.fromkeys(record.returning, now)

    # --- ends of leases -------------------------------------------------------------------------------------------

    def lose(self, client: str) -> Task | None:
        """Release the task of an absent client, unless another client also has it. Return the task that waits."""
        lost = None
        for record in self.open:
            if (client in record.leases or client in record.returning) and record.drop(client, "lose"):
                lost = record.task
        return lost

    def offer(self, key: str, client: str, now: float) -> None:
        """Record that a client delivers a result. Offering it again gives it no more time."""
        record = self._records[key]
        if record.state in (State.WAITING, State.LEASED):
            record.move("return")
        if record.state is State.RETURNED:
            record.returning.setdefault(client, now)

    def give_up(self, owner: str, reason: str) -> list[Task]:
        """Give up the tasks that only this client can do; return them."""
        given_up = [record for record in self.open if record.bound and record.owner == owner]
        for record in given_up:
            record.failures.append(reason)
            record.is_late = True
            record.move("give up")
        return [record.task for record in given_up]

    def leave_out(self, key: str, reason: str, *, late: bool = False) -> list[str]:
        """Leave out this task; return the clients that hold it. It was not given up before, nor committed.

        Args:
            late: whether it is left out because it took too long.
        """
        record = self._records[key]
        holders = list(record.leases)
        record.failures.append(reason)
        record.is_late = late
        record.move("give up")
        return holders

    def fail(self, key: str, client: str, error: str, *, died: bool = False) -> bool:
        """Record a failure of a task; return whether it is still being trained, or will be again.

        A report of a client that no longer holds the task does not count: only its result is not waited for any more.

        Args:
            died: it took the trainer with it.
        """
        record = self._records[key]
        if record.fails_with(client):
            self._note(record, client, error, died=died)
            record.begun.pop(client, None)  # it restarts
        elif client not in record.returning:
            return record.state is not State.GIVEN_UP
        record.drop(client, "give up" if record.has_failed_too_often else "retry")
        return record.state is not State.GIVEN_UP

    @staticmethod
    def _note(record: Record, client: str, error: str, *, died: bool) -> None:
        record.failures.append(error)
        record.deaths += died
        record.failed_at.add(client)

    def commit(self, key: str, client: str = "", now: float = 0.0, trained: TaskSettings = AS_IN_JOB) -> bool:
        """Record that the result of a task is on disk; return False for a duplicate, which has no effect.

        Args:
            client: whose result it is.
            trained: see `Record.trained`.
        """
        record = self._records[key]
        if record.state is State.COMMITTED:
            return False
        if (began := record.begun.get(client)) is not None:
            self._durations.append(now - began)
        record.committed_by, record.trained = client, trained
        record.move("commit")
        return True
