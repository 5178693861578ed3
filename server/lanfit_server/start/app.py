"""The server of the command line: asks, has clients join, and submits a run to its session, or collects results."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace

from lanfit.core.lock import scratch_folder
from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.settings.job import Job
from lanfit.settings.timeouts import Timeouts
from lanfit_server.models.handle import ModelProcess
from lanfit_server.requests import RunRequest
from lanfit_server.run import resume as resuming
from lanfit_server.run.collecting import Collecting
from lanfit_server.run.finalize import Finalizer
from lanfit_server.session import Session, follow
from lanfit_server.start.admission import Admission
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.start.job_prompts import JobPrompts
from lanfit_server.start.options import Options
from lanfit_server.start.prompts import Answers
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Summary
from lanfit_server.ui.display import Display


class Server:
    """A server after its first question; use it once.

    Args:
        host: the answer to it.
    """

    def __init__(
        self,
        options: Options,
        answers: Answers,
        terminal: Terminal,
        loop: LoopThread,
        models: ModelProcess,
        timeouts: Timeouts,
        host: str,
    ) -> None:
        self._options = options
        self._workspace = options.workspace
        self._answers = answers
        self._terminal = terminal
        self._loop = loop
        self._display = Display(terminal)
        self._endpoint = Endpoint(self._workspace, timeouts, host, self._display.log)
        self._cluster = self._endpoint.cluster
        if terminal.take_defaults:  # nothing is asked
            self._cluster.waiting_for = "the server is being set up"
        self._admission = Admission(self._endpoint, options, answers, terminal, loop)
        scratch = scratch_folder(self._workspace.server_state / "scratch")
        self._session = Session(self._workspace, self._endpoint, models, self._display, timeouts, scratch)

    def run(self, run_id: str = "", job: Job | None = None) -> list[Summary]:
        """Listen, continue asking, then train or collect.

        Args:
            run_id, job: of a run that an earlier server did not start before it died; all answers are known.
        """
        with self._loop.within(self._session):
            self._admission.open()
            return [self._train(run_id, job)] if self._answers.start_training() else self._collect()

    # --- training -----------------------------------------------------------------------------------------------

    def _train(self, run_id: str, job: Job | None) -> Summary:
        session = self._session
        prompts = JobPrompts(
            self._answers, self._terminal, self._workspace, session.models, self._loop, session.scratch
        )
        begun = prompts.ask_first(self._endpoint.host, self._endpoint.port)
        passphrase = self._admission.unlock() if job is None else self._admission.unlock_again(job, run_id)
        request = prompts.ask_rest(begun)
        self._start_local(request.job)
        interactive = self._terminal.interactive
        corrects = interactive and not self._terminal.take_defaults
        request = replace(request, name=run_id, enter_starts=interactive, corrects=corrects)
        return self._follow(request, passphrase)

    def resume(self, run_id: str) -> list[Summary]:
        """Resume a run of an earlier server.

        Raises:
            InputError: the run does not belong to this server, or its data has changed.
        """
        with self._loop.within(self._session):
            run = self._loop.call(self._endpoint.take_up(run_id))
            job = resuming.job_of(run)
            self._admission.open()
            self._cluster.waiting_for = f"the server resumes run {run_id}"
            passphrase = self._admission.unlock_again(job, run_id)
            self._display.log(self._loop.call(self._said_of(run)))
            self._start_local(job)
            return [self._follow(RunRequest(job, None, resumes=run_id), passphrase)]

    async def _said_of(self, run: OpenRun) -> str:
        if rounds := len(run.ledger.rounds()):
            done = f"{pluralize(rounds, 'round is', 'rounds are')} done"
        else:
            done = f"{len(run.ledger.results())} of {pluralize(len(run.ledger.tasks()), 'task')} done"
        return f"Resuming run {run.run}: {done}. Its clients reconnect by themselves."

    def _start_local(self, job: Job) -> None:
        if job.local:
            self._loop.call(self._endpoint.start_local(job.local, job.threads or 1))

    def _follow(self, request: RunRequest, passphrase: str | None) -> Summary:
        """Submit a run, and wait for it."""
        with self._keys(passphrase, said=request.job.local < request.job.clients):
            return follow(self._loop, self._session, self._loop.call(self._session.submit(request)), self._options.show)

    @contextlib.contextmanager
    def _keys(self, passphrase: str | None, *, said: bool) -> Iterator[None]:
        """Inside this block, at a terminal, p and Enter shows the passphrase; Enter starts without missing clients.

        Args:
            passphrase: None for that of an unfinished run, of which only the stretched form was saved.
            said: whether the operator is told, because someone may need it.
        """

        def show() -> None:
            kept = (
                "The passphrase is the one that the run was started with; it can't be shown because it was not saved."
            )
            self._terminal.log(kept if passphrase is None else f"The passphrase is: {passphrase}")

        with self._terminal.on_enter(lambda: self._loop.soon(self._session.start_now), {"p": show}) as reads_keys:
            if reads_keys and said:
                self._terminal.log("Type p and press Enter to show the passphrase.")
            yield

    # --- collecting ---------------------------------------------------------------------------------------------

    def _collect(self) -> list[Summary]:
        """Collect the results that clients still hold, then finish the runs that they belong to."""
        self._cluster.collecting = True
        self._cluster.waiting_for = "the server only collects finished results"
        passphrase = self._admission.unlock(self._loop.call(self._unfinished()))
        wanted = int(str(self._answers.given("clients") or 0))
        gathering = self._loop.call(self._collector(wanted))
        try:
            with self._keys(passphrase, said=True):
                self._loop.call(gathering.run())
        except KeyboardInterrupt:
            self._display.log("Interrupted: delivered results are kept.")
        summaries = []
        for run in gathering.runs:
            finalizer = Finalizer(self._workspace, self._session.models, self._session.scratch / run, self._display.log)
            caught_up = finalizer.run(self._endpoint.store.opened(run), self._cluster.roster)
            if (summary := self._loop.call(caught_up)) is not None:
                summaries.append(summary)
        self._loop.call(gathering.end())
        self._loop.call(self._forget_passphrases())
        return summaries

    async def _unfinished(self) -> list[str]:
        """Return the runs for which results may still arrive, oldest first."""
        return sorted({*(run.run for run in self._endpoint.store.unfinished()), *self._endpoint.kept_runs()})

    async def _forget_passphrases(self) -> None:
        self._endpoint.forget_passphrases()

    async def _collector(self, wanted: int) -> Collecting:
        return Collecting(self._cluster, self._endpoint.store, self._display, wanted)
