"""Tasks with rows and settings of their own: several of one shard, as a search for settings needs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fakes.backend import FakeBackend
from fakes.fake_cluster import run_script
from fakes.steered import MODEL, START, Operator, Run, done, job_of, rows_of_run

from lanfit.data.shard import Shard
from lanfit.models.compiling import with_learning_rate
from lanfit.settings.changes import TaskSettings
from lanfit.training.folds import rows_of_shard
from lanfit.training.loop import FitJob, fit
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Adjustment
from lanfit_server.methods.base import RowLists, Task

EVEN, ODD, SOME = tuple(range(0, 16, 2)), tuple(range(1, 16, 2)), (3, 3, 7, 1, 0, 15)
FIT = job_of("fit", keep="last")
TASKS = [
    Task("slow", 0, 5, rows=RowLists(EVEN, ODD), settings=TaskSettings(epochs=4, learning_rate=0.001)),
    Task("fast", 0, 5, rows=RowLists(EVEN, ODD), settings=TaskSettings(epochs=1, learning_rate=0.5)),
    Task("other-seed", 0, 6, rows=RowLists(EVEN, ODD)),
    Task("other-rows", 1, 5, rows=RowLists(SOME)),
    Task("all-rows", 1, 5),
]


@pytest.fixture(autouse=True)
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    async def nothing(*what: object) -> None:
        pass

    monkeypatch.setattr("lanfit_server.methods.independent_workshop.draw_chart", nothing)


def expected(task: Task) -> dict[str, AnyArray]:
    """What training by hand gives: rows cut out with NumPy, and the settings of the task."""
    shard = rows_of_run().shards[task.shard]
    if task.rows is not None:
        lists = (np.array(each, np.int64) for each in (task.rows.train, task.rows.validation))
        shard = Shard(*(shard.train.take(each) for each in lists))
    rows, backend = rows_of_shard(MODEL, shard), FakeBackend()
    backend.load("{}", with_learning_rate(MODEL.compile, task.settings.learning_rate or 0.05), START)
    job = FitJob(task.settings.epochs or FIT.epochs, FIT.batch_size, task.seed, keep_last=True)
    return fit(backend, job, rows.train, rows.validation, Operator(Adjustment())).weights


def given(run: Run, task: str) -> dict[str, AnyArray]:
    stored = run.run.ledger.result(task)
    assert stored is not None
    return {name: array for name, array in run.run.load(stored).items() if name in START}


def test_each_task_trains_on_its_own_rows_of_the_shard_with_its_own_settings(tmp_path: Path) -> None:
    run = run_script(done(tmp_path, FIT, tasks=TASKS))
    for task in TASKS:
        weights = given(run, task.key)
        assert all((weights[name] == array).all() for name, array in expected(task).items()), task.key
    kernels = {given(run, task.key)["dense/kernel"].tobytes() for task in TASKS}
    assert len(kernels) == len(TASKS), "each is another training"


def test_tasks_of_one_shard_share_its_block_and_what_was_sent_of_their_rows_is_withdrawn(tmp_path: Path) -> None:
    run = run_script(done(tmp_path, FIT, tasks=TASKS))
    leases = run.cluster.leases
    assert leases["slow"].shard == leases["fast"].shard == leases["other-seed"].shard, "a client fetches it once"
    assert leases["all-rows"].rows is None
    sent = {lease.rows.id for lease in leases.values() if lease.rows is not None}
    assert len(sent) == 2
    assert set(run.cluster.withdrawn) >= sent


def test_a_group_of_tasks_with_rows_of_their_own_gives_the_same(tmp_path: Path) -> None:
    whole = run_script(done(tmp_path / "whole", FIT, tasks=TASKS))
    grouped = [replace(task, group="step-1") if task.key in ("slow", "other-rows") else task for task in TASKS]
    assert run_script(done(tmp_path / "grouped", FIT, tasks=grouped)).weights() == whole.weights()
