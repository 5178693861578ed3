"""Converts reports of clients to events, for real and simulated clients alike."""

from __future__ import annotations

from lanfit.wire.messages import Epoch, EvaluationResult, Failed, LogLines
from lanfit_server.clusters.events import NOT_FINITE, EpochCompleted, Evaluated, Event, Logged, TaskFailed

Report = Epoch | LogLines | Failed | EvaluationResult


def events_of(client: str, report: Report) -> tuple[Event, ...]:
    """Convert a client's report into events, in order."""
    match report:
        case Epoch(run, task, epoch, metrics, seconds, predictions):
            return (EpochCompleted(client, run, task, epoch, metrics, seconds, predictions),)
        case LogLines(run, lines):
            return (Logged(client, run, lines),)
        case EvaluationResult(run, task, rows, metrics):
            return (Evaluated(client, run, task, rows, metrics),)
        case Failed(run, task):
            error = f"{report.error}. {report.hint}".strip() if report.hint else report.error
            not_finite = report.code in NOT_FINITE
            failed = TaskFailed(client, run, task, error, died=report.died, not_finite=not_finite)
            return Logged(client, run, (error, *report.log)), failed
