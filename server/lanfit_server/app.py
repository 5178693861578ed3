"""Puts the server together: answers, model process, entrance, runs. The command line is a skin over this."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from lanfit.job import Job
from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.mistakes import mistake
from lanfit.terminal import Terminal
from lanfit.text import pluralize
from lanfit.waits import Waits
from lanfit_server import resuming
from lanfit_server.admission import Admission
from lanfit_server.asking import JobQuestions
from lanfit_server.catching_up import CatchingUp
from lanfit_server.collect import OpenRun
from lanfit_server.display import Display
from lanfit_server.entrance import Entrance
from lanfit_server.evaluate import ModelProcess
from lanfit_server.gathering import Gathering
from lanfit_server.opening import Options
from lanfit_server.questions import Answers
from lanfit_server.runner import Order, Runner
from lanfit_server.sets import rows_again
from lanfit_server.summary import Summary


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
        self._display = Display(terminal)
        self._loop = loop
        self._models = models
        models.say_with(self._display.say)
        self._waits = waits
        self._reads_keys = False
        self._on_press: Callable[[], None] | None = None

    def run(self, host: str, run_id: str = "", job: Job | None = None) -> list[Summary]:
        """Listen, ask on, train or collect.

        Args:
            run_id, job: of a run that an earlier server did not live to begin; all answers are there.
        """
        with contextlib.ExitStack() as closing:
            admission = self._enter(host, closing)
            admission.open()
            training = self._answers.start_training()
            self._take_scratch(closing)
            return [self._train(host, admission, run_id, job)] if training else self._collect(admission)

    def _enter(self, host: str, closing: contextlib.ExitStack) -> Admission:
        self._entrance = Entrance(self._workspace, self._loop, self._waits, host)
        closing.callback(self._entrance.close)
        self._cluster = self._entrance.cluster
        self._cluster.say = self._display.say
        if self._terminal.take_defaults:  # nobody is asked anything
            self._cluster.waiting_for = "the server is being set up"
        return Admission(self._entrance, self._options, self._answers, self._terminal)

    def _take_scratch(self, closing: contextlib.ExitStack) -> None:
        scratch = scratch_folder(self._workspace.server_state / "scratch")
        closing.callback(scratch.remove)
        self._scratch = scratch.folder

    def _runner(self) -> Runner:
        runner = Runner(
            self._workspace, self._entrance, self._models, self._loop, self._display, self._waits, self._scratch
        )
        runner.on_enter = self._taking_enter
        runner.corrects = self._terminal.interactive and not self._terminal.take_defaults
        return runner

    # --- training -----------------------------------------------------------------------------------------------

    def _train(self, host: str, admission: Admission, run_id: str, job: Job | None) -> Summary:
        passphrases: list[str | None] = []
        questions = JobQuestions(
            self._answers, self._terminal, self._workspace, self._models, self._loop, self._scratch
        )

        def unlock() -> None:
            passphrases.append(admission.unlock() if job is None else admission.unlock_again(job, run_id))

        asked = questions.ask(host, self._entrance.port, unlock)
        self._start_local(asked.job, passphrases[0])
        order = Order(asked.job, asked.loaded, asked.model, asked.source, custom=asked.custom, run=run_id)
        with self._keys(passphrases[0], said=asked.job.local < asked.job.clients):
            return self._runner().train(order)

    @contextlib.contextmanager
    def _keys(self, passphrase: str | None, *, said: bool) -> Iterator[None]:
        """Inside this block, at a terminal, p and Enter shows the passphrase, and Enter does what the run makes of it.

        Args:
            passphrase: None for that of an unfinished run, of which only the stretched form was kept.
            said: whether the operator is told, because somebody may need it.
        """

        def show() -> None:
            kept = "The passphrase is the one that the run was begun with; it can't be shown, as it was not kept."
            self._terminal.say(kept if passphrase is None else f"The passphrase is: {passphrase}")

        def press() -> None:
            if self._on_press is not None:
                self._on_press()

        with self._terminal.on_enter(press, {"p": show}) as self._reads_keys:
            if self._reads_keys and said:
                self._terminal.say("p and Enter shows the passphrase.")
            yield

    @contextlib.contextmanager
    def _taking_enter(self, call: Callable[[], None]) -> Iterator[bool]:
        """Call this for every Enter inside this block; yields whether that is possible."""
        self._on_press = call
        try:
            yield self._reads_keys
        finally:
            self._on_press = None

    def _start_local(self, job: Job, passphrase: str | None) -> None:
        if job.local:
            assert passphrase is not None
            self._entrance.start_local(job.local, job.threads or 1, passphrase, self._display.say)

    # --- going on ------------------------------------------------------------------------------------------------

    def resume(self, run_id: str, host: str) -> list[Summary]:
        """Go on with a run that an earlier server left behind.

        Raises:
            InputError: the run is not this server's, or its data is not what it was.
        """
        with contextlib.ExitStack() as closing:
            admission = self._enter(host, closing)
            run = self._loop.call(self._reopen(run_id))
            job, model = resuming.job_of(run), run.record.model
            admission.open()
            self._take_scratch(closing)
            self._cluster.waiting_for = f"the server goes on with run {run_id}"
            passphrase = admission.unlock_again(job, run_id)
            self._display.say(self._loop.call(self._said_of(run)))
            self._start_local(job, passphrase)
            rows = rows_again(run, job, model, self._loop, self._models, self._scratch, self._display.say)
            with self._keys(passphrase, said=job.local < job.clients):
                return [self._runner().resume(run, job, rows)]

    async def _reopen(self, run_id: str) -> OpenRun:
        run = self._entrance.desk.find(run_id)
        if run is None:
            if resuming.is_simulated(self._workspace, run_id):
                raise mistake("resume.simulated", run=run_id)
            raise mistake("resume.other-server", run=run_id)
        for name, client_id in run.ledger.clients().items():
            self._cluster.roster.restore(name, client_id, time.monotonic())
        return run

    async def _said_of(self, run: OpenRun) -> str:
        if rounds := len(run.ledger.rounds()):
            done = f"{pluralize(rounds, 'round is', 'rounds are')} done"
        else:
            done = f"{len(run.ledger.results())} of {pluralize(len(run.ledger.tasks()), 'task')} done"
        return f"Going on with run {run.run}: {done}. Its clients come back by themselves."

    # --- collecting ---------------------------------------------------------------------------------------------

    def _collect(self, admission: Admission) -> list[Summary]:
        """Take in what clients still hold, then bring the runs that it belongs to up to date."""
        self._cluster.collecting = True
        self._cluster.waiting_for = "the server only collects finished results"
        passphrase = admission.unlock(self._loop.call(self._unfinished()))
        wanted = int(str(self._answers.given("clients") or 0))
        gathering = self._loop.call(self._collector(wanted))
        try:
            with self._keys(passphrase, said=True):
                self._loop.call(gathering.run())
        except KeyboardInterrupt:
            self._display.say("Interrupted: what was delivered is kept.")
        summaries = []
        for run in gathering.runs:
            catching_up = CatchingUp(self._workspace, self._models, self._scratch / run, self._display.say)
            caught_up = catching_up.run(self._entrance.desk.opened(run), self._cluster.roster)
            if (summary := self._loop.call(caught_up)) is not None:
                summaries.append(summary)
        self._loop.call(gathering.end())
        self._loop.call(self._forget_passphrases())
        return summaries

    async def _unfinished(self) -> list[str]:
        """The runs that results may still come for, the oldest first."""
        return sorted({*(run.run for run in self._entrance.desk.unfinished()), *self._entrance.kept_runs()})

    async def _forget_passphrases(self) -> None:
        self._entrance.forget_passphrases()

    async def _collector(self, wanted: int) -> Gathering:
        return Gathering(self._cluster, self._entrance.desk, self._display, wanted)
