"""What the agent orders of its trainer, and what the trainer answers. Arrays pass through files, named here."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lanfit.files import ArrayFile
from lanfit.models.custom import AllowedFile
from lanfit.text import pluralize, sanitize, sanitize_lines
from lanfit.wire.messages import FitTask, Lease, Model, OwnRows, Result

# --- from the agent ---------------------------------------------------------------------------------------------


class Fit(msgspec.Struct, frozen=True, tag="fit"):
    """Train a model on a shard; write the result's block to `result`, and the model to `copy` for the client itself.

    Without a `copy` there is none.
    """

    number: int
    """Which order this is; the answers to it carry it."""
    fit: FitTask
    weights: ArrayFile
    shard: ArrayFile
    data: str
    """The folder of the client's own files, should the task be to train on those."""
    result: str
    copy: str
    checkpoint: str
    """The file in which the trainer keeps how far it is, to go on from there if it is killed."""
    custom: tuple[AllowedFile, ...] = ()
    """Files of this machine with the custom objects of the model, which its user allows."""
    least_rows: int = 1
    """Nothing is made of fewer training rows of the own files; likewise below."""


class Survey(msgspec.Struct, frozen=True, tag="survey"):
    """Read and check the files in `data`, and write what the server is told of them to `result`."""

    number: int
    model: Model
    own: OwnRows
    weights: ArrayFile
    data: str
    result: str
    custom: tuple[AllowedFile, ...] = ()
    least_rows: int = 1


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Score members of a model on rows of the files in `data`, or on validation rows of the shard."""

    number: int
    model: Model
    own: OwnRows | None
    shard: ArrayFile
    members: tuple[ArrayFile, ...]
    data: str
    rows: str
    """test or validation"""
    custom: tuple[AllowedFile, ...] = ()
    least_rows: int = 1


class Build(msgspec.Struct, frozen=True, tag="build"):
    """Try whether this Keras can build and compile a model, before its rows are received."""

    number: int
    model: Model
    keras: str
    """The version of the server's Keras, which can."""
    custom: tuple[AllowedFile, ...] = ()


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop working on an order, at the next chance; the answer is NotDone."""

    number: int


Work = Fit | Survey | Score | Build
Order = Work | Stop

# --- from the trainer -------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The backend is imported."""

    backend: str
    device: str
    """cpu or gpu: what was found"""
    threads: int
    seconds: float
    """What the import took."""
    device_name: str = ""
    """Of the GPU, if the backend tells."""

    def __str__(self) -> str:
        device = f"{self.device} ({self.device_name})" if self.device_name else self.device
        return f"{self.backend} on {device}, {pluralize(self.threads, 'thread')}"


class NotReady(msgspec.Struct, frozen=True, tag="not ready"):
    """The backend can't be used as the runtime wants it; the trainer ends."""

    error: str
    hint: str


class Step(msgspec.Struct, frozen=True, tag="step"):
    """How far the task is; epochs count from 1."""

    number: int
    state: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    samples_per_second: float


class EpochDone(msgspec.Struct, frozen=True, tag="epoch"):
    """An epoch is finished; epochs count from 0 here, as in Keras' CSVLogger."""

    number: int
    epoch: int
    metrics: dict[str, float]
    again: bool = False
    """It was trained before: by a trainer that was killed."""


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """The task goes on after so many epochs, from a checkpoint."""

    number: int
    epochs: int


class Note(msgspec.Struct, frozen=True, tag="note"):
    """Something that the user should know, while the task goes on."""

    number: int
    text: str


class Trained(msgspec.Struct, frozen=True, tag="trained"):
    """The task is done."""

    number: int
    block: ArrayFile
    metrics: tuple[str, ...]
    best_epoch: int
    scores: dict[str, float]
    """On the rows that the fold holds out, or of the starting weights; else empty."""
    seconds: dict[str, float]


class Surveyed(msgspec.Struct, frozen=True, tag="surveyed"):
    """The own files can be used; counts of rows and values, as in the message to the server."""

    number: int
    train: int
    validation: int
    test: int
    values: int
    target_values: int
    block: ArrayFile
    notes: tuple[str, ...]


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Metrics on the own test rows."""

    number: int
    rows: int
    metrics: dict[str, float]


class Built(msgspec.Struct, frozen=True, tag="built"):
    """The model can be built here."""

    number: int


class NotDone(msgspec.Struct, frozen=True, tag="not done"):
    """The order was stopped, or failed."""

    number: int
    stopped: bool
    error: str
    hint: str
    code: str = ""


Answer = Ready | NotReady | Step | EpochDone | Resumed | Note | Trained | Surveyed | Scored | Built | NotDone


def shown(answer: Answer) -> Answer:
    """Return an answer whose text can be shown: what a backend says of a model quotes what a server made up."""
    match answer:
        case NotDone(error=error, hint=hint) | NotReady(error=error, hint=hint):
            return msgspec.structs.replace(answer, error=sanitize_lines(error), hint=sanitize_lines(hint))
        case Note(text=text):
            return msgspec.structs.replace(answer, text=sanitize_lines(text))
        case Surveyed(notes=notes):
            return msgspec.structs.replace(answer, notes=tuple(map(sanitize, notes)))
        case _:
            return answer


def result_of(lease: Lease, trained: Trained, ready: Ready, seconds: Mapping[str, float]) -> Result:
    """What a server is told of a task that is done.

    Args:
        seconds: what the client itself has measured.
    """
    return Result(
        run=lease.run,
        task=lease.task,
        attempt=lease.attempt,
        block=trained.block.block,
        metrics=trained.metrics,
        best_epoch=trained.best_epoch,
        scores=trained.scores,
        seconds={**seconds, "import": ready.seconds, **trained.seconds},
        backend=ready.backend,
        device=ready.device,
        threads=ready.threads,
    )
