"""Where a passphrase comes from when nobody types it: a file, or the environment. Never an argument."""

from __future__ import annotations

import os
from pathlib import Path

from lanfit.encoding import decode_text
from lanfit.mistakes import mistake

PASSPHRASE_VARIABLE = "LANFIT_PASSPHRASE"


def given_passphrase(file: Path | None) -> str | None:
    """The passphrase from the file, else from the environment, else None.

    Raises:
        InputError: there is no such file, it can't be read, or its first line is empty.
    """
    return read_passphrase_file(file) if file is not None else os.environ.get(PASSPHRASE_VARIABLE) or None


def read_passphrase_file(path: Path) -> str:
    """Return the first line of a file, without its end.

    Raises:
        InputError: there is no such file, it can't be read, or its first line is empty.
    """
    try:
        line = decode_text(path.read_bytes()).partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is neither UTF-8 nor UTF-16 text"
        raise mistake("passphrase.unreadable-file", file=path, reason=why) from None
    if not line.strip():
        raise mistake("passphrase.empty-file", file=path)
    return line
