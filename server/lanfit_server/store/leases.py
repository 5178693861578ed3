"""Which client may report what about a task: one rule for results, failures, epochs, logs and metrics. Pure.

A client is identified by its id, never its name: clients choose names, and another server may assign them again. Every
lease ever given is in the run's ledger, with the ids of the run's clients, so the rule is the same for the current run,
for one that an earlier server started, and for one whose results are only collected.

- A **result** counts from a client that holds, or held, the attempt that it names. Held is enough: a client that lost
  its link may finish after its task went to another one, and the first result wins, as training gives the same bits.
- An **epoch** and a **failure** are accepted from a client that holds, or held, the task in any attempt; whether they
  change anything is up to the table of tasks, which knows the current holder (tasks.py).
- A **line for a log** is accepted from a client that holds, or held, any task of the run.
- An **evaluation**, or its failure, is accepted from a client that has a request for it.

Everything else is a claim about another client's work. It is rejected, has no effect, and is reported to the operator
once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import msgspec


class StoredLease(msgspec.Struct, frozen=True):
    """A task that was given to a client, and how the lease ended."""

    task: str
    attempt: int
    client: str
    ended: str | None
    """lost, failed, died, or not needed; None while it lasts."""
    failure: str | None
    """The error, if it failed or died."""


def holder_of(names: Collection[str], leases: Iterable[StoredLease], attempt: int | None = None) -> str | None:
    """Return the name under which a client holds, or held, a task; None if it never did.

    Args:
        names: the names of the run's clients, by id.
        leases: of the task.
        attempt: the attempt it must be; None for any.
    """
    held = (lease.client for lease in leases if attempt is None or lease.attempt == attempt)
    return next((client for client in held if client in names), None)


@dataclass
class Asked:
    """The evaluations that were requested from clients, by their ids."""

    _of: dict[bytes, set[tuple[str, str]]] = field(default_factory=dict)

    def ask(self, client_id: bytes, run: str, task: str) -> None:
        """Record that the client is asked to evaluate this."""
        self._of.setdefault(client_id, set()).add((run, task))

    def answered(self, client_id: bytes, run: str, task: str) -> bool:
        """Record the answer; return whether it was requested and not answered yet."""
        asked = self._of.get(client_id, set())
        was_asked = (run, task) in asked
        asked.discard((run, task))
        return was_asked

    def end_run(self, run: str) -> None:
        """Forget all requests of this run."""
        for asked in self._of.values():
            asked.difference_update([each for each in asked if each[0] == run])


#: The maximum number of claims about others' work that are recorded in events.jsonl per client.
MOST_NOTED = 20


@dataclass
class Claims:
    """The claims of clients about work that is not theirs: each claim is recorded once, each client reported once."""

    _reported: set[bytes] = field(default_factory=set)
    _noted: dict[bytes, set[tuple[str, str, str]]] = field(default_factory=dict)

    def is_new(self, client_id: bytes, run: str, task: str, what: str) -> bool:
        """Return whether to record this: for the first time, and not one of very many of this client."""
        noted = self._noted.setdefault(client_id, set())
        if (run, task, what) in noted or len(noted) >= MOST_NOTED:
            return False
        noted.add((run, task, what))
        return True

    def is_first(self, client_id: bytes) -> bool:
        """Return whether this is the first claim of this client, which is reported to the operator."""
        is_first = client_id not in self._reported
        self._reported.add(client_id)
        return is_first
