"""`GET /api/rows`: test rows of a run as pictures or values, for the cells of a confusion matrix."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lanfit_server.replay.samples import rows_of_run
from lanfit_server.ui.dashboard.answers import as_json

if TYPE_CHECKING:
    from lanfit_server.ui.dashboard.context import Context

#: The longest list of row numbers in a request, in characters.
LONGEST_LIST = 4000


def routes(context: Context) -> list[Route]:
    """Return the routes of this module."""

    async def rows(request: Request) -> Response:
        """Return the rows whose numbers are in `ids`, of the current run or of `run`."""
        run = request.query_params.get("run") or current_run(context)
        ids = numbers_of(request.query_params.get("ids", ""))
        folder = context.workspace.run_folder(run) if run in runs(context) else None
        found = await asyncio.to_thread(partial(rows_of_run, folder, ids)) if folder is not None else []
        return as_json({"rows": found})

    return [Route("/api/rows", rows)]


def runs(context: Context) -> set[str]:
    """Return the names of the runs that have a folder: nothing else becomes part of a path."""
    folder = context.workspace.logs
    return {each.name for each in folder.iterdir() if each.is_dir()} if folder.is_dir() else set()


def current_run(context: Context) -> str:
    """Return the current run, or the last one; empty without one."""
    handle = context.session.current
    return handle.run if handle is not None else ""


def numbers_of(text: str) -> list[int]:
    """Return the row numbers in a list with commas; anything else is left out."""
    parts = text[:LONGEST_LIST].split(",")
    return [int(part) for part in parts if part.isascii() and part.isdigit() and len(part) < 16]
