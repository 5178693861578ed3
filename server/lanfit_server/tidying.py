"""Removes the oldest finished runs of a workspace, where the operator wants no more than so many."""

from __future__ import annotations

import shutil

from lanfit.workspace import Workspace
from lanfit_server.collect import FINISHED
from lanfit_server.ledger import Ledger
from lanfit_server.resuming import status_of


def remove_oldest(workspace: Workspace, keep: int) -> list[str]:
    """Remove all finished runs but the newest `keep`, with their models; returns which, oldest first.

    What is not finished stays: a server can go on with it.
    """
    runs = sorted(path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}"))
    old = [run for run in runs if status_of(workspace, run) in FINISHED][:-keep]
    for run in old:
        shutil.rmtree(workspace.collected(run), ignore_errors=True)
        shutil.rmtree(workspace.run_folder(run), ignore_errors=True)
    return old
