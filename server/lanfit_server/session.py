"""One endpoint, one model process, and the runs on them, one after the other.

Every run starts as a submitted `RunRequest`: from the prompts of the command line, its flags, a job file, the demo, a
simulation or a Python program. `submit` returns a `RunHandle`, which has the state of the run and its outcome.

All of it lives in one event loop. The methods are called there; `follow` waits in another thread, which Ctrl-C reaches.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from types import TracebackType

from lanfit.core.lock import FolderLock
from lanfit.core.loop import LoopThread
from lanfit.core.workspace import Workspace
from lanfit.settings.timeouts import Timeouts
from lanfit_server.models.handle import ModelProcess
from lanfit_server.requests import RunHandle, RunInterrupted, RunRequest, State
from lanfit_server.run.instructions import Command
from lanfit_server.run.runner import RunHost, Runner
from lanfit_server.store.summary import Summary
from lanfit_server.ui.display import Display
from lanfit_server.watchers import Watchers

#: How often a run that is given up is looked at, in seconds.
LOOK_SECONDS = 0.05


class Session:
    """Use it as an asynchronous context: at its end the host is closed and the model process is stopped.

    Queued runs are withdrawn then, and the current one is aborted; it can be resumed from its ledger.

    Args:
        host: where runs take place: an `Endpoint` for clients over TCP, or a `Simulation`.
        scratch: a folder for temporary files; removed at the end.
        watchers: the observers of its runs.
    """

    def __init__(
        self,
        workspace: Workspace,
        host: RunHost,
        models: ModelProcess,
        display: Display,
        timeouts: Timeouts,
        scratch: FolderLock,
        watchers: Watchers,
    ) -> None:
        self.host = host
        self.models = models
        self.scratch = scratch.folder
        self._scratch = scratch
        self._watchers = watchers
        self._runner = Runner(workspace, host, models, display, timeouts, self.scratch, self._watchers)
        self._queue: list[RunHandle] = []
        self._current: RunHandle | None = None
        self._running: asyncio.Task[Summary] | None = None
        self._serving: asyncio.Task[None] | None = None
        """Runs the queued requests; None when there are none."""
        self._is_closed = False

    async def __aenter__(self) -> Session:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End everything; harmless when that is done."""
        self._is_closed = True
        for handle in self.queue():
            self.withdraw(handle)
        try:
            while self._running is not None:
                # One that has taken note of an interrupt is writing down what it has: that is given up, too.
                if not self._running.cancelling():
                    self._running.cancel()
                await asyncio.wait([self._running], timeout=LOOK_SECONDS)
                await asyncio.sleep(0)
            if self._serving is not None:
                await self._serving
        finally:
            try:
                await self.host.close()
            finally:
                await self.models.stop()
                self._scratch.remove()

    # --- runs ---------------------------------------------------------------------------------------------------

    async def submit(self, request: RunRequest) -> RunHandle:
        """Queue a run; it starts when those before it have ended."""
        handle = RunHandle(request, self._watchers.request)
        if self._is_closed:
            handle.fail(RunInterrupted("The server has ended: nothing was trained."))
            return handle
        self._queue.append(handle)
        self._watchers.request(handle)
        if self._serving is None:
            self._serving = asyncio.create_task(self._serve())
        return handle

    @property
    def current(self) -> RunHandle | None:
        """The current run."""
        return self._current

    def queue(self) -> Sequence[RunHandle]:
        """Return the requests that wait for their turn, the next one first."""
        return tuple(self._queue)

    def withdraw(self, handle: RunHandle) -> bool:
        """Take back a request that is still queued; return whether it was."""
        if handle not in self._queue:
            return False
        self._queue.remove(handle)
        handle.fail(RunInterrupted("The run was withdrawn before it started: nothing was trained."))
        return True

    def interrupt(self, handle: RunHandle) -> None:
        """End a run with what it has, as Ctrl-C does; one that is queued is withdrawn.

        A run that has its summary skips its remaining work; after its end this has no effect.
        """
        if handle is self._current and self._running is not None:
            self._running.cancel()
        else:
            self.withdraw(handle)

    # --- the current run ------------------------------------------------------------------------------------------

    def start_now(self) -> None:
        """Let the run start without the clients that are missing, if it waits for some and its request allows that."""
        self._runner.start_now()

    def command(self, command: Command) -> asyncio.Future[None] | None:
        """Give the current run a command, see `Shell.command`; return None without one."""
        return self._runner.command(command)

    async def _serve(self) -> None:
        try:
            while self._queue:
                self._current = handle = self._queue.pop(0)
                self._running = running = asyncio.create_task(self._runner.run(handle))
                await asyncio.wait([running])
                self._running = self._current = None
                _note_end(handle, running)
        finally:
            self._serving = None


def _note_end(handle: RunHandle, running: asyncio.Task[Summary]) -> None:
    if running.cancelled():
        handle.fail(RunInterrupted())
    elif (error := running.exception()) is None:
        handle.summary = running.result()
        handle.enter(State.ENDED)
    elif isinstance(error, Exception):
        handle.fail(error)
    else:
        raise error


def follow(loop: LoopThread, session: Session, handle: RunHandle, show: Callable[[Summary], None]) -> Summary:
    """Wait for a run in a thread that Ctrl-C reaches: the first one interrupts the run, the second one the wait.

    Args:
        show: called with the outcome as soon as models and summary are on disk; the reports follow.

    Raises:
        LanfitError: nothing was started, or the run can't continue.
        KeyboardInterrupt: the run was interrupted before it started, or a second time.
    """

    def interrupt() -> None:
        session.interrupt(handle)

    try:
        summary = loop.see_through(handle.outcome(), interrupt)
        show(summary)
        return loop.see_through(handle.ended(), interrupt)
    except RunInterrupted as interrupted:
        raise KeyboardInterrupt(*interrupted.args) from None
