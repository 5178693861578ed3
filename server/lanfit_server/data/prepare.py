"""Prepares a run before any client starts to work: from a job and its model to the rows of the run, and its record.

After this the run exists, with its folder and ledger; on an error, nothing of it does.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import numpy as np

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_file, atomic_write
from lanfit.core.failpoints import failpoint
from lanfit.core.workspace import Workspace
from lanfit.data.labels import Target, target_of
from lanfit.data.prepare import Prepared, check_target_normalizer, no_normalizers, take_parts
from lanfit.data.shard import Arrays, Normalizers, Samples, Shard
from lanfit.errors import InputError, lanfit_error
from lanfit.models.compiling import CompileSpec, ignored_by, name_of_loss, options_of
from lanfit.models.custom_files import AllowedFile
from lanfit.settings.changes import Changes
from lanfit.settings.job import ARRAYS, Job, to_toml
from lanfit.settings.parts import PartRange
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import ClientData, InputSpec, Model, OutputSpec
from lanfit.wire.tasks import Y
from lanfit_server.data.reading import check_rows
from lanfit_server.methods.registry import METHODS, fold_of, folds_of
from lanfit_server.models.handle import Compiled, Loaded
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.prepare_data.writing import current_recipe
from lanfit_server.store.ledger import Ledger, RunRecord, recorded_labels
from lanfit_server.store.result_store import OpenRun


@dataclass(frozen=True)
class RunData:
    """The rows of a run, on the server or at clients."""

    shards: Sequence[Shard]
    """What is sent with the tasks of each shard: its rows, if the server has them, and the normalizers."""
    samples: tuple[int, ...]
    """Rows of each shard, including validation rows."""
    train: int
    validation: int
    test: int
    normalizers: Normalizers
    labels: Mapping[str, tuple[str, ...]]
    """The names of the classes 0, 1, … of each target; not of those whose files hold integers."""
    trained: tuple[int, ...]
    """Training rows of each shard."""
    own: ClientData | None = None
    """How clients select their own rows; None if the server partitions them."""
    parts: tuple[PartRange, ...] = ()
    """The parts of each client; empty if there are no parts."""
    claimed: tuple[int, ...] = ()
    """Training rows of each shard as claimed by its client, if one counts for less; else empty."""

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(self.samples)


def model_of(job: Job, loaded: Loaded, compiled: Compiled, files: Sequence[AllowedFile] = ()) -> Model:
    """Return the requirements of the job for the loaded model.

    Args:
        files: with custom objects; clients need them if the model uses any.

    Raises:
        InputError: targets are to be normalized that are no numbers.
    """
    spec = decode_json(compiled.compile, CompileSpec)
    inputs, outputs = specs_of(job, loaded, spec, compiled.losses)
    first = outputs[0]
    several = len(inputs) + len(outputs) > 2
    return Model(
        architecture=loaded.architecture,
        compile=compiled.compile,
        input_shape=loaded.input_shape,
        output_shape=first.shape,
        target=first.target,
        normalizer=job.normalizer,
        target_normalizer=job.normalize_targets,
        custom=tuple(file.spec for file in files) if loaded.objects else (),
        objects=loaded.objects,
        ending=compiled.ending,
        ids=inputs[0].ids,
        ignored=first.ignored,
        inputs=inputs if several else (),
        outputs=outputs if several else (),
    )


def specs_of(
    job: Job, loaded: Loaded, spec: CompileSpec, losses: Mapping[str, str] = MappingProxyType({})
) -> tuple[tuple[InputSpec, ...], tuple[OutputSpec, ...]]:
    """Return the specs of each input and each output of a model.

    With several inputs, ids are not normalized; with several outputs, of the targets only numbers are.

    Args:
        losses: by output, the name of its loss, where it takes custom code to know it.

    Raises:
        InputError: targets are to be normalized of which none is numbers, or order XX with several arrays.
    """
    several = len(loaded.inputs) + len(loaded.outputs) > 2
    if several and job.order == "XX":
        raise lanfit_error("targets.several-with-xx", inputs=len(loaded.inputs), outputs=len(loaded.outputs))
    if several and job.data == "client":
        raise lanfit_error("own-data.several-arrays")
    if several and job.data not in ("files", ARRAYS):
        raise lanfit_error("set.several-arrays")
    inputs = tuple(
        InputSpec(each.name, each.shape, "none" if several and each.ids is not None else job.normalizer, each.ids)
        for each in loaded.inputs
    )
    options = options_of(spec, [each.name for each in loaded.outputs])
    outputs = []
    for each in loaded.outputs:
        loss = options[each.name].loss
        target = target_of(
            losses.get(each.name) or name_of_loss(loss), job.order, each.shape, is_softmax=each.is_softmax
        )
        numbers = target is Target.VALUES
        normalizer = job.normalize_targets if numbers or len(loaded.outputs) == 1 else "none"
        outputs.append(OutputSpec(each.name, each.shape, target, normalizer, ignored_by(loss)))
    if all(Target(each.target) is not Target.VALUES for each in outputs):
        check_target_normalizer(job.normalize_targets, Target(outputs[0].target))
    return inputs, tuple(outputs)


def take(job: Job, model: Model, data: Prepared, taken: Sequence[PartRange], owners: Sequence[str]) -> RunData:
    """Return the rows of each client, with these parts.

    Raises:
        InputError: they are too few to train on; the client is named.
    """
    for owner, parts in zip(owners, taken, strict=True):
        try:
            [shard] = take_parts(data, [parts], job.batch_size).shards
        except InputError as error:
            raise error.at(owner) from None
        if folds_of(job):
            shard = replace(shard, origin=f"{owner} with {parts.description}")
            check_rows(fold_of(job, 1), model.gives, shard, data.labels, job.batch_size)
    return replace(run_data_of(take_parts(data, taken, job.batch_size)), parts=tuple(taken))


def patience_note(job: Job, validation: int) -> str:
    """Return the note about patience for a run without validation rows; empty if there is none."""
    held_out = job.validation_split if folds_of(job) else validation
    if job.patience is None or METHODS[job.method].in_rounds or held_out:
        return ""
    return "there are no validation rows: patience monitors the training loss, which falls even when a model overfits"


def client_data(job: Job) -> ClientData:
    """Return how clients split the rows of their own files."""
    return ClientData(
        job.batch_size,
        job.test_split,
        job.validation_split,
        folds_of(job),
        job.seed,
        job.npz_key,
        decimal=job.decimal,
        thousands=job.thousands,
    )


def run_data_of(data: Prepared) -> RunData:
    """Return the rows that the server partitions."""
    samples = tuple(
        len(shard.train) + (0 if data.shared_validation else len(shard.validation)) for shard in data.shards
    )
    return RunData(
        shards=data.shards,
        samples=samples,
        train=data.train,
        validation=data.validation,
        test=data.test,
        normalizers=data.normalizers,
        labels=data.labels,
        trained=tuple(len(shard.train) for shard in data.shards),
    )


def test_rows(data: Prepared, model: Model, scratch: Path) -> ArrayFile:
    """Write the server's test rows, for the model process."""
    return _rows_file(scratch / "test.block", model, data.test_samples)


def no_rows(model: Model, scratch: Path) -> ArrayFile:
    """Write a file without rows, for the model process."""
    none = np.empty(0)
    samples = Samples({each.name: none for each in model.takes}, {each.name: none for each in model.gives})
    return _rows_file(scratch / "none.block", model, samples)


def _rows_file(path: Path, model: Model, rows: Samples) -> ArrayFile:
    """Write rows as a shard that contains nothing else."""
    nothing = no_normalizers(model.takes, model.gives)
    return ArrayFile.write(path, Shard(rows, rows.take(slice(0)), nothing).block())


def targets_of_test(data: Prepared, job: Job) -> Arrays | None:
    """Return the true targets of the test rows, as in the files; None without test rows."""
    if not data.test:
        return None
    rows = data.test_samples
    return {Y: rows.x} if job.order == "XX" else rows.targets


def first_batch(data: RunData, scratch: Path) -> ArrayFile:
    """Return a batch of training rows to try, for the model process."""
    shard = data.shards[0]
    batch = replace(shard, train=shard.train.take(slice(32)))
    return ArrayFile.write(scratch / "batch.block", batch.block())


def record_of(run: str, job: Job, server_id: bytes, loaded: Loaded, model: Model, data: RunData) -> RunRecord:
    """Return the record of a run before it starts."""
    return RunRecord(
        run=run,
        server_id=server_id,
        job=to_toml(job),
        file=job.model,
        parameters=loaded.parameters,
        epochs=max(Changes.of(job.changes).most_epochs(job.epochs), job.local_steps or 0),
        model=model,
        weights=loaded.weights.block.arrays,
        weights_id=loaded.weights.block.id,
        trainable=loaded.trainable,
        shards=_blocks_of(data),
        constants=block_of(data.normalizers.constants()).arrays,
        labels=recorded_labels(model, data.labels),
        own=data.own,
        parts=data.parts,
        samples=data.samples,
        rows=data.trained,
        train=data.train,
        validation=data.validation,
        test=data.test,
    )


def _blocks_of(data: RunData) -> tuple[BlockSpec, ...]:
    """Return the data of the tasks of each shard; the same for all if clients have their own data."""
    if data.own is not None:
        return (block_of(data.shards[0].block()),) * len(data.shards)
    return tuple(block_of(shard.block()) for shard in data.shards)


def new_run_id(workspace: Workspace) -> str:
    """Return the local date and time, made unique in the workspace; it sorts by age."""
    base = time.strftime("%Y%m%d-%H%M%S")
    number, run = 1, base
    while workspace.run_folder(run).exists() or workspace.collected(run).exists():
        number += 1
        run = f"{base}-{number}"
    return run


def open_run(workspace: Workspace, record: RunRecord, weights: Mapping[str, AnyArray], data: RunData) -> OpenRun:
    """Create the run: its folder with `job.toml`, everything needed to resume it and, last, the ledger."""
    folder = workspace.run_folder(record.run)
    atomic_write(folder / "job.toml", record.job)
    keep_recipe(workspace, record, folder)
    ledger = Ledger(folder)
    run = OpenRun(workspace, record.run, ledger, record)
    _keep(run.weights, weights)
    if data.own is not None:
        _keep(run.client_data_shard, data.shards[0].block())
    failpoint("server.run-stored")
    ledger.open_run(record)
    return run


def keep_recipe(workspace: Workspace, record: RunRecord, folder: Path) -> None:
    """Keep the recipe of prepared data with the run: the files may have changed when it ends."""
    if record.own is None and tomllib.loads(record.job).get("data") == "files":
        recipe = current_recipe(workspace)
        if recipe is not None:
            atomic_write(folder / RECIPE, recipe)


def _keep(path: Path, arrays: Mapping[str, AnyArray]) -> None:
    with atomic_file(path) as temporary:
        BlockFile.write(temporary, arrays)
