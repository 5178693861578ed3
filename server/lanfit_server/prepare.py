"""Before any client is asked to work: from a job and its model to the rows of the run, and what is written down of it.

After this the run exists, with its folder and ledger; when anything is wrong, nothing of it does.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

import msgspec
import numpy as np

from lanfit.crash import crash_point
from lanfit.data.dealing import Dealing
from lanfit.data.labels import Target, class_ids, target_of
from lanfit.data.normalize import Normalizer
from lanfit.data.prepare import DataRequest, Prepared, ShardRows, check_target_normalizer, prepare, take_parts
from lanfit.data.sources import Source
from lanfit.durable import write_whole, written_whole
from lanfit.errors import InputError
from lanfit.files import ArrayFile, BlockFile
from lanfit.job import Job, to_toml
from lanfit.models.compiling import CompileSpec, ignored_class
from lanfit.models.custom import AllowedFile
from lanfit.models.member import Member
from lanfit.parts import PartRange
from lanfit.text import pluralize
from lanfit.training.folds import check_folds
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of, block_size
from lanfit.wire.messages import Fold, Model, OwnRows
from lanfit.workspace import Workspace
from lanfit_server.collect import OpenRun
from lanfit_server.evaluate import Compiled, Loaded
from lanfit_server.ledger import Ledger, RunRecord
from lanfit_server.prepare_data.recipe import FILE as RECIPE
from lanfit_server.prepare_data.writing import current_recipe


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


def read_data(job: Job, workspace: Workspace, model: Model, scratch: Path, source: Source | None = None) -> Prepared:
    """Steps 1 and 2: files to shards, in memory-mapped files under `scratch`.

    Args:
        source: where rows come from, if not from the workspace's folders.

    Raises:
        InputError: whatever is wrong with the data.
    """
    request = DataRequest(
        x_dir=workspace.inputs,
        y_dir=workspace.targets if job.order == "XY" else None,
        input_shape=model.input_shape,
        output_shape=model.output_shape,
        target=Target(model.target),
        shards=job.clients,
        batch_size=job.batch_size,
        test_split=job.test_split,
        # Each fold draws its own validation rows, out of its training rows.
        validation_split=0.0 if job.method == "kfold" else job.validation_split,
        normalizer=job.normalizer,
        seed=job.seed,
        npz_key=job.npz_key,
        decimal=job.decimal,
        thousands=job.thousands,
        samples=job.samples or None,
        normalize_targets=job.normalize_targets,
        dealing=dealing_of(job),
        ids=model.ids if job.normalizer == "none" else None,
        ignored=model.ignored,
    )

    def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
        spec = ArraySpec(name, dtype.name, shape)
        return BlockFile.create(scratch / f"{name}.block", block_size([spec])).arrays([spec])[name]

    data = prepare(request, allocate, source)
    if job.method == "kfold" and job.deal != "parts":
        for number, shard in enumerate(data.shards, 1):
            _check_folds(job, model, shard, data.labels, f"shard {number} of {len(data.shards)}")
    return data


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
            _check_folds(job, model, shard, data.labels, f"{owner} with {parts.said}")
    return replace(dealt(take_parts(data, taken, job.batch_size)), parts=tuple(taken))


def dealing_of(job: Job) -> Dealing:
    """How the rows of a job are dealt."""
    return Dealing(job.deal, job.alpha, job.classes_per_client, job.parts_of or 1, _least_rows(job))


def _least_rows(job: Job) -> int:
    """How many rows a shard needs so that a batch is left to train on, beside validation rows and a held-out fold."""
    rows = _least(job.batch_size, job.validation_split)
    return _least(rows, 1 / job.folds) if job.method == "kfold" else rows


def _least(wanted: int, share: float) -> int:
    """The smallest number of rows of which so many are left when a share, rounded up, is held out."""
    rows = max(wanted, int(wanted / (1 - share)) - 1)
    while rows - ceil(share * rows) < wanted:
        rows += 1
    return rows


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


def fold_of(job: Job, number: int) -> Fold:
    """A fold of a job; all shards are cut with the job's own seed, so that anyone can draw the same folds."""
    return Fold(number, job.folds, job.seed, job.validation_split, few=job.deal in ("dirichlet", "classes"))


def _check_folds(job: Job, model: Model, shard: ShardRows, words: tuple[str, ...] | None, where: str) -> None:
    classes = class_ids(Target(model.target), shard.y_train, model.ignored)
    try:
        check_folds(fold_of(job, 1), len(shard.x_train), classes, job.batch_size, words)
    except InputError as wrong:
        raise wrong.at(f"{where} has {pluralize(len(shard.x_train), 'row')}") from None


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
