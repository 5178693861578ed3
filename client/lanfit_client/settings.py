"""The settings of a client: one table for its questions and for client/client.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lanfit import backends
from lanfit.net.addresses import Address, parse_address
from lanfit.net.tls import parse_fingerprint
from lanfit.settings import timeouts
from lanfit.settings.fields import Field, choice, commented, int_range, paths, size, text, yes_or_no
from lanfit.settings.job import DEVICES, backend_name
from lanfit.settings.parts import part_range

DEFAULT_PORT = 8470
#: Own data: the default minimum number of training rows to share anything with a server.
LEAST_ROWS = 50

#: The whole command that a server shows.
_LINE = re.compile(
    r"(?:\S*python[0-9.]*(?:\.exe)?|py|lanfit) +client +(\S+)(?: +--fingerprint[ =]+(\S+))? *", re.IGNORECASE
)


@dataclass(frozen=True)
class JoinLine:
    """The answer to the question for the server: its address, or the whole command that it shows."""

    address: Address
    fingerprint: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Parse an answer.

        Raises:
            InputError: it is not a valid server address.
        """
        if (line := _LINE.fullmatch(text.strip())) is None:
            return cls(parse_address(text))
        return cls(parse_address(line[1]), line[2] and parse_fingerprint(line[2]))


#: Settings by flag, at a question, or in client.toml.
FIELDS: Mapping[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            lambda text: str(parse_address(text)),
            "The server's IP address or name, as the server shows it, optionally followed by a colon and the port.",
            "Server IP",
            "none: asks",
            "192.168.1.20",
        ),
        Field("port", int_range(1, 65535), "The server's TCP port, from 1 to 65535.", "Port", example=DEFAULT_PORT),
        Field(
            "name",
            text,
            "The name of this client; the server makes it unique.",
            default="the name that was last entered, else the machine's name",
            example="lab-07",
        ),
        Field(
            "parts",
            part_range,
            "The parts of the rows to train on, if the job uses parts: 4, 3-5 or 3 5.",
            default="asks",
            example="3-5",
        ),
        Field(
            "backend",
            backend_name,
            f"The backend: {backends.listed()}.",
            default="that of the job, else the first that is installed",
            example="jax",
        ),
        Field(
            "device",
            choice({name: name for name in DEVICES}),
            "The device: auto (a GPU if the backend finds one), cpu or gpu.",
            default="that of the job, else auto",
            example="cpu",
        ),
        Field(
            "threads", int_range(1), "The number of threads of the trainer.", default="the number of cores", example=4
        ),
        Field(
            "data",
            text,
            "The folder with this client's own data in X/ and Y/: allows the server to train on it.",
            default="dataset/ in the workspace, if the user allows it when asked",
            example="dataset",
        ),
        Field(
            "min_rows",
            int_range(1),
            "Own data: the minimum number of training rows to share anything with the server; metrics need a tenth of "
            "it.",
            example=LEAST_ROWS,
            default=str(LEAST_ROWS),
        ),
        Field(
            "custom_objects",
            paths,
            "Python files with custom layers, losses and metrics, separated by commas. They are executed in this "
            "client's trainer when a server's model needs the same files: allow only files that you have reviewed.",
            default="none",
            example=("my_layers.py",),
        ),
        Field(
            "keep_data",
            yes_or_no,
            "Keep received data after a run so that it need not be sent again for the next one.",
            default="false",
            example=True,
        ),
        Field(
            "cache_limit",
            size,
            "The maximum size of received data on this disk, such as 20 GB; the least recently used is removed first.",
            default="20 GB",
            example="20 GB",
        ),
    )
}


#: The keys that client.toml may contain.
SETTINGS: Mapping[str, Field] = {**FIELDS, **timeouts.COMMON}


TITLE = """Settings of `python client` on this machine. Remove the # of a line to set the default of a question or
flag: the question is still asked, and a flag takes precedence."""


def settings_file() -> str:
    """Return the text of client/client.toml."""
    return commented(TITLE, SETTINGS.values(), lambda field: None)
