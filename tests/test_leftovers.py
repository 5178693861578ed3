"""What every test is checked for is found when it is there."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile

import leftovers
import pytest
from leftovers import nothing_left
from test_architecture import imports, modules

SLEEPS = "import time; time.sleep(600)"
#: Its child loses its parent at once.
ORPHAN = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {SLEEPS!r}], start_new_session=True)"


@pytest.fixture(autouse=True)
def _does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leftovers, "ENDING_SECONDS", 0.0)


def test_nothing_is_found_where_nothing_is_left() -> None:
    with nothing_left():
        subprocess.run([sys.executable, "-c", "import tempfile; tempfile.TemporaryFile()"], check=True)


def test_a_process_is_found_and_ended() -> None:
    check = nothing_left()
    check.__enter__()
    process = subprocess.Popen([sys.executable, "-c", SLEEPS])
    with pytest.raises(AssertionError, match="processes were left"):
        check.__exit__(None, None, None)
    process.wait()


def test_a_process_is_found_that_has_lost_its_parent() -> None:
    check = nothing_left()
    check.__enter__()
    subprocess.run([sys.executable, "-c", ORPHAN], check=True)
    with pytest.raises(AssertionError, match="processes were left"):
        check.__exit__(None, None, None)


def test_a_port_is_found() -> None:
    check = nothing_left()
    check.__enter__()
    with (
        socket.create_server(("127.0.0.1", 0)) as left,
        pytest.raises(AssertionError, match=f"listened on: .{left.getsockname()[1]}"),
    ):
        check.__exit__(None, None, None)


def test_a_temporary_file_is_found() -> None:
    check = nothing_left()
    check.__enter__()
    descriptor, path = tempfile.mkstemp()
    os.close(descriptor)
    with pytest.raises(AssertionError, match="files were left"):
        check.__exit__(None, None, None)
    os.unlink(path)


def test_no_module_makes_shared_memory() -> None:
    assert not [module for module, path in modules().items() if any("shared_memory" in name for name in imports(path))]
