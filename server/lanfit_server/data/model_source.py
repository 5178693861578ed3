"""Where the model of a run comes from: a file that is read when the run starts, or one that was read already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lanfit.data.labels import Target, check_order
from lanfit.models.custom_files import AllowedFile
from lanfit.settings.fields import Value
from lanfit.settings.job import COMPILED, Job
from lanfit.wire.messages import Model
from lanfit_server.data.prepare import model_of
from lanfit_server.models.handle import Compile, Compiled, Loaded, LoadModel, ModelProcess
from lanfit_server.models.model_folder import check_there
from lanfit_server.store.array_source import ArraySource

SOFT = "The targets are between 0 and 1: they are used as they are, and evaluated as numbers, not as classes"


@dataclass(frozen=True)
class ReadyModel:
    """A model that was read, and what its job makes of it.

    Args:
        custom: the files with custom objects that the job names.
        notes: notes about the model that were not shown yet.
    """

    loaded: Loaded
    model: Model
    custom: tuple[AllowedFile, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModelFile:
    """A model file, and the compile options of the job."""

    path: str
    compile: Compile
    custom: tuple[AllowedFile, ...] = ()

    async def read(self, job: Job, models: ModelProcess, folder: Path, arrays: ArraySource | None = None) -> ReadyModel:
        """Read and compile the model.

        Args:
            folder: for its weights.
            arrays: the rows that a program gave, if it did.

        Raises:
            InputError: the model can't be used, or does not go with the job.
        """
        check_there(Path(self.path))
        request = LoadModel(self.path, str(folder / "weights.block"), self.custom)
        loaded = await models.ask(request, Loaded)
        compiled = await models.ask(self.compile, Compiled)
        if loaded.is_single:
            check_order(compiled.loss, job.order)
        model, notes = model_of(job, loaded, compiled, self.custom), (*loaded.notes, *compiled.notes)
        if arrays is not None:
            model, soft = with_soft_labels(model, arrays)
            notes = (*notes, *soft)
        return ReadyModel(loaded, model, self.custom, notes)


def compile_request(values: Mapping[str, Value]) -> Compile:
    """Return the compile options of the loaded model, overridden by a job."""
    chosen = {key: values.get(key) for key in ("optimizer", "loss", "learning_rate", "metrics")}
    return msgspec.convert({key: None if value == COMPILED else value for key, value in chosen.items()}, Compile)


def with_soft_labels(model: Model, rows: ArraySource) -> tuple[Model, tuple[str, ...]]:
    """Return the model for such targets, and notes.

    As in Keras: the loss accepts fractions like 0 and 1; classification metrics do not apply to them.
    """
    soft = {each.name for each in model.gives if each.target == Target.BINARY and rows.has_soft_labels(each.name)}
    if not soft:
        return model, ()
    if not model.outputs:
        return msgspec.structs.replace(model, target=Target.VALUES), (SOFT,)
    outputs = tuple(
        msgspec.structs.replace(each, target=Target.VALUES) if each.name in soft else each for each in model.outputs
    )
    return msgspec.structs.replace(model, outputs=outputs, target=outputs[0].target), (SOFT,)
