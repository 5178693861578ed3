"""Question 1 comes at once: while the operator answers it, everything else is imported and the model process starts."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lanfit.fields import Value, read_file, yes_or_no
from lanfit.loop import LoopThread
from lanfit.terminal import Terminal
from lanfit.waits import Waits
from lanfit.workspace import Workspace
from lanfit_server.questions import SETTINGS, Answers

if TYPE_CHECKING:
    from lanfit_server.evaluate import ModelProcess
    from lanfit_server.summary import Summary


#: Flags that say where clients come in, and nothing about a job.
WAY_IN = frozenset({"host", "port"})


@dataclass(frozen=True)
class Options:
    """What the command line says; what `given` answers (flags, then the job file) is not asked."""

    workspace: Workspace
    given: Mapping[str, Value]
    passphrase_file: Path | None = None
    passphrase: str | None = None
    resume: str | None = None
    """Go on with this run."""


def run_server(options: Options, terminal: Terminal) -> list[Summary]:
    """Run a server from its first question to its end; returns the summaries of the runs that ended or grew.

    Raises:
        LanfitError: something was wrong; what to do is in it.
        KeyboardInterrupt: Ctrl-C before a run had begun.
    """
    settings = options.workspace.server_settings
    defaults = read_file(settings, "settings file", SETTINGS) if settings.exists() else {}
    waits = Waits.of(defaults, settings)
    answers = Answers(terminal, options.given, defaults)
    _check_disk(options.workspace, terminal)
    run, begin = options.resume or left_behind(options, terminal), None
    if run is not None:
        from lanfit_server.resuming import NOT_BEGUN, finished_summary, job_of_run, status_of, values_of_run

        if (summary := finished_summary(options.workspace, run)) is not None:
            return [summary]
        job = job_of_run(options.workspace, run)
        answers = Answers(terminal, {"host": job.host, "port": job.port, **options.given}, defaults)
        if status_of(options.workspace, run) == NOT_BEGUN:
            terminal.say(f"Run {run} had not begun when its server ended: it begins now, with the same job.")
            begin = job
            answers = Answers(
                terminal, {**values_of_run(options.workspace, run), "collect": False, **options.given}, {}
            )
    with LoopThread() as loop:
        starting: concurrent.futures.Future[ModelProcess] = concurrent.futures.Future()
        threading.Thread(target=_start, args=(loop, starting), daemon=True).start()
        try:
            host = str(answers.ask("host", check=can_listen))
            from lanfit_server.app import Server

            server = Server(options, answers, terminal, loop, loop.result(starting), waits)
            if run is None or begin is not None:
                return server.run(host, run or "", begin)
            return server.resume(run, host)
        finally:
            loop.call(loop.result(starting).stop())


def _check_disk(workspace: Workspace, terminal: Terminal) -> None:
    """Find out before the first question whether the disk of the workspace can hold what a run must not forget.

    Raises:
        InputError: it can't.
    """
    from lanfit_server.database import check_database

    folder = next((folder for folder in (workspace.logs, workspace.root) if folder.is_dir()), None)
    if folder is not None and check_database(folder) != "wal":
        terminal.say(
            f"Note: {folder} is on a drive that can't share memory, as most network drives. Runs work there, but each "
            "write of their ledger takes longer."
        )


def left_behind(options: Options, terminal: Terminal) -> str | None:
    """The unfinished run of the workspace, if the operator at the terminal wants to go on with it.

    Who describes a job wants that one, and `--yes` is no answer to a question about another run.
    """
    if not terminal.interactive or options.given.get("collect") is not None:
        return None
    from lanfit_server.resuming import how_to_resume, unfinished

    if (found := unfinished(options.workspace, terminal.say)) is None:
        return None
    run, status = found
    said = f"Run {run} {'was interrupted' if status == 'interrupted' else 'is unfinished'}"
    if terminal.take_defaults or set(options.given) - WAY_IN:
        terminal.say(f"{said}; this is a new one. Go on with that one by: {how_to_resume(options.workspace, run)}")
        return None
    return run if terminal.ask(f"{said}. Go on with it? (Y/n)", "--resume", yes_or_no, default="Y") else None


def _start(loop: LoopThread, starting: concurrent.futures.Future[ModelProcess]) -> None:
    """Start the model process, whose imports take seconds, then import what the server itself needs."""
    try:
        from lanfit_server.evaluate import ModelProcess

        starting.set_result(loop.call(ModelProcess.start()))
    except BaseException as error:  # noqa: BLE001 - it is raised where the process is needed
        starting.set_exception(error)
        return
    import lanfit_server.app  # noqa: F401


def can_listen(host: Value) -> None:
    """Check that this machine can listen on the address: takes any free port of it for a moment.

    Raises:
        InputError: it can't, or nobody knows the name.
    """
    from lanfit.net.binding import bind, places_of

    for sock in bind(places_of(str(host)), 0):
        sock.close()
