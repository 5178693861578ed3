"""Runs side by side: curves, settings that differ, metrics, time and bytes, with differences to a baseline.

Numbers are those of summary.json, as they are. Differences are in points (of a hundred, for metrics that are shares),
and in per cent of the baseline.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lanfit.core.loop import in_thread
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.settings.job import Job
from lanfit_server.run.resume import job_of_run, summary_of
from lanfit_server.store.summary import ClientFacts, Summary
from lanfit_server.ui.dashboard.answers import as_json
from lanfit_server.ui.dashboard.context import Context
from lanfit_server.ui.dashboard.one_machine import pair_of
from lanfit_server.ui.dashboard.runs import find_run, series_of_run

#: The metrics that come first; others follow.
METRICS = ("accuracy", "precision", "recall", "f1", "loss")
#: Metrics between 0 and 1, whose differences are in points of a hundred.
SHARES = frozenset(METRICS) - {"loss"}
MOST_RUNS = 12
#: Settings that only say where a run listens, or that every run has for itself.
_NOT_COMPARED = frozenset({"host", "port", "collect", "keep_runs"})
#: Parts of a client's seconds in which it computes, and in which it moves data.
COMPUTING = ("compile", "train", "validate", "import")
NETWORK = ("join", "receive", "send")


def routes(context: Context) -> list[Route]:
    """Return the routes."""

    async def compared(request: Request) -> Response:
        """Runs side by side."""
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


def figures_of(summary: Summary) -> dict[str, float]:
    """Return what is compared of a run: the metrics of its final model, its wall time, and the bytes of its clients."""
    metrics = dict(summary.final.metrics) if summary.final is not None else {}
    order = [*(name for name in METRICS if name in metrics), *(name for name in metrics if name not in METRICS)]
    moved = sum(client.bytes.received + client.bytes.sent for client in summary.clients)
    return {**{name: metrics[name] for name in order}, "seconds": summary.seconds["total"], "bytes": moved}


def differences(found: Mapping[str, float], base: Mapping[str, float]) -> dict[str, dict[str, float | None]]:
    """Return the differences to the baseline: in points, and in per cent of it."""
    return {
        name: {
            "points": 100 * (value - base[name]) if name in SHARES else None,
            "difference": value - base[name],
            "percent": 100 * (value - base[name]) / abs(base[name]) if base[name] else None,
        }
        for name, value in found.items()
        if name in base and math.isfinite(value) and math.isfinite(base[name])
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


# --- against one machine ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Times:
    """Where the time of a run has gone: its wall time, and the seconds of its slowest client."""

    total: float
    computing: float
    network: float

    @classmethod
    def of(cls, summary: Summary) -> Times:
        """Return the times of a run, from the spans that its clients have measured."""
        return cls(
            summary.seconds["total"],
            max((_sum(client, COMPUTING) for client in summary.clients), default=0.0),
            max((_sum(client, NETWORK) for client in summary.clients), default=0.0),
        )


def _sum(client: ClientFacts, parts: Sequence[str]) -> float:
    return sum(client.seconds.get(part, 0.0) for part in parts)


def verdict(clients: int, distributed: Times, alone: Times) -> str:
    """Return one sentence: whether distributing has paid, and why.

    Args:
        clients: the number of clients of the distributed run.
    """
    factor = alone.total / distributed.total if distributed.total else 0.0
    each = f"the slowest of {pluralize(clients, 'client')}" if clients > 1 else "its client"
    computing = (
        f"{each} computed for {_seconds(distributed.computing)} instead of {_seconds(alone.computing)} on one machine"
    )
    moved = f"moving models and data took {_seconds(distributed.network)}"
    rest = max(0.0, distributed.total - distributed.computing - distributed.network)
    if factor > 1.05:
        return f"Distributing paid: it was {factor:.2f} times as fast, because {computing}, and {moved}."
    if factor >= 0.95:
        waited = f"waiting and the server {_seconds(rest)}"
        return f"Distributing made no difference in time: {computing}, but {moved}, and {waited}."
    saved = alone.computing - distributed.computing
    if saved <= 0:
        why = f"{computing}: there was no computing to save"
    elif distributed.network >= rest:
        why = f"it saved {_seconds(saved)} of computing, but {moved}"
    else:
        why = f"it saved {_seconds(saved)} of computing, but {moved}, and waiting and the server {_seconds(rest)}"
    return f"Distributing did not pay: it took {1 / factor:.2f} times as long; {why}." if factor else ""


def _seconds(value: float) -> str:
    return f"{value:.0f} s" if value >= 10 else f"{value:.1f} s" if value >= 0.1 else f"{value:.2f} s"


def _sentences(workspace: Workspace, summaries: Mapping[str, Summary]) -> dict[str, str]:
    """Return the verdict of each distributed run whose run on one machine is compared, too."""
    pairs = {name: pair_of(workspace.run_folder(name)) for name in summaries}
    alone = {pair[0]: name for name, pair in pairs.items() if pair is not None and pair[1]}
    return {
        name: verdict(len(summaries[name].clients), Times.of(summaries[name]), Times.of(summaries[alone[pair[0]]]))
        for name, pair in pairs.items()
        if pair is not None and not pair[1] and pair[0] in alone
    }
