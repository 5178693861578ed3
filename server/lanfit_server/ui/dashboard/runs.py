"""The runs of the workspace: the list, one of them in the shape of the live state, its logs, deleting, resuming.

Everything is read from `logs/<run>/`. The ledger of the current run is never opened: it has one connection, that
of the run. Names of runs and clients are compared with the existing ones before they become part of a path.
"""

from __future__ import annotations

import csv
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from lanfit.core.decoding import decode_json
from lanfit.core.lock import FolderLock
from lanfit.core.logs import ROUND
from lanfit.core.loop import in_thread
from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.changes import Changes
from lanfit.wire.figures import part_of
from lanfit_server.replay.baseline_runs import pair_of
from lanfit_server.replay.curves import (
    RATE,
    TRAINING,
    History,
    mean_history,
    points_of_facts,
    points_of_round,
    rate_of_round,
)
from lanfit_server.replay.samples import samples_of_run
from lanfit_server.replay.timeline import timeline_of_run
from lanfit_server.report.sections import versions_of_run
from lanfit_server.requests import RunHandle, RunRequest, State
from lanfit_server.run.damage import open_ledger
from lanfit_server.run.events import EVENTS
from lanfit_server.run.resume import NOT_BEGUN, SIMULATED, is_simulated, job_of_run, status_of, summary_of
from lanfit_server.run.runner import lock_of
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.store.ledger import Ledger
from lanfit_server.store.summary import ClientFacts, Summary
from lanfit_server.ui.dashboard.answers import as_json, body_of
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.earlier import histories_of, rounds_of
from lanfit_server.ui.dashboard.run_view import view_of
from lanfit_server.ui.dashboard.submissions import Submissions
from lanfit_server.watchers import RunFacts

#: The statuses of runs that can be resumed.
RESUMABLE = frozenset({"unfinished", "interrupted", NOT_BEGUN})
#: The most that is shown of a client's log: its end.
MOST_LOG_BYTES = 256 * 1024
Series = dict[str, dict[str, Any]]


def routes(context: Context) -> list[Route]:
    """Return the routes."""
    found = RunRoutes(context)
    return [
        Route("/api/runs", found.listed, methods=["GET"]),
        Route("/api/runs/{run}", found.one, methods=["GET"]),
        Route("/api/runs/{run}/log/{client}", found.log, methods=["GET"]),
        Route("/api/runs/{run}/delete", found.delete, methods=["POST"]),
        Route("/api/runs/{run}/resume", found.resume, methods=["POST"]),
    ]


def names_of_runs(workspace: Workspace) -> list[str]:
    """Return the runs of a workspace, the newest first."""
    found = (path.parent for path in workspace.logs.glob(f"*/{Ledger.FILE}") if not path.parent.is_symlink())
    return sorted((folder.name for folder in found), reverse=True)


def find_run(workspace: Workspace, name: str) -> str:
    """Return the name of a run that is there.

    Raises:
        InputError: it is not.
    """
    if name not in names_of_runs(workspace):
        raise lanfit_error("page.run-gone", run=name[:80])
    return name


class RunRoutes:
    """Answers the requests about runs."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._workspace = context.workspace
        self._session = context.session
        self._submissions = Submissions(context)

    async def _find(self, request: Request) -> str:
        return await in_thread(lambda: find_run(self._workspace, request.path_params["run"]))

    def _goes_on(self, run: str) -> bool:
        current = self._session.current
        return current is not None and current.run == run and current.state < State.ENDED

    def _waiting(self, run: str) -> RunHandle | None:
        """Return the request that resumes a run, if one is queued or running."""
        handles = [handle for handle in (self._session.current, *self._session.queue()) if handle is not None]
        return next((each for each in handles if run and run in (each.run, each.request.resumes)), None)

    async def listed(self, request: Request) -> Response:
        """Return all runs, the newest first."""
        current = self._session.current
        running = {current.run} if current is not None and current.state < State.ENDED else set()
        found = await in_thread(lambda: list_runs(self._workspace, running))
        keep = self._context.defaults.get("keep_runs")
        return as_json({"runs": found, "keep_runs": keep})

    async def one(self, request: Request) -> Response:
        """Return one run, in the shape of the live state."""
        run = await self._find(request)
        goes_on = self._goes_on(run)
        return as_json(await in_thread(lambda: view_of_run(self._workspace, run, goes_on=goes_on)))

    async def log(self, request: Request) -> Response:
        """Return the end of a client's log."""
        run = await self._find(request)
        text = await in_thread(lambda: log_of(self._workspace, run, request.path_params["client"]))
        return PlainTextResponse(text, headers={"X-Content-Type-Options": "nosniff"})

    async def delete(self, request: Request) -> Response:
        """Delete a run that is not in progress, if its name is given again."""
        body = await body_of(request)
        run = await self._find(request)
        if body.get("confirm") != run:
            raise lanfit_error("page.not-confirmed", run=run)
        if self._goes_on(run) or self._waiting(run):
            raise lanfit_error("page.run-goes-on", run=run)
        await in_thread(lambda: delete_run(self._workspace, run))
        self._context.board.runs_changed()
        return as_json({})

    async def resume(self, request: Request) -> Response:
        """Queue a run that was interrupted, or whose server died."""
        run = await self._find(request)
        if self._goes_on(run) or self._waiting(run):
            raise lanfit_error("page.nothing-to-resume", run=run, status="in progress")
        status = await in_thread(lambda: status_of(self._workspace, run))
        if status not in RESUMABLE - {NOT_BEGUN}:
            raise lanfit_error("page.nothing-to-resume", run=run, status=status)
        host = self._context.host
        simulated = await in_thread(lambda: is_simulated(self._workspace, run))
        if simulated and host.server_id != SIMULATED:
            raise lanfit_error("resume.simulated", run=run)
        if not simulated and host.server_id == SIMULATED:
            raise lanfit_error("resume.not-simulated", run=run)
        job = await in_thread(lambda: job_of_run(self._workspace, run))
        if isinstance(host, Endpoint):
            self._expect_clients(host, run)
        handle = await self._submissions.submit(RunRequest(job, None, resumes=run))
        return as_json(self._submissions.described(handle))

    @staticmethod
    def _expect_clients(host: Endpoint, run: str) -> None:
        """Expect the clients of a run back that have not joined this server yet.

        Raises:
            InputError: the run is of another server.
        """
        opened, roster = host.store.find(run), host.cluster.roster
        if opened is None:
            raise lanfit_error("resume.other-server", run=run)
        names = {member.name for member in roster.members()}
        for name, client_id in opened.ledger.clients().items():
            if name not in names and roster.find(client_id) is None:
                roster.restore(name, client_id, time.monotonic())


# --- the list -----------------------------------------------------------------------------------------------------


def list_runs(workspace: Workspace, running: set[str]) -> list[dict[str, Any]]:
    """Return the runs of a workspace for JSON, the newest first.

    Args:
        running: those in progress.
    """
    names = names_of_runs(workspace)
    pairs = {run: pair for run in names if (pair := pair_of(workspace.run_folder(run))) is not None}
    alone = {pair: run for run, (pair, is_alone) in pairs.items() if is_alone}
    found = []
    for run in names:
        entry = _entry(workspace, run, goes_on=run in running)
        of, is_alone = pairs.get(run, ("", False))
        entry["one_machine"] = None if is_alone else alone.get(of)
        found.append(entry)
    return found


def _entry(workspace: Workspace, run: str, *, goes_on: bool) -> dict[str, Any]:
    folder = workspace.run_folder(run)
    found: dict[str, Any] = {
        "run": run,
        "status": "",
        "method": "",
        "started": started(folder),
        "seconds": None,
        "clients": None,
        "model": "",
        "metrics": {},
        "resumable": False,
        "size_bytes": size_of(folder) + size_of(workspace.collected(run)),
        "error": None,
    }
    try:
        job = job_of_run(workspace, run)
        found |= {"method": job.method, "clients": job.clients, "model": Path(job.model).name}
        if goes_on:
            return {**found, "status": "running"}
        if (folder / "summary.json").is_file():
            summary = summary_of(workspace, run)
            metrics = dict(summary.final.metrics) if summary.final is not None else {}
            found |= {"status": summary.status, "seconds": summary.seconds.get("total"), "metrics": metrics}
            found |= {"clients": len(summary.clients), "error": summary.error}
        else:
            found["status"] = status_of(workspace, run)
        found["resumable"] = found["status"] in RESUMABLE - {NOT_BEGUN}
    except (LanfitError, OSError) as damaged:
        found |= {"status": "damaged", "error": str(damaged)}
    return found


def size_of(folder: Path) -> int:
    """Return the bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def started(folder: Path) -> float | None:
    """Return when a run began, in seconds since 1970."""
    try:
        with (folder / EVENTS).open("rb") as file:
            return float(decode_json(file.readline(), dict[str, Any])["time"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def log_of(workspace: Workspace, run: str, client: str) -> str:
    """Return the end of a client's log in a run; empty if it has none.

    Raises:
        InputError: it took no part.
    """
    folder = workspace.run_folder(run) / "clients"
    if client not in {path.name for path in folder.glob("*") if path.is_dir() and not path.is_symlink()}:
        raise lanfit_error("page.no-log", run=run, client=client[:80])
    path = folder / client / "client.log"
    if not path.is_file() or path.is_symlink():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MOST_LOG_BYTES))
        return file.read().decode(errors="replace")


def delete_run(workspace: Workspace, run: str) -> None:
    """Delete a run with its models.

    Raises:
        InputError: some process works on it.
    """
    lock = FolderLock.take(lock_of(workspace, run))
    if lock is None:
        raise lanfit_error("page.run-goes-on", run=run)
    try:
        shutil.rmtree(workspace.collected(run), ignore_errors=True)
        shutil.rmtree(workspace.run_folder(run), ignore_errors=True)
    finally:
        lock.remove()


# --- one run ------------------------------------------------------------------------------------------------------


def view_of_run(workspace: Workspace, run: str, *, goes_on: bool = False) -> dict[str, Any]:
    """Return a run in the shape of the live state, from its files."""
    folder = workspace.run_folder(run)
    summary = summary_of(workspace, run) if (folder / "summary.json").is_file() else None
    section = _run_section(workspace, run, summary, goes_on=goes_on)
    return {
        "run": section,
        "clients": {each.name: _tile(each) for each in summary.clients} if summary else {},
        "series": series_of_run(workspace, run, summary, section["first_learning_rate"]),
        **samples_of_run(folder),
        "timeline": timeline_of_run(folder),
        "log": [],
    }


def _run_section(workspace: Workspace, run: str, summary: Summary | None, *, goes_on: bool) -> dict[str, Any]:
    job, folder = job_of_run(workspace, run), workspace.run_folder(run)
    facts = None
    if not goes_on:
        ledger = open_ledger(workspace, run)
        try:
            if ledger.record is not None:
                owners = tuple(ledger.owners())
                facts = RunFacts(run, job, ledger.record, cast(Any, None), owners, folder)
        finally:
            ledger.close()
    found = view_of(job, facts, began=started(folder) or 0.0)
    found |= {"run": run, "state": "running" if goes_on else "ended", "progress": None if goes_on else 1.0}
    if recorded := versions_of_run(folder):
        found["versions"] = recorded
    if summary is not None:
        metrics = dict(summary.final.metrics) if summary.final is not None else {}
        found |= {"status": summary.status, "metrics": metrics, "error": summary.error or ""}
        found |= {"round": len(summary.rounds), "seconds": summary.seconds.get("total")}
    return found


def _tile(client: ClientFacts) -> dict[str, Any]:
    epochs = max((len(values) for values in client.history.values()), default=0)
    return {
        "name": client.name,
        "state": client.status if client.status in ("done", "failed") else "idle",
        "says": client.errors[-1] if client.errors else "",
        "backend": client.backend,
        "device": client.device,
        "task": "",
        "fold": 0,
        "round": 0,
        "epoch": epochs,
        "epochs": epochs,
        "batch": 0,
        "batches": 0,
        "progress": 1.0,
        "rate": None,
        "rows": client.samples,
        "metrics": dict(client.metrics),
        "seconds": dict(client.seconds),
    }


def series_of_run(workspace: Workspace, run: str, summary: Summary | None, rate: float | None = None) -> Series:
    """Return the curves of a run: from its summary, or while there is none from its histories and events.

    Args:
        rate: the learning rate with which it began, if that is known.
    """
    found: Series = {}
    folder = workspace.run_folder(run)
    trainings: list[History] = []
    for client, fold, history in _histories(summary) if summary is not None else _files(folder):
        trainings.append(history)
        _put_history(found, client, fold, history)
    rounds = _points_of_rounds(folder, summary)
    for number, (metric, part, value) in rounds:
        _put(found, "", 0, metric, part, "round", [(number, value)])
    if not rounds:
        _put_history(found, "", 0, mean_history(trainings))
    elif not any(metric == RATE for _, (metric, _, _) in rounds):
        changes = Changes.of(job_of_run(workspace, run).changes)
        for number in dict.fromkeys(number for number, _ in rounds):
            if of_round := rate_of_round(number, rate, changes):
                _put(found, "", 0, RATE, TRAINING, "round", [(number, of_round)])
    return found


def _points_of_rounds(folder: Path, summary: Summary | None) -> list[tuple[int, tuple[str, str, float]]]:
    """Return the points of each round: its number; metric, part and value."""
    if summary is None:
        return [(e.round, point) for e in rounds_of(folder / EVENTS) for point in points_of_round(e.figures, e.logs)]
    return [(each.round, point) for each in summary.rounds for point in points_of_facts(each, summary.clients)]


def _put_history(found: Series, client: str, fold: int, history: History) -> None:
    for name, values in history.items():
        _put(found, client, fold, *part_of(name), "epoch", enumerate(values, 1))


def _put(found: Series, client: str, fold: int, metric: str, part: str, per: str, points: Any) -> None:
    finite = [[float(x), float(y)] for x, y in points if y == y and abs(y) != float("inf")]
    if finite:
        meta = {"client": client, "fold": fold, "metric": metric, "part": part, "per": per, "points": []}
        found.setdefault("|".join((client, str(fold), metric, part, per)), meta)["points"] += finite


def _histories(summary: Summary) -> Iterator[tuple[str, int, History]]:
    for client in summary.clients:
        if client.folds:
            yield from ((client.name, fold.fold, fold.history) for fold in client.folds)
        else:
            yield client.name, 0, client.history


def _files(folder: Path) -> Iterator[tuple[str, int, History]]:
    """Yield the histories in the files of a run without a summary."""
    clients = sorted(folder.glob("clients/*"))
    for path, fold in (each for client in clients for each in histories_of(client)):
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
        history: dict[str, list[float]] = {}
        for line in lines:
            for name, text in line.items():
                if name not in (None, "epoch", ROUND) and isinstance(text, str) and text:
                    history.setdefault(name, []).append(float(text))
        yield path.parent.name, fold, history
