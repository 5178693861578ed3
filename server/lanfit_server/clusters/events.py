"""The events of clusters: clients come and go, train, deliver, and fail. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lanfit.errors import LanfitError
from lanfit.settings.changes import AS_IN_JOB, TaskSettings
from lanfit.settings.parts import PartRange
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Result, Surveyed


@dataclass(frozen=True)
class ClientJoined:
    """A client has connected, for the first time or again."""

    client: str
    address: str = ""
    backend: str = ""


@dataclass(frozen=True)
class ClientLeft:
    """A client has disconnected; `lost` without a goodbye, `broken` if it violated the protocol."""

    client: str
    reason: str
    lost: bool
    broken: bool = False


@dataclass(frozen=True)
class EpochCompleted:
    """A client finished an epoch of a task; `epoch` counts from 0."""

    client: str
    run: str
    task: str
    epoch: int
    metrics: dict[str, float]
    spent: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The times of the task so far, as the client measured them."""
    predictions: bytes = b""
    """As in the client's message."""


@dataclass(frozen=True)
class ClientSilent:
    """A client has been silent for this many seconds, which is not an error yet."""

    client: str
    seconds: float


@dataclass(frozen=True)
class ClientSeen:
    """A client is back after this many seconds of silence."""

    client: str
    seconds: float


@dataclass(frozen=True)
class ResultOffered:
    """A client offers a result, which is being fetched."""

    client: str
    run: str
    task: str


@dataclass(frozen=True)
class DuplicateResult:
    """A client offered another result of a finished task: it is acknowledged but not used."""

    client: str
    run: str
    task: str
    attempt: int


@dataclass(frozen=True)
class ResultCommitted:
    """A client's result is on disk and was acknowledged. `seconds` is the time of its upload."""

    client: str
    run: str
    task: str
    seconds: float
    spent: Mapping[str, float] = field(default_factory=dict, compare=False)
    """The times of the task, as the client measured them."""
    trained: TaskSettings = AS_IN_JOB
    """The settings that the task had in the end, see `settings_of`."""


def settings_of(result: Result) -> TaskSettings:
    """Return the settings that a task had in the end: its number of epochs, if the operator changed that during the
    task, and its learning rates from later epochs on."""
    return TaskSettings(epochs=result.epochs or None, rates=result.rates)


@dataclass(frozen=True)
class TaskFailed:
    """A client could not train a task, or its result was rejected."""

    client: str
    run: str
    task: str
    error: str
    died: bool = False
    """Whether the trainer died."""
    not_finite: bool = False
    """Whether training gave NaN or infinity, which would happen again."""


@dataclass(frozen=True)
class Claimed:
    """A client sent a message of this kind about a task that it never had. The message has no effect."""

    client: str
    run: str
    task: str
    what: str


@dataclass(frozen=True)
class Logged:
    """Lines for a client's log."""

    client: str
    run: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class SurveyDone:
    """A client has sent the survey of its own data; `arrays` are those of its block, unchecked."""

    client: str
    surveyed: Surveyed
    arrays: Mapping[str, AnyArray]


@dataclass(frozen=True)
class SurveyFailed:
    """A client's own data can't be used."""

    client: str
    error: LanfitError


@dataclass(frozen=True)
class Evaluated:
    """A client has evaluated a model on its own test rows."""

    client: str
    run: str
    task: str
    rows: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class PartsChosen:
    """A client has chosen a name, and valid parts to train on."""

    client: str
    name: str
    parts: PartRange


@dataclass(frozen=True)
class ClientUnavailable:
    """This client will not join, and no other can replace it."""

    client: str
    error: LanfitError


@dataclass(frozen=True)
class StartNow:
    """The operator requests to start without the missing clients."""

    client: str = ""


@dataclass(frozen=True)
class InternalEvent:
    """An event of the server itself among those of clients, which only the run interprets."""

    what: object
    client: str = ""


Event = (
    StartNow
    | InternalEvent
    | ClientUnavailable
    | ClientJoined
    | ClientLeft
    | ClientSilent
    | ClientSeen
    | EpochCompleted
    | ResultOffered
    | DuplicateResult
    | ResultCommitted
    | TaskFailed
    | Claimed
    | Logged
    | SurveyDone
    | SurveyFailed
    | Evaluated
    | PartsChosen
)
#: The errors of training that ended in NaN or infinity, which every client would get.
NOT_FINITE = frozenset({"training.loss-not-finite", "training.weight-not-finite"})
#: The interval of messages about a wait, in seconds.
REMIND_SECONDS = 30.0
