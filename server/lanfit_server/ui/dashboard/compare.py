"""Runs side by side: curves, settings that differ, metrics, time and bytes, with differences to a baseline.

Numbers are those of summary.json, as they are. Differences are in points (of a hundred, for metrics that are shares),
and in per cent of the baseline.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lanfit.core.loop import in_thread
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.settings.job import Job
from lanfit_server.replay.baseline_runs import pair_of
from lanfit_server.replay.comparison import Times, differences, figures_of, verdict
from lanfit_server.run.resume import job_of_run, summary_of
from lanfit_server.store.summary import Summary
from lanfit_server.ui.dashboard.answers import as_json
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.runs import find_run, series_of_run

MOST_RUNS = 12
#: Settings of the address only, or with a value of its own in every run.
_NOT_COMPARED = frozenset({"host", "port", "collect", "keep_runs"})


def routes(context: Context) -> list[Route]:
    """Return the routes."""

    async def compared(request: Request) -> Response:
        """Return runs side by side."""
        names = [name for name in request.query_params.get("runs", "").split(",") if name]
        wanted = dict.fromkeys(names[:MOST_RUNS])
        names = await in_thread(lambda: [find_run(context.workspace, name) for name in wanted])
        baseline = request.query_params.get("baseline") or (names[0] if names else "")
        if baseline not in names:
            raise lanfit_error("page.run-gone", run=baseline[:80])
        return as_json(await in_thread(lambda: compare(context.workspace, names, baseline)))

    return [Route("/api/compare", compared, methods=["GET"])]


def compare(workspace: Workspace, names: Sequence[str], baseline: str) -> dict[str, Any]:
    """Return runs side by side, for JSON.

    Raises:
        InputError: one of them has no summary.
    """
    summaries: dict[str, Summary] = {}
    for name in names:
        if not (workspace.run_folder(name) / "summary.json").is_file():
            raise lanfit_error("page.not-comparable", run=name)
        summaries[name] = summary_of(workspace, name)
    figures = {name: figures_of(summary) for name, summary in summaries.items()}
    sentences = _sentences(workspace, summaries)
    return {
        "baseline": baseline,
        "runs": [
            {
                "run": name,
                "metrics": {key: value for key, value in found.items() if key not in ("seconds", "bytes")},
                "seconds": found["seconds"],
                "bytes": found["bytes"],
                "diff": differences(found, figures[baseline]),
                "sentence": sentences.get(name, ""),
            }
            for name, found in figures.items()
        ],
        "settings": different_settings({name: job_of_run(workspace, name) for name in names}),
        "curves": {name: series_of_run(workspace, name, summary) for name, summary in summaries.items()},
    }


def different_settings(jobs: Mapping[str, Job]) -> list[dict[str, Any]]:
    """Return the settings that are not the same in all runs."""
    values = {name: msgspec.to_builtins(job) for name, job in jobs.items()}
    keys = [key for key in Job.__struct_fields__ if key not in _NOT_COMPARED]
    found = []
    for key in keys:
        of_all = {name: each[key] for name, each in values.items()}
        if any(value != next(iter(of_all.values())) for value in of_all.values()):
            found.append({"key": key, "values": of_all})
    return found


def _sentences(workspace: Workspace, summaries: Mapping[str, Summary]) -> dict[str, str]:
    """Return the verdict of each distributed run whose run on one machine is compared, too."""
    pairs = {name: pair_of(workspace.run_folder(name)) for name in summaries}
    alone = {pair[0]: name for name, pair in pairs.items() if pair is not None and pair[1]}
    return {
        name: verdict(len(summaries[name].clients), Times.of(summaries[name]), Times.of(summaries[alone[pair[0]]]))
        for name, pair in pairs.items()
        if pair is not None and not pair[1] and pair[0] in alone
    }
