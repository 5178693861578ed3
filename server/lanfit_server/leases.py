"""Who may say what about a task: the one rule for results, failures, epochs, logs and scores. Pure.

A client is its id, never its name: names are chosen by clients, and another server may give them anew. Every lease that
there ever was stands in the run's ledger, beside the ids of the clients of that run; so the rule is the same for the
run at hand, for one that an earlier server began, and for one whose results are only collected.

- A **result** counts from a client that holds, or held, the attempt that it names. Held is enough: a client that lost
  its link may finish after its task went to another one, and the first result wins, as training gives the same bits.
- An **epoch** and a **failure** are let in from a client that holds, or held, the task in any attempt; whether they
  change anything is up to the table of tasks, which knows who holds it now (tasks.py).
- A **line for a log** is let in from a client that holds, or held, any task of the run.
- A **score**, or that it failed, is let in from a client that was asked for it.

Everything else is a claim about somebody else's work. It is refused, changes nothing, and is told to the operator once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec


class StoredLease(msgspec.Struct, frozen=True):
    """A task that was given to a client, and how that ended."""

    task: str
    attempt: int
    client: str
    ended: str | None
    """lost, failed, died, or not needed; None while it lasts."""
    failure: str | None
    """What was wrong, if it failed or died."""


def holder_of(names: Collection[str], leases: Iterable[StoredLease], attempt: int | None = None) -> str | None:
    """Return the name under which a client holds, or held, a task; None if it never did.

    Args:
        names: what the client is called in the run, by its id.
        leases: of the task.
        attempt: which one it must be; None for any.
    """
    held = (lease.client for lease in leases if attempt is None or lease.attempt == attempt)
    return next((client for client in held if client in names), None)


@dataclass
class Asked:
    """Which scores were asked of which clients, by their ids."""

    _of: dict[bytes, set[tuple[str, str]]] = field(default_factory=dict)

    def ask(self, client_id: bytes, run: str, task: str) -> None:
        """The client is asked to score this."""
        self._of.setdefault(client_id, set()).add((run, task))

    def answered(self, client_id: bytes, run: str, task: str) -> bool:
        """The client answers; returns whether it was asked, and has not answered yet."""
        asked = self._of.get(client_id, set())
        was_asked = (run, task) in asked
        asked.discard((run, task))
        return was_asked

    def end_run(self, run: str) -> None:
        """Nothing is asked about this run any more."""
        for asked in self._of.values():
            asked.difference_update([each for each in asked if each[0] == run])


#: So many claims of one client about others' work are written into events.jsonl.
MOST_NOTED = 20


@dataclass
class Claims:
    """What clients claimed about work that is not theirs: each thing is noted once, each client is said once."""

    _said: set[bytes] = field(default_factory=set)
    _noted: dict[bytes, set[tuple[str, str, str]]] = field(default_factory=dict)

    def is_new(self, client_id: bytes, run: str, task: str, what: str) -> bool:
        """Return whether this is to be noted: for the first time, and not one of very many of this client."""
        noted = self._noted.setdefault(client_id, set())
        if (run, task, what) in noted or len(noted) >= MOST_NOTED:
            return False
        noted.add((run, task, what))
        return True

    def is_first(self, client_id: bytes) -> bool:
        """Return whether this is the first claim of this client: the operator is told."""
        is_first = client_id not in self._said
        self._said.add(client_id)
        return is_first
