"""The end of a run in numbers: `summary.json`, and the few lines that are printed of it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from lanfit_server.store.ledger import RecordedLabels, RunRecord

#: The parts of a client's time, in chronological order; each is in `seconds`, 0 if it did not occur.
SECONDS = ("join", "receive", "import", "compile", "train", "validate", "send", "wait")

#: What clients measure of a task, in this order.
MEASURED = ("join", "receive", "import", "prepare", "compile", "train", "validate", "score")
#: The parts of a summary that contain only numbers.
_FIGURES = frozenset({"metrics", "scores", "mean", "sd", "history", "training", "validation", "seconds"})
#: No part of a task takes longer, in seconds.
MOST_SECONDS = 1e9


class ModelFacts(msgspec.Struct, frozen=True):
    file: str
    parameters: int


class DataFacts(msgspec.Struct, frozen=True):
    """Rows by use; `labels` are the class names, null if labels are integers."""

    source: str
    samples: int
    train: int
    validation: int
    test: int
    normalizer: str
    labels: RecordedLabels


class Bytes(msgspec.Struct, frozen=True):
    """As the client sees them."""

    received: int
    sent: int


class FoldFacts(msgspec.Struct, frozen=True):
    """One fold of a client's rows, and its model."""

    fold: int
    """From 1."""
    model: str | None
    history: dict[str, list[float]]
    best_epoch: int | None
    scores: dict[str, float]
    """On the held-out rows of the fold."""
    metrics: dict[str, float]
    """On the server's test rows."""


class ClientFacts(msgspec.Struct, frozen=True):
    """One client and its model; `samples` are the rows of its shard, including validation rows."""

    name: str
    backend: str
    device: str
    threads: int
    samples: int
    tasks: int
    status: str
    model: str | None
    history: dict[str, list[float]]
    best_epoch: int | None
    metrics: dict[str, float]
    seconds: dict[str, float]
    bytes: Bytes
    folds: tuple[FoldFacts, ...] = ()
    mean: dict[str, float] = {}
    """Of the folds' metrics; `sd` is their population standard deviation, as computed by `numpy.std`."""
    sd: dict[str, float] = {}
    errors: tuple[str, ...] = ()
    taken_over: dict[str, int] = {}
    """How many of its tasks other clients have trained, by name."""


class MergedFacts(msgspec.Struct, frozen=True):
    """A model merged from the clients' models: `average` of their weights, or `ensemble` of their outputs."""

    name: str
    model: str
    metrics: dict[str, float]


class RoundFacts(msgspec.Struct, frozen=True):
    """One round: its participants, its times, and the metrics of its new weights."""

    round: int
    """From 1."""
    clients: tuple[str, ...]
    """The clients whose updates count."""
    seconds: float
    overhead_seconds: float
    """The time of the round beyond the training of its slowest client."""
    metrics: dict[str, float]
    model: str | None
    training: dict[str, float]
    """Metrics of the clients in their last local epoch, the mean weighted by their training rows."""
    validation: dict[str, dict[str, float]]
    """By client: metrics of the new weights on its validation rows."""
    drift: dict[str, dict[str, float | None]]
    """By client: `norm` of its update, and its `cosine` similarity to the aggregated update."""
    left_out: dict[str, str]
    """By client: why the round continued without its update."""
    parts: dict[str, float]
    """Seconds of the server: aggregate; evaluate and checkpoint, which run in parallel with later rounds; wait, for
    those of earlier rounds; and ledger, which waits for the disk."""


class FinalFacts(msgspec.Struct, frozen=True):
    """The result: the file, whose model it is (null: that of all clients), and its metrics."""

    model: str
    client: str | None
    metrics: dict[str, float]
    round: int | None = None
    """The round of its weights, if there are rounds."""


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """`summary.json`."""

    run: str
    status: str
    method: str
    seed: int
    metrics_from: str
    model: ModelFacts
    data: DataFacts
    clients: tuple[ClientFacts, ...]
    clients_wanted: int | None = None
    """The requested number, if the run started with fewer; else null."""
    rounds: tuple[RoundFacts, ...] = ()
    final: FinalFacts | None
    merged: tuple[MergedFacts, ...] = ()
    seconds: dict[str, float]
    error: str | None = None

    def to_json(self) -> bytes:
        """Return indented JSON; a number that is not finite is null."""
        return msgspec.json.format(msgspec.json.encode(self), indent=2) + b"\n"


def data_facts(record: RunRecord, source: str) -> DataFacts:
    return DataFacts(
        source=source,
        samples=record.train + record.validation + record.test,
        train=record.train,
        validation=record.validation,
        test=record.test,
        normalizer=record.model.normalizer,
        labels=record.labels,
    )


def all_seconds(measured: Mapping[str, float]) -> dict[str, float]:
    """Return every part of a client's time, rounded to a tenth of a millisecond."""
    return {name: round(measured.get(name, 0.0), 4) for name in (*SECONDS, *sorted(set(measured) - set(SECONDS)))}


def known_seconds(reported: Mapping[str, float]) -> dict[str, float]:
    """Return the times that a client reports, rounded to a tenth of a millisecond; without impossible values."""
    return {name: round(reported[name], 4) for name in MEASURED if 0 <= reported.get(name, -1.0) <= MOST_SECONDS}


def read_summary(content: bytes) -> Summary:
    """Return the summary in the bytes of a `summary.json`."""
    return msgspec.convert(_numbers(json.loads(content)), Summary)


def _numbers(value: Any, where: str = "") -> Any:
    """Restore NaN, which JSON does not have, where numbers are expected."""
    if isinstance(value, dict):
        return {key: _numbers(each, where if where in _FIGURES else key) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each, where) for each in value]
    return math.nan if value is None and where in _FIGURES else value
