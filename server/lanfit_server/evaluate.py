"""The server's end of the model process: what is asked of it, and what it answers.

Everything that needs Keras happens there (see model_process.py): reading the model, trying one batch, scoring, writing
models. The server itself never imports TensorFlow. Arrays pass through files, named in the messages.
"""

from __future__ import annotations

import asyncio
from typing import Literal, TypeVar

import msgspec

from lanfit import errors
from lanfit.child import Child, backend_environment
from lanfit.files import ArrayFile
from lanfit.models.custom import AllowedFile
from lanfit.models.runtime import unusable
from lanfit.partial import is_full
from lanfit.room import Room
from lanfit.wire.messages import Model

#: What the model process computes with.
MODEL_BACKEND = "tensorflow"

# --- asked of the model process ---------------------------------------------------------------------------------


class LoadModel(msgspec.Struct, frozen=True, tag="load"):
    """Read a model file; its weights are written to `weights`."""

    path: str
    weights: str
    custom: tuple[AllowedFile, ...] = ()
    """Files with custom objects that the operator has named."""


class LoadSet(msgspec.Struct, frozen=True, tag="set"):
    """Let Keras load one of its data sets; its arrays are written to `path`, sequences padded to the model's input."""

    name: str
    args: str
    input_shape: tuple[int | None, ...]
    path: str


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """Work out how the loaded model is compiled, with what the operator overrides."""

    optimizer: str | None = None
    loss: str | None = None
    learning_rate: float | None = None
    metrics: tuple[str, ...] | None = None


class UseModel(msgspec.Struct, frozen=True, tag="use"):
    """From now on models are this one: the one that was loaded and compiled, or that of an earlier run."""

    model: Model
    custom: tuple[AllowedFile, ...] = ()
    """The files on this machine that `model.custom` names."""


class UseData(msgspec.Struct, frozen=True, tag="data"):
    """Keep the server's test rows, `x` and `y` as the files hold them."""

    arrays: ArrayFile


class TryBatch(msgspec.Struct, frozen=True, tag="try"):
    """Let a batch of training rows (`x_train`, `y_train`, the normalizers' constants) go through the loaded model."""

    arrays: ArrayFile


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Score what results hold, weights and constants, on the test rows; of several the outputs are averaged."""

    members: tuple[ArrayFile, ...]


class Predict(msgspec.Struct, frozen=True, tag="predict"):
    """Let a result's model predict the test rows, in original units; `predictions` is written to `path`."""

    member: ArrayFile
    path: str


class WriteModel(msgspec.Struct, frozen=True, tag="write"):
    """Write these weights as a model file that plain Keras opens."""

    path: str
    weights: ArrayFile


class WriteFinal(msgspec.Struct, frozen=True, tag="final"):
    """Write results as one model that takes raw data, and score the written file on the raw test rows.

    Of several members the outputs are averaged.
    """

    path: str
    members: tuple[ArrayFile, ...]


class Average(msgspec.Struct, frozen=True, tag="average"):
    """Average what results hold, each counted as often as it has rows, into a block at `path`."""

    path: str
    members: tuple[ArrayFile, ...]
    rows: tuple[int, ...]


Request = (
    LoadModel | LoadSet | Compile | UseModel | UseData | TryBatch | Score | Predict | WriteModel | WriteFinal | Average
)

# --- its answers ------------------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """It could not be done: an error of `lanfit.errors` by its name."""

    kind: str
    message: str
    hint: str
    code: str

    def error(self) -> errors.LanfitError:
        """The error that it stands for."""
        made: errors.LanfitError = getattr(errors, self.kind)(self.message, self.hint, self.code)
        return made


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """What a model file holds. Shapes are Keras': the batch comes first, None is any size."""

    architecture: str
    optimizer: str
    """The name of the compiled one; empty when there is none. The loss likewise."""
    loss: str
    input_shape: tuple[int | None, ...]
    output_shape: tuple[int | None, ...]
    parameters: int
    weights: ArrayFile
    trainable: tuple[str, ...]
    """The names of those weights that training changes by gradients."""
    objects: tuple[str, ...] = ()
    """The names of the custom objects that the model uses, those of its compile options among them."""
    notes: tuple[str, ...] = ()
    """What was converted or guessed, in sentences."""
    ids: int | None = None
    """As in `Model`."""
    is_softmax: bool = False
    """Whether the outputs are those of a softmax."""
    problems: dict[str, Problem] = {}
    """What is wrong with the "optimizer" or the "loss" in the file; it matters only where no other is chosen."""


class LoadedSet(msgspec.Struct, frozen=True, tag="set_loaded"):
    """The arrays of a set, named as in `KerasSet`, and what is to be said about them."""

    name: str
    arrays: ArrayFile
    notes: tuple[str, ...]


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """How the model will be compiled: JSON, and the loss by its full Keras name."""

    compile: str
    loss: str
    notes: tuple[str, ...] = ()
    """What of the file was left out, in sentences."""
    ending: Literal[".h5", ".keras"] = ".h5"
    """Of its files: `.keras` where Keras can't write it into an .h5, or not read it back."""


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Metrics by name; empty when there are no test rows."""

    metrics: dict[str, float]


class Written(msgspec.Struct, frozen=True, tag="written"):
    """The block that was asked for."""

    arrays: ArrayFile


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is done."""


Reply = Loaded | LoadedSet | Compiled | Scored | Written | Done | Problem
R = TypeVar("R")


class ModelProcess:
    """The model process. Asks one thing at a time, in the order of the calls."""

    def __init__(self, child: Child[Reply]) -> None:
        self._child = child
        self._turn = asyncio.Lock()
        self.room: Room | None = None
        """What is waited with for room on the disk; None as long as a full disk is an error."""

    @classmethod
    async def start(cls) -> ModelProcess:
        """Start the process; it imports Keras while nobody waits for it yet."""
        environment = dict(backend_environment(MODEL_BACKEND, None))
        return cls(await Child.start("lanfit_server.model_process", Reply, "model process", environment))

    async def ask(self, request: Request, answer: type[R]) -> R:
        """Return the answer to a request.

        Raises:
            LanfitError: what the model process found wrong, in its own class.
            TrainingError: the process died of it.
        """
        while True:
            # Who is cancelled while it waits must not leave an answer behind that the next one would take for its own.
            reply = await asyncio.shield(self._exchange(request))
            if not isinstance(reply, Problem):
                break
            wrong = reply.error()
            if self.room is None or not is_full(wrong):
                raise wrong
            await self.room.wait(wrong)
        if not isinstance(reply, answer):
            raise errors.LocalProtocolError(f"the model process answered {type(request)} with {type(reply)}")
        return reply

    async def _exchange(self, request: Request) -> Reply:
        async with self._turn:
            await self._child.send(request)
            try:
                return await self._child.receive()
            except errors.ChildDied as died:
                raise unusable(MODEL_BACKEND, self._child.exit_code, self._child.last_lines) or died from None

    async def stop(self) -> None:
        await self._child.stop()
