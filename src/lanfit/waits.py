"""How long the two sides wait for each other: settings of server.toml and client.toml, never asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from lanfit.fields import Field, Value, duration
from lanfit.mistakes import mistake


@dataclass(frozen=True)
class Waits:
    """All in seconds."""

    heartbeat: float = 5.0
    suspect: float = 15.0
    lost: float = 60.0
    no_progress: float = 600.0
    grace: float = 60.0

    @classmethod
    def of(cls, settings: Mapping[str, Value], path: object) -> Waits:
        """What a settings file says, and the defaults for the rest.

        Raises:
            InputError: they contradict each other.
        """
        waits = cls(**{key: float(str(settings[key])) for key in asdict(cls()) if settings.get(key) is not None})
        if not waits.heartbeat < waits.suspect < waits.lost:
            told = f"{waits.heartbeat:g}, {waits.suspect:g} and {waits.lost:g}"
            raise mistake("settings.waits", file=path, told=told)
        return waits


_DEFAULTS = Waits()

#: What both sides have in their settings files.
COMMON: Mapping[str, Field] = {
    field.key: field
    for field in (
        Field(
            "heartbeat",
            duration("s"),
            "How long one side is silent before it says that it is still there, in seconds, or as 2m.",
            example=_DEFAULTS.heartbeat,
        ),
        Field(
            "suspect",
            duration("s"),
            "After so long a silence the other side is shown as silent; nothing else happens yet.",
            example=_DEFAULTS.suspect,
        ),
        Field(
            "lost",
            duration("s"),
            "After so long a silence the other side is lost: its link is cut, its task is free for others.",
            example=_DEFAULTS.lost,
        ),
        Field(
            "no_progress",
            duration("s"),
            "How long a task, or a block on its way, may stand still before it is taken away.",
            example=_DEFAULTS.no_progress,
        ),
    )
}

#: What server.toml has besides.
OF_SERVER: Mapping[str, Field] = {
    **COMMON,
    "grace": Field(
        "grace",
        duration("s"),
        "How long a server that was started again leaves tasks to the clients that had them.",
        example=_DEFAULTS.grace,
    ),
}
