"""Goes on with a run that an earlier server left behind: what its ledger and its folder hold.

Finds and reads; starts nothing. The data is read again by who goes on, and must be what it was.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import msgspec

from lanfit.data.normalize import OF_TARGETS, Normalizer
from lanfit.fields import read_file, read_toml
from lanfit.files import BlockFile
from lanfit.job import FIELDS, Job, make_job
from lanfit.mistakes import mistake
from lanfit.wire.arrays import AnyArray, block_of
from lanfit.workspace import Workspace
from lanfit_server.collect import FINISHED, OpenRun
from lanfit_server.ledger import Ledger
from lanfit_server.prepare import RunData
from lanfit_server.summary import Summary

#: The server id of runs whose clients were simulated: only a simulation goes on with them.
SIMULATED = b"lanfit simulated"


def status_of(workspace: Workspace, run: str) -> str:
    """How far a run of the workspace is: `unfinished`, or how it ended.

    Raises:
        InputError: there is no such run.
    """
    folder = workspace.run_folder(run)
    if not (folder / Ledger.FILE).is_file():
        known = ", ".join(sorted(path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}"))[-5:])
        raise mistake("resume.no-run", run=run, folder=workspace.relative(workspace.logs), known=known or "no run")
    ledger = Ledger(folder)
    try:
        return ledger.status
    finally:
        ledger.close()


def unfinished(workspace: Workspace) -> str | None:
    """The newest run of the workspace that a server began and did not end; None when there is none."""
    runs = sorted((path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}")), reverse=True)
    unfinished = (run for run in runs if status_of(workspace, run) == "unfinished")
    return next((run for run in unfinished if not is_simulated(workspace, run)), None)


def is_simulated(workspace: Workspace, run: str) -> bool:
    """Whether the clients of a run of the workspace were simulated."""
    ledger = Ledger(workspace.run_folder(run))
    try:
        return ledger.record is not None and ledger.record.server_id == SIMULATED
    finally:
        ledger.close()


def finished_summary(workspace: Workspace, run: str) -> Summary | None:
    """The summary of a run to which nothing can be added any more, else None."""
    path = workspace.run_folder(run) / "summary.json"
    if status_of(workspace, run) not in FINISHED or not path.is_file():
        return None
    return summary_of(workspace, run)


def summary_of(workspace: Workspace, run: str) -> Summary:
    """The summary of a run that has one."""
    return read_summary((workspace.run_folder(run) / "summary.json").read_bytes())


def read_summary(content: bytes) -> Summary:
    """The summary in the bytes of a `summary.json`."""
    return msgspec.convert(_numbers(json.loads(content)), Summary)


def _numbers(value: Any, where: str = "") -> Any:
    """JSON has no NaN: what stands for one is put back where numbers are."""
    if isinstance(value, dict):
        return {key: _numbers(each, where if where in _FIGURES else key) for key, each in value.items()}
    if isinstance(value, list):
        return [_numbers(each, where) for each in value]
    return math.nan if value is None and where in _FIGURES else value


#: The parts of a summary that hold nothing but numbers.
_FIGURES = frozenset({"metrics", "scores", "mean", "sd", "history", "training", "validation", "seconds"})


def job_of_run(workspace: Workspace, run: str) -> Job:
    """The job of a run of the workspace."""
    path = workspace.run_folder(run) / "job.toml"
    return make_job(read_file(path, "job file", FIELDS))


def job_of(run: OpenRun) -> Job:
    """The job of a run, as it was written down."""
    return make_job(read_toml(run.record.job, f"job of run {run.run}", FIELDS))


def weights_of(run: OpenRun) -> dict[str, AnyArray]:
    """The starting weights of a run.

    Raises:
        InputError: its folder does not have them any more.
    """
    return _kept(run, "weights")


def own_data_of(run: OpenRun) -> RunData:
    """What clients with rows of their own are given."""
    record, shard = run.record, _kept(run, "own_shard")
    return RunData(
        shards=[shard] * len(record.samples),
        samples=record.samples,
        train=record.train,
        validation=record.validation,
        test=record.test,
        normalizer=Normalizer.of(record.model.normalizer, shard),
        targets=Normalizer.of(record.model.target_normalizer, shard, OF_TARGETS),
        labels=record.labels,
        trained=record.rows,
        own=record.own,
        parts=record.parts,
    )


def _kept(run: OpenRun, name: str) -> dict[str, AnyArray]:
    path = getattr(run, name)
    if not path.is_file():
        raise mistake("resume.nothing-kept", run=run.run, file=run.workspace.relative(path))
    specs = run.record.weights if name == "weights" else run.record.shards[0].arrays
    return BlockFile.open(path).arrays(specs)


def check_same(run: OpenRun, shards: Mapping[int, Mapping[str, AnyArray]]) -> None:
    """Check that the data that was read again is what the run began with, to the byte.

    Raises:
        InputError: it is not.
    """
    for number, shard in shards.items():
        if block_of(shard) != run.record.shards[number]:
            raise mistake("resume.other-data", run=run.run)
