"""From the command line of `lanfit simulate` to its summaries. Nothing is asked: what is not given has its default."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping

from lanfit.fields import Value, read_file
from lanfit.job import DEFAULTS, Job
from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.mistakes import mistake
from lanfit.terminal import Terminal
from lanfit.waits import Waits
from lanfit_server import resuming
from lanfit_server.asking import JobQuestions
from lanfit_server.display import Display
from lanfit_server.evaluate import ModelProcess
from lanfit_server.opening import Options
from lanfit_server.questions import SETTINGS, Answers
from lanfit_server.runner import Order, Runner
from lanfit_server.sets import rows_again
from lanfit_server.simulation import REMARK, Simulation, sizes
from lanfit_server.summary import Summary

#: What a job says of the way in, which no simulated client takes, and what these mean here.
WAY_IN: Mapping[str, Value] = {"host": DEFAULTS.host, "port": DEFAULTS.port, "local": 0, "collect": False}


def run_simulation(options: Options, pool: int | None, terminal: Terminal) -> list[Summary]:
    """Run a job on simulated clients; returns its summary.

    Args:
        pool: how many trainers; None for as many as there are cores.

    Raises:
        LanfitError: something was wrong; what to do is in it.
        KeyboardInterrupt: Ctrl-C before the run had begun.
    """
    workspace = options.workspace
    if options.resume and (summary := resuming.finished_summary(workspace, options.resume)) is not None:
        return [summary]
    settings = workspace.server_settings
    defaults = read_file(settings, "settings file", SETTINGS) if settings.exists() else {}
    with contextlib.ExitStack() as closing:
        loop = closing.enter_context(LoopThread())
        models = loop.call(ModelProcess.start())
        closing.callback(lambda: loop.call(models.stop()))
        scratch = scratch_folder(workspace.server_state / "scratch")
        closing.callback(scratch.remove)
        display, waits = Display(terminal), Waits.of(defaults, settings)
        models.say_with(display.say)

        def simulate(job: Job) -> tuple[Simulation, Runner]:
            ground = Simulation(workspace, loop, job.clients, pool, job.threads, job.backend, job.device, display.say)
            closing.callback(ground.close)
            return ground, Runner(workspace, ground, models, loop, display, waits, scratch.folder)

        if options.resume and resuming.status_of(workspace, options.resume) != resuming.NOT_BEGUN:
            job = resuming.job_of_run(workspace, options.resume)
            ground, runner = simulate(job)
            run = ground.take_up(options.resume)
            ground.open()
            rows = rows_again(run, job, run.record.model, loop, models, scratch.folder, display.say)
            return [runner.resume(run, job, rows)]
        if options.resume:
            display.say(f"Run {options.resume} had not begun when its simulation ended: it begins now.")
            given, defaults = {**resuming.values_of_run(workspace, options.resume), **options.given, **WAY_IN}, {}
        else:
            given = _given(options, defaults, pool)
        answers = Answers(terminal, given, defaults)
        questions = JobQuestions(answers, terminal, workspace, models, loop, scratch.folder)
        asked = questions.ask(DEFAULTS.host, DEFAULTS.port, lambda: None)
        ground, runner = simulate(asked.job)
        ground.open()
        name, custom = options.resume or "", asked.custom
        return [
            runner.train(Order(asked.job, asked.loaded, asked.model, asked.source, REMARK, custom=custom, run=name))
        ]


def _given(options: Options, defaults: Mapping[str, Value], pool: int | None) -> dict[str, Value]:
    """What flags and the job file say, and what a simulation makes of it.

    Raises:
        InputError: the rows are on the clients.
    """
    given = {**options.given, **WAY_IN}
    if (given.get("data") or defaults.get("data")) == "client":
        raise mistake("simulation.own-data")
    threads = given.get("threads") or defaults.get("threads")
    given["threads"] = sizes(pool, int(str(threads)) if threads else None)[1]
    return given
