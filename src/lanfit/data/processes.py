"""A child process that reads files under limits: the parent calls `ask`, the child runs `serve`.

A damaged or malicious file can crash native code, which ends the process. Such a process imports only what it reads
with. It ends with its parent, and the system kills it first when memory is exhausted.
"""

from __future__ import annotations

import contextlib
import os
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import msgspec

from lanfit import errors
from lanfit.core import processor_time
from lanfit.core.memory import free_of_machine
from lanfit.data.current_file import without_memory
from lanfit.errors import lanfit_error

#: What Rust prints before it aborts for lack of memory, and what Python raises.
_NO_MEMORY: Final = ("memory allocation of", "MemoryError", "bad_alloc", "ArrowMemoryError")
_LENGTH: Final = struct.Struct("<I")
_LOOK_SECONDS: Final = 0.2
_KILL: Final = 9


class _Problem(msgspec.Struct, tag="problem"):
    kind: str
    message: str
    hint: str
    code: str


class _Found(msgspec.Struct, tag="found"):
    found: msgspec.Raw


class ReaderEnded(Exception):
    """The process ended without an answer: it was killed, crashed, or ran out of memory."""

    def __init__(self, code: int, last: str, limit: int) -> None:
        super().__init__(code, last)
        self._code = code
        self._last = last
        self._limit = limit
        self.without_memory = any(mark in last for mark in _NO_MEMORY)

    def named(self, file: object) -> errors.LanfitError:
        """Return the error for the user; `file` is the file that was being read."""
        if self.without_memory:
            return without_memory(file, self._limit)
        if self._code == -_KILL:
            return lanfit_error("file.reader-killed", file=file)
        if self._code == processor_time.ENDED:
            return lanfit_error("file.reader-endless", file=file)
        how = f"was ended by signal {-self._code}" if self._code < 0 else f"ended with exit code {self._code}"
        lines = self._last.strip().splitlines()
        return lanfit_error("file.reader-died", file=file, how=how, last=f" ({lines[-1][:200]})" if lines else "")


def ask(module: str, order: bytes, limit: int = 0, stop: threading.Event | None = None) -> bytes:
    """Let `python -m module` carry out an order; return its answer.

    Args:
        limit: of its memory, in bytes; the free memory if that is less, or if it is 0.
        stop: ends it and this call when it is set, from another thread.

    Raises:
        LanfitError: as the process raised it.
        ReaderEnded: it ended without an answer.
        KeyboardInterrupt: Ctrl-C, or `stop`; it was ended.
    """
    from lanfit.core.child import own_group  # not at the top: the process needs no asyncio
    from lanfit.core.passphrase import environment_of_children

    free = free_of_machine()
    limit = min(limit or free, free or limit)
    command = [sys.executable, "-P", "-m", module, str(limit)]
    with tempfile.TemporaryFile() as output:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": output}
        # A backtrace would hide the line with the reason.
        environment = environment_of_children({"RUST_BACKTRACE": "0"})
        with subprocess.Popen(command, env=environment, **pipes, **own_group()) as process:  # type: ignore[call-overload]
            try:
                answer = _exchange(process, order, stop)
            except BaseException:
                process.kill()
                raise
        output.seek(0)
        last = output.read()[-4000:].decode(errors="replace")
    if process.returncode:
        raise ReaderEnded(process.returncode, last, limit)
    found = msgspec.msgpack.decode(answer, type=_Problem | _Found)
    if isinstance(found, _Problem):
        raise getattr(errors, found.kind)(found.message, found.hint, found.code)
    return bytes(found.found)


def _exchange(process: subprocess.Popen[bytes], order: bytes, stop: threading.Event | None) -> bytes:
    """Send the order and wait for the answer in short intervals, because Ctrl-C may reach any thread."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(OSError):  # the process may have ended, which is reported below
        process.stdin.write(_LENGTH.pack(len(order)) + order)
        process.stdin.flush()  # its input stays open as long as this process lives
    answers: list[bytes] = []
    read = process.stdout.read
    reader = threading.Thread(target=lambda: answers.append(read()), daemon=True)
    reader.start()
    try:
        while reader.is_alive():
            reader.join(_LOOK_SECONDS)
            if stop is not None and stop.is_set():
                raise KeyboardInterrupt
    except BaseException:
        process.kill()
        reader.join()
        raise
    return answers[0]


# --- in the process ---------------------------------------------------------------------------------------------


def serve(read: Callable[[bytes, int], bytes]) -> NoReturn:
    """Carry out the order, and exit.

    Args:
        read: called with the order and the memory limit; returns the answer as msgpack.
    """
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print
    (length,) = _LENGTH.unpack(sys.stdin.buffer.read(_LENGTH.size))
    order = sys.stdin.buffer.read(length)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")  # killed first when memory is exhausted
    answer: _Problem | _Found
    try:
        answer = _Found(msgspec.Raw(read(order, int(sys.argv[1]))))
    except errors.LanfitError as error:
        known = next(cls.__name__ for cls in type(error).__mro__ if cls.__module__ == "lanfit.errors")
        answer = _Problem(known, error.message, error.hint, error.code)
    except BaseException:  # noqa: BLE001  (any exception ends the process)
        sys.excepthook(*sys.exc_info())
        os._exit(1)  # Python would wait for the thread that waits for the parent, and then abort
    output.write(msgspec.msgpack.encode(answer))
    output.flush()
    os._exit(0)


def _end_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(1)
