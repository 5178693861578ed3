"""The server's side of the model process: requests and answers.

Everything that needs Keras happens there (see model_process.py): reading the model, trying one batch, scoring, writing
models. The server itself never imports TensorFlow. Arrays pass through files, named in the messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from lanfit import errors
from lanfit.backends import entry_of, unusable
from lanfit.core import processor_time
from lanfit.core.child import Child
from lanfit.core.system import refused
from lanfit.core.text import sentence
from lanfit.errors import lanfit_error
from lanfit.models.custom_files import AllowedFile
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.transfer.partial import is_full
from lanfit.wire.messages import Model
from lanfit_server.models.building import Blueprint

#: The backend of the model process.
MODEL_BACKEND = "tensorflow"

# --- requests ---------------------------------------------------------------------------------


class LoadModel(msgspec.Struct, frozen=True, tag="load"):
    """Read a model file; its weights are written to `weights`."""

    path: str
    weights: str
    custom: tuple[AllowedFile, ...] = ()
    """Files with custom objects that the operator has named."""


class InspectModel(msgspec.Struct, frozen=True, tag="look"):
    """Read a model file and describe it. The loaded model stays as it is: a run may be using it."""

    path: str


class BuildModel(msgspec.Struct, frozen=True, tag="build"):
    """Build a model and write it to `path`. The loaded model stays as it is."""

    path: str
    blueprint: Blueprint


class LoadDataset(msgspec.Struct, frozen=True, tag="set"):
    """Let Keras load one of its datasets; its arrays are written to `path`, sequences padded to the model's input."""

    name: str
    args: str
    input_shape: tuple[int | None, ...]
    path: str


class Compile(msgspec.Struct, frozen=True, tag="compile"):
    """Determine the compile options of the loaded model, with the operator's overrides."""

    optimizer: str | None = None
    loss: str | None = None
    learning_rate: float | None = None
    metrics: tuple[str, ...] | None = None


class UseModel(msgspec.Struct, frozen=True, tag="use"):
    """Use this model from now on: the one that was loaded and compiled, or that of an earlier run."""

    model: Model
    custom: tuple[AllowedFile, ...] = ()
    """The files on this machine that `model.custom` names."""


class UseData(msgspec.Struct, frozen=True, tag="data"):
    """Keep the server's raw test rows, which are the training rows of a shard's block."""

    arrays: ArrayFile


class TryBatch(msgspec.Struct, frozen=True, tag="try"):
    """Check the model and its starting weights with a batch of training rows from a shard's block."""

    arrays: ArrayFile
    weights: ArrayFile


class Evaluate(msgspec.Struct, frozen=True, tag="evaluate"):
    """Evaluate the weights and constants of results on the test rows; the outputs of several are averaged."""

    members: tuple[ArrayFile, ...]
    shown: tuple[int, ...] = ()
    """The rows that are shown: then the answer has what people see of the predictions."""


class WriteModel(msgspec.Struct, frozen=True, tag="write"):
    """Write these weights as a model file that plain Keras opens."""

    path: str
    weights: ArrayFile


class WriteFinal(msgspec.Struct, frozen=True, tag="final"):
    """Write results as one model for raw data, and evaluate the written file on the raw test rows.

    Of several members the outputs are averaged.
    """

    path: str
    members: tuple[ArrayFile, ...]
    predictions: str = ""
    """Where to write the predictions for the test rows, in original units, as a block; empty for nowhere."""


class Average(msgspec.Struct, frozen=True, tag="average"):
    """Write the average of results, weighted by rows, to a block at `path`."""

    path: str
    members: tuple[ArrayFile, ...]
    rows: tuple[int, ...]


Request = (
    LoadModel
    | InspectModel
    | BuildModel
    | LoadDataset
    | Compile
    | UseModel
    | UseData
    | TryBatch
    | Evaluate
    | WriteModel
    | WriteFinal
    | Average
)

# --- answers ------------------------------------------------------------------------------------------------


class Problem(msgspec.Struct, frozen=True, tag="problem"):
    """The request failed: an error of `lanfit.errors` by its name."""

    kind: str
    message: str
    hint: str
    code: str

    def error(self) -> errors.LanfitError:
        """Return the error."""
        made: errors.LanfitError = getattr(errors, self.kind)(self.message, self.hint, self.code)
        return made


class LoadedInput(msgspec.Struct, frozen=True):
    """One array that a model takes. Shapes are Keras': the batch comes first, None is any size."""

    name: str
    shape: tuple[int | None, ...]
    ids: int | None = None
    """As in `InputSpec`."""


class LoadedOutput(msgspec.Struct, frozen=True):
    """One array that a model gives."""

    name: str
    shape: tuple[int | None, ...]
    is_softmax: bool = False
    """Whether it is that of a softmax."""


class Loaded(msgspec.Struct, frozen=True, tag="loaded"):
    """What a model file holds."""

    architecture: str
    optimizer: str
    """The name of the compiled one; empty when there is none. The loss likewise."""
    loss: str
    inputs: tuple[LoadedInput, ...]
    """In the model's order."""
    outputs: tuple[LoadedOutput, ...]
    parameters: int
    weights: ArrayFile
    trainable: tuple[str, ...]
    """The names of those weights that training changes by gradients."""
    objects: tuple[str, ...] = ()
    """The names of the custom objects that the model uses, those of its compile options among them."""
    notes: tuple[str, ...] = ()
    """What was converted or guessed, in sentences."""
    problems: dict[str, Problem] = {}
    """What is wrong with the "optimizer" or the "loss" in the file; it matters only where no other is chosen."""

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of the first input."""
        return self.inputs[0].shape

    @property
    def is_single(self) -> bool:
        """Whether the model takes one array and gives one."""
        return len(self.inputs) == len(self.outputs) == 1


class Inspected(msgspec.Struct, frozen=True, tag="looked"):
    """What a model file holds, for a choice among several."""

    parameters: int
    optimizer: str
    """As in `Loaded`, and likewise those below."""
    loss: str
    inputs: tuple[LoadedInput, ...]
    outputs: tuple[LoadedOutput, ...]
    compile: str
    """The compile options; empty if there are none."""
    problems: dict[str, Problem] = {}

    @property
    def is_single(self) -> bool:
        """Whether the model takes one array and gives one."""
        return len(self.inputs) == len(self.outputs) == 1


class Built(msgspec.Struct, frozen=True, tag="built"):
    """The model was written."""

    parameters: int


class LoadedDataset(msgspec.Struct, frozen=True, tag="set_loaded"):
    """The arrays of a dataset, named as in `KerasDataset`, and notes about them."""

    name: str
    arrays: ArrayFile
    notes: tuple[str, ...]


class Compiled(msgspec.Struct, frozen=True, tag="compiled"):
    """How the model will be compiled: JSON, and the loss by its full Keras name."""

    compile: str
    loss: str
    notes: tuple[str, ...] = ()
    """What of the file was left out, in sentences."""
    losses: dict[str, str] = {}
    """By output, the loss by its full Keras name; of a custom one that of the Keras loss that it is derived from."""
    ending: Literal[".h5", ".keras"] = ".h5"
    """Of its files: `.keras` where Keras can't write it into an .h5, or not read it back."""


class Seen(msgspec.Struct, frozen=True):
    """What people see of the predictions for the test rows."""

    outputs: tuple[float, ...]
    """Those for the rows that are shown, row after row."""
    matrix: tuple[tuple[int, ...], ...] = ()
    """The confusion matrix: lines are true classes, columns predicted ones; empty without classes."""
    cells: dict[str, tuple[int, ...]] = {}
    """The numbers of the first rows of each cell, by "true,predicted"."""


class Metrics(msgspec.Struct, frozen=True, tag="metrics"):
    """Metrics by name; empty when there are no test rows."""

    metrics: dict[str, float]
    seen: Seen | None = None
    predictions: ArrayFile | None = None
    """What the metrics were computed from, if it was asked for and there are test rows."""


class Written(msgspec.Struct, frozen=True, tag="written"):
    """The block that was asked for."""

    arrays: ArrayFile


class Done(msgspec.Struct, frozen=True, tag="done"):
    """It is done."""


Reply = Loaded | Inspected | Built | LoadedDataset | Compiled | Metrics | Written | Done | Problem
R = TypeVar("R")


#: A request that has killed so many model processes one after the other is given up.
MOST_DEATHS = 3


class _Memory:
    """The requests that a replacement process must receive again."""

    def __init__(self) -> None:
        self._load: LoadModel | None = None
        self._loaded: Loaded | None = None
        self._model: UseModel | None = None
        self._data: UseData | None = None
        self._received: set[type[Request]] = set()
        """The requests that the current process has received."""

    def note(self, request: Request, reply: Reply) -> None:
        """Record a request that was answered."""
        if isinstance(request, LoadModel) and isinstance(reply, Loaded):
            self._load, self._loaded, self._model, self._data = request, reply, None, None
            self._received = {LoadModel}
        elif isinstance(request, UseModel):
            self._model, self._data = request, None
            self._received = (self._received & {LoadModel}) | {UseModel}
        elif isinstance(request, UseData):
            self._data = request
            self._received.add(UseData)

    def forget(self) -> None:
        """Forget the old process: a new one has received nothing."""
        self._received.clear()

    def missing(self, request: Request) -> list[Request]:
        """Return the requests that must be repeated before this one, in order."""
        found: list[Request] = []
        if isinstance(request, Compile) and self._load is not None:
            # Not over the first weights: the server looks into that file.
            weights = Path(self._load.weights).with_name("loaded-again.block")
            found.append(msgspec.structs.replace(self._load, weights=str(weights)))
        if not isinstance(request, LoadModel | InspectModel | BuildModel | LoadDataset | Compile | UseModel):
            found += [known for known in (self._model, self._data) if known is not None]
        return [known for known in found if type(known) not in self._received and type(known) is not type(request)]

    def on_reply(self, request: Request, reply: Reply) -> Problem | None:
        """Check the reply of a replacement process to a repeated request; return the problem, or None.

        A file that has changed is refused: the operator was shown the first one.
        """
        if isinstance(reply, Problem):
            return reply
        if isinstance(request, LoadModel) and isinstance(reply, Loaded) and self._loaded is not None:
            Path(reply.weights.path).unlink(missing_ok=True)
            if msgspec.structs.replace(reply, weights=self._loaded.weights) != self._loaded or (
                reply.weights.block != self._loaded.weights.block
            ):
                changed = lanfit_error("model.changed", file=Path(request.path).name)
                return Problem("InputError", changed.message, changed.hint, changed.code)
        self._received.add(type(request))
        return None


class ModelProcess:
    """The model process. Asks one thing at a time, in the order of the calls.

    A process that is killed (the system does that when memory runs out) is replaced at once: the replacement gets the
    state of the old process, and the open request is repeated, until a request has killed several in a row.

    Args:
        start: starts a child.
        log: called with a message for the operator when a process died.
    """

    def __init__(
        self, start: Callable[[], Awaitable[Child[Reply]]], child: Child[Reply], log: Callable[[str], None]
    ) -> None:
        self._start = start
        self._child = child
        self._turn = asyncio.Lock()
        self._memory = _Memory()
        self._idle_deaths = 0
        """While nothing was asked, since something was answered."""
        self._log = log
        self._stopping = False
        self._exchanges: set[asyncio.Task[Reply]] = set()
        self._watching = asyncio.create_task(self._watch(child))
        self.retry_when_full: RetryWhenFull | None = None
        """What is waited with for room on the disk; None as long as a full disk is an error."""

    @classmethod
    async def start(
        cls, log: Callable[[str], None], module: str = "lanfit_server.models.model_process"
    ) -> ModelProcess:
        """Start the process; it imports Keras in the background."""
        environment = entry_of(MODEL_BACKEND).variables(None)

        async def start() -> Child[Reply]:
            return await Child.start(module, Reply, "model process", environment)

        return cls(start, await start(), log)

    @property
    def pid(self) -> int:
        """Of the present process."""
        return self._child.pid

    async def ask(self, request: Request, answer: type[R]) -> R:
        """Return the answer to a request.

        Raises:
            LanfitError: what the model process found wrong, in its own class.
            TrainingError: process after process died of it.
        """
        while True:
            # A cancelled caller must not leave its answer to the next one.
            exchange = asyncio.create_task(self._exchange(request))
            self._exchanges.add(exchange)
            exchange.add_done_callback(self._exchanged)
            reply = await asyncio.shield(exchange)
            if not isinstance(reply, Problem):
                break
            wrong = reply.error()
            if self.retry_when_full is None or not is_full(wrong):
                raise wrong
            await self.retry_when_full.wait(wrong)
        if not isinstance(reply, answer):
            raise errors.LocalProtocolError(f"the model process answered {type(request)} with {type(reply)}")
        return reply

    def _exchanged(self, exchange: asyncio.Task[Reply]) -> None:
        self._exchanges.discard(exchange)
        if not exchange.cancelled():
            exchange.exception()  # the caller may have been cancelled, and asyncio prints an error that is not fetched

    async def _exchange(self, request: Request) -> Reply:
        async with self._turn:
            deaths = 0
            while True:
                if self._child.exit_code is not None:
                    await self._replace(await self._child.ended(), again=deaths > 0)
                try:
                    reply = await self._try(request)
                except errors.ChildDied as died:
                    if isinstance(request, LoadModel | InspectModel) and self._child.exit_code == processor_time.ENDED:
                        path = Path(request.path)
                        seconds = f"{processor_time.most_seconds(path.stat().st_size):.0f}"
                        raise lanfit_error("model.endless", file=path.name, seconds=seconds) from None
                    deaths += 1
                    if deaths == MOST_DEATHS:
                        raise lanfit_error(
                            "model-process.keeps-dying", count=deaths, reason=died.message, lines=died.hint
                        ) from None
                    continue
                self._idle_deaths = 0
                return reply

    async def _try(self, request: Request) -> Reply:
        for known in self._memory.missing(request):
            if (wrong := self._memory.on_reply(known, await self._send_and_receive(known))) is not None:
                return wrong
        reply = await self._send_and_receive(request)
        if not isinstance(reply, Problem):
            self._memory.note(request, reply)
        return reply

    async def _send_and_receive(self, request: Request) -> Reply:
        await self._child.send(request)
        return await self._child.receive()

    async def _watch(self, child: Child[Reply]) -> None:
        """Notice the end of a process while no caller waits for an answer; a caller that does notices it itself."""
        died = await child.ended()
        async with self._turn:
            if self._stopping or self._child is not child or self._idle_deaths == MOST_DEATHS:
                return  # replaced already, or only when it is needed: one may not even live for long enough to be asked
            self._idle_deaths += 1
            with contextlib.suppress(errors.LanfitError):  # for the next caller
                await self._replace(died, again=False)

    async def _replace(self, died: errors.ChildDied, *, again: bool) -> None:
        """Start another process in the place of one that was killed.

        Args:
            again: what it was asked is asked again.

        Raises:
            LanfitError: it was not killed: another would end in the same way.
        """
        child = self._child
        if (why := unusable(MODEL_BACKEND, child.exit_code, child.last_lines)) is not None:
            raise why
        if self._stopping or not (child.was_killed or os.name == "nt"):  # Windows can't distinguish these
            raise died
        self._memory.forget()
        try:
            another = await self._start()
        except OSError as error:  # too little memory for that, too
            raise refused(error) from died
        if self._stopping:
            await another.stop()
            raise died
        self._child = another
        self._watching = asyncio.create_task(self._watch(self._child))
        cause = ", probably because memory ran out" if child.exit_code == -9 else ""
        repeated = ", and its work is repeated" if again else ""
        self._log(f"{sentence(died.message)}{cause}: it is restarted{repeated}.")

    async def stop(self) -> None:
        """End the process. What it was asked is given up: that it dies of being ended is no error of anybody's."""
        self._stopping = True
        for exchange in self._exchanges:
            exchange.cancel()
        async with self._turn:  # one that is being started in the place of another is there then, and ended
            await self._child.stop()
