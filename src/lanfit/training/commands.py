"""Commands from the agent to its trainer, and its answers. Arrays are passed as files, which are named here."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from lanfit.core.text import pluralize, sanitize, sanitize_lines
from lanfit.models.custom_files import AllowedFile
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Adjustment, ClientData, FitTask, Lease, Model, RateChange, Result

# --- from the agent ---------------------------------------------------------------------------------------------


class Fit(msgspec.Struct, frozen=True, tag="fit"):
    """Train a model on a shard; write the result to `result`, and the client's copy of the model to `copy`.

    An empty `copy` means that no copy is written.
    """

    number: int
    """The number of this command; its answers repeat it."""
    fit: FitTask
    weights: ArrayFile
    shard: ArrayFile
    data: str
    """The folder of the client's own data, if the task is to train on that."""
    result: str
    copy: str
    checkpoint: str
    """The file for checkpoints, from which the task is resumed if the trainer is killed."""
    custom: tuple[AllowedFile, ...] = ()
    """The files with the model's custom objects on this machine, allowed by its user."""
    least_rows: int = 1
    """The fewest training rows of the client's own data that may be used; likewise below."""
    rows: ArrayFile | None = None
    """The indices of the rows to use, as in the lease; None: all."""
    shown: ArrayFile | None = None
    """The rows to predict at the end of epochs, as in the lease."""


class Survey(msgspec.Struct, frozen=True, tag="survey"):
    """Read and check the files in `data`, and write the statistics for the server to `result`."""

    number: int
    model: Model
    own: ClientData
    weights: ArrayFile
    data: str
    result: str
    custom: tuple[AllowedFile, ...] = ()
    least_rows: int = 1


class Evaluate(msgspec.Struct, frozen=True, tag="evaluate"):
    """Evaluate trained models on rows of the files in `data`, or on the validation rows of the shard."""

    number: int
    model: Model
    own: ClientData | None
    shard: ArrayFile
    members: tuple[ArrayFile, ...]
    data: str
    rows: str
    """test or validation"""
    custom: tuple[AllowedFile, ...] = ()
    least_rows: int = 1


class Build(msgspec.Struct, frozen=True, tag="build"):
    """Check whether this Keras can build and compile a model, before its rows are received."""

    number: int
    model: Model
    keras: str
    """The version of the server's Keras, which can build it."""
    custom: tuple[AllowedFile, ...] = ()


class Adjust(msgspec.Struct, frozen=True, tag="adjust"):
    """Pause or continue a fit, or change its settings from the next epoch on."""

    number: int
    adjustment: Adjustment


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Stop the work on a command as soon as possible; the answer is NotDone."""

    number: int


Work = Fit | Survey | Evaluate | Build
Command = Work | Adjust | Stop

# --- from the trainer -------------------------------------------------------------------------------------------


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The backend is imported."""

    backend: str
    device: str
    """cpu or gpu"""
    threads: int
    seconds: float
    """The time of the import, in seconds."""
    device_name: str = ""
    """The memory of the GPU, if the backend reports it."""

    def __str__(self) -> str:
        device = f"{self.device} ({self.device_name})" if self.device_name else self.device
        return f"{self.backend} on {device}, {pluralize(self.threads, 'thread')}"


class NotReady(msgspec.Struct, frozen=True, tag="not ready"):
    """The backend can't be used with this runtime; the trainer ends."""

    error: str
    hint: str


class Step(msgspec.Struct, frozen=True, tag="step"):
    """The progress of the task; epochs count from 1."""

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
    """Whether it was trained by an earlier trainer, which was killed."""
    seconds: dict[str, float] = {}
    """The times of the task so far."""
    predictions: bytes = b""
    """As in the message to the server."""


class Resumed(msgspec.Struct, frozen=True, tag="resumed"):
    """The task was resumed from a checkpoint after this many epochs."""

    number: int
    epochs: int


class Note(msgspec.Struct, frozen=True, tag="note"):
    """A message for the user; the task continues."""

    number: int
    text: str


class Trained(msgspec.Struct, frozen=True, tag="trained"):
    """The task is done."""

    number: int
    block: ArrayFile
    metrics: tuple[str, ...]
    best_epoch: int
    scores: dict[str, float]
    """Metrics on the held-out rows of the fold, or of the starting weights; else empty."""
    seconds: dict[str, float]
    epochs: int = 0
    """As in the result for the server; likewise `rates`."""
    rates: tuple[RateChange, ...] = ()


class Surveyed(msgspec.Struct, frozen=True, tag="surveyed"):
    """The client's own data can be used; counts of rows and values, as in the message to the server."""

    number: int
    train: int
    validation: int
    test: int
    values: int
    target_values: int
    block: ArrayFile
    notes: tuple[str, ...]


class Evaluated(msgspec.Struct, frozen=True, tag="evaluated"):
    """Metrics on the client's own test rows."""

    number: int
    rows: int
    metrics: dict[str, float]


class Built(msgspec.Struct, frozen=True, tag="built"):
    """The model can be built here."""

    number: int


class NotDone(msgspec.Struct, frozen=True, tag="not done"):
    """The command was stopped, or failed."""

    number: int
    stopped: bool
    error: str
    hint: str
    code: str = ""


Answer = Ready | NotReady | Step | EpochDone | Resumed | Note | Trained | Surveyed | Evaluated | Built | NotDone


def shown(answer: Answer) -> Answer:
    """Return an answer with text that is safe to show: messages of a backend quote names that a server chose."""
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
    """Return the message to the server about a finished task.

    Args:
        seconds: the times that the client itself measured.
    """
    return Result(
        run=lease.run,
        task=lease.task,
        attempt=lease.attempt,
        block=trained.block.block,
        metrics=trained.metrics,
        best_epoch=trained.best_epoch,
        scores=trained.scores,
        seconds=all_seconds(seconds, ready, trained.seconds),
        backend=ready.backend,
        device=ready.device,
        threads=ready.threads,
        epochs=trained.epochs,
        rates=trained.rates,
    )


def all_seconds(before: Mapping[str, float], ready: Ready, trained: Mapping[str, float]) -> dict[str, float]:
    """Return the times of a task: those that the client itself measured, the import of the backend, the trainer's."""
    return {**before, "import": ready.seconds, **trained}
