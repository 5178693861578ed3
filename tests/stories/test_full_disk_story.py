"""A disk that gets full while a run goes on: nothing is lost, it is said, and it goes on when there is room.

The limit of a process on the size of its files stands for the disk: the system refuses what would pass it, as a full
disk does. It is set and lifted while the process runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from breakpoints import Breakpoint
from running import Place, Program, assert_same_weights, client, each_model, flags, free_port, port_of
from small_workspace import SmallWorkspace

pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there limits of a running process change"),
]
JOB = {"model": "classes.h5", "epochs": 5, "batch_size": 2, "seed": 7}


def limit(program: Program, size: int, *, trainer: bool = False) -> None:
    """Let a program write no file that is larger, and its trainer neither, if that is wanted."""
    for process in (psutil.Process(program.process.pid), *(program.descendants() if trainer else ())):
        process.rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))


def test_a_server_without_space_puts_results_off_and_continues_when_there_is_some(tmp_path: Path) -> None:
    place, hold = Place(tmp_path / "server"), Breakpoint(tmp_path / "hold")
    with (
        place.server(*flags(free_port(), 2, epochs=3), "--threads", 1) as server,
        client(tmp_path / "a", port_of(server), "lab-1", environment=hold.environment) as first,
        client(tmp_path / "b", port_of(server), "lab-2", environment=hold.environment) as second,
    ):
        server.expect("epoch 1/3")
        limit(server, 1)
        hold.let_go()
        for worker in (first, second):
            worker.expect("The server can't accept a result yet: the server's disk is full")
        server.expect(r"Results have to wait: the server's disk is full\. Free some disk space")
        limit(server, psutil.RLIM_INFINITY)
        server.expect("There is free space again")
        server.finish()
        for worker in (first, second):
            worker.finish()
    assert place.summary()["status"] == "done"
    assert server.output.count("Results have to wait") == 1
    assert not list(tmp_path.rglob("*.part"))


def test_clients_may_come_and_go_while_a_server_has_no_space(tmp_path: Path) -> None:
    place, hold = Place(tmp_path / "server"), Breakpoint(tmp_path / "hold")
    with (
        place.server(*flags(free_port(), 2, epochs=3), "--threads", 1) as server,
        client(tmp_path / "b", port_of(server), "lab-2", environment=hold.environment) as survivor,
    ):
        with client(tmp_path / "a", port_of(server), "lab-1", environment=hold.environment) as lost:
            server.expect("lab-1: epoch 1/3")
            limit(server, 1)
            lost.kill()
            lost.finish(None)
        server.expect("lab-1 was lost")
        hold.let_go()
        with client(tmp_path / "a", port_of(server), "lab-1") as back:
            server.expect(r"lab-1 joined (?s:.*)lab-1 joined ")
            server.expect("Results have to wait: the server's disk is full")
            limit(server, psutil.RLIM_INFINITY)
            server.finish()
            back.finish()
        survivor.finish()
    assert place.summary()["status"] == "done"
    assert "Traceback" not in server.output


# --- on a client ----------------------------------------------------------------------------------------------------


def worker(folder: Path, port: int, name: str, **options: object) -> Program:
    return client(folder, port, name, "--backend", "jax", **options)


class Baseline:
    """What the job makes on two clients when there is room."""

    def __init__(self, root: Path, models: Path) -> None:
        self.place = SmallWorkspace(root / "server", models)
        with (
            self.server() as server,
            worker(root / "lab-1", port_of(server), "lab-1") as first,
            worker(root / "lab-2", port_of(server), "lab-2") as second,
        ):
            for program in (server, first, second):
                program.finish()
        self.run = self.place.runs[-1]

    def server(self) -> Program:
        return self.place.server(*flags(free_port(), 2, **JOB), "--threads", 1)

    def check_newest(self) -> None:
        """The newest run ended done, each client with its own task, and with the same models."""
        assert self.place.summary()["status"] == "done"
        assert [each["tasks"] for each in self.place.summary()["clients"]] == [1, 1]
        models = list(zip(each_model(self.place, self.run), each_model(self.place, self.place.runs[-1]), strict=True))
        assert len(models) == 2
        for ours, theirs in models:
            assert ours.name == theirs.name
            assert_same_weights(ours, theirs)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Baseline:
    return Baseline(tmp_path_factory.mktemp("calm"), tiny_models)


@pytest.mark.parametrize("trainer", [False, True])
@pytest.mark.cold
def test_a_client_without_space_for_its_result_keeps_it_until_there_is_some(
    baseline: Baseline, tmp_path: Path, trainer: bool
) -> None:
    """Row: disk full on a client, which has trained: its trainer can't write the result, or it can't take it in."""
    hold = Breakpoint(tmp_path / "hold")
    with (
        baseline.server() as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=hold.environment) as full,
        worker(tmp_path / "lab-2", port_of(server), "lab-2") as other,
    ):
        server.expect("lab-1: epoch 1/5")
        limit(full, 1, trainer=trainer)
        hold.let_go()
        full.expect(r"A finished result can't be written: .*File too large.* free some space on this machine's disk")
        server.expect("lab-2 is done")
        assert "lab-1 is done" not in server.output
        limit(full, psutil.RLIM_INFINITY, trainer=trainer)
        full.expect("The result fits on the disk again")
        for program in (server, full, other):
            program.finish()
    assert "could not" not in server.output + full.output
    assert full.output.count("Epoch 5/5") == 1, "it was trained again"
    assert not list((tmp_path / "lab-1" / "client" / "state" / "1" / "outbox").iterdir())
    baseline.check_newest()


@pytest.mark.cold
def test_a_client_that_stays_without_space_loses_its_task_to_another_and_the_run_ends(
    baseline: Baseline, tmp_path: Path
) -> None:
    """Row: disk full on a client, and nobody does anything about it."""
    settings = baseline.place.root / "server" / "server.toml"
    settings.parent.mkdir(exist_ok=True)
    # Not much longer: after LEAST_SECONDS of tasks.py the other client tries the task, too, before it is taken away.
    settings.write_text("no_progress = 30\n")
    hold = Breakpoint(tmp_path / "hold")
    try:
        with (
            baseline.server() as server,
            worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=hold.environment) as full,
            worker(tmp_path / "lab-2", port_of(server), "lab-2") as other,
        ):
            server.expect("lab-1: epoch 1/5")
            limit(full, 1, trainer=True)
            hold.let_go()
            full.expect("A finished result can't be written")
            server.expect("lab-1 could not train shard-1: it made no progress for 30 s")
            server.expect("lab-2 takes over the shard of lab-1")
            for program in (server, full, other):
                program.finish()
    finally:
        settings.unlink()
    baseline.check_newest()


def test_a_client_without_space_for_its_data_receives_it_when_there_is_some(baseline: Baseline, tmp_path: Path) -> None:
    """Row: disk full on a client, which has still to receive."""
    with (
        baseline.server() as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1") as full,
    ):
        full.expect("1 of 2 clients are here")
        limit(full, 1)
        with worker(tmp_path / "lab-2", port_of(server), "lab-2") as other:
            full.expect(r"Data can't be received: the disk is full: .* free some space on this machine's disk")
            server.expect("lab-2 is done")
            assert "lab-1: epoch" not in server.output
            limit(full, psutil.RLIM_INFINITY)
            full.expect("The data fits on the disk again")
            for program in (server, full, other):
                program.finish()
    assert "could not" not in server.output + full.output
    baseline.check_newest()
