"""The model process: the only part of the server that imports Keras. Answers the requests of evaluate.py one by one.

It loads files that the operator names, under a memory limit where the system has one: what goes wrong there does not
take the server with it.
"""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import numpy as np

from lanfit.child import Parent
from lanfit.data.labels import Target, make_target
from lanfit.data.memory import free_memory
from lanfit.data.normalize import Normalizer
from lanfit.errors import InputError, LanfitError
from lanfit.files import ArrayFile
from lanfit.models.compiling import CompileSpec, loss_name, override, read_spec
from lanfit.models.export import write_final, write_model
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.member import Member
from lanfit.models.runtime import limit_memory, prepare_keras
from lanfit.models.scoring import Scorer, check_batch
from lanfit.training.metrics import metrics
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import LARGEST_ARCHITECTURE
from lanfit_server.evaluate import (
    Compile,
    Compiled,
    Done,
    Loaded,
    LoadModel,
    Problem,
    Reply,
    Request,
    Restore,
    Score,
    Scored,
    UseData,
    WriteFinal,
    WriteModel,
)

#: What loading a model may take: this many times the file, and this much at least. In bytes.
MEMORY_FACTOR = 20
LEAST_MEMORY = 4 << 30


class ModelHolder:
    """One model, how it is compiled, and the server's test rows."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None
        self._architecture = ""
        self._compile = ""
        self._output_shape: tuple[int | None, ...] = ()
        self._scorer: Scorer | None = None
        self._test: _TestRows | None = None

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        match request:
            case LoadModel(path, weights):
                return self._load(Path(path), Path(weights))
            case Compile():
                return self._choose(request)
            case Restore(architecture, compiled, output_shape):
                self._architecture, self._compile, self._output_shape = architecture, compiled, output_shape
                self._scorer = self._test = None
                return Done()
            case UseData():
                return self._use(request)
            case Score(weights):
                return Scored(self._score(_weights(weights)))
            case WriteModel(path, weights):
                write_model(Path(path), self._architecture, self._compile, _weights(weights))
                return Done()
            case WriteFinal(path, weights):
                return Scored(self._write_final(Path(path), _weights(weights)))

    def _load(self, path: Path, weights: Path) -> Loaded:
        limit_memory(max(LEAST_MEMORY, MEMORY_FACTOR * path.stat().st_size, free_memory()))
        loaded = load_model(path)
        size = len(loaded.architecture.encode()) + len((loaded.compile or "").encode())
        if size > LARGEST_ARCHITECTURE:
            raise InputError(
                f"{path.name} has an architecture of {size:,} bytes; {LARGEST_ARCHITECTURE:,} can be sent to clients",
                "use a model with fewer layers",
            )
        spec = read_spec(loaded.compile) if loaded.compile else CompileSpec()
        self._loaded, self._architecture = loaded, loaded.architecture
        self._output_shape = (None, *loaded.output_shape)
        return Loaded(
            architecture=loaded.architecture,
            optimizer=str(spec.optimizer["class_name"]).lower() if spec.optimizer else "",
            loss=loss_name(spec) if spec.loss else "",
            input_shape=(None, *loaded.input_shape),
            output_shape=self._output_shape,
            parameters=loaded.parameters,
            weights=ArrayFile.write(weights, loaded.weights),
        )

    def _choose(self, request: Compile) -> Compiled:
        assert self._loaded is not None  # the server loads a model first
        spec = read_spec(self._loaded.compile) if self._loaded.compile else None
        spec = override(spec, request.optimizer, request.loss, request.learning_rate, request.metrics)
        self._compile = spec.to_json()
        return Compiled(self._compile, loss_name(spec))

    def _use(self, request: UseData) -> Done:
        self._test = rows = _TestRows(request, self._output_shape)
        if self._loaded is not None:
            check_batch(self._loaded, self._compile, rows.x_batch, rows.y_batch)
        return Done()

    def _score(self, weights: dict[str, AnyArray]) -> dict[str, float]:
        rows = self._test
        if rows is None or not len(rows.x):
            return {}
        if self._scorer is None:
            self._scorer = Scorer(self._architecture, self._compile)
        loss, predictions = self._scorer.score(weights, rows.x, rows.y)
        return {"loss": loss, **metrics(rows.target, rows.y, predictions)}

    def _write_final(self, path: Path, weights: dict[str, AnyArray]) -> dict[str, float]:
        """Write the final model; its metrics are those of the written file on raw rows, not those of its parts."""
        import keras

        rows = self._test
        assert rows is not None  # the server sends the constants before it asks for a final model
        write_final(path, self._architecture, self._compile, Member(weights, rows.normalizer))
        if not len(rows.x):
            return {}
        model = keras.models.load_model(path)
        loss = float(model.evaluate(rows.raw, rows.y, batch_size=256, verbose=0, return_dict=True)["loss"])
        predictions = np.asarray(model.predict(rows.raw, batch_size=256, verbose=0))
        return {"loss": loss, **metrics(rows.target, rows.y, predictions)}


class _TestRows:
    """The server's test rows, raw and as the model takes them, and a batch of training rows."""

    def __init__(self, request: UseData, output_shape: tuple[int | None, ...]) -> None:
        arrays = request.arrays.load()
        self.target = Target(request.target)
        self.normalizer = Normalizer.of(request.normalizer, arrays)
        self.raw = arrays["x"]
        self.x = self.normalizer.apply(self.raw)
        self.y = make_target(self.target, arrays["y"], self.x, output_shape)
        self.x_batch = self.normalizer.apply(arrays["x_batch"])
        self.y_batch = make_target(self.target, arrays["y_batch"], self.x_batch, output_shape)


def _weights(file: ArrayFile) -> dict[str, AnyArray]:
    """The weights in a result's block: all of it but the history."""
    arrays: dict[str, Any] = file.load()
    arrays.pop("history", None)
    return arrays


def _kind(error: LanfitError) -> str:
    """The nearest class of the error tree: what the server can make of it."""
    return next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "lanfit.errors")


def main() -> None:
    """Serve until the server is gone."""
    parent: Parent[Request] = Parent(Request)
    requests: queue.SimpleQueue[Request] = queue.SimpleQueue()
    parent.listen(requests.put)  # a thread: it notices the server's end also while Keras is imported
    prepare_keras()
    holder = ModelHolder()
    while True:
        request = requests.get()
        try:
            reply = holder.answer(request)
        except LanfitError as wrong:
            reply = Problem(_kind(wrong), wrong.message, wrong.hint)
        except MemoryError:
            reply = Problem("InputError", "the model process ran out of memory", "use a smaller model or fewer rows")
        parent.send(reply)


if __name__ == "__main__":
    main()
