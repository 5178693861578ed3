"""Runs that the page asks for: submitted to the session, with the clients on this machine that they need."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from lanfit.settings.job import Job
from lanfit_server.requests import RunHandle, RunRequest, State
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.ui.dashboard.context import Context

#: How often it is looked whether clients are admitted, in seconds.
ADMISSION_SECONDS = 0.05


class Submissions:
    """Submits runs in the loop of the session."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._background: set[asyncio.Task[None]] = set()

    async def submit(self, request: RunRequest) -> RunHandle:
        """Queue a run; the clients on this machine are started when it has its turn."""
        handle = await self._context.session.submit(request)
        if request.job.local and isinstance(self._context.host, Endpoint):
            self.start(_start_local(handle, request.job, self._context.host))
        return handle

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Start some work without waiting for it."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def described(self, handle: RunHandle) -> dict[str, int]:
        """Return the number of a request, and how many runs come before it."""
        session = self._context.session
        queue, goes_on = session.queue(), session.current not in (None, handle)
        position = (queue.index(handle) if handle in queue else 0) + goes_on
        return {"id": self._context.board.id_of(handle), "position": position}


async def _start_local(handle: RunHandle, job: Job, endpoint: Endpoint) -> None:
    await handle.reach(State.STARTING)
    while not endpoint.admits:  # the page is there before the passphrase is given, which another thread asks for
        await asyncio.sleep(ADMISSION_SECONDS)
    if handle.state < State.ENDED:
        await endpoint.start_local(job.local, job.threads or 1)
