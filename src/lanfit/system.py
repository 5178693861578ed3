"""What the operating system refuses: a full disk, a folder that may not be written to; nobody can foresee where.

Every process of lanfit ends, or answers, with the one error that is made here.
"""

from __future__ import annotations

import sqlite3

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake


def refused(error: OSError | sqlite3.DatabaseError) -> LanfitError:
    """The error for the user: what the system said, and of which file."""
    if isinstance(error, sqlite3.DatabaseError):
        return mistake("system.refused", reason=f"the ledger of a run: {error}")
    why = error.strerror or str(error) or type(error).__name__
    return mistake("system.refused", reason=f"{why}: {error.filename}" if error.filename else why)
