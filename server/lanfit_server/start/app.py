"""The server of the command line: asks, has clients join, and submits a run to its session, or collects results."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import replace

from lanfit.core.lock import scratch_folder
from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.errors import LanfitError
from lanfit.settings.fields import Value
from lanfit.settings.job import Job
from lanfit.settings.timeouts import Timeouts
from lanfit_server.models.handle import ModelProcess
from lanfit_server.requests import RunHandle, RunInterrupted, RunRequest, State
from lanfit_server.run import resume as resuming
from lanfit_server.session import Session, follow
from lanfit_server.start.collecting import Collector
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.start.endpoint_setup import EndpointSetup, join_command
from lanfit_server.start.finalize import Finalizer
from lanfit_server.start.job_prompts import JobPrompts
from lanfit_server.start.options import Options
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.start.prompts import Answers
from lanfit_server.start.watchers import new_page, watchers_of_runs
from lanfit_server.store.result_store import OpenRun
from lanfit_server.store.summary import Summary
from lanfit_server.ui.display import Display
from lanfit_server.watchers import Watcher

#: How often a server that stays looks for outcomes, in seconds.
LOOK_SECONDS = 0.2


class Outcomes(Watcher):
    """The outcomes of runs that were set up on the page, until they are shown."""

    def __init__(self) -> None:
        self._new: queue.SimpleQueue[Summary] = queue.SimpleQueue()
        self._elsewhere: list[RunRequest] = []

    def leave_to_submitter(self, request: RunRequest) -> None:
        """Leave the outcome of this request to its submitter."""
        self._elsewhere.append(request)

    def request(self, handle: RunHandle) -> None:
        if handle.state is State.FINISHING and handle.summary is not None:
            if any(handle.request is each for each in self._elsewhere):
                return
            self._new.put(handle.summary)

    def take(self) -> list[Summary]:
        """Return those that have come since."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._new.get_nowait())
        return found


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
        page: PageSettings,
        defaults: Mapping[str, Value],
    ) -> None:
        self._options = options
        self._timeouts = timeouts
        self._workspace = options.workspace
        self._answers = answers
        self._terminal = terminal
        self._loop = loop
        self._defaults = {**defaults, **options.given}
        self._page = new_page(page, lambda: self._cluster.roster.members())
        self._outcomes = Outcomes()
        watchers = watchers_of_runs(*([self._page.board, self._outcomes] if self._page is not None else []))
        self._display = Display(terminal, watchers)
        self._endpoint = Endpoint(self._workspace, timeouts, host, self._display.log)
        self._cluster = self._endpoint.cluster
        if terminal.take_defaults:  # nothing is asked
            self._cluster.waiting_for = "the server is being set up"
        self._endpoint_setup = EndpointSetup(self._endpoint, options, answers, terminal, loop)
        scratch = scratch_folder(self._workspace.server_state / "scratch")
        self._session = Session(self._workspace, self._endpoint, models, self._display, timeouts, scratch, watchers)

    @contextlib.contextmanager
    def _served(self) -> Iterator[None]:
        """Serve the live page in this block, and print its link."""
        page = self._page
        if page is None:
            yield
            return
        command = join_command(self._endpoint, self._workspace)
        certificate = self._endpoint.certificate
        opened = page.open(self._workspace, self._session, self._endpoint, certificate, self._timeouts, self._defaults)
        self._loop.call(opened)
        try:
            self._loop.soon(lambda: page.shows_joining(command))
            for line in page.lines():
                self._terminal.log(line)
            yield
        finally:
            self._loop.call(page.close())

    def _show_passphrase(self, passphrase: str | None) -> None:
        """Show it in the lobby, to the teacher."""
        if (page := self._page) is not None:
            self._loop.soon(lambda: page.board.update("server", passphrase=passphrase))

    def serve(self) -> list[Summary]:
        """Run the requests of the live page, until the server is ended."""
        self._cluster.waiting_for = "no run has been set up yet"
        with self._loop.within(self._session):
            self._endpoint_setup.open()
            with self._served():
                passphrase = self._endpoint_setup.unlock()
                self._show_passphrase(passphrase)
                self._stay(passphrase)
        return []

    def _stay(self, passphrase: str | None) -> None:
        """Keep the page, and do the runs that are set up there, until Enter or Ctrl-C."""
        if self._page is None or not self._options.stays:
            return
        over = threading.Event()

        def end() -> None:
            if (current := self._session.current) is None:
                over.set()
            else:
                run = f"run {current.run}" if current.run else "a run"
                self._terminal.log(f"The server does {run}: stop it on the page, or press Ctrl-C.")

        with self._terminal.on_enter(end, {"p": lambda: self._log_passphrase(passphrase)}) as reads_keys:
            how = "Enter or Ctrl-C ends it" if reads_keys else "it ends with a request to terminate"
            self._terminal.log(f"The live page stays open for further runs; {how}.")
            try:
                while not over.wait(LOOK_SECONDS):
                    for summary in self._outcomes.take():
                        self._options.show(summary)
            except KeyboardInterrupt:
                self._interrupt_current()
        for summary in self._outcomes.take():
            self._options.show(summary)

    def _interrupt_current(self) -> None:
        """End the current run with its results so far; a second Ctrl-C is raised."""
        if (current := self._session.current) is not None:
            self._loop.soon(lambda: self._session.interrupt(current))
            with contextlib.suppress(RunInterrupted, LanfitError, OSError):
                self._loop.call(current.ended())

    def run(self, run_id: str = "", job: Job | None = None) -> list[Summary]:
        """Listen, continue asking, then train or collect.

        Args:
            run_id, job: of a run that an earlier server did not start before it died; all answers are known.
        """
        with self._loop.within(self._session):
            self._endpoint_setup.open()
            return [self._train(run_id, job)] if self._answers.start_training() else self._collect()

    # --- training -----------------------------------------------------------------------------------------------

    def _train(self, run_id: str, job: Job | None) -> Summary:
        session = self._session
        prompts = JobPrompts(
            self._answers, self._terminal, self._workspace, session.models, self._loop, session.scratch
        )
        with self._served():
            begun = prompts.ask_first(self._endpoint.host, self._endpoint.port)
            passphrase = (
                self._endpoint_setup.unlock() if job is None else self._endpoint_setup.unlock_again(job, run_id)
            )
            self._show_passphrase(passphrase)
            request = prompts.ask_rest(begun)
            self._start_local(request.job)
            interactive = self._terminal.interactive
            corrects = interactive and not self._terminal.take_defaults
            request = replace(request, name=run_id, enter_starts=interactive, corrects=corrects)
            summary = self._follow(request, passphrase)
            self._stay(passphrase)
            return summary

    def resume(self, run_id: str) -> list[Summary]:
        """Resume a run of an earlier server.

        Raises:
            InputError: the run does not belong to this server, or its data has changed.
        """
        with self._loop.within(self._session):
            run = self._loop.call(self._endpoint.take_up(run_id))
            job = resuming.job_of(run)
            self._endpoint_setup.open()
            self._cluster.waiting_for = f"the server resumes run {run_id}"
            passphrase = self._endpoint_setup.unlock_again(job, run_id)
            self._display.log(self._loop.call(self._line_about(run)))
            self._start_local(job)
            with self._served():
                self._show_passphrase(passphrase)
                summary = self._follow(RunRequest(job, None, resumes=run_id), passphrase)
                self._stay(passphrase)
            return [summary]

    async def _line_about(self, run: OpenRun) -> str:
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
        self._outcomes.leave_to_submitter(request)
        with self._keys(passphrase, explained=request.job.local < request.job.clients):
            return follow(self._loop, self._session, self._loop.call(self._session.submit(request)), self._options.show)

    @contextlib.contextmanager
    def _keys(self, passphrase: str | None, *, explained: bool) -> Iterator[None]:
        """Inside this block, at a terminal, p and Enter shows the passphrase; Enter starts without missing clients.

        Args:
            passphrase: None for that of an unfinished run, of which only the stretched form was saved.
            said: whether a line explains the key, because another user may need the passphrase.
        """

        keys = {"p": lambda: self._log_passphrase(passphrase)}
        with self._terminal.on_enter(lambda: self._loop.soon(self._session.start_now), keys) as reads_keys:
            if reads_keys and explained:
                self._terminal.log("Type p and press Enter to show the passphrase.")
            yield

    def _log_passphrase(self, passphrase: str | None) -> None:
        kept = "The passphrase is the one that the run was started with; it can't be shown because it was not saved."
        self._terminal.log(kept if passphrase is None else f"The passphrase is: {passphrase}")

    # --- collecting ---------------------------------------------------------------------------------------------

    def _collect(self) -> list[Summary]:
        """Collect the results that clients still hold, then finish the runs that they belong to.

        There is no live page: it shows and starts what is trained, and here nothing is.
        """
        if self._page is not None:
            self._terminal.log("There is no live page: this server only collects finished results, and trains nothing.")
        self._cluster.collecting = True
        self._cluster.waiting_for = "the server only collects finished results"
        passphrase = self._endpoint_setup.unlock(self._loop.call(self._unfinished()))
        wanted = int(str(self._answers.given("clients") or 0))
        collector = self._loop.call(self._collector(wanted))
        try:
            with self._keys(passphrase, explained=True):
                self._loop.call(collector.run())
        except KeyboardInterrupt:
            self._display.log("Interrupted: delivered results are kept.")
        summaries = []
        for run in collector.runs:
            finalizer = Finalizer(self._workspace, self._session.models, self._session.scratch / run, self._display.log)
            finalized = finalizer.run(self._endpoint.store.opened(run), self._cluster.roster)
            if (summary := self._loop.call(finalized)) is not None:
                summaries.append(summary)
        self._loop.call(collector.end())
        self._loop.call(self._forget_passphrases())
        return summaries

    async def _unfinished(self) -> list[str]:
        """Return the runs for which results may still arrive, oldest first."""
        return sorted({*(run.run for run in self._endpoint.store.unfinished()), *self._endpoint.kept_runs()})

    async def _forget_passphrases(self) -> None:
        self._endpoint.forget_passphrases()

    async def _collector(self, wanted: int) -> Collector:
        return Collector(self._cluster, self._endpoint.store, self._display, wanted)
