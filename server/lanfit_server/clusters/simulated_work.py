"""What a simulated client can be asked for: train a task, score a model. The counterpart of a client's own errands.

What is told of it is what a client tells: the same progress, epochs, log lines and failures.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from lanfit.errors import ChildDied, LanfitError
from lanfit.models.custom import Allowed
from lanfit.text import sanitize_lines, sentence
from lanfit.training import orders
from lanfit.training.checkpoint import epochs_kept
from lanfit.training.orders import Answer, EpochDone, Note, Ready, Resumed, Scored, Step, Trained
from lanfit.wire.messages import Lease, Progress, Result, ScoreTask
from lanfit_server.clusters import NOT_FINITE
from lanfit_server.clusters.blocks import BlocksOnDisk
from lanfit_server.clusters.pool import Errand

#: Client, run and task.
Key = tuple[str, str, str]


class SimulatedWork(Errand, Protocol):
    """An errand of a simulated client."""

    @property
    def key(self) -> Key: ...

    def forget(self) -> None:
        """It is over: remove its files."""
        ...


class Told(Protocol):
    """Who hears of a client's work: the cluster."""

    blocks: BlocksOnDisk
    allowed: Allowed

    def progressed(self, client: str, said: Progress) -> None: ...

    def ended_epoch(self, client: str, run: str, task: str, epoch: int, metrics: dict[str, float]) -> None: ...

    def logged(self, client: str, run: str, *lines: str) -> None: ...

    def failed(self, work: SimulatedWork, error: str, *, died: bool = False, not_finite: bool = False) -> None: ...

    def scored(self, work: SimulatedWork, rows: int, metrics: dict[str, float]) -> None: ...

    def trained(self, work: SimulatedWork, result: Result, path: Path) -> None: ...


class Training:
    """A leased task.

    Args:
        folder: of this task alone, made when it begins.
    """

    def __init__(self, cluster: Told, client: str, lease: Lease, folder: Path) -> None:
        self.lease = lease
        self.key: Key = (client, lease.run, lease.task)
        self.warm = lease.shard.id
        self._cluster = cluster
        self._client = client
        self._folder = folder
        self._went_on = 0
        self._epochs = lease.fit.epochs
        """As the trainer counts them: a round may want steps instead."""

    @property
    def _checkpoint(self) -> Path:
        return self._folder / "state.checkpoint"

    async def order(self, number: int) -> orders.Fit:
        lease = self.lease
        self._progress("preparing")
        self._folder.mkdir(parents=True, exist_ok=True)
        return orders.Fit(
            number=number,
            fit=lease.fit,
            weights=await self._cluster.blocks.file(lease.weights),
            shard=await self._cluster.blocks.file(lease.shard),
            data="",
            result=str(self._folder / "result.block"),
            copy="",
            checkpoint=str(self._checkpoint),
            custom=self._cluster.allowed.of(lease.fit.model.custom, lease.fit.model.objects),
        )

    def hear(self, answer: Answer, ready: Ready) -> None:
        lease = self.lease
        match answer:
            case Step(_, state, epoch, epochs, step, steps, loss, speed):
                self._epochs = epochs
                self._cluster.progressed(
                    self._client, Progress(lease.run, lease.task, epoch, epochs, step, steps, loss, speed, state)
                )
            case Resumed(epochs=epochs):
                if epochs != self._went_on:  # else it has been said
                    self._log(f"Going on with {lease.task} after epoch {epochs}, from its checkpoint.")
            case Note(text=text):
                self._log(f"Note: {text}")
            case EpochDone(_, epoch, metrics, again):
                self._cluster.ended_epoch(self._client, lease.run, lease.task, epoch, metrics)
                if not again:
                    of_round = f"Round {lease.fit.round}, epoch" if lease.fit.round else "Epoch"
                    self._log(f"{of_round} {epoch + 1}/{self._epochs}  {_shown(metrics)}")
            case Trained():
                which = "last" if lease.fit.keep_last else "best"
                self._log(f"Trained {lease.task}; {which} epoch {answer.best_epoch + 1}. Handing it back.")
                result = orders.result_of(lease, answer, ready, {"join": 0.0, "receive": 0.0})
                self._cluster.trained(self, result, Path(answer.block.path))

    def again(self, died: LanfitError) -> bool:
        """Go on if there is a later checkpoint than when the trainer died before; else the task kills its trainers."""
        epochs = epochs_kept(self._checkpoint)
        if epochs <= self._went_on:
            return False
        self._went_on = epochs
        self._progress("preparing")
        self._log(f"{sentence(died.message)}; going on after epoch {epochs}.")
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        told = f"{error.message}. {error.hint}".strip() if error.hint and not last_lines else error.message
        self._log(f"{self.lease.task} could not be trained: {told}", *last_lines)
        died, not_finite = isinstance(error, ChildDied), error.code in NOT_FINITE
        self._cluster.failed(self, sanitize_lines(told), died=died, not_finite=not_finite)

    def forget(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def _log(self, *lines: str) -> None:
        self._cluster.logged(self._client, self.lease.run, *lines)

    def _progress(self, state: str) -> None:
        lease = self.lease
        said = Progress(lease.run, lease.task, 0, lease.fit.epochs, 0, 0, 0.0, 0.0, state)
        self._cluster.progressed(self._client, said)


class Scoring:
    """Models that are to be scored on a client's rows."""

    def __init__(self, cluster: Told, client: str, message: ScoreTask) -> None:
        self.key: Key = (client, message.run, message.task)
        self.warm = message.shard.id
        self._cluster = cluster
        self._message = message

    async def order(self, number: int) -> orders.Score:
        message, blocks = self._message, self._cluster.blocks
        members = tuple([await blocks.file(member) for member in message.members])
        shard = await blocks.file(message.shard)
        custom = self._cluster.allowed.of(message.model.custom, message.model.objects)
        return orders.Score(number, message.model, message.own, shard, members, "", message.rows, custom)

    def hear(self, answer: Answer, ready: Ready) -> None:
        if isinstance(answer, Scored):
            self._cluster.scored(self, answer.rows, answer.metrics)

    def again(self, died: LanfitError) -> bool:
        return False

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self._cluster.failed(self, sanitize_lines(error.message))

    def forget(self) -> None:
        pass


def _shown(metrics: Mapping[str, float]) -> str:
    return "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
