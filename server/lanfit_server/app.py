"""Puts the server together: answers, model process, cluster, run. The command line is a skin over this."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence

from lanfit.crash import crash_point
from lanfit.data.labels import Target
from lanfit.data.prepare import check_target_normalizer
from lanfit.errors import LanfitError
from lanfit.job import Job
from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.mistakes import mistake
from lanfit.terminal import Terminal
from lanfit.waits import Waits
from lanfit.wire.arrays import AnyArray
from lanfit.wire.messages import Model, RunEnded, Survey
from lanfit_server import resuming
from lanfit_server.asking import JobQuestions
from lanfit_server.assembly import Assembly
from lanfit_server.catching_up import CatchingUp
from lanfit_server.clusters import Hopeless
from lanfit_server.clusters.local import LocalClients
from lanfit_server.collect import OpenRun
from lanfit_server.coordinator import Coordinator
from lanfit_server.display import Display
from lanfit_server.entrance import Entrance
from lanfit_server.evaluate import Done, LoadedSet, ModelProcess, TryBatch, UseData, UseModel
from lanfit_server.finish import Finish
from lanfit_server.gathering import Gathering
from lanfit_server.journal import Journal
from lanfit_server.ledger import RunRecord
from lanfit_server.methods.choose import method_of
from lanfit_server.opening import Options
from lanfit_server.patience import Patience
from lanfit_server.prepare import (
    RunData,
    dealt,
    first_batch,
    new_run_id,
    open_run,
    own_rows,
    read_data,
    record_of,
    targets_of_test,
    test_rows,
)
from lanfit_server.provision import Provision, check_memory, serve
from lanfit_server.questions import Answers
from lanfit_server.scoring import ClientScores
from lanfit_server.sets import load_set, source_of
from lanfit_server.summary import Summary
from lanfit_server.tidying import remove_oldest


class Server:
    """A server after its first question; use it once.

    Args:
        models: the model process; ended by who started it.
    """

    def __init__(
        self,
        options: Options,
        answers: Answers,
        terminal: Terminal,
        loop: LoopThread,
        models: ModelProcess,
        waits: Waits,
    ) -> None:
        self._options = options
        self._workspace = options.workspace
        self._answers = answers
        self._terminal = terminal
        self._display = Display()
        self._loop = loop
        self._models = models
        self._waits = waits

    def run(self, host: str) -> list[Summary]:
        """Listen, ask on, train or collect."""
        with contextlib.ExitStack() as closing:
            self._enter(host, closing).open()
            training = self._answers.start_training()
            self._scratch = scratch_folder(self._workspace.server_state / "scratch")
            closing.callback(self._scratch.remove)
            return [self._train(host, closing)] if training else self._collect()

    def _enter(self, host: str, closing: contextlib.ExitStack) -> Entrance:
        self._entrance = Entrance(self._options, self._answers, self._terminal, self._loop, self._waits, host)
        closing.callback(self._entrance.close)
        self._desk, self._cluster = self._entrance.desk, self._entrance.cluster
        self._cluster.say = self._display.say
        return self._entrance

    # --- training -----------------------------------------------------------------------------------------------

    def _train(self, host: str, closing: contextlib.ExitStack) -> Summary:
        passphrases: list[str | None] = []
        questions = JobQuestions(
            self._answers, self._terminal, self._workspace, self._models, self._loop, self._scratch.folder
        )
        asked = questions.ask(host, self._entrance.port, lambda: passphrases.append(self._entrance.unlock()))
        job, loaded, model = asked.job, asked.loaded, asked.model
        self._loop.call(self._models.ask(UseModel(model), Done))
        if job.local:
            self._start_local(job, passphrases[0], closing)
        weights = loaded.weights.load()
        try:
            if job.data == "client":
                (data, owners), targets = self._survey(job, model, weights), None
            else:
                data, targets = self._read(job, model, asked.keras_set)
                self._loop.call(self._models.ask(TryBatch(first_batch(data, self._scratch.folder)), Done))
                owners = self._gather(job.clients)
            for shard, owner in enumerate(owners):
                check_memory(data, shard, weights, self._cluster.roster[owner])
        except LanfitError:
            self._loop.call(self._cluster.end_all(RunEnded("", "failed", "no run began: the server says why")))
            raise
        if data.labels:
            self._say(f"Labels: {', '.join(f'{number} {word}' for number, word in enumerate(data.labels))}.")
        record = record_of(new_run_id(self._workspace), job, self._entrance.identity.server_id, loaded, model, data)
        run = self._loop.call(self._begin(record, weights, data))
        return self._go(job, run, data, weights, owners, targets, closing)

    def _go(
        self,
        job: Job,
        run: OpenRun,
        data: RunData,
        weights: Mapping[str, AnyArray],
        owners: Sequence[str],
        targets: AnyArray | None,
        closing: contextlib.ExitStack,
    ) -> Summary:
        """Do what is still to be done of a run, and end it."""
        journal = Journal(run.folder)
        closing.callback(journal.close)
        for name in journal.repaired:
            self._say(f"Note: {name} ended in half a line, which is cut off.")
        began = time.monotonic()
        method = method_of(job)
        provision = self._loop.call(self._provide(job, run, data, weights))
        patience = Patience(self._cluster.roster, 60 * job.deadline if data.own is not None else None)
        scores = None
        if data.own is not None and data.test:
            scores = ClientScores(self._cluster, provision, self._display, owners, patience)
        coordinator = Coordinator(
            job,
            run,
            method,
            self._cluster,
            self._models,
            journal,
            self._display,
            provision,
            owners,
            patience,
            self._waits,
        )
        status = self._run_to_its_end(coordinator, scores)
        if status == "interrupted":
            scores = None  # nobody is waited for any more
        finish = Finish(run, job, method, coordinator.course, self._models, self._scratch.folder, targets, scores)
        summary = self._loop.call(finish.end(self._cluster.roster, status, began))
        crash_point("server.summary-written")
        self._loop.call(self._end(run, journal, coordinator, status, job))
        return summary

    # --- going on ------------------------------------------------------------------------------------------------

    def resume(self, run_id: str, host: str) -> list[Summary]:
        """Go on with a run that an earlier server left behind.

        Raises:
            InputError: the run is not this server's, or its data is not what it was.
        """
        with contextlib.ExitStack() as closing:
            entrance = self._enter(host, closing)
            run = self._loop.call(self._reopen(run_id))
            job, record = resuming.job_of(run), run.record
            entrance.open()
            self._scratch = scratch_folder(self._workspace.server_state / "scratch")
            closing.callback(self._scratch.remove)
            self._cluster.waiting_for = f"the server goes on with run {run_id}"
            passphrase = entrance.unlock_again(job)
            self._say(self._loop.call(self._said_of(run)))
            self._loop.call(self._models.ask(UseModel(record.model), Done))
            if job.local:
                self._start_local(job, passphrase, closing)
            weights = resuming.weights_of(run)
            if record.own is not None:
                data, targets = resuming.own_data_of(run), None
            else:
                data, targets = self._read(job, record.model, self._loaded_again(job, record.model))
                resuming.check_same(run, dict(enumerate(data.shards)))
            # It may have died before it dealt: then who is there counts, as at the beginning.
            owners = self._loop.call(self._owners_of(run, job)) or self._gather(job.clients)
            return [self._go(job, run, data, weights, owners, targets, closing)]

    async def _reopen(self, run_id: str) -> OpenRun:
        run = self._desk.find(run_id)
        if run is None:
            raise mistake("resume.other-server", run=run_id)
        for name, client_id in run.ledger.clients().items():
            self._cluster.roster.restore(name, client_id, time.monotonic())
        return run

    async def _said_of(self, run: OpenRun) -> str:
        done, tasks = len(run.ledger.results()), len(run.ledger.tasks())
        return f"Going on with run {run.run}: {done} of {tasks} tasks are done. Its clients come back by themselves."

    async def _owners_of(self, run: OpenRun, job: Job) -> list[str]:
        return resuming.owners_of(run, job)

    def _loaded_again(self, job: Job, model: Model) -> LoadedSet | None:
        if job.dataset is None:
            return None
        self._say(f"Loading {job.dataset} …")
        args = job.dataset_args or ""
        return self._loop.call(load_set(self._models, job.dataset, args, model.input_shape, self._scratch.folder))

    # --- the data ------------------------------------------------------------------------------------------------

    def _read(self, job: Job, model: Model, keras_set: LoadedSet | None) -> tuple[RunData, AnyArray | None]:
        """Read the server's data, and give the model process the test rows; returns their targets."""
        self._say("Reading the data …")
        source = source_of(keras_set, model) if keras_set else None
        data = read_data(job, self._workspace, model, self._scratch.folder, source)
        for line in (*data.notes, *data.warnings):
            self._say(f"Note: {line}.")
        self._say(
            f"{data.rows:,} rows: {data.train:,} to train on in {len(data.shards)} shards, "
            f"{data.validation:,} for validation, {data.test:,} for the server's test."
        )
        self._loop.call(self._models.ask(UseData(test_rows(data, self._scratch.folder)), Done))
        return dealt(data), targets_of_test(data, job)

    def _gather(self, clients: int) -> list[str]:
        """Wait for the clients."""
        with self._display.table(self._cluster.roster.members, self._entrance.notes):
            return self._loop.call(Assembly(self._cluster, self._display).gather(clients))

    def _survey(self, job: Job, model: Model, weights: Mapping[str, AnyArray]) -> tuple[RunData, list[str]]:
        """Let the clients read and check their own data; returns what they have together, and who they are."""
        check_target_normalizer(model.target_normalizer, Target(model.target))
        owners = self._gather(job.clients)

        async def survey() -> tuple[RunData, list[str]]:
            order = Survey(model, own_rows(job), serve(self._cluster, weights))
            return await Assembly(self._cluster, self._display).survey(owners, order)

        return self._loop.call(survey())

    async def _provide(self, job: Job, run: OpenRun, data: RunData, weights: Mapping[str, AnyArray]) -> Provision:
        return Provision(job, run, self._cluster, data, weights)

    async def _end(self, run: OpenRun, journal: Journal, coordinator: Coordinator, status: str, job: Job) -> None:
        run.end(status)
        journal.event("ended", status=status)
        await coordinator.end(status)
        self._entrance.forget_passphrase()
        if job.keep_runs and (old := remove_oldest(self._workspace, job.keep_runs)):
            self._say(f"Removed the oldest finished runs, as --keep-runs {job.keep_runs} says: {', '.join(old)}.")

    def _say(self, text: str) -> None:
        self._display.say(text)

    async def _begin(self, record: RunRecord, weights: Mapping[str, AnyArray], data: RunData) -> OpenRun:
        self._entrance.keep_passphrase()  # before the run is one that can be gone on with
        run = open_run(self._workspace, record, weights, data)
        self._desk.open(run)
        crash_point("server.run-begun")
        return run

    def _start_local(self, job: Job, passphrase: str | None, closing: contextlib.ExitStack) -> None:
        """Start clients on this machine; they are ended with the server."""
        assert passphrase is not None
        port, fingerprint = self._entrance.port, self._entrance.fingerprint
        clients = LocalClients(self._workspace, port, passphrase, fingerprint, job.threads or 1)
        clients.on_death = lambda name, why: self._say(f"The local client {name}: {why}")
        clients.on_giving_up = lambda name: self._cluster.events.put_nowait(
            Hopeless(name, mistake("client.local-gave-up", client=name))
        )
        closing.callback(lambda: self._loop.call(clients.stop()))
        self._loop.call(clients.start(job.local))

    def _run_to_its_end(self, coordinator: Coordinator, scores: ClientScores | None) -> str:
        """Returns the status."""
        running = self._loop.submit(coordinator.run(scores))
        try:
            with self._display.table(self._cluster.roster.members, self._entrance.notes):
                self._loop.result(running)
            return coordinator.status()
        except KeyboardInterrupt:
            self._say("Interrupted: what is done is kept. Ctrl-C again ends at once.")
            self._loop.call(coordinator.score_the_rest())
            return "interrupted"
        except LanfitError:
            # What was committed stays in the ledger: a server that only collects can finish it.
            self._loop.call(coordinator.end("failed"))
            raise

    # --- collecting ---------------------------------------------------------------------------------------------

    def _collect(self) -> list[Summary]:
        """Take in what clients still hold, then bring the runs that it belongs to up to date."""
        self._cluster.collecting = True
        self._cluster.waiting_for = "the server only collects finished results"
        self._entrance.unlock()
        wanted = int(str(self._answers.given("clients") or 0))
        gathering = self._loop.call(self._collector(wanted))
        try:
            self._loop.call(gathering.run())
        except KeyboardInterrupt:
            self._say("Interrupted: what was delivered is kept.")
        summaries = []
        for run in gathering.runs:
            catching_up = CatchingUp(self._workspace, self._models, self._scratch.folder / run, self._say)
            summaries.append(self._loop.call(catching_up.run(self._desk.opened(run), self._cluster.roster)))
        self._loop.call(gathering.end())
        self._loop.call(self._forget_passphrase())
        return summaries

    async def _forget_passphrase(self) -> None:
        self._entrance.forget_passphrase()

    async def _collector(self, wanted: int) -> Gathering:
        return Gathering(self._cluster, self._desk, self._display, wanted)
