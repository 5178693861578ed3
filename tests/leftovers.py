"""What a test leaves behind: processes, listening ports, temporary files.

Blocks of shared memory have no owner that could be asked for; a test shows that nothing here makes any.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

#: TensorFlow's and PyTorch's: generated code, and what Python compiles of it.
BACKENDS_KEEP = ("__autograph_generated_file", "__pycache__", "torchinductor_")
#: Every process that this one starts has it in its environment, and so have theirs, whoever their parent is later.
MARK = "LANFIT_TEST_WORKER"
#: Set by `running.Program`: what belongs to a program that was there before the test may come and go.
PROGRAM = "LANFIT_TEST_PROGRAM"
#: What Python itself starts once and keeps.
OF_PYTHON = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
#: Whether the system shows each process as a folder of files.
PROC = Path("/proc/self/environ").exists()
#: A process that was told to end takes a while on a busy machine.
ENDING_SECONDS = 20.0
#: So does one that was killed, of which the next test is not to be blamed.
KILLED_SECONDS = 20.0


def mark_this_process() -> None:
    """From now on the processes that this one starts, and their temporary files, can be told from all others."""
    os.environ[MARK] = uuid.uuid4().hex
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path stays where it was
    os.environ["TMPDIR"] = tempfile.tempdir = tempfile.mkdtemp(prefix="lanfit-tests-")


def forget_this_process() -> None:
    """Remove the folder of its temporary files."""
    shutil.rmtree(tempfile.gettempdir(), ignore_errors=True)


@dataclass(frozen=True)
class Found:
    """What is there at a moment."""

    processes: dict[int, tuple[psutil.Process, str]]
    """With the program that each belongs to, if any."""
    ports: frozenset[int]
    files: frozenset[Path]


def look() -> Found:
    """Find what this process and its children have."""
    here = psutil.Process()
    ports = {each.laddr.port for each in here.net_connections("inet") if each.status == psutil.CONN_LISTEN}
    return Found(_ours(), frozenset(ports), _files())


def _files() -> frozenset[Path]:
    """What lies in the folder for temporary files, but for what backends keep there until this process ends."""
    found = Path(tempfile.gettempdir()).glob("*")
    return frozenset(path for path in found if not path.name.startswith(BACKENDS_KEEP))


def has_ended(process: psutil.Process) -> bool:
    """Whether it is gone, or only waits for a parent to ask how it ended, which nobody does in some containers."""
    with contextlib.suppress(psutil.Error):
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    return True


def _ours() -> dict[int, tuple[psutil.Process, str]]:
    found = {}
    for process in _marked():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and not any(name in " ".join(process.cmdline()) for name in OF_PYTHON):
                found[process.pid] = (process, process.environ().get(PROGRAM, ""))
    return found


def _marked() -> Iterator[psutil.Process]:
    """All processes with this one's mark. All tests look twice: what psutil reads beside would take minutes."""
    mark = os.environ[MARK]
    for pid in psutil.pids():
        with contextlib.suppress(psutil.Error, OSError):
            if mark in (_environment_text(pid) if PROC else psutil.Process(pid).environ().get(MARK, "")):
                yield psutil.Process(pid)


def _environment_text(pid: int) -> str:
    file = os.open(f"/proc/{pid}/environ", os.O_RDONLY)
    try:
        return os.read(file, 1 << 20).decode("utf-8", "replace")
    finally:
        os.close(file)


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """What is done in it must leave nothing behind; what was there before may stay.

    Raises:
        AssertionError: something is left. Processes that are left are ended.
    """
    before = look()
    programs = {program for _, program in before.processes.values() if program}
    yield
    after = look()
    new = [
        process
        for pid, (process, program) in after.processes.items()
        if pid not in before.processes and program not in programs
    ]
    _, alive = psutil.wait_procs(new, timeout=ENDING_SECONDS)
    alive = [process for process in alive if not has_ended(process)]
    for process in alive:
        process.kill()
    deadline = time.monotonic() + KILLED_SECONDS
    while not all(map(has_ended, alive)) and time.monotonic() < deadline:
        time.sleep(0.01)
    files = _files()  # a child that ends removes its own
    assert not alive, f"processes were left: {alive}"
    assert not after.ports - before.ports, f"ports are still listened on: {sorted(after.ports - before.ports)}"
    assert not files - before.files, f"files were left: {sorted(files - before.files)}"
