"""Steps 6 and 7: from committed results to the final model, its constants and the summary."""

from __future__ import annotations

import time

from lanfit.durable import write_whole
from lanfit.files import ArrayFile
from lanfit.job import Job
from lanfit_server.collect import OpenRun
from lanfit_server.course import Course
from lanfit_server.evaluate import ModelProcess, Scored, WriteFinal
from lanfit_server.methods import Method
from lanfit_server.roster import Roster
from lanfit_server.summary import (
    Bytes,
    ClientFacts,
    FinalFacts,
    ModelFacts,
    Summary,
    all_seconds,
    data_facts,
)
from lanfit_server.tasks import Record, State


async def finish(
    run: OpenRun,
    job: Job,
    method: Method,
    course: Course,
    roster: Roster,
    models: ModelProcess,
    status: str,
    began: float,
) -> Summary:
    """Write `final.keras`, `preprocessing.json` and `summary.json`; return the summary.

    Args:
        status: done, partial, failed or interrupted.
        began: when the run began, on the monotonic clock.
    """
    final = await _final(run, method, course, models)
    if final is not None:
        write_whole(run.workspace.collected(run.run) / "preprocessing.json", run.record.preprocessing.to_json())
    now = time.monotonic()
    clients = tuple(_client(run, record, course, roster, now) for record in course.table.records())
    seconds = course.timings.seconds
    errors = [error for client in clients for error in client.errors]
    summary = Summary(
        run=run.run,
        status=status,
        method=job.method,
        seed=job.seed,
        metrics_from="server" if run.record.test else "clients",
        model=ModelFacts(run.record.model, run.record.parameters),
        data=data_facts(run.record, job.data),
        clients=clients,
        final=final,
        seconds={"total": round(now - began, 4), "train": round(seconds.get("train", 0.0), 4)},
        error=errors[-1] if errors and status != "done" else None,
    )
    write_whole(run.folder / "summary.json", summary.to_json())
    return summary


async def _final(run: OpenRun, method: Method, course: Course, models: ModelProcess) -> FinalFacts | None:
    best = method.finish().best
    stored = run.ledger.result(best.key) if best is not None else None
    if best is None or stored is None:
        return None
    path = run.workspace.collected(run.run) / "final.keras"
    weights = ArrayFile(str(run.block(best.key)), stored.result.block)
    scored = await models.ask(WriteFinal(str(path), weights), Scored)
    metrics = scored.metrics or course.metrics.get(best.key, {})
    return FinalFacts(run.workspace.relative(path), course.table[best.key].owner, metrics)


def _client(run: OpenRun, record: Record, course: Course, roster: Roster, now: float) -> ClientFacts:
    """The facts about the client that a shard was dealt to, and about its model, whoever trained it."""
    stored = run.ledger.result(record.task.key)
    result = stored.result if stored else None
    trainer = stored.client if stored else record.owner
    member = next((m for m in roster.members() if m.name == trainer), None)
    times = course.times.get(trainer)
    measured = dict(result.seconds) if result else {}
    if times is not None:
        measured["send"] = times.sending
        measured["wait"] = times.waited(now)
    model = run.model_path(record.owner)
    return ClientFacts(
        name=record.owner,
        backend=result.backend if result else member.backend if member else "",
        device=result.device if result else member.device if member else "",
        threads=result.threads if result else member.threads if member else 0,
        samples=run.record.samples[record.task.shard],
        tasks=1 if result else 0,
        status=_status(record),
        model=run.workspace.relative(model) if model.exists() else None,
        history=run.history(stored) if stored else {},
        best_epoch=result.best_epoch if result else None,
        metrics=course.metrics.get(record.task.key, {}),
        seconds=all_seconds(measured),
        bytes=Bytes(member.bytes_received, member.bytes_sent) if member else Bytes(0, 0),
        errors=tuple(record.failures),
    )


def _status(record: Record) -> str:
    match record.state:
        case State.COMMITTED:
            return "done"
        case State.GIVEN_UP:
            return "failed"
        case State.WAITING | State.LEASED:
            return "interrupted"
