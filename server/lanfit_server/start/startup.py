"""Question 1 appears immediately: while the operator answers it, everything else is imported and the model process
starts."""

from __future__ import annotations

import concurrent.futures
import threading
from typing import TYPE_CHECKING

from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.settings.fields import Value, read_file, yes_or_no
from lanfit.settings.timeouts import Timeouts
from lanfit_server.start.options import Options
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.start.prompts import SETTINGS, Answers

if TYPE_CHECKING:
    from lanfit_server.models.handle import ModelProcess
    from lanfit_server.store.summary import Summary


#: Flags about connections that do not describe a job.
WAY_IN = frozenset({"host", "port"})


def run_server(options: Options, terminal: Terminal) -> list[Summary]:
    """Run a server from its first question to its end; return the summaries of the runs that ended or changed.

    Raises:
        LanfitError: the run can't start; the hint names a remedy.
        KeyboardInterrupt: Ctrl-C before a run had started.
    """
    settings = options.workspace.server_settings
    defaults = read_file(settings, "settings file", SETTINGS) if settings.exists() else {}
    timeouts = Timeouts.of(defaults, settings)
    answers = Answers(terminal, options.given, defaults)
    _check_disk(options.workspace, terminal)
    page = PageSettings.of(options.page, defaults)
    run, begin = None if options.only_page else options.resume or left_behind(options, terminal), None
    if run is not None:
        from lanfit_server.run.resume import NOT_BEGUN, finished_summary, job_of_run, status_of, values_of_run

        if (summary := finished_summary(options.workspace, run)) is not None:
            return [summary]
        job = job_of_run(options.workspace, run)
        answers = Answers(terminal, {"host": job.host, "port": job.port, **options.given}, defaults)
        if status_of(options.workspace, run) == NOT_BEGUN:
            terminal.log(f"Run {run} had not started when its server ended: it starts now with the same job.")
            begin = job
            answers = Answers(
                terminal, {**values_of_run(options.workspace, run), "collect": False, **options.given}, {}
            )
    with LoopThread() as loop:
        starting: concurrent.futures.Future[ModelProcess] = concurrent.futures.Future()
        threading.Thread(target=_start, args=(loop, starting, terminal, page.enabled), daemon=True).start()
        try:
            host = str(answers.ask("host", check=can_listen))
            from lanfit_server.start.app import Server

            server = Server(options, answers, terminal, loop, loop.result(starting), timeouts, host, page, defaults)
            if options.only_page:
                return server.serve()
            if run is None or begin is not None:
                return server.run(run or "", begin)
            return server.resume(run)
        finally:
            loop.call(loop.result(starting).stop())


def _check_disk(workspace: Workspace, terminal: Terminal) -> None:
    """Check before the first question whether the workspace can hold the database of a run.

    Raises:
        InputError: it can't.
    """
    from lanfit_server.store.database import check_database

    folder = next((folder for folder in (workspace.logs, workspace.root) if folder.is_dir()), None)
    if folder is not None and check_database(folder) != "wal":
        terminal.log(
            f"Note: {folder} is on a drive without shared memory support, like most network drives. Runs work there, "
            "but writing to their ledger is slower."
        )


def left_behind(options: Options, terminal: Terminal) -> str | None:
    """Return the unfinished run of the workspace, if the operator at the terminal wants to resume it.

    A command line that describes a job starts that job, and `--yes` does not answer a question about another run.
    """
    if not terminal.interactive or options.given.get("collect") is not None:
        return None
    from lanfit_server.run.resume import how_to_resume, unfinished

    if (found := unfinished(options.workspace, terminal.log)) is None:
        return None
    run, status = found
    sentence = f"Run {run} {'was interrupted' if status == 'interrupted' else 'is unfinished'}"
    if terminal.take_defaults or set(options.given) - WAY_IN:
        terminal.log(f"{sentence}; this is a new run. Resume that one with: {how_to_resume(options.workspace, run)}")
        return None
    return run if terminal.ask(f"{sentence}. Resume it? (Y/n)", "--resume", yes_or_no, default="Y") else None


def _start(
    loop: LoopThread, starting: concurrent.futures.Future[ModelProcess], terminal: Terminal, with_page: bool
) -> None:
    """Start the model process, whose imports take seconds, then import what the server itself needs."""
    try:
        from lanfit_server.models.handle import ModelProcess

        starting.set_result(loop.call(ModelProcess.start(terminal.log)))
    except BaseException as error:  # noqa: BLE001 - it is raised where the process is needed
        starting.set_exception(error)
        return
    import lanfit_server.start.app

    if with_page:
        import lanfit_server.ui.dashboard.serving  # noqa: F401


def can_listen(host: Value) -> None:
    """Check that this machine can listen on the address: binds any free port of it for a moment.

    Raises:
        InputError: it can't, or the name is unknown.
    """
    from lanfit_server.clusters.binding import bind, places_of

    for sock in bind(places_of(str(host)), 0):
        sock.close()
