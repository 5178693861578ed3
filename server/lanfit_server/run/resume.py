"""Resuming a run of an earlier server: the contents of its ledger and its folder.

Finds and reads; starts nothing. The caller reads the data again, which must be unchanged.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from lanfit.core.durable import atomic_file
from lanfit.core.workspace import Workspace, find_workspace
from lanfit.data.shard import Shard
from lanfit.errors import LanfitError, lanfit_error
from lanfit.settings.fields import Value, read_file
from lanfit.settings.job import FIELDS, Job, make_job
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit_server.data.prepare import RunData
from lanfit_server.run.damage import damage_of, open_ledger
from lanfit_server.store.ledger import Ledger, labels_by_target
from lanfit_server.store.result_store import FINISHED, OpenRun
from lanfit_server.store.summary import Summary, read_summary

#: The status of a run whose server died between creating its folder and its first commit.
NOT_BEGUN = "not begun"
#: The server id of runs with simulated clients: only a simulation resumes them.
SIMULATED = b"lanfit simulated"


def status_of(workspace: Workspace, run: str) -> str:
    """Return the status of a run of the workspace: `unfinished`, or how it ended; `not begun` if its server died before
    the start.

    Raises:
        InputError: there is no such run, or its ledger is damaged.
    """
    folder = workspace.run_folder(run)
    if not (folder / Ledger.FILE).is_file():
        known = ", ".join(sorted(path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}"))[-5:])
        raise lanfit_error("resume.no-run", run=run, folder=workspace.relative(workspace.logs), known=known or "no run")
    ledger = open_ledger(workspace, run)
    try:
        return ledger.status
    finally:
        ledger.close()


def unfinished(workspace: Workspace, log: Callable[[str], None] = lambda line: None) -> tuple[str, str] | None:
    """Return the newest run of the workspace that can be resumed, and its status; None if there is none.

    One that was interrupted on purpose counts only as long as no other was started after it.

    Args:
        log: called about a newer one that would qualify if its ledger were not damaged.
    """
    is_newest = True
    for run in sorted((path.parent.name for path in workspace.logs.glob(f"*/{Ledger.FILE}")), reverse=True):
        try:
            if is_simulated(workspace, run):
                continue
            status = status_of(workspace, run)
        except LanfitError as damaged:
            if not (workspace.run_folder(run) / "summary.json").exists():
                log(f"Note: {damaged.message}. {damaged.hint}")
            continue
        if status == "unfinished" or (status == "interrupted" and is_newest):
            return run, status
        is_newest = False
    return None


def how_to_resume(workspace: Workspace, run: str, *, simulated: bool = False) -> str:
    """Return the command that resumes a run."""
    in_a_clone = (workspace.root / "server" / "__main__.py").is_file()
    program = "lanfit simulate" if simulated else "python server" if in_a_clone else "lanfit server"
    elsewhere = find_workspace(None, Path.cwd()).root != workspace.root
    return f"{program} --resume {run}" + (f" --workspace {shlex.quote(str(workspace.root))}" if elsewhere else "")


def is_simulated(workspace: Workspace, run: str) -> bool:
    """Return whether the clients of a run of the workspace were simulated."""
    ledger = open_ledger(workspace, run)
    try:
        return ledger.record is not None and ledger.record.server_id == SIMULATED
    finally:
        ledger.close()


def finished_summary(workspace: Workspace, run: str) -> Summary | None:
    """Return the summary of a run that is completely finished, else None."""
    path = workspace.run_folder(run) / "summary.json"
    if status_of(workspace, run) not in FINISHED or not path.is_file():
        return None
    return summary_of(workspace, run)


def run_with_summary(workspace: Workspace, run: str) -> Summary:
    """Return the summary of a run that an operator has named.

    Raises:
        InputError: there is no such run, it has no summary yet, or the file is damaged.
    """
    known = sorted((path.parent.name for path in workspace.logs.glob("*/summary.json")), reverse=True)
    if run not in known:
        folder = workspace.relative(workspace.logs)
        raise lanfit_error("report.no-run", run=run, folder=folder, known=", ".join(known[:5]) or "no such run")
    return summary_of(workspace, run)


def summary_of(workspace: Workspace, run: str) -> Summary:
    """Return the summary of a run that has one.

    Raises:
        InputError: the file is damaged.
    """
    path = workspace.run_folder(run) / "summary.json"
    try:
        return read_summary(path.read_bytes())
    except (ValueError, TypeError, RecursionError) as error:
        raise lanfit_error(
            "summary.damaged",
            run=run,
            file=workspace.relative(path),
            reason=error,
            models=workspace.relative(workspace.collected(run)),
        ) from error


def job_of_run(workspace: Workspace, run: str) -> Job:
    """Return the job of a run of the workspace."""
    path = workspace.run_folder(run) / "job.toml"
    return make_job(read_file(path, "job file", FIELDS))


def values_of_run(workspace: Workspace, run: str) -> dict[str, Value]:
    """Return the job of a run of the workspace, as answers to the questions."""
    return read_file(workspace.run_folder(run) / "job.toml", "job file", FIELDS)


def job_of(run: OpenRun) -> Job:
    """Return the job of a run, as it was recorded."""
    return run.job


def weights_of(run: OpenRun) -> dict[str, AnyArray]:
    """Return the initial weights of a run.

    Raises:
        InputError: they are missing in its folder, or the disk has corrupted them.
    """
    return _kept(run, run.weights, BlockSpec(run.record.weights_id, run.record.weights))


def rebuild_weights(run: OpenRun, loaded: ArrayFile) -> bool:
    """Restore the initial weights from the model that was loaded again; return whether it still is that model."""
    if not run.record.weights_id or loaded.block.id != run.record.weights_id:
        return False
    with atomic_file(run.weights) as temporary:
        BlockFile.put(temporary, loaded.load())
    return True


def client_data_of(run: OpenRun) -> RunData:
    """Return what clients with their own data are given."""
    record = run.record
    shard = Shard.of_block(record.model, _kept(run, run.client_data_shard, record.shards[0]))
    return RunData(
        shards=[shard] * len(record.samples),
        samples=record.samples,
        train=record.train,
        validation=record.validation,
        test=record.test,
        normalizers=shard.normalizers,
        labels=labels_by_target(record.model, record.labels),
        trained=record.rows,
        own=record.own,
        parts=record.parts,
    )


def _kept(run: OpenRun, path: Path, block: BlockSpec) -> dict[str, AnyArray]:
    file = run.workspace.relative(path)
    if not path.is_file():
        raise lanfit_error("resume.nothing-kept", run=run.run, file=file)
    if why := damage_of(path, block.arrays, block.id):
        raise lanfit_error("resume.damaged", run=run.run, file=file, reason=why)
    return BlockFile.open(path).arrays(block.arrays)


def check_same(run: OpenRun, shards: Mapping[int, Shard]) -> None:
    """Check that the data that was read again is unchanged since the run started, byte by byte.

    Raises:
        InputError: it has changed.
    """
    for number, shard in shards.items():
        if block_of(shard.block()) != run.record.shards[number]:
            raise lanfit_error("resume.other-data", run=run.run)
