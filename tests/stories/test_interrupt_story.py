"""Ctrl-C in the first moments, as a terminal delivers it: exit 130, one line that says so, and no traceback."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from running import Program, free_port
from small_workspace import SmallWorkspace

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo terminals")


def interrupted(program: Program, *after: str) -> str:
    """Press Ctrl-C when all of this was said; returns what was said after it."""
    with program:
        for pattern in after:
            program.expect(pattern)
        program.interrupt()
        program.finish(130)
    assert "Traceback" not in program.output, program.output
    assert "never retrieved" not in program.output, program.output
    assert "Aborted" not in program.output
    return program.output.rpartition("^C")[2]


def hooked(folder: Path, module: str, action: str) -> dict[str, str]:
    """Variables with which a process does `action` when it begins to import `module`."""
    (folder / "sitecustomize.py").write_text(
        "import os, signal, sys, time\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        f"            {action}\n"
        "sys.meta_path.insert(0, Finder())\n"
    )
    return {"PYTHONPATH": str(folder)}


@pytest.mark.cold
def test_a_demo_while_keras_is_imported(tmp_path: Path) -> None:
    """Here the import lasts until it is interrupted: how long it takes elsewhere depends on the machine."""
    environment = hooked(tmp_path, "keras", "time.sleep(3600)")
    demo = Program("demo", folder=tmp_path, environment=environment, terminal=True)
    output = interrupted(demo, "Keras is still being imported")
    assert output.count("nterrupted") == 1, output


@pytest.mark.parametrize(
    "after",
    [("Reading the data",), ("Reading the data", "joined from")],
    ids=["while rows are read", "when a client has joined"],
)
def test_a_demo(tmp_path: Path, after: Sequence[str]) -> None:
    output = interrupted(Program("demo", folder=tmp_path, terminal=True), *after)
    assert output.count("nterrupted") == 1, output


def test_a_server_at_its_first_question(small_workspace: SmallWorkspace) -> None:
    output = interrupted(small_workspace.server(terminal=True), "Server IP")
    assert output.strip() == "Interrupted."


def test_a_question_when_the_system_gives_the_signal_to_another_thread(tmp_path: Path) -> None:
    """The main thread's read is not interrupted then. Here it can't be given the signal: which one is, is chance."""
    (tmp_path / "asks.py").write_text(
        "import signal, threading\n"
        "from lanfit.core.interrupts import Interruptible\n"
        "from lanfit.core.terminal import Terminal\n"
        "threading.Thread(target=threading.Event().wait, daemon=True).start()\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with Interruptible():\n"
        "    Terminal().ask('Server IP', '--host', str, default='0.0.0.0')\n"
    )
    output = interrupted(Program(command="python asks.py", folder=tmp_path, terminal=True), "Server IP")
    assert output.strip() == "Interrupted."


def test_a_server_while_it_waits_for_its_clients(small_workspace: SmallWorkspace) -> None:
    arguments = ("--model", "classes.h5", "--batch-size", 2, "--host", "127.0.0.1", "--port", free_port(), "--yes")
    output = interrupted(small_workspace.server(*arguments, terminal=True), "Waiting for 2")
    assert output.rstrip().endswith("Interrupted before the run started: nothing was trained.")
    assert output.count("nterrupted") == 1, output
    assert not (small_workspace.root / "logs").exists()


def test_a_client_that_looks_for_its_server(tmp_path: Path) -> None:
    arguments = ("client", f"127.0.0.1:{free_port()}")
    output = interrupted(Program(*arguments, folder=tmp_path, terminal=True), "Retrying")
    assert output.rstrip().endswith("Interrupted.")
    assert output.count("nterrupted") == 1, output


@pytest.mark.parametrize(
    "module", ["click", "lanfit_server.cli", "lanfit_client.cli", "lanfit_server.prepare_data.cli"]
)
def test_a_command_that_is_still_being_imported(tmp_path: Path, module: str) -> None:
    """Where a Ctrl-C meets an import only chance decides: here the import itself is what interrupts."""
    command = {"lanfit_client.cli": "client", "lanfit_server.prepare_data.cli": "prepare"}.get(module, "demo")
    environment = hooked(tmp_path, module, "os.kill(os.getpid(), signal.SIGINT)")
    with Program(command, folder=tmp_path, environment=environment) as program:
        program.finish(130)
    assert program.output == "Interrupted.\n"
