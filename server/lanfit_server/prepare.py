"""Before any client is asked to work: from a job and its model to the rows of the run, and what is written down of it.

After this the run exists, with its folder and ledger; when anything is wrong, nothing of it does.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np

from lanfit.crash import crash_point
from lanfit.data.labels import Target, target_of
from lanfit.data.normalize import Normalizer
from lanfit.data.prepare import Prepared, check_target_normalizer, take_parts
from lanfit.durable import write_whole, written_whole
from lanfit.errors import InputError
from lanfit.files import ArrayFile, BlockFile
from lanfit.job import Job, to_toml
from lanfit.models.compiling import CompileSpec, ignored_class
from lanfit.models.custom import AllowedFile
from lanfit.models.member import Member
from lanfit.parts import PartRange
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import Model, OwnRows
from lanfit.workspace import Workspace
from lanfit_server.collect import OpenRun
from lanfit_server.evaluate import Compiled, Loaded
from lanfit_server.ledger import Ledger, RunRecord
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.prepare_data.writing import current_recipe
from lanfit_server.reading import check_rows, fold_of


@dataclass(frozen=True)
class RunData:
    """The rows of a run, wherever they are."""

    shards: Sequence[Mapping[str, AnyArray]]
    """What is sent with the tasks of each shard: its rows, if the server has them, and the normalizers' constants."""
    samples: tuple[int, ...]
    """Rows of each shard, validation rows included."""
    train: int
    validation: int
    test: int
    normalizer: Normalizer
    targets: Normalizer
    labels: tuple[str, ...] | None
    trained: tuple[int, ...]
    """Training rows of each shard."""
    own: OwnRows | None = None
    """How clients draw their own rows; None when the server deals them."""
    parts: tuple[PartRange, ...] = ()
    """What each client has taken; empty when rows are not dealt in parts."""
    claimed: tuple[int, ...] = ()
    """Training rows of each shard as its client claims them, where one counts for less; else empty."""

    @property
    def rows(self) -> int:
        """Rows of all shards."""
        return sum(self.samples)


def model_of(job: Job, loaded: Loaded, compiled: Compiled, files: Sequence[AllowedFile] = ()) -> Model:
    """What the job asks of the model that was loaded.

    Args:
        files: with custom objects; clients need them if the model uses any.

    Raises:
        InputError: targets are to be normalized that are no numbers.
    """
    target = target_of(compiled.loss, job.order, loaded.output_shape, is_softmax=loaded.is_softmax)
    check_target_normalizer(job.normalize_targets, Target(target))
    return Model(
        architecture=loaded.architecture,
        compile=compiled.compile,
        input_shape=loaded.input_shape,
        output_shape=loaded.output_shape,
        target=target,
        normalizer=job.normalizer,
        target_normalizer=job.normalize_targets,
        custom=tuple(file.spec for file in files) if loaded.objects else (),
        objects=loaded.objects,
        ending=compiled.ending,
        ids=loaded.ids,
        ignored=ignored_class(msgspec.json.decode(compiled.compile, type=CompileSpec)),
    )


def take(job: Job, model: Model, data: Prepared, taken: Sequence[PartRange], owners: Sequence[str]) -> RunData:
    """The rows of each client, which has taken these parts.

    Raises:
        InputError: they are too few to train on; the client is named.
    """
    for owner, parts in zip(owners, taken, strict=True):
        try:
            [shard] = take_parts(data, [parts], job.batch_size).shards
        except InputError as wrong:
            raise wrong.at(owner) from None
        if job.method == "kfold":
            target, where = Target(model.target), f"{owner} with {parts.said}"
            check_rows(fold_of(job, 1), target, model.ignored, shard, data.labels, job.batch_size, where)
    return replace(dealt(take_parts(data, taken, job.batch_size)), parts=tuple(taken))


def patience_note(job: Job, validation: int) -> str:
    """What is to be said about patience when a run has so few validation rows; empty for nothing."""
    held_out = job.validation_split if job.method == "kfold" else validation
    if job.patience is None or job.method == "federated" or held_out:
        return ""
    return (
        "there are no validation rows: patience watches the loss on the training rows, which falls "
        "even when a model gets worse on new ones"
    )


def own_rows(job: Job) -> OwnRows:
    """How clients draw the rows of their own files."""
    folds = job.folds if job.method == "kfold" else 0
    return OwnRows(
        job.batch_size,
        job.test_split,
        job.validation_split,
        folds,
        job.seed,
        job.npz_key,
        decimal=job.decimal,
        thousands=job.thousands,
    )


def dealt(data: Prepared) -> RunData:
    """The rows that the server deals out."""
    constants = Member({}, data.normalizer, data.target_normalizer).constants()
    shards = [
        {
            "x_train": rows.x_train,
            "y_train": rows.y_train,
            "x_validation": rows.x_validation,
            "y_validation": rows.y_validation,
            **({} if rows.w_train is None else {"w_train": rows.w_train}),
            **({} if rows.w_validation is None else {"w_validation": rows.w_validation}),
            **constants,
        }
        for rows in data.shards
    ]
    samples = tuple(
        len(rows.x_train) + (0 if data.shared_validation else len(rows.x_validation)) for rows in data.shards
    )
    return RunData(
        shards=shards,
        samples=samples,
        train=data.train,
        validation=data.validation,
        test=data.test,
        normalizer=data.normalizer,
        targets=data.target_normalizer,
        labels=data.labels,
        trained=tuple(len(rows.x_train) for rows in data.shards),
    )


def test_rows(data: Prepared, scratch: Path) -> ArrayFile:
    """The server's test rows, for the model process."""
    return ArrayFile.write(scratch / "test.block", {"x": data.x_test, "y": data.y_test})


def no_rows(scratch: Path) -> ArrayFile:
    """No test rows at all, for the model process."""
    return ArrayFile.write(scratch / "none.block", {"x": np.empty(0), "y": np.empty(0)})


def targets_of_test(data: Prepared, job: Job) -> AnyArray | None:
    """What the models should predict for the test rows, as the files hold it; None without test rows."""
    if not data.test:
        return None
    return data.x_test if job.order == "XX" else data.y_test


def first_batch(data: RunData, scratch: Path) -> ArrayFile:
    """A batch of training rows to try, for the model process."""
    shard = data.shards[0]
    batch = {name: array[:32] if name.endswith("_train") else array for name, array in shard.items()}
    return ArrayFile.write(scratch / "batch.block", batch)


def record_of(run: str, job: Job, server_id: bytes, loaded: Loaded, model: Model, data: RunData) -> RunRecord:
    """What is written down about a run before it begins."""
    return RunRecord(
        run=run,
        server_id=server_id,
        job=to_toml(job),
        file=job.model,
        parameters=loaded.parameters,
        epochs=max(job.epochs, job.local_steps or 0),
        model=model,
        weights=loaded.weights.block.arrays,
        weights_id=loaded.weights.block.id,
        trainable=loaded.trainable,
        shards=_blocks_of(data),
        constants=block_of(Member({}, data.normalizer, data.targets).constants()).arrays,
        labels=data.labels,
        own=data.own,
        parts=data.parts,
        samples=data.samples,
        rows=data.trained,
        train=data.train,
        validation=data.validation,
        test=data.test,
    )


def _blocks_of(data: RunData) -> tuple[BlockSpec, ...]:
    """What is sent with the tasks of each shard; where rows are the clients' own it is the same for all."""
    if data.own is not None:
        return (block_of(data.shards[0]),) * len(data.shards)
    return tuple(block_of(shard) for shard in data.shards)


def new_run_id(workspace: Workspace) -> str:
    """The local date and time, made unique in the workspace; sorts by age."""
    base = time.strftime("%Y%m%d-%H%M%S")
    number, run = 1, base
    while workspace.run_folder(run).exists() or workspace.collected(run).exists():
        number += 1
        run = f"{base}-{number}"
    return run


def open_run(workspace: Workspace, record: RunRecord, weights: Mapping[str, AnyArray], data: RunData) -> OpenRun:
    """Make the run: its folder with `job.toml`, all that is needed to go on with it, and, last, the ledger."""
    folder = workspace.run_folder(record.run)
    write_whole(folder / "job.toml", record.job)
    keep_recipe(workspace, record, folder)
    ledger = Ledger(folder)
    run = OpenRun(workspace, record.run, ledger, record)
    _keep(run.weights, weights)
    if data.own is not None:
        _keep(run.own_shard, data.shards[0])
    crash_point("server.run-kept")
    ledger.open_run(record)
    return run


def keep_recipe(workspace: Workspace, record: RunRecord, folder: Path) -> None:
    """Keep the recipe of prepared data with the run: the files may be others when it ends."""
    if record.own is None and tomllib.loads(record.job).get("data") == "files":
        recipe = current_recipe(workspace)
        if recipe is not None:
            write_whole(folder / RECIPE, recipe)


def _keep(path: Path, arrays: Mapping[str, AnyArray]) -> None:
    with written_whole(path) as temporary:
        BlockFile.write(temporary, arrays)
