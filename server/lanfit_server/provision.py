"""What clients are given to work with: leases, and the blocks of weights and rows that they name."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress

from lanfit.data.memory import readable_size
from lanfit.files import ArrayFile
from lanfit.job import Job
from lanfit.mistakes import mistake
from lanfit.wire.arrays import AnyArray, BlockSpec, block_of
from lanfit.wire.messages import FitTask, Lease, OwnRows, Runtime, ScoreTask
from lanfit_server.clusters import Cluster
from lanfit_server.collect import OpenRun
from lanfit_server.methods import Task
from lanfit_server.methods.federated import steps_of_round
from lanfit_server.parts import own_rows_of
from lanfit_server.prepare import RunData
from lanfit_server.reading import fold_of
from lanfit_server.roster import Member

#: What training holds of the weights: themselves, gradients, and the two moments of an optimizer such as Adam.
COPIES_OF_WEIGHTS = 4
FLOAT32 = 4
#: How long weights that are on their way delay what can wait.
SENT_SECONDS = 1.0


class Provision:
    """The orders of one run.

    Args:
        weights: the model's starting weights.
    """

    def __init__(
        self, job: Job, run: OpenRun, cluster: Cluster, data: RunData, weights: Mapping[str, AnyArray]
    ) -> None:
        self.data = data
        self._job = job
        self._run = run
        self._cluster = cluster
        self._shards = run.record.shards
        for spec, shard in zip(self._shards, data.shards, strict=True):
            cluster.serve_block(spec, shard)
        self._weights = self._before = serve(cluster, weights)
        self.scores_starts = True
        """Whether clients score the weights that a round begins with, on their validation rows."""
        self._unsent = 0
        """So many tasks were given out whose clients do not have the weights yet."""
        self._all_sent = asyncio.Event()
        self._all_sent.set()

    def use(self, used: BlockSpec, weights: Mapping[str, AnyArray]) -> None:
        """From now on tasks begin with these weights; those before the last ones are served no more."""
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
        """Return when those who have tasks have the weights, too, or after `SENT_SECONDS`: what can wait waits so long.

        Clients that need no weights sent are not waited for.
        """
        if self._cluster.own_machines:
            with suppress(TimeoutError):
                async with asyncio.timeout(SENT_SECONDS):
                    await self._all_sent.wait()

    def lease(self, task: Task, owner: str, attempt: int) -> Lease:
        """A task as it is sent."""
        job, record, in_rounds = self._job, self._run.record, task.round is not None
        self._unsent += 1
        fit = FitTask(
            model=record.model,
            epochs=job.epochs,
            batch_size=job.batch_size,
            seed=task.seed,
            patience=0 if in_rounds else job.patience or 0,
            runtime=Runtime(job.backend or "", "" if job.device == "auto" else job.device, job.threads or 0),
            fold=fold_of(job, task.fold) if task.fold else None,
            own=self._own(task.shard),
            round=task.round or 0,
            local_steps=(job.local_steps or 0) if in_rounds else 0,
            proximal=job.proximal if in_rounds else 0.0,
            first_step=(task.round - 1) * self._steps_of_round() if task.round else 0,
            keep_last=in_rounds or not job.keeps_best,
            score_start=in_rounds and self.scores_starts,
        )
        return Lease(self._run.run, task.key, attempt, owner, fit, self._weights, self._shards[task.shard])

    def _steps_of_round(self) -> int:
        job, rows = self._job, self._run.record.rows
        return steps_of_round(rows, job.batch_size, job.epochs, job.local_steps or 0)

    def score(self, task: str, shard: int, members: Sequence[ArrayFile], rows: str) -> ScoreTask:
        """An order to score models of this run on a client's own test or validation rows."""
        record = self._run.record
        for file in members:
            self._cluster.serve_block(file.block, file.load())
        blocks = tuple(file.block for file in members)
        return ScoreTask(self._run.run, task, record.model, self._own(shard), self._shards[shard], blocks, rows)

    def scored(self, members: Sequence[ArrayFile]) -> None:
        """Nobody needs them any more."""
        for file in members:
            self._cluster.withdraw_block(file.block.id)

    def _own(self, shard: int) -> OwnRows | None:
        """How the client of a shard draws its own rows."""
        own, parts = self._run.record.own, self._run.record.parts
        return own_rows_of(own, self._job.parts_of or 1, parts[shard]) if own and parts else own


def check_memory(data: RunData, shard: int, weights: Mapping[str, AnyArray], member: Member) -> None:
    """Refuse to send a shard to a client that has no room for it.

    An estimate: the rows as float32, which is what trains, and the weights with what an optimizer keeps of them.

    Raises:
        InputError: it will not fit; what would is said.
    """
    rows = [array for name, array in data.shards[shard].items() if name.startswith(("x_", "y_"))]
    row_bytes = FLOAT32 * sum(array.size for array in rows)
    model_bytes = COPIES_OF_WEIGHTS * sum(array.nbytes for array in weights.values())
    free = member.free_memory
    if not free or row_bytes + model_bytes <= free:
        return
    name, room, model = member.name, readable_size(free), readable_size(model_bytes)
    if model_bytes > free:
        raise mistake("client.no-room-for-model", client=name, free=room, model=model)
    samples = data.samples[shard]
    fit = int(samples * (free - model_bytes) / row_bytes)
    raise mistake(
        "client.no-room-for-rows",
        client=name,
        free=room,
        rows=samples,
        size=readable_size(row_bytes),
        model=model,
        fit=fit,
        clients=-(-data.rows // max(1, fit)),
    )


def serve(cluster: Cluster, arrays: Mapping[str, AnyArray]) -> BlockSpec:
    """Let clients fetch these arrays."""
    spec = block_of(arrays)
    cluster.serve_block(spec, arrays)
    return spec
