"""A child process that exchanges messages with its parent over its standard input and output.

The server's model process and the client's trainer are such children: they import the backend, and may crash without
affecting the network process. Arrays are not sent through the pipe: messages name files. This module does not interpret
the messages.

A message on the pipe is a 4-byte little-endian length and a msgpack object. The child exits when its input ends, so it
never outlives its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Generic, NoReturn, TypeVar

import msgspec

from lanfit.core.passphrase import environment_of_children
from lanfit.core.text import sanitize
from lanfit.errors import ChildDied

_LENGTH = struct.Struct("<I")
M = TypeVar("M")
#: The prefix of a line on the standard input of a local client: a file with custom objects is allowed.
ALLOW = "custom-objects "
#: The prefix of the first output of a local client that could not join; its server shows the rest of the line.
CANT_JOIN = "can't join: "
#: How many of the last output lines of a child are kept, to be shown if it dies.
KEPT_LINES = 40
#: The variable with a child's own folder for temporary files, because a killed backend leaves some.
TEMPORARY = "LANFIT_TEMPORARY"


def own_group() -> dict[str, Any]:
    """Return arguments of `subprocess` that keep a Ctrl-C at the terminal from the child: its parent stops it.

    Until the child has left the group of its parent only the signal mask protects it: see `LoopThread`.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
    return {"start_new_session": True}


class Child(Generic[M]):
    """The parent's end. Created by `start`; `M` is the union of the messages that the child sends."""

    def __init__(self, process: asyncio.subprocess.Process, replies: type[M], name: str, temporary: str) -> None:
        self._process = process
        self._temporary = temporary
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(replies)
        self._name = name
        self.last_lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._reading_errors = asyncio.create_task(self._read_errors())

    @classmethod
    async def start(
        cls, module: str, replies: Any, name: str, environment: Mapping[str, str] | None = None
    ) -> Child[M]:
        """Start `python -P -m module` as a child.

        Args:
            replies: the type (a tagged union) of the messages that the child sends.
            name: its name in errors.
            environment: variables to set in addition to the inherited ones, which exclude the passphrase.
        """
        temporary = tempfile.mkdtemp(prefix="lanfit-")
        folders = dict.fromkeys((TEMPORARY, "TMPDIR", "TMP", "TEMP"), temporary)
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",
                "-m",
                module,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment_of_children({**folders, "PYTHONUNBUFFERED": "1", **(environment or {})}),
                **own_group(),
            )
        except BaseException:  # interrupted, or too little memory
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return cls(process, replies, name, temporary)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code of a child that has ended; on POSIX the negative number of the signal that killed it."""
        return self._process.returncode

    @property
    def was_killed(self) -> bool:
        """Whether a signal killed it, as far as the system reports it."""
        return (self._process.returncode or 0) < 0

    async def _read_errors(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:  # a line longer than the reader's limit: its rest follows
                continue
            if not line:
                return
            self.last_lines.append(sanitize(line.decode(errors="replace").rstrip()))

    async def send(self, message: object) -> None:
        """Send a message; do nothing if the child has ended (`receive` reports that)."""
        assert self._process.stdin is not None
        body = msgspec.msgpack.encode(message)
        with contextlib.suppress(ConnectionError):
            self._process.stdin.write(_LENGTH.pack(len(body)) + body)
            await self._process.stdin.drain()

    async def receive(self) -> M:
        """Return the child's next message.

        Raises:
            ChildDied: the child has ended; the error has its exit code and last lines.
        """
        assert self._process.stdout is not None
        try:
            (length,) = _LENGTH.unpack(await self._process.stdout.readexactly(_LENGTH.size))
            return self._decoder.decode(await self._process.stdout.readexactly(length))
        except asyncio.IncompleteReadError:
            raise await self.ended() from None

    async def ended(self) -> ChildDied:
        """Wait for the child's end; return an error that describes it, with its last lines."""
        code = await self._process.wait()
        await self._ended()
        last = "\n".join(self.last_lines)
        why = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return ChildDied(f"the {self._name} {why}", f"its last lines:\n{last}" if last else "")

    async def stop(self, seconds: float = 2.0) -> None:
        """Stop the child and wait until it has ended: its input is closed, and if that is not enough it is killed.

        Args:
            seconds: how long it may take to end by itself.
        """
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(seconds):
                await self._process.wait()
        except TimeoutError:
            self.kill()
            await self._process.wait()
        await self._ended()

    async def _ended(self) -> None:
        await asyncio.shield(self._reading_errors)  # two tasks may be waiting
        shutil.rmtree(self._temporary, ignore_errors=True)

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()


class Parent(Generic[M]):
    """The child's end. `M` is the union of the messages that the parent sends."""

    def __init__(self, requests: Any) -> None:
        # What libraries print must not end up between our messages: descriptor 1 becomes another name of stderr.
        self._output: BinaryIO = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        self._input = sys.stdin.buffer
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(requests)
        self._lock = threading.Lock()
        self._survives = False

    def send(self, message: object) -> None:
        """Send a message, from any thread. Exits if the parent has ended.

        Raises:
            OSError: the parent has ended, and this child has work to finish (`listen`).
        """
        body = msgspec.msgpack.encode(message)
        try:
            with self._lock:
                self._output.write(_LENGTH.pack(len(body)) + body)
                self._output.flush()
        except OSError:
            if self._survives:
                raise
            end_process()

    def receive(self) -> M:
        """Return the parent's next message; exit if the parent has ended."""
        message = self._next()
        if message is None:
            end_process()
        return message

    def _next(self) -> M | None:
        """Return the parent's next message; None if the parent has ended."""
        head = self._input.read(_LENGTH.size)
        if len(head) == _LENGTH.size:
            (length,) = _LENGTH.unpack(head)
            body = self._input.read(length)
            if len(body) == length:
                return self._decoder.decode(body)
        return None

    def listen(self, handle: Callable[[M], None], on_end: Callable[[], None] | None = None) -> None:
        """Pass every message to `handle` in a thread, so that a busy child still notices its parent's end.

        Args:
            on_end: called then, instead of exiting, for a child that has work to finish.
        """
        self._survives = on_end is not None

        def loop() -> None:
            while (message := self._next()) is not None:
                handle(message)
            (on_end or end_process)()

        threading.Thread(target=loop, name="parent", daemon=True).start()


def end_process(code: int = 0) -> NoReturn:
    """Exit immediately: without clean-up of the backend's threads, which may be in the middle of a computation."""
    if temporary := os.environ.get(TEMPORARY):
        shutil.rmtree(temporary, ignore_errors=True)
    os._exit(code)
