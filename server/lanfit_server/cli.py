"""The commands of the server machine: read the command line, print the outcome, and nothing more."""

from __future__ import annotations

import sys
import webbrowser
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from lanfit.core.commands import INTERRUPTED, interrupt_on_termination, print_json, reported
from lanfit.core.terminal import Terminal, terminal_size
from lanfit.core.workspace import Workspace, find_workspace
from lanfit.settings.fields import Field, Value, int_range, read_file
from lanfit.settings.job import FIELDS
from lanfit_server.start.page_settings import PAGE, PAGE_FLAGS

if TYPE_CHECKING:
    from lanfit_server.store.summary import Summary

#: For `lanfit simulate` only.
POOL = Field(
    "pool", int_range(1), "The number of trainers that the clients share.", default="the number of cores", example=2
)
EXIT_CODES = {"done": 0, "partial": 4, "failed": 4, "interrupted": INTERRUPTED}


def job_flags(command: Callable[..., Any], *, but: Container[str] = ()) -> Callable[..., Any]:
    """Return a flag for every field of a job except those named in `but`, in the order of the questions."""
    for field in reversed([field for field in FIELDS.values() if field.key not in but]):
        note = f"  [default: {field.default}]" if field.default else ""
        text = field.help + note
        kind: dict[str, Any] = {}
        if field.key == "collect":
            kind = {"is_flag": True}
        elif field.bare:  # not for all: click takes `--epochs -3` for two flags once it is told is_flag=False
            kind = {"is_flag": False, "flag_value": field.bare}
        aliases = [field.alias] if field.alias else []
        command = click.option(field.flag, *aliases, field.key, help=text, **kind)(command)
    return command


def page_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the flags about the live page."""
    for key in reversed(PAGE_FLAGS):
        field = PAGE[key]
        command = click.option(field.flag, key, help=f"{field.help}  [default: {field.example}]")(command)
    return command


def _page(host: str | None, port: str | None, *, enabled: bool) -> dict[str, Value]:
    """Return the settings of the live page. Without a flag that turns it off, server.toml decides."""
    flags = {"dashboard_host": host, "dashboard_port": port}
    given = {key: PAGE[key].read(value, PAGE[key].flag) for key, value in flags.items() if value is not None}
    return given if enabled else {**given, "dashboard": False}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@job_flags
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="A file whose first line is the passphrase.")
@click.option("--job", type=click.Path(path_type=Path), help="A job file: questions that it answers are not asked.")
@click.option("--resume", metavar="RUN", help="Resume an unfinished run.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with model/ and dataset/.")
@click.option("--yes", is_flag=True, help="Accept the default of every remaining question.")
@click.option("--json", "as_json", is_flag=True, help="Print only summary.json on standard output.")
@page_flags
@click.option("--no-dashboard", is_flag=True, help="Do not serve the live page.")
def server(
    passphrase_file: Path | None,
    job: Path | None,
    resume: str | None,
    workspace: Path | None,
    yes: bool,
    as_json: bool,
    dashboard_host: str | None,
    dashboard_port: str | None,
    no_dashboard: bool,
    **flags: str | bool | None,
) -> None:
    """Ask for a job, admit clients, train on them, collect their models.

    Asks for anything that neither a flag nor a job file gives.
    """
    interrupt_on_termination()
    with reported(as_json=as_json):
        place = find_workspace(workspace, Path.cwd())
        given = _given(job, flags)
        terminal = Terminal(take_defaults=yes).take_logs()
        page = _page(dashboard_host, dashboard_port, enabled=not no_dashboard)
        stays = terminal.interactive and not yes and not as_json
        _run(place, given, passphrase_file, terminal, as_json, resume=resume, page=page, stays=stays)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@partial(job_flags, but=[key for key in FIELDS if key not in ("host", "port")])
@click.option("--passphrase-file", type=click.Path(path_type=Path), help="A file whose first line is the passphrase.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with model/ and dataset/.")
@click.option("--yes", is_flag=True, help="Accept the default of every remaining question.")
@page_flags
def dashboard(
    passphrase_file: Path | None,
    workspace: Path | None,
    yes: bool,
    dashboard_host: str | None,
    dashboard_port: str | None,
    **flags: str | bool | None,
) -> None:
    """Serve the live page, on which runs are set up, until it is ended.

    Asks only for the address and port of the server and the passphrase.
    """
    interrupt_on_termination()
    with reported():
        place = find_workspace(workspace, Path.cwd())
        terminal = Terminal(take_defaults=yes).take_logs()
        page = {**_page(dashboard_host, dashboard_port, enabled=True), "dashboard": True}
        _run(place, _given(None, flags), passphrase_file, terminal, False, page=page, stays=True, only_page=True)


#: Flags without meaning for simulated clients.
NOT_SIMULATED = ("host", "port", "collect", "local", "start_after")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("job", required=False, type=click.Path(path_type=Path), metavar="[JOB]")
@partial(job_flags, but=NOT_SIMULATED)
@click.option("--pool", help=f"{POOL.help}  [default: {POOL.default}]")
@click.option("--resume", metavar="RUN", help="Resume an unfinished simulated run.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with model/ and dataset/.")
@click.option("--json", "as_json", is_flag=True, help="Print only summary.json on standard output.")
@click.option("--dashboard", "with_page", is_flag=True, help="Serve the live page until the run has ended.")
@page_flags
def simulate(
    job: Path | None,
    pool: str | None,
    resume: str | None,
    workspace: Path | None,
    as_json: bool,
    with_page: bool,
    dashboard_host: str | None,
    dashboard_port: str | None,
    **flags: str | bool | None,
) -> None:
    """Run the job of a job file on simulated clients.

    They share a few trainers of this machine. Nothing is asked: settings that neither a flag nor the job file gives
    have their defaults. No port is opened, except with --dashboard. The models are those that real clients with the
    same number of threads would produce.
    """
    interrupt_on_termination()
    with reported(as_json=as_json):
        from lanfit_server.start.options import Options
        from lanfit_server.start.simulating import run_simulation

        place = find_workspace(workspace, Path.cwd())
        size = None if pool is None else int(str(POOL.read(pool, POOL.flag)))
        printer = OutcomePrinter(place, as_json)
        page = {**_page(dashboard_host, dashboard_port, enabled=True), "dashboard": with_page}
        options = Options(place, _given(job, flags), resume=resume, show=printer.show, page=page)
        printer.end(lambda: run_simulation(options, size, Terminal(take_defaults=True).take_logs()))


def _given(job: Path | None, flags: Mapping[str, str | bool | None]) -> dict[str, Value]:
    """Return the values of a job file and the flags, which take precedence."""
    given: dict[str, Value] = read_file(job, "job file", FIELDS) if job is not None else {}
    return given | {
        key: FIELDS[key].read(value, FIELDS[key].flag) for key, value in flags.items() if value not in (None, False)
    }


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder for data, models and logs.")
@click.option("--json", "as_json", is_flag=True, help="Print only summary.json on standard output.")
def demo(workspace: Path | None, as_json: bool) -> None:
    """Run a complete demo on this machine.

    A server and two clients in separate processes: the digits, a small convolutional model, five epochs.
    """
    interrupt_on_termination()
    with reported(as_json=as_json):
        from lanfit_server.data.demo_data import demo_workspace
        from lanfit_server.start.passphrase import make_passphrase

        place = demo_workspace(find_workspace(workspace, Path.cwd()), workspace or Path.cwd())
        given: dict[str, Value] = {
            "host": "127.0.0.1",
            "port": 0,  # any free one
            "collect": False,
            "model": "model/digits.h5",
            "clients": 2,
            "local": 2,
            "normalizer": "minmax",
        }
        _run(place, given, None, Terminal(take_defaults=True).take_logs(), as_json, passphrase=make_passphrase())


def _run(
    place: Workspace,
    given: dict[str, Value],
    passphrase_file: Path | None,
    terminal: Terminal,
    as_json: bool,
    passphrase: str | None = None,
    resume: str | None = None,
    **more: Any,
) -> None:
    """Run a server, print the outcome, and exit."""
    from lanfit_server.start.options import Options
    from lanfit_server.start.startup import run_server

    printer = OutcomePrinter(place, as_json)
    options = Options(place, given, passphrase_file, passphrase, resume, printer.show, **more)
    printer.end(lambda: run_server(options, terminal))


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("run", metavar="RUN")
@click.option("--open", "shows", is_flag=True, help="Show it in the browser.")
@click.option("--workspace", type=click.Path(path_type=Path), help="The folder with logs/.")
def report(run: str, shows: bool, workspace: Path | None) -> None:
    """Make report.html of a run again, from the files in logs/RUN/."""
    with reported():
        from lanfit_server.report.html import write_html
        from lanfit_server.run.resume import run_with_summary

        place = find_workspace(workspace, Path.cwd())
        path = place.run_folder(run) / "report.html"
        write_html(path, run_with_summary(place, run))
        print(place.relative(path))
        if shows:
            webbrowser.open(path.resolve().as_uri())


class OutcomePrinter:
    """Prints outcomes on standard output as soon as they are there, and ends the program with their exit code."""

    def __init__(self, place: Workspace, as_json: bool) -> None:
        self._place = place
        self._as_json = as_json
        self._shown: list[Summary] = []

    def show(self, summary: Summary) -> None:
        """Print an outcome."""
        self._shown.append(summary)
        if self._as_json:
            print_json(summary.to_json())
        else:
            self._print(summary)
        sys.stdout.flush()

    def end(self, work: Callable[[], Sequence[Summary]]) -> NoReturn:
        """Do the work, print the outcomes that it has not shown, and exit. Of JSON only one document is printed.

        A Ctrl-C after an outcome was shown only ends what comes after it: the exit code remains that of the outcome.
        """
        try:
            summaries = work()
        except KeyboardInterrupt:
            if not self._shown:
                raise
            summaries = self._shown
        rest = [summary for summary in summaries if summary.run not in {each.run for each in self._shown}]
        if self._as_json:
            rest = [] if self._shown else rest[-1:]
        for summary in rest:
            self.show(summary)
        sys.exit(max((EXIT_CODES[summary.status] for summary in summaries), default=0))

    def _print(self, summary: Summary) -> None:
        from lanfit_server.report.text import lines
        from lanfit_server.run.resume import how_to_resume, is_simulated

        place = self._place
        folder, collected = place.run_folder(summary.run), place.collected(summary.run)
        go_on = ""
        if summary.status == "interrupted":
            go_on = how_to_resume(place, summary.run, simulated=is_simulated(place, summary.run))
        screen = terminal_size(sys.stdout) if sys.stdout.isatty() else (None, None)
        print("\n".join(lines(summary, place.relative(folder), place.relative(collected), go_on, *screen)))
        if summary.final is not None and (collected / "recipe.json").is_file():
            print(f"Predict new rows: lanfit predict {summary.final.model} ROWS.csv --out predictions.csv")
