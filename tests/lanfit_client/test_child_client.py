"""A client that a server started on its own machine: its standard input is the way to its parent."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: What such a client does with its input, and then ends by itself or goes on.
CHILD = """
import sys, threading, time
from lanfit.commands import interrupt_on_termination
from lanfit_client.app import _end_with_input
interrupt_on_termination()  # as the client does: it may have inherited that interrupts are ignored
threading.Thread(target=_end_with_input, daemon=True).start()
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
