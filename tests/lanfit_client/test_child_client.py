"""A client that a server started on its own machine: its standard input is the way to its parent."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What such a client does with its input, and then ends by itself or goes on.
CHILD = """
import sys, threading, time
from lanfit.core.commands import interrupt_on_termination
from lanfit_client.app import _first_line, _follow_input
interrupt_on_termination()  # as the client does: it may have inherited that interrupts are ignored
allowed = lambda path: print("allowed", path, flush=True)
threading.Thread(target=_follow_input, args=(b"", allowed), daemon=True).start()
{then}
"""


def child(then: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-P", "-c", CHILD.format(then=then)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize("sent", [b"", b"more\n"])
def test_it_ends_by_itself_while_its_parent_is_there(sent: bytes) -> None:
    with child("threading.Event().wait(0.2)") as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(sent)
        process.stdin.flush()
        assert process.wait(60) == 0, process.stderr.read().decode()


def test_it_ends_as_by_ctrl_c_with_its_parent() -> None:
    # It says that it has begun where the interrupt is waited for: its parent is gone at once.
    begins = 'try:\n    print("started", flush=True)\n    while True: time.sleep(0.05)\n'
    then = f"{begins}except KeyboardInterrupt:\n    sys.exit(7)"
    with child(then) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"started\n"
        process.stdin.close()
        assert process.wait(60) == 7


def test_it_takes_the_passphrase_and_then_files_that_it_is_allowed_to_execute_from_its_parent() -> None:
    code = """
import sys, threading
from lanfit.core.commands import interrupt_on_termination
from lanfit_client.app import _first_line, _follow_input
interrupt_on_termination()  # it may have inherited that interrupts are ignored
passphrase, rest = _first_line()
print("passphrase", passphrase, flush=True)
try:
    _follow_input(rest, lambda path: print("allowed", path, flush=True))
    threading.Event().wait(60)
except KeyboardInterrupt:
    sys.exit(7)
"""
    with subprocess.Popen(
        [sys.executable, "-P", "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("correct horse\ncustom-objects my layers.py\ncustom-objects ot")
        process.stdin.flush()
        assert [process.stdout.readline() for _ in range(2)] == ["passphrase correct horse\n", "allowed my layers.py\n"]
        process.stdin.write("her.py\nsomething else\n")
        process.stdin.flush()
        assert process.stdout.readline() == "allowed other.py\n"
        process.stdin.close()
        assert process.wait(60) == 7
