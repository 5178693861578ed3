"""The live page of a program, which imports it only if it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lanfit_server.clusters.roster import Member
from lanfit_server.start.page_settings import PageSettings

if TYPE_CHECKING:
    from lanfit_server.ui.dashboard.serving import Page as Page


def new_page(settings: PageSettings, members: Callable[[], Sequence[Member]]) -> Page | None:
    """Return the page, which watches runs from now on and is to be opened; None if it is turned off.

    Args:
        members: returns the clients.
    """
    if not settings.enabled:
        return None
    from lanfit_server.ui.dashboard.serving import Page

    return Page(settings, members)
