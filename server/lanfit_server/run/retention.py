"""Removes the oldest finished runs of a workspace, if the operator limits their number."""

from __future__ import annotations

import shutil

from lanfit.core.workspace import Workspace
from lanfit_server.run.resume import status_of
from lanfit_server.store.ledger import Ledger
from lanfit_server.store.result_store import FINISHED


def remove_oldest(workspace: Workspace, keep: int) -> list[str]:
    """Remove all finished runs except the newest `keep`, with their models; return which, oldest first.

    Unfinished runs are kept: a server can resume them.
    """
    runs = sorted(path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}"))
    old = [run for run in runs if status_of(workspace, run) in FINISHED][:-keep]
    for run in old:
        shutil.rmtree(workspace.collected(run), ignore_errors=True)
        shutil.rmtree(workspace.run_folder(run), ignore_errors=True)
    return old
