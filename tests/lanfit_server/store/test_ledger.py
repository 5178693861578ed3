"""What a ledger holds survives its server: leases with their attempts, how they ended, and what it is of."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes.results import record, result

from lanfit.core.workspace import Workspace
from lanfit_server.run.resume import status_of, unfinished
from lanfit_server.store.ledger import Ledger, OwnedTask, StoredLease, StoredResult


def ledger_in(folder: Path) -> Ledger:
    ledger = Ledger(folder)
    ledger.open_run(record("run-1"))
    ledger.add_tasks([OwnedTask("shard-1", "lab-1"), OwnedTask("shard-2", "lab-2")])
    return ledger


def test_leases_and_how_they_ended_are_there_for_the_next_server(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    ledger.lease("shard-1", 1, "lab-1")
    ledger.lease("shard-2", 1, "lab-2")
    ledger.end_leases("died", task="shard-1", client="lab-1", failure="lab-1: killed by signal 9")
    ledger.lease("shard-1", 2, "lab-3")
    ledger.lease("shard-2", 2, "lab-4")
    ledger.end_leases("lost", client="lab-3")
    ledger.close()

    again = Ledger(tmp_path)
    assert again.leases() == [
        StoredLease("shard-1", 1, "lab-1", "died", "lab-1: killed by signal 9"),
        StoredLease("shard-2", 1, "lab-2", None, None),
        StoredLease("shard-1", 2, "lab-3", "lost", None),
        StoredLease("shard-2", 2, "lab-4", None, None),
    ]
    again.close()


def test_a_commit_ends_the_leases_of_its_task_and_of_no_other(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    for task, attempt, client in (("shard-1", 1, "lab-1"), ("shard-1", 2, "lab-2"), ("shard-2", 1, "lab-3")):
        ledger.lease(task, attempt, client)
    ledger.commit(StoredResult("shard-1", "lab-2", result()))
    assert [lease.client for lease in ledger.leases() if lease.ended is None] == ["lab-3"]
    ledger.commit(StoredResult("shard-1", "lab-1", result(attempt=9)))
    stored = ledger.result("shard-1")
    assert stored is not None
    assert stored.client == "lab-2", "the first one counts"
    ledger.close()


def test_a_run_that_was_not_begun_is_no_run_to_resume(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    Ledger(place.run_folder("run-2")).close()
    assert status_of(place, "run-2") == "not begun"
    assert unfinished(place) is None
    ledger_in(place.run_folder("run-1")).close()
    assert unfinished(place) == ("run-1", "unfinished")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """The limit of this process on the size of its files stands for the disk."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such limit")
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_notes_wait_for_space_and_are_written_before_what_comes_next(tmp_path: Path) -> None:
    ledger = ledger_in(tmp_path)
    with full_disk():
        with ledger.noting():
            ledger.remember("lab-1", b"1")
            ledger.lease("shard-1", 1, "lab-1")
        ledger.lease("shard-2", 1, "lab-2")
        ledger.end_leases("lost", client="lab-2")
        with pytest.raises(sqlite3.OperationalError):
            ledger.commit(StoredResult("shard-1", "lab-1", result()))
        assert ledger.result("shard-1") is None
        assert ledger.leases() == []
    ledger.commit(StoredResult("shard-1", "lab-1", result()))
    ledger.close()
    again = Ledger(tmp_path)
    assert again.clients() == {"lab-1": b"1"}
    assert again.leases() == [
        StoredLease("shard-1", 1, "lab-1", "not needed", None),
        StoredLease("shard-2", 1, "lab-2", "lost", None),
    ]
    assert again.result("shard-1") is not None
