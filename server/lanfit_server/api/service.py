"""The service process of a Python program: `python -P -m lanfit_server.api.service`, a child of it over pipes.

It has the endpoint, the clients and the runs, so that a notebook only sends jobs and receives events. If the program
dies during a run, the run is finished first; if it closes the service, or dies between runs, everything stops at once.
A program gets the result before the run's report is written, which only a second Ctrl-C interrupts.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from lanfit.core.child import Parent, end_process
from lanfit.core.commands import interrupt_on_termination
from lanfit.core.lock import scratch_folder
from lanfit.core.loop import LoopThread
from lanfit.core.text import sentence
from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError
from lanfit.net.tls import Identity
from lanfit.settings.fields import Value, read_file
from lanfit.settings.timeouts import Timeouts
from lanfit_server.api.fit_requests import request_of
from lanfit_server.api.service_messages import (
    Began,
    Close,
    EpochDone,
    Finished,
    Fit,
    GoOn,
    Notice,
    Open,
    Opened,
    Reply,
    Request,
    RoundDone,
    Steer,
)
from lanfit_server.clusters.roster import Member
from lanfit_server.methods.workshop import RoundChannel
from lanfit_server.models.handle import ModelProcess
from lanfit_server.models.model_process import problem
from lanfit_server.requests import RunHandle, RunInterrupted
from lanfit_server.run.instructions import Change, Command, Pause, Resume, Stop
from lanfit_server.session import Session
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.start.endpoint_setup import how_to_join, join_command
from lanfit_server.start.page_settings import PageSettings
from lanfit_server.start.passphrase import check_passphrase, make_passphrase
from lanfit_server.start.prompts import SETTINGS
from lanfit_server.start.simulation import Simulation
from lanfit_server.start.watchers import new_page, watchers_of_runs
from lanfit_server.ui.display import Display
from lanfit_server.watchers import Watchers

if TYPE_CHECKING:
    from lanfit_server.start.watchers import Page


class ReplySender:
    """Sends events to the program in a separate thread, so that a slow program does not delay the run."""

    def __init__(self, parent: Parent[Request]) -> None:
        self._parent = parent
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="outlet", daemon=True)
        self._thread.start()

    def send(self, reply: Reply) -> None:
        self._replies.put(reply)

    def _write(self) -> None:
        # A program that has died receives nothing; its run continues.
        with contextlib.suppress(OSError):
            while (reply := self._replies.get()) is not None:
                self._parent.send(reply)

    def close(self) -> None:
        """Wait until everything is sent, or the program has ended."""
        self._replies.put(None)
        self._thread.join(2)


class ForwardingDisplay(Display):
    """Shows nothing: sends events to the program.

    Args:
        watchers: who is told the same.
        concerns: returns whether what happens now concerns the program; a run of the live page does not.
    """

    shows_rounds = True

    def __init__(self, sender: ReplySender, watchers: Watchers, concerns: Callable[[], bool]) -> None:
        super().__init__(watchers=watchers)
        self._sender = sender
        self._concerns = concerns
        self.forwards_rounds = True

    def _send(self, reply: Reply) -> None:
        if self._concerns():
            self._sender.send(reply)

    def log(self, text: str) -> None:
        self._send(Notice(text))
        self._watchers.on_log(text)

    def began(self, run: str) -> None:
        self._send(Began(run))

    def epoch(
        self, client: str, fold: int | None, round_: int | None, epoch: int, epochs: int, metrics: Mapping[str, float]
    ) -> None:
        if not round_:
            self._send(EpochDone(client, fold or 0, epoch, dict(metrics)))

    def round(self, number: int, logs: Mapping[str, float]) -> None:
        if self.forwards_rounds:
            self._send(RoundDone(number, dict(logs), None))

    @contextlib.contextmanager
    def table(self, members: Callable[[], Sequence[Member]], notes: Callable[[], Sequence[str]]) -> Iterator[None]:
        yield


class Service:
    """Serves one program: opens a session for it, and submits its jobs one after the other.

    Everything but `on_request` and `lose_parent` is called in one event loop.
    """

    def __init__(self, loop: LoopThread, sender: ReplySender) -> None:
        self._loop = loop
        self._sender = sender
        self._requests: asyncio.Queue[Open | Fit | None] = asyncio.Queue()
        self._host: Endpoint | Simulation | None = None
        self._session: Session | None = None
        self._handle: RunHandle | None = None
        """The current run, until it has its result: writing the rest of it is not interrupted."""
        self._last: RunHandle | None = None
        """The last run of the program."""
        self._is_over = False
        self._stopped = asyncio.Event()

    # --- what the program asks for; called in another thread --------------------------------------------------------

    def on_request(self, request: Request) -> None:
        self._loop.soon(lambda: self._take(request))

    def lose_parent(self) -> None:
        """Continue without the program, which has ended: its run is finished."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        os.dup2(null, 1)
        self._loop.soon(self._end)

    def _take(self, request: Request) -> None:
        match request:
            case GoOn():
                if self._handle is not None and self._handle.request.rounds is not None:
                    self._handle.request.rounds.answer(request.stop)
            case Steer():
                self._steer(request)
            case Close():
                self._end()
                self.interrupt()
            case Open() | Fit():
                self._requests.put_nowait(request)

    def _steer(self, steer: Steer) -> None:
        """Give a command to the current run; without one nothing happens.

        The run has it before the answer about a round that the program sends next.
        """
        plain: dict[str, Command] = {"pause": Pause(), "resume": Resume(), "stop": Stop()}
        command = plain.get(steer.command) or Change(steer.setting, steer.value)
        if self._session is not None and (accepted := self._session.command(command)) is not None:
            accepted.add_done_callback(lambda _: self._report(accepted, warns=steer.command not in plain))

    def _report(self, accepted: asyncio.Future[None], *, warns: bool) -> None:
        """Tell the program why a command was refused, if it was."""
        if not accepted.cancelled() and isinstance(wrong := accepted.exception(), LanfitError):
            self._sender.send(Notice(f"{sentence(wrong.message)}. {wrong.hint}", warns=warns))

    def interrupt(self) -> None:
        """End the current run; without one, end everything."""
        if self._handle is not None and self._session is not None:
            self._session.interrupt(self._handle)
        else:
            self._end()

    def _end(self) -> None:
        """Serve no further job, and end the decisions of the program about rounds."""
        self._is_over = True
        self._requests.put_nowait(None)
        if self._handle is not None and self._handle.request.rounds is not None:
            self._handle.request.rounds.close()

    # --- serving --------------------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Serve until the program has ended, or closes the service."""
        try:
            open_message = await self._requests.get()
            if not isinstance(open_message, Open):
                return
            workspace = Workspace(Path(open_message.workspace))
            settings = workspace.server_settings
            defaults = read_file(settings, "settings file", SETTINGS) if settings.exists() else {}
            page = new_page(_page_settings(open_message, defaults), self._members)
            watchers = watchers_of_runs(*([page.board] if page is not None else []))
            display = ForwardingDisplay(self._sender, watchers, self._concerns_program)
            models = await ModelProcess.start(display.log)
            try:
                await self._serve(open_message, workspace, models, display, watchers, page, defaults)
            finally:
                await models.stop()
        except LanfitError as error:
            self._sender.send(problem(error))
        finally:
            self._stopped.set()

    async def stopped(self) -> None:
        """Wait until everything that was started has ended."""
        await self._stopped.wait()

    def _members(self) -> Sequence[Member]:
        return self._host.cluster.roster.members() if self._host is not None else []

    def _concerns_program(self) -> bool:
        """Return whether no run goes on, or one of the program."""
        return self._session is None or self._session.current in (None, self._last)

    async def _serve(
        self,
        open_message: Open,
        workspace: Workspace,
        models: ModelProcess,
        display: ForwardingDisplay,
        watchers: Watchers,
        page: Page | None,
        defaults: Mapping[str, Value],
    ) -> None:
        """Admit clients, and run jobs.

        Raises:
            InputError: the address can't be used, the passphrase is too easy, or server.toml is invalid.
        """
        timeouts = Timeouts.of(defaults, workspace.server_settings)
        host = self._host = _host_of(open_message, workspace, timeouts, display.log)
        scratch = scratch_folder(workspace.server_state / "scratch")
        async with contextlib.AsyncExitStack() as closing:
            session = await closing.enter_async_context(
                Session(workspace, host, models, display, timeouts, scratch, watchers)
            )
            if isinstance(host, Simulation):
                await host.open()
                opened = Opened("", None, str(session.scratch))
            else:
                joining, made = await _admit(host, open_message, workspace, display.log)
                opened = Opened(joining, made, str(session.scratch))
            if page is not None:
                await page.open(workspace, session, host, _certificate(host, workspace), timeouts, defaults)
                closing.push_async_callback(page.close)
                if isinstance(host, Endpoint) and not open_message.local:
                    page.shows_joining(join_command(host, workspace))
                    page.board.update("server", passphrase=open_message.passphrase or opened.passphrase)
                opened = msgspec.structs.replace(
                    opened,
                    dashboard_url=page.teacher_link,
                    class_url=page.class_link,
                    dashboard_lines=tuple(page.lines()),
                )
            self._session = session
            self._sender.send(opened)
            with contextlib.suppress(RunInterrupted):
                while isinstance(fit := await self._requests.get(), Fit) and not self._is_over:
                    await self._fit(session, fit, open_message, display)

    async def _fit(self, session: Session, fit: Fit, open_message: Open, display: ForwardingDisplay) -> None:
        """Run a job; send its result once.

        Raises:
            RunInterrupted: the run was interrupted before it had a result.
        """
        display.forwards_rounds = not fit.follows_rounds
        try:
            handle = self._handle = self._last = await session.submit(request_of(fit, open_message))
            if session.current not in (None, handle):
                self._sender.send(Notice("A run that was started on the live page goes on: this one follows it."))
            following = asyncio.create_task(self._forward_rounds(handle.request.rounds))
            try:
                summary = await handle.outcome()
            finally:
                following.cancel()
                self._handle = None
            self._sender.send(Finished(summary.to_json()))
            # Read with the next job, which may have to wait for it.
            self._sender.send(Notice(f"Writing the report of run {summary.run} first."))
        except (LanfitError, MemoryError, OSError, sqlite3.OperationalError) as failed:
            self._sender.send(problem(failed))
        else:
            try:
                await handle.ended()
            except (LanfitError, MemoryError, OSError, sqlite3.OperationalError) as failed:
                self._sender.send(Notice(f"The last run could not be finished: {problem(failed).message}"))
        finally:
            shutil.rmtree(fit.folder, ignore_errors=True)

    async def _forward_rounds(self, rounds: RoundChannel | None) -> None:
        while rounds is not None:
            made = await rounds.next()
            self._sender.send(RoundDone(made.number, dict(made.logs), made.weights))


def _host_of(
    open_message: Open, workspace: Workspace, timeouts: Timeouts, log: Callable[[str], None]
) -> Endpoint | Simulation:
    if open_message.simulated:
        return Simulation(
            workspace,
            open_message.clients,
            open_message.pool or None,
            open_message.threads,
            open_message.backend,
            log=log,
        )
    if open_message.passphrase is not None:
        check_passphrase(open_message.passphrase, open_message.host)
    return Endpoint(workspace, timeouts, open_message.host, log)


def _page_settings(open_message: Open, defaults: Mapping[str, Value]) -> PageSettings:
    """Return the settings of the page, which only the program turns on."""
    given: dict[str, Value] = {"dashboard": open_message.dashboard}
    given |= {"dashboard_host": open_message.dashboard_host, "dashboard_port": open_message.dashboard_port}
    return PageSettings.of({key: value for key, value in given.items() if value is not None}, defaults)


def _certificate(host: Endpoint | Simulation, workspace: Workspace) -> Path:
    return host.certificate if isinstance(host, Endpoint) else Identity.load_or_create(workspace.server_state).path


async def _admit(
    endpoint: Endpoint, open_message: Open, workspace: Workspace, log: Callable[[str], None]
) -> tuple[str, str | None]:
    """Let clients join. Return the command to join, and the passphrase if it was generated and must be shown."""
    await endpoint.listen(open_message.port)
    if endpoint.note:
        log(f"Note: {endpoint.note}.")
    passphrase = open_message.passphrase or make_passphrase()
    endpoint.let_in(passphrase)
    endpoint.cluster.waiting_for = "the server has no job yet"
    if open_message.local:
        await endpoint.start_local(open_message.local, open_message.threads, once=False)
    made = passphrase if open_message.passphrase is None and not open_message.local else None
    return how_to_join(endpoint, workspace), made


def main() -> None:
    """Serve until the program has ended, or closes the service."""
    interrupt_on_termination()
    parent: Parent[Request] = Parent(Request)
    sender = ReplySender(parent)
    with contextlib.suppress(KeyboardInterrupt), LoopThread() as loop:
        service = Service(loop, sender)
        parent.listen(service.on_request, service.lose_parent)
        try:
            loop.see_through(service.serve(), service.interrupt)
        finally:
            loop.call(service.stopped())
    sender.close()
    end_process()


if __name__ == "__main__":
    main()
