"""What the commands share: errors become one line (or one JSON object) and an exit code, Ctrl-C becomes 130."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

import msgspec

from lanfit.errors import LanfitError

INTERRUPTED = 130


@contextlib.contextmanager
def reported(*, as_json: bool = False) -> Iterator[None]:
    """Run a command's work: an error is printed, with its hint, and ends the program with its exit code."""
    try:
        yield
    except LanfitError as wrong:
        if as_json:
            print(msgspec.json.encode({"error": wrong.message, "hint": wrong.hint}).decode())
        print(f"Error: {wrong.message}", file=sys.stderr)
        if wrong.hint:
            print(f"  → {wrong.hint}", file=sys.stderr)
        sys.exit(wrong.exit_code)
    except KeyboardInterrupt:
        if as_json:
            print(msgspec.json.encode({"error": "interrupted", "hint": "start again"}).decode())
        sys.exit(INTERRUPTED)


def interrupt_on_termination() -> None:
    """Let a request to terminate (SIGTERM) end the program as Ctrl-C does."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # In the background of a script a process inherits "ignore" for Ctrl-C; ours is to end cleanly all the same.
    signal.signal(signal.SIGINT, interrupt)
