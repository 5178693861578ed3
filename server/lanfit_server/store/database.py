"""Opening SQLite databases for runs; light enough to be tried before the first question."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from pathlib import Path

from lanfit.errors import lanfit_error


def open_database(path: Path) -> tuple[sqlite3.Connection, str]:
    """Open a database; return the connection and its journal mode.

    The mode is a write-ahead log (`wal`), or a rollback journal (`truncate`, slower) if the file system can't share
    memory, as on a network drive.

    Raises:
        sqlite3.OperationalError: neither works there.
    """
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        for mode in ("wal", "truncate"):
            try:
                connection.execute("PRAGMA synchronous = FULL")
                [found] = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
                # The first access maps the memory that the users of a log share.
                connection.execute("SELECT count(*) FROM sqlite_master")
                if found == mode:
                    return connection, mode
            except sqlite3.OperationalError:
                if mode == "truncate":
                    raise
        refused = sqlite3.OperationalError("no journal can be kept there")
        refused.sqlite_errorcode = sqlite3.SQLITE_PROTOCOL  # as SQLite has it: the file may be what it was
        raise refused
    except BaseException:
        connection.close()
        raise


def check_database(folder: Path) -> str:
    """Try a database in an existing folder before a run needs one; return its journal mode, and leave nothing behind.

    Raises:
        InputError: a database is not possible there.
        OSError: the folder can't be written to.
    """
    with tempfile.TemporaryDirectory(prefix=".database-", dir=folder) as trial:
        try:
            connection, mode = open_database(Path(trial) / "trial.sqlite")
            with contextlib.closing(connection):
                connection.execute("CREATE TABLE trial (number)")
        except sqlite3.OperationalError as error:
            raise lanfit_error("workspace.no-database", folder=folder, reason=error) from None
    return mode
