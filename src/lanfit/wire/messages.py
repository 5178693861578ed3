"""The control messages after login, as msgpack maps tagged with `type`.

Bulk data is not sent in messages: a message names a block (`BlockSpec`), the side that needs it sends `Fetch`, and the
other side answers with data frames. The tables in docs/protocol.md are generated from this module.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from lanfit.wire.arrays import BlockSpec
from lanfit.wire.tasks import LARGEST_ARCHITECTURE as LARGEST_ARCHITECTURE
from lanfit.wire.tasks import ClientData as ClientData
from lanfit.wire.tasks import CustomFile as CustomFile
from lanfit.wire.tasks import CustomFiles as CustomFiles
from lanfit.wire.tasks import Fold as Fold
from lanfit.wire.tasks import InputSpec as InputSpec
from lanfit.wire.tasks import Model as Model
from lanfit.wire.tasks import OutputSpec as OutputSpec
from lanfit.wire.tasks import Runtime as Runtime
from lanfit.wire.texts import BlockId as BlockId
from lanfit.wire.texts import FigureName, Figures, Label, Line, Lines, OptionalLabel, ShortText, Word

#: Random bytes that distinguish one process of a client from another.
ProcessId = Annotated[bytes, msgspec.Meta(max_length=16)]
#: How many of its earlier processes a client lists.
MOST_EARLIER = 8
Stream = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
#: The most test rows whose predictions are followed, and the most values that a client predicts for one row: with all
#: metrics of an epoch they fit into a message of a client.
MOST_SHOWN = 24
MOST_SHOWN_OUTPUTS = 400
Predictions = Annotated[bytes, msgspec.Meta(max_length=4 * MOST_SHOWN * MOST_SHOWN_OUTPUTS)]
#: An epoch, from 1, and the learning rate that holds from it on.
RateChange = tuple[Annotated[int, msgspec.Meta(ge=1, le=2**53)], Annotated[float, msgspec.Meta(gt=0, lt=1e30)]]
Rates = Annotated[tuple[RateChange, ...], msgspec.Meta(max_length=1000)]
#: The parts of a client's time by name, in seconds.
Seconds = Annotated[dict[Word, float], msgspec.Meta(max_length=32)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of every control message."""


# --- either side ------------------------------------------------------------------------------------------------


class Ping(Message, frozen=True, tag="ping"):
    """A keepalive request, sent when nothing else was sent for a while."""


class Pong(Message, frozen=True, tag="pong"):
    """The answer to a ping."""


class Fetch(Message, frozen=True, tag="fetch"):
    """Request a block from this byte on, in data frames of this stream."""

    block: BlockId
    stream: Stream
    offset: Offset = 0


# --- client to server -------------------------------------------------------------------------------------------


class Join(Message, frozen=True, tag="join"):
    """The first message of a client: its identity and its capabilities."""

    name: Line
    version: ShortText
    backend: ShortText
    device: ShortText
    threads: int
    free_memory: Size
    """In bytes; 0 if unknown."""
    custom: CustomFiles = ()
    """The files with custom objects that this client has and whose use the user allows."""
    keras: ShortText = ""
    """The version of Keras on this client."""
    process: ProcessId = b""
    """The process that joins: new at each start of the client, unchanged when a lost connection is replaced."""
    earlier: Annotated[tuple[ProcessId, ...], msgspec.Meta(max_length=MOST_EARLIER)] = ()
    """The processes that used this client's state before, newest first."""


class Allow(Message, frozen=True, tag="allow"):
    """The files with custom objects that this client allows from now on, replacing those in `join`."""

    custom: CustomFiles


class Progress(Message, frozen=True, tag="progress"):
    """The progress of a task; sent at least once a second while it trains."""

    run: OptionalLabel
    """Empty while the client reads and checks its own files, before there is a run."""
    task: Label
    epoch: int
    """The current epoch, from 1; 0 before the first one."""
    epochs: int
    step: int
    """The number of `steps` in this epoch; while `state` is `receiving`, the bytes received and the bytes in total."""
    steps: int
    loss: float
    samples_per_second: float
    state: ShortText = "training"

    @property
    def share(self) -> float:
        """The fraction of the task that is trained, clipped to 0 to 1."""
        if self.epochs <= 0:
            return 0.0
        done = max(0, self.epoch - 1) + (self.step / self.steps if self.steps else 0)
        return min(1.0, max(0.0, done / self.epochs))


class Epoch(Message, frozen=True, tag="epoch", omit_defaults=True):
    """One finished epoch: a line of the history."""

    run: Label
    task: Label
    epoch: int
    """From 0, as in Keras' CSVLogger."""
    metrics: Figures
    seconds: Seconds = {}
    """The times of the task so far, as in its result."""
    predictions: Predictions = b""
    """The predictions for the rows in `shown` of the lease, in original units: float32, little-endian, row after row.
    Empty after some epochs if predicting takes long."""


class LogLines(Message, frozen=True, tag="log"):
    """Lines for the client's log on the server."""

    run: Label
    lines: tuple[Lines, ...]


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The result of a task, without the arrays.

    The block contains the model's weights, with the names and in the order of the server's table; then, as float64, the
    constants of the normalizers that it was trained with: subtract, multiply, target_subtract, target_multiply (with
    several inputs or outputs `subtract:NAME` and so on); then `history`, float64, with one row per epoch and one column
    per name in `metrics`.
    """

    run: Label
    task: Label
    attempt: int
    block: BlockSpec
    metrics: tuple[FigureName, ...]
    best_epoch: int
    """The epoch that these weights are from, counted from 0."""
    scores: Figures
    """Metrics on the held-out rows of the fold, or of the initial weights if the task requests them; otherwise
    empty."""
    seconds: dict[Word, float]
    backend: ShortText
    device: ShortText
    threads: int
    epochs: Annotated[int, msgspec.Meta(ge=0, le=2**53)] = 0
    """The number of epochs that the task had, if the operator changed it during the task; else 0."""
    rates: Rates = ()
    """The learning rates that held from later epochs on: those of the lease, and those that the operator set."""


class Offer(Message, frozen=True, tag="offer"):
    """Offer a result that is not acknowledged yet; the server fetches its block."""

    result: Result


class Commit(Message, frozen=True, tag="commit"):
    """The block was sent completely: store the result and acknowledge it."""

    block: BlockId


class Failed(Message, frozen=True, tag="failed"):
    """Report that a task failed on this client."""

    run: Label
    task: Label
    error: Lines
    hint: Lines
    log: tuple[Lines, ...]
    died: bool = False
    """The trainer died: `log` has its last lines."""
    code: Word = ""
    """The error code, as listed in docs/errors.md."""


class Surveyed(Message, frozen=True, tag="surveyed"):
    """The contents of the client's own files, without any row: fetch the block, then continue."""

    train: int
    validation: int
    test: int
    values: int
    """The number of values in each mean of the inputs."""
    target_values: int
    """The same for the targets; 0 if they are classes or the input."""
    block: BlockSpec
    """mean, m2, minimum and maximum of the training rows and target_mean, … of their targets, float64; and `labels`,
    the class names as JSON in uint8, unless labels are numbers."""
    notes: tuple[Line, ...]


class Unsuitable(Message, frozen=True, tag="unsuitable"):
    """The client's data can't be used for this model."""

    error: Lines
    hint: Lines


class EvaluationResult(Message, frozen=True, tag="scored"):
    """The metrics of a model on the rows that the client was asked to evaluate it on."""

    run: Label
    task: Label
    rows: int
    metrics: Figures


class TakeParts(Message, frozen=True, tag="take parts"):
    """The answer to `ask parts`: the name and the parts of this client."""

    name: Line
    first: int
    """From 1, like `last`, which is included."""
    last: int


class Leave(Message, frozen=True, tag="leave"):
    """The client leaves on purpose; the server does not wait for it."""

    reason: Line


# --- server to client -------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """The client is admitted, under this name."""

    version: ShortText
    name: Label
    collecting: bool
    """True if this server only collects finished results and trains nothing."""
    keras: ShortText = ""
    """The version of Keras on the server, which can build the model."""


class IdTaken(Message, frozen=True, tag="id taken"):
    """Sent instead of `welcome`: another client with this id is connected and responds. Choose another id, and join
    with it."""


class Status(Message, frozen=True, tag="status"):
    """What the client is waiting for, as a sentence."""

    text: Line


class NeedsCustom(Message, frozen=True, tag="needs custom"):
    """The model needs custom objects from files that the client does not allow: it gets no task with it."""

    custom: CustomFiles
    objects: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=50)] = ()
    """The names of the classes and functions that the model uses."""


class AskParts(Message, frozen=True, tag="ask parts"):
    """The rows are divided into numbered parts: ask for the client's name and the parts to train on."""

    of: Annotated[int, msgspec.Meta(ge=1)]
    """The number of parts."""


class PartsTaken(Message, frozen=True, tag="parts taken"):
    """The name of the client from now on, and the parts that are assigned to it."""

    name: Label
    first: int
    last: int
    of: int


class FitTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Train a model on a shard."""

    model: Model
    epochs: int
    batch_size: int
    seed: int
    patience: int
    """Stop after this many epochs without a lower validation loss; 0: never."""
    runtime: Runtime
    fold: Fold | None
    own: ClientData | None
    """Train on the client's own data: the shard contains no rows."""
    round: int = 0
    """The round, from 1; 0: there are no rounds, and the client keeps a copy of its model."""
    local_steps: int = 0
    """Train on this many batches instead of `epochs`, epoch after epoch; the last one may be incomplete. 0: epochs."""
    proximal: float = 0.0
    """FedProx: mu in mu/2 · ||w - w_start||² over the trainable variables, which is added to the training loss but not
    to the reported loss; 0: none."""
    first_step: int = 0
    """The step at which a learning rate schedule starts: the steps of earlier rounds, the same number for all
    clients."""
    keep_last: bool = False
    """Return the weights of the last epoch, not of the best."""
    score_start: bool = False
    """Evaluate the initial weights on the shard's validation rows first; not with a fold."""
    rates: Rates = ()
    """Learning rates that hold from later epochs on."""


class Adjustment(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What the operator changes about a task while a client has it: all of it, so that a repetition has no effect."""

    paused: bool = False
    epochs: Annotated[int, msgspec.Meta(ge=0, le=10**6)] = 0
    """The number of epochs; the one in progress is finished. 0: as in the lease."""
    learning_rate: Annotated[float, msgspec.Meta(ge=0, lt=1e30)] = 0.0
    """The learning rate from the next epoch on; 0: unchanged."""


class Lease(Message, frozen=True, tag="lease", omit_defaults=True):
    """Assign a task to the client."""

    run: Label
    task: Label
    attempt: int
    owner: Label
    """The client that the shard was assigned to; file names contain its name."""
    fit: FitTask
    weights: BlockSpec
    """The initial weights, in the model's order."""
    shard: BlockSpec
    """x_train, y_train, x_validation, y_validation as they are in the files; w_train and w_validation, float32, one per
    row, if rows are weighted; the normalizers' constants, as in a result; for the client's own rows with string labels
    `labels`, the class names of all clients, as JSON in uint8. For a model with several inputs or outputs the name of
    the input or output follows, as in `x_train:left`."""
    rows: BlockSpec | None = None
    """The rows of the shard that this task has, if it has not all: `train` and `validation`, int64, as indices into
    x_train and the arrays that belong to it. Not with a fold or the client's own data."""
    shown: BlockSpec | None = None
    """Test rows that the client is asked to predict at the end of epochs: `x`, raw as in the shard. Not with the
    client's own data."""


class Ack(Message, frozen=True, tag="ack"):
    """The result with this block is stored: the client may delete it."""

    block: BlockId


class Later(Message, frozen=True, tag="later"):
    """There is no space for the result with this block: keep it, and offer it again after this many seconds."""

    block: BlockId
    seconds: float
    reason: Line


class Reject(Message, frozen=True, tag="reject"):
    """The result with this block is rejected for this reason: delete it."""

    block: BlockId
    reason: Line


class Survey(Message, frozen=True, tag="survey"):
    """Read and check the client's own files for this model, pass a batch through it, and report statistics."""

    model: Model
    own: ClientData
    weights: BlockSpec


class EvaluateTask(Message, frozen=True, tag="score"):
    """Evaluate a model on the client's rows. Several members are evaluated as an ensemble: their outputs are
    averaged."""

    run: Label
    task: Label
    model: Model
    own: ClientData | None
    """Null for rows from the server: then only validation rows can be evaluated."""
    shard: BlockSpec
    """As in the lease of a task."""
    members: tuple[BlockSpec, ...]
    """Weights and constants, as in a result."""
    rows: Word = "test"
    """The kind of rows: test or validation."""


class Cancel(Message, frozen=True, tag="cancel"):
    """Stop this task: it is no longer assigned to the client."""

    run: Label
    task: Label
    reason: Line


class Adjust(Message, frozen=True, tag="adjust"):
    """Pause or continue this task, or change its settings from the next epoch on. A lease of the task continues it."""

    run: Label
    task: Label
    adjustment: Adjustment


class RunEnded(Message, frozen=True, tag="ended"):
    """The run is over."""

    run: OptionalLabel
    status: Word
    """done, partial, failed or interrupted."""
    text: Line


FromClient = (
    Ping
    | Pong
    | Fetch
    | Join
    | Allow
    | Progress
    | Epoch
    | LogLines
    | Offer
    | Commit
    | Failed
    | Surveyed
    | Unsuitable
    | EvaluationResult
    | TakeParts
    | Leave
)
FromServer = (
    Ping
    | Pong
    | Fetch
    | Welcome
    | IdTaken
    | Status
    | NeedsCustom
    | AskParts
    | PartsTaken
    | Lease
    | Survey
    | EvaluateTask
    | Ack
    | Later
    | Reject
    | Cancel
    | Adjust
    | RunEnded
)
AnyMessage = FromClient | FromServer
