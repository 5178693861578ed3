"""The desk where results come in: checks what is offered against the run's own table, and stores what is delivered.

Takes results of every run of this workspace, also of runs that a killed server left behind. Trusts no size, name or
shape of a client; never reads a file format. Sends nothing: the cluster does, after asking here.
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
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lanfit.crash import crash_point
from lanfit.data.memory import readable_size
from lanfit.durable import move_whole, remove_leftovers
from lanfit.errors import LanfitError, RemoteProtocolError
from lanfit.files import ArrayFile, BlockFile
from lanfit.models.member import HISTORY, Member
from lanfit.partial import is_full, remove_partial
from lanfit.system import refused
from lanfit.wire.arrays import AnyArray, ArraySpec, block_size
from lanfit.wire.figures import are_figure_names
from lanfit.wire.messages import Result
from lanfit.workspace import Workspace
from lanfit_server.given_rows import forget_rows
from lanfit_server.ledger import DamagedLedger, Ledger, RunRecord, StoredResult

log = logging.getLogger("lanfit.server")
#: How a run ends that nothing can be added to; with another status a server can go on with it.
FINISHED = frozenset({"done", "partial"})
#: The share of a disk that stays free; uploads are put off before it is used.
LEAST_FREE = 0.05
_LABEL = re.compile(r"[A-Za-z0-9._-]{1,64}")
_BLOCK_ID = re.compile(r"[0-9a-f]{64}")
_TIMING = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True)
class Take:
    """Fetch the block into this file, then commit it."""

    path: Path
    size: int
    client: str
    """What the client is called in that run, which may be another name than today's."""


@dataclass(frozen=True)
class PutOff:
    """There is no room for it now, for this reason; it may be offered again."""

    reason: str


@dataclass(frozen=True)
class Known:
    """It is on disk already: acknowledge it again."""


@dataclass(frozen=True)
class Refuse:
    """It is of no use, for this reason."""

    reason: str


@dataclass(frozen=True)
class NotLeased:
    """It is of a task that this client was never given: see leases.py."""

    reason: str


class OpenRun:
    """A run of this workspace that results may come in for."""

    def __init__(self, workspace: Workspace, run: str, ledger: Ledger, record: RunRecord) -> None:
        self.run = run
        self.workspace = workspace
        self.folder = workspace.run_folder(run)
        self.ledger = ledger
        self.record = record

    def block(self, task: str) -> Path:
        """Where the block of a committed result lies."""
        return self.folder / "results" / f"{task}.block"

    @property
    def weights(self) -> Path:
        """Where the starting weights lie while the run is unfinished."""
        return self.folder / "weights.block"

    @property
    def own_shard(self) -> Path:
        """Where the constants lie that go to clients with rows of their own, while the run is unfinished."""
        return self.folder / "shard.block"

    def part(self, task: str, client: str, block_id: str) -> Path:
        """Where a delivery is received. It belongs to one block: another attempt of the task has other bytes."""
        return self.folder / "results" / f"{task}.{client}.{block_id}.part"

    def remove_parts(self, of: str = "", but: Path | None = None) -> None:
        """Remove the partial deliveries whose names begin with `of`, but for one."""
        for path in (self.folder / "results").glob("*"):
            if not path.name.startswith(of) or (but is not None and path.stem == but.stem):
                continue
            if path.suffix in (".part", ".chunks"):
                with contextlib.suppress(OSError):  # Windows: it is still being received, or read
                    path.unlink()

    def client_folder(self, owner: str) -> Path:
        """Where the histories and logs of a client lie."""
        return self.folder / "clients" / owner

    def load(self, stored: StoredResult) -> dict[str, AnyArray]:
        """The arrays of a committed result: the weights in the model's order, then the history."""
        return BlockFile.open(self.block(stored.task)).arrays(stored.result.block.arrays)

    def file(self, stored: StoredResult) -> ArrayFile:
        """The block of a committed result, for the model process."""
        return ArrayFile(str(self.block(stored.task)), stored.result.block)

    def member(self, stored: StoredResult) -> Member:
        """The model in a committed result, with the normalizers that it was trained behind."""
        return Member.of(self.load(stored), self.record.model.normalizer, self.record.model.target_normalizer)

    def collected(self, name: str) -> Path:
        """Where a model of this run is collected."""
        return self.workspace.collected(self.run) / name

    def model_file(self, name: str) -> Path:
        """Where a model of this run is collected, in the format that holds it."""
        return self.collected(f"{name}{self.record.model.ending}")

    def history(self, stored: StoredResult) -> dict[str, list[float]]:
        """The history of a committed result: a list of numbers for each metric, one an epoch."""
        columns: list[list[float]] = self.load(stored)[HISTORY].T.tolist()
        return dict(zip(stored.result.metrics, columns, strict=True))

    def validation_metrics(self, stored: StoredResult) -> dict[str, float]:
        """What the client measured in its best epoch: on its validation rows, or on its training rows without any."""
        best = {name: values[stored.result.best_epoch] for name, values in self.history(stored).items()}
        validation = {name.removeprefix("val_"): value for name, value in best.items() if name.startswith("val_")}
        return validation or best

    def end(self, status: str) -> None:
        """The run has ended. The blocks of a run that is done are in its model files, and are removed."""
        self.ledger.end_run(status)
        if status in FINISHED:
            self.weights.unlink(missing_ok=True)
            self.own_shard.unlink(missing_ok=True)
            forget_rows(self.folder)
        self.remove_parts()
        for folder in (self.folder, self.workspace.collected(self.run)):
            remove_leftovers(folder)
        if status == "done":
            for name in ("results", "rounds"):
                shutil.rmtree(self.folder / name, ignore_errors=True)

    def check(self, result: Result) -> None:
        """Hold what is offered against the run's own table, before anything is allocated.

        Raises:
            RemoteProtocolError: it does not fit.
        """
        if not _BLOCK_ID.fullmatch(result.block.id):
            raise RemoteProtocolError(f"the result of {result.task} has a block with an impossible id")
        *arrays, history = result.block.arrays or (ArraySpec("", "", ()),)
        if tuple(arrays) != (*self.record.weights, *self.record.constants):
            raise RemoteProtocolError(f"the result of {result.task} has other weights than the model of run {self.run}")
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
            raise RemoteProtocolError(f"the result of {result.task} has impossible timings")


def check_metrics(names: Collection[str]) -> None:
    """Check what a client calls its figures: they are shown, and written into files.

    Raises:
        RemoteProtocolError: a name is impossible, or there are too many.
    """
    if not are_figure_names(names):
        raise RemoteProtocolError("there are metrics with impossible names, or too many of them")


class Desk:
    """Takes in results. All paths are made of names that this server chose."""

    def __init__(self, workspace: Workspace, server_id: bytes) -> None:
        self.disk_usage: Callable[[Path], tuple[int, int, int]] = shutil.disk_usage
        self._locks: dict[tuple[str, str], asyncio.Lock] = {}
        self._workspace = workspace
        self._server_id = server_id
        self._runs: dict[str, OpenRun] = {}
        self._damaged: set[str] = set()
        """Runs whose ledgers can't be read."""
        self._seen: set[str] = set()
        """Runs that were open before: what of them is on its way in belongs to this server."""

    def open(self, run: OpenRun) -> None:
        """Take results of this run from now on."""
        self._runs[run.run] = run
        self._seen.add(run.run)

    def opened(self, run: str) -> OpenRun:
        """A run that results came in for."""
        return self._runs[run]

    def find(self, run: str) -> OpenRun | None:
        """The run of this server with that id; opens what an earlier server left behind."""
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
                found.remove_parts(f"{stored.task}.")  # a server that was killed had no time for it
        else:
            found.remove_parts()
        return found

    def _is_damaged(self, run: str, damaged: DamagedLedger) -> None:
        """Nothing is taken in for such a run: nobody could go on with it."""
        if run not in self._damaged:
            self._damaged.add(run)
            log.warning("the ledger of run %s is damaged: %s", run, damaged)

    def unfinished(self) -> list[OpenRun]:
        """The runs in this workspace that a server of this identity began and did not end, oldest first."""
        found = []
        for name in sorted(path.parent.name for path in self._workspace.logs.glob(f"*/{Ledger.FILE}")):
            was_open = name in self._runs
            run = self.find(name)
            if run is not None and run.ledger.status == "unfinished":
                found.append(run)
            elif run is not None and not was_open:
                self._runs.pop(name).ledger.close()
        return found

    def consider(self, client_id: bytes, result: Result) -> Take | Known | PutOff | Refuse | NotLeased:
        """Decide about a result that a client offers. What does not fit the run is refused: it never will."""
        run = self.find(result.run)
        if run is None and result.run in self._damaged:
            return Refuse(f"the ledger of run {result.run} is damaged")
        if run is None:
            return Refuse(f"this server has no run {result.run!r}")
        if run.ledger.owner(result.task) is None:
            return Refuse(f"run {run.run} has no task {result.task!r}")
        if self.is_known(result):
            return Known()
        client = run.ledger.holder(client_id, result.task, result.attempt)
        if client is None:
            return NotLeased(f"attempt {result.attempt} of {result.task} of run {run.run} was never given to it")
        try:
            run.check(result)
        except RemoteProtocolError as wrong:
            return Refuse(wrong.message)
        size, path = block_size(result.block.arrays), run.part(result.task, client, result.block.id)
        run.remove_parts(f"{result.task}.{client}.", but=path)
        if (reason := self._no_room(run, size)) is not None:
            return PutOff(reason)
        return Take(path, size, client)

    def may_report(self, client_id: bytes, run: str, task: str | None = None) -> bool | None:
        """Whether a client holds, or held, a task of a run, or any; None for a run that nothing is done for now."""
        found = self._runs.get(run)
        if found is None:
            return None
        ledger = found.ledger
        return ledger.has_worked(client_id) if task is None else ledger.holder(client_id, task) is not None

    def _no_room(self, run: OpenRun, size: int) -> str | None:
        """Why nothing of this size is taken now: the ledger, the models and the report need room, too."""
        total, _, free = self.disk_usage(run.folder)
        needed = max(LEAST_FREE * total, 2 * size)
        if free >= needed:
            return None
        return f"the server's disk has {readable_size(free)} free, and it needs {readable_size(int(needed))}"

    def is_known(self, result: Result) -> bool:
        """Whether no other result of this task is needed: one was committed, or its round is over."""
        run = self.find(result.run)
        return run is None or run.ledger.result(result.task) is not None or run.ledger.is_over(result.task)

    def lock(self, result: Result) -> asyncio.Lock:
        """Held while a result of this task is put on disk: two clients may deliver it at the same time."""
        return self._locks.setdefault((result.run, result.task), asyncio.Lock())

    async def take_in(self, client: str, result: Result, received: Callable[[], BlockFile]) -> str | None:
        """Put a delivered block on disk, and into the ledger; returns why it was refused, or None.

        Args:
            received: gives the block; called in a thread.

        Raises:
            OSError, sqlite3.OperationalError: as `store` and `commit`.
        """
        run = self._at_hand(result)
        reason = await asyncio.to_thread(lambda: self._store(run, result, received()))
        if reason is None:
            crash_point("server.result-stored")
            self.commit(client, result)
            crash_point("server.result-committed")
        return reason

    def store(self, result: Result, received: BlockFile) -> str | None:
        """Put a delivered block on disk under its final name; returns why it was refused, or None.

        Raises:
            OSError: the disk is full, or refuses; nothing of the block is left.
        """
        return self._store(self._at_hand(result), result, received)

    def _store(self, run: OpenRun, result: Result, received: BlockFile) -> str | None:
        """The same from any thread: reads nothing of the ledger."""
        reason = _not_finite(received, (*run.record.weights, *run.record.constants))
        try:
            if reason is None:
                received.sync()
            received.close()
            if reason is None:
                move_whole(received.path, run.block(result.task))
        except OSError:
            # What could not be synced is never synced again: it is fetched anew.
            received.close()
            run.block(result.task).unlink(missing_ok=True)
            remove_partial(received.path)
            raise
        if reason is not None:
            remove_partial(received.path)
        return reason

    def commit(self, client: str, result: Result) -> None:
        """Write a stored result into the ledger. After this it may be acknowledged, and not before.

        Raises:
            sqlite3.OperationalError: the disk is full, or refuses; the result is not stored any more.
        """
        run = self._at_hand(result)
        try:
            run.ledger.commit(StoredResult(result.task, client, result))
        except sqlite3.OperationalError:
            if not self.is_known(result):
                run.block(result.task).unlink(missing_ok=True)
            raise
        run.remove_parts(f"{result.task}.")

    def _at_hand(self, result: Result) -> OpenRun:
        """The run of a result that was considered."""
        run = self.find(result.run)
        if run is None:
            raise OSError(errno.ENOENT, "the run was removed", result.run[:80])
        return run

    def close(self) -> None:
        """Close the files of all runs; one that something comes in for is opened again."""
        for run in self._runs.values():
            run.ledger.close()
        self._runs.clear()


def why_not_written(wrong: Exception) -> str:
    """Why a result could not be put on disk, for an operator."""
    if is_full(wrong):
        return "the server's disk is full"
    if isinstance(wrong, OSError):
        return refused(wrong).message
    return wrong.message if isinstance(wrong, LanfitError) else f"the ledger can't be written: {wrong}"


def _not_finite(block: BlockFile, specs: tuple[ArraySpec, ...]) -> str | None:
    for name, array in block.arrays(specs).items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            return f"its array {name!r} holds NaN or infinity"
    return None
