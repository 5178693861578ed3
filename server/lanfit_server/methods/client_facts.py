"""The part of the summary about each client: its model and its folds, trained by any client. Read-only."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.independent import Outcome
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.tasks import Record, State
from lanfit_server.store.ledger import StoredResult
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Bytes, ClientFacts, FoldFacts, all_seconds

#: Times of a client that every one of its results repeats.
ONCE = frozenset({"join", "import"})


def client_facts(
    run: OpenRun, stats: RunStats, outcome: Outcome, roster: Roster, now: float
) -> tuple[ClientFacts, ...]:
    """Return the facts of every client that owns a shard, in the order of the shards.

    Args:
        now: seconds on the monotonic clock.
    """
    shards: dict[int, list[Record]] = {}
    for record in stats.table.records():
        shards.setdefault(record.task.shard, []).append(record)
    return tuple(_facts(run, stats, outcome, roster, now, records) for records in shards.values())


def _facts(
    run: OpenRun, stats: RunStats, outcome: Outcome, roster: Roster, now: float, records: Sequence[Record]
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
    if (times := stats.times.get(trainer)) is not None:
        measured["send"] = times.sending
        measured["wait"] = times.waited(now)
    folds = tuple(_fold(run, stats, record, found[record.task.key]) for record in records if record.task.fold)
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
        metrics=stats.metrics.get(best.key, {}) if best else {},
        seconds=all_seconds(measured),
        bytes=Bytes(member.bytes_received, member.bytes_sent) if member else Bytes(0, 0),
        folds=folds,
        mean=mean,
        sd=sd,
        errors=tuple(error for record in records for error in record.failures),
        taken_over=taken_over(owner, [each.client for each in stored]),
    )


def taken_over(owner: str, trainers: Sequence[str]) -> dict[str, int]:
    """Return how many of a client's tasks other clients have trained, by name."""
    return dict(Counter(name for name in trainers if name != owner))


def _fold(run: OpenRun, stats: RunStats, record: Record, stored: StoredResult | None) -> FoldFacts:
    task = record.task
    model = run.model_file(f"{record.owner}{task.suffix}")
    return FoldFacts(
        fold=task.fold or 0,
        model=run.workspace.relative(model) if model.exists() else None,
        history=run.history(stored) if stored else {},
        best_epoch=stored.result.best_epoch if stored else None,
        scores=stored.result.scores if stored else {},
        metrics=stats.metrics.get(task.key, {}),
    )


def _seconds(stored: Sequence[StoredResult]) -> dict[str, float]:
    """Return the total times of all results."""
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
