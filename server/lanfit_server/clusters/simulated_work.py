"""Work items of simulated clients: train a task, evaluate models. They send the messages of a real client."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from lanfit.models.custom_files import Allowed
from lanfit.training import commands
from lanfit.training.work_items import LeasedTask, ModelsToEvaluate
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import EvaluateTask, Lease, LogLines, Message, Progress, Result
from lanfit_server.clusters.blocks import BlocksOnDisk
from lanfit_server.clusters.pool import WorkItem

#: Client, run and task.
Key = tuple[str, str, str]


class SimulatedWork(WorkItem, Protocol):
    """A work item of a simulated client."""

    @property
    def key(self) -> Key: ...

    def forget(self) -> None:
        """Remove its files at the end."""
        ...


class MessageSink(Protocol):
    """Receives the messages of work items: the cluster."""

    blocks: BlocksOnDisk
    allowed: Allowed

    def on_message(self, work: SimulatedWork, message: Message) -> None:
        """Handle a message of a client."""
        ...

    def hand_in(self, work: SimulatedWork, result: Result, path: Path) -> None:
        """Receive a result with its block in a file."""
        ...


class Training(LeasedTask):
    """A leased task.

    Args:
        folder: of this task alone, made when it begins.
    """

    def __init__(self, cluster: MessageSink, client: str, lease: Lease, folder: Path) -> None:
        super().__init__(lease, "waiting", {"join": 0.0, "receive": 0.0})
        self.key: Key = (client, lease.run, lease.task)
        self.warm = lease.shard.id
        self._cluster = cluster
        self._folder = folder

    @property
    def checkpoint(self) -> Path:
        return self._folder / "state.checkpoint"

    async def make_command(self, number: int) -> commands.Fit:
        lease, blocks = self.lease, self._cluster.blocks
        self._folder.mkdir(parents=True, exist_ok=True)
        self._is_now("preparing")
        self._on_step()
        weights, shard = await blocks.file(lease.weights), await blocks.file(lease.shard)
        rows = await blocks.file(lease.rows) if lease.rows is not None else None
        shown = await blocks.file(lease.shown) if lease.shown is not None else None
        custom = self._cluster.allowed.of(lease.fit.model.custom, lease.fit.model.objects)
        return self.command(number, weights, shard, self._folder / "result.block", custom, rows=rows, shown=shown)

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _send(self, message: Message) -> None:
        self._cluster.on_message(self, message)

    def _on_step(self) -> None:
        self._send(self.progress())

    def _log(self, line: str, on_server: str = "", *, is_detail: bool = False) -> None:
        self._send(LogLines(self.lease.run, (on_server or line,)))

    def _hand_over(self, result: Result, block: ArrayFile) -> None:
        self._cluster.hand_in(self, result, Path(block.path))


class EvaluationItem(ModelsToEvaluate):
    """A request to evaluate models on a client's rows."""

    def __init__(self, cluster: MessageSink, client: str, message: EvaluateTask) -> None:
        self.message = message
        self.key: Key = (client, message.run, message.task)
        self.warm = message.shard.id
        self._cluster = cluster

    async def make_command(self, number: int) -> commands.Evaluate:
        message, blocks = self.message, self._cluster.blocks
        self._send(Progress(message.run, message.task, 0, 0, 0, 0, 0.0, 0.0, "scoring"))
        members = [await blocks.file(member) for member in message.members]
        shard = await blocks.file(message.shard)
        custom = self._cluster.allowed.of(message.model.custom, message.model.objects)
        return self.command(number, shard, members, custom)

    def forget(self) -> None:
        pass

    def _send(self, message: Message) -> None:
        self._cluster.on_message(self, message)
