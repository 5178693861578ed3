"""The result store: decides about offers of results, and stores what is delivered. Sends nothing.

Theory of operation. A result reaches the disk in four steps, and is acknowledged only after the last:

1. The client offers it. `consider` checks names, sizes and shapes against the record of the run, never against what the
   client claims, and returns `Accept`, `Duplicate` (on disk already), `Defer` (no disk space now), `Reject`, or
   `NotLeased`.
2. The block is received into `results/<task>.<client>.<id>.part`. The name contains the id of the block, because
   another attempt of the task has other bytes; a broken transfer is resumed in the same file (lanfit.transfer.partial).
3. `take_in` checks, in a thread, that all values are finite, and moves the file to `results/<task>.block`, durably.
4. It then records the result in the ledger, in one transaction. Without this record, the block does not count.

Steps 3 and 4 hold a lock of the task (`taking_in`): of two clients that deliver the same task at a time, the second one
is told `Duplicate`. A client may lose its link meanwhile, and offer the same block again on the next one. Such an offer
waits for the lock, too: it would otherwise create the file anew that the first delivery is about to move.

A server that is killed between the steps receives the offer again, and continues: before step 4 the block is received
or moved again, after it the answer is `Duplicate`. So a result counts exactly once. Results of every run of the
workspace are accepted, including runs of a killed server. No file format is parsed.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import math
import re
import shutil
import sqlite3
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import msgspec
import numpy as np

from lanfit.core.durable import atomic_move, atomic_write, remove_leftovers
from lanfit.core.failpoints import failpoint
from lanfit.core.memory import readable_size
from lanfit.core.system import refused
from lanfit.core.workspace import Workspace, inside
from lanfit.errors import LanfitError, RemoteProtocolError
from lanfit.models.trained_model import HISTORY
from lanfit.settings.changes import Changes
from lanfit.settings.fields import Value, read_toml
from lanfit.settings.job import FIELDS, Job, make_job, to_toml
from lanfit.transfer.blocks import ArrayFile, BlockFile
from lanfit.transfer.partial import is_full, remove_partial
from lanfit.wire.arrays import AnyArray, ArraySpec, block_size
from lanfit.wire.figures import are_figure_names, part_of
from lanfit.wire.messages import Result
from lanfit_server.store.array_source import forget_rows
from lanfit_server.store.ledger import DamagedLedger, Ledger, RunRecord, StoredResult

logger = logging.getLogger("lanfit.server")
#: The final states of a run; with another status a server can resume it.
FINISHED = frozenset({"done", "partial"})
#: The fraction of a disk that stays free; uploads are deferred before it is used.
LEAST_FREE = 0.05
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BLOCK_ID = re.compile(r"[0-9a-f]{64}")
_TIMING = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Accept:
    """Fetch the block into this file, then commit it."""

    path: Path
    size: int
    client: str
    """The name of the client in that run, which may differ from its current name."""


@dataclass(frozen=True)
class Defer:
    """There is no space for it now, for this reason; it may be offered again."""

    reason: str


@dataclass(frozen=True)
class Duplicate:
    """It is on disk already: acknowledge it again."""


@dataclass(frozen=True)
class Reject:
    """It is rejected, for this reason."""

    reason: str


@dataclass(frozen=True)
class NotLeased:
    """It belongs to a task that was never assigned to this client: see leases.py."""

    reason: str


@dataclass(frozen=True)
class Stored:
    """It is on disk and in the ledger: it may be acknowledged."""


class OpenRun:
    """A run of this workspace for which results may arrive."""

    def __init__(self, workspace: Workspace, run: str, ledger: Ledger, record: RunRecord) -> None:
        self.run = run
        self.workspace = workspace
        self.folder = inside(workspace.logs, run)
        self.ledger = ledger
        self.record = record

    @property
    def job(self) -> Job:
        """The job of the run, as it is recorded now."""
        return make_job(read_toml(self.record.job, f"job of run {self.run}", FIELDS))

    def change_job(self, values: Mapping[str, Value]) -> None:
        """Record changed settings of the job: in the ledger, for a resumed run, then in its `job.toml`."""
        job = msgspec.structs.replace(self.job, **values)
        remarks = [line for line in self.record.job.splitlines(keepends=True) if line.startswith("#")]
        epochs = max(self.record.epochs, Changes.of(job.changes).most_epochs(job.epochs))
        self._change(msgspec.structs.replace(self.record, job="".join(remarks) + to_toml(job), epochs=epochs))
        self.write_job()

    def allow_epochs(self, epochs: int) -> None:
        """Accept results of this many epochs."""
        if epochs > self.record.epochs:
            self._change(msgspec.structs.replace(self.record, epochs=epochs))

    def _change(self, record: RunRecord) -> None:
        self.ledger.change(record)
        self.record = record

    def write_job(self) -> None:
        """Write `job.toml`, which repeats the run."""
        atomic_write(self.folder / "job.toml", self.record.job)

    def block(self, task: str) -> Path:
        """Return where the block of a committed result is."""
        return inside(self.folder / "results", f"{task}.block")

    @property
    def weights(self) -> Path:
        """Where the initial weights are while the run is unfinished."""
        return self.folder / "weights.block"

    @property
    def client_data_shard(self) -> Path:
        """Where the constants for clients with their own data are, while the run is unfinished."""
        return self.folder / "shard.block"

    def partial_file(self, task: str, client: str, block_id: str) -> Path:
        """Return where a delivery is received. It belongs to one block: another attempt of the task has other bytes."""
        return inside(self.folder / "results", f"{task}.{client}.{block_id}.part")

    def remove_partial_files(self, of: str = "", but: Path | None = None) -> None:
        """Remove the partial deliveries whose names begin with `of`, except one."""
        for path in (self.folder / "results").glob("*"):
            if not path.name.startswith(of) or (but is not None and path.stem == but.stem):
                continue
            if path.suffix in (".part", ".chunks"):
                with contextlib.suppress(OSError):  # Windows: it is still being received, or read
                    path.unlink()

    def client_folder(self, owner: str) -> Path:
        """Return the folder for the histories and logs of a client."""
        return inside(self.folder / "clients", owner)

    def load(self, stored: StoredResult) -> dict[str, AnyArray]:
        """Return the arrays of a committed result: the weights in the model's order, then the history."""
        return BlockFile.open(self.block(stored.task)).arrays(stored.result.block.arrays)

    def file(self, stored: StoredResult) -> ArrayFile:
        """Return the block of a committed result, for the model process."""
        return ArrayFile(str(self.block(stored.task)), stored.result.block)

    def collected(self, name: str) -> Path:
        """Return where a model of this run is collected."""
        return inside(self.workspace.collected(self.run), name)

    def model_file(self, name: str) -> Path:
        """Return where a model of this run is collected, in the format that can store it."""
        return self.collected(f"{name}{self.record.model.ending}")

    def history(self, stored: StoredResult) -> dict[str, list[float]]:
        """Return the history of a committed result: a list of numbers for each metric, one per epoch."""
        columns: list[list[float]] = self.load(stored)[HISTORY].T.tolist()
        return dict(zip(stored.result.metrics, columns, strict=True))

    def history_of(self, task: str) -> dict[str, list[float]]:
        """Return the history of a task; empty when it has no result."""
        stored = self.ledger.result(task)
        return self.history(stored) if stored is not None else {}

    def validation_metrics(self, stored: StoredResult) -> dict[str, float]:
        """Return the client's metrics in its best epoch: on its validation rows, or without any on its training
        rows."""
        best = {name: values[stored.result.best_epoch] for name, values in self.history(stored).items()}
        parts = {name: part_of(name) for name in best}
        validation = {metric: best[name] for name, (metric, part) in parts.items() if part == "validation"}
        return validation or best

    def end(self, status: str) -> None:
        """End the run. The blocks of a finished run are in its model files, and are removed."""
        self.ledger.end_run(status)
        if status in FINISHED:
            self.weights.unlink(missing_ok=True)
            self.client_data_shard.unlink(missing_ok=True)
            forget_rows(self.folder)
        self.remove_partial_files()
        for folder in (self.folder, self.workspace.collected(self.run)):
            remove_leftovers(folder)
        if status == "done":
            for name in ("results", "rounds"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def check(self, result: Result) -> None:
        """Check an offer against the run's own table, before anything is allocated.

        Raises:
            RemoteProtocolError: it does not fit.
        """
        if not _BLOCK_ID.fullmatch(result.block.id):
            raise RemoteProtocolError(f"the result of {result.task} has a block with an invalid id")
        *arrays, history = result.block.arrays or (ArraySpec("", "", ()),)
        if tuple(arrays) != (*self.record.weights, *self.record.constants):
            raise RemoteProtocolError(
                f"the result of {result.task} has weights that do not match the model of run {self.run}"
            )
        epochs = history.shape[0] if len(history.shape) == 2 else 0
        if (
            history != ArraySpec(HISTORY, "float64", (epochs, len(result.metrics)))
            or not 1 <= epochs <= self.record.epochs
        ):
            raise RemoteProtocolError(f"the result of {result.task} has a history of shape {history.shape}")
        check_metrics(result.metrics)
        if not 0 <= result.best_epoch < epochs:
            raise RemoteProtocolError(f"the result of {result.task} has best epoch {result.best_epoch} of {epochs}")
        check_metrics(result.scores)
        if len(result.seconds) > 32 or not all(
            _TIMING.fullmatch(name) and math.isfinite(value) and value >= 0 for name, value in result.seconds.items()
        ):
            raise RemoteProtocolError(f"the result of {result.task} has invalid timings")


def check_metrics(names: Collection[str]) -> None:
    """Check the names of a client's metrics: they are shown, and written into files.

    Raises:
        RemoteProtocolError: a name is invalid, or there are too many.
    """
    if not are_figure_names(names):
        raise RemoteProtocolError("there are metrics with invalid names, or too many of them")


class ResultStore:
    """Accepts results. All paths consist of names chosen by this server."""

    def __init__(self, workspace: Workspace, server_id: bytes) -> None:
        self.disk_usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
        self._locks: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()
        """The locks of tasks whose results are being accepted, by run and task; removed after the last use."""
        self._workspace = workspace
        self._server_id = server_id
        self._runs: dict[str, OpenRun] = {}
        self._damaged: set[str] = set()
        """Runs whose ledgers can't be read."""
        self._seen: set[str] = set()
        """Runs that were open before: their partial deliveries belong to this server."""

    def open(self, run: OpenRun) -> None:
        """Accept results of this run from now on."""
        self._runs[run.run] = run
        self._seen.add(run.run)

    def opened(self, run: str) -> OpenRun:
        """Return a run for which results have arrived."""
        return self._runs[run]

    def find(self, run: str) -> OpenRun | None:
        """Return the run of this server with that id; open the runs of earlier servers."""
        if run in self._runs:
            return self._runs[run]
        if not _LABEL.fullmatch(run) or not (self._workspace.run_folder(run) / Ledger.FILE).is_file():
            return None
        return self._reopen(run)

    def _reopen(self, run: str) -> OpenRun | None:
        try:
            ledger = Ledger(self._workspace.run_folder(run))
        except DamagedLedger as damaged:
            self._is_damaged(run, damaged)
            return None
        try:
            ledger.check()
        except DamagedLedger as damaged:
            ledger.close()
            self._is_damaged(run, damaged)
            return None
        record = ledger.record
        if record is None or record.server_id != self._server_id:
            ledger.close()
            return None
        found = self._runs[run] = OpenRun(self._workspace, run, ledger, record)
        if run in self._seen:
            return found
        self._seen.add(run)
        if found.ledger.status == "unfinished":
            for stored in found.ledger.results():
                found.remove_partial_files(f"{stored.task}.")  # a killed server had no time for it
        else:
            found.remove_partial_files()
        return found

    def _is_damaged(self, run: str, damaged: DamagedLedger) -> None:
        """Accept nothing for such a run: it could not be resumed."""
        if run not in self._damaged:
            self._damaged.add(run)
            logger.warning("the ledger of run %s is damaged: %s", run, damaged)

    def unfinished(self) -> list[OpenRun]:
        """Return the unfinished runs of this workspace that a server of this identity started, oldest first."""
        found = []
        for name in sorted(path.parent.name for path in self._workspace.logs.glob(f"*/{Ledger.FILE}")):
            was_open = name in self._runs
            run = self.find(name)
            if run is not None and run.ledger.status == "unfinished":
                found.append(run)
            elif run is not None and not was_open:
                self._runs.pop(name).ledger.close()
        return found

    def consider(self, client_id: bytes, result: Result) -> Accept | Duplicate | Defer | Reject | NotLeased:
        """Decide about a result that a client offers. One that does not fit the run is rejected permanently."""
        run = self.find(result.run)
        if run is None and result.run in self._damaged:
            return Reject(f"the ledger of run {result.run} is damaged")
        if run is None:
            return Reject(f"this server has no run {result.run!r}")
        if run.ledger.owner(result.task) is None:
            return Reject(f"run {run.run} has no task {result.task!r}")
        if self.is_duplicate(result):
            return Duplicate()
        client = run.ledger.holder(client_id, result.task, result.attempt)
        if client is None:
            return NotLeased(f"attempt {result.attempt} of {result.task} of run {run.run} was never assigned to it")
        try:
            run.check(result)
        except RemoteProtocolError as error:
            return Reject(error.message)
        size, path = block_size(result.block.arrays), run.partial_file(result.task, client, result.block.id)
        run.remove_partial_files(f"{result.task}.{client}.", but=path)
        if (reason := self._why_no_space(run, size)) is not None:
            return Defer(reason)
        return Accept(path, size, client)

    def may_report(self, client_id: bytes, run: str, task: str | None = None) -> bool | None:
        """Return whether a client holds, or held, a task of a run, or any; None for a run that is not active."""
        found = self._runs.get(run)
        if found is None:
            return None
        ledger = found.ledger
        return ledger.has_worked(client_id) if task is None else ledger.holder(client_id, task) is not None

    def _why_no_space(self, run: OpenRun, size: int) -> str | None:
        """Return why nothing of this size is accepted now: the ledger, the models and the report need space, too."""
        total, _, free = self.disk_usage(run.folder)
        needed = max(LEAST_FREE * total, 2 * size)
        if free >= needed:
            return None
        return f"the server's disk has {readable_size(free)} free, but {readable_size(int(needed))} are needed"

    def is_duplicate(self, result: Result) -> bool:
        """Return whether no other result of this task is needed: one was committed, or its round is over."""
        run = self.find(result.run)
        return run is None or run.ledger.result(result.task) is not None or run.ledger.is_over(result.task)

    def taking_in(self, result: Result) -> asyncio.Lock:
        """Return the lock that is held while a result of this task is taken in.

        Who opens a file for an offer holds it, too: the same block may have been delivered on an earlier link.
        """
        return self._locks.setdefault((result.run, result.task), asyncio.Lock())

    async def take_in(
        self, client: str, result: Result, received: Callable[[], BlockFile]
    ) -> Stored | Duplicate | Defer | Reject:
        """Store an accepted and delivered result, and record it in the ledger. All clusters use this.

        Two clients may deliver a result of the same task at a time; the second one is a duplicate.

        Args:
            received: gives the block; called in a thread.
        """
        async with self.taking_in(result):
            if self.is_duplicate(result):
                return Duplicate()
            try:
                run = self._at_hand(result)
                reason = await asyncio.to_thread(lambda: self._store(run, result, received()))
                if reason is not None:
                    return Reject(reason)
                failpoint("server.result-stored")
                self._record(client, result)
            except (OSError, sqlite3.OperationalError) as error:
                return Defer(why_not_written(error))
            failpoint("server.result-committed")
            return Stored()

    def _store(self, run: OpenRun, result: Result, received: BlockFile) -> str | None:
        """Store a delivered block under its final name; return why it was rejected, or None. Does not read the ledger.

        Raises:
            OSError: the disk is full, or refuses; nothing of the block is left.
        """
        reason = _not_finite(received, (*run.record.weights, *run.record.constants))
        try:
            if reason is None:
                received.sync()
            received.close()
            if reason is None:
                atomic_move(received.path, run.block(result.task))
        except OSError:
            # Data that could not be synced is never synced again: it is fetched again.
            received.close()
            run.block(result.task).unlink(missing_ok=True)
            remove_partial(received.path)
            raise
        if reason is not None:
            remove_partial(received.path)
        return reason

    def _record(self, client: str, result: Result) -> None:
        """Record a stored result in the ledger. It may be acknowledged after this, and not before.

        Raises:
            sqlite3.OperationalError: the disk is full, or refuses; the result is removed.
        """
        run = self._at_hand(result)  # it may have been closed meanwhile
        try:
            run.ledger.commit(StoredResult(result.task, client, result))
        except sqlite3.OperationalError:
            if not self.is_duplicate(result):
                run.block(result.task).unlink(missing_ok=True)
            raise
        run.remove_partial_files(f"{result.task}.")

    def _at_hand(self, result: Result) -> OpenRun:
        """Return the run of a result that was considered."""
        run = self.find(result.run)
        if run is None:
            raise OSError(errno.ENOENT, "the run was removed", result.run[:80])
        return run

    def close(self) -> None:
        """Close the files of all runs; they are opened again when needed."""
        for run in self._runs.values():
            run.ledger.close()
        self._runs.clear()


def why_not_written(wrong: Exception) -> str:
    """Return why a result could not be stored, for an operator."""
    if is_full(wrong):
        return "the server's disk is full"
    if isinstance(wrong, OSError):
        return refused(wrong).message
    return wrong.message if isinstance(wrong, LanfitError) else f"the ledger can't be written: {wrong}"


def _not_finite(block: BlockFile, specs: tuple[ArraySpec, ...]) -> str | None:
    for name, array in block.arrays(specs).items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"its array {name!r} contains NaN or infinity"
    return None
