"""The events of a run: one struct per kind.

The engine emits an event, and the shell passes it to the subscribers: the journal writes it to `events.jsonl`, the
operator's terminal and the Python API show it. An event holds facts; the subscriber that shows it makes the sentence.
`logs/README.md` documents the lines of `events.jsonl`, which are these structs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec


class RunEvent(msgspec.Struct, frozen=True, tag_field="event", tag="event", omit_defaults=True):
    """Something that has happened in a run."""


#: The file of a run that has a line for each of most events.
EVENTS = "events.jsonl"
#: Called with each event and the time on the server's monotonic clock, in seconds.
Subscriber = Callable[[RunEvent, float], None]


class RunBegan(RunEvent, tag="began", frozen=True):
    """The run has started, or was resumed."""

    run: str
    resumed: bool = False
    versions: dict[str, str] = {}
    """Of lanfit, Python, Keras and the system of the server."""


class RunEnded(RunEvent, tag="ended", frozen=True):
    """The run is over; `status` is done, partial, failed or interrupted."""

    status: str


class CutShort(RunEvent, tag="cut short", frozen=True):
    """The run ends earlier than the job specifies."""

    reason: str


class Commanded(RunEvent, tag="command", frozen=True):
    """The operator paused, resumed, stopped or changed the run, or stopped the client that is the `value`. A changed
    setting holds from `round` on, or for `tasks`, which no client had received, and for those `begun` from their next
    epoch on."""

    command: str
    value: str = ""
    round: int = 0
    tasks: tuple[str, ...] = ()
    begun: tuple[str, ...] = ()


class ServerStoodStill(RunEvent, tag="stood still", frozen=True):
    """The server was suspended for that many seconds."""

    seconds: float


# --- clients ----------------------------------------------------------------------------------------------------


class ShardAssigned(RunEvent, tag="dealt", frozen=True):
    """A shard (from 1) was assigned to a client."""

    shard: int
    client: str
    rows: int


class RowsCapped(RunEvent, tag="capped", frozen=True):
    """A client reported more rows than count (`--max-weight`)."""

    shard: int
    client: str
    rows: int
    counts: int


class ClientJoined(RunEvent, tag="joined", frozen=True):
    """A client takes part: it was connected when the run started, or has just joined."""

    client: str
    address: str
    backend: str
    came: bool = False
    """Whether it has just joined."""


class ClientLeft(RunEvent, tag="left", frozen=True):
    """The connection to a client has ended."""

    client: str
    reason: str
    lost: bool = False
    """Whether it ended without a goodbye."""
    expected: bool = False
    """Whether it is expected to reconnect, and keeps its task."""
    task: str = ""
    """The task that waits for another client."""
    deadline: float | None = None
    """Seconds that the run waits for it, because only it has its data."""


class ClientSilent(RunEvent, tag="silent", frozen=True):
    """A client has been silent for that many seconds; after `limit` it is lost."""

    client: str
    seconds: float
    limit: float


class ClientSeen(RunEvent, tag="heard", frozen=True):
    """A client is back after that many seconds of silence."""

    client: str
    seconds: float


class WaitingForClient(RunEvent, tag="waiting", frozen=True):
    """The run waits for a client that only has its data, `deadline` seconds more."""

    client: str
    deadline: float


class NoClient(RunEvent, tag="no client", frozen=True):
    """No client is connected; the shards of these clients are waiting."""

    clients: tuple[str, ...]


class ClaimRefused(RunEvent, tag="refused", frozen=True):
    """A client reported something about a task that was never assigned to it; `what` is the kind of message."""

    task: str
    client: str
    what: str


class LogFull(RunEvent, tag="log full", frozen=True):
    """A client has filled its client.log."""

    client: str


# --- tasks ------------------------------------------------------------------------------------------------------


class TaskLeased(RunEvent, tag="leased", frozen=True):
    """A task was leased to a client."""

    task: str
    client: str
    attempt: int
    owner: str = ""
    """The client that the shard belongs to."""
    fold: int = 0
    round: int = 0
    others: tuple[str, ...] = ()
    """The other clients that train it."""


class EpochCompleted(RunEvent, tag="epoch", frozen=True):
    """A client has completed an epoch (from 0) of a task. In `history.csv`, not in `events.jsonl`."""

    client: str
    owner: str
    epoch: int
    epochs: int
    metrics: dict[str, float]
    fold: int = 0
    round: int = 0
    crowded: bool = False
    """Whether too many clients train at once to show their epochs."""
    spent: dict[str, float] = {}
    """The client's times of the task so far."""


class TaskLost(RunEvent, tag="lost", frozen=True):
    """The client that had a task is lost; the task waits."""

    task: str
    client: str
    reason: str


class TaskFailed(RunEvent, tag="failed", frozen=True):
    """A client could not train a task."""

    task: str
    client: str
    error: str
    again: bool = True
    """Whether the task is leased again."""


class TrainerDied(TaskFailed, tag="died", frozen=True):
    """The trainer died during the task."""


class TaskGivenUp(RunEvent, tag="given up", frozen=True):
    """A task is given up: its client, which alone has the data, was away for too long."""

    task: str
    client: str
    reason: str


class TaskLeftOut(RunEvent, tag="left out", frozen=True):
    """A round continues without a task."""

    task: str
    client: str
    reason: str


class ResultCommitted(RunEvent, tag="returned", frozen=True):
    """A result is on disk; its upload took that many seconds."""

    task: str
    client: str
    seconds: float
    owner: str = ""
    """The client that the shard belongs to."""
    fold: int = 0
    round: int = 0
    spent: dict[str, float] = {}
    """The client's times of the task: receive, import, prepare, compile, train, validate, score."""


class ResultDuplicate(RunEvent, tag="duplicate", frozen=True):
    """A client offered another result of a committed task."""

    task: str
    client: str
    attempt: int


class ResultLate(ResultDuplicate, tag="late", frozen=True):
    """A client offered a result of a task that was given up or left out."""


class EarlierResult(RunEvent, tag="earlier result", frozen=True):
    """A client delivered a result of an earlier run, which is stored there."""

    client: str
    run: str


# --- models -----------------------------------------------------------------------------------------------------


class ModelEvaluated(RunEvent, tag="scored", frozen=True):
    """The model of a task or a round was evaluated."""

    task: str
    figures: dict[str, float]
    client: str = ""
    """The client whose model it is; empty for a later evaluation, and for a round."""
    fold: int = 0
    folds: int = 0


class RoundCompleted(RunEvent, tag="round", frozen=True):
    """A round (from 1) is complete, and its weights were evaluated."""

    round: int
    rounds: int
    clients: int
    """The number of updates that count."""
    seconds: float
    figures: dict[str, float] = {}
    """Metrics of the weights, if they were evaluated."""
    left_out: dict[str, str] = {}
    """By client, why its update does not count."""
    logs: dict[str, float] = {}
    """The round in the form of Keras' `logs`."""
    spent: dict[str, float] = {}
    """The server's times: aggregate, evaluate, checkpoint, …"""


class RoundExtended(RunEvent, tag="round extended", frozen=True):
    """Too few updates arrived in time; the round waits that many seconds more."""

    round: int
    updates: int
    least: int
    missing: tuple[str, ...]
    seconds: float


class EvaluationSkipped(RunEvent, tag="evaluation skipped", frozen=True):
    """A client is not asked to evaluate a model, because it did not answer in time before."""

    client: str
    model: str


class EvaluationFailed(RunEvent, tag="evaluation failed", frozen=True):
    """A client could not evaluate a model."""

    client: str
    model: str
    reason: str


class EvaluationMissed(RunEvent, tag="evaluation missed", frozen=True):
    """A client did not answer within `limit` seconds, or it has left (no `limit`)."""

    client: str
    model: str
    limit: float | None = None
    waited: bool = False
    """Whether the run waited for the client that had left."""


class EvaluationAwaited(RunEvent, tag="evaluation awaited", frozen=True):
    """The run waits for these clients to evaluate a model on their test or validation rows."""

    clients: tuple[str, ...]
    model: str
    rows: str


# --- predictions that people follow ------------------------------------------------------------------------------


class ShownRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """A test row: its number from 0, its target in words, and the row as a PNG or as its first values."""

    id: int
    truth: str
    picture: str = ""
    """A data URL."""
    values: tuple[float, ...] = ()


class RowsShown(RunEvent, tag="rows shown", frozen=True):
    """These test rows are predicted throughout the run. In `predictions.jsonl`, likewise the next two."""

    output: str
    """The name of the output whose predictions are shown."""
    target: str
    """How its targets are made: classes, one_hot, binary, values or input."""
    shape: tuple[int, ...]
    """Of a row."""
    rows: tuple[ShownRow, ...]
    classes: tuple[str, ...] = ()
    """The names of the classes; empty without."""


class RowsPredicted(RunEvent, tag="predicted", frozen=True):
    """Predictions for the rows that are shown, row after row: of a client's model after an epoch, or of the global
    model after a round (`at`, from 1). `final`: of the model that the client returned, which is that of this epoch."""

    model: str
    """The client that the shard belongs to; empty for the global model."""
    at: int
    outputs: tuple[float, ...]
    fold: int = 0
    final: bool = False


class ConfusionCounted(RunEvent, tag="confusion", frozen=True):
    """How often a true class (line) was predicted as which class (column) in all test rows, and the numbers of the
    first rows of each cell, by "true,predicted"."""

    model: str
    at: int
    matrix: tuple[tuple[int, ...], ...]
    cells: dict[str, tuple[int, ...]]
    fold: int = 0


#: Events that have a file of their own, because there are very many, or because they are large.
ELSEWHERE = (EpochCompleted, RowsShown, RowsPredicted, ConfusionCounted)


def facts_of(event: RunEvent) -> dict[str, Any]:
    """Return the line of `events.jsonl` for an event, without its time: its kind, its facts, its figures.

    A figure that is called like a fact, or like the time, is left out.
    """
    facts: dict[str, Any] = msgspec.to_builtins(event)
    figures = facts.pop("figures", {})
    return {**facts, **{name: value for name, value in figures.items() if name not in facts and name != "time"}}
