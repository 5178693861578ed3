"""Leases for clients, and the blocks of weights and rows that they name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec
import numpy as np

from lanfit.core.memory import readable_size
from lanfit.errors import lanfit_error
from lanfit.models.compiling import with_learning_rate
from lanfit.settings.job import Job
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import ClientData, EvaluateTask, FitTask, Lease, Model, Runtime
from lanfit_server.clusters.base import Cluster
from lanfit_server.clusters.roster import Member
from lanfit_server.data.prepare import RunData
from lanfit_server.methods.base import Task
from lanfit_server.methods.registry import METHODS
from lanfit_server.run.events import ResultCommitted, RunEvent, TaskGivenUp, TaskLeftOut
from lanfit_server.run.parts import client_data_of
from lanfit_server.store.result_store import OpenRun

#: The copies of the weights in memory while training: weights, gradients, and the two moments of an optimizer such as
#: Adam.
COPIES_OF_WEIGHTS = 4
FLOAT32 = 4
#: How long the transfer of weights delays less urgent work.
SENT_SECONDS = 1.0


class Dispatch:
    """The leases and evaluation requests of one run.

    Args:
        weights: the model's starting weights.
        shown: the rows that clients predict at the end of epochs; empty for none.
    """

    def __init__(
        self,
        job: Job,
        run: OpenRun,
        cluster: Cluster,
        data: RunData,
        weights: Mapping[str, AnyArray],
        shown: Mapping[str, AnyArray] | None = None,
    ) -> None:
        self.data = data
        self._job = job
        self._kind = METHODS[job.method]
        self._run = run
        self._cluster = cluster
        self._shards = run.record.shards
        for spec, shard in zip(self._shards, data.shards, strict=True):
            cluster.serve_block(spec, shard.block())
        self._weights = self._before = serve(cluster, weights)
        self._shown = serve(cluster, shown) if shown else None
        self._row_lists: dict[str, BlockSpec] = {}
        """By task, the indices of its rows."""
        self._changed: tuple[float, Model] | None = None
        """The last learning rate that differs from the job's, and the model with it."""
        self._unsent = 0
        """The number of leased tasks whose clients do not have the weights yet."""
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    def use(self, used: BlockSpec, weights: Mapping[str, AnyArray]) -> None:
        """Start tasks with these weights from now on. Weights before the previous ones are no longer served."""
        if used != self._weights:
            self._unsent = 0
            self._all_sent.clear()
            self._cluster.serve_block(used, weights, lambda: self._on_sent(used))
            if self._before not in (self._weights, used):
                self._cluster.withdraw_block(self._before.id)
            self._before, self._weights = self._weights, used

    def _on_sent(self, block: BlockSpec) -> None:
        if block == self._weights:
            self._unsent -= 1
            if self._unsent <= 0:
                self._all_sent.set()

    async def sent(self) -> None:
        """Wait until the clients with tasks also have the weights, or `SENT_SECONDS` have passed.

        Clients that need no weights sent are not waited for.
        """
        if self._cluster.own_machines:
            with suppress(TimeoutError):
                async with asyncio.timeout(SENT_SECONDS):
                    await self._all_sent.wait()

    def lease(self, task: Task, owner: str, attempt: int) -> Lease:
        """Return the lease message of a task."""
        job = self._job
        self._unsent += 1
        fit = FitTask(
            model=self._model(task.settings.learning_rate),
            epochs=task.settings.epochs or job.epochs,
            batch_size=job.batch_size,
            seed=task.seed,
            patience=0,
            runtime=Runtime(job.backend or "", "" if job.device == "auto" else job.device, job.threads or 0),
            fold=None,
            own=self._own(task.shard),
            rates=task.settings.rates,
        )
        fit = self._kind.fit_task(fit, job, task, self._run.record.rows)
        shard, rows = self._shards[task.shard], self._rows(task)
        # After rounds, the global model predicts them on the server.
        shown = None if self._kind.in_rounds else self._shown
        return Lease(self._run.run, task.key, attempt, owner, fit, self._weights, shard, rows, shown)

    def _rows(self, task: Task) -> BlockSpec | None:
        """Return the block with the indices of a task's rows, and serve it; None for all rows."""
        if task.rows is None:
            return None
        if task.key not in self._row_lists:
            lists = {"train": task.rows.train, "validation": task.rows.validation}
            self._row_lists[task.key] = serve(self._cluster, {n: np.array(v, np.int64) for n, v in lists.items()})
        return self._row_lists[task.key]

    def __call__(self, event: RunEvent, now: float) -> None:
        """Withdraw the row indices of a task that is over."""
        if isinstance(event, ResultCommitted | TaskGivenUp | TaskLeftOut):
            spec = self._row_lists.pop(event.task, None)
            if spec is not None and spec not in self._row_lists.values():
                self._cluster.withdraw_block(spec.id)

    def _model(self, learning_rate: float | None) -> Model:
        """Return the model of a task, with its own learning rate if it has one."""
        model = self._run.record.model
        if learning_rate is None:
            return model
        if self._changed is None or self._changed[0] != learning_rate:
            changed = with_learning_rate(model.compile, learning_rate)
            self._changed = learning_rate, msgspec.structs.replace(model, compile=changed)
        return self._changed[1]

    def evaluate(self, task: str, shard: int, members: Sequence[ArrayFile], rows: str) -> EvaluateTask:
        """Return the request to evaluate models of this run on a client's own test or validation rows."""
        record = self._run.record
        for file in members:
            self._cluster.serve_block(file.block, file.load())
        blocks = tuple(file.block for file in members)
        return EvaluateTask(self._run.run, task, record.model, self._own(shard), self._shards[shard], blocks, rows)

    def withdraw_models(self, members: Sequence[ArrayFile]) -> None:
        """Stop serving these models."""
        for file in members:
            self._cluster.withdraw_block(file.block.id)

    def _own(self, shard: int) -> ClientData | None:
        """Return how the client of a shard selects its own rows."""
        own, parts = self._run.record.own, self._run.record.parts
        return client_data_of(own, self._job.parts_of or 1, parts[shard]) if own and parts else own


def check_memory(data: RunData, shard: int, weights: Mapping[str, AnyArray], member: Member) -> None:
    """Check that a client has enough disk space for a shard.

    An estimate: the rows as float32, which is what trains, and the weights with what an optimizer keeps of them.

    Raises:
        InputError: it will not fit; the hint names a size that does.
    """
    rows = [array for each in (data.shards[shard].train, data.shards[shard].validation) for array in each.unweighed]
    row_bytes = FLOAT32 * sum(array.size for array in rows)
    model_bytes = COPIES_OF_WEIGHTS * sum(array.nbytes for array in weights.values())
    free = member.free_memory
    if not free or row_bytes + model_bytes <= free:
        return
    name, available, model = member.name, readable_size(free), readable_size(model_bytes)
    if model_bytes > free:
        raise lanfit_error("client.no-room-for-model", client=name, free=available, model=model)
    samples = data.samples[shard]
    fit = int(samples * (free - model_bytes) / row_bytes)
    raise lanfit_error(
        "client.no-room-for-rows",
        client=name,
        free=available,
        rows=samples,
        size=readable_size(row_bytes),
        model=model,
        fit=fit,
        clients=-(-data.rows // max(1, fit)),
    )


def serve(cluster: Cluster, arrays: Mapping[str, AnyArray]) -> BlockSpec:
    """Serve these arrays to clients."""
    spec = block_of(arrays)
    cluster.serve_block(spec, arrays)
    return spec
