"""The tables of docs/reference.md: questions, flags, settings, exit codes. `docs/tables.py` writes them there."""

from __future__ import annotations

import re
from collections.abc import Callable, Container, Mapping

import click
from tables_markdown import table

from lanfit import errors
from lanfit.cli import main
from lanfit.core.commands import INTERRUPTED
from lanfit.core.passphrase import PASSPHRASE_VARIABLE
from lanfit.errors import InputError
from lanfit.settings import job, timeouts
from lanfit.settings.fields import Field, Value
from lanfit_client import settings
from lanfit_server.cli import EXIT_CODES, POOL
from lanfit_server.start.page_settings import PAGE

SERVER_SETTINGS: Mapping[str, Field] = {**timeouts.OF_SERVER, **PAGE}
#: The passphrase is no field, because it never stands in a file; it is asked after this one.
_BEFORE_THE_PASSPHRASE = "clients"
_PASSPHRASE: list[object] = [
    "Passphrase",
    f"`--passphrase-file`, or the variable `{PASSPHRASE_VARIABLE}`",
    "–",
    "text",
    "four random words",
    "What a client must know to be let in. It is never an argument, and never in a job file.",
]


def answers(field: Field) -> str:
    """What a field takes, in the words in which a wrong answer is refused."""
    try:
        value = field.parse("?")
    except InputError as refused:
        reported = re.fullmatch(r".*? is (?:not|neither) (?:one of: )?(.+)", refused.message, re.DOTALL)
        return reported[1].replace(" nor ", " or ") if reported else refused.message
    return "names, separated by commas" if isinstance(value, tuple) else "text"


def default(field: Field, value: Value) -> str:
    """The default of a field in words, else the built-in value, else a dash."""
    if field.default or value is None:
        return field.default or "–"
    if isinstance(value, tuple):
        return ",".join(value) or "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _questions() -> str:
    rows: list[list[object]] = []
    for field in job.FIELDS.values():
        if field.question:
            rows.append([re.sub(r" \([^)]*\)$", "", field.question), *_row(field)])
        if field.key == "collect":
            rows[-1][4] = "Y"  # the question is the other way round
        if field.key == _BEFORE_THE_PASSPHRASE:
            rows.append(_PASSPHRASE)
    numbered = [[number, *row] for number, row in enumerate(rows, 1)]
    return table(["#", "question", "flag", "key", "answers", "default", "what it is"], numbered)


def _row(field: Field) -> list[object]:
    value = default(field, job.default_of(field.key))
    flags = ", ".join(f"`{flag}`" for flag in (field.flag, field.alias) if flag)
    return [flags, f"`{field.key}`", answers(field), value, field.help]


def _never_asked() -> str:
    rows = [_row(field) for field in job.FIELDS.values() if not field.question]
    return table(["flag", "key", "answers", "default", "what it is"], rows)


def command(name: str) -> click.Command:
    """A subcommand of `lanfit`."""
    found = main.get_command(click.Context(main), name)
    assert found is not None, name
    return found


def _flags(name: str, *, but: Container[str | None] = (), fields: Mapping[str, Field] | None = None) -> str:
    """The argument and the flags of a command without those of the names in `but`; `fields` say what some take."""
    rows = []
    for parameter in command(name).params:
        if parameter.name in but or getattr(parameter, "hidden", False):
            continue
        field = (fields or {}).get(parameter.name or "")
        takes = answers(field) if field else parameter.type.name
        if isinstance(parameter, click.Option):
            flag = ", ".join(f"`{flag}`" for flag in (*parameter.opts, *parameter.secondary_opts))
            text = re.sub(r"\s*\[default: (.*)\]$", r" Default: \1.", parameter.help or "")
            rows.append([flag, "–" if parameter.is_flag else takes, text])
        else:
            rows.append([f"`{parameter.metavar}`", takes, (command(name).help or "").partition("\n")[0]])
    return table(["flag", "takes", "what it does"], rows)


def _client_settings() -> str:
    rows = [
        [f"`{field.key}`", answers(field), default(field, field.example), field.help]
        for field in settings.SETTINGS.values()
    ]
    return table(["key", "answers", "default", "what it is"], rows)


def _server_settings() -> str:
    rows = [[f"`{field.key}`", answers(field), field.example, field.help] for field in SERVER_SETTINGS.values()]
    return table(["key", "answers", "default", "what it is"], rows)


#: How runs end, and what to do then.
_AFTER_STATUS = {
    "done": "Nothing: the models are where the last lines say.",
    "partial": "Models are collected. The last table and `summary.json` name the tasks without one, and why.",
    "failed": "No model came of it. The last lines say why; the clients' own are in `logs/`.",
    "interrupted": "`--resume RUN` continues it, as the last line says.",
}
_AFTER_ERROR = {
    errors.InputError: "Correct what the message names, and start again.",
    errors.RefusedError: "Check passphrase, fingerprint and version, as the message says.",
    errors.TrainingError: "The message names the task and the client; the client's log has the rest.",
    errors.ChildDied: "The message names the task; it was too large for the machine's memory, or killed.",
    errors.ConnectionFailed: "Check address, port and firewall; a client tries again by itself.",
    errors.LocalProtocolError: "Report it, with the log.",
    errors.RemoteProtocolError: "Install the same version on both sides; then look at who is there.",
}


def _exit_codes() -> str:
    """Every cause of every code: how runs end, and which errors end a program."""
    rows = [(code, f"The run's status is {status}.", _AFTER_STATUS[status]) for status, code in EXIT_CODES.items()]
    rows += [(kind.exit_code, (kind.__doc__ or "").partition("\n")[0], todo) for kind, todo in _AFTER_ERROR.items()]
    rows.append((INTERRUPTED, "Ctrl-C, or a request to terminate.", _AFTER_STATUS["interrupted"]))
    return table(["code", "when", "what to do"], sorted(rows, key=lambda row: row[0]))


TABLES: dict[str, Callable[[], str]] = {
    "questions": _questions,
    "never-asked": _never_asked,
    "server-settings": _server_settings,
    "dashboard-flags": lambda: _flags("dashboard", but=job.FIELDS),
    "server-flags": lambda: _flags("server", but=job.FIELDS),
    "client-flags": lambda: _flags("client", fields=settings.FIELDS),
    "client-settings": _client_settings,
    "simulate-flags": lambda: _flags("simulate", but=job.FIELDS, fields={"pool": POOL}),
    "demo-flags": lambda: _flags("demo"),
    "prepare-flags": lambda: _flags("prepare"),
    "predict-flags": lambda: _flags("predict"),
    "report-flags": lambda: _flags("report"),
    "exit-codes": _exit_codes,
}
