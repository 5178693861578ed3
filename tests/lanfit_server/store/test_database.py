"""Where a run's database can be kept is found out before the first question."""

from __future__ import annotations

import io
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.errors import InputError
from lanfit_server.start.options import Options
from lanfit_server.start.startup import run_server
from lanfit_server.store import database
from lanfit_server.store.database import check_database, open_database
from lanfit_server.store.ledger import Ledger, OwnedTask

Refuses = Callable[[str], None]


@pytest.fixture
def refuses(monkeypatch: pytest.MonkeyPatch) -> Refuses:
    """Let SQLite fail at every statement that has one of these words in it, as on a network drive."""
    real = sqlite3.connect

    def refuse(words: str) -> None:
        class Connection(sqlite3.Connection):
            def execute(self, sql: str, *arguments: object) -> sqlite3.Cursor:
                if any(word in sql for word in words.split()):
                    raise sqlite3.OperationalError("locking protocol")
                return super().execute(sql, *arguments)  # type: ignore[arg-type]

        monkeypatch.setattr(
            database.sqlite3, "connect", lambda path, **options: real(path, factory=Connection, **options)
        )

    return refuse


def test_a_disk_of_this_machine_has_a_write_ahead_log(tmp_path: Path) -> None:
    assert check_database(tmp_path) == "wal"
    assert list(tmp_path.iterdir()) == []


def test_a_drive_without_shared_memory_has_a_rollback_journal_and_holds_a_ledger(
    refuses: Refuses, tmp_path: Path
) -> None:
    refuses("wal")
    assert check_database(tmp_path) == "truncate"
    ledger = Ledger(tmp_path / "run")
    ledger.add_tasks([OwnedTask("shard-1", "lab-1")])
    ledger.close()
    again = Ledger(tmp_path / "run")
    assert again.tasks() == [OwnedTask("shard-1", "lab-1")]
    again.close()


def test_each_journal_syncs_before_it_answers(refuses: Refuses, tmp_path: Path) -> None:
    for mode in ("wal", "truncate"):
        connection, found = open_database(tmp_path / "file.sqlite")
        assert found == mode
        assert connection.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        connection.execute("PRAGMA journal_mode = delete")
        connection.close()
        refuses("wal")


@pytest.mark.parametrize("words", ["wal truncate", "CREATE"])
def test_a_drive_that_holds_no_database_is_refused_before_the_first_question(
    refuses: Refuses, tmp_path: Path, words: str
) -> None:
    refuses(words)
    talk = io.StringIO()
    with pytest.raises(InputError, match=r"the database of a run can't be created in .*: locking protocol") as caught:
        run_server(Options(Workspace(tmp_path), {}), Terminal(io.StringIO(""), talk))
    assert caught.value.code == "workspace.no-database"
    assert talk.getvalue() == ""
    assert list(tmp_path.iterdir()) == []
