"""Handle Ctrl-C from the first moment: one line and exit code 130, even while a command is still being imported.

Imports almost nothing, because imports can't be interrupted cleanly yet.
"""

from __future__ import annotations

import sys

INTERRUPTED = 130


class Interruptible:
    """Inside this block Ctrl-C ends the program with one line.

    The text of the KeyboardInterrupt is that line: it names the work in progress.
    """

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyboardInterrupt):
            sys.stderr.write(f"{str(error) or 'Interrupted.'}\n")
            raise SystemExit(INTERRUPTED) from None
