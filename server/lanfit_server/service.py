"""The service process of a Python program: `python -P -m lanfit_server.service`, a child of it over pipes.

It has the entrance, the clients and the runs, so that a notebook only sends jobs and hears events. When the program
dies during a run the run is finished first; when it closes the service, or dies between runs, everything ends at once.
A program is told of its outcome before the run's report is written, which nothing interrupts but a second Ctrl-C.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import queue
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from lanfit.child import Parent, end_process
from lanfit.commands import interrupt_on_termination
from lanfit.errors import LanfitError
from lanfit.fields import read_file
from lanfit.files import ArrayFile
from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.waits import Waits
from lanfit.workspace import Workspace
from lanfit_server.admission import how_to_join
from lanfit_server.display import Display
from lanfit_server.entrance import Entrance
from lanfit_server.evaluate import ModelProcess
from lanfit_server.model_process import problem
from lanfit_server.ordering import order_of
from lanfit_server.passphrase import check_passphrase, make_passphrase
from lanfit_server.questions import SETTINGS
from lanfit_server.roster import Member
from lanfit_server.runner import Ground, Runner
from lanfit_server.service_messages import (
    Began,
    Close,
    EpochDone,
    Finished,
    Fit,
    GoOn,
    Open,
    Opened,
    Reply,
    Request,
    RoundDone,
    Said,
)
from lanfit_server.simulation import Simulation
from lanfit_server.summary import Summary


class Outlet:
    """Tells the program what happens, in a thread of its own: a program that is slow to hear keeps nobody waiting."""

    def __init__(self, parent: Parent[Request]) -> None:
        self._parent = parent
        self._replies: queue.SimpleQueue[Reply | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._write, name="outlet", daemon=True)
        self._thread.start()

    def tell(self, reply: Reply) -> None:
        self._replies.put(reply)

    def _write(self) -> None:
        # A program that has died hears nothing; its run goes on all the same.
        with contextlib.suppress(OSError):
            while (reply := self._replies.get()) is not None:
                self._parent.send(reply)

    def close(self) -> None:
        """Return when all is written, or nobody reads it any more."""
        self._replies.put(None)
        self._thread.join(2)


class ToldDisplay(Display):
    """Shows nothing: tells the program."""

    shows_rounds = True

    def __init__(self, outlet: Outlet) -> None:
        super().__init__()
        self._outlet = outlet
        self.tells_rounds = True

    def say(self, text: str) -> None:
        self._outlet.tell(Said(text))

    def began(self, run: str) -> None:
        self._outlet.tell(Began(run))

    def epoch(
        self, client: str, fold: int | None, round_: int | None, epoch: int, epochs: int, metrics: Mapping[str, float]
    ) -> None:
        if not round_:
            self._outlet.tell(EpochDone(client, fold or 0, epoch, dict(metrics)))

    def round(self, number: int, logs: Mapping[str, float]) -> None:
        if self.tells_rounds:
            self._outlet.tell(RoundDone(number, dict(logs), None))

    @contextlib.contextmanager
    def table(self, members: Callable[[], Sequence[Member]], notes: Callable[[], Sequence[str]]) -> Iterator[None]:
        yield


class Orders:
    """What the program wants, as it comes in a thread of its own."""

    def __init__(self) -> None:
        self.next: queue.SimpleQueue[Open | Fit | None] = queue.SimpleQueue()
        self.answers: queue.SimpleQueue[GoOn | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._running = False
        self._is_over = False

    def hear(self, request: Request) -> None:
        match request:
            case GoOn():
                self.answers.put(request)
            case Close():
                self.end(at_once=True)
            case Open() | Fit():
                self.next.put(request)

    def answer(self) -> GoOn | None:
        """The answer to a round; None when nobody is there to give one."""
        return None if self._is_over else self.answers.get()

    def lose_parent(self) -> None:
        """The program is gone: its run is finished, and nobody hears of it."""
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 2)
        os.dup2(null, 1)
        self.end(at_once=False)

    def rest(self) -> None:
        """The run has its outcome: what is still to be written of it is not interrupted."""
        with self._lock:
            self._running = False

    def end(self, *, at_once: bool) -> None:
        with self._lock:
            self._is_over = True
            if self._running and at_once:
                _thread.interrupt_main()
        self.next.put(None)
        self.answers.put(None)

    @contextlib.contextmanager
    def run(self) -> Iterator[None]:
        """While a run goes on, to end at once is to interrupt it."""
        with self._lock:
            if self._is_over:
                raise KeyboardInterrupt
            self._running = True
        try:
            yield
        finally:
            self.rest()


class Service:
    """One entrance, and the runs on it."""

    def __init__(self, loop: LoopThread, models: ModelProcess, outlet: Outlet, orders: Orders, opening: Open) -> None:
        self._orders = orders
        self._loop = loop
        self._models = models
        self._outlet = outlet
        self._opening = opening
        self._workspace = Workspace(Path(opening.workspace))
        self._display = ToldDisplay(outlet)
        models.say_with(self._display.say)
        self._is_told = False

    @contextlib.contextmanager
    def opened(self) -> Iterator[None]:
        """Let clients in; what was started is ended with the block.

        Raises:
            InputError: the address can't be listened on, the passphrase is too easy, or server.toml is wrong.
        """
        settings = self._workspace.server_settings
        waits = Waits.of(read_file(settings, "settings file", SETTINGS) if settings.exists() else {}, settings)
        scratch = scratch_folder(self._workspace.server_state / "scratch")
        with contextlib.ExitStack() as closing:
            closing.callback(scratch.remove)
            ground: Ground
            if self._opening.simulated:
                ground, joining, made = self._simulation(closing), "", None
            else:
                ground, joining, made = self._entrance(waits, closing)
            self._runner = Runner(
                self._workspace, ground, self._models, self._loop, self._display, waits, scratch.folder
            )
            self._runner.on_outcome = self._tell_outcome
            self._outlet.tell(Opened(joining, made, str(scratch.folder)))
            yield

    def _entrance(self, waits: Waits, closing: contextlib.ExitStack) -> tuple[Entrance, str, str | None]:
        """The way in, how to join it, and the passphrase if it was made and must be shown."""
        opening, say = self._opening, self._display.say
        if opening.passphrase is not None:
            check_passphrase(opening.passphrase, opening.host)
        entrance = Entrance(self._workspace, self._loop, waits, opening.host)
        closing.callback(entrance.close)
        entrance.listen(opening.port)
        if entrance.note:
            say(f"Note: {entrance.note}.")
        passphrase = opening.passphrase or make_passphrase()
        entrance.let_in(passphrase)
        entrance.cluster.say = say
        entrance.cluster.waiting_for = "the server has no job yet"
        if opening.local:
            entrance.start_local(opening.local, opening.threads, passphrase, say, once=False)
        made = passphrase if opening.passphrase is None and not opening.local else None
        return entrance, how_to_join(entrance, self._workspace), made

    def _simulation(self, closing: contextlib.ExitStack) -> Simulation:
        opening = self._opening
        ground = Simulation(
            self._workspace,
            self._loop,
            opening.clients,
            opening.pool or None,
            opening.threads,
            opening.backend,
            say=self._display.say,
        )
        closing.callback(ground.close)
        ground.open()
        return ground

    async def _on_round(self, number: int, logs: Mapping[str, float], weights: ArrayFile) -> bool:
        self._outlet.tell(RoundDone(number, dict(logs), weights))
        answer = await asyncio.to_thread(self._orders.answer)
        return answer is not None and answer.stop

    def _tell_outcome(self, summary: Summary) -> None:
        self._is_told = True
        self._orders.rest()
        self._outlet.tell(Finished(summary.to_json()))
        # Read with the next job, which may have to wait for it.
        self._outlet.tell(Said(f"First the report of run {summary.run} is written."))

    def fit(self, fit: Fit) -> None:
        """Run a job; tells how it ended, once."""
        folder = Path(fit.folder)
        self._is_told = False
        try:
            self._display.tells_rounds = not fit.hears_rounds
            self._runner.on_round = self._on_round if fit.hears_rounds else None
            order = order_of(fit, self._opening, self._models, self._loop)
            self._runner.train(order)
        except (LanfitError, MemoryError, OSError, sqlite3.OperationalError) as failed:
            found = problem(failed)
            self._outlet.tell(Said(f"The last run could not be closed: {found.message}") if self._is_told else found)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Serve until the program is gone, or says that it is enough."""
    interrupt_on_termination()
    parent: Parent[Request] = Parent(Request)
    orders, outlet = Orders(), Outlet(parent)
    parent.listen(orders.hear, orders.lose_parent)
    with contextlib.suppress(KeyboardInterrupt):
        serve(orders, outlet)
    outlet.close()
    end_process()


def serve(orders: Orders, outlet: Outlet) -> None:
    opening = orders.next.get()
    if not isinstance(opening, Open):
        return
    with LoopThread() as loop:
        models = loop.call(ModelProcess.start())
        try:
            service = Service(loop, models, outlet, orders, opening)
            with service.opened():
                while isinstance(fit := orders.next.get(), Fit):
                    with orders.run():
                        service.fit(fit)
        except LanfitError as wrong:
            outlet.tell(problem(wrong))
        finally:
            loop.call(models.stop())


if __name__ == "__main__":
    main()
