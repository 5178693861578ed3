"""Rows of the fault table (docs/failures.md) that are about processes: each dies or sleeps at the worst moment.

Whatever is done to a run here, it must end with the models of a calm run, to the bit. The clients compute on JAX, which
is imported in half the time that TensorFlow takes.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
import signal
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec
import pytest
from breakpoints import BEFORE_THE_END, Breakpoint
from corrupted_files import flip
from running import FAKE, Place, Program, assert_same_weights, each_model, fake_backend, flags, port_of, port_to_keep
from small_workspace import SmallWorkspace

from lanfit.core.durable import unseal
from lanfit.core.failpoints import CLIENT_POINTS, SERVER_POINTS, VARIABLE
from lanfit.core.workspace import Workspace
from lanfit.wire.messages import Result
from lanfit_server.run.resume import NOT_BEGUN, status_of

pytestmark = pytest.mark.story
JOB = {"model": "classes.h5", "epochs": 2, "batch_size": 2, "seed": 7}
#: Crash points at which nothing was dealt yet.
BEFORE_THE_RUN = ("server.run-stored",)
#: Failpoints of `ResultStore.take_in` and of the acknowledgement that need no process: see test_states.py, which kills
#: the server there in any order of events.
IN_STATES = ("server.result-fetched", "server.result-stored", "server.result-acknowledged")
#: What of a run's files the disk spoils at a failpoint beside the kill, and what is said of it.
CORRUPTED = {
    "server.tasks-assigned": (
        "weights.block",
        r"weights\.block differs from what was written.*; it is rebuilt from model/classes\.h5",
    ),
    "server.model-evaluated": (
        "results/*.block",
        r"The result of shard-\d .* can't be read back: .* The task is done again",
    ),
}
#: Crash points at which a client has a result in its outbox: it is kept, and not trained again.
WITH_A_RESULT = ("client.in-outbox", "client.delivered", "client.acknowledged")
KILLED = -signal.SIGKILL


def server(
    place: Place, port: int, clients: int, *, crash: str = "", environment: Mapping[str, str] | None = None
) -> Program:
    variables = {VARIABLE: crash, **(environment or {})}
    return place.server(*flags(port, clients, **JOB), "--threads", 1, environment=variables)


def worker(folder: Path, port: int, name: str, *arguments: object, crash: str = "") -> Program:
    """A client; it stays for the next run unless it is told `--once`."""
    folder.mkdir(parents=True, exist_ok=True)
    here = (f"127.0.0.1:{port}", "--name", name, "--threads", 1, "--backend", fake_backend())
    (folder / "model").mkdir(exist_ok=True)
    (folder / "dataset").mkdir(exist_ok=True)
    variables = {VARIABLE: crash, **FAKE}
    return Program("client", *here, *arguments, folder=folder, environment=variables)


def begun(place: Place) -> list[str]:
    """The runs that have a ledger, oldest first."""
    return sorted(path.parent.name for path in (place.root / "logs").glob("*/ledger.sqlite"))


def committed(place: Place, run: str) -> dict[str, tuple[str, bytes]]:
    """What the ledger of a run holds: by task, who trained it, and the result."""
    with contextlib.closing(sqlite3.connect(place.root / "logs" / run / "ledger.sqlite")) as ledger:
        return {
            task: (name, result) for task, name, result in ledger.execute("SELECT task, client, result FROM results")
        }


def check_committed(place: Place, run: str) -> dict[str, tuple[str, bytes]]:
    """What the ledger holds is on disk under its name, and is what its hash says."""
    found = committed(place, run)
    for task, (_, result) in found.items():
        block = (place.root / "logs" / run / "results" / f"{task}.block").read_bytes()
        assert hashlib.sha256(block).hexdigest() == msgspec.msgpack.decode(unseal(result), type=Result).block.id
    return found


class Baseline:
    """A place, what its job makes when nothing happens, and clients that stay for the next run."""

    def __init__(self, root: Path, models: Path, clients: int, programs: contextlib.ExitStack) -> None:
        self.place = SmallWorkspace(root / "server", models)
        self.port = port_to_keep()
        self.clients = clients
        with server(self.place, self.port, clients) as baseline:
            names = [f"lab-{number}" for number in range(1, clients + 1)]
            self.workers = [programs.enter_context(worker(root / name, port_of(baseline), name)) for name in names]
            baseline.finish()
        self.run = self.place.runs[-1]

    def acknowledged(self, run: str) -> int:
        """How many results of a run, the newest, the clients know to be on the server's disk."""
        # What a client says before its first task of the run is about an earlier one.
        parts = (each.output.rpartition(f" of run {run}:") for each in self.workers)
        return sum(output.count("The server has stored the result") for _, found, output in parts if found)

    def check(self, run: str) -> None:
        """The run ended done, every task counted once, with the models of the calm one."""
        summary = self.place.summary(run)
        assert summary["status"] == "done"
        assert [each["tasks"] for each in summary["clients"]] == [1] * self.clients
        assert sorted(committed(self.place, run)) == [f"shard-{n}" for n in range(1, self.clients + 1)]
        for ours, theirs in zip(each_model(self.place, self.run), each_model(self.place, run), strict=True):
            assert ours.name == theirs.name
            assert_same_weights(ours, theirs)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[Baseline]:
    """With two clients, which serve every server of this module, one after the other."""
    with contextlib.ExitStack() as programs:
        yield Baseline(tmp_path_factory.mktemp("two"), tiny_models, 2, programs)


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Baseline:
    """With one client, which is gone: its successors have what the tests do to them."""
    with contextlib.ExitStack() as programs:
        return Baseline(tmp_path_factory.mktemp("one"), tiny_models, 1, programs)


@pytest.mark.parametrize("point", [point for point in SERVER_POINTS if point not in IN_STATES])
def test_a_server_that_is_killed_at_any_point_ends_its_run_when_it_is_started_again(point: str, two: Baseline) -> None:
    """Row: kill -9 the server at every labelled failpoint but those in `IN_STATES`. Nobody is asked for anything."""
    place, port, earlier = two.place, two.port, begun(two.place)
    with server(place, port, 2, crash=point) as dying:
        dying.finish(KILLED)
    [run] = [name for name in begun(place) if name not in earlier]
    kept = check_committed(place, run)
    assert two.acknowledged(run) <= len(kept)
    assert status_of(Workspace(place.root), run) in ("unfinished", NOT_BEGUN), "nobody would be told how it ended"
    output = ""
    if point in CORRUPTED:
        pattern, output = CORRUPTED[point]
        block = next((place.root / "logs" / run).glob(pattern))
        flip(block, block.stat().st_size // 2)
        kept.pop(block.stem, None)
    with place.server("--resume", run, passphrase=None) as again:
        again.finish()
    assert re.search(output, again.output)
    assert [name for name in begun(place) if name not in earlier] == [run]
    if point in BEFORE_THE_RUN:
        assert not kept
        assert f"Run {run} had not started when its server ended: it starts now" in again.output
    two.check(run)
    assert kept.items() <= committed(place, run).items(), "what was acknowledged counts, and counts once"


@pytest.mark.parametrize("point", CLIENT_POINTS)
def test_a_client_that_is_killed_at_any_point_ends_its_task_when_it_is_started_again(
    point: str, one: Baseline, tmp_path: Path
) -> None:
    """Rows: kill -9 a client while it trains, and at every labelled failpoint."""
    # At the later points the server has the result, and needs nobody: it would be gone before its client is back.
    hold = Breakpoint(tmp_path / "hold", BEFORE_THE_END)
    with (
        server(one.place, one.port, 1, environment=hold.environment) as living,
        worker(tmp_path / "lab-1", port_of(living), "lab-1", "--once", crash=point) as dying,
    ):
        dying.finish(KILLED)
        with worker(tmp_path / "lab-1", port_of(living), "lab-1", "--once") as again:
            again.expect("The server has stored the result")
            hold.let_go()
            living.finish()
            again.finish()
    if point in WITH_A_RESULT:
        assert "1 finished result waits here" in again.output
        assert "Epoch" not in again.output
    one.check(one.place.runs[-1])
    assert not list((tmp_path / "lab-1" / "client" / "state" / "1" / "outbox").iterdir())


@pytest.mark.parametrize("point", ["server.summary-written", "server.run-announced"])
def test_a_client_that_serves_one_run_ends_although_the_server_dies_around_the_announcement(
    point: str, one: Baseline, tmp_path: Path
) -> None:
    """Row: kill -9 the server at every labelled failpoint, with a client that is told `--once`."""
    place, earlier = one.place, begun(one.place)
    with (
        server(place, one.port, 1, crash=point) as dying,
        worker(tmp_path / "lab-1", port_of(dying), "lab-1", "--once") as waiting,
    ):
        dying.finish(KILLED)
        [run] = [name for name in begun(place) if name not in earlier]
        if point == "server.run-announced":
            waiting.finish()
        with place.server("--resume", run, passphrase=None) as again:
            again.finish()
        waiting.finish()
    one.check(run)
