"""A model process that is none: answers at once, in this process, without Keras."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from lanfit.data.shard import Shard
from lanfit.errors import LanfitError
from lanfit.models.compiling import CompileSpec, optimizer_config
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.wire.messages import Model
from lanfit_server.models.handle import (
    Average,
    BuildModel,
    Built,
    Compile,
    Compiled,
    Done,
    Evaluate,
    Inspected,
    InspectModel,
    Loaded,
    LoadedInput,
    LoadedOutput,
    LoadModel,
    Metrics,
    Seen,
    UseData,
    UseModel,
    WriteFinal,
    WriteModel,
    Written,
)

#: What its model files are compiled with.
COMPILED = CompileSpec(optimizer_config("sgd"), "mse").to_json()


class FakeModels:
    """What a `Session` takes for its model process.

    Its models have three inputs, three outputs and three weights, which are all the number that a model file holds.
    """

    def __init__(self) -> None:
        self.asked: list[object] = []
        self.is_stopped = False
        self.room: RetryWhenFull | None = None
        self._model: Model
        self._rows = 0
        self.refuses: dict[type, LanfitError] = {}
        """What requests are answered with."""

    async def ask(self, request: Any, answer: Any) -> Any:
        self.asked.append(request)
        if (wrong := self.refuses.get(type(request))) is not None:
            raise wrong
        return self._answer(request)

    def _answer(self, request: Any) -> Any:
        match request:
            case LoadModel(path, weights, _):
                value = float(Path(path).read_text("ascii"))
                block = ArrayFile.write(Path(weights), {"w": np.full(3, value, np.float32)})
                inputs, outputs = (LoadedInput("x", (None, 3)),), (LoadedOutput("y", (None, 3)),)
                return Loaded("{}", "", "", inputs, outputs, 3, block, ("w",))
            case InspectModel(path):
                float(Path(path).read_text("ascii"))
                inputs, outputs = (LoadedInput("x", (None, 3)),), (LoadedOutput("y", (None, 3)),)
                return Inspected(3, "sgd", "mean_squared_error", inputs, outputs, COMPILED)
            case BuildModel(path, _):
                Path(path).write_text("1.5", "ascii")
                return Built(3)
            case Compile():
                return Compiled("{}", "mean_squared_error")
            case Evaluate(_, shown):
                seen = Seen((0.5,) * 3 * len(shown), ((3, 1), (0, 4)), {"0,1": (7,)}) if shown else None
                return Metrics({"loss": 1.0}, seen)
            case WriteModel(path, _):
                _write(path)
            case WriteFinal(path, _, predictions):
                _write(path)
                outputs = {"y": np.zeros((self._rows, 3), np.float32)}
                return Metrics(
                    {"loss": 1.0}, predictions=ArrayFile.write(Path(predictions), outputs) if predictions else None
                )
            case Average(path, members, _):
                return Written(ArrayFile.write(Path(path), members[0].load()))
            case UseModel(model, _):
                self._model = model
            case UseData(rows):
                self._rows = len(Shard.of_block(self._model, rows.load()).train)
        return Done()

    async def stop(self) -> None:
        self.is_stopped = True


def _write(path: str) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text("a model", "ascii")
