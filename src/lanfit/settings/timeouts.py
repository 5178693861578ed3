"""The timeouts of both sides: settings of server.toml and client.toml, never asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lanfit.errors import lanfit_error
from lanfit.settings.fields import Field, Value, duration


@dataclass(frozen=True)
class Timeouts:
    """All in seconds."""

    heartbeat: float = 5.0
    suspect: float = 15.0
    lost: float = 60.0
    no_progress: float = 600.0
    grace: float = 60.0

    @classmethod
    def of(cls, settings: Mapping[str, Value], path: object) -> Timeouts:
        """Return the timeouts of a settings file, with defaults for the others.

        Raises:
            InputError: they contradict each other.
        """
        timeouts = cls(**{key: float(str(settings[key])) for key in asdict(cls()) if settings.get(key) is not None})
        if not timeouts.heartbeat < timeouts.suspect < timeouts.lost:
            values = f"{timeouts.heartbeat:g}, {timeouts.suspect:g} and {timeouts.lost:g}"
            raise lanfit_error("settings.waits", file=path, values=values)
        return timeouts


_DEFAULTS = Timeouts()

#: The timeouts in both settings files.
COMMON: Mapping[str, Field] = {
    field.key: field
    for field in (
        Field(
            "heartbeat",
            duration("s"),
            "The interval after which an idle side sends a keepalive message, in seconds or with a unit, such as 2m.",
            example=_DEFAULTS.heartbeat,
        ),
        Field(
            "suspect",
            duration("s"),
            "The time without a message after which the other side is shown as silent; nothing else changes.",
            example=_DEFAULTS.suspect,
        ),
        Field(
            "lost",
            duration("s"),
            "The time without a message after which the other side is lost: the connection is closed and its task is "
            "reassigned.",
            example=_DEFAULTS.lost,
        ),
        Field(
            "no_progress",
            duration("s"),
            "How long a task or a transfer may make no progress before it is taken away.",
            example=_DEFAULTS.no_progress,
        ),
    )
}

#: The additional one in server.toml.
OF_SERVER: Mapping[str, Field] = {
    **COMMON,
    "grace": Field(
        "grace",
        duration("s"),
        "How long a restarted server reserves tasks for the clients that had them.",
        example=_DEFAULTS.grace,
    ),
}
