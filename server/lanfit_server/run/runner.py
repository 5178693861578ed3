"""Runs a job on the connected clients: from a request to a summary. No prompts."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from lanfit.core.failpoints import failpoint
from lanfit.core.lock import FolderLock
from lanfit.core.loop import in_thread
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.data.labels import Target
from lanfit.data.prepare import Prepared, check_target_normalizer
from lanfit.data.shard import NO_SAMPLES, Arrays
from lanfit.errors import InputError, LanfitError, lanfit_error
from lanfit.models.compiling import unchecked_spec
from lanfit.models.custom_files import AllowedFile, short
from lanfit.settings.job import Job
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.disk_space import RetryWhenFull
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model, Survey
from lanfit.wire.messages import RunEnded as RunEndedMessage
from lanfit_server.clusters.base import Cluster
from lanfit_server.clusters.events import StartNow
from lanfit_server.clusters.roster import Member
from lanfit_server.data.keras_datasets import RowSource
from lanfit_server.data.model_source import ModelFile
from lanfit_server.data.prepare import (
    RunData,
    client_data,
    first_batch,
    new_run_id,
    no_rows,
    open_run,
    patience_note,
    record_of,
    run_data_of,
    take,
    targets_of_test,
    test_rows,
)
from lanfit_server.data.reading import read_data
from lanfit_server.methods.base import Method
from lanfit_server.methods.changes import unchangeable
from lanfit_server.methods.registry import METHODS, folds_of
from lanfit_server.methods.workshop import RoundChannel, Workshop
from lanfit_server.methods.workshops import Clients, Context, begin
from lanfit_server.models.custom_files import files_of
from lanfit_server.models.handle import Done, Loaded, LoadModel, ModelProcess, TryBatch, UseData, UseModel
from lanfit_server.models.model_folder import find_model
from lanfit_server.requests import RunHandle, RunInterrupted, RunRequest, State
from lanfit_server.run import resume as resuming
from lanfit_server.run.damage import mend
from lanfit_server.run.dispatch import Dispatch, check_memory, serve
from lanfit_server.run.early_start import EarlyStart, announcement, with_fewer
from lanfit_server.run.engine import RunEngine, Terms
from lanfit_server.run.events import RunEnded
from lanfit_server.run.finish import Finish, Outcome
from lanfit_server.run.instructions import Command
from lanfit_server.run.journal import Journal
from lanfit_server.run.parts import PartsByClient, replace_parts
from lanfit_server.run.retention import remove_oldest
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.shell import Shell
from lanfit_server.run.wait_for_clients import ClientWait, joined, why_no_run_began
from lanfit_server.store.array_source import ArraySource
from lanfit_server.store.ledger import RunRecord, labels_by_target
from lanfit_server.store.result_store import OpenRun, ResultStore
from lanfit_server.store.summary import Summary
from lanfit_server.ui.class_table import class_table_lines
from lanfit_server.ui.display import Display
from lanfit_server.ui.narrator import Narrator
from lanfit_server.ui.shown_rows import NONE_SHOWN, ShownRows, show_rows
from lanfit_server.watchers import RunFacts, Watchers


class RunHost(Protocol):
    """The place where runs are executed: `Endpoint` for clients over TCP."""

    store: ResultStore

    @property
    def cluster(self) -> Cluster: ...

    @property
    def server_id(self) -> bytes: ...

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        """Allow the clients that were started here to execute these files."""
        ...

    def keep_passphrase(self, run: str) -> None: ...

    def forget_passphrase(self, run: str) -> None: ...

    def notes(self) -> list[str]: ...

    async def close(self) -> None:
        """Let go of all clients; end what was started here."""
        ...


def lock_of(workspace: Workspace, run: str) -> Path:
    """Return the folder that is locked as long as a process works on a run."""
    return workspace.server_state / "running" / run


@contextlib.contextmanager
def _held(folder: Path) -> Iterator[None]:
    lock = FolderLock.take(folder)
    try:
        yield
    finally:
        if lock is not None:
            lock.remove()


class Runner:
    """Runs jobs on one host with one model process. Everything is called in one event loop.

    Args:
        scratch: a folder for temporary files of a run.
    """

    def __init__(
        self,
        workspace: Workspace,
        host: RunHost,
        models: ModelProcess,
        display: Display,
        timeouts: Timeouts,
        scratch: Path,
        watchers: Watchers,
    ) -> None:
        self._workspace = workspace
        self._host = host
        self._cluster = host.cluster
        self._models = models
        self._display = display
        self._timeouts = timeouts
        self._scratch = scratch
        self._watchers = watchers
        self._number = 0
        self._is_waiting = False
        """Whether clients are waited for, and `start_now` starts the run without those that are missing."""
        self._shell: Shell | None = None
        """The shell of the current run."""
        self._test = NO_SAMPLES
        """The server's test rows of the current run."""
        self._faults: Mapping[str, LanfitError] = {}
        """The errors in client data that prevented the last run from starting."""

    def start_now(self) -> None:
        """Do not wait for missing clients any longer; without a run that waits for some, nothing happens."""
        if self._is_waiting:
            self._cluster.events.put_nowait(StartNow())

    def command(self, command: Command) -> asyncio.Future[None] | None:
        """Give a command of the operator to the current run, see `Shell.command`; return None without a run."""
        return None if self._shell is None else self._shell.command(command)

    async def run(self, handle: RunHandle) -> Summary:
        """Complete a run. If this is cancelled after the start, the run is ended, and its summary is returned.

        Raises:
            LanfitError: the run was not started, or can't continue.
            RunInterrupted: this was cancelled before the start.
        """
        handle.enter(State.STARTING)
        with self._run_folder() as scratch:
            if handle.request.resumes:
                return await self._resume(handle, scratch)
            return await self._train(handle, scratch)

    async def _train(self, handle: RunHandle, scratch: Path) -> Summary:
        """Start a run, and complete it."""
        request = handle.request
        self._faults = {}
        self._cluster.waiting_for = "the server is reading its model and data"
        job, ready = request.job, request.model
        if isinstance(ready, ModelFile):
            ready = await ready.read(job, self._models, scratch, request.arrays)
        assert ready is not None
        model = ready.model
        await self._use(model, ready.custom)
        weights = ready.loaded.weights.load()
        try:
            METHODS[job.method].check(job)
            for note in ready.notes:
                self._log(f"Note: {note}.")
            if job.data == "client":
                await self._models.ask(UseData(no_rows(model, scratch)), Done)
                (data, owners), targets = await self._survey(request, model, weights), None
                METHODS[job.method].check_evaluation(job, data.validation, data.test)
            else:
                source = RowSource(job, self._models, scratch, arrays=request.arrays, loaded=request.dataset)
                rows, targets = await self._read(job, model, source, scratch)
                METHODS[job.method].check_evaluation(job, rows.validation, rows.test)
                batch = await in_thread(lambda: first_batch(run_data_of(rows), scratch))
                await self._models.ask(TryBatch(batch, ready.loaded.weights), Done)
                data, owners = await self._partition(request, model, rows, source, scratch)
            if len(owners) < job.clients:
                self._log(announcement(job, owners))
            job = replace_parts(with_fewer(job, owners), owners, data.parts)
            for shard, owner in enumerate(owners):
                check_memory(data, shard, weights, self._cluster.roster[owner])
            for name, words in data.labels.items():
                of = f" of {name}" if model.outputs else ""
                self._log(f"Labels{of}: {', '.join(f'{number} {word}' for number, word in enumerate(words))}.")
            if note := patience_note(job, data.validation):
                self._log(f"Note: {note}.")
            for line in class_table_lines(job, model, data, owners):
                self._log(line)
            name = request.name or new_run_id(self._workspace)
            record = await in_thread(partial(record_of, name, job, self._host.server_id, ready.loaded, model, data))
        except LanfitError:
            await self._end_before_it_began("failed", partial(why_no_run_began, self._faults))
            raise
        except asyncio.CancelledError:
            _go_on_after_interrupt()
            await self._end_before_it_began("interrupted", lambda name: "no run was started: the server was stopped")
            raise RunInterrupted("Interrupted before the run started: nothing was trained.") from None
        wanted = request.job.clients if len(owners) < request.job.clients else None
        record = msgspec.structs.replace(record, job=request.remark + record.job, clients_wanted=wanted)
        run = self._begin(record, weights, data, request.arrays)
        return await self._go(handle, job, run, data, weights, owners, targets, scratch)

    async def _resume(self, handle: RunHandle, scratch: Path) -> Summary:
        """Resume a run of an earlier server.

        Raises:
            InputError: the run belongs to another host, or its data has changed.
        """
        run = self._host.store.find(handle.request.resumes)
        if run is None:
            raise lanfit_error("resume.other-server", run=handle.request.resumes)
        job, record = resuming.job_of(run), run.record
        await mend(run, self._log)
        run.write_job()  # a server that died after a change was in the ledger may not have written it there
        weights = await self._weights_again(run, job, scratch)
        await self._use(record.model, files_of(job.custom_objects, self._workspace))
        if record.own is not None:
            data, targets = await in_thread(partial(resuming.client_data_of, run)), None
        else:
            source = RowSource(job, self._models, scratch, kept=run.folder, log=self._log)
            read, targets = await self._read(job, record.model, source, scratch)
            names = [entry.partition(":")[0] for entry in job.parts or ()]
            parts = record.parts
            data = await in_thread(lambda: take(job, record.model, read, parts, names) if parts else run_data_of(read))
            await in_thread(partial(resuming.check_same, run, dict(enumerate(data.shards))))
        # It may have died before shards were assigned: then connected clients count, as at the start.
        owners = run.ledger.owners()
        if not owners:
            try:
                owners = await self._wait(job.clients, PartsByClient.wanted(job), EarlyStart.never(), by_key=False)
            except asyncio.CancelledError:
                _go_on_after_interrupt()
                go_on = resuming.how_to_resume(self._workspace, run.run)
                raise RunInterrupted(f"Interrupted: run {run.run} waits. Resume it with: {go_on}") from None
        return await self._go(handle, job, run, data, weights, owners, targets, scratch)

    async def _weights_again(self, run: OpenRun, job: Job, scratch: Path) -> Mapping[str, AnyArray]:
        """Return the starting weights; if their file is damaged, take them from the model file again.

        Raises:
            InputError: it is not there any more, or it is another by now.
        """
        try:
            return await in_thread(partial(resuming.weights_of, run))
        except LanfitError as lost:
            try:
                path = find_model(self._workspace, job.model)
                custom = files_of(job.custom_objects, self._workspace)
                request = LoadModel(str(path), str(scratch / "weights.block"), custom)
                loaded = await self._models.ask(request, Loaded)
            except LanfitError:
                raise lost from None
            if not resuming.rebuild_weights(run, loaded.weights):
                raise
            self._log(f"Note: {lost.message.partition(': ')[2]}; it is rebuilt from {self._workspace.relative(path)}.")
            return resuming.weights_of(run)

    async def _use(self, model: Model, files: tuple[AllowedFile, ...]) -> None:
        """Allow the model process and the local clients to use the files.

        Other clients need their own copy to get tasks.
        """
        files = files if model.custom else ()
        await self._models.ask(UseModel(model, files), Done)
        if files:
            listed = ", ".join(f"{file.name} (SHA-256 {short(file.sha256)})" for file in files)
            self._log(f"The model uses {', '.join(model.objects)} from {listed}; so do the files of this run.")
        await self._host.allow(files)
        await self._cluster.require(model.custom, model.objects)

    @contextlib.contextmanager
    def _run_folder(self) -> Iterator[Path]:
        """Return a new folder for the files of one run: those of an earlier run may still be mapped."""
        self._number += 1
        folder = self._scratch / f"run-{self._number}"
        folder.mkdir(parents=True)
        if self._number > 1:
            self._cluster.forget_blocks()
            self._cluster.roster.restart_counters()
        try:
            yield folder
        finally:
            self._test = NO_SAMPLES  # else its file stays mapped, which Windows would not remove
            shutil.rmtree(folder, ignore_errors=True)

    # --- the data ------------------------------------------------------------------------------------------------

    async def _read(self, job: Job, model: Model, source: RowSource, scratch: Path) -> tuple[Prepared, Arrays | None]:
        """Read the server's data, and give the test rows to the model process; return their targets."""
        self._log("Reading the data …")
        rows, stop = await source.open(model), threading.Event()
        read = partial(read_data, job, self._workspace, model, scratch, rows, stop)
        data = await in_thread(read, on_cancel=stop.set)
        for line in (*data.notes, *data.warnings):
            self._log(f"Note: {line}.")
        shards = pluralize(len(data.shards), "part" if job.deal == "parts" else "shard")
        self._log(
            f"{pluralize(data.rows, 'row', grouped=True)}: {data.train:,} to train on in {shards}, {data.validation:,} "
            f"for validation, {data.test:,} for the server's test."
        )
        await self._models.ask(UseData(await in_thread(partial(test_rows, data, model, scratch))), Done)
        self._test = data.test_samples
        return data, targets_of_test(data, job)

    async def _partition(
        self, request: RunRequest, model: Model, rows: Prepared, source: RowSource, scratch: Path
    ) -> tuple[RunData, list[str]]:
        """Wait for the clients, and partition the rows among them."""
        job, chosen = request.job, PartsByClient.wanted(request.job)
        impossible: dict[int, InputError] = {}

        def check(clients: int) -> None:
            METHODS[job.method].check(msgspec.structs.replace(job, clients=clients))
            if clients in impossible:
                raise impossible[clients]

        early = EarlyStart.of(job, check)
        while True:
            owners = await self._wait(job.clients, chosen, early, by_key=request.enter_starts, takes=request.takes)
            if chosen is not None:
                return await in_thread(partial(take, job, model, rows, chosen.of_all(owners), owners)), owners
            if len(owners) == job.clients:
                return run_data_of(rows), owners
            folder = scratch / f"for-{len(owners)}"
            folder.mkdir(exist_ok=True)
            try:
                fewer = msgspec.structs.replace(job, clients=len(owners))
                return run_data_of((await self._read(fewer, model, source, folder))[0]), owners
            except InputError as error:
                impossible[len(owners)] = error
                self._log(f"The run can't start with {pluralize(len(owners), 'client')}: {error.message}. {error.hint}")

    async def _wait(
        self,
        clients: int,
        chosen: PartsByClient | None,
        early: EarlyStart,
        *,
        by_key: bool,
        takes: Callable[[Member], bool] | None = None,
    ) -> list[str]:
        """Wait for the clients, and for the parts that they choose."""
        client_wait = ClientWait(self._cluster, self._display, chosen, early, takes=takes)
        with self._waiting(early, by_key), self._display.table(self._cluster.roster.members, self._host.notes):
            owners = await client_wait.wait(clients)
        for note in chosen.notes(owners) if chosen else ():
            self._log(f"Note: {note}.")
        return owners

    @contextlib.contextmanager
    def _waiting(self, early: EarlyStart, by_key: bool) -> Iterator[None]:
        """Let `start_now` start the run without missing clients within this block, if the request allows that."""
        early.by_key = self._is_waiting = by_key
        try:
            yield
        finally:
            self._is_waiting = False

    async def _survey(
        self, request: RunRequest, model: Model, weights: Mapping[str, AnyArray]
    ) -> tuple[RunData, list[str]]:
        """Let the clients read and check their own data; return the merged survey, and the clients."""
        job = request.job
        check_target_normalizer(model.target_normalizer, Target(model.target))
        chosen = PartsByClient.wanted(job)
        early = EarlyStart.of(
            job, lambda clients: METHODS[job.method].check(msgspec.structs.replace(job, clients=clients))
        )
        owners = await self._wait(job.clients, chosen, early, by_key=request.enter_starts)
        client_wait = ClientWait(
            self._cluster,
            self._display,
            chosen,
            early,
            corrects=request.corrects,
            deadline=60 * job.deadline,
            max_weight=job.max_weight,
        )
        try:
            with self._waiting(early, request.enter_starts):
                return await client_wait.survey(owners, Survey(model, client_data(job), serve(self._cluster, weights)))
        finally:
            self._faults = client_wait.faults

    # --- the run -------------------------------------------------------------------------------------------------

    def _begin(
        self, record: RunRecord, weights: Mapping[str, AnyArray], data: RunData, given: ArraySource | None
    ) -> OpenRun:
        self._host.keep_passphrase(record.run)  # before the run can be resumed
        if given is not None:
            given.keep(self._workspace.run_folder(record.run))
        run = open_run(self._workspace, record, weights, data)
        self._host.store.open(run)
        failpoint("server.run-begun")
        return run

    async def _go(
        self,
        handle: RunHandle,
        job: Job,
        run: OpenRun,
        data: RunData,
        weights: Mapping[str, AnyArray],
        owners: Sequence[str],
        targets: Arrays | None,
        scratch: Path,
    ) -> Summary:
        """Complete a run, and end it."""
        handle.run = run.run
        self._watchers.began(RunFacts(run.run, job, run.record, data, tuple(owners), run.folder))
        handle.enter(State.RUNNING)
        self._cluster.waiting_for = f"run {run.run} is in progress; this client gets a task as soon as one is available"
        with (
            # A server does many runs: nothing of a run that has ended stays open.
            contextlib.closing(self._host.store),
            contextlib.closing(Journal(run.folder, run.history_of)) as journal,
            _held(lock_of(self._workspace, run.run)),
        ):
            for name in journal.repaired:
                self._log(f"Note: {name} ended in an incomplete line, which is removed.")
            self._models.retry_when_full = RetryWhenFull("What the model process makes can't be written", self._log)
            began = time.monotonic()
            stats = RunStats()
            shown = await self._show_rows(run, job)
            shell, method, workshop = self._prepare(
                job, run, data, weights, owners, scratch, journal, stats, handle.request.rounds, shown
            )
            self._shell = shell
            try:
                status = await self._run_to_its_end(run, shell, method)
            finally:
                self._shell = None
            finish = Finish(run, job, workshop, stats, self._models, scratch, targets, method.failure)
            outcome = await finish.end(self._cluster.roster, status, began)
            failpoint("server.summary-written")
            handle.finishing(outcome.summary)
            await self._end(run, journal, shell, status, job)
            await self._report(finish, outcome)
            return outcome.summary

    def _prepare(
        self,
        job: Job,
        run: OpenRun,
        data: RunData,
        weights: Mapping[str, AnyArray],
        owners: Sequence[str],
        scratch: Path,
        journal: Journal,
        stats: RunStats,
        rounds: RoundChannel | None,
        shown: ShownRows,
    ) -> tuple[Shell, Method, Workshop]:
        """Assemble the objects of a run."""
        cluster, display, timeouts = self._cluster, self._display, self._timeouts
        dispatch = Dispatch(job, run, cluster, data, weights, shown.sent)
        method, workshop = begin(
            Context(
                job,
                run,
                stats,
                self._models,
                scratch,
                self._log,
                Clients(dispatch, weights, owners, rounds, display.shows_rounds, timeouts.grace),
                shown,
            )
        )
        optimizer = unchecked_spec(run.record.model.compile).optimizer
        terms = Terms(
            run=run.run,
            owners=owners,
            bound=data.own is not None,
            deadline=60 * job.deadline,
            copies=cluster.own_machines,
            epochs=run.record.epochs,
            shown_epochs=job.epochs,
            folds=folds_of(job),
            timeouts=timeouts,
            method=job.method,
            unchangeable=unchangeable(job.local_steps if METHODS[job.method].in_rounds else None, optimizer),
            shown_values=shown.values,
        )
        engine = RunEngine(terms, method, stats.table)
        narrator = Narrator(display, partial(joined, cluster))
        subscribers = (stats, journal, dispatch, narrator, self._watchers.event, shown)
        heartbeat = timeouts.heartbeat
        shell = Shell(run, engine, workshop, cluster, dispatch, journal, display, subscribers, heartbeat)
        return shell, method, workshop

    async def _show_rows(self, run: OpenRun, job: Job) -> ShownRows:
        """Return the test rows whose predictions are shown; none if no watcher follows them."""
        if not self._watchers.follows_predictions:
            return NONE_SHOWN
        model, labels = run.record.model, labels_by_target(run.record.model, run.record.labels)
        watchers = self._watchers.event
        return await in_thread(partial(show_rows, model, self._test, job.seed, labels, run.folder, watchers))

    async def _run_to_its_end(self, run: OpenRun, shell: Shell, method: Method) -> str:
        """Return the status."""
        try:
            with self._display.table(self._cluster.roster.members, self._host.notes):
                await shell.run()
            return method.status()
        except asyncio.CancelledError:
            _go_on_after_interrupt()
            simulated = self._host.server_id == resuming.SIMULATED
            self._log("Interrupted: finished work is kept. Press Ctrl-C again to exit immediately.")
            self._log(f"Resume it with: {resuming.how_to_resume(self._workspace, run.run, simulated=simulated)}")
            await shell.settle()
            return "interrupted"
        except LanfitError:
            # Committed results stay in the ledger, so that a server that only collects can finish the run.
            await shell.announce("failed")
            raise
        finally:
            await shell.close()

    async def _end(self, run: OpenRun, journal: Journal, shell: Shell, status: str, job: Job) -> None:
        self._cluster.waiting_for = f"run {run.run} is over, and the server has no further job yet"
        # Before the ledger records its end: a server that dies in between announces the end again.
        await shell.announce(status)
        failpoint("server.run-announced")
        run.end(status)
        for subscriber in (journal, self._watchers.event):
            subscriber(RunEnded(status), time.monotonic())
        if status != "interrupted":  # else the run can be resumed without asking for the passphrase again
            self._host.forget_passphrase(run.run)
        if job.keep_runs and (old := remove_oldest(self._workspace, job.keep_runs)):
            self._log(f"Removed the oldest finished runs, because of --keep-runs {job.keep_runs}: {', '.join(old)}.")

    async def _report(self, finish: Finish, outcome: Outcome) -> None:
        """Write the reports of a run that has ended. An error here does not change its outcome."""
        try:
            for note in await finish.report(outcome):
                self._log(f"Note: {note}")
        except asyncio.CancelledError:
            _go_on_after_interrupt()
            self._log(f"Interrupted: run {outcome.summary.run} has ended, but not all of its reports are written.")

    async def _end_before_it_began(self, status: str, why: Callable[[str], str]) -> None:
        """Notify every client that there is no run; `why` returns the reason for a client."""
        connected = self._cluster.roster.connected
        await self._cluster.end_run({name: RunEndedMessage("", status, why(name)) for name in connected})

    def _log(self, text: str) -> None:
        self._display.log(text)


def _go_on_after_interrupt() -> None:
    """Accept an interrupt: the rest of the task is not cancelled by it."""
    if (task := asyncio.current_task()) is not None:
        task.uncancel()
