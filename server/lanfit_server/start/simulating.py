"""From the command line of `lanfit simulate` to its summaries. Nothing is asked: other settings have their defaults."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import replace

from lanfit.core.lock import scratch_folder
from lanfit.core.loop import LoopThread
from lanfit.core.terminal import Terminal
from lanfit.errors import lanfit_error
from lanfit.net.tls import Identity
from lanfit.settings.fields import Value, read_file
from lanfit.settings.job import DEFAULTS
from lanfit.settings.timeouts import Timeouts
from lanfit_server.clusters.roster import Member
from lanfit_server.models.handle import ModelProcess
from lanfit_server.requests import RunRequest
from lanfit_server.run import resume as resuming
from lanfit_server.session import Session, follow
from lanfit_server.start.job_prompts import JobPrompts
from lanfit_server.start.options import Options
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.start.prompts import SETTINGS, Answers
from lanfit_server.start.simulation import REMARK, Simulation, sizes
from lanfit_server.start.watchers import new_page, watchers_of_runs
from lanfit_server.store.summary import Summary
from lanfit_server.ui.display import Display

#: Settings of a job about connections, which do not apply to simulated clients, and their values here.
WAY_IN: Mapping[str, Value] = {"host": DEFAULTS.host, "port": DEFAULTS.port, "local": 0, "collect": False}


def run_simulation(options: Options, pool: int | None, terminal: Terminal) -> list[Summary]:
    """Run a job on simulated clients; return its summary.

    Args:
        pool: the number of trainers; None for the number of cores.

    Raises:
        LanfitError: the run can't start; the hint names a remedy.
        KeyboardInterrupt: Ctrl-C before the run had started.
    """
    workspace = options.workspace
    if options.resume and (summary := resuming.finished_summary(workspace, options.resume)) is not None:
        return [summary]
    settings = workspace.server_settings
    defaults = read_file(settings, "settings file", SETTINGS) if settings.exists() else {}
    timeouts, hosts = Timeouts.of(defaults, settings), list[Simulation]()

    def members() -> list[Member]:
        return [member for host in hosts for member in host.cluster.roster.members()]

    page = new_page(PageSettings.of(options.page, defaults), members)
    watchers = watchers_of_runs(*([page.board] if page is not None else []))
    display = Display(terminal, watchers)
    with contextlib.ExitStack() as closing:
        loop = closing.enter_context(LoopThread())
        models = loop.call(ModelProcess.start(display.log))
        closing.callback(lambda: loop.call(models.stop()))
        scratch = scratch_folder(workspace.server_state / "scratch")
        closing.callback(scratch.remove)
        if options.resume and resuming.status_of(workspace, options.resume) != resuming.NOT_BEGUN:
            request = RunRequest(resuming.job_of_run(workspace, options.resume), None, resumes=options.resume)
        else:
            if options.resume:
                display.log(f"Run {options.resume} had not started when its simulation ended: it starts now.")
                given = {**resuming.values_of_run(workspace, options.resume), **options.given, **WAY_IN}
                answers = Answers(terminal, given, {})
            else:
                answers = Answers(terminal, _given(options, defaults, pool), defaults)
            prompts = JobPrompts(answers, terminal, workspace, models, loop, scratch.folder)
            request = prompts.ask_rest(prompts.ask_first(DEFAULTS.host, DEFAULTS.port))
            request = replace(request, name=options.resume or "", remark=REMARK)
        job = request.job
        host = Simulation(workspace, job.clients, pool, job.threads, job.backend, job.device, display.log)
        hosts.append(host)
        session = Session(workspace, host, models, display, timeouts, scratch, watchers)
        closing.enter_context(loop.within(session))
        if page is not None:
            certificate = Identity.load_or_create(workspace.server_state).path
            loop.call(page.open(workspace, session, host, certificate, timeouts, {**defaults, **options.given}))
            closing.callback(lambda: loop.call(page.close()))
            for line in page.lines():
                terminal.log(line)
        if request.resumes:
            loop.call(host.take_up(request.resumes))
        loop.call(host.open())
        return [follow(loop, session, loop.call(session.submit(request)), options.show)]


def _given(options: Options, defaults: Mapping[str, Value], pool: int | None) -> dict[str, Value]:
    """Return the job of flags and the job file, adapted to a simulation.

    Raises:
        InputError: the data is on the clients.
    """
    given = {**options.given, **WAY_IN}
    if (given.get("data") or defaults.get("data")) == "client":
        raise lanfit_error("simulation.own-data")
    threads = given.get("threads") or defaults.get("threads")
    given["threads"] = sizes(pool, int(str(threads)) if threads else None)[1]
    return given
