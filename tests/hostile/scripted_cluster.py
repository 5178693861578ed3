"""A real cluster with its port, its coordinator and its ledger, and scripted clients that speak the real protocol.

Nothing is trained: a client answers a lease with weights of its own choosing, an honest one with those of its shard.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from memory_links import memory_links
from msgspec.structs import replace as replace_fields
from only_tasks import TasksOnly, terms_of

from lanfit.core.workspace import Workspace
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.net.tls import Identity
from lanfit.settings.job import Job
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of, buffers
from lanfit.wire.auth import stretch
from lanfit.wire.messages import (
    Ack,
    AnyMessage,
    Cancel,
    Commit,
    Epoch,
    EvaluateTask,
    Failed,
    Fetch,
    FitTask,
    Join,
    Lease,
    LogLines,
    Message,
    Model,
    Offer,
    Ping,
    Pong,
    Reject,
    Result,
    Runtime,
    Welcome,
)
from lanfit_client.connect import connect
from lanfit_server.clusters.gate import GateShell
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.methods.base import Task
from lanfit_server.run.engine import RunEngine
from lanfit_server.run.journal import Journal
from lanfit_server.run.run_stats import RunStats
from lanfit_server.run.shell import Shell
from lanfit_server.run.wait_for_clients import joined
from lanfit_server.store.ledger import Ledger, RunRecord
from lanfit_server.store.result_store import OpenRun, ResultStore
from lanfit_server.ui.display import Display
from lanfit_server.ui.narrator import Narrator

PASSPHRASE = "velvet otter rinse cargo"
SERVER = b"s" * 16
RUN = "run-1"
MODEL = Model("{}", "{}", (None, 3), (None, 2), "values", "none", "none")
WEIGHTS = (ArraySpec("kernel", "float32", (3, 2)), ArraySpec("bias", "float32", (2,)))
CONSTANTS = TrainedModel({}).constants()
START = {spec.name: np.zeros(spec.shape, np.float32) for spec in WEIGHTS}
SALT = b"salt" * 4
#: The scrypt of a login is paid once: the passphrase and the salt are the same in all these tests.
stretched = functools.lru_cache(stretch)


def weights(value: float) -> dict[str, AnyArray]:
    """The block of a result whose weights are all this number."""
    arrays: dict[str, AnyArray] = {spec.name: np.full(spec.shape, value, np.float32) for spec in WEIGHTS}
    return {**arrays, **CONSTANTS, "history": np.array([[0.5]])}


def run_record(run: str, shards: int) -> RunRecord:
    return RunRecord(
        run=run, server_id=SERVER, job="", file="net.h5", parameters=8, epochs=5, model=MODEL, weights=WEIGHTS,
        shards=(), constants=block_of(CONSTANTS).arrays, labels=None, own=None, samples=(10,) * shards,
        train=16, validation=4, test=5,
    )  # fmt: skip


def id_of(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


class RecordingDisplay(Display):
    """What the operator is told."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def waiting(self, text: str) -> None:
        pass


class Client:
    """A scripted client: says what the test wants it to say, and keeps what it is told."""

    def __init__(self, link: Link, name: str) -> None:
        self.link = link
        self.name = name
        self.leases: list[Lease] = []
        self.received: list[AnyMessage] = []

    async def next(self, *kinds: type[Message]) -> Any:
        """The next message of one of these kinds."""
        while True:
            message = await self.link.receive()
            if isinstance(message, Ping):
                await self.link.send(Pong())
            self.received.append(message)
            if isinstance(message, kinds):
                return message

    async def lease(self) -> Lease:
        return cast(Lease, await self.next(Lease))

    async def offer(self, task: str, arrays: Mapping[str, AnyArray], attempt: int = 1, run: str = RUN) -> Ack | Reject:
        """Offer a result, and deliver it when it is asked for; returns how that ended."""
        block = block_of(arrays)
        await self.link.send(Offer(Result(run, task, attempt, block, ("loss",), 0, {}, {}, "numpy", "cpu", 1)))
        answer = await self.next(Ack, Reject, Fetch)
        if not isinstance(answer, Fetch):
            return cast(Ack | Reject, answer)
        await self.link.send_block(answer, buffers(arrays))
        await self.link.send(Commit(block.id))
        return cast(Ack | Reject, await self.next(Ack, Reject))

    async def do(self, lease: Lease) -> Ack | Reject:
        """What an honest client does: its weights are the number of its shard."""
        return await self.offer(lease.task, weights(float(lease.task.rpartition("-")[2])), lease.attempt)

    async def fail(self, task: str, run: str = RUN, code: str = "") -> None:
        await self.link.send(Failed(run, task, "made up", "", ("made up",), code=code))

    async def epoch(self, task: str, loss: float = 666.0, run: str = RUN) -> None:
        await self.link.send(Epoch(run, task, 0, {"loss": loss}))

    async def log(self, line: str, run: str = RUN) -> None:
        await self.link.send(LogLines(run, (line,)))

    async def settled(self) -> None:
        """Everything that was sent before has been handled: the server answers in the order of the link."""
        assert isinstance(await self.offer("no-such-task", weights(0.0)), Reject)


class Server:
    """One life of a server over a folder."""

    def __init__(self, folder: Path, shards: int, *, rounds: bool = False, bound: bool = False) -> None:
        self.folder = folder
        self.place = Workspace(folder)
        self.store = ResultStore(self.place, SERVER)
        self.store.disk_usage = lambda path: (100 << 30, 0, 50 << 30)
        self.cluster = LanCluster(self.store)
        self.display = RecordingDisplay()
        self.cluster.log = self.display.log
        self.owners = [f"lab-{number + 1}" for number in range(shards)]
        self._bound = bound
        self._rounds = rounds
        self.ledger = Ledger(self.place.run_folder(RUN))
        if self.ledger.record is None:
            self.ledger.open_run(run_record(RUN, shards))
        for name, client_id in self.ledger.clients().items():
            self.cluster.roster.restore(name, client_id, 0.0)
        self.run = OpenRun(self.place, RUN, self.ledger, run_record(RUN, shards))
        self.store.open(self.run)

    def begin(self) -> asyncio.Task[None]:
        """Begin the run with who is here."""
        while not self.cluster.events.empty():
            self.cluster.events.get_nowait()  # as who gathers the clients does
        self.journal = Journal(self.run.folder)
        shards = len(self.owners)
        data = SimpleNamespace(own=object() if self._bound else None, samples=[10] * shards, claimed=())
        dispatch: Any = SimpleNamespace(data=data, lease=self._lease)
        self.stats = RunStats()
        round_ = 1 if self._rounds else None
        key = "round-1-shard-{}" if self._rounds else "shard-{}"
        tasks = [Task(key.format(shard + 1), shard, 0, round=round_) for shard in range(shards)]
        method: Any = TasksOnly(tasks, self.stats.table)
        timeouts = Timeouts(heartbeat=0.02)
        terms = terms_of(
            self.owners, run=RUN, bound=self._bound, timeouts=timeouts, epochs=self.run.record.epochs,
            shown_epochs=Job().epochs, copies=self.cluster.own_machines,
        )  # fmt: skip
        engine = RunEngine(terms, method, self.stats.table)
        subscribers = (self.stats, self.journal, Narrator(self.display, partial(joined, self.cluster)))
        shell = Shell(
            self.run, engine, method, self.cluster, dispatch, self.journal, self.display, subscribers,
            timeouts.heartbeat,
        )  # fmt: skip
        self.training = asyncio.create_task(shell.run())
        return self.training

    def _lease(self, task: Task, owner: str, attempt: int) -> Lease:
        fit = FitTask(MODEL, 2, 2, 0, 0, Runtime("", "", 0), None, None, round=task.round or 0)
        nothing = BlockSpec("0" * 64, ())
        return Lease(RUN, task.key, attempt, owner, fit, nothing, nothing)

    async def ask_evaluation(self, client: str, task: str) -> None:
        nothing = BlockSpec("0" * 64, ())
        await self.cluster.send(client, EvaluateTask(RUN, task, MODEL, None, nothing, (nothing,)))

    async def until(self, done: Callable[[], bool]) -> None:
        while not done():
            await asyncio.sleep(0.005)

    def events(self, kind: str) -> list[dict[str, Any]]:
        lines = (self.run.folder / "events.jsonl").read_text("utf-8").splitlines()
        return [event for event in map(json.loads, lines) if event["event"] == kind]

    def value_of(self, task: str) -> float:
        """What the weights of a committed result are."""
        stored = self.ledger.result(task)
        assert stored is not None, f"{task} has no result"
        return float(self.run.load(stored)["kernel"][0, 0])

    def output(self, of: str) -> list[str]:
        return [line for line in self.display.lines if of in line]


@contextlib.asynccontextmanager
async def serving(
    folder: Path, shards: int = 3, *, login: bool = True, **how: bool
) -> AsyncIterator[tuple[Server, Callable[..., Any]]]:
    """A server that listens, and what joins a client of a name: `lab_1 = await join("lab-1")`.

    Args:
        login: clients come over loopback, TLS and the login, as real ones do; else over links in memory, which is fast.
    """
    identity = replace(Identity.load_or_create(folder / "identity"), server_id=SERVER, salt=SALT)
    server = Server(folder, shards, **how)
    gate = GateShell(folder / "gate.json")
    gate.stretched = stretched(PASSPHRASE, SALT)
    port = (await server.cluster.open("127.0.0.1", 0, identity, gate, Timeouts())).port if login else 0
    serving_links: list[asyncio.Task[None]] = []

    async def linked(client_id: bytes) -> Link:
        if login:
            return (await connect("127.0.0.1", port, client_id, PASSPHRASE))[0]
        ours, theirs = memory_links()
        serving_links.append(asyncio.create_task(server.cluster._serve(theirs, client_id, "10.0.0.9")))
        return ours

    async with contextlib.AsyncExitStack() as leaving:
        leaving.enter_context(pytest.MonkeyPatch.context()).setattr("lanfit_client.connect.stretch", stretched)

        @contextlib.asynccontextmanager
        async def join(name: str, client_id: bytes = b"", **output: Any) -> AsyncIterator[Client]:
            link = await linked(client_id or id_of(name))
            await link.send(replace_fields(Join(name, "0", "numpy", "cpu", 1, 0), **output))
            client = Client(link, name)
            client.name = (await client.next(Welcome)).name
            try:
                yield client
            finally:
                await link.close("gone")

        async def joined(name: str, client_id: bytes = b"", **output: Any) -> Client:
            return cast(Client, await leaving.enter_async_context(join(name, client_id, **output)))

        try:
            yield server, joined
        finally:
            await leaving.aclose()
            if (training := getattr(server, "training", None)) is not None:
                training.cancel()
                await asyncio.gather(training, return_exceptions=True)
                server.journal.close()
            await server.cluster.close()
            await asyncio.gather(*serving_links)
            server.store.close()


def run_script(script: Coroutine[Any, Any, Any]) -> Any:
    async def within() -> Any:
        async with asyncio.timeout(120):
            return await script

    return asyncio.run(within())


__all__ = ["Cancel", "Client", "Server", "id_of", "run_script", "serving", "weights"]
