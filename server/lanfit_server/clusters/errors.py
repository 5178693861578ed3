"""The errors of clusters and their clients; see lanfit.errors."""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import ErrorText, InputError, TrainingError

ERRORS: Mapping[str, ErrorText] = {
    "simulation.own-data": ErrorText(
        InputError,
        "simulated clients have no data of their own (--data client)",
        "Put the data into dataset/ of this workspace, and use --data files.",
    ),
    "client.local-gave-up": ErrorText(
        TrainingError,
        "the local client {client} failed repeatedly",
        "See the lines above for the reason.",
    ),
    "client.local-unusable": ErrorText(
        TrainingError,
        "the local client {client} can't run on this machine",
        "See the lines above for the reason and the remedy.",
    ),
    "own-data.unusable": ErrorText(
        InputError,
        "the data of {client} can't be used: {error}",
        "{hint} The files are on {client}.",
    ),
    "survey.malformed": ErrorText(
        InputError,
        "{client} reported impossible facts about its data: {reason}",
        "Install the same version of lanfit on the client and the server.",
    ),
}
