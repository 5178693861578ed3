"""The passphrase from a file or the environment, without a prompt. Never an argument.

It is not passed on in the environment of started processes, some of which load data from peers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from lanfit.core.encoding import decode_text
from lanfit.errors import lanfit_error

PASSPHRASE_VARIABLE = "LANFIT_PASSPHRASE"


def given_passphrase(file: Path | None) -> str | None:
    """Return the passphrase from the file, else from the environment, else None.

    Raises:
        InputError: there is no such file, it can't be read, or its first line is empty.
    """
    return read_passphrase_file(file) if file is not None else os.environ.get(PASSPHRASE_VARIABLE) or None


def environment_of_children(more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment for a process started by this one: its own, without the passphrase, and `more`."""
    return {name: value for name, value in os.environ.items() if name != PASSPHRASE_VARIABLE} | dict(more)


def read_passphrase_file(path: Path) -> str:
    """Return the first line of a file, without its line break.

    Raises:
        InputError: there is no such file, it can't be read, or its first line is empty.
    """
    try:
        line = decode_text(path.read_bytes()).partition("\n")[0].rstrip("\r")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is neither UTF-8 nor UTF-16 text"
        raise lanfit_error("passphrase.unreadable-file", file=path, reason=why) from None
    if not line.strip():
        raise lanfit_error("passphrase.empty-file", file=path)
    return line
