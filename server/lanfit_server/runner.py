"""Runs jobs, one after another, on those who came in: from a job, its model and its rows to a summary. Asks nothing."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec

from lanfit.crash import crash_point
from lanfit.data.labels import Target
from lanfit.data.prepare import Prepared, check_target_normalizer
from lanfit.data.sources import Source
from lanfit.errors import InputError, LanfitError
from lanfit.job import Job
from lanfit.lock import FolderLock
from lanfit.loop import LoopThread
from lanfit.models.custom import AllowedFile, short
from lanfit.models.member import Member
from lanfit.room import Room
from lanfit.text import pluralize
from lanfit.waits import Waits
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model, RunEnded, Survey
from lanfit.workspace import Workspace
from lanfit_server import resuming
from lanfit_server.apart import Apart
from lanfit_server.assembly import Assembly, why_no_run_began
from lanfit_server.class_table import lines_of_deal
from lanfit_server.clusters import BeginNow, Cluster
from lanfit_server.collect import Desk, OpenRun
from lanfit_server.coordinator import Coordinator
from lanfit_server.course import Course
from lanfit_server.custom_files import files_of
from lanfit_server.damage import mend
from lanfit_server.display import Display
from lanfit_server.early_start import EarlyStart, announcement, with_fewer
from lanfit_server.evaluate import Done, Loaded, LoadModel, ModelProcess, TryBatch, UseData, UseModel
from lanfit_server.finish import Finish
from lanfit_server.given_rows import GivenRows
from lanfit_server.global_weights import GlobalWeights
from lanfit_server.journal import Journal
from lanfit_server.ledger import RunRecord
from lanfit_server.makers import Maker
from lanfit_server.methods.choose import check_evaluation, check_method, method_of
from lanfit_server.methods.federated import Federated
from lanfit_server.parts import Takers, replace_parts
from lanfit_server.patience import Patience
from lanfit_server.prepare import (
    RunData,
    dealt,
    first_batch,
    new_run_id,
    no_rows,
    open_run,
    own_rows,
    patience_note,
    record_of,
    take,
    targets_of_test,
    test_rows,
)
from lanfit_server.provision import Provision, check_memory, serve
from lanfit_server.questions import find_model
from lanfit_server.reading import read_data
from lanfit_server.rounds import OnRound, Rounds
from lanfit_server.scoring import ClientScores
from lanfit_server.summary import Summary
from lanfit_server.tidying import remove_oldest

#: Like `Terminal.on_enter`.
OnEnter = Callable[[Callable[[], None]], contextlib.AbstractContextManager[bool]]
#: Gives the rows when they are needed; None for those of the workspace's folders.
Rows = Callable[[], Source | None]


class Ground(Protocol):
    """Where runs take place: `Entrance` for clients over TCP."""

    desk: Desk

    @property
    def cluster(self) -> Cluster: ...

    @property
    def server_id(self) -> bytes: ...

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        """Let the clients that were started here execute these files."""
        ...

    def keep_passphrase(self, run: str) -> None: ...

    def forget_passphrase(self, run: str) -> None: ...

    def notes(self) -> list[str]: ...


@dataclass(frozen=True)
class Order:
    """What is to be run: a job, what its model file holds and what is made of it, and where the rows come from."""

    job: Job
    loaded: Loaded
    model: Model
    rows: Rows
    remark: str = ""
    """Comments that stand above the job in the run's job.toml."""
    given: GivenRows | None = None
    """What `rows` are made of, where a Python program gave them: kept while the run is unfinished."""
    custom: tuple[AllowedFile, ...] = ()
    """The files with custom objects that the job names."""
    notes: tuple[str, ...] = ()
    """What is to be said about the model, if nobody has said it yet."""
    run: str = ""
    """What the run is called; empty for a new name."""


def lock_of(workspace: Workspace, run: str) -> Path:
    """The folder that is locked as long as a process works on a run."""
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
    """Runs jobs on one ground with one model process.

    Args:
        models: ended by who started it.
        scratch: a folder for what is only needed while a run goes on.
    """

    def __init__(
        self,
        workspace: Workspace,
        ground: Ground,
        models: ModelProcess,
        loop: LoopThread,
        display: Display,
        waits: Waits,
        scratch: Path,
    ) -> None:
        self._workspace = workspace
        self._ground = ground
        self._cluster = ground.cluster
        self._models = models
        self._loop = loop
        self._display = display
        self._waits = waits
        self._scratch = scratch
        self._number = 0
        self.on_round: OnRound | None = None
        """With rounds: called with every one, and decides whether there is a next one."""
        self.on_enter: OnEnter = lambda call: contextlib.nullcontext(False)
        """Calls something for every Enter at the operator's terminal inside its block; yields whether it can."""
        self.corrects = False
        """Whether the operator is there to have clients' files corrected, which are waited for then."""
        self._faults: Mapping[str, LanfitError] = {}
        """What was wrong with the own files of clients when the last run did not begin."""
        self.on_outcome: Callable[[Summary], None] = lambda summary: None
        """Called when the models and the summary of a run are on disk; its report and its end are still to come."""

    def train(self, order: Order) -> Summary:
        """Begin a run, and do it to its end.

        Raises:
            LanfitError: nothing was begun, or the run can't go on.
            KeyboardInterrupt: Ctrl-C before the run had begun; later the run is ended, and has a summary.
        """
        self._faults = {}
        self._cluster.waiting_for = "the server reads its model and its data"
        with self._room() as scratch:
            job, model = order.job, order.model
            self._use(model, order.custom)
            weights = order.loaded.weights.load()
            try:
                check_method(job)
                for note in order.notes:
                    self._say(f"Note: {note}.")
                if job.data == "client":
                    self._loop.call(self._models.ask(UseData(no_rows(scratch)), Done))
                    (data, owners), targets = self._survey(job, model, weights), None
                    check_evaluation(job, data.validation, data.test)
                else:
                    rows, targets = self._read(job, model, order.rows, scratch)
                    check_evaluation(job, rows.validation, rows.test)
                    self._loop.call(self._models.ask(TryBatch(first_batch(dealt(rows), scratch)), Done))
                    data, owners = self._deal(order, rows, scratch)
                if len(owners) < job.clients:
                    self._say(announcement(job, owners))
                job = replace_parts(with_fewer(job, owners), owners, data.parts)
                for shard, owner in enumerate(owners):
                    check_memory(data, shard, weights, self._cluster.roster[owner])
            except LanfitError:
                why = partial(why_no_run_began, self._faults)
                self._loop.call(self._end_before_it_began("failed", why))
                raise
            except KeyboardInterrupt:
                stopped = "no run began: the server was stopped"
                self._loop.call(self._end_before_it_began("interrupted", lambda name: stopped))
                raise KeyboardInterrupt("Interrupted before the run had begun: nothing was trained.") from None
            if data.labels:
                self._say(f"Labels: {', '.join(f'{number} {word}' for number, word in enumerate(data.labels))}.")
            if note := patience_note(job, data.validation):
                self._say(f"Note: {note}.")
            for line in lines_of_deal(job, model, data, owners):
                self._say(line)
            name = order.run or new_run_id(self._workspace)
            record = record_of(name, job, self._ground.server_id, order.loaded, model, data)
            wanted = order.job.clients if len(owners) < order.job.clients else None
            record = msgspec.structs.replace(record, job=order.remark + record.job, clients_wanted=wanted)
            run = self._loop.call(self._begin(record, weights, data, order.given))
            return self._go(job, run, data, weights, owners, targets, scratch)

    def resume(self, run: OpenRun, job: Job, rows: Rows) -> Summary:
        """Go on with a run that an earlier server left behind.

        Raises:
            InputError: its data is not what it was.
        """
        with self._room() as scratch:
            record = run.record
            self._loop.call(mend(run, self._say))
            weights = self._weights_again(run, job, scratch)
            self._use(record.model, files_of(job.custom_objects, self._workspace))
            if record.own is not None:
                data, targets = resuming.own_data_of(run), None
            else:
                read, targets = self._read(job, record.model, rows, scratch)
                names = [entry.partition(":")[0] for entry in job.parts or ()]
                data = take(job, record.model, read, record.parts, names) if record.parts else dealt(read)
                resuming.check_same(run, dict(enumerate(data.shards)))
            # It may have died before it dealt: then who is there counts, as at the beginning.
            owners = self._loop.call(self._owners_of(run))
            if not owners:
                try:
                    owners = self._gather(job.clients, Takers.wanted(job), EarlyStart.never())
                except KeyboardInterrupt:
                    go_on = resuming.how_to_resume(self._workspace, run.run)
                    raise KeyboardInterrupt(f"Interrupted: run {run.run} waits. Go on with it by: {go_on}") from None
            return self._go(job, run, data, weights, owners, targets, scratch)

    def _weights_again(self, run: OpenRun, job: Job, scratch: Path) -> Mapping[str, AnyArray]:
        """The starting weights; those that the disk has lost are taken from the model's file once more.

        Raises:
            InputError: it is not there any more, or it is another by now.
        """
        try:
            return resuming.weights_of(run)
        except LanfitError as lost:
            try:
                path = find_model(self._workspace, job.model)
                custom = files_of(job.custom_objects, self._workspace)
                request = LoadModel(str(path), str(scratch / "weights.block"), custom)
                loaded = self._loop.call(self._models.ask(request, Loaded))
            except LanfitError:
                raise lost from None
            if not resuming.rebuild_weights(run, loaded.weights):
                raise
            self._say(f"Note: {lost.message.partition(': ')[2]}; it is rebuilt from {self._workspace.relative(path)}.")
            return resuming.weights_of(run)

    def _use(self, model: Model, files: tuple[AllowedFile, ...]) -> None:
        """Let the model process and the operator's own clients use the files; others have them, or get no task."""
        files = files if model.custom else ()
        self._loop.call(self._models.ask(UseModel(model, files), Done))
        if files:
            listed = ", ".join(f"{file.name} (SHA-256 {short(file.sha256)})" for file in files)
            self._say(f"The model uses {', '.join(model.objects)} from {listed}; so do the files of this run.")
        self._loop.call(self._ground.allow(files))
        self._loop.call(self._cluster.require(model.custom, model.objects))

    @contextlib.contextmanager
    def _room(self) -> Iterator[Path]:
        """A new folder for the files of one run: those of an earlier one may still be mapped."""
        self._number += 1
        folder = self._scratch / f"run-{self._number}"
        folder.mkdir(parents=True)
        if self._number > 1:
            self._loop.call(self._forget_earlier())
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def _forget_earlier(self) -> None:
        self._cluster.forget_blocks()
        self._cluster.roster.count_anew()

    async def _owners_of(self, run: OpenRun) -> list[str]:
        return run.ledger.owners()

    # --- the data ------------------------------------------------------------------------------------------------

    def _read(self, job: Job, model: Model, rows: Rows, scratch: Path) -> tuple[Prepared, AnyArray | None]:
        """Read the server's data, and give the model process the test rows; returns their targets."""
        self._say("Reading the data …")
        data = read_data(job, self._workspace, model, scratch, rows())
        for line in (*data.notes, *data.warnings):
            self._say(f"Note: {line}.")
        pieces = pluralize(len(data.shards), "part" if job.deal == "parts" else "shard")
        self._say(
            f"{pluralize(data.rows, 'row', grouped=True)}: {data.train:,} to train on in {pieces}, "
            f"{data.validation:,} for validation, {data.test:,} for the server's test."
        )
        self._loop.call(self._models.ask(UseData(test_rows(data, scratch)), Done))
        return data, targets_of_test(data, job)

    def _deal(self, order: Order, rows: Prepared, scratch: Path) -> tuple[RunData, list[str]]:
        """Wait for the clients, and deal the rows to those who come."""
        job, model, takers = order.job, order.model, Takers.wanted(order.job)
        impossible: dict[int, InputError] = {}

        def check(clients: int) -> None:
            check_method(msgspec.structs.replace(job, clients=clients))
            if clients in impossible:
                raise impossible[clients]

        early = EarlyStart.of(job, check)
        while True:
            owners = self._gather(job.clients, takers, early)
            if takers is not None:
                return take(job, model, rows, takers.of_all(owners), owners), owners
            if len(owners) == job.clients:
                return dealt(rows), owners
            folder = scratch / f"for-{len(owners)}"
            folder.mkdir(exist_ok=True)
            try:
                fewer = msgspec.structs.replace(job, clients=len(owners))
                return dealt(self._read(fewer, model, order.rows, folder)[0]), owners
            except InputError as wrong:
                impossible[len(owners)] = wrong
                self._say(f"It can't begin with {pluralize(len(owners), 'client')}: {wrong.message}. {wrong.hint}")

    def _gather(self, clients: int, takers: Takers | None, early: EarlyStart) -> list[str]:
        """Wait for the clients, and for what they take."""
        assembly = Assembly(self._cluster, self._display, takers, early)
        with self._enter(early), self._display.table(self._cluster.roster.members, self._ground.notes):
            owners = self._loop.call(assembly.gather(clients))
        for note in takers.notes(owners) if takers else ():
            self._say(f"Note: {note}.")
        return owners

    @contextlib.contextmanager
    def _enter(self, early: EarlyStart) -> Iterator[None]:
        """Inside this block Enter begins without the missing."""
        if not early.least:
            yield
            return

        def press() -> None:
            self._loop.soon(lambda: self._cluster.events.put_nowait(BeginNow()))

        with self.on_enter(press) as early.by_key:
            yield

    def _survey(self, job: Job, model: Model, weights: Mapping[str, AnyArray]) -> tuple[RunData, list[str]]:
        """Let the clients read and check their own data; returns what they have together, and who they are."""
        check_target_normalizer(model.target_normalizer, Target(model.target))
        takers = Takers.wanted(job)
        early = EarlyStart.of(job, lambda clients: check_method(msgspec.structs.replace(job, clients=clients)))
        owners = self._gather(job.clients, takers, early)

        async def survey() -> tuple[RunData, list[str]]:
            order = Survey(model, own_rows(job), serve(self._cluster, weights))
            return await assembly.survey(owners, order)

        assembly = Assembly(
            self._cluster,
            self._display,
            takers,
            early,
            corrects=self.corrects,
            deadline=60 * job.deadline,
            max_weight=job.max_weight,
        )
        try:
            with self._enter(early):
                return self._loop.call(survey())
        finally:
            self._faults = assembly.faults

    # --- the run -------------------------------------------------------------------------------------------------

    async def _begin(
        self, record: RunRecord, weights: Mapping[str, AnyArray], data: RunData, given: GivenRows | None
    ) -> OpenRun:
        self._ground.keep_passphrase(record.run)  # before the run is one that can be gone on with
        if given is not None:
            given.keep(self._workspace.run_folder(record.run))
        run = open_run(self._workspace, record, weights, data)
        self._ground.desk.open(run)
        crash_point("server.run-begun")
        return run

    def _go(
        self,
        job: Job,
        run: OpenRun,
        data: RunData,
        weights: Mapping[str, AnyArray],
        owners: Sequence[str],
        targets: AnyArray | None,
        scratch: Path,
    ) -> Summary:
        """Do what is still to be done of a run, and end it."""
        self._cluster.waiting_for = (
            f"run {run.run} is under way; this client gets a task as soon as there is one for it"
        )
        with (
            self._closing_ledgers(),
            contextlib.closing(Journal(run.folder)) as journal,
            _held(lock_of(self._workspace, run.run)),
        ):
            self._display.began(run.run)
            for name in journal.repaired:
                self._say(f"Note: {name} ended in half a line, which is cut off.")
            self._models.room = Room("What the model process makes can't be written", self._say)
            began = time.monotonic()
            provision = self._loop.call(self._provide(job, run, data, weights))
            patience = Patience(self._cluster.roster, 60 * job.deadline if data.own is not None else None)
            scores = None
            if data.own is not None and data.test:
                scores = ClientScores(
                    self._cluster, provision, self._display, owners, patience, 60 * job.deadline, job.max_weight
                )
            course = Course()
            maker = self._maker(job, run, course, provision, weights, owners, patience, scores)
            coordinator = Coordinator(
                job,
                run,
                maker,
                course,
                self._cluster,
                journal,
                self._display,
                provision,
                owners,
                patience,
                self._waits,
            )
            status = self._run_to_its_end(run, coordinator, maker)
            finish = Finish(run, job, maker, course, self._models, scratch, targets)
            summary = self._loop.call(finish.end(self._cluster.roster, status, began))
            crash_point("server.summary-written")
            self.on_outcome(summary)
            self._loop.call(finish.report(summary))
            self._loop.call(self._end(run, journal, coordinator, status, job))
            return summary

    @contextlib.contextmanager
    def _closing_ledgers(self) -> Iterator[None]:
        """A server does any number of runs: once a run is over, nothing of it stays open."""

        async def close() -> None:
            self._ground.desk.close()

        try:
            yield
        finally:
            self._loop.call(close())

    def _maker(
        self,
        job: Job,
        run: OpenRun,
        course: Course,
        provision: Provision,
        weights: Mapping[str, AnyArray],
        owners: Sequence[str],
        patience: Patience,
        scores: ClientScores | None,
    ) -> Maker:
        """What makes models of the results of this job's method."""
        method = method_of(job)
        if not isinstance(method, Federated):
            return Apart(job, run, method, course, self._models, scores)
        constants = Member({}, provision.data.normalizer, provision.data.targets).constants()
        together = GlobalWeights(job, weights, constants, run.record.trainable)
        roster, say = self._cluster.roster, self._display.say
        # Where rows were dealt nobody is waited for: what is missing is only a figure.
        willing = patience if provision.data.own is not None else Patience(roster, 0)
        limit = job.round_deadline or 60 * job.deadline
        asking = ClientScores(self._cluster, provision, self._display, owners, willing, limit, job.max_weight)
        rounds = Rounds(
            job, run, method, course, self._models, provision, together, owners, roster, say, asking, scores
        )
        rounds.on_round = self.on_round
        rounds.heard = self._display.round
        rounds.grace = self._waits.grace
        rounds.is_heard = self._display.shows_rounds
        return rounds

    async def _provide(self, job: Job, run: OpenRun, data: RunData, weights: Mapping[str, AnyArray]) -> Provision:
        return Provision(job, run, self._cluster, data, weights)

    def _run_to_its_end(self, run: OpenRun, coordinator: Coordinator, maker: Maker) -> str:
        """Returns the status."""
        running = self._loop.submit(coordinator.run())
        try:
            with self._display.table(self._cluster.roster.members, self._ground.notes):
                self._loop.result(running)
            return maker.status()
        except KeyboardInterrupt:
            simulated = self._ground.server_id == resuming.SIMULATED
            go_on = resuming.how_to_resume(self._workspace, run.run, simulated=simulated)
            self._say("Interrupted: what is done is kept. Ctrl-C again ends at once.")
            self._say(f"Go on with it by: {go_on}")
            self._loop.call(maker.settle(waiting=False))  # nobody is waited for any more
            return "interrupted"
        except LanfitError:
            # What was committed stays in the ledger: a server that only collects can finish it.
            self._loop.call(coordinator.end("failed"))
            raise

    async def _end(self, run: OpenRun, journal: Journal, coordinator: Coordinator, status: str, job: Job) -> None:
        run.end(status)
        self._cluster.waiting_for = f"run {run.run} is over, and the server has no other job yet"
        journal.event("ended", status=status)
        await coordinator.end(status)
        if status != "interrupted":  # else the run can be gone on with, without asking for it again
            self._ground.forget_passphrase(run.run)
        if job.keep_runs and (old := remove_oldest(self._workspace, job.keep_runs)):
            self._say(f"Removed the oldest finished runs, as --keep-runs {job.keep_runs} says: {', '.join(old)}.")

    async def _end_before_it_began(self, status: str, why: Callable[[str], str]) -> None:
        """Tell every client that there is no run; `why` says to whom what."""
        connected = self._cluster.roster.connected
        await self._cluster.end_run({name: RunEnded("", status, why(name)) for name in connected})

    def _say(self, text: str) -> None:
        self._display.say(text)
