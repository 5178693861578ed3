"""The model process: the only part of the server that imports Keras. Answers the requests of evaluate.py one by one.

It loads files that the operator names, under a memory limit if the system has one: a crash there does not affect the
server.
"""

from __future__ import annotations

import json
import queue
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from lanfit.core.child import Parent
from lanfit.core.memory import free_of_machine, limit_memory
from lanfit.core.processor_time import limit_processor_time, most_seconds
from lanfit.core.system import refused
from lanfit.data.shard import NO_SAMPLES, Samples, Shard
from lanfit.errors import LanfitError, lanfit_error
from lanfit.models import custom
from lanfit.models.compiling import (
    CompileSpec,
    compile_model,
    left_out_note,
    loss_name,
    name_of_loss,
    options_of,
    override,
    read_spec,
)
from lanfit.models.evaluation import RowEvaluator, check_batch
from lanfit.models.export import ModelWriter, holds_in_h5, write_final
from lanfit.models.loading import LoadedModel, load_model
from lanfit.models.merge import average, write_ensemble
from lanfit.models.runtime import prepare_keras
from lanfit.models.trained_model import TrainedModel
from lanfit.training.folds import convert, convert_targets
from lanfit.training.keras.evaluation import Evaluator, as_predictions, figures_of
from lanfit.transfer.blocks import ArrayFile
from lanfit.transfer.partial import is_full
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import LARGEST_ARCHITECTURE, Model
from lanfit_server.models.building import build_file
from lanfit_server.models.evaluation_samples import seen_of
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
    LoadDataset,
    Loaded,
    LoadedDataset,
    LoadedInput,
    LoadedOutput,
    LoadModel,
    Metrics,
    Problem,
    Reply,
    Request,
    TryBatch,
    UseData,
    UseModel,
    WriteFinal,
    WriteModel,
    Written,
)
from lanfit_server.models.keras_datasets import load_dataset, padded

#: The memory for loading a model: this many times the file, and at least this much. In bytes.
MEMORY_FACTOR = 20
LEAST_MEMORY = 4 << 30


class ModelHolder:
    """One model, its compile options, and the server's test rows."""

    def __init__(self) -> None:
        self._loaded: LoadedModel | None = None
        self._folder = Path()
        self._model: Model
        self._evaluator: Evaluator
        self._writer: ModelWriter | None = None
        self._test = NO_SAMPLES

    def answer(self, request: Request) -> Reply:
        """Execute a request."""
        match request:
            case LoadModel(path, weights, files):
                custom.use(files)
                return self._load(Path(path), Path(weights))
            case InspectModel(path):
                return _inspect(Path(path))
            case BuildModel(path, blueprint):
                return Built(build_file(Path(path), blueprint))
            case LoadDataset():
                return self._load_dataset(request)
            case Compile():
                return self._choose(request)
            case UseModel(model, files):
                custom.use(files)
                self._model, self._evaluator, self._writer = model, Evaluator(model), None
                return Done()
            case UseData(file):
                self._test = Shard.of_block(self._model, file.load()).train
                return Done()
            case TryBatch(file, weights):
                return self._try(file.load(), weights.load())
            case Evaluate(files, shown):
                return self._evaluate(self._members(files), shown)
            case WriteModel(path, file):
                member = self._members([file])[0]
                self._writer = self._writer or ModelWriter(self._model.architecture, self._model.compile)
                self._writer.write(Path(path), member.weights)
                return Done()
            case WriteFinal(path, files, predictions):
                return self._write_final(Path(path), self._members(files), predictions)
            case Average(path, files, rows):
                return Written(self._average(Path(path), self._members(files), rows))

    def _load(self, path: Path, weights: Path) -> Loaded:
        loaded = _read(path)
        spec = read_spec(loaded.compile) if loaded.compile else CompileSpec()
        self._loaded, self._folder = loaded, weights.parent
        return Loaded(
            architecture=loaded.architecture,
            optimizer=_optimizer_of(spec),
            loss=loss_name(spec),
            inputs=_inputs_of(loaded),
            outputs=_outputs_of(loaded),
            parameters=loaded.parameters,
            weights=ArrayFile.write(weights, loaded.weights),
            trainable=loaded.trainable,
            objects=tuple(custom.names_in([json.loads(loaded.architecture), json.loads(loaded.compile or "null")])),
            notes=loaded.notes,
            problems=_problems_of(loaded),
        )

    def _load_dataset(self, request: LoadDataset) -> LoadedDataset:
        limit_memory(max(LEAST_MEMORY, free_of_machine()))  # a dataset may be larger than what its model was allowed
        found, notes = padded(load_dataset(request.name, request.args), request.input_shape)
        arrays = {name: getattr(found, name) for name in ("x_train", "y_train", "x_test", "y_test")}
        return LoadedDataset(found.name, ArrayFile.write(Path(request.path), arrays), notes)

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
            notes.append("an .h5 file can't store this model, so collected models are saved as .keras")
        options = options_of(spec, [output.name for output in self._loaded.outputs])
        losses = {name: name_of_loss(own.loss) for name, own in options.items()}
        return Compiled(spec.to_json(), loss_name(spec), tuple(notes), losses, ".h5" if holds else ".keras")

    def _try(self, arrays: dict[str, AnyArray], weights: dict[str, AnyArray]) -> Done:
        shard = Shard.of_block(self._model, arrays)
        batch = convert(self._model, shard.normalizers, shard.train)
        check_batch(self._model.architecture, self._model.compile, weights, batch)
        return Done()

    def _members(self, files: Sequence[ArrayFile]) -> list[TrainedModel]:
        return [TrainedModel.of(file.load(), self._model) for file in files]

    def _evaluate(self, members: list[TrainedModel], shown: Sequence[int]) -> Metrics:
        if not shown:
            return Metrics(self._evaluator.evaluate(members, self._test))
        metrics, predictions = self._evaluator.predict_and_evaluate(members, self._test)
        return Metrics(metrics, seen_of(self._model, self._test.targets, predictions, shown))

    def _write_final(self, path: Path, members: list[TrainedModel], predicted: str) -> Metrics:
        """Write a final model; its metrics are those of the written file on raw rows, not those of its parts."""
        import keras

        model = self._model
        if len(members) > 1:
            write_ensemble(path, model.architecture, model.compile, members)
        else:
            write_final(path, model.architecture, model.compile, members[0])
        rows = self._test
        if not len(rows):
            return Metrics({})
        normalizers = members[0].normalizers.inputs
        inputs = {name: normalizers[name].apply(array) for name, array in rows.inputs.items()}
        targets = convert_targets(model, rows.targets, inputs)
        written = keras.models.load_model(path)
        compile_model(written, read_spec(model.compile))  # a file has the long names of metrics
        evaluator = RowEvaluator(written)
        loss, outputs = evaluator.evaluate(Samples(rows.inputs, targets))
        predictions = as_predictions(model, outputs)
        figures = figures_of(model, loss, targets, predictions, evaluator.compiled)
        written = ArrayFile.write(Path(predicted), predictions) if predicted else None
        return Metrics(figures, predictions=written)

    def _average(self, path: Path, members: list[TrainedModel], rows: Sequence[int]) -> ArrayFile:
        weights = average([member.weights for member in members], rows)
        return ArrayFile.write(path, {**weights, **members[0].constants()})


def _read(path: Path) -> LoadedModel:
    limit_memory(max(LEAST_MEMORY, MEMORY_FACTOR * path.stat().st_size, free_of_machine()))
    with limit_processor_time(most_seconds(path.stat().st_size)):
        loaded = load_model(path)
    size = len(loaded.architecture.encode()) + len((loaded.compile or "").encode())
    if size > LARGEST_ARCHITECTURE:
        raise lanfit_error("model.too-large-to-send", file=path.name, size=size, most=LARGEST_ARCHITECTURE)
    return loaded


def _inspect(path: Path) -> Inspected:
    """Describe a model file."""
    loaded = _read(path)
    spec = read_spec(loaded.compile) if loaded.compile else CompileSpec()
    return Inspected(
        parameters=loaded.parameters,
        optimizer=_optimizer_of(spec),
        loss=loss_name(spec),
        inputs=_inputs_of(loaded),
        outputs=_outputs_of(loaded),
        compile=loaded.compile or "",
        problems=_problems_of(loaded),
    )


def _optimizer_of(spec: CompileSpec) -> str:
    return str(spec.optimizer["class_name"]).lower() if spec.optimizer else ""


def _inputs_of(loaded: LoadedModel) -> tuple[LoadedInput, ...]:
    return tuple(LoadedInput(each.name, (None, *each.shape), each.ids) for each in loaded.inputs)


def _outputs_of(loaded: LoadedModel) -> tuple[LoadedOutput, ...]:
    return tuple(LoadedOutput(each.name, (None, *each.shape), each.activation == "softmax") for each in loaded.outputs)


def _problems_of(loaded: LoadedModel) -> dict[str, Problem]:
    return {part: problem(wrong) for part, wrong in loaded.problems.items()}


def problem(failed: LanfitError | MemoryError | OSError | sqlite3.OperationalError) -> Problem:
    """Return an error as an answer, by its nearest class of the error tree."""
    match failed:
        case LanfitError():
            error = failed
        case MemoryError():
            error = lanfit_error("model.out-of-memory")
        case _:
            error = refused(failed)
    code = "disk.full" if is_full(failed) else error.code
    kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "lanfit.errors")
    return Problem(kind, error.message, error.hint, code)


def main() -> None:
    """Serve until the server has ended."""
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
