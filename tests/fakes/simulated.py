"""A run in small, for the state machine: real engine, ledger, result store and roster between simulated clients.

`Server` is the one place that knows these parts. It does with messages and instructions what the cluster and the shell
do, without a network or a clock. Its disk works when it is told to, and it can be stopped between any two steps, as
kill -9 does.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from only_tasks import terms_of

from lanfit.core.workspace import Workspace
from lanfit.models.trained_model import TrainedModel
from lanfit.settings.changes import AS_IN_JOB, TaskSettings
from lanfit.settings.timeouts import Timeouts
from lanfit.transfer.partial import PartialBlock
from lanfit.wire.arrays import ArraySpec, block_of, block_size, buffers
from lanfit.wire.messages import Join, Model, Result
from lanfit_server.clusters.events import ClientJoined, ClientLeft, Event, ResultCommitted, ResultOffered, TaskFailed
from lanfit_server.clusters.roster import Roster
from lanfit_server.methods.independent import EvaluateResult, Independent, kfold_tasks
from lanfit_server.run.engine import Past, RunEngine
from lanfit_server.run.instructions import (
    Adjust,
    AssignShards,
    Cancel,
    Command,
    Do,
    Emit,
    EndRun,
    Instruction,
    Lease,
    Notify,
    Persist,
    RecordClient,
    RecordEnd,
    RecordLeases,
    RecordSettings,
    Tick,
    WorkDone,
)
from lanfit_server.run.tasks import State, TaskTable
from lanfit_server.store import result_store
from lanfit_server.store.ledger import Ledger, OwnedTask, RunRecord
from lanfit_server.store.result_store import Accept, Duplicate, OpenRun, ResultStore, Stored

SERVER_ID = b"s" * 16
RUN = "run-1"
#: One client more than shards: the last one owns nothing.
CLIENTS = ("lab-1", "lab-2", "lab-3")
SHARDS = 2
FOLDS = 2
WEIGHTS = (ArraySpec("dense/kernel", "float32", (2,)),)
#: Seconds: so long clients of an earlier server keep their tasks, and so long a task may stand still.
GRACE, NO_PROGRESS = 60.0, 600.0
#: Where a server can be killed while it takes in a result: the failpoints of the product, and one of the shell.
STORED = "server.result-stored"
FAILPOINTS = ("server.result-fetched", STORED, "server.result-committed", "counted", "server.result-acknowledged")
#: So often the loop is asked for what is ready: no chain of callbacks here is longer.
TURNS = 12


class Killed(Exception):
    """The server was killed here, over what this client sent."""

    client = ""


@dataclass(frozen=True)
class Message:
    """One message on the link with that number."""

    kind: str
    client: str
    link: int
    task: str
    block: str = ""
    result: Result | None = None
    content: bytes = b""
    attempt: int = 0


def trained(task: str, client: str, attempt: int) -> tuple[Result, bytes]:
    """What a client makes of a task. The last client is another kind of machine: it rounds in another way."""
    kind = 1 if client == CLIENTS[-1] else 0
    seed = int.from_bytes(hashlib.sha256(task.encode()).digest()[:4], "big") % 1000 + kind / 2
    arrays = {
        "dense/kernel": np.array([seed, 0], np.float32),
        **TrainedModel({}).constants(),
        "history": np.array([[0.5, 0.6]] * (1 + kind)),
    }
    result = Result(
        run=RUN, task=task, attempt=attempt, block=block_of(arrays), metrics=("loss", "val_loss"), best_epoch=0,
        scores={}, seconds={}, backend="tensorflow", device="cpu", threads=1,
    )  # fmt: skip
    return result, b"".join(bytes(buffer) for buffer in buffers(arrays))


def record() -> RunRecord:
    return RunRecord(
        run=RUN, server_id=SERVER_ID, job="", file="net.h5", parameters=2, epochs=3,
        model=Model("{}", "{}", (None, 2), (None, 2), "values", "none", "none"), weights=WEIGHTS,
        shards=(), constants=block_of(TrainedModel({}).constants()).arrays, labels=None, own=None,
        samples=(10,) * SHARDS, train=16, validation=4, test=5,
    )  # fmt: skip


def begin(folder: Path) -> None:
    """Write down the run and who owns which task, as a server does before it asks anybody to work."""
    ledger = Ledger(Workspace(folder).run_folder(RUN))
    ledger.open_run(record())
    ledger.add_tasks([OwnedTask(task.key, CLIENTS[task.shard]) for task in kfold_tasks(SHARDS, FOLDS, 0)])
    ledger.close()


@dataclass
class Delivery:
    result: Result
    client: str
    part: PartialBlock


class Disk(ThreadPoolExecutor):
    """Does what the store gives to threads: at once, or when it is told to, if it is slow."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self.is_slow = False
        self.waiting: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.waiting.append((future, lambda: work(*args, **kwargs)))
        if not self.is_slow:
            self.work(0)
        return future

    def work(self, number: int) -> None:
        """Do what waits, from this one on."""
        future, work = self.waiting.pop(number % len(self.waiting))
        try:
            future.set_result(work())
        except OSError as error:
            future.set_exception(error)


class Unlocked(dict[tuple[str, str], asyncio.Lock]):
    """A lock of its own for everybody."""

    def setdefault(self, key: tuple[str, str], default: asyncio.Lock | None = None, /) -> asyncio.Lock:
        return asyncio.Lock()


class Twice(TaskTable):
    """A table that takes a repeated result for a new one."""

    def commit(self, key: str, client: str = "", now: float = 0.0, trained: TaskSettings = AS_IN_JOB) -> bool:
        super().commit(key, client, now, trained)
        return True


class Forgetful(ResultStore):
    """A store that does not know what it has."""

    def is_duplicate(self, result: Result) -> bool:
        return False


class Server:
    """One life of a server; what outlives it is in the folder. Its engine is the real one.

    Args:
        send: what it sends, in this order.
        bugs: what it does wrong on purpose: `acknowledges before commit`, `counts twice`, `stores over a result` that
            another client has delivered, `stores two at a time`, or `accepts what it is storing`.
        again: whether an earlier server has worked on the run.
        now: seconds on its clock, which only the state machine moves.
    """

    def __init__(
        self,
        folder: Path,
        send: Callable[[Message], None],
        bugs: frozenset[str] = frozenset(),
        *,
        again: bool = True,
        now: float = 0,
    ) -> None:
        self._send = send
        self._bugs = bugs
        self.disk = Disk()
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(self.disk)
        self._handling: dict[asyncio.Task[None], Message] = {}
        self._trap = ""
        self._failpoint = mock.patch.object(result_store, "failpoint", self._reach)
        self._failpoint.start()
        self.store = (Forgetful if "stores over a result" in bugs else ResultStore)(Workspace(folder), SERVER_ID)
        if "stores two at a time" in bugs:
            mock.patch.object(self.store, "_locks", Unlocked()).start()
        run = self.store.find(RUN)
        assert run is not None
        self.run: OpenRun = run
        self.roster = Roster()
        for name, client_id in run.ledger.clients().items():
            self.roster.restore(name, client_id, 0)
        self.table = Twice() if "counts twice" in bugs else TaskTable()
        self.counted: Counter[str] = Counter()
        self.now = now
        self.links: dict[str, int] = {}
        self.events: deque[Event] = deque()
        """What the engine has not heard of yet."""
        self._deliveries: dict[tuple[str, str], Delivery] = {}
        method = Independent(kfold_tasks(SHARDS, FOLDS, 0), self.table, folds=FOLDS)
        timeouts = Timeouts(no_progress=NO_PROGRESS, grace=GRACE)
        self._engine = RunEngine(terms_of(CLIENTS[:SHARDS], run=RUN, timeouts=timeouts), method, self.table)
        past = None
        if again:
            results = [(stored.task, stored.client) for stored in run.ledger.results()]
            past = Past(results, run.ledger.leases())
        self._beginning = self._engine.begin([], {}, past, now)

    # --- what is asked about it ---------------------------------------------------------------------------------

    def committed(self) -> dict[str, tuple[str, str]]:
        """By task: the client whose result counts, and the id of its block."""
        return {each.task: (each.client, each.result.block.id) for each in self.run.ledger.results()}

    def is_whole(self, task: str) -> bool:
        """Whether the bytes of a committed result are what the ledger says they are."""
        stored = self.run.ledger.result(task)
        assert stored is not None
        path = Path(self.run.file(stored).path)
        content = path.read_bytes() if path.exists() else b""
        size = block_size(stored.result.block.arrays)
        return hashlib.sha256(content[:size]).hexdigest() == stored.result.block.id

    def done_in_table(self) -> set[str]:
        return {each.task.key for each in self.table.records() if each.state is State.COMMITTED}

    def is_over(self) -> bool:
        return not self.table.open

    def given_up(self) -> list[str]:
        return [each.task.key for each in self.table.records() if each.state is State.GIVEN_UP]

    def has_failed_too_often(self, task: str) -> bool:
        return self.table[task].has_failed_too_often

    # --- what clients do ----------------------------------------------------------------------------------------

    def join(self, name: str, link: int) -> None:
        self._drop(name)
        output = Join(name=name, version="0.1", backend="tensorflow", device="cpu", threads=1, free_memory=0)
        member = self.roster.join(name.encode(), "127.0.0.1", output, 0)
        assert member.name == name, "a client that came back has lost its name"
        self.links[name] = link
        self.events.append(ClientJoined(name))

    def leave(self, name: str) -> None:
        if self.links.pop(name, None) is not None:
            self._drop(name)
            self.roster.leave(name, "lost", 0)
            self.events.append(ClientLeft(name, "its link is gone", lost=True))

    def on_message(self, message: Message, fail_at: str = "") -> None:
        """Take in a message: as far as that goes without a slow disk.

        Raises:
            Killed: at the point at which the server was to be killed.
        """
        if self.links.get(message.client) != message.link:
            return  # of a link that is gone
        self._trap = fail_at
        self._handling[self._loop.create_task(self._handle(message))] = message
        self._go_on()

    def write(self, number: int, fail_at: str = "") -> None:
        """Let the slow disk do one thing, and what waits for that go on.

        Raises:
            Killed: at the point at which the server was to be killed.
        """
        self._trap = fail_at
        self.disk.work(number)
        self._go_on()

    def _go_on(self) -> None:
        """Let the loop do what is ready.

        Raises:
            Killed: at the point at which the server was to be killed.
        """
        for _ in range(TURNS):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
        for task in [task for task in self._handling if task.done()]:
            message = self._handling.pop(task)
            try:
                task.result()
            except Killed as killed:
                killed.client = message.client
                raise

    async def _handle(self, message: Message) -> None:
        match message.kind:
            case "offer":
                await self._offered(message)
            case "commit":
                await self._delivered(message)
            case "failed" | "died":
                failed = TaskFailed(message.client, RUN, message.task, "it failed", died=message.kind == "died")
                self.events.append(failed)

    async def _offered(self, message: Message) -> None:
        result, name = message.result, message.client
        assert result is not None
        if (name, result.block.id) in self._deliveries:
            return  # the real one cuts the link
        async with asyncio.Lock() if "accepts what it is storing" in self._bugs else self.store.taking_in(result):
            self._decide(message, result)

    def _decide(self, message: Message, result: Result) -> None:
        name = message.client
        match self.store.consider(self.roster[name].client_id, result):
            case Duplicate():
                if "counts twice" in self._bugs:
                    self.events.append(ResultCommitted(name, RUN, result.task, 0.1))
                self._answer(message, "ack", result.block.id)
            case Accept(path, size, client):
                if self.links.get(name) != message.link:
                    return
                self._deliveries[name, result.block.id] = Delivery(result, client, PartialBlock.open(path, size))
                self.events.append(ResultOffered(name, RUN, result.task))
                self._answer(message, "fetch", result.block.id)
            case _:
                self._answer(message, "reject", result.block.id)

    async def _delivered(self, message: Message) -> None:
        name, block = message.client, message.block
        delivery = self._deliveries.pop((name, block), None)
        if delivery is None:
            return  # the real one cuts the link
        result, part = delivery.result, delivery.part
        part.view[: len(message.content)] = message.content
        self._reach("server.result-fetched")
        match await self.store.take_in(delivery.client, result, lambda: part.finish(block)):
            case Duplicate():
                part.drop()  # another client was faster
            case Stored():
                self.events.append(ResultCommitted(name, RUN, message.task, 0.1))
                if self._trap == "counted":
                    self.handle_events()
                self._reach("counted")
            case refused:
                raise AssertionError(f"the result of {message.task} was not stored: {refused}")
        self._answer(message, "ack", block)
        self._reach("server.result-acknowledged")

    def _reach(self, point: str) -> None:
        if point == STORED and "acknowledges before commit" in self._bugs:
            message = self._handling[asyncio.current_task(self._loop)]
            self._answer(message, "ack", message.block)
        if point == self._trap:
            raise Killed

    def _answer(self, message: Message, kind: str, block: str) -> None:
        self._send(Message(kind, message.client, message.link, message.task, block))

    # --- what the shell does ------------------------------------------------------------------------------------

    def handle_events(self) -> None:
        """Let the engine hear what has happened, and that time has passed; do what it wants."""
        self._carry_out(self._beginning)
        self._beginning = []
        while self.events:
            self._carry_out(self._engine.handle(self.events.popleft(), self.now))
        self._carry_out(self._engine.handle(Tick({}, {}), self.now))

    def command(self, command: Command) -> None:
        """Let the engine hear what the operator wants.

        Raises:
            InputError: it can't be done.
        """
        self._carry_out(self._engine.handle(command, self.now))

    def _carry_out(self, instructions: Iterable[Instruction]) -> None:
        ledger = self.run.ledger
        for each in instructions:
            match each:
                case AssignShards(owners):
                    ledger.assign_owners(owners)
                case Persist(tasks):
                    ledger.add_tasks(tasks)
                case RecordClient(client):
                    ledger.remember(client, self.roster[client].client_id)
                case RecordLeases(assignments):
                    for given in assignments:
                        ledger.lease(given.task.key, given.attempt, given.client)
                case RecordEnd(ended, task, client, failure):
                    ledger.end_leases(ended, task=task, client=client, failure=failure)
                case Lease(given):
                    self._tell(given.client, "lease", given.task.key, given.attempt)
                case Cancel(client, task, _):
                    self._tell(client, "cancel", task)
                case Do(EvaluateResult(done, _) as work):
                    self.counted[done.key] += 1
                    self._carry_out(self._engine.handle(WorkDone(work, {"loss": 0.5}), self.now))
                case _:
                    assert isinstance(each, Adjust | Emit | EndRun | Notify | RecordSettings), each

    def _tell(self, name: str, kind: str, task: str, attempt: int = 0) -> None:
        self._send(Message(kind, name, self.links.get(name, -1), task, attempt=attempt))

    def _drop(self, name: str) -> None:
        """Forget what is under way on a client's link."""
        for key in [key for key in self._deliveries if key[0] == name]:
            self._deliveries.pop(key).part.close()

    def kill(self) -> None:
        """Nothing of it is left but what is on disk."""
        for task in self._handling:
            task.cancel()
        for _ in range(TURNS):
            self._loop.call_soon(self._loop.stop)
            self._loop.run_forever()
        self._loop.close()
        for delivery in self._deliveries.values():
            delivery.part.file.close()
        self.store.close()
        self._failpoint.stop()


@dataclass
class Client:
    """A client machine. Its outbox outlives it; its work does not."""

    name: str
    link: int | None = None
    work: str | None = None
    attempt: int = 1
    outbox: dict[str, tuple[Result, bytes]] = field(default_factory=dict)

    def offers(self) -> Iterator[Message]:
        """What it sends when it has joined."""
        for block, (result, _) in self.outbox.items():
            yield self._log("offer", result.task, block, result=result)

    def on_message(self, message: Message) -> Iterator[Message]:
        """Take in a message of its link; gives what it answers."""
        match message.kind:
            case "lease":
                if not any(result.task == message.task for result, _ in self.outbox.values()):
                    self.work, self.attempt = message.task, message.attempt
            case "cancel":
                self.work = None if self.work == message.task else self.work
            case "fetch" if message.block in self.outbox:
                yield self._log("commit", message.task, message.block, content=self.outbox[message.block][1])
            case "ack" | "reject":
                self.outbox.pop(message.block, None)

    def finish(self) -> Iterator[Message]:
        """Its trainer has trained the task."""
        assert self.work is not None
        result, content = trained(self.work, self.name, self.attempt)
        self.work = None
        self.outbox[result.block.id] = (result, content)
        if self.link is not None:
            yield self._log("offer", result.task, result.block.id, result=result)

    def fail(self, how: str) -> Iterator[Message]:
        """Its trainer could not train the task, or died of it."""
        assert self.work is not None
        task, self.work = self.work, None
        if self.link is not None:
            yield self._log(how, task)

    def _log(
        self, kind: str, task: str, block: str = "", *, result: Result | None = None, content: bytes = b""
    ) -> Message:
        assert self.link is not None
        return Message(kind, self.name, self.link, task, block, result, content)
