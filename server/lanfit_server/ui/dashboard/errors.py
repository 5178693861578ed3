"""The errors of the live page; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError

ERRORS: Mapping[str, ErrorText] = {
    "page.no-object": ErrorText(
        InputError,
        "the request is not a JSON object: {reason}",
        'Send an object, such as {{"command": "pause"}}.',
    ),
    "page.no-run": ErrorText(
        InputError,
        "no run is in progress",
        "Start one first.",
    ),
    "page.nothing-to-start": ErrorText(
        InputError,
        "no run waits for clients that it could start without",
        "Set up a run, or wait until its data is read.",
    ),
    "page.no-command": ErrorText(
        InputError,
        "{command!r} is not a command",
        "Use pause, resume, stop or change.",
    ),
    "page.no-setting": ErrorText(
        InputError,
        "{setting!r} can't be changed in a run",
        "Change learning_rate, epochs or rounds.",
    ),
    "page.no-ban": ErrorText(
        InputError,
        "{address} is not banned",
        "Reload the list of bans: it may have ended.",
    ),
    "page.no-port": ErrorText(
        InputError,
        "the live page finds no free port from {first} to {last} on {host}",
        "Choose another one: --dashboard-port; or do without the page: --no-dashboard.",
    ),
}
