"""A terminal of the test's own: what a program writes there, and what a person would see of it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

PATIENCE = 60
_SEQUENCE = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])")


class Screen:
    """What was written to a terminal, with a way to wait for it, and to type."""

    def __init__(self, master: int, stream: TextIO, keyboard: TextIO) -> None:
        self.stream = stream
        self.keyboard = keyboard
        self._master = master
        self._written = ""
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        with suppress(OSError):  # nobody has the other end any more
            while data := os.read(self._master, 65_536):
                with self._changed:
                    self._written += data.decode(errors="replace")
                    self._changed.notify_all()

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    @property
    def written(self) -> str:
        with self._changed:
            return self._written

    def wait_for(self, pattern: str) -> None:
        """Wait until something that matches was written."""
        with self._changed:
            assert self._changed.wait_for(lambda: re.search(pattern, self._written), PATIENCE), self._written

    def close(self) -> None:
        with suppress(OSError):
            self.type("\n\x04")  # for who still waits for an answer, when a test has failed
        self.stream.close()
        self.keyboard.close()
        self._reader.join(PATIENCE)
        os.close(self._master)


@contextmanager
def screen(width: int = 80, height: int = 24) -> Iterator[Screen]:
    """A terminal of this size."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))
    keyboard = os.fdopen(os.dup(slave), "r")
    made = Screen(master, os.fdopen(slave, "w"), keyboard)
    try:
        yield made
    finally:
        made.close()


def seen(written: str) -> list[str]:
    """The lines that a person sees after all this was written: cursor up, carriage return and erasing are obeyed."""
    lines: list[list[str]] = [[]]
    row = column = position = 0
    while position < len(written):
        if found := _SEQUENCE.match(written, position):
            position = found.end()
            count, what = found[1], found[2]
            if what == "A":
                row = max(0, row - int(count or 1))
            elif what == "K":
                lines[row] = [] if count == "2" else lines[row][:column]
            continue
        character = written[position]
        position += 1
        if character == "\r":
            column = 0
        elif character == "\n":
            row += 1
            if row == len(lines):
                lines.append([])
        else:
            lines[row] = [*lines[row][:column], *" " * (column - len(lines[row])), character, *lines[row][column + 1 :]]
            column += 1
    return "\n".join("".join(line).rstrip() for line in lines).rstrip().split("\n")
