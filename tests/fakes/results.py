"""Runs, results and a result store with an open run, as several tests need them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lanfit.core.workspace import Workspace
from lanfit.models.trained_model import TrainedModel
from lanfit.wire.arrays import ArraySpec, block_of
from lanfit.wire.messages import Model, Result
from lanfit_server.store.ledger import Ledger, OwnedTask, RunRecord
from lanfit_server.store.result_store import OpenRun, ResultStore

SERVER = b"s" * 16
LAB_1 = b"1" * 16
LAB_2 = b"2" * 16
WEIGHTS = (ArraySpec("dense/kernel", "float32", (3, 2)), ArraySpec("dense/bias", "float32", (2,)))
ARRAYS = {
    "dense/kernel": np.ones((3, 2), np.float32),
    "dense/bias": np.zeros(2, np.float32),
    **TrainedModel({}).constants(),
    "history": np.array([[0.5, 0.6], [0.4, 0.7]]),
}


def record(run: str) -> RunRecord:
    return RunRecord(
        run=run, server_id=SERVER, job="", file="net.h5", parameters=8, epochs=5,
        model=Model("{}", "{}", (None, 3), (None, 2), "values", "none", "none"), weights=WEIGHTS,
        shards=(), constants=block_of(TrainedModel({}).constants()).arrays, labels=None, own=None, samples=(10, 10),
        train=16, validation=4, test=5,
    )  # fmt: skip


def result(**changes: object) -> Result:
    fields: dict[str, object] = {
        "run": "run-1", "task": "shard-1", "attempt": 1, "block": block_of(ARRAYS), "metrics": ("loss", "val_loss"),
        "best_epoch": 1, "scores": {}, "seconds": {"train": 1.5}, "backend": "tensorflow",
        "device": "cpu", "threads": 2,
    }  # fmt: skip
    return Result(**{**fields, **changes})  # type: ignore[arg-type]


def store_in(folder: Path) -> ResultStore:
    """A store with one open run of two tasks, as after dealing."""
    place = Workspace(folder)
    ledger = Ledger(place.run_folder("run-1"))
    ledger.open_run(record("run-1"))
    ledger.add_tasks([OwnedTask("shard-1", "lab-1"), OwnedTask("shard-2", "lab-2")])
    ledger.remember("lab-1", LAB_1)
    ledger.remember("lab-2", LAB_2)
    ledger.lease("shard-1", 1, "lab-1")
    ledger.lease("shard-2", 1, "lab-2")
    store = ResultStore(place, SERVER)
    store.open(OpenRun(place, "run-1", ledger, record("run-1")))
    return store
