"""Every how-to is done as it is written: scripts are saved under their names, commands are run in their order."""

from __future__ import annotations

import contextlib
import csv
import re
import shutil
from pathlib import Path

import pytest
from documents import HOWTO, NOT_RUN, blocks
from running import PATIENCE, Place, Program, free_port


def do(path: Path, place: Place) -> str:
    """Do what a how-to says, from top to bottom; returns all that was printed."""
    output = ""
    for info, text in blocks(path):
        if info.startswith("python "):
            (place.root / info.removeprefix("python ")).write_text(text, encoding="utf-8")
        elif info == "text says":
            for line in text.splitlines():
                assert line in output, line
        elif info == "console":
            for line in text.splitlines():
                command = line.replace("<run>", place.runs[-1] if place.runs else "")
                if command.startswith("lanfit server "):
                    command += f" --port {free_port()}"
                with Program(command=command, folder=place.root) as program:
                    program.finish(seconds=2 * PATIENCE)
                output += program.output + program.stdout.decode()
    return output


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "clone")


@pytest.mark.story
def test_own_data(place: Place) -> None:
    output = do(HOWTO / "own-data.md", place)
    assert place.summary()["status"] == "done"
    assert place.summary()["final"]["metrics"]["accuracy"] > 0.8
    assert place.summary()["data"]["labels"] == ["barbera", "barolo", "grignolino"]
    with (place.root / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 178
    assert sum(row["prediction"] == row["kind"] for row in rows) > 0.8 * 178
    assert "Predict new rows: lanfit predict model/collected/" in output


@pytest.mark.story
def test_old_models(place: Place) -> None:
    do(HOWTO / "old-models.md", place)
    summary = place.summary()
    assert (summary["status"], summary["model"]["file"]) == ("done", "model/old.hdf5")
    assert summary["final"]["metrics"]["accuracy"] > 0.5


@pytest.mark.story
def test_k_fold(place: Place) -> None:
    do(HOWTO / "k-fold.md", place)
    summary = place.summary()
    assert [len(client["folds"]) for client in summary["clients"]] == [3, 3]
    run = summary["run"]
    named = re.findall(r"^\| `([^`]+)` \|", (HOWTO / "k-fold.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == 7
    for name in named:
        assert (place.root / name.replace("<run>", run).replace("<name>", "local-1")).is_file(), name


@pytest.mark.story
def test_an_autoencoder(place: Place) -> None:
    shutil.rmtree(place.root / "dataset" / "Y")  # nobody needs it
    output = do(HOWTO / "autoencoder.md", place)
    assert set(place.summary()["final"]["metrics"]) == {"loss", "mae", "r2"}
    usual, strangest = map(float, re.findall(r"usual ([\d.]+), strangest ([\d.]+) in row \d+", output)[0])
    assert 0 < usual < 0.1
    assert usual < strangest


@pytest.mark.story
def test_federated(place: Place) -> None:
    do(HOWTO / "federated.md", place)
    summary = place.summary()
    assert [each["round"] for each in summary["rounds"]] == [1, 2, 3, 4, 5]
    assert summary["final"]["metrics"]["accuracy"] > 0.8
    named = re.findall(r"^\| `([^`]+/[^`]+)` \|", (HOWTO / "federated.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(named) == 6
    for name in named:
        assert (place.root / name.replace("<run>", summary["run"])).is_file(), name


@pytest.mark.story
def test_simulate(place: Place) -> None:
    do(HOWTO / "simulate.md", place)
    first, second = (place.summary(run) for run in place.runs)
    assert [client["name"] for client in first["clients"]][-1] == "sim-012"
    assert len(second["clients"]) == 6
    assert first["status"] == second["status"] == "done"


@pytest.mark.story
def test_data_on_clients(place: Place) -> None:
    path = HOWTO / "data-on-clients.md"
    found = dict(blocks(path))
    (place.root / "sites.py").write_text(found["python sites.py"], encoding="utf-8")
    with Program(command=found["console"].strip(), folder=place.root) as program:
        program.finish()
    port = free_port()
    with contextlib.ExitStack() as programs:
        command = f"{found['console server'].strip()} --port {port}"
        server = programs.enter_context(Program(command=command, folder=place.root))
        clients = [
            programs.enter_context(Program(command=line.replace("127.0.0.1", f"127.0.0.1:{port}"), folder=place.root))
            for line in found["console client"].splitlines()
        ]
        server.finish(seconds=2 * PATIENCE)
        for program in clients:
            program.finish()
    for line in found["text says"].splitlines():
        assert line in server.output
    summary = place.summary()
    assert summary["metrics_from"] == "clients"
    assert summary["data"]["source"] == "client"
    assert summary["final"]["metrics"]["accuracy"] > 0.8


@pytest.mark.story
def test_who_gets_which_rows(place: Place) -> None:
    path = HOWTO / "who-gets-which-rows.md"
    output = do(path, place)
    assert len(re.findall(r"^\d( +\d+){3}$", output, re.MULTILINE)) == 10
    found = dict(blocks(path))
    port = free_port()
    with contextlib.ExitStack() as programs:
        command = f"{found['console server'].strip()} --port {port}"
        server = programs.enter_context(Program(command=command, folder=place.root))
        clients = [
            programs.enter_context(Program(command=line.replace("127.0.0.1", f"127.0.0.1:{port}"), folder=place.root))
            for line in found["console client"].splitlines()
        ]
        server.finish(seconds=2 * PATIENCE)
        for program in clients:
            program.finish()
    for line in found["text server says"].splitlines():
        assert line in server.output
    job = (place.root / "logs" / place.runs[-1] / "job.toml").read_text(encoding="utf-8")
    assert re.sub(r"\s+", "", 'parts = ["lab-1:1-6", "lab-2:5-11",]') in re.sub(r"\s+", "", job)


@pytest.mark.story
def test_custom_layers(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    path = HOWTO / "custom-layers.md"
    found = dict(blocks(path))
    for info, text in found.items():
        if info.startswith("python "):
            (place.root / info.removeprefix("python ")).write_text(text, encoding="utf-8")
    (place.root / "elsewhere").mkdir()
    port = free_port()

    def started(block: str) -> Program:
        command = found[block].strip().replace("client 127.0.0.1", f"client 127.0.0.1:{port}")
        command = command.replace("<run>", place.runs[-1] if place.runs else "")
        return Program(command=f"{command} --port {port}" if "server" in block else command, folder=place.root)

    with started("console") as program:
        program.finish()
    with started("console server") as server, started("console stranger") as stranger:
        server.expect(re.escape(found["text server says"].strip()), seconds=2 * PATIENCE)
        stranger.expect(re.escape(found["text stranger says"].strip()))
        with started("console client") as client:
            server.finish(seconds=2 * PATIENCE)
            client.finish()
        stranger.finish(seconds=PATIENCE)
    summary, job = place.summary(), (place.root / "logs" / place.runs[-1] / "job.toml").read_text(encoding="utf-8")
    assert [client["name"] for client in summary["clients"]] != ["stranger"]
    assert summary["final"]["metrics"]["accuracy"] > 0.5
    assert "my_layers.py#sha256=" in job
    with started("console afterwards") as program:
        program.finish()
    assert "loaded: ['Patches']" in program.stdout.decode()
    with started("console python") as program:
        program.finish(seconds=2 * PATIENCE)
    assert "same figures: True" in program.stdout.decode()


@pytest.mark.story
def test_python(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    output = do(HOWTO / "python.md", place)
    assert f"run: {place.runs[-1]}" in output
    assert "of 10 rounds" in output


def test_every_how_to_has_a_test() -> None:
    tested = Path(__file__).read_text(encoding="utf-8")
    for path in HOWTO.glob("*.md"):
        assert path.name in NOT_RUN or f'"{path.name}"' in tested, path.name


@pytest.mark.story
def test_several_inputs(place: Place) -> None:
    output = do(HOWTO / "several-inputs.md", place)
    first, second = (place.summary(run) for run in place.runs)
    assert (first["status"], second["status"], second["method"]) == ("done", "done", "federated")
    assert {"kind_accuracy", "kind_loss", "price_mae", "price_r2", "loss"} <= set(first["final"]["metrics"])
    assert first["final"]["metrics"]["price_r2"] > 0.8
    assert "'kind': (600, 3), 'price': (600, 1)" in output
