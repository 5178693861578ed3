"""A round whose tasks are at the clients, and, once it is over, who took part in it. Decides nothing."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.wire.arrays import AnyArray
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.ledger import RoundClient, RoundRecord
from lanfit_server.methods import Task
from lanfit_server.methods.aggregation import drift
from lanfit_server.tasks import State


@dataclass
class OpenRound:
    """The round whose tasks are at the clients."""

    number: int
    tasks: Sequence[Task]
    away: Mapping[int, str]
    """Shards that take no part, and why."""
    began: float
    """On the monotonic clock; so is `ends`."""
    ends: float
    ledger_seconds: float
    added: int = 0
    """So many of the tasks are in the sum, or are left out of it."""
    extended: bool = False
    seconds: dict[str, float] = field(default_factory=dict)


class Participants:
    """Tells what each client did in a round.

    Args:
        owners: the client that each shard belongs to.
    """

    def __init__(self, run: OpenRun, course: Course, owners: Sequence[str]) -> None:
        self._run = run
        self._course = course
        self._owners = owners

    def of(self, round_: OpenRound, out: Mapping[str, str]) -> list[RoundClient]:
        """Everybody who was drawn, in the order of the shards.

        Args:
            out: tasks that came back and are left out all the same, and why.
        """
        found = [self._participant(task, out.get(task.key, "")) for task in round_.tasks]
        found += [
            RoundClient("", self._owners[shard], shard, self._rows(shard), left_out=why, absent=True)
            for shard, why in round_.away.items()
        ]
        return sorted(found, key=lambda client: client.shard)

    def _rows(self, shard: int) -> int:
        return self._run.record.rows[shard]

    def _participant(self, task: Task, out: str) -> RoundClient:
        record, stored = self._course.table[task.key], self._run.ledger.result(task.key)
        rows = self._rows(task.shard)
        if stored is None or record.state is not State.COMMITTED:
            why = record.failures[-1] if record.failures else "it did not come back"
            absent = task.key in self._course.too_late
            return RoundClient(task.key, record.owner, task.shard, rows, left_out=why, absent=absent)
        return RoundClient(
            task.key,
            record.owner,
            task.shard,
            rows,
            trainer=stored.client,
            left_out=out,
            history=self._run.history(stored),
            scores=stored.result.scores,
            seconds=stored.result.seconds,
            backend=stored.result.backend,
        )


def count(seconds: dict[str, float], name: str, began: float) -> None:
    """Add the time since `began`, on the performance counter."""
    seconds[name] = seconds.get(name, 0.0) + time.perf_counter() - began


def training(seconds: Mapping[str, float]) -> float:
    """What a client has computed: its steps, and what had to be compiled and validated for them."""
    return sum(seconds.get(name, 0.0) for name in ("compile", "train", "validate"))


def closed(round_: OpenRound, clients: Sequence[RoundClient], now: float, ledger_seconds: float) -> RoundRecord:
    """What is written down of a round that is over, at this time of the monotonic clock."""
    wall = now - round_.began
    slowest = max(training(client.seconds) for client in clients if not client.left_out)
    seconds = {
        **round_.seconds,
        "wall": wall,
        "overhead": max(0.0, wall - slowest),
        "ledger": ledger_seconds - round_.ledger_seconds,
    }
    return RoundRecord(round_.number, tuple(clients), seconds=seconds)


def with_drift(
    clients: Sequence[RoundClient],
    updates: Mapping[str, Mapping[str, AnyArray]],
    before: Mapping[str, AnyArray],
    aggregate: Mapping[str, AnyArray],
) -> tuple[RoundClient, ...]:
    """The clients of a round, with how far the updates of theirs went and where to."""
    found = []
    for client in clients:
        if client.task in updates:
            norm, cosine = drift(before, aggregate, updates[client.task])
            client = msgspec.structs.replace(client, norm=norm, cosine=cosine)
        found.append(client)
    return tuple(found)
