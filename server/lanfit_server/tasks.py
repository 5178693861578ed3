"""The tasks of a run and who has them. Pure: events in, leases out; no I/O, no clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

from lanfit.errors import LocalProtocolError
from lanfit_server.methods import Task

#: A task that could not be trained this often is given up.
MOST_FAILURES = 2


class State(StrEnum):
    """Where a task is on its way."""

    WAITING = "waiting"
    LEASED = "leased"
    COMMITTED = "committed"
    GIVEN_UP = "given up"


#: event → (the states it may happen in, the state it leads to)
TRANSITIONS: Mapping[str, tuple[frozenset[State], State]] = {
    "lease": (frozenset({State.WAITING}), State.LEASED),
    "lose": (frozenset({State.LEASED}), State.WAITING),
    "fail": (frozenset({State.LEASED}), State.WAITING),
    "give up": (frozenset({State.LEASED, State.WAITING}), State.GIVEN_UP),
    # A result may come back late, from a client that was thought lost: it counts all the same.
    "commit": (frozenset({State.WAITING, State.LEASED, State.GIVEN_UP}), State.COMMITTED),
}


@dataclass
class Record:
    """One task: its owner (the client that its shard was dealt to), its state, and who holds it."""

    task: Task
    owner: str
    bound: bool = False
    """Nobody but the owner can do it: the rows are its own."""
    state: State = State.WAITING
    holder: str | None = None
    attempt: int = 0
    failures: list[str] = field(default_factory=list)
    failed_at: set[str] = field(default_factory=set)

    def move(self, event: str) -> None:
        """Follow the table.

        Raises:
            LocalProtocolError: the event can't happen in this state.
        """
        allowed, target = TRANSITIONS[event]
        if self.state not in allowed:
            raise LocalProtocolError(f"task {self.task.key} is {self.state}: it can't {event}")
        self.state = target
        if target is not State.LEASED:
            self.holder = None


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

    def add(self, task: Task, owner: str, *, bound: bool = False) -> None:
        self._records[task.key] = Record(task, owner, bound)

    def __getitem__(self, key: str) -> Record:
        return self._records[key]

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def records(self) -> Sequence[Record]:
        return list(self._records.values())

    @property
    def open(self) -> list[Record]:
        """Tasks that may still come back."""
        return [record for record in self._records.values() if record.state in (State.WAITING, State.LEASED)]

    def held_by(self, client: str) -> Record | None:
        return next((r for r in self._records.values() if r.state is State.LEASED and r.holder == client), None)

    def assign(self, clients: Iterable[str], expected: Iterable[str] = ()) -> list[Assignment]:
        """Lease waiting tasks to idle clients.

        A client gets its own shard first. Another's shard goes to a client that has nothing else to do, when its
        owner is away or could not train it; a task never goes back to where it failed while somebody else is there.

        Args:
            clients: the names of all connected clients, in a stable order.
            expected: those that are thought to be on their way back: nobody takes over what is theirs.
        """
        connected, waited_for = list(clients), set(expected)
        idle = [name for name in connected if self.held_by(name) is None]
        assignments = []
        for name in idle:
            record = self._next_for(name, connected, waited_for)
            if record is not None:
                record.move("lease")
                record.holder = name
                record.attempt += 1
                assignments.append(Assignment(record.task, record.owner, name, record.attempt))
        return assignments

    def _next_for(self, name: str, connected: Sequence[str], expected: Set[str]) -> Record | None:
        waiting = [r for r in self._records.values() if r.state is State.WAITING and self._may(r, name, connected)]
        own = [r for r in waiting if r.owner == name]
        here = expected | set(connected)
        others = [r for r in waiting if not r.bound and (r.owner not in here or r.owner in r.failed_at)]
        return next(iter(own + others), None)

    @staticmethod
    def _may(record: Record, name: str, connected: Sequence[str]) -> bool:
        # What is bound comes back to where it failed: there is nobody else.
        return record.bound or name not in record.failed_at or all(other in record.failed_at for other in connected)

    def lose(self, client: str) -> Task | None:
        """The client is gone: what it held waits again. Returns that task."""
        record = self.held_by(client)
        if record is None:
            return None
        record.move("lose")
        return record.task

    def give_up(self, owner: str, reason: str) -> list[Task]:
        """Wait no longer for the tasks that only this client can do; returns them."""
        given_up = [record for record in self.open if record.bound and record.owner == owner]
        for record in given_up:
            record.failures.append(reason)
            record.move("give up")
        return [record.task for record in given_up]

    def fail(self, key: str, client: str, error: str) -> bool:
        """The task failed at this client; returns whether it is tried again.

        A report about a task that the client no longer holds changes nothing.
        """
        record = self._records[key]
        if record.holder != client:
            return record.state in (State.WAITING, State.LEASED)
        record.failures.append(error)
        record.failed_at.add(client)
        record.move("fail" if len(record.failures) < MOST_FAILURES else "give up")
        return record.state is State.WAITING

    def commit(self, key: str) -> bool:
        """The task's result is on disk; returns False for a repeated one, which changes nothing."""
        record = self._records[key]
        if record.state is State.COMMITTED:
            return False
        record.move("commit")
        return True
