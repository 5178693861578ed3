"""Ctrl-C from the first moment on: one line and exit code 130, also while a command is still being imported.

Imports next to nothing, because what it imports can't be interrupted in words yet.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


class Interruptible:
    """Inside this block Ctrl-C ends the program with one line.

    A text in the KeyboardInterrupt is that line: it says what was going on.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.stderr.write(f"{str(error) or 'Interrupted.'}\n")
            raise SystemExit(INTERRUPTED) from None
