"""A server that is killed goes on where it was: the same models, to the bit, and nobody is asked for anything."""

from __future__ import annotations

import contextlib
import shutil
import signal
from pathlib import Path

import pytest
from corrupted_files import flip
from error_cases import assert_reported
from running import Place, assert_same_weights, client, each_model, flags, free_port, port_of
from small_workspace import SmallWorkspace

pytestmark = pytest.mark.story


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "server")


def only_run(place: Place) -> str:
    [ledger] = (place.root / "logs").glob("*/ledger.sqlite")
    return ledger.parent.name


def same_models(place: Place, one: str, other: str) -> None:
    models = list(zip(each_model(place, one), each_model(place, other), strict=True))
    assert models
    for ours, theirs in models:
        assert ours.name == theirs.name
        assert_same_weights(ours, theirs)


def test_a_killed_server_resumes_its_run_and_its_clients_come_back_by_themselves(place: Place, tmp_path: Path) -> None:
    job = {"method": "kfold", "folds": 3, "epochs": 4, "normalizer": "zscore", "local": 1}
    port = free_port()
    with contextlib.ExitStack() as programs:
        # One fold is on disk, others are being trained.
        dies = {"LANFIT_CRASH": "server.result-committed:1"}
        server = programs.enter_context(place.server(*flags(port, 2, **job), "--threads", 1, environment=dies))
        port_of(server)
        worker = programs.enter_context(client(tmp_path / "lab-2", port, "lab-2"))
        server.finish(-signal.SIGKILL)
        run = only_run(place)
        again = programs.enter_context(place.server("--resume", run, "--json", passphrase=None))
        again.expect(rf"Resuming run {run}: [1-5] of 6 tasks done")
        again.finish()
        worker.finish()
    assert "Passphrase" not in again.output  # the client that the server starts gets the stretched one, too
    summary = place.summary(run)
    assert summary["status"] == "done"
    assert [each["name"] for each in summary["clients"]] == ["lab-2", "local-1"]
    assert [each["tasks"] for each in summary["clients"]] == [3, 3]
    assert not list((place.root / "server" / "state" / "passphrases").iterdir()), "kept longer than needed"
    assert not (place.root / "logs" / run / "weights.block").exists(), "kept longer than needed"

    # What it trained is what a server trains that nobody disturbs.
    with (
        place.server(*flags(free_port(), 2, **job), "--threads", 1) as baseline,
        client(tmp_path / "lab-2", port_of(baseline), "lab-2") as worker,
    ):
        baseline.finish()
        worker.finish()
    same_models(place, run, place.runs[-1])

    # A run that has ended is only told again.
    before = place.files()
    with place.server("--resume", run, "--json", passphrase=None) as reported:
        reported.finish()
    assert reported.stdout == again.stdout
    assert place.files() == before


def refused(place: Place, run: str, code: str, *causes: str) -> None:
    """A server that is to go on with a run says why it can't, and changes nothing."""
    before = files_but_ledgers(place)
    with place.server("--resume", run, passphrase=None) as server:
        server.finish(2)
    assert_reported(code, server.output)
    assert all(cause in server.output for cause in causes)
    assert "Traceback" not in server.output
    assert files_but_ledgers(place) == before


def files_but_ledgers(place: Place) -> dict[str, bytes]:
    """SQLite tidies up after a server that was killed, which changes files but nothing in them."""
    return {name: content for name, content in place.files().items() if "ledger.sqlite" not in name}


def test_what_a_run_needs_to_continue_is_named_when_it_is_not_what_it_was(place: Place, tmp_path: Path) -> None:
    with (
        place.server(*flags(free_port(), 1), environment={"LANFIT_CRASH": "server.task-leased"}) as server,
        client(tmp_path / "a", port_of(server), "lab-1") as worker,
    ):
        server.finish(-signal.SIGKILL)
        worker.kill()
        worker.finish(None)
    run = only_run(place)
    refused(place, "yesterday", "resume.no-run", "yesterday", run)

    file = place.root / "dataset" / "X" / "digits.csv"
    text = file.read_text(encoding="utf-8")
    head, first, rest = text.split("\n", 2)
    file.write_text("\n".join([head, "1" + first[1:], rest]), encoding="utf-8")
    refused(place, run, "resume.other-data", run)
    file.write_text(text, encoding="utf-8")

    weights = place.root / "logs" / run / "weights.block"
    model, kept = place.root / "model" / "digits.h5", weights.read_bytes()
    model.rename(model.with_suffix(".away"))  # of which they could be made again
    weights.unlink()
    refused(place, run, "resume.nothing-kept", run, "weights.block")
    weights.write_bytes(kept)
    flip(weights, 1000)
    refused(place, run, "resume.damaged", run, "weights.block")
    weights.write_bytes(kept)
    model.with_suffix(".away").rename(model)

    shutil.rmtree(place.root / "server" / "state")
    refused(place, run, "resume.other-server", run)


def test_at_a_terminal_a_server_asks_whether_to_continue(place: Place, tmp_path: Path) -> None:
    port = free_port()
    with (
        place.server(*flags(port, 1), "--threads", 1, environment={"LANFIT_CRASH": "server.result-fetched"}) as server,
        client(tmp_path / "a", port, "lab-1") as worker,
    ):
        server.finish(-signal.SIGKILL)
        run = only_run(place)
        with place.server("--no-dashboard", terminal=True, passphrase=None) as again:
            again.expect(rf"Run {run} is unfinished. Resume it\? \(Y/n\)")
            again.type("")
            again.finish()
            worker.finish()
    assert place.summary(run)["status"] == "done"


def test_a_run_that_was_interrupted_says_how_to_continue_and_the_next_server_offers_it(
    small_workspace: SmallWorkspace,
) -> None:
    arguments = ("--model", "classes.h5", "--batch-size", 2, "--epochs", 1500, "--clients", 1, "--local", 1)
    arguments = (*arguments, "--host", "127.0.0.1", "--port", free_port(), "--yes")
    with small_workspace.server(*arguments) as server:
        server.expect("local-1: epoch 1/")
        server.interrupt()
        server.finish(130)
    [run] = small_workspace.runs
    assert f"Resume it with: lanfit server --resume {run}" in server.output
    assert f"Resume it with: lanfit server --resume {run}" in server.stdout.decode()
    assert b"Measured" not in server.stdout
    with small_workspace.server("--no-dashboard", terminal=True, passphrase=None) as again:
        again.expect(rf"Run {run} was interrupted. Resume it\? \(Y/n\)")
        again.type("")
        again.finish()
        assert "Passphrase" not in again.output
    assert small_workspace.summary(run)["status"] == "done"
