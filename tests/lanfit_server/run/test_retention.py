"""Only so many finished runs are kept, when that is wanted; what is unfinished is never touched."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes.results import record

from lanfit.core.workspace import Workspace
from lanfit_server.run.retention import remove_oldest
from lanfit_server.store.ledger import Ledger


def make_run(place: Workspace, name: str, status: str) -> None:
    ledger = Ledger(place.run_folder(name))
    ledger.open_run(record(name))
    if status != "unfinished":
        ledger.end_run(status)
    ledger.close()
    place.collected(name).mkdir(parents=True)
    (place.collected(name) / "final.keras").touch()


@pytest.mark.parametrize(("keep", "gone"), [(1, ["run-1", "run-4"]), (2, ["run-1"]), (3, []), (9, [])])
def test_the_oldest_finished_runs_go_with_their_models(tmp_path: Path, keep: int, gone: list[str]) -> None:
    place = Workspace(tmp_path)
    names = ("run-1", "run-2", "run-3", "run-4", "run-5", "run-6")
    for name, status in zip(names, ("done", "unfinished", "failed", "partial", "interrupted", "done"), strict=True):
        make_run(place, name, status)
    (place.logs / "notes").mkdir()
    assert remove_oldest(place, keep) == gone
    left = {path.name for path in place.logs.iterdir()}
    assert left == {"notes", *names} - set(gone)
    assert {path.name for path in place.collected("run-2").parent.iterdir()} == left - {"notes"}
