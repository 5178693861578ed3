"""Rows of the fault table (docs/failures.md) that are about time: processes that sleep, and clocks that jump."""

from __future__ import annotations

import ast
import contextlib
import signal
import time
from pathlib import Path

import psutil
import pytest
from breakpoints import IN_TRAINING, Breakpoint
from running import Program, assert_same_weights, each_model, fake_client, flags, free_port, port_of
from small_workspace import SmallWorkspace
from test_architecture import modules
from test_faults_links import be_patient_for

from lanfit.core.seeds import derive_seed

JOB = {"model": "classes.h5", "epochs": 5, "batch_size": 2, "seed": 7}
#: The only modules that look at a clock of people, and what for: names, stamps, and times that outlive a restart.
WALL_CLOCKS = {
    "logs": {"time.strftime"},
    "journal": {"time.time"},
    "prepare": {"time.strftime"},
    "gate": {"time.time"},
    "tls": {"datetime.datetime.now"},
    "board": {"time.time"},
    "tensorboard": {"time.time"},
}
#: Puts the clock of every Python that is held with it on by a day once a file is there.
JUMPING_CLOCK = """
_real = time.time
time.time = lambda: _real() + (86_400 if os.path.exists(os.environ["LANFIT_TEST_JUMP"]) else 0)
"""
stops = pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="this system can't stop a process")


def send(program: Program, number: int) -> None:
    """Send a signal to a program and all that it started."""
    for process in (psutil.Process(program.process.pid), *program.descendants()):
        process.send_signal(number)


def worker(folder: Path, port: int, name: str, **options: object) -> Program:
    return fake_client(folder, port, name, **options)


@stops
@pytest.mark.cold
@pytest.mark.story
def test_a_client_that_sleeps_is_lost_only_when_it_sleeps_too_long_and_its_late_result_counts_once(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    """Row: SIGSTOP a client 30 s / 120 s, in short."""
    place = small_workspace
    # Only what the sleeper trains, whoever takes it over: it must not be done before the sleeper is back.
    hold = Breakpoint(tmp_path / "hold", seed=derive_seed(7, "fit", 0))
    be_patient_for(place.root, lost=8)
    with (
        place.server(*flags(free_port(), 2, **JOB), "--threads", 1) as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=hold.environment) as sleeper,
        worker(tmp_path / "lab-2", port_of(server), "lab-2", environment=hold.environment) as other,
    ):
        server.expect("lab-1: epoch 1/5")
        send(sleeper, signal.SIGSTOP)
        time.sleep(2)  # the fault itself
        send(sleeper, signal.SIGCONT)
        hold.step()
        server.expect("lab-1: epoch 2/5")
        assert "was lost" not in server.output
        send(sleeper, signal.SIGSTOP)
        server.expect("lab-1 was lost")
        server.expect("lab-2 takes over the shard of lab-1")
        send(sleeper, signal.SIGCONT)
        server.expect(r"takes over the shard(?s:.*)lab-1 joined ")
        hold.let_go()
        server.finish()
        sleeper.finish()
        other.finish()
    run = place.runs[-1]
    assert place.summary()["status"] == "done"
    assert [each["tasks"] for each in place.summary()["clients"]] == [1, 1]
    with (
        place.server("--job", place.root / "logs" / run / "job.toml", "--port", free_port()) as baseline,
        worker(tmp_path / "a", port_of(baseline), "lab-1") as first,
        worker(tmp_path / "b", port_of(baseline), "lab-2") as second,
    ):
        baseline.finish()
        first.finish()
        second.finish()
    for ours, theirs in zip(each_model(place, run), each_model(place, place.runs[-1]), strict=True):
        assert_same_weights(ours, theirs)


@stops
@pytest.mark.cold
@pytest.mark.story
def test_while_a_server_sleeps_its_clients_train_on_and_nobody_is_lost_when_it_wakes(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    """Row: SIGSTOP the server 120 s, in short: for longer than its `lost`, and than the gap that it notices."""
    be_patient_for(small_workspace.root, lost=5)
    hold = Breakpoint(tmp_path / "hold")
    with contextlib.ExitStack() as programs:
        server = programs.enter_context(small_workspace.server(*flags(free_port(), 1, **JOB)))
        server.expect("Waiting for 1 more")  # before that it lets nobody in, and a client comes again
        environment = hold.environment
        lab = programs.enter_context(worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=environment))
        server.expect("lab-1: epoch 1/5")
        send(server, signal.SIGSTOP)
        hold.let_go()
        began = time.monotonic()
        lab.expect("Trained shard-1")
        time.sleep(max(0.0, 12 - (time.monotonic() - began)))  # the fault itself
        send(server, signal.SIGCONT)
        server.finish()
        lab.finish()
    assert "was lost" not in server.output
    assert "again" not in lab.output
    assert small_workspace.summary()["status"] == "done"


@stops
@pytest.mark.cold
@pytest.mark.story
def test_a_server_that_wakes_before_its_client_does_not_blame_it_for_the_time_in_which_both_slept(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    """Row: SIGSTOP the server 120 s, in short, when nothing of its client waits to be read as it wakes."""
    lost, hold = 8, Breakpoint(tmp_path / "hold")
    be_patient_for(small_workspace.root, lost=lost)
    with (
        small_workspace.server(*flags(free_port(), 1, **JOB)) as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=hold.environment) as lab,
    ):
        server.expect("lab-1: epoch 1/5")
        send(lab, signal.SIGSTOP)
        time.sleep(1)  # the server reads what is still on its way
        send(server, signal.SIGSTOP)
        time.sleep(lost + 2)  # the fault itself
        send(server, signal.SIGCONT)
        server.expect(r"This server was suspended for \d+ s; every client keeps its task\.")
        send(lab, signal.SIGCONT)
        hold.let_go()
        server.finish()
        lab.finish()
    assert "The connection to lab-1 ended" not in server.output
    assert "was lost" not in server.output
    assert lab.output.count("Joined") == 1
    assert small_workspace.summary()["status"] == "done"


@pytest.mark.story
def test_a_wall_clock_that_jumps_by_a_day_lets_nothing_expire(small_workspace: SmallWorkspace, tmp_path: Path) -> None:
    """Row: wall clock moved by a day, on both machines, in the middle of the training."""
    hold, jump = Breakpoint(tmp_path / "hold", IN_TRAINING + JUMPING_CLOCK), tmp_path / "jump"
    environment = {**hold.environment, "LANFIT_TEST_JUMP": str(jump)}
    with (
        small_workspace.server(*flags(free_port(), 1, **JOB), environment=environment) as server,
        worker(tmp_path / "lab-1", port_of(server), "lab-1", environment=environment) as lab,
    ):
        server.expect("lab-1: epoch 1/5")
        jump.touch()
        hold.let_go()
        server.finish()
        lab.finish()
    assert "was lost" not in server.output
    assert small_workspace.summary()["status"] == "done"
    events = (small_workspace.root / "logs" / small_workspace.runs[-1] / "events.jsonl").read_text().splitlines()
    first, last = (float(line.split('"time":')[1].split(",")[0]) for line in (events[0], events[-1]))
    assert last - first > 86_400, "the clock did not jump"


def wall_clocks(path: Path) -> set[str]:
    """The clocks of people that a module looks at."""
    asked = {ast.unparse(node) for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if is_clock(node)}
    return asked - set(WALL_CLOCKS.get(path.stem, ()))


def is_clock(node: ast.AST) -> bool:
    if not isinstance(node, ast.Attribute):
        return False
    return ast.unparse(node) in ("time.time", "time.strftime", "time.localtime") or node.attr in ("now", "utcnow")


def test_no_decision_looks_at_the_wall_clock() -> None:
    found = {module: wall_clocks(path) for module, path in modules().items()}
    assert not {module: clocks for module, clocks in found.items() if clocks}
