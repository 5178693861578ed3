"""The parts of the summary about rounds, and about the clients of a run with rounds. Read-only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from lanfit.training.metrics import as_keras, mean_figures
from lanfit.wire.figures import VALIDATION
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.client_facts import ONCE, taken_over
from lanfit_server.run.run_stats import RunStats
from lanfit_server.store.ledger import RoundClient, RoundRecord
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Bytes, ClientFacts, RoundFacts, all_seconds

#: The server's own work in a round, in seconds of its record.
_PARTS = ("aggregate", "evaluate", "checkpoint", "wait", "ledger")


def round_facts(run: OpenRun, records: Sequence[RoundRecord], model: Callable[[int], Path]) -> tuple[RoundFacts, ...]:
    """Return the facts of every round.

    Args:
        model: returns where the model of a round is, as long as it is kept.
    """
    return tuple(
        RoundFacts(
            round=record.number,
            clients=tuple(client.owner for client in _accepted(record)),
            seconds=round(record.seconds.get("wall", 0.0), 4),
            overhead_seconds=round(record.seconds.get("overhead", 0.0), 4),
            metrics=record.metrics,
            model=run.workspace.relative(path) if (path := model(record.number)).exists() else None,
            training=mean_figures([(client.rows, _last(client.history)) for client in _accepted(record)]),
            validation=validation_of(records, index),
            drift={
                client.owner: {"norm": client.norm, "cosine": client.cosine}
                for client in record.clients
                if client.norm is not None
            },
            left_out={client.owner: client.left_out for client in record.clients if client.left_out},
            parts={name: round(record.seconds.get(name, 0.0), 4) for name in _PARTS},
        )
        for index, record in enumerate(records)
    )


def logs_of_round(record: RoundRecord, evaluated: Mapping[str, float]) -> dict[str, float]:
    """Return a round's line as in Keras: the mean over the clients for training, the evaluation with the prefix
    `val_`."""
    training = mean_figures([(client.rows, _last(client.history)) for client in _accepted(record)])
    return as_logs(training, evaluated)


def evaluated(
    metrics: Mapping[str, float], validation: Mapping[str, Mapping[str, float]], samples: Mapping[str, int]
) -> dict[str, float]:
    """Return the metrics of a round's evaluation; without one, the mean of the clients' metrics on their validation
    rows.

    Args:
        samples: the rows of each client, by which the mean is weighted.
    """
    return dict(metrics) or mean_figures([(samples[name], figures) for name, figures in validation.items()])


def as_logs(training: Mapping[str, float], evaluated: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics of clients' training, without their own validation, and those of an evaluation."""
    trained = {name: value for name, value in training.items() if not name.startswith(VALIDATION)}
    return {**trained, **{f"{VALIDATION}{name}": value for name, value in as_keras(evaluated).items()}}


def _accepted(record: RoundRecord) -> list[RoundClient]:
    return [client for client in record.clients if not client.left_out]


def _last(history: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: values[-1] for name, values in history.items() if values}


def validation_of(records: Sequence[RoundRecord], index: int) -> dict[str, dict[str, float]]:
    """Return by client the metrics of a round's new weights on its validation rows.

    They were requested, or clients of the next round have measured them before training.
    """
    if records[index].validation or index + 1 == len(records):
        return records[index].validation
    return {client.owner: client.scores for client in records[index + 1].clients if client.scores}


def client_facts_of_rounds(
    run: OpenRun,
    records: Sequence[RoundRecord],
    stats: RunStats,
    owners: Sequence[str],
    roster: Roster,
    now: float,
) -> tuple[ClientFacts, ...]:
    """Return the facts of every client that owns a shard, in the order of the shards.

    Args:
        now: seconds on the monotonic clock.
    """
    members = {member.name: member for member in roster.members()}
    facts = []
    for shard, owner in enumerate(owners):
        parts = [client for record in records for client in record.clients if client.shard == shard]
        done = [client for client in parts if not client.left_out]
        member = members.get(owner)
        seconds = _seconds(done)
        if (times := stats.times.get(owner)) is not None:
            seconds["send"], seconds["wait"] = times.sending, times.waited(now)
        facts.append(
            ClientFacts(
                name=owner,
                backend=next(
                    (part.backend for part in reversed(done) if part.backend), member.backend if member else ""
                ),
                device=member.device if member else "",
                threads=member.threads if member else 0,
                samples=run.record.samples[shard],
                tasks=len(done),
                status="done" if done and not (parts and parts[-1].left_out) else "partial" if done else "idle",
                model=None,
                history=_joined([client.history for client in done]),
                best_epoch=None,
                metrics={},
                seconds=all_seconds(seconds),
                bytes=Bytes(member.bytes_received, member.bytes_sent) if member else Bytes(0, 0),
                errors=tuple(dict.fromkeys(client.left_out for client in parts if client.left_out)),
                taken_over=taken_over(owner, [client.trainer or owner for client in done]),
            )
        )
    return tuple(facts)


def _joined(histories: Sequence[Mapping[str, Sequence[float]]]) -> dict[str, list[float]]:
    """Return one history concatenated from many."""
    names = histories[0] if histories else ()
    return {name: [value for history in histories for value in history.get(name, ())] for name in names}


def _seconds(clients: Sequence[RoundClient]) -> dict[str, float]:
    total: dict[str, float] = {}
    for client in clients:
        for name, seconds in client.seconds.items():
            total[name] = max(total.get(name, 0.0), seconds) if name in ONCE else total.get(name, 0.0) + seconds
    return total
