"""The model process: the only part of the server that imports Keras. Answers the requests of evaluate.py one by one.

It loads files that the operator names, under a memory limit where the system has one: what goes wrong there does not
take the server with it.
"""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lanfit.child import Parent
from lanfit.data.keras_sets import load_set, padded
from lanfit.data.labels import Target, make_target
from lanfit.data.memory import free_of_machine, limit_memory
from lanfit.errors import LanfitError
from lanfit.files import ArrayFile
from lanfit.mistakes import mistake
from lanfit.models import custom
from lanfit.models.compiling import CompileSpec, compile_model, left_out_note, loss_name, override, read_spec
from lanfit.models.export import ModelWriter, holds_in_h5, write_final
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.member import Member
from lanfit.models.merge import average, write_ensemble
from lanfit.models.runtime import prepare_keras
from lanfit.models.scoring import RowScorer, check_batch
from lanfit.partial import is_full
from lanfit.processor_time import limit_processor_time, most_seconds
from lanfit.system import refused
from lanfit.training.folds import convert
from lanfit.training.judging import Judge, as_predictions
from lanfit.training.metrics import metrics, with_compiled
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import LARGEST_ARCHITECTURE, Model
from lanfit_server.evaluate import (
    Average,
    Compile,
    Compiled,
    Done,
    Loaded,
    LoadedSet,
    LoadModel,
    LoadSet,
    Predict,
    Problem,
    Reply,
    Request,
    Score,
    Scored,
    TryBatch,
    UseData,
    UseModel,
    WriteFinal,
    WriteModel,
    Written,
)

#: What loading a model may take: this many times the file, and this much at least. In bytes.
MEMORY_FACTOR = 20
LEAST_MEMORY = 4 << 30


class ModelHolder:
    """One model, how it is compiled, and the server's test rows."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None
        self._folder = Path()
        self._model: Model
        self._judge: Judge
        self._writer: ModelWriter | None = None
        self._test: tuple[AnyArray, AnyArray] = (np.empty(0), np.empty(0))

    def answer(self, request: Request) -> Reply:
        """Do what is asked."""
        match request:
            case LoadModel(path, weights, files):
                custom.use(files)
                return self._load(Path(path), Path(weights))
            case LoadSet():
                return self._load_set(request)
            case Compile():
                return self._choose(request)
            case UseModel(model, files):
                custom.use(files)
                self._model, self._judge, self._writer = model, Judge(model), None
                return Done()
            case UseData(file):
                arrays = file.load()
                self._test = arrays["x"], arrays["y"]
                return Done()
            case TryBatch(file):
                return self._try(file.load())
            case Score(files):
                return Scored(self._judge.score(self._members(files), *self._test))
            case Predict(file, path):
                _, predictions = self._judge.judge(self._members([file]), *self._test)
                return Written(ArrayFile.write(Path(path), {"predictions": predictions}))
            case WriteModel(path, file):
                member = self._members([file])[0]
                self._writer = self._writer or ModelWriter(self._model.architecture, self._model.compile)
                self._writer.write(Path(path), member.weights)
                return Done()
            case WriteFinal(path, files):
                return Scored(self._write_final(Path(path), self._members(files)))
            case Average(path, files, rows):
                return Written(self._average(Path(path), self._members(files), rows))

    def _load(self, path: Path, weights: Path) -> Loaded:
        limit_memory(max(LEAST_MEMORY, MEMORY_FACTOR * path.stat().st_size, free_of_machine()))
        with limit_processor_time(most_seconds(path.stat().st_size)):
            loaded = load_model(path)
        size = len(loaded.architecture.encode()) + len((loaded.compile or "").encode())
        if size > LARGEST_ARCHITECTURE:
            raise mistake("model.too-large-to-send", file=path.name, size=size, most=LARGEST_ARCHITECTURE)
        spec = read_spec(loaded.compile) if loaded.compile else CompileSpec()
        self._loaded, self._folder = loaded, weights.parent
        return Loaded(
            architecture=loaded.architecture,
            optimizer=str(spec.optimizer["class_name"]).lower() if spec.optimizer else "",
            loss=loss_name(spec) if spec.loss else "",
            input_shape=(None, *loaded.input_shape),
            output_shape=(None, *loaded.output_shape),
            parameters=loaded.parameters,
            weights=ArrayFile.write(weights, loaded.weights),
            trainable=loaded.trainable,
            objects=tuple(custom.names_in([json.loads(loaded.architecture), json.loads(loaded.compile or "null")])),
            notes=loaded.notes,
            ids=loaded.ids,
            is_softmax=loaded.output_activation == "softmax",
            problems={part: problem(wrong) for part, wrong in loaded.problems.items()},
        )

    def _load_set(self, request: LoadSet) -> LoadedSet:
        limit_memory(max(LEAST_MEMORY, free_of_machine()))  # a set may be larger than what its model was allowed
        found, notes = padded(load_set(request.name, request.args), request.input_shape)
        arrays = {name: getattr(found, name) for name in ("x_train", "y_train", "x_test", "y_test")}
        return LoadedSet(found.name, ArrayFile.write(Path(request.path), arrays), notes)

    def _choose(self, request: Compile) -> Compiled:
        assert self._loaded is not None  # the server loads a model first
        for part, wrong in self._loaded.problems.items():
            if getattr(request, part) is None:
                raise wrong
        spec = read_spec(self._loaded.compile) if self._loaded.compile else None
        spec = override(spec, request.optimizer, request.loss, request.learning_rate, request.metrics)
        left_out = self._loaded.left_out if request.metrics is None else ()
        notes = [left_out_note(left_out)] if left_out else []
        path = self._folder / "tried.h5"
        holds = holds_in_h5(self._loaded.architecture, spec.to_json(), self._loaded.weights, path)
        if not holds:
            notes.append("an .h5 can't hold this model, so the models that are collected end in .keras")
        return Compiled(spec.to_json(), loss_name(spec), tuple(notes), ".h5" if holds else ".keras")

    def _try(self, arrays: dict[str, AnyArray]) -> Done:
        assert self._loaded is not None
        member = Member.of(arrays, self._model.normalizer, self._model.target_normalizer)
        x, y = convert(self._model, member.normalizer, member.targets, arrays["x_train"], arrays["y_train"])
        check_batch(self._model.architecture, self._model.compile, self._loaded.weights, x, y)
        return Done()

    def _members(self, files: Sequence[ArrayFile]) -> list[Member]:
        return [Member.of(file.load(), self._model.normalizer, self._model.target_normalizer) for file in files]

    def _write_final(self, path: Path, members: list[Member]) -> dict[str, float]:
        """Write a final model; its metrics are those of the written file on raw rows, not those of its parts."""
        import keras

        model = self._model
        if len(members) > 1:
            write_ensemble(path, model.architecture, model.compile, members)
        else:
            write_final(path, model.architecture, model.compile, members[0])
        x, y = self._test
        if not len(x):
            return {}
        target = Target(model.target)
        y = make_target(target, y, members[0].normalizer.apply(x), model.output_shape)
        written = keras.models.load_model(path)
        compile_model(written, read_spec(model.compile))  # a file has the long names of metrics
        scorer = RowScorer(written)
        loss, outputs = scorer.score(x, y)
        return with_compiled(
            {"loss": loss, **metrics(target, y, as_predictions(model, outputs), model.ignored)}, scorer.compiled
        )

    def _average(self, path: Path, members: list[Member], rows: Sequence[int]) -> ArrayFile:
        weights = average([member.weights for member in members], rows)
        return ArrayFile.write(path, {**weights, **members[0].constants()})


def problem(failed: LanfitError | MemoryError | OSError | sqlite3.OperationalError) -> Problem:
    """What went wrong as an answer, by its nearest class of the error tree: what the server can make of it."""
    match failed:
        case LanfitError():
            error = failed
        case MemoryError():
            error = mistake("model.out-of-memory")
        case _:
            error = refused(failed)
    code = "disk.full" if is_full(failed) else error.code
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "lanfit.errors")
    return Problem(kind, error.message, error.hint, code)


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
        except (LanfitError, MemoryError, OSError) as failed:
            reply = problem(failed)
        parent.send(reply)


if __name__ == "__main__":
    main()
