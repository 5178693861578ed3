"""Clients in memory: the same tasks, messages and results as over TCP, trained by a few warm trainers of this machine.

A client that is simulated has no outbox: until its result is in the ledger it is nowhere, and is trained again after a
crash, with the same bits. What is in the ledger is on disk, as with other clients (docs/decisions/0010).
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit import __version__
from lanfit.errors import LanfitError
from lanfit.files import BlockFile
from lanfit.mistakes import mistake
from lanfit.models.custom import Allowed
from lanfit.parts import shares
from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import (
    AskParts,
    Cancel,
    CustomFile,
    Join,
    Lease,
    PartsTaken,
    Progress,
    Result,
    RunEnded,
    Runtime,
    ScoreTask,
    Survey,
)
from lanfit_server.clusters import (
    EpochEnded,
    Event,
    Hopeless,
    Logged,
    Offered,
    Repeated,
    Returned,
    ScoreDone,
    SurveyFailed,
    TaskFailed,
    Took,
)
from lanfit_server.clusters.blocks import BlocksOnDisk
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.pool import Pool
from lanfit_server.clusters.simulated_work import Scoring, SimulatedWork, Training
from lanfit_server.collect import Desk, Known, NotLeased, PutOff, Refuse, Take, why_not_written
from lanfit_server.roster import Roster

log = logging.getLogger("lanfit.server")
#: How often clients that wait for a trainer are said to be fine, in seconds.
TICK_SECONDS = 1.0
#: A result that there is no room for is offered again after so many seconds.
LATER_SECONDS = 10.0
ADDRESS = "this machine's memory"


class SimulatedCluster:
    """Clients `sim-001`, `sim-002`, … that share the trainers of a pool.

    They are here before anybody waits for them, so that there is no `Joined` event.

    Args:
        pool: does the training; ended with the cluster.
        scratch: an empty folder for what is only needed meanwhile.
    """

    own_machines = False
    waiting_for = ""

    def __init__(self, desk: Desk, pool: Pool, scratch: Path) -> None:
        self.roster = Roster()
        self.events: EventQueue[Event] = EventQueue()
        self.say: Callable[[str], None] = lambda text: None
        """Called with what the operator must know."""
        self.later_seconds = LATER_SECONDS
        self.blocks = BlocksOnDisk(scratch / "blocks")
        self.pool = pool
        self.allowed = Allowed()
        """The files with custom objects that the trainers may execute."""
        self._desk = desk
        self._scratch = scratch
        self._at_hand: dict[tuple[str, str, str], SimulatedWork] = {}
        """By client, run and task."""
        self._running: set[asyncio.Task[None]] = set()
        self._numbers = 0

    def join(self, count: int, runtime: Runtime, free_memory: int = 0) -> None:
        """Let so many clients join; to be called once, in the loop.

        Args:
            runtime: of the trainers.
            free_memory: bytes that each trainer may take; 0 when it is not known.
        """
        width = max(3, len(str(count)))
        device = "cpu" if runtime.device == "auto" else runtime.device
        for number in range(1, count + 1):
            name = f"sim-{number:0{width}}"
            said = Join(name, __version__, runtime.backend, device, runtime.threads, free_memory)
            self.roster.join(client_id(number), ADDRESS, said, time.monotonic())
        self._start(self._tick())

    async def _tick(self) -> None:
        """Whoever waits for a trainer is not to blame for getting on with nothing."""
        while True:
            now = time.monotonic()
            for member in self.roster.members():
                member.last_seen = now
            waiting = {id(errand) for errand in self.pool.waiting()}
            for (client, _, _), work in self._at_hand.items():
                if id(work) in waiting:
                    self.roster[client].advanced = now
            await asyncio.sleep(TICK_SECONDS)

    # --- what the coordinator asks for --------------------------------------------------------------------------

    def serve_block(
        self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Callable[[], None] | None = None
    ) -> None:
        self.blocks.serve(spec, arrays)

    def withdraw_block(self, block_id: str) -> None:
        self.blocks.withdraw(block_id)

    def forget_blocks(self) -> None:
        self.blocks.clear()

    async def require(self, custom: Sequence[CustomFile], objects: Sequence[str]) -> None:
        pass  # they are on this machine, whose user has named the files

    def rename(self, client: str, name: str) -> str:
        return self.roster.rename(client, name)

    async def send(self, client: str, message: AskParts | PartsTaken | Lease | Cancel | Survey | ScoreTask) -> None:
        match message:
            case AskParts(of):
                names = [member.name for member in self.roster.members()]
                parts = shares(of, len(names))[names.index(client)]
                self.events.put_nowait(Took(client, client, parts))
            case PartsTaken():
                pass  # what they train on comes with their tasks
            case Lease(run, task):
                held = self._at_hand.get((client, run, task))
                if isinstance(held, Training):
                    held.lease = message  # it counts the attempts
                else:
                    self._numbers += 1
                    self._take((client, run, task), Training(self, client, message, self._scratch / str(self._numbers)))
            case ScoreTask(run, task):
                self._take((client, run, task), Scoring(self, client, message))
            case Cancel(run, task):
                await self._drop((client, run, task))
            case Survey():
                self.events.put_nowait(SurveyFailed(client, mistake("simulation.own-data")))

    def _take(self, key: tuple[str, str, str], work: SimulatedWork) -> None:
        self._at_hand[key] = work
        self.roster[key[0]].advanced = time.monotonic()
        self.pool.submit(work)

    async def _drop(self, key: tuple[str, str, str]) -> None:
        work = self._at_hand.pop(key, None)
        if work is not None:
            self.roster.rest(key[0])
            await self.pool.withdraw(work)
            work.forget()

    async def tell(self, client: str, text: str) -> None:
        pass

    async def end_run(self, ended: Mapping[str, RunEnded]) -> None:
        over = {(name, message.run) for name, message in ended.items()}
        for key in [key for key in self._at_hand if key[:2] in over]:
            await self._drop(key)

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self.pool.close()
        self._at_hand.clear()
        self.blocks.clear()

    # --- what the clients tell ----------------------------------------------------------------------------------

    def unusable(self, error: LanfitError) -> None:
        """No trainer can do anything here."""
        self.events.put_nowait(Hopeless("", error))

    def progressed(self, client: str, said: Progress) -> None:
        self.roster.progress(client, said, time.monotonic())

    def ended_epoch(self, client: str, run: str, task: str, epoch: int, metrics: dict[str, float]) -> None:
        self.events.put_nowait(EpochEnded(client, run, task, epoch, metrics))

    def logged(self, client: str, run: str, *lines: str) -> None:
        self.events.put_nowait(Logged(client, run, lines))

    def failed(self, work: SimulatedWork, error: str, *, died: bool = False, not_finite: bool = False) -> None:
        client, run, task = work.key
        self._done(work, TaskFailed(client, run, task, error, died=died, not_finite=not_finite))

    def scored(self, work: SimulatedWork, rows: int, metrics: dict[str, float]) -> None:
        client, run, task = work.key
        self._done(work, ScoreDone(client, run, task, rows, metrics))

    def trained(self, work: SimulatedWork, result: Result, path: Path) -> None:
        """Hand a result in, whose block lies in a file; who made it is free for other work meanwhile."""
        self._start(self._hand_in(work, result, path))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _hand_in(self, work: SimulatedWork, result: Result, trained: Path) -> None:
        tries = 0
        while self._at_hand.get(work.key) is work:
            why = await self._try(work, result, trained, again=tries > 0)
            if not why:
                return
            if not tries:
                self.say(f"Results have to wait: {why}. Make room; they are tried again.")
            log.warning("%s: the result of %s has to wait: %s", result.task, work.key[0], why)
            tries += 1
            await asyncio.sleep(self.later_seconds)

    async def _try(self, work: SimulatedWork, result: Result, trained: Path, *, again: bool) -> str:
        """Hand a result in; returns why it has to wait, empty when it is taken, or refused for good."""
        client, run, task = work.key
        self.roster[client].advanced = time.monotonic()
        match self._desk.consider(self.roster[client].client_id, result):
            case Known():
                self._done(work, Repeated(client, run, task, result.attempt))
            case Refuse(reason) | NotLeased(reason):
                self.failed(work, reason)
            case PutOff(reason):
                return reason
            case Take(path):
                if not again:
                    self.events.put_nowait(Offered(client, run, task))
                try:
                    await self._store(work, result, trained, path, again=again)
                except (OSError, sqlite3.OperationalError) as wrong:
                    return why_not_written(wrong)
        return ""

    async def _store(self, work: SimulatedWork, result: Result, trained: Path, path: Path, *, again: bool) -> None:
        """Put a result on disk and into the ledger: what is committed after this survives anything."""
        client, run, task = work.key
        began = time.monotonic()
        self.roster[client].state = "sending"
        async with self._desk.lock(result):
            if self._desk.is_known(result):
                self._done(work, Repeated(client, run, task, result.attempt))
                return

            def block() -> BlockFile:
                _put(trained, path, result.block.id, again=again)
                return BlockFile.reopen(path)

            refused = await self._desk.take_in(client, result, block)
        if refused is None:
            self._done(work, Returned(client, run, task, time.monotonic() - began))
        else:
            self.failed(work, refused, not_finite=True)

    def _done(self, work: SimulatedWork, event: Event) -> None:
        client = work.key[0]
        if self._at_hand.get(work.key) is work:
            del self._at_hand[work.key]
            self.roster.rest(client)
        work.forget()
        self.events.put_nowait(event)


def client_id(number: int) -> bytes:
    """Who a client is, from 1: the same in every simulation, so that one that is gone on with knows it again."""
    return b"simulated" + number.to_bytes(7, "big")


def _put(trained: Path, path: Path, block_id: str, *, again: bool) -> None:
    """Give a block of the trainer its place beside the other results; the trainer's own file stays until that is done.

    What could not be synced is never synced again: then it is a copy, if that can still be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if not again:
        try:
            os.link(trained, path)
        except OSError:  # another disk, or a system without links
            shutil.copyfile(trained, path)
        return
    shutil.copyfile(trained, path)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != block_id:
            raise OSError(errno.EIO, "the disk lost what was written", str(trained))
