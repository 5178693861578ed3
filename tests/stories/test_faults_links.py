"""Rows of the fault table (docs/failures.md) that are about the wire between a real server and a real client.

Waits are those of the settings files, shortened. A calm run's models are what a troubled one must end with, to the bit.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import psutil
import pytest
from proxy import Proxy
from running import PATIENCE, Place, Program, assert_same_weights, each_model, fake_client, flags, free_port, port_of
from small_workspace import SmallWorkspace

pytestmark = pytest.mark.story
JOB = {"model": "classes.h5", "epochs": 2, "batch_size": 2, "seed": 7}


def be_patient_for(root: Path, *, lost: float, heartbeat: float = 0.5, side: str = "server") -> None:
    """Set how long a side waits for the other, in seconds."""
    path = root / side / f"{side}.toml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"heartbeat = {heartbeat}\nsuspect = {(heartbeat + lost) / 2}\nlost = {lost}\n")


def worker(folder: Path, port: int, name: str = "lab-1", *, lost: float = 60.0) -> Program:
    be_patient_for(folder, lost=lost, side="client")
    return fake_client(folder, port, name)


@pytest.fixture
def place(small_workspace: SmallWorkspace) -> SmallWorkspace:
    return small_workspace


def until_open(process: psutil.Process, descriptors: int) -> None:
    """Wait until a process has so many open descriptors again."""
    deadline = time.monotonic() + PATIENCE
    while process.num_fds() != descriptors:
        assert time.monotonic() < deadline, (process.num_fds(), descriptors, process.net_connections())
        time.sleep(0.1)


@pytest.mark.skipif(not hasattr(psutil.Process, "num_fds"), reason="this system counts no descriptors")
def test_a_link_cut_without_a_fin_is_noticed_at_both_ends_and_leaves_no_descriptor(
    place: SmallWorkspace, tmp_path: Path
) -> None:
    """Row: a link cut without FIN."""
    be_patient_for(place.root, lost=6)
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(place.server(*flags(free_port(), 2, **JOB)))
        proxy = programs.enter_context(Proxy(port_of(server)))
        server.expect("Waiting for 2 more")
        # The server notices first: else the client is back before it was lost.
        lab = programs.enter_context(worker(tmp_path / "lab-1", proxy.port, lost=10))
        lab.expect("The backend is ready")
        lab.expect("1 of 2 clients are here")
        ends = [psutil.Process(server.process.pid), psutil.Process(lab.process.pid)]
        before = [end.num_fds() for end in ends]
        for times in (1, 2):
            proxy.go_deaf()
            server.expect(rf"(?s)(lab-1 was lost \(.*nothing was received for.*){{{times}}}")
            lab.expect(rf"(?s)(nothing was received for.*Joined.*){{{times}}}")
        for end, descriptors in zip(ends, before, strict=True):
            until_open(end, descriptors)
        assert proxy.accepted == 3
        server.interrupt()
        server.finish(None)


class Baseline:
    """What a job makes when nothing happens."""

    def __init__(self, place: Place, folder: Path) -> None:
        self.place = place
        with (
            place.server(*flags(free_port(), 1, **JOB), "--threads", 1) as baseline,
            worker(folder, port_of(baseline)) as lab,
        ):
            baseline.finish()
            lab.finish()
        self.run = place.runs[-1]

    def check_newest(self) -> None:
        assert self.place.summary()["status"] == "done"
        for ours, theirs in zip(
            each_model(self.place, self.run), each_model(self.place, self.place.runs[-1]), strict=True
        ):
            assert_same_weights(ours, theirs)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Baseline:
    root = tmp_path_factory.mktemp("calm")
    return Baseline(SmallWorkspace(root / "server", tiny_models), root / "lab-1")


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_bit_that_is_turned_over_on_the_wire_ends_the_link_and_they_join_again(
    baseline: Baseline, tmp_path: Path, way: str
) -> None:
    """Row: a bit flipped on the wire: a TLS alert, and the run ends with the same models.

    The bit is turned over once the login is done, among the messages and blocks of the task.
    """
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(baseline.place.server(*flags(free_port(), 1, **JOB), "--threads", 1))
        proxy = programs.enter_context(Proxy(port_of(server)))
        proxy.slice(64)
        # Up go fewer bytes: most of them are the result, unless the training takes long enough to report on.
        proxy.flip(way, after=2200 if way == "up" else 3000)  # type: ignore[arg-type]
        server.expect("Waiting for 1 more")  # before that it lets nobody in, and a client comes twice
        lab = programs.enter_context(worker(tmp_path / "lab-1", proxy.port))
        server.finish()
        lab.finish()
        assert proxy.up.flipped + proxy.down.flipped == 1
        assert proxy.accepted == 2
    # Most often a bad MAC; a bit of a record's own five bytes may give another reason.
    receiver = server if way == "up" else lab
    assert "TLS failed: " in receiver.output
    baseline.check_newest()


def test_on_a_slow_and_far_link_nobody_is_lost_by_error(tmp_path: Path) -> None:
    """Row: 1 Mbit/s and 500 ms. The shard takes longer than either side waits for a silent one."""
    place, lost = Place(tmp_path / "server"), 8.0
    for kind in ("X", "Y"):
        file = place.root / "dataset" / kind / "digits.csv"
        head, *rows = file.read_text().splitlines()
        file.write_text("\n".join([head, *rows * 3]) + "\n")
    be_patient_for(place.root, lost=lost)
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(place.server(*flags(free_port(), 1, epochs=1, method="fit")))
        proxy = programs.enter_context(Proxy(port_of(server)))
        proxy.slow_down(delay=0.5, rate=1e6 / 8)
        proxy.slice(8 * 1024)
        server.expect("Waiting for 1 more")  # before that it lets nobody in, and a client comes twice
        lab = programs.enter_context(worker(tmp_path / "lab-1", proxy.port, lost=lost))
        # One after the other: each may take as long as a busy machine needs.
        lab.expect("Task shard-1")
        server.expect("lab-1: epoch 1/1")
        server.finish()
        lab.finish()
        assert proxy.accepted == 1
        assert proxy.down.carried > lost * 1e6 / 8, "it was on its way for less than the time after which one is lost"
    assert "was lost" not in server.output
    assert place.summary()["status"] == "done"
