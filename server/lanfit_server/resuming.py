"""Goes on with a run that an earlier server left behind: what its ledger and its folder hold.

Finds and reads; starts nothing. The data is read again by who goes on, and must be what it was.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from lanfit.data.normalize import OF_TARGETS, Normalizer
from lanfit.durable import written_whole
from lanfit.errors import LanfitError
from lanfit.fields import Value, read_file, read_toml
from lanfit.files import ArrayFile, BlockFile
from lanfit.job import FIELDS, Job, make_job
from lanfit.mistakes import mistake
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.workspace import Workspace, find_workspace
from lanfit_server.collect import FINISHED, OpenRun
from lanfit_server.damage import damage_of, open_ledger
from lanfit_server.ledger import Ledger
from lanfit_server.prepare import RunData
from lanfit_server.summary import Summary

#: The status of a run whose server died between its folder and its first commit.
NOT_BEGUN = "not begun"
#: The server id of runs whose clients were simulated: only a simulation goes on with them.
SIMULATED = b"lanfit simulated"


def status_of(workspace: Workspace, run: str) -> str:
    """How far a run of the workspace is: `unfinished`, or how it ended; `not begun` when its server died before.

    Raises:
        InputError: there is no such run, or its ledger is damaged.
    """
    folder = workspace.run_folder(run)
    if not (folder / Ledger.FILE).is_file():
        known = ", ".join(sorted(path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}"))[-5:])
        raise mistake("resume.no-run", run=run, folder=workspace.relative(workspace.logs), known=known or "no run")
    ledger = open_ledger(workspace, run)
    try:
        return ledger.status
    finally:
        ledger.close()


def unfinished(workspace: Workspace, say: Callable[[str], None] = lambda line: None) -> tuple[str, str] | None:
    """The newest run of the workspace that a server can go on with, and its status; None when there is none.

    One that was interrupted on purpose is meant only as long as no other was begun after it.

    Args:
        say: told of a newer one that would be it if its ledger were not damaged.
    """
    is_newest = True
    for run in sorted((path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}")), reverse=True):
        try:
            if is_simulated(workspace, run):
                continue
            status = status_of(workspace, run)
        except LanfitError as damaged:
            if not (workspace.run_folder(run) / "summary.json").exists():
                say(f"Note: {damaged.message}. {damaged.hint}")
            continue
        if status == "unfinished" or (status == "interrupted" and is_newest):
            return run, status
        is_newest = False
    return None


def how_to_resume(workspace: Workspace, run: str, *, simulated: bool = False) -> str:
    """The line that goes on with a run."""
    in_a_clone = (workspace.root / "server" / "__main__.py").is_file()
    program = "lanfit simulate" if simulated else "python server" if in_a_clone else "lanfit server"
    elsewhere = find_workspace(None, Path.cwd()).root != workspace.root
    return f"{program} --resume {run}" + (f" --workspace {shlex.quote(str(workspace.root))}" if elsewhere else "")


def is_simulated(workspace: Workspace, run: str) -> bool:
    """Whether the clients of a run of the workspace were simulated."""
    ledger = open_ledger(workspace, run)
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


def values_of_run(workspace: Workspace, run: str) -> dict[str, Value]:
    """What the job of a run of the workspace says, as answers to the questions."""
    return read_file(workspace.run_folder(run) / "job.toml", "job file", FIELDS)


def job_of(run: OpenRun) -> Job:
    """The job of a run, as it was written down."""
    return make_job(read_toml(run.record.job, f"job of run {run.run}", FIELDS))


def weights_of(run: OpenRun) -> dict[str, AnyArray]:
    """The starting weights of a run.

    Raises:
        InputError: its folder does not have them any more, or the disk has spoilt them.
    """
    return _kept(run, run.weights, BlockSpec(run.record.weights_id, run.record.weights))


def rebuild_weights(run: OpenRun, loaded: ArrayFile) -> bool:
    """Put the starting weights back of the model that was loaded again; returns whether it still is that model."""
    if not run.record.weights_id or loaded.block.id != run.record.weights_id:
        return False
    with written_whole(run.weights) as temporary:
        BlockFile.put(temporary, loaded.load())
    return True


def own_data_of(run: OpenRun) -> RunData:
    """What clients with rows of their own are given."""
    record, shard = run.record, _kept(run, run.own_shard, run.record.shards[0])
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


def _kept(run: OpenRun, path: Path, block: BlockSpec) -> dict[str, AnyArray]:
    file = run.workspace.relative(path)
    if not path.is_file():
        raise mistake("resume.nothing-kept", run=run.run, file=file)
    if why := damage_of(path, block.arrays, block.id):
        raise mistake("resume.damaged", run=run.run, file=file, reason=why)
    return BlockFile.open(path).arrays(block.arrays)


def check_same(run: OpenRun, shards: Mapping[int, Mapping[str, AnyArray]]) -> None:
    """Check that the data that was read again is what the run began with, to the byte.

    Raises:
        InputError: it is not.
    """
    for number, shard in shards.items():
        if block_of(shard) != run.record.shards[number]:
            raise mistake("resume.other-data", run=run.run)
