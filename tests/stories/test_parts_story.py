"""Rows in numbered parts, from the outside: clients say which they take, of the server's rows or of their own."""

from __future__ import annotations

import contextlib
import shutil
import signal
import tomllib
from pathlib import Path

import numpy as np
import pytest
from error_cases import assert_reported
from running import Program, assert_same_weights, client, each_model, flags, free_port, lab, port_of
from small_workspace import TINY_JOB, SmallWorkspace
from test_partitioning_story import give, table

pytestmark = pytest.mark.story
JOB = {**TINY_JOB, "clients": 2, "epochs": 1, "parts_of": 6, "normalizer": "zscore"}


def asked(folder: Path, port: int, answers: str | None = None, *arguments: object, **options: object) -> Program:
    """A client that is not told its name, and perhaps answers by piped lines."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").mkdir(exist_ok=True)
    (folder / "dataset").mkdir(exist_ok=True)
    where = ("client", f"127.0.0.1:{port}", "--threads", 1, "--once", *arguments)
    return Program(*where, folder=folder, answers=answers, **options)


def same_models(place: SmallWorkspace) -> None:
    one, other = (list(each_model(place, run)) for run in place.runs[-2:])
    assert [path.name for path in one] == [path.name for path in other] != []
    for ours, theirs in zip(one, other, strict=True):
        assert_same_weights(ours, theirs)


def test_clients_take_overlapping_parts_and_repeating_the_job_asks_nobody(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    give(small_workspace, 90)
    with (
        small_workspace.server(*flags(free_port(), **JOB)) as server,
        client(tmp_path / "a", port_of(server), "lab-1", "--parts", "1 3") as one,
        asked(tmp_path / "b", port_of(server), "lab-2\n3-5\n") as two,
    ):
        server.finish()
        one.finish()
        two.finish()
    assert "lab-1 trains on parts 1 to 3 of 6." in server.output
    assert "now called lab-2, trains on parts 3 to 5 of 6." in server.output
    assert "Note: part 3: chosen by lab-1 and lab-2, which all train on those rows." in server.output
    assert "Note: no client trains on part 6: those rows are not used." in server.output
    assert "The rows of this job are divided into 6 parts" in two.output
    assert "This client is now called lab-2." in two.output
    assert "This client trains on parts 3 to 5 of 6." in two.output
    assert "The rows of this job" not in one.output
    summary = small_workspace.summary()
    assert [each["name"] for each in summary["clients"]] == ["lab-1", "lab-2"]
    assert [each["samples"] for each in summary["clients"]] == [36, 36]
    assert summary["data"]["train"] + summary["data"]["validation"] == 60, "part 3 counts once, part 6 not at all"
    assert table(server.output)["all"] == [36, 36]

    file = small_workspace.root / "logs" / summary["run"] / "job.toml"
    assert tomllib.loads(file.read_text(encoding="utf-8"))["parts"] == ["lab-1:1-3", "lab-2:3-5"]
    with (
        small_workspace.server("--job", file, "--yes") as again,
        asked(tmp_path / "b", port_of(again)) as two,  # it remembers what it is called
        client(tmp_path / "a", port_of(again), "lab-1") as one,
    ):
        again.finish()
        one.finish()
        two.finish()
    assert "The rows of this job" not in one.output + two.output
    same_models(small_workspace)


def test_parts_of_a_clients_own_files_and_a_server_that_is_killed(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    give(small_workspace, 120)
    for name in ("a", "b"):
        shutil.copytree(small_workspace.root / "dataset", tmp_path / name / "dataset")
    shutil.rmtree(small_workspace.root / "dataset")
    (small_workspace.root / "dataset").mkdir()
    job = {**JOB, "data": "client", "method": "kfold", "folds": 2, "epochs": 2, "parts_of": 4, "order": "XY"}
    port = free_port()
    with contextlib.ExitStack() as programs:
        dies = {"LANFIT_CRASH": "server.result-committed:1"}
        server = programs.enter_context(small_workspace.server(*flags(port, **job), environment=dies))
        port_of(server)
        ranges = {"lab-1": "1-2", "lab-2": "2-4"}
        workers = [
            programs.enter_context(lab(tmp_path / folder, port, name, "--parts", ranges[name], "--min-rows", 1))
            for folder, name in (("a", "lab-1"), ("b", "lab-2"))
        ]
        server.finish(-signal.SIGKILL)
        [ledger] = (small_workspace.root / "logs").glob("*/ledger.sqlite")
        run = ledger.parent.name
        again = programs.enter_context(small_workspace.server("--resume", run, passphrase=None))
        again.expect(rf"Resuming run {run}")
        again.finish()
        for worker in workers:
            worker.finish()
    assert "lab-1 has 48 rows to train on" in server.output
    assert "lab-2 has 72 rows to train on" in server.output
    assert "Note: part 2: chosen by lab-1 and lab-2" in server.output
    assert [each["samples"] for each in small_workspace.summary(run)["clients"]] == [48, 72]
    with (
        small_workspace.server("--job", small_workspace.root / "logs" / run / "job.toml", "--yes") as baseline,
        lab(tmp_path / "a", port_of(baseline), "lab-1", "--min-rows", 1) as one,
        lab(tmp_path / "b", port_of(baseline), "lab-2", "--min-rows", 1) as two,
    ):
        baseline.finish()
        one.finish()
        two.finish()
    same_models(small_workspace)


def test_a_part_that_does_not_exist_is_named_and_requested_again_at_a_terminal(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    give(small_workspace, 30)
    with small_workspace.server(*flags(free_port(), **{**JOB, "clients": 1})) as server:
        port = port_of(server)
        with client(tmp_path / "a", port, "lab-1", "--parts", "5-7") as wrong:
            wrong.finish(2)
        assert_reported("parts.none-such", wrong.output)
        assert "there is no part 7: parts are numbered from 1 to 6" in wrong.output
        with client(tmp_path / "a", port, "lab-1", answers="5 3\n") as backwards:
            backwards.finish(2)
        assert_reported("parts.no-range", backwards.output)
        with asked(tmp_path / "b", port, "lab-2\n") as silent:
            silent.finish(2)
        assert_reported("question.input-ended", silent.output)
        assert "Parts to train on" in silent.output
        assert "--parts" in silent.output
        with asked(tmp_path / "c", port, terminal=True) as typed:
            typed.expect("Client id")
            typed.type("lab 9/..")
            typed.expect(r"Parts to train on, from 1 to 6")
            typed.type("0")
            typed.expect("there is no part 0")
            typed.type("2")
            typed.expect("trains on part 2 of 6")
            server.finish()
            typed.finish()
    assert small_workspace.summary()["clients"][0]["name"] == "lab-9"


def test_local_and_simulated_clients_have_no_terminal_and_take_their_share_bit_by_bit(
    small_workspace: SmallWorkspace,
) -> None:
    give(small_workspace, 90)
    job = {**JOB, "local": 2, "threads": 1, "method": "federated", "rounds": 2}
    with small_workspace.server(*flags(free_port(), **job)) as server:
        server.finish()
    assert [each["samples"] for each in small_workspace.summary()["clients"]] == [36, 36]
    labels = table(server.output)
    assert np.ptp([row[0] for row in (labels["0"], labels["1"], labels["2"])]) <= 2, "parts are stratified"
    file = small_workspace.root / "logs" / small_workspace.runs[-1] / "job.toml"
    with Program("simulate", file, folder=small_workspace.root) as simulated:
        simulated.finish()
    assert "takes the place of local-1" in simulated.output
    same_models(small_workspace)
