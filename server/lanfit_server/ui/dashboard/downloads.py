"""Files of runs to download: those in `logs/<run>/` and `model/collected/<run>/`, and the curves as one CSV.

A file is looked up in the list of downloadable files: no path of a request is opened. Links are not followed, and
neither the ledger nor the weights for a resumed run are offered.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Route

from lanfit.core.logs import csv_line
from lanfit.core.loop import in_thread
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit_server.run.resume import summary_of
from lanfit_server.ui.dashboard.answers import as_json
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.runs import find_run, series_of_run

#: What can be downloaded, by ending; the rest of a folder is the state of the run.
ENDINGS = frozenset(
    {".json", ".jsonl", ".toml", ".xlsx", ".html", ".png", ".csv", ".log", ".h5", ".keras", ".npz", ".txt"}
)
#: The folder of models in the list of files.
MODELS = "models"
#: Always saved, never shown: nothing in a file of a run is executed by the page.
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cache-Control": "no-store",
}


def routes(context: Context) -> list[Route]:
    """Return the routes."""
    workspace = context.workspace

    async def found_run(request: Request) -> str:
        return await in_thread(lambda: find_run(workspace, request.path_params["run"]))

    async def listed(request: Request) -> Response:
        """Return the list of downloadable files of a run."""
        run = await found_run(request)
        found = await in_thread(lambda: files_of_run(workspace, run))
        return as_json({"files": [{"path": name, "bytes": path.stat().st_size} for name, path in found.items()]})

    async def download(request: Request) -> Response:
        """Return one file."""
        run = await found_run(request)
        path = await in_thread(lambda: file_of_run(workspace, run, request.path_params["path"]))
        return FileResponse(path, filename=path.name, headers=HEADERS, media_type="application/octet-stream")

    async def curves(request: Request) -> Response:
        """Return all curves as one table."""
        run = await found_run(request)
        text = await in_thread(lambda: curves_of_run(workspace, run))
        name = {"Content-Disposition": f'attachment; filename="{run}-curves.csv"'}
        return Response(text, media_type="text/csv; charset=utf-8", headers={**HEADERS, **name})

    return [
        Route("/api/runs/{run}/curves.csv", curves, methods=["GET"]),
        Route("/api/runs/{run}/files", listed, methods=["GET"]),
        Route("/api/runs/{run}/files/{path:path}", download, methods=["GET"]),
    ]


def files_of_run(workspace: Workspace, run: str) -> dict[str, Path]:
    """Return the files of a run that can be downloaded, by their names: models first."""
    found: dict[str, Path] = {}
    for prefix, folder in ((f"{MODELS}/", workspace.collected(run)), ("", workspace.run_folder(run))):
        for path in _files_in(folder):
            if path.suffix.lower() in ENDINGS and not path.name.startswith("."):
                found[prefix + path.relative_to(folder).as_posix()] = path
    return found


def _files_in(folder: Path) -> Iterator[Path]:
    """Yield the regular files in a folder and below; no link is followed."""
    if folder.is_symlink():
        return
    for root, folders, names in os.walk(folder, followlinks=False):
        folders.sort()
        for name in sorted(names):
            path = Path(root, name)
            if path.is_file() and not path.is_symlink():
                yield path


def file_of_run(workspace: Workspace, run: str, name: str) -> Path:
    """Return a file that can be downloaded.

    Raises:
        InputError: there is none of that name.
    """
    found = files_of_run(workspace, run).get(name)
    if found is None:
        raise lanfit_error("page.no-file", run=run, file=name[:200])
    return found


def curves_of_run(workspace: Workspace, run: str) -> str:
    """Return all curves of a run as CSV: one point a line. Numbers have all their digits."""
    has_summary = (workspace.run_folder(run) / "summary.json").is_file()
    series = series_of_run(workspace, run, summary_of(workspace, run) if has_summary else None)
    lines = [csv_line(["client", "fold", "metric", "part", "per", "x", "value"])]
    for each in series.values():
        head: list[Any] = [each[key] for key in ("client", "fold", "metric", "part", "per")]
        lines += [csv_line([*head, int(x), repr(y)]) for x, y in each["points"]]
    return "".join(lines)
