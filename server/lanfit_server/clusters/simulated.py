"""Simulated clients: the same tasks, messages and results as over TCP, with a pool of trainers on this machine.

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
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from lanfit import __version__
from lanfit.errors import LanfitError, LocalProtocolError, lanfit_error
from lanfit.models.custom_files import Allowed
from lanfit.settings.parts import shares
from lanfit.transfer.blocks import BlockFile
from lanfit.wire.arrays import AnyArray, BlockSpec
from lanfit.wire.messages import (
    Adjust,
    AskParts,
    Cancel,
    CustomFile,
    Epoch,
    EvaluateTask,
    EvaluationResult,
    Failed,
    Join,
    Lease,
    LogLines,
    Message,
    PartsTaken,
    Progress,
    Result,
    RunEnded,
    Runtime,
    Survey,
)
from lanfit_server.clusters.base import ToClient
from lanfit_server.clusters.blocks import BlocksOnDisk
from lanfit_server.clusters.event_queue import EventQueue
from lanfit_server.clusters.events import (
    ClientUnavailable,
    DuplicateResult,
    Event,
    PartsChosen,
    ResultCommitted,
    ResultOffered,
    SurveyFailed,
    TaskFailed,
    settings_of,
)
from lanfit_server.clusters.pool import Pool
from lanfit_server.clusters.reports import events_of
from lanfit_server.clusters.roster import Roster
from lanfit_server.clusters.simulated_work import EvaluationItem, SimulatedWork, Training
from lanfit_server.store.result_store import Accept, Defer, Duplicate, NotLeased, Reject, ResultStore, Stored

logger = logging.getLogger("lanfit.server")
#: The interval of heartbeats for clients that wait for a trainer, in seconds.
TICK_SECONDS = 1.0
#: After this many seconds, a result is offered again for which there was no disk space.
LATER_SECONDS = 10.0
ADDRESS = "this machine's memory"


class SimulatedCluster:
    """Clients `sim-001`, `sim-002`, … that share the trainers of a pool.

    They are here before anybody waits for them, so that there is no `ClientJoined` event.

    Args:
        pool: does the training; ended with the cluster.
        scratch: an empty folder for temporary files.
    """

    own_machines = False
    waiting_for = ""

    def __init__(
        self, store: ResultStore, pool: Pool, scratch: Path, log: Callable[[str], None] = lambda text: None
    ) -> None:
        self.roster = Roster()
        self.events: EventQueue[Event] = EventQueue()
        self.log = log
        """Called with messages for the operator."""
        self.later_seconds = LATER_SECONDS
        self.blocks = BlocksOnDisk(scratch / "blocks")
        self.pool = pool
        self.allowed = Allowed()
        """The files with custom objects that the trainers may execute."""
        self._store = store
        self._scratch = scratch
        self._at_hand: dict[tuple[str, str, str], SimulatedWork] = {}
        """By client, run and task."""
        self._running: set[asyncio.Task[None]] = set()
        self._numbers = 0

    def join(self, count: int, runtime: Runtime, free_memory: int = 0) -> None:
        """Let this many clients join. Must be called once, in the loop.

        Args:
            runtime: of the trainers.
            free_memory: bytes that each trainer may take; 0 when it is not known.
        """
        width = max(3, len(str(count)))
        device = "cpu" if runtime.device == "auto" else runtime.device
        for number in range(1, count + 1):
            name = f"sim-{number:0{width}}"
            message = Join(name, __version__, runtime.backend, device, runtime.threads, free_memory)
            self.roster.join(client_id(number), ADDRESS, message, time.monotonic())
        self._start(self._tick())

    async def _tick(self) -> None:
        """Send heartbeats for clients that wait for a trainer, whose tasks make no progress."""
        while True:
            now = time.monotonic()
            for member in self.roster.members():
                member.last_seen = now
            waiting = {id(item) for item in self.pool.waiting()}
            for (client, _, _), work in self._at_hand.items():
                if id(work) in waiting:
                    self.roster[client].advanced = now
            await asyncio.sleep(TICK_SECONDS)

    # --- requests of the run --------------------------------------------------------------------------

    def serve_block(
        self, spec: BlockSpec, arrays: Mapping[str, AnyArray], on_sent: Callable[[], None] | None = None
    ) -> None:
        self.blocks.serve(spec, arrays)

    def withdraw_block(self, block_id: str) -> None:
        self.blocks.withdraw(block_id)

    def forget_blocks(self) -> None:
        self.blocks.clear()

    async def require(self, custom: Sequence[CustomFile], objects: Sequence[str]) -> None:
        pass  # they are on this machine, whose user allowed the files

    def rename(self, client: str, name: str) -> str:
        return self.roster.rename(client, name)

    async def send(self, client: str, message: ToClient) -> None:
        match message:
            case AskParts(of):
                names = [member.name for member in self.roster.members()]
                parts = shares(of, len(names))[names.index(client)]
                self.events.put_nowait(PartsChosen(client, client, parts))
            case PartsTaken():
                pass  # their tasks contain what they train on
            case Lease(run, task):
                held = self._at_hand.get((client, run, task))
                if isinstance(held, Training):
                    held.renew_lease(message)
                    await self.pool.adjust(held)
                else:
                    self._numbers += 1
                    self._take((client, run, task), Training(self, client, message, self._scratch / str(self._numbers)))
            case EvaluateTask(run, task):
                self._take((client, run, task), EvaluationItem(self, client, message))
            case Adjust(run, task, adjustment):
                held = self._at_hand.get((client, run, task))
                if isinstance(held, Training):
                    held.adjustment = adjustment
                    await self.pool.adjust(held)
            case Cancel(run, task):
                await self._drop((client, run, task))
            case Survey():
                self.events.put_nowait(SurveyFailed(client, lanfit_error("simulation.own-data")))

    def _take(self, key: tuple[str, str, str], work: SimulatedWork) -> None:
        self._at_hand[key] = work
        member = self.roster[key[0]]
        member.advanced = time.monotonic()
        self.pool.submit(work)
        if work in self.pool.waiting():  # until it sends its first message
            member.queued_for = self.pool.size

    async def _drop(self, key: tuple[str, str, str]) -> None:
        work = self._at_hand.pop(key, None)
        if work is not None:
            self.roster.rest(key[0])
            await self.pool.withdraw(work)
            work.forget()

    async def notify(self, client: str, text: str) -> None:
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

    # --- messages of clients ----------------------------------------------------------------------------------

    def unusable(self, error: LanfitError) -> None:
        """Handle a backend that can't be used here."""
        self.events.put_nowait(ClientUnavailable("", error))

    def on_message(self, work: SimulatedWork, message: Message) -> None:
        """Handle a message of a client."""
        client = work.key[0]
        match message:
            case Progress():
                self.roster.progress(client, message, time.monotonic())
            case Failed() | EvaluationResult():
                self._done(work, *events_of(client, message))
            case Epoch() | LogLines():
                for event in events_of(client, message):
                    self.events.put_nowait(event)
            case _:
                raise LocalProtocolError(f"{client} sent {type(message).__name__}")

    def hand_in(self, work: SimulatedWork, result: Result, path: Path) -> None:
        """Receive a result with its block in a file; its trainer is free for other work."""
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
                self.log(f"Results have to wait: {why}. Free some disk space; the server retries.")
            logger.warning("%s: the result of %s has to wait: %s", result.task, work.key[0], why)
            tries += 1
            await asyncio.sleep(self.later_seconds)

    async def _try(self, work: SimulatedWork, result: Result, trained: Path, *, again: bool) -> str:
        """Submit a result; return why it has to wait, empty if it was accepted or rejected."""
        client, run, task = work.key
        self.roster[client].advanced = self.roster[client].delivered = time.monotonic()
        match self._store.consider(self.roster[client].client_id, result):
            case Duplicate():
                self._done(work, DuplicateResult(client, run, task, result.attempt))
            case Reject(reason) | NotLeased(reason):
                self._done(work, TaskFailed(client, run, task, reason))
            case Defer(reason):
                return reason
            case Accept(path):
                if not again:
                    self.events.put_nowait(ResultOffered(client, run, task))
                return await self._take_in(work, result, trained, path, again=again)
        return ""

    async def _take_in(self, work: SimulatedWork, result: Result, trained: Path, path: Path, *, again: bool) -> str:
        """Store a result durably, with its entry in the ledger; return why it has to wait."""
        client, run, task = work.key
        began = time.monotonic()
        self.roster[client].state = "sending"

        def block() -> BlockFile:
            _put(trained, path, result.block.id, again=again)
            return BlockFile.reopen(path)

        match await self._store.take_in(client, result, block):
            case Duplicate():
                self._done(work, DuplicateResult(client, run, task, result.attempt))
            case Reject(reason):
                self._done(work, TaskFailed(client, run, task, reason, not_finite=True))
            case Defer(reason):
                return reason
            case Stored():
                seconds = time.monotonic() - began
                self._done(work, ResultCommitted(client, run, task, seconds, result.seconds, settings_of(result)))
        return ""

    def _done(self, work: SimulatedWork, *events: Event) -> None:
        client = work.key[0]
        if self._at_hand.get(work.key) is work:
            del self._at_hand[work.key]
            self.roster.rest(client)
        work.forget()
        for event in events:
            self.events.put_nowait(event)


def client_id(number: int) -> bytes:
    """Return the id of a client, from 1: the same in every simulation, so that a resumed one recognizes it."""
    return b"simulated" + number.to_bytes(7, "big")


def _put(trained: Path, path: Path, block_id: str, *, again: bool) -> None:
    """Move a block of the trainer to the other results; the trainer's own file stays until that is done.

    What could not be synced is never synced again: then it is a copy, if that can still be read.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    if not again:
        try:
            os.link(trained, path)
        except OSError:  # another file system, or one without hard links
            shutil.copyfile(trained, path)
        return
    shutil.copyfile(trained, path)
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != block_id:
            raise OSError(errno.EIO, "the disk lost data that was written", str(trained))
