"""Trainers and clients that are killed in the middle of a run go on from their checkpoints: the same models at last."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest
from breakpoints import Breakpoint
from running import PATIENCE, Place, Program, assert_same_weights, client, each_model, flags, free_port, port_of

from lanfit.training.checkpoint import epochs_kept

pytestmark = pytest.mark.story

EPOCHS = 6
#: A checkpoint after every epoch.
OFTEN = {"LANFIT_CHECKPOINT_SECONDS": "0"}


def wait_for_checkpoint(folder: Path, epochs: int) -> None:
    """Wait until a client has a checkpoint after so many epochs."""
    deadline = time.monotonic() + PATIENCE
    while not [path for path in (folder / "client" / "state").rglob("state.checkpoint") if epochs_kept(path) == epochs]:
        assert time.monotonic() < deadline, "there is no checkpoint"
        time.sleep(0.02)


def kill_trainer(worker: Program) -> None:
    [trainer] = [each for each in worker.descendants() if "lanfit.training.trainer" in " ".join(each.cmdline())]
    trainer.kill()


def test_a_killed_trainer_and_a_killed_client_continue_and_the_models_are_the_same(tmp_path: Path) -> None:
    place = Place(tmp_path / "server")
    job = {"epochs": EPOCHS}
    hold = Breakpoint(tmp_path / "hold")
    environment = {**hold.environment, **OFTEN}
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(place.server(*flags(free_port(), 2, **job), "--threads", 1))
        port = port_of(server)
        first, second = (
            programs.enter_context(client(tmp_path / name, port, name, environment=environment))
            for name in ("lab-1", "lab-2")
        )
        wait_for_checkpoint(tmp_path / "lab-1", 1)
        kill_trainer(first)
        first.expect(r"The trainer was killed by signal 9; resuming after epoch 1\.")

        hold.step()
        wait_for_checkpoint(tmp_path / "lab-2", 2)
        second.kill()
        second.finish(None)
        again = programs.enter_context(client(tmp_path / "lab-2", port, "lab-2", environment=environment))
        again.expect(r"Resuming shard-2 from the checkpoint after epoch 2")
        hold.let_go()
        for program in (server, first, again):
            program.finish()
    assert "Traceback" not in first.output + again.output + server.output
    run = place.runs[-1]
    for name in ("lab-1", "lab-2"):
        lines = (place.root / "logs" / run / "clients" / name / "history.csv").read_text().splitlines()
        assert [line.partition(",")[0] for line in lines] == ["epoch", *map(str, range(EPOCHS))]
        assert not list((tmp_path / name / "client" / "state").rglob("*.checkpoint"))

    with (
        place.server(*flags(free_port(), 2, **job), "--threads", 1) as baseline,
        client(tmp_path / "lab-1", port_of(baseline), "lab-1") as one,
        client(tmp_path / "lab-2", port_of(baseline), "lab-2") as other,
    ):
        for program in (baseline, one, other):
            program.finish()
    models = list(zip(each_model(place, run), each_model(place, place.runs[-1]), strict=True))
    assert len(models) == 2
    for ours, theirs in models:
        assert ours.name == theirs.name
        assert_same_weights(ours, theirs)
