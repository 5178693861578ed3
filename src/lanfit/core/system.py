"""Errors of the operating system, such as a full disk or a folder without write permission, which can occur anywhere.

Every process of lanfit exits, or answers, with the error that is created here.
"""

from __future__ import annotations

import sqlite3

from lanfit.errors import LanfitError, lanfit_error


def refused(error: OSError | sqlite3.DatabaseError) -> LanfitError:
    """Return the error for the user: the system's message, and the file."""
    if isinstance(error, sqlite3.DatabaseError):
        return lanfit_error("system.refused", reason=f"the ledger of a run: {error}")
    why = error.strerror or str(error) or type(error).__name__
    return lanfit_error("system.refused", reason=f"{why}: {error.filename}" if error.filename else why)
