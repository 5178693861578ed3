"""The tasks of a run and who has them. Pure: events in, leases out; no I/O, and time is passed in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum
from statistics import median

from lanfit.errors import LocalProtocolError
from lanfit_server.methods import Task

#: A task that could not be trained this often is given up.
MOST_FAILURES = 2
#: One that killed so many trainers is given up: it would kill the next one, too.
MOST_DEATHS = 3
#: A task that takes so many times the median is also given to a client that has nothing to do.
STRAGGLES = 2.0
#: But not before it has taken so many seconds: the first task of a client waits for its backend, too.
LEAST_SECONDS = 60.0


class State(StrEnum):
    """Where a task is on its way."""

    WAITING = "waiting"
    LEASED = "leased"
    RETURNED = "returned"
    COMMITTED = "committed"
    GIVEN_UP = "given up"


#: event → (the states it may happen in, the state it leads to, what it means). docs/failures.md is drawn from it.
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
        "it failed too often, nobody else has its rows, or its round went on without it",
    ),
    # A result may come back late, from a client that was thought lost: it counts all the same.
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
    """Seconds on the monotonic clock; begins anew when the server itself stood still."""
    first: float
    """When the client had this task first: a client that was lost and came back goes on with it."""


@dataclass
class Record:
    """One task: its owner (the client that its shard was dealt to), its state, and who holds it."""

    task: Task
    owner: str
    bound: bool = False
    """Nobody but the owner can do it: the rows are its own."""
    state: State = State.WAITING
    leases: dict[str, Lease] = field(default_factory=dict)
    """By client; more than one when a straggler's task was copied."""
    returning: set[str] = field(default_factory=set)
    """Those who offered a result that is not on disk yet."""
    attempt: int = 0
    last: str = ""
    """Who had it last: it may still be training it."""
    failures: list[str] = field(default_factory=list)
    deaths: int = 0
    failed_at: set[str] = field(default_factory=set)
    begun: dict[str, float] = field(default_factory=dict)
    """By client: when it had the task first, on the monotonic clock."""

    def lease(self, client: str, attempt: int, now: float) -> None:
        """The client has it from now on."""
        self.leases[client] = Lease(attempt, now, self.begun.setdefault(client, now))

    @property
    def holder(self) -> str | None:
        """The client that has had it longest."""
        return next(iter(self.leases), None)

    def fails_with(self, client: str) -> bool:
        """Whether a failure of this client is one of the task: it has it, or had it last and nobody has it now.

        Who had it before may still fail at it: that says nothing about those who train it now.
        """
        return client in self.leases or (not self.leases and client in self.returning and client == self.last)

    def others(self, client: str) -> set[str]:
        """Who else may still bring a result."""
        return {*self.leases, *self.returning} - {client}

    @property
    def is_hopeless(self) -> bool:
        return self.deaths >= MOST_DEATHS or len(self.failures) - self.deaths >= MOST_FAILURES

    def move(self, event: str) -> None:
        """Follow the table.

        Raises:
            LocalProtocolError: the event can't happen in this state.
        """
        allowed, target, _ = TRANSITIONS[event]
        if self.state not in allowed:
            raise LocalProtocolError(f"task {self.task.key} is {self.state}: it can't {event}")
        self.state = target
        if target in (State.COMMITTED, State.GIVEN_UP):
            self.leases.clear()
            self.returning.clear()

    def drop(self, client: str, event: str) -> bool:
        """The client has it no more; when nobody else has it either, that is this event. Returns whether it is."""
        self.leases.pop(client, None)
        self.returning.discard(client)
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
    """All tasks of a run, in task order."""

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self._open: dict[str, Record] = {}
        """Those that may still come back: what is done is not looked at again for every event of a long run."""
        self._took: list[float] = []

    def add(self, task: Task, owner: str, *, bound: bool = False) -> None:
        self._records[task.key] = self._open[task.key] = Record(task, owner, bound)

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def records(self) -> Sequence[Record]:
        return list(self._records.values())

    @property
    def open(self) -> list[Record]:
        """Tasks that may still come back."""
        for key in [key for key, r in self._open.items() if r.state in (State.COMMITTED, State.GIVEN_UP)]:
            del self._open[key]
        return list(self._open.values())

    def held_by(self, client: str) -> Record | None:
        return next((record for record in self.open if client in record.leases), None)

    def holders(self) -> set[str]:
        """Everybody who has a task."""
        return {client for record in self.open for client in record.leases}

    # --- what an earlier server wrote down ----------------------------------------------------------------------

    def restore(self, key: str, client: str, attempt: int, now: float) -> None:
        """An earlier server leased the task to a client, which most likely still has it."""
        record = self._records[key]
        record.attempt, record.last = max(record.attempt, attempt), client
        if record.state is State.WAITING:
            record.move("lease")
        if record.state is State.LEASED:
            record.lease(client, attempt, now)

    def remember(self, key: str, client: str, attempt: int, failure: str | None, *, died: bool) -> None:
        """Such a lease has ended; with a failure, if it failed."""
        record = self._records[key]
        record.attempt, record.last = max(record.attempt, attempt), client
        if failure is not None:
            self._note(record, client, failure, died=died)
            if record.is_hopeless and record.state is State.WAITING:
                record.move("give up")

    # --- leases -------------------------------------------------------------------------------------------------

    def assign(
        self, clients: Iterable[str], now: float, expected: Iterable[str] = (), *, copies: bool = True
    ) -> list[Assignment]:
        """Lease waiting tasks to idle clients.

        A client gets what it had last, then its own shard. Another's shard goes to a client that has nothing else to
        do, when its owner is away or could not train it; a task never goes back to where it failed while somebody
        else is there. When nothing waits, a straggler's task is copied.

        Args:
            clients: the names of all connected clients, in a stable order.
            now: seconds on the monotonic clock.
            expected: those that are thought to be on their way back: nobody takes over what is theirs.
            copies: whether stragglers' tasks are copied.
        """
        connected, waited_for, holders = list(clients), set(expected), self.holders()
        waiting = {record.task.key: record for record in self.open if record.state is State.WAITING}
        late = self._late(now) if copies else []
        assignments = []
        # This is called for every event of a run: who is idle is only looked at when there is something to give.
        for name in [name for name in connected if name not in holders] if waiting or late else ():
            record, event = self._next_for(name, waiting.values(), connected, waited_for), "lease"
            if record is None:
                record, event = next((each for each in late if self._may_copy(each, name)), None), "copy"
            if record is not None:
                record.move(event)
                record.attempt += 1
                record.last = name
                record.lease(name, record.attempt, now)
                waiting.pop(record.task.key, None)
                assignments.append(Assignment(record.task, record.owner, name, record.attempt))
        return assignments

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
        # What is bound comes back to where it failed: there is nobody else.
        return record.bound or name not in record.failed_at or all(other in record.failed_at for other in connected)

    def _late(self, now: float) -> list[Record]:
        """The tasks that idle clients should try, too: those that take too long, the oldest first."""
        since = [
            (lease.first, record)
            for record in self.open
            if record.state is State.LEASED and not record.bound and len(record.leases) == 1
            for lease in record.leases.values()
            if now - lease.first > LEAST_SECONDS
        ]
        if not since or not self._took:
            return []
        limit = STRAGGLES * median(self._took)
        return [record for began, record in sorted(since, key=lambda each: each[0]) if now - began > limit]

    @staticmethod
    def _may_copy(record: Record, name: str) -> bool:
        return len(record.leases) == 1 and name not in record.failed_at

    def stalled(self, now: float, advanced: Mapping[str, float], limit: float) -> list[tuple[Record, str]]:
        """Leases that have not got on for so many seconds, and whose they are.

        Args:
            advanced: when each client last got on, on the monotonic clock.
        """
        return [
            (record, client)
            for record in self.open
            for client, lease in record.leases.items()
            if client not in record.returning and now - max(lease.since, advanced.get(client, lease.since)) > limit
        ]

    def renew(self, now: float) -> None:
        """The server stood still: every lease gets its full time again."""
        for record in self.open:
            for lease in record.leases.values():
                lease.since = lease.first = now
            record.begun = dict.fromkeys(record.begun, now)

    # --- how they end -------------------------------------------------------------------------------------------

    def lose(self, client: str) -> Task | None:
        """The client is gone: what it held waits again, unless another has it too. Returns the task that waits."""
        lost = None
        for record in self.open:
            if (client in record.leases or client in record.returning) and record.drop(client, "lose"):
                lost = record.task
        return lost

    def offer(self, key: str, client: str) -> None:
        """The client has a result, which is on its way."""
        record = self._records[key]
        if record.state in (State.WAITING, State.LEASED):
            record.move("return")
        if record.state is State.RETURNED:
            record.returning.add(client)

    def give_up(self, owner: str, reason: str) -> list[Task]:
        """Wait no longer for the tasks that only this client can do; returns them."""
        given_up = [record for record in self.open if record.bound and record.owner == owner]
        for record in given_up:
            record.failures.append(reason)
            record.move("give up")
        return [record.task for record in given_up]

    def leave_out(self, key: str, reason: str) -> list[str]:
        """Go on without this task; returns who has it. It was not given up before, nor committed."""
        record = self._records[key]
        holders = list(record.leases)
        record.failures.append(reason)
        record.move("give up")
        return holders

    def fail(self, key: str, client: str, error: str, *, died: bool = False) -> bool:
        """The task failed at this client; returns whether it is still trained, or will be again.

        A report of a client that no longer holds the task does not count: only its result is not waited for any more.

        Args:
            died: it took the trainer with it.
        """
        record = self._records[key]
        if record.fails_with(client):
            self._note(record, client, error, died=died)
            record.begun.pop(client, None)  # it begins anew
        elif client not in record.returning:
            return record.state is not State.GIVEN_UP
        record.drop(client, "give up" if record.is_hopeless else "retry")
        return record.state is not State.GIVEN_UP

    @staticmethod
    def _note(record: Record, client: str, error: str, *, died: bool) -> None:
        record.failures.append(error)
        record.deaths += died
        record.failed_at.add(client)

    def commit(self, key: str, client: str = "", now: float = 0.0) -> bool:
        """The task's result is on disk; returns False for a repeated one, which changes nothing.

        Args:
            client: whose result it is.
        """
        record = self._records[key]
        if record.state is State.COMMITTED:
            return False
        if (began := record.begun.get(client)) is not None:
            self._took.append(now - began)
        record.move("commit")
        return True
