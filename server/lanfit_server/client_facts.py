"""What the summary says about each client: its model and its folds, whoever trained them. Reads; changes nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.ledger import StoredResult
from lanfit_server.methods import Outcome
from lanfit_server.roster import Roster
from lanfit_server.summary import Bytes, ClientFacts, FoldFacts, all_seconds
from lanfit_server.tasks import Record, State

#: Parts of a client's time that each of its results tells again.
ONCE = frozenset({"join", "import"})


def client_facts(run: OpenRun, course: Course, outcome: Outcome, roster: Roster, now: float) -> tuple[ClientFacts, ...]:
    """The facts of every client that a shard was dealt to, in the order of the shards.

    Args:
        now: seconds on the monotonic clock.
    """
    shards: dict[int, list[Record]] = {}
    for record in course.table.records():
        shards.setdefault(record.task.shard, []).append(record)
    return tuple(_facts(run, course, outcome, roster, now, records) for records in shards.values())


def _facts(
    run: OpenRun, course: Course, outcome: Outcome, roster: Roster, now: float, records: Sequence[Record]
) -> ClientFacts:
    owner, shard = records[0].owner, records[0].task.shard
    found = {record.task.key: run.ledger.result(record.task.key) for record in records}
    stored = [each for each in found.values() if each is not None]
    best = outcome.by_shard.get(shard)
    chosen = found[best.key] if best else None
    result = chosen.result if chosen else None
    trainer = chosen.client if chosen else owner
    member = next((m for m in roster.members() if m.name == trainer), None)
    measured = _seconds(stored)
    if (times := course.times.get(trainer)) is not None:
        measured["send"] = times.sending
        measured["wait"] = times.waited(now)
    folds = tuple(_fold(run, course, record, found[record.task.key]) for record in records if record.task.fold)
    mean, sd = _mean_and_sd([fold.scores for fold in folds if fold.scores])
    model = run.model_file(owner)
    return ClientFacts(
        name=owner,
        backend=result.backend if result else member.backend if member else "",
        device=result.device if result else member.device if member else "",
        threads=result.threads if result else member.threads if member else 0,
        samples=run.record.samples[shard],
        tasks=len(stored),
        status=_status(records),
        model=run.workspace.relative(model) if model.exists() else None,
        history=run.history(chosen) if chosen else {},
        best_epoch=result.best_epoch if result else None,
        metrics=course.metrics.get(best.key, {}) if best else {},
        seconds=all_seconds(measured),
        bytes=Bytes(member.bytes_received, member.bytes_sent) if member else Bytes(0, 0),
        folds=folds,
        mean=mean,
        sd=sd,
        errors=tuple(error for record in records for error in record.failures),
        taken_over=taken_over(owner, [each.client for each in stored]),
    )


def taken_over(owner: str, trainers: Sequence[str]) -> dict[str, int]:
    """How many of a client's tasks others have trained, by their names."""
    return dict(Counter(name for name in trainers if name != owner))


def _fold(run: OpenRun, course: Course, record: Record, stored: StoredResult | None) -> FoldFacts:
    task = record.task
    model = run.model_file(f"{record.owner}{task.suffix}")
    return FoldFacts(
        fold=task.fold or 0,
        model=run.workspace.relative(model) if model.exists() else None,
        history=run.history(stored) if stored else {},
        best_epoch=stored.result.best_epoch if stored else None,
        scores=stored.result.scores if stored else {},
        metrics=course.metrics.get(task.key, {}),
    )


def _seconds(stored: Sequence[StoredResult]) -> dict[str, float]:
    """The parts of all results together."""
    total: dict[str, float] = {}
    for each in stored:
        for name, seconds in each.result.seconds.items():
            total[name] = max(total.get(name, 0.0), seconds) if name in ONCE else total.get(name, 0.0) + seconds
    return total


def _mean_and_sd(scores: Sequence[Mapping[str, float]]) -> tuple[dict[str, float], dict[str, float]]:
    names = scores[0] if scores else ()
    columns = {name: np.array([each[name] for each in scores if name in each]) for name in names}
    return (
        {name: float(values.mean()) for name, values in columns.items()},
        {name: float(values.std()) for name, values in columns.items()},
    )


def _status(records: Sequence[Record]) -> str:
    states = {record.state for record in records}
    if states == {State.COMMITTED}:
        return "done"
    return "failed" if states <= {State.COMMITTED, State.GIVEN_UP} else "interrupted"
