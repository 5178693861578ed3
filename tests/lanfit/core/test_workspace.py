"""No name that a peer gave leads out of the folder that it is to be in, checked or not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import pytest

from lanfit.core.workspace import Workspace, inside
from lanfit.errors import LocalProtocolError
from lanfit_client.store.outbox import Outbox
from lanfit_server.run.events import TaskLeased
from lanfit_server.run.journal import Journal
from lanfit_server.store.result_store import OpenRun

ODD = ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "..\\x", "C:x", "a\0b"]
PATHS: dict[str, Callable[[Path, str], object]] = {
    "trained models": lambda folder, name: Workspace(folder).trained(name),
    "a run's logs": lambda folder, name: Workspace(folder).trained_logs(name, "lab-1"),
    "a client's logs": lambda folder, name: Workspace(folder).trained_logs("run-1", name),
    "a collected run": lambda folder, name: OpenRun(Workspace(folder), name, None, None),  # type: ignore[arg-type]
    "a client's folder": lambda folder, name: run_of(folder).client_folder(name),
    "a journal's folder": lambda folder, name: log_history(folder, name),
    "a collected model": lambda folder, name: run_of(folder).collected(name),
}
WITHIN: dict[str, Callable[[Path, str], object]] = {  # where something is put behind the name
    "an outbox's block": lambda folder, name: Outbox(folder).new_block(name),
    "an entry's block": lambda folder, name: Outbox(folder).block(name),
    "a result's block": lambda folder, name: run_of(folder).block(name),
    "a delivery of a task": lambda folder, name: run_of(folder).partial_file(name, "lab-1", "0" * 64),
    "a delivery of a client": lambda folder, name: run_of(folder).partial_file("shard-1", name, "0" * 64),
}


def log_history(folder: Path, name: str) -> None:
    with contextlib.closing(Journal(folder)) as journal:
        journal(TaskLeased("shard-1", name, 1, name), 0.0)


def run_of(folder: Path) -> OpenRun:
    return OpenRun(Workspace(folder), "run-1", None, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("path", PATHS)
def test_a_name_that_leads_elsewhere_becomes_no_path(path: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError, match="was to become the name of a file"):
        PATHS[path](tmp_path, name)


@pytest.mark.parametrize("name", [name for name in ODD if name not in ("", ".", "..")])
@pytest.mark.parametrize("path", WITHIN)
def test_nor_does_one_with_something_behind_it(path: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(LocalProtocolError, match="was to become the name of a file"):
        WITHIN[path](tmp_path, name)


def test_a_plain_name_stays_what_it_is(tmp_path: Path) -> None:
    assert inside(tmp_path, "run-1", "lab-1.h5") == tmp_path / "run-1" / "lab-1.h5"
    assert Workspace(tmp_path).trained_logs("run-1", "lab 1 é") == tmp_path / "logs" / "trained" / "run-1" / "lab 1 é"
