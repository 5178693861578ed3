"""One model from all, in rounds: a server and clients in processes of their own, dealt rows and rows of their own."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import openpyxl
import pytest
from running import (
    Place,
    Program,
    assert_same_weights,
    client,
    each_model,
    fake_client,
    flags,
    free_port,
    lines_of,
    plain_keras,
    port_of,
)
from small_workspace import SmallWorkspace

from lanfit.core.failpoints import VARIABLE

pytestmark = pytest.mark.story
JOB = {"model": "classes.h5", "method": "federated", "rounds": 3, "epochs": 2, "batch_size": 2, "seed": 7}

SCORE = """
import sys, json
import keras, numpy as np
model = keras.models.load_model(sys.argv[1])
rows = np.load(sys.argv[2])
print(json.dumps(float(model.evaluate(rows["x"], rows["y"], verbose=0, return_dict=True)["loss"])))
"""


def worker(folder: Path, port: int, name: str, *arguments: object, **options: Any) -> Program:
    return client(folder, port, name, "--backend", "jax", *arguments, **options)


def train(
    place: Place, tmp_path: Path, clients: int = 2, worker: Callable[..., Program] = worker, **job: object
) -> dict[str, Any]:
    """A run with clients of its own; returns its summary."""
    with contextlib.ExitStack() as programs:
        given = (*flags(free_port(), clients, **{**JOB, **job}), "--threads", 1)
        server = programs.enter_context(place.server(*given))
        port = port_of(server)
        folder = tmp_path / f"clients-{len(place.runs)}"
        workers = [
            programs.enter_context(worker(folder / str(number), port, f"lab-{number}"))
            for number in range(1, clients + 1)
        ]
        server.finish()
        for each in workers:
            each.finish()
    return place.summary()


def same_models(place: Place, one: str, other: str) -> None:
    models = list(zip(each_model(place, one), each_model(place, other), strict=True))
    assert models
    for ours, theirs in models:
        assert ours.name == theirs.name
        assert_same_weights(ours, theirs)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def test_two_clients_make_one_model_in_rounds(place: Place, tmp_path: Path) -> None:
    job = {"model": "digits.h5", "rounds": 4, "epochs": 1, "batch_size": 32, "normalizer": "zscore"}
    summary = train(place, tmp_path, **job)
    run = summary["run"]
    assert summary["status"] == "done"
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3, 4]
    for each in summary["rounds"]:
        assert each["clients"] == ["lab-1", "lab-2"]
        assert each["seconds"] >= each["overhead_seconds"] >= 0
        assert set(each["metrics"]) == {"loss", "accuracy", "precision", "recall", "f1"}
        assert set(each["validation"]) == {"lab-1", "lab-2"}
        assert all(drift["norm"] > 0 and -1 <= drift["cosine"] <= 1 for drift in each["drift"].values())
    assert (place.root / "logs" / run / "history.png").is_file()
    losses = [each["metrics"]["loss"] for each in summary["rounds"]]
    assert losses[-1] < losses[0]
    final = summary["final"]
    assert final["client"] is None
    assert final["round"] == 4
    assert final["metrics"]["loss"] == pytest.approx(losses[-1], rel=1e-5)
    for each in summary["clients"]:
        assert each["tasks"] == 4
        assert each["model"] is None
        history = lines_of(place.root / "logs" / run / "clients" / each["name"] / "history.csv")
        assert [line.split(",")[0] for line in history] == ["epoch", "0", "1", "2", "3"]
        assert len(each["history"]["loss"]) == 4

    collected = place.root / "model" / "collected" / run
    assert {path.name for path in collected.glob("round-*.h5")} >= {"round-0004.h5"}
    assert not (place.root / "logs" / run / "rounds").exists()
    book = openpyxl.load_workbook(place.root / "logs" / run / "report.xlsx")
    assert [row[0] for row in book["rounds"].iter_rows(values_only=True)] == ["round", 1, 2, 3, 4]

    # Plain Keras opens the outcome, which takes raw rows.
    from lanfit.core.seeds import derive_seed
    from lanfit.data.split import split_rows

    x = np.loadtxt(place.root / "dataset/X/digits.csv", delimiter=",", skiprows=1, dtype=np.float32)
    y = np.loadtxt(place.root / "dataset/Y/digits.csv", delimiter=",", skiprows=1, dtype=np.int64)
    _, test = split_rows(len(x), 0.2, derive_seed(7, "test"), y)
    np.savez(tmp_path / "test.npz", x=x[test].reshape(-1, 8, 8, 1), y=y[test])
    assert json.loads(plain_keras(SCORE, place.root / final["model"], tmp_path / "test.npz")) == pytest.approx(
        final["metrics"]["loss"], rel=1e-4
    )


def test_its_own_job_file_repeats_a_run_to_the_bit_with_a_share_of_the_clients_and_an_adaptive_server(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    job = {"strategy": "fedyogi", "server_learning_rate": 0.1, "share": 0.5, "aggregation": "mean"}
    summary = train(small_workspace, tmp_path, **job)
    assert [len(each["clients"]) for each in summary["rounds"]] == [1, 1, 1]
    again = small_workspace.root / "logs" / summary["run"] / "job.toml"
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(small_workspace.server("--job", again, "--port", free_port()))
        workers = [
            programs.enter_context(worker(tmp_path / f"again-{number}", port_of(server), f"lab-{number}"))
            for number in (1, 2)
        ]
        server.finish()
        for each in workers:
            each.finish()
    repeated = small_workspace.summary()
    assert [each["clients"] for each in repeated["rounds"]] == [each["clients"] for each in summary["rounds"]]
    same_models(small_workspace, summary["run"], repeated["run"])


ADAPTIVE = {**JOB, "strategy": "fedadam"}


class Baseline:
    """A run in peace, and a place where others do the same while something is killed. What trains is of no account."""

    def __init__(self, folder: Path, models: Path) -> None:
        self.place = SmallWorkspace(folder / "server", models)
        self.run = train(self.place, folder, worker=fake_client, **ADAPTIVE)["run"]

    def ledgers(self) -> set[str]:
        return {path.parent.name for path in (self.place.root / "logs").glob("*/ledger.sqlite")}

    def server(self, port: int, **options: Any) -> Program:
        return self.place.server(*flags(port, 2, **ADAPTIVE), "--threads", 1, **options)

    def check(self, run: str) -> None:
        summary = self.place.summary(run)
        assert summary["status"] == "done"
        assert len(summary["rounds"]) == 3
        same_models(self.place, self.run, run)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Baseline:
    return Baseline(tmp_path_factory.mktemp("calm"), tiny_models)


def test_a_server_that_is_killed_as_a_round_ends_continues_with_the_same_models(
    baseline: Baseline, tmp_path: Path
) -> None:
    """At one failpoint of three: a server in this process dies at all of them in test_federated_rounds.py."""
    port, before = free_port(), baseline.ledgers()
    with contextlib.ExitStack() as programs:
        dying = programs.enter_context(baseline.server(port, environment={VARIABLE: "server.round-written:2"}))
        port_of(dying)
        workers = [programs.enter_context(fake_client(tmp_path / name, port, name)) for name in ("lab-1", "lab-2")]
        dying.finish(-9)
        [run] = baseline.ledgers() - before
        again = programs.enter_context(baseline.place.server("--resume", run, passphrase=None))
        again.expect(rf"Resuming run {run}: \d rounds? (is|are) done")
        again.finish()
        for each in workers:
            each.finish()
    baseline.check(run)


def test_a_client_that_is_killed_in_a_round_costs_nothing_but_time(baseline: Baseline, tmp_path: Path) -> None:
    port, before = free_port(), baseline.ledgers()
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(baseline.server(port))
        port_of(server)
        survivor = programs.enter_context(fake_client(tmp_path / "a", port, "lab-1"))
        dies = {VARIABLE: "client.trained:2"}  # in the second round
        victim = programs.enter_context(fake_client(tmp_path / "b", port, "lab-2", environment=dies))
        victim.finish(-9)
        server.expect(r"lab-1 takes over the shard of lab-2")
        server.finish()
        survivor.finish()
    [run] = baseline.ledgers() - before
    baseline.check(run)


def test_clients_with_rows_of_their_own_make_one_model_of_which_each_round_is_evaluated_by_all(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    folders = [tmp_path / "own" / name for name in ("lab-1", "lab-2")]
    for folder in folders:
        shutil.copytree(small_workspace.root / "dataset", folder)
    shutil.rmtree(small_workspace.root / "dataset")
    (small_workspace.root / "dataset").mkdir()  # by which the folder is known for a workspace
    with contextlib.ExitStack() as programs:
        given = (*flags(free_port(), 2, **{**JOB, "data": "client", "normalizer": "zscore"}), "--threads", 1)
        server = programs.enter_context(small_workspace.server(*given))
        workers = [
            programs.enter_context(
                worker(tmp_path / folder.name, port_of(server), folder.name, "--data", folder, "--min-rows", 1)
            )
            for folder in folders
        ]
        server.finish()
        for each in workers:
            each.finish()
    summary = small_workspace.summary()
    assert summary["status"] == "done"
    assert summary["metrics_from"] == "clients"
    assert all("loss" in each["metrics"] for each in summary["rounds"])
    assert summary["final"]["metrics"]["loss"] == pytest.approx(summary["rounds"][-1]["metrics"]["loss"])
