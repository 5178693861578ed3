"""The control messages after login, as msgpack maps tagged with `type`.

Big things do not travel in messages: a message names a block (`BlockSpec`), the side that wants it sends `Fetch`, and
the other side answers with data frames. The tables in docs/protocol.md are made from this module.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from lanfit.wire.arrays import BlockSpec
from lanfit.wire.tasks import LARGEST_ARCHITECTURE as LARGEST_ARCHITECTURE
from lanfit.wire.tasks import CustomFile as CustomFile
from lanfit.wire.tasks import CustomFiles as CustomFiles
from lanfit.wire.tasks import Fold as Fold
from lanfit.wire.tasks import Model as Model
from lanfit.wire.tasks import OwnRows as OwnRows
from lanfit.wire.tasks import Runtime as Runtime
from lanfit.wire.texts import BlockId as BlockId
from lanfit.wire.texts import FigureName, Figures, Label, Line, Lines, OptionalLabel, ShortText, Word

#: What tells one process of a client from another: random bytes.
ProcessId = Annotated[bytes, msgspec.Meta(max_length=16)]
#: How many of its earlier processes a client names.
MOST_EARLIER = 8
Stream = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]
Offset = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Size = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every control message is."""


# --- either side ------------------------------------------------------------------------------------------------


class Ping(Message, frozen=True, tag="ping"):
    """Are you there? Sent when nothing else was for a while."""


class Pong(Message, frozen=True, tag="pong"):
    """I am here: the answer to a ping."""


class Fetch(Message, frozen=True, tag="fetch"):
    """Send me this block from this byte on, in data frames of this stream."""

    block: BlockId
    stream: Stream
    offset: Offset = 0


# --- client to server -------------------------------------------------------------------------------------------


class Join(Message, frozen=True, tag="join"):
    """The first message of a client: who it is and what it has."""

    name: Line
    version: ShortText
    backend: ShortText
    device: ShortText
    threads: int
    free_memory: Size
    """Bytes; 0 when it is not known."""
    custom: CustomFiles = ()
    """The files with custom objects that this client has, and whose user allows them."""
    keras: ShortText = ""
    """The version of Keras on this client."""
    process: ProcessId = b""
    """The process that joins: new with each start of the client, the same when a lost link is replaced."""
    earlier: Annotated[tuple[ProcessId, ...], msgspec.Meta(max_length=MOST_EARLIER)] = ()
    """The processes that used this client's state before, the newest first."""


class Allow(Message, frozen=True, tag="allow"):
    """The files with custom objects that this client allows from now on, instead of those in `join`."""

    custom: CustomFiles


class Progress(Message, frozen=True, tag="progress"):
    """How far a task is; at least once a second while it trains."""

    run: OptionalLabel
    """Empty while it reads and checks its own files, before there is a run."""
    task: Label
    epoch: int
    """The epoch that runs, from 1; 0 before there is one."""
    epochs: int
    step: int
    """Of `steps` in this epoch; while `state` is `receiving`, bytes that have come, and bytes there are."""
    steps: int
    loss: float
    samples_per_second: float
    state: ShortText = "training"

    @property
    def share(self) -> float:
        """How much of the task is trained, 0 to 1, whatever the peer says."""
        if self.epochs <= 0:
            return 0.0
        done = max(0, self.epoch - 1) + (self.step / self.steps if self.steps else 0)
        return min(1.0, max(0.0, done / self.epochs))


class Epoch(Message, frozen=True, tag="epoch"):
    """One finished epoch: a line of the history."""

    run: Label
    task: Label
    epoch: int
    """From 0, as in Keras' CSVLogger."""
    metrics: Figures


class LogLines(Message, frozen=True, tag="log"):
    """Lines for the client's log on the server."""

    run: Label
    lines: tuple[Lines, ...]


class Result(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a task gave, without the arrays.

    The block holds the model's weights under the names and in the order of the server's own table; then, float64, the
    constants of the normalizers that it was trained behind: subtract, multiply, target_subtract, target_multiply; then
    `history`, float64, one row an epoch and one column for each name in `metrics`.
    """

    run: Label
    task: Label
    attempt: int
    block: BlockSpec
    metrics: tuple[FigureName, ...]
    best_epoch: int
    """The epoch whose weights these are, from 0."""
    scores: Figures
    """Metrics on the rows that the fold holds out, or of the starting weights, if the task asks for it; else empty."""
    seconds: dict[Word, float]
    backend: ShortText
    device: ShortText
    threads: int


class Offer(Message, frozen=True, tag="offer"):
    """Here is a result that you have not acknowledged; fetch its block when you can."""

    result: Result


class Commit(Message, frozen=True, tag="commit"):
    """That was all of the block: put the result on disk and acknowledge it."""

    block: BlockId


class Failed(Message, frozen=True, tag="failed"):
    """A task could not be trained here."""

    run: Label
    task: Label
    error: Lines
    hint: Lines
    log: tuple[Lines, ...]
    died: bool = False
    """The trainer died of it: `log` has its last lines."""
    code: Word = ""
    """Which error it is, as docs/errors.md lists them."""


class Surveyed(Message, frozen=True, tag="surveyed"):
    """What my own files hold, without a row of them: fetch the block, and say what comes next."""

    train: int
    validation: int
    test: int
    values: int
    """How many values each mean of the inputs is of."""
    target_values: int
    """The same of the targets; 0 when they are classes or the input."""
    block: BlockSpec
    """mean, m2, minimum, maximum of the training rows, target_mean, … of their targets, float64; and `labels`, the
    names of the classes as JSON in uint8, unless labels are numbers."""
    notes: tuple[Line, ...]


class Unsuitable(Message, frozen=True, tag="unsuitable"):
    """My own files can't be used for this model."""

    error: Lines
    hint: Lines


class Scored(Message, frozen=True, tag="scored"):
    """How a model did on the rows that I was to score it on."""

    run: Label
    task: Label
    rows: int
    metrics: Figures


class TakeParts(Message, frozen=True, tag="take parts"):
    """The answer to `ask parts`: call me this, and let me train on these parts."""

    name: Line
    first: int
    """From 1; so is `last`, which is one of them."""
    last: int


class Leave(Message, frozen=True, tag="leave"):
    """I go on purpose; do not wait for me."""

    reason: Line


# --- server to client -------------------------------------------------------------------------------------------


class Welcome(Message, frozen=True, tag="welcome"):
    """You are in, under this name."""

    version: ShortText
    name: Label
    collecting: bool
    """True when this server trains nothing and only takes in finished results."""
    keras: ShortText = ""
    """The version of Keras on the server, which can build the model."""


class IdTaken(Message, frozen=True, tag="id taken"):
    """Instead of `welcome`: another client with your id is here, and answers. Choose another id, and join with it."""


class Status(Message, frozen=True, tag="status"):
    """What you are waiting for, in a sentence."""

    text: Line


class NeedsCustom(Message, frozen=True, tag="needs custom"):
    """The model needs custom objects from files that you do not allow: you get no task of it."""

    custom: CustomFiles
    objects: Annotated[tuple[ShortText, ...], msgspec.Meta(max_length=50)] = ()
    """The names of the classes and functions that the model uses."""


class AskParts(Message, frozen=True, tag="ask parts"):
    """Rows are cut into numbered parts: what do you want to be called, and which do you train on?"""

    of: Annotated[int, msgspec.Meta(ge=1)]
    """How many parts there are."""


class PartsTaken(Message, frozen=True, tag="parts taken"):
    """This is what you are called from now on, and these parts are yours."""

    name: Label
    first: int
    last: int
    of: int


class FitTask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Train a model on a shard."""

    model: Model
    epochs: int
    batch_size: int
    seed: int
    patience: int
    """Stop after so many epochs without a lower validation loss; 0: never."""
    runtime: Runtime
    fold: Fold | None
    own: OwnRows | None
    """Train on the client's own rows: the shard then holds no rows."""
    round: int = 0
    """Which round this is of, from 1; 0: there are no rounds, and the client keeps a copy of its model."""
    local_steps: int = 0
    """Train on so many batches instead of `epochs`, epoch after epoch; the last one may be cut short. 0: epochs."""
    proximal: float = 0.0
    """FedProx: mu of mu/2 · ||w - w_start||² over the trainable variables, which is added to the loss that is trained
    on, and not to the one that is reported; 0: none."""
    first_step: int = 0
    """Where a schedule of the learning rate begins: the steps of earlier rounds, the same number for all clients."""
    keep_last: bool = False
    """Hand back the weights of the last epoch, not of the best."""
    score_start: bool = False
    """Score the starting weights on the shard's validation rows first; not with a fold."""


class Lease(Message, frozen=True, tag="lease"):
    """A task is yours."""

    run: Label
    task: Label
    attempt: int
    owner: Label
    """The client that the shard was dealt to: its name is in the file names."""
    fit: FitTask
    weights: BlockSpec
    """The starting weights, in the model's order."""
    shard: BlockSpec
    """x_train, y_train, x_validation, y_validation as they are in the files; w_train and w_validation, float32, if rows
    have weights, one a row; the normalizers' constants, as in a result; for own rows whose labels are words `labels`,
    the names of the classes of all clients, as JSON in uint8."""


class Ack(Message, frozen=True, tag="ack"):
    """The result with this block is on disk: you may forget it."""

    block: BlockId


class Later(Message, frozen=True, tag="later"):
    """There is no room for the result with this block: keep it, and offer it again after so many seconds."""

    block: BlockId
    seconds: float
    reason: Line


class Reject(Message, frozen=True, tag="reject"):
    """The result with this block is of no use, for this reason: forget it."""

    block: BlockId
    reason: Line


class Survey(Message, frozen=True, tag="survey"):
    """Read and check your own files for this model, let a batch through it, and tell what is in them."""

    model: Model
    own: OwnRows
    weights: BlockSpec


class ScoreTask(Message, frozen=True, tag="score"):
    """Score a model on rows that you have. Several members are scored as one: their outputs are averaged."""

    run: Label
    task: Label
    model: Model
    own: OwnRows | None
    """Null for rows that were dealt: then only validation rows can be scored on."""
    shard: BlockSpec
    """As in the lease of a task."""
    members: tuple[BlockSpec, ...]
    """Weights and constants, as in a result."""
    rows: Word = "test"
    """Which ones: test or validation."""


class Cancel(Message, frozen=True, tag="cancel"):
    """Stop this task: it is not yours any more."""

    run: Label
    task: Label
    reason: Line


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
    | Scored
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
    | ScoreTask
    | Ack
    | Later
    | Reject
    | Cancel
    | RunEnded
)
AnyMessage = FromClient | FromServer
