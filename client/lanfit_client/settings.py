"""What a client can be told: one table for its questions and for client/client.toml."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from lanfit import waits
from lanfit.fields import Field, choice, commented, paths, size, text, whole, yes_or_no
from lanfit.job import BACKENDS, DEVICES
from lanfit.net.addresses import Address, parse_address
from lanfit.net.tls import parse_fingerprint
from lanfit.parts import part_range

DEFAULT_PORT = 8470
#: Own data: a server gets nothing of fewer training rows.
LEAST_ROWS = 50

#: The line that a server shows, as a whole.
_LINE = re.compile(
    r"(?:\S*python[0-9.]*(?:\.exe)?|py|lanfit) +client +(\S+)(?: +--fingerprint[ =]+(\S+))? *", re.IGNORECASE
)


@dataclass(frozen=True)
class JoinLine:
    """What is said at the question for the server: its address, or the line that it shows, as a whole."""

    address: Address
    fingerprint: str | None = None

    @classmethod
    def read(cls, text: str) -> Self:
        """Read an answer.

        Raises:
            InputError: no server can be joined at this.
        """
        if (line := _LINE.fullmatch(text.strip())) is None:
            return cls(parse_address(text))
        return cls(parse_address(line[1]), line[2] and parse_fingerprint(line[2]))


#: What can be said by a flag, at a question, or in client.toml.
FIELDS: Mapping[str, Field] = {
    field.key: field
    for field in (
        Field(
            "host",
            lambda text: str(parse_address(text)),
            "The server's IP address or name, as the server shows it; its port may follow behind a colon.",
            "Server IP",
            "none: it is asked",
            "192.168.1.20",
        ),
        Field("port", whole(1, 65535), "The server's TCP port, from 1 to 65535.", "Port", example=DEFAULT_PORT),
        Field(
            "name",
            text,
            "What to call this client; the server makes it unique.",
            default="what it was called when it was last asked, else the machine's name",
            example="lab-07",
        ),
        Field(
            "parts",
            part_range,
            "Which parts of the rows to train on, if the job deals in parts: 4, 3-5 or 3 5.",
            default="it is asked",
            example="3-5",
        ),
        Field(
            "backend",
            choice({name: name for name in BACKENDS}),
            "What computes, through Keras: tensorflow, jax or torch.",
            default="what the job says; else the first that is installed",
            example="jax",
        ),
        Field(
            "device",
            choice({name: name for name in DEVICES}),
            "What it computes on: auto (a GPU if the backend finds one), cpu or gpu.",
            default="what the job says; else auto",
            example="cpu",
        ),
        Field("threads", whole(1), "Threads of the trainer.", default="the machine's cores", example=4),
        Field(
            "data",
            text,
            "The folder of this machine's own data, with X/ and Y/ in it: the server that is joined may train on it.",
            default="dataset/ in the workspace, if its user allows that at a question",
            example="dataset",
        ),
        Field(
            "min_rows",
            whole(1),
            "Own data: the server gets nothing of fewer training rows, nor scores on fewer than a tenth of it.",
            example=LEAST_ROWS,
            default=str(LEAST_ROWS),
        ),
        Field(
            "custom_objects",
            paths,
            "Python files with layers, losses and metrics of one's own, with commas between them. They are executed "
            "in this client's trainer when a server's model needs the same files: allow only what you have read.",
            default="none",
            example=("my_layers.py",),
        ),
        Field(
            "keep_data",
            yes_or_no,
            "Keep what was received when its run has ended: the next run is not sent it again.",
            default="false",
            example=True,
        ),
        Field(
            "cache_limit",
            size,
            "What received data may take on this disk, as in 20 GB; what was not used for longest is removed first.",
            default="20 GB",
            example="20 GB",
        ),
    )
}


#: What client.toml may hold.
SETTINGS: Mapping[str, Field] = {**FIELDS, **waits.COMMON}


TITLE = """Settings of `python client` on this machine. A line without its # becomes the default of a question or
flag: it does not answer it, and a flag still wins."""


def settings_file() -> str:
    """The text of client/client.toml."""
    return commented(TITLE, SETTINGS.values(), lambda field: None)
