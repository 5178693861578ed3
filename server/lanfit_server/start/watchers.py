"""Who watches the runs of a program: the writer of TensorBoard files always, the live page if it is served."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from lanfit_server.clusters.roster import Member
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.ui.tensorboard import TensorBoard
from lanfit_server.watchers import Watcher, Watchers

if TYPE_CHECKING:
    from lanfit_server.ui.dashboard.serving import Page as Page


def watchers_of_runs(*others: Watcher) -> Watchers:
    """Return the watchers that every program has, and these."""
    return Watchers((TensorBoard(), *others))


def new_page(settings: PageSettings, members: Callable[[], Sequence[Member]]) -> Page | None:
    """Return the live page, which watches runs from now on and is to be opened; None if it is turned off.

    Args:
        members: returns the clients.
    """
    if not settings.enabled:
        return None
    from lanfit_server.ui.dashboard.serving import Page

    return Page(settings, members)
