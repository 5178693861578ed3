"""Clients that are simulated make, to the bit, what real ones with as many threads make, on however few trainers."""

from __future__ import annotations

import json
import re
import signal
import tomllib
from pathlib import Path
from typing import Any

import pytest
from breakpoints import Breakpoint
from error_cases import assert_reported
from running import Place, Program, assert_same_weights, each_model, flags, free_port, lines_of

from lanfit.core.seeds import derive_seed
from lanfit_server.store.ledger import Ledger

pytestmark = pytest.mark.story


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def simulate(place: Place, *arguments: object, **options: Any) -> Program:
    return Program("simulate", *arguments, folder=place.root, passphrase=None, **options)


def simulated(place: Place, *arguments: object) -> str:
    """Simulate a job; returns the run."""
    with simulate(place, *arguments, "--json") as program:
        program.finish()
    run: str = json.loads(program.stdout)["run"]
    return run


def refused(place: Place, *arguments: object) -> str:
    """The code of the error that a simulation ends with; nothing may have changed."""
    before = place.files()
    with simulate(place, *arguments, "--json") as program:
        program.finish(2)
    assert "Traceback" not in program.output
    error = json.loads(program.stdout)
    assert_reported(error["code"], error["error"] + "\n" + error["hint"])
    assert place.files() == before
    code: str = error["code"]
    return code


def same_models(place: Place, one: str, other: str, count: int) -> None:
    models = list(zip(each_model(place, one), each_model(place, other), strict=True))
    assert len(models) == count
    for ours, theirs in models:
        assert_same_weights(ours, theirs)


@pytest.mark.parametrize(
    ("method", "count"),
    [
        ({"method": "fit", "merge": "average"}, 3),
        ({"method": "kfold", "folds": 2}, 6),
        ({"method": "federated", "rounds": 3, "strategy": "fedadam"}, 3),
    ],
)
def test_a_job_gives_the_same_models_with_real_clients_and_with_simulated_ones(
    place: Place, method: dict[str, object], count: int
) -> None:
    job = {"local": 2, "epochs": 2, "normalizer": "zscore", "threads": 1, "seed": 3, **method}
    with place.server(*flags(free_port(), 2, **job)) as server:
        server.finish()
    real = place.runs[-1]
    run = simulated(place, place.root / "logs" / real / "job.toml")
    same_models(place, real, run, count)

    # The same files say the same of it.
    names = {"local-1": "sim-001", "local-2": "sim-002"}

    def files(run: str) -> set[str]:
        """Without what is only for a live page, which a simulation has not, and the times in names."""
        folder = place.root / "logs" / run
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        found -= {"predictions.jsonl", "shown_rows.npz"}
        found = {re.sub(r"tfevents\..*", "tfevents", path) for path in found}
        for name, other in names.items():
            found = {re.sub(rf"clients/{name}(?=/|-fold-)", f"clients/{other}", path) for path in found}
        return found

    assert files(real) == files(run)
    theirs, ours = place.summary(real), place.summary(run)
    assert [each["name"] for each in ours["clients"]] == list(names.values())
    for key in ("method", "seed", "metrics_from", "model", "data", "merged"):
        shown = json.dumps(theirs[key]).replace(real, run)
        assert json.dumps(ours[key]) == shown, key
    for one, other in zip(theirs["clients"], ours["clients"], strict=True):
        for key in ("samples", "tasks", "status", "history", "best_epoch", "metrics", "mean", "threads"):
            assert one[key] == other[key], key
        assert set(one["seconds"]) == set(other["seconds"])
    logs = [
        lines_of(place.root / "logs" / each / "clients" / name / "client.log")
        for each, name in ((real, "local-1"), (run, "sim-001"))
    ]
    reported = [[line.partition("  ")[2] for line in log] for log in logs]
    assert reported[0] == reported[1]

    # What real clients have begun is theirs to go on with.
    ledger = Ledger(place.root / "logs" / real)
    ledger.end_run("interrupted")
    ledger.close()
    assert refused(place, "--resume", real) == "resume.not-simulated"


def test_twelve_clients_are_the_same_on_two_trainers_and_on_one_and_again_from_their_job_file(place: Place) -> None:
    job = ("--clients", 12, "--epochs", 1, "--batch-size", 16, "--normalizer", "minmax", "--threads", 1)
    two = simulated(place, *job, "--pool", 2)
    with simulate(place, place.root / "logs" / two / "job.toml", "--pool", 1) as program:
        program.finish()
    one = place.runs[-1]
    same_models(place, two, one, 12)
    assert "12 clients are simulated; they share 1 trainer of 1 thread." in program.output
    assert "Listening" not in program.output
    assert f"Run {one}: done" in program.stdout.decode()
    text = (place.root / "logs" / one / "job.toml").read_text(encoding="utf-8")
    assert text.startswith("# The clients of this run were simulated.")
    assert tomllib.loads(text)["threads"] == 1
    assert not list((place.root / "server" / "state").glob("*.pem")), "nobody needs a certificate"
    assert not [path for path in (place.root / "server" / "state" / "scratch").rglob("*") if path.is_file()]


def test_a_killed_trainer_is_replaced_and_a_killed_simulation_continues(place: Place, tmp_path: Path) -> None:
    job = ("--clients", 6, "--epochs", 3, "--normalizer", "minmax", "--threads", 1, "--pool", 1)
    undisturbed = simulated(place, *job)
    hold = Breakpoint(tmp_path / "hold")
    # With a checkpoint the task would go on, and nothing would be said of its trainer's end in the summary.
    environment = {"LANFIT_CRASH": "server.result-committed:4", "LANFIT_CHECKPOINT_SECONDS": "1000"}
    with simulate(place, *job, environment={**environment, **hold.environment}) as program:
        program.expect(r"sim-001: epoch 1/3")
        trainer = next(each for each in program.descendants() if "lanfit.training.trainer" in each.cmdline())
        trainer.send_signal(signal.SIGKILL)
        program.expect(r"The trainer was killed by signal 9")
        hold.let_go()
        program.finish(-signal.SIGKILL)
    [run] = {path.parent.name for path in (place.root / "logs").glob("*/ledger.sqlite")} - {undisturbed}
    with place.server("--resume", run, "--host", "127.0.0.1", "--port", free_port(), "--json") as server:
        server.finish(2)
    assert json.loads(server.stdout)["code"] == "resume.simulated"
    with simulate(place, "--resume", run, "--json") as again:
        again.expect(rf"Resuming run {run}: 4 results are on disk\.")
        again.finish()
    summary = json.loads(again.stdout)
    assert summary["status"] == "done"
    assert "killed by signal 9" in "".join(error for each in summary["clients"] for error in each["errors"])
    same_models(place, undisturbed, run, 6)
    with simulate(place, "--resume", run) as finished:
        finished.finish()
    assert f"Run {run}: done" in finished.stdout.decode()


def test_what_only_real_clients_can_do_is_refused_by_name(place: Place) -> None:
    assert refused(place, "--data", "client") == "simulation.own-data"
    (place.root / "job.toml").write_text('data = "client"\n')
    assert refused(place, "job.toml") == "simulation.own-data"
    assert refused(place, "missing.toml") == "settings.missing"
    assert refused(place, "--pool", "0") == "value.not-whole"
    assert refused(place, "--resume", "nothing") == "resume.no-run"
    with simulate(place, "--port", 8470) as program:
        program.finish(2)
    assert "--port" in program.output


def test_a_simulation_that_is_interrupted_keeps_what_is_done(place: Place, tmp_path: Path) -> None:
    job = ("--clients", 4, "--epochs", 2, "--threads", 1, "--pool", 1, "--seed", 7)
    second = Breakpoint(tmp_path / "hold", seed=derive_seed(7, "fit", 1))
    with simulate(place, *job, environment=second.environment) as program:
        program.expect(r"sim-001 is done")
        program.interrupt()
        program.finish(130)
    summary = place.summary()
    assert summary["status"] == "interrupted"
    assert summary["clients"][0]["status"] == "done"
