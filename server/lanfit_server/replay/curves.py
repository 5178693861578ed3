"""The curves of a run, by metric: training, validation and the global model are parts of one metric. Pure.

Histories and logs name their columns as Keras does: validation is its metric with `val_` in front. What shows them
takes them from here, so that validation can't pass for a metric of its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest

from lanfit.settings.changes import Changes
from lanfit.wire.figures import part_of
from lanfit_server.methods.federated.facts import as_logs, evaluated
from lanfit_server.store.summary import ClientFacts, RoundFacts

#: The parts of a metric.
TRAINING, VALIDATION, TEST = "training", "validation", "test"
#: Of a round: the global model, on the test rows; without any, the mean on the clients' validation rows.
GLOBAL = "global"
#: The metric of the learning rate, which Keras' histories have if a schedule changes it.
RATE = "learning_rate"
#: Beyond this the arithmetic of axes overflows.
LARGEST = 1e100

History = Mapping[str, Sequence[float]]
#: By metric and part, a number for each epoch or round; NaN where there is none.
Curves = dict[str, dict[str, list[float]]]


def by_metric(history: History) -> Curves:
    """Return the parts of each metric of a history: the loss first, the others in their order."""
    found: Curves = {}
    for name, values in history.items():
        metric, part = part_of(name)
        found.setdefault(metric, {})[part] = list(values)
    return _loss_first(found)


def histories_of(clients: Sequence[ClientFacts]) -> list[History]:
    """Return the histories of all trainings: of every fold, or of the single one of a client without folds."""
    found = [each.history for client in clients for each in (client.folds or (client,))]
    return [history for history in found if any(history.values())]


def mean_history(histories: Sequence[History]) -> dict[str, list[float]]:
    """Return the mean of each column in every epoch, over the trainings that have come so far and have a number."""
    mean = {}
    for name in dict.fromkeys(name for history in histories for name in history):
        columns = zip_longest(*(history[name] for history in histories if name in history), fillvalue=math.nan)
        mean[name] = [_mean([value for value in column if is_drawable(value)]) for column in columns]
    return mean


def is_drawable(value: float) -> bool:
    """Return whether a number can be part of a curve."""
    return abs(value) <= LARGEST


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan


def curves_of_rounds(rounds: Sequence[RoundFacts], clients: Sequence[ClientFacts]) -> Curves:
    """Return the curves of rounds: what the clients trained and validated in their last epoch, and the global model.

    Args:
        clients: those of the run, by whose rows means are weighted.
    """
    samples = {client.name: client.samples for client in clients}
    found: Curves = {}

    def put(place: int, metric: str, part: str, value: float) -> None:
        line = found.setdefault(metric, {}).setdefault(part, [math.nan] * len(rounds))
        line[place] = value

    for place, each in enumerate(rounds):
        for name, value in each.training.items():
            put(place, *part_of(name), value)
        for name, value in evaluated(each.metrics, each.validation, samples).items():
            put(place, part_of(name)[0], GLOBAL, value)
    return _loss_first(found)


def global_by_client(rounds: Sequence[RoundFacts], metric: str) -> list[list[float]]:
    """Return for each client a metric of the global model on its validation rows, by round."""
    clients = sorted({client for each in rounds for client in each.validation})
    found = [[each.validation.get(client, {}).get(metric, math.nan) for each in rounds] for client in clients]
    return [line for line in found if any(map(is_drawable, line))]


def _loss_first(curves: Curves) -> Curves:
    return dict(sorted(curves.items(), key=lambda item: item[0] != "loss"))


def points_of_round(figures: Mapping[str, float], logs: Mapping[str, float]) -> Iterator[tuple[str, str, float]]:
    """Yield metric, part and value of each point of a completed round.

    The global model has the part `test`, or `validation` if the server has no test rows.

    Args:
        figures: of the global model; those of clients' validation rows have `val_` in front.
        logs: the round in the form of Keras' `logs`.
    """
    measured = set()
    for name, value in figures.items():
        metric, part = part_of(name)
        measured.add(metric)
        yield metric, TEST if part == TRAINING else part, value
    for name, value in logs.items():
        metric, part = part_of(name)
        if part == TRAINING or metric not in measured:
            yield metric, part, value


def rate_of_round(number: int, rate: float | None, changes: Changes) -> float | None:
    """Return the learning rate of a round; None if it is not known.

    Args:
        rate: with which the run began.
        changes: those of the run.
    """
    return changes.of_round(number).learning_rate or rate


def points_of_facts(each: RoundFacts, clients: Sequence[ClientFacts]) -> Iterator[tuple[str, str, float]]:
    """Yield the same points from what the summary has of a round."""
    samples = {client.name: client.samples for client in clients}
    logs = as_logs(each.training, evaluated(each.metrics, each.validation, samples))
    yield from points_of_round(each.metrics, logs)
