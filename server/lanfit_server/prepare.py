"""Before any client is asked to work: read and check the data, let one batch through the model, write the job down.

After this the run exists, with its folder and ledger; when anything is wrong, nothing of it does.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from lanfit.data.labels import target_of
from lanfit.data.prepare import DataRequest, Prepared, prepare
from lanfit.durable import write_whole
from lanfit.files import ArrayFile, BlockFile
from lanfit.job import Job, to_toml
from lanfit.wire.arrays import AnyArray, ArraySpec, block_size
from lanfit.workspace import Workspace
from lanfit_server.collect import OpenRun
from lanfit_server.evaluate import Compiled, Loaded, UseData
from lanfit_server.ledger import Ledger, Preprocessing, RunRecord

Shape = tuple[int | None, ...]


def read_data(
    job: Job, workspace: Workspace, loss: str, input_shape: Shape, output_shape: Shape, scratch: Path
) -> Prepared:
    """Steps 1 and 2: files to shards, in memory-mapped files under `scratch`.

    Raises:
        InputError: whatever is wrong with the data.
    """
    target = target_of(loss, job.order, output_shape)
    request = DataRequest(
        x_dir=workspace.inputs,
        y_dir=workspace.targets if job.order == "XY" else None,
        input_shape=input_shape,
        output_shape=output_shape,
        target=target,
        shards=job.clients,
        batch_size=job.batch_size,
        test_split=job.test_split,
        validation_split=job.validation_split,
        normalizer=job.normalizer,
        seed=job.seed,
        npz_key=job.npz_key,
    )

    def allocate(name: str, shape: tuple[int, ...], dtype: np.dtype[np.generic]) -> AnyArray:
        spec = ArraySpec(name, dtype.name, shape)
        return BlockFile.create(scratch / f"{name}.block", block_size([spec])).arrays([spec])[name]

    return prepare(request, allocate)


def use_data(data: Prepared, target: str, scratch: Path) -> UseData:
    """What the model process needs to score models: the test rows, the normalizer, and a batch to try."""
    first = data.shards[0]
    arrays = {
        "x": data.x_test,
        "y": data.y_test,
        "x_batch": first.x_train[:32],
        "y_batch": first.y_train[:32],
        "subtract": data.normalizer.subtract,
        "multiply": data.normalizer.multiply,
    }
    return UseData(ArrayFile.write(scratch / "test.block", arrays), target, data.normalizer.name)


def record_of(run: str, job: Job, server_id: bytes, loaded: Loaded, compiled: Compiled, data: Prepared) -> RunRecord:
    """What is written down about a run before it begins."""
    return RunRecord(
        run=run,
        server_id=server_id,
        job=to_toml(job),
        model=job.model,
        parameters=loaded.parameters,
        epochs=job.epochs,
        architecture=loaded.architecture,
        compile=compiled.compile,
        loss=compiled.loss,
        target=target_of(compiled.loss, job.order, loaded.output_shape),
        input_shape=loaded.input_shape,
        output_shape=loaded.output_shape,
        weights=loaded.weights.block.arrays,
        preprocessing=Preprocessing.of(data.normalizer, data.labels),
        samples=tuple(len(shard.x_train) + len(shard.x_validation) for shard in data.shards),
        train=data.train,
        validation=data.validation,
        test=data.test,
    )


def new_run_id(workspace: Workspace) -> str:
    """The local date and time, made unique in the workspace; sorts by age."""
    base = time.strftime("%Y%m%d-%H%M%S")
    number, run = 1, base
    while workspace.run_folder(run).exists() or workspace.collected(run).exists():
        number += 1
        run = f"{base}-{number}"
    return run


def open_run(workspace: Workspace, record: RunRecord) -> OpenRun:
    """Make the run: its folder with `job.toml` and the ledger."""
    folder = workspace.run_folder(record.run)
    write_whole(folder / "job.toml", record.job)
    ledger = Ledger(folder)
    ledger.open_run(record)
    return OpenRun(workspace, record.run, ledger, record)
