"""The settings of the live page: flags of the server, and lines of server.toml. Imports nothing of the page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lanfit.settings.fields import Field, Value, duration, int_range, text, yes_or_no

DEFAULT_PORT = 8471

#: In the order of their flags.
PAGE: Mapping[str, Field] = {
    field.key: field
    for field in (
        Field(
            "dashboard",
            yes_or_no,
            "Whether the server serves the live page. The flag that turns it off is --no-dashboard.",
            example=True,
        ),
        Field(
            "dashboard_host",
            text,
            "The address or name at which the live page is served. Beyond this machine it uses TLS with the server's "
            "certificate.",
            example="127.0.0.1",
        ),
        Field(
            "dashboard_port",
            int_range(0, 65535),
            "The TCP port of the live page, from 1 to 65535; 0 takes any free one. If it is in use, the next free one "
            "is taken.",
            example=DEFAULT_PORT,
        ),
        Field(
            "dashboard_poll",
            duration("s"),
            "The interval at which a page asks for news where event streams are blocked, in seconds or with a unit.",
            example=3.0,
        ),
    )
}
#: Those that are flags as well.
PAGE_FLAGS = ("dashboard_host", "dashboard_port")


@dataclass(frozen=True)
class PageSettings:
    """How the live page is served, if it is."""

    enabled: bool = True
    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    poll_seconds: float = 3.0

    @classmethod
    def of(cls, given: Mapping[str, Value], settings: Mapping[str, Value]) -> PageSettings:
        """Return the settings: of flags, else of server.toml, else the defaults."""
        values = {**{key: value for key, value in settings.items() if key in PAGE}, **given}
        found = {key: value for key, value in values.items() if value is not None}
        return cls(
            enabled=bool(found.get("dashboard", True)),
            host=str(found.get("dashboard_host", cls.host)),
            port=int(str(found.get("dashboard_port", cls.port))),
            poll_seconds=float(str(found.get("dashboard_poll", cls.poll_seconds))),
        )
