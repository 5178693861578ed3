"""The common part of the commands: errors become one line (or one JSON object) and an exit code, Ctrl-C becomes 130."""

from __future__ import annotations

import contextlib
import json
import logging
import signal
import sqlite3
import sys
from collections.abc import Iterator

import msgspec

from lanfit.core.encoding import accept_all_text, is_utf
from lanfit.core.interrupts import INTERRUPTED as INTERRUPTED
from lanfit.core.interrupts import Interruptible
from lanfit.core.system import refused
from lanfit.errors import LanfitError, lanfit_error

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def reported(*, as_json: bool = False) -> Iterator[None]:
    """Run a command: print an error with its hint, and exit with its exit code."""
    accept_all_text(sys.stdout, sys.stderr)
    try:
        yield
    except LanfitError as wrong:
        _report(wrong, as_json)
        sys.exit(wrong.exit_code)
    except (OSError, sqlite3.DatabaseError) as error:
        logger.debug("the operating system refused an operation", exc_info=error)
        explained = refused(error)
        _report(explained, as_json)
        sys.exit(explained.exit_code)
    except MemoryError as error:
        logger.debug("out of memory", exc_info=error)
        explained = lanfit_error("system.out-of-memory")
        _report(explained, as_json)
        sys.exit(explained.exit_code)
    except KeyboardInterrupt as interrupt:
        if as_json:
            _print_error("interrupted", "Start again.", "interrupted")
        with Interruptible():
            raise interrupt


def _report(wrong: LanfitError, as_json: bool) -> None:
    if as_json:
        _print_error(wrong.message, wrong.hint, wrong.code)
    print(f"Error: {wrong.message}", file=sys.stderr)
    if wrong.hint:
        print(f"  → {wrong.hint}", file=sys.stderr)


def _print_error(error: str, hint: str, code: str) -> None:
    print_json(msgspec.json.encode({"error": error, "hint": hint, "code": code}))


def print_json(document: bytes) -> None:
    """Print a JSON document on standard output, in ASCII if the stream can't encode every character."""
    text = document.decode().rstrip("\n")
    print(text if is_utf(sys.stdout) else json.dumps(json.loads(text), indent=2))


def interrupt_on_termination() -> None:
    """Let a termination request (SIGTERM) end the program like Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    # In the background of a script a process inherits "ignore" for Ctrl-C; ours should still exit cleanly.
    signal.signal(signal.SIGINT, interrupt)
