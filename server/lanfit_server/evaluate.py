"""The server's end of the model process: what is asked of it, and what it answers.

Everything that needs Keras happens there (see model_process.py): reading the model, trying one batch, scoring, writing
models. The server itself never imports TensorFlow. Arrays pass through files, named in the messages.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

import msgspec

from lanfit import errors
from lanfit.child import Child, backend_environment
from lanfit.files import ArrayFile

# --- asked of the model process ---------------------------------------------------------------------------------


class LoadModel(msgspec.Struct, frozen=True, tag="load"):
    """Read a model file; its weights are written to `weights`."""

    path: str
    weights: str


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """Work out how the loaded model is compiled, with what the operator overrides."""

    optimizer: str | None = None
    loss: str | None = None
    learning_rate: float | None = None
    metrics: tuple[str, ...] | None = None


class UseData(msgspec.Struct, frozen=True, tag="data"):
    """Keep the server's test rows (x, y; subtract, multiply of the normalizer), and let a batch go through the model.

    The batch is made of `x_batch`, `y_batch`, rows of the training data.
    """

    arrays: ArrayFile
    target: str
    normalizer: str


class Score(msgspec.Struct, frozen=True, tag="score"):
    """Score these weights on the test rows."""

    weights: ArrayFile


class WriteModel(msgspec.Struct, frozen=True, tag="write"):
    """Write these weights as a model file that plain Keras opens."""

    path: str
    weights: ArrayFile


class WriteFinal(msgspec.Struct, frozen=True, tag="final"):
    """Write these weights as a model that takes raw data, and score the written file on the raw test rows."""

    path: str
    weights: ArrayFile


class Restore(msgspec.Struct, frozen=True, tag="restore"):
    """Take up a model of an earlier run, without its file."""

    architecture: str
    compile: str
    output_shape: tuple[int | None, ...]


Request = LoadModel | Compile | UseData | Score | WriteModel | WriteFinal | Restore

# --- its answers ------------------------------------------------------------------------------------------------


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


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """How the model will be compiled: JSON, and the loss by its full Keras name."""

    compile: str
    loss: str


class Scored(msgspec.Struct, frozen=True, tag="scored"):
    """Metrics by name; empty when there are no test rows."""

    metrics: dict[str, float]


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is done."""


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """It could not be done: an error of `lanfit.errors` by its name."""

    kind: str
    message: str
    hint: str


Reply = Loaded | Compiled | Scored | Done | Problem
R = TypeVar("R")


class ModelProcess:
    """The model process. Asks one thing at a time, in the order of the calls."""

    def __init__(self, child: Child[Reply]) -> None:
        self._child = child
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls) -> ModelProcess:
        """Start the process; it imports Keras while nobody waits for it yet."""
        environment = dict(backend_environment("tensorflow", None))
        return cls(await Child.start("lanfit_server.model_process", Reply, "model process", environment))

    async def ask(self, request: Request, answer: type[R]) -> R:
        """Return the answer to a request.

        Raises:
            LanfitError: what the model process found wrong, in its own class.
            TrainingError: the process died of it.
        """
        # Who is cancelled while it waits must not leave an answer behind that the next one would take for its own.
        reply = await asyncio.shield(self._exchange(request))
        if isinstance(reply, Problem):
            raise getattr(errors, reply.kind)(reply.message, reply.hint)
        if not isinstance(reply, answer):
            raise errors.LocalProtocolError(f"the model process answered {type(request)} with {type(reply)}")
        return reply

    async def _exchange(self, request: Request) -> Reply:
        async with self._turn:
            await self._child.send(request)
            return await self._child.receive()

    async def stop(self) -> None:
        await self._child.stop()
