"""Trainers that are forked from a template: to whoever started them they are as those that start in full."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import psutil
import pytest
from breakpoints import Breakpoint, shim
from forking import VARIABLE, likeness

from lanfit.backends import check_backend
from lanfit.core.child import Child
from lanfit.errors import TrainingError
from lanfit.training.commands import Answer, Ready
from lanfit.training.trainer import SETUP_VARIABLE, Setup
from lanfit.wire.messages import Runtime

pytestmark = pytest.mark.skipif(VARIABLE not in os.environ, reason="no process is forked on this system")
#: Run first by a trainer: says who it is on its standard error, and does what the test wants.
SAY = """
import os, sys
if "lanfit.training.trainer" in sys.orig_argv:
    def say():
        import lanfit.training.trainer as trainer
        print(os.getpid(), os.getcwd(), os.environ["TMPDIR"], os.getsid(0) == os.getpid(), file=sys.stderr)
        {then}
    import lanfit.core.child
    listen = lanfit.core.child.Parent.listen
    lanfit.core.child.Parent.listen = lambda self, *arguments: (say(), listen(self, *arguments))
"""


@contextlib.asynccontextmanager
async def trainer(folder: Path, then: str = "pass", **variables: str) -> AsyncIterator[Child[Answer]]:
    setup = Setup(Runtime("jax", "cpu", 1), check_backend("jax").make)
    environment = {
        **shim(folder / "shim", SAY.format(then=then)),
        "KERAS_BACKEND": "jax",
        "OMP_NUM_THREADS": "1",
        SETUP_VARIABLE: msgspec.json.encode(setup).decode(),
        **variables,
    }
    child = await Child.start("lanfit.training.trainer", Answer, "trainer", environment)
    try:
        yield child
    finally:
        await child.stop()


async def who(child: Child[Answer]) -> psutil.Process:
    """The process that does the work of a trainer; None says that it has ended."""
    while not child.last_lines:
        await asyncio.sleep(0.01)
    return psutil.Process(int(child.last_lines[0].split()[0]))


def test_a_fork_works_where_who_asked_would_and_ends_with_its_input(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with trainer(tmp_path) as child:
            answer = await child.receive()
            assert isinstance(answer, Ready)
            assert answer.backend == "jax"
            fork = await who(child)
            assert fork.pid != child.pid
            pid, folder, temporary, own_session = child.last_lines[0].split()
            assert (int(pid), folder, own_session) == (fork.pid, os.getcwd(), "True")
            assert Path(temporary).name.startswith("lanfit-")
        assert child.exit_code == 0
        assert not fork.is_running()

    asyncio.run(run_script())


def test_a_fork_dies_with_who_asked(tmp_path: Path) -> None:
    async def run_script() -> None:
        async with trainer(tmp_path) as child:
            fork = await who(child)
            os.kill(child.pid, signal.SIGKILL)
            assert "signal 9" in (await child.ended()).message
            fork.wait(60)

    asyncio.run(run_script())


@pytest.mark.parametrize(
    ("then", "end"),
    [
        ("os.kill(os.getpid(), 9)", "signal 9"),
        ("os.kill(os.getpid(), 4)", "signal 4"),
        ("sys.exit(7)", "exit code 7"),
        ("os._exit(3)", "exit code 3"),
        ("1 / 0", "exit code 1"),
    ],
)
def test_who_asked_ends_as_its_fork_ends(tmp_path: Path, then: str, end: str) -> None:
    async def run_script() -> None:
        async with trainer(tmp_path, then) as child:
            with pytest.raises(TrainingError, match=end):
                await child.receive()
            assert (then == "1 / 0") == any("ZeroDivisionError" in line for line in child.last_lines)

    asyncio.run(run_script())


@pytest.mark.parametrize("variables", [{"JAX_ENABLE_X64": "0"}, {"KERAS_HOME": "elsewhere"}, {VARIABLE: ""}])
def test_what_libraries_read_while_they_are_imported_makes_a_trainer_start_in_full(
    tmp_path: Path, variables: dict[str, str]
) -> None:
    async def run_script() -> None:
        async with trainer(tmp_path, **variables) as child:
            assert (await who(child)).pid == child.pid

    asyncio.run(run_script())


def test_a_trainer_that_was_held_and_stepped_is_like_others(tmp_path: Path) -> None:
    hold = Breakpoint(tmp_path / "hold")
    hold.step()
    hold.step()
    hold.let_go()
    assert likeness({**os.environ, **hold.environment}) == likeness(os.environ)
    (tmp_path / "hold" / "keras.py").touch()
    assert likeness({**os.environ, **hold.environment}) != likeness(os.environ)


@pytest.mark.cold
def test_a_cold_test_has_none(tmp_path: Path) -> None:
    assert VARIABLE not in os.environ
    assert sys.modules["forking"]


@pytest.mark.parametrize("when", ["its template is started", "its template imports"])
def test_one_that_is_killed_early_leaves_nothing_and_the_next_is_forked(tmp_path: Path, when: str) -> None:
    # Which nobody else has: its template is not there yet.
    threads = {"OMP_NUM_THREADS": "7" if when == "its template imports" else "9"}

    async def run_script() -> None:
        async with trainer(tmp_path / "early", **threads) as child:
            stub = psutil.Process(child.pid)
            while not (stub.open_files() if when == "its template is started" else stub.net_connections("unix")):
                await asyncio.sleep(0.001)
            child.kill()
            assert "signal 9" in (await child.ended()).message
        async with trainer(tmp_path / "next", **threads) as child:
            assert isinstance(await child.receive(), Ready)
            assert (await who(child)).pid != child.pid

    asyncio.run(run_script())


@pytest.mark.parametrize("module", ["lanfit.data.reader_process", "lanfit_server.data.reading"])
def test_a_process_that_reads_files_is_forked_too(tmp_path: Path, module: str) -> None:
    environment = {
        **os.environ,
        **shim(tmp_path / "shim", "import os, sys; print(os.getpid(), sys.argv[1:], file=sys.stderr)"),
    }
    command = [sys.executable, "-P", "-m", module, "17"]
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        pid, arguments = process.stderr.readline().split(maxsplit=1)
        assert "unpack requires a buffer" in process.stderr.read()
    assert (int(pid) != process.pid, arguments.strip(), process.returncode) == (True, "['17']", 1)
