"""The task at hand: receives its blocks, has it trained, puts its result into the outbox. Knows messages, but no link.

A task survives the link that it came over. Results are the same whoever trains, so a task that is leased again while it
is trained here is simply finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from lanfit.errors import ConnectionFailed, LanfitError, TrainingError
from lanfit.files import ArrayFile, BlockFile
from lanfit.logs import HistoryFile, append_log
from lanfit.net.link import Link
from lanfit.wire.arrays import BlockSpec, block_size, check_specs
from lanfit.wire.messages import Epoch, Failed, Lease, LogLines, Message, Offer, Progress, Result, Runtime
from lanfit.workspace import Workspace
from lanfit_client.orders import Answer, EpochDone, Fit, NotReady, NotTrained, Ready, Step, Trained
from lanfit_client.outbox import Entry, Outbox
from lanfit_client.state import ClientState
from lanfit_client.trainers import TrainerProcess

#: The largest block that is taken from a server; whether the disk has room is found out before it is fetched.
LARGEST_BLOCK = 1 << 40


@dataclass
class Work:
    """One leased task, and how far it is."""

    number: int
    lease: Lease
    server_id: bytes
    name: str
    """What the server calls this client."""
    step: Step = field(default_factory=lambda: Step(0, "receiving", 0, 0, 0, 0, 0.0, 0.0))
    seconds: dict[str, float] = field(default_factory=dict)
    receiving: asyncio.Task[None] | None = None
    history: HistoryFile | None = None


class Worker:
    """Does one task at a time.

    Args:
        runtime, fixed: of the trainer; see TrainerProcess.
        send: called with every message for the server; the agent sends it when there is a link.
        say: called with lines for the client's user.
    """

    def __init__(
        self,
        state: ClientState,
        workspace: Workspace,
        runtime: Runtime,
        fixed: frozenset[str],
        send: Callable[[Message], None],
        say: Callable[[str], None],
    ) -> None:
        self.outbox = Outbox(state.outbox)
        self.trainer = TrainerProcess(runtime, fixed, self._on_answer, self._on_death)
        self.failures = 0
        self._cache = state.cache
        self._workspace = workspace
        self._send = send
        self._say = say
        self._work: Work | None = None
        self._count = 0
        self._clear_cache()

    def _clear_cache(self) -> None:
        shutil.rmtree(self._cache, ignore_errors=True)

    # --- what the server wants ----------------------------------------------------------------------------------

    async def lease(self, lease: Lease, server_id: bytes, name: str, link: Link, join_seconds: float) -> None:
        """Take a task, unless it is being trained or has been."""
        if self._work is not None and self._is_at(lease.run, lease.task):
            self._work.lease = lease
            if self._work.receiving is None or not self._work.receiving.done():
                return
        elif self.outbox.find(server_id, lease.run, lease.task) is not None:
            return
        await self.stop()
        self._say(f"Task {lease.task} of run {lease.run}: receiving {block_size(lease.shard.arrays):,} bytes of data.")
        self._count += 1
        work = Work(self._count, lease, server_id, name, seconds={"join": join_seconds})
        self._work = work
        work.receiving = asyncio.create_task(self._receive(work, link))

    def _is_at(self, run: str, task: str) -> bool:
        return self._work is not None and (self._work.lease.run, self._work.lease.task) == (run, task)

    async def cancel(self, run: str, task: str | None = None) -> None:
        """Stop a task (or any task of a run): nobody needs it any more."""
        if self._work is not None and self._is_at(run, task or self._work.lease.task):
            await self.stop()

    async def end_run(self, run: str) -> None:
        """The run is over: stop what is still done for it, and remove what was received for it."""
        await self.cancel(run)
        if self._work is None:
            self._clear_cache()

    async def stop(self) -> None:
        """Stop the task at hand."""
        work, self._work = self._work, None
        if work is None:
            return
        if work.receiving is not None and not work.receiving.done():
            work.receiving.cancel()
            await asyncio.gather(work.receiving, return_exceptions=True)
        else:
            await self.trainer.stop(work.number)

    # --- the task -----------------------------------------------------------------------------------------------

    async def _receive(self, work: Work, link: Link) -> None:
        lease = work.lease
        began = time.perf_counter()
        try:
            weights = await self._fetch(link, lease.weights)
            shard = await self._fetch(link, lease.shard)
        except ConnectionFailed:
            if self._work is work:
                self._work = None  # the server leases it again
            return
        except LanfitError as wrong:
            self._fail(work, wrong, ())
            return
        work.seconds["receive"] = time.perf_counter() - began
        work.step = Step(work.number, "preparing", 0, lease.fit.epochs, 0, 0, 0.0, 0.0)
        fold = f"-fold-{lease.fit.fold.number}" if lease.fit.fold else ""
        work.history = HistoryFile(self._workspace.trained_logs(lease.run, work.name) / f"history{fold}.csv")
        order = Fit(
            number=work.number,
            fit=lease.fit,
            weights=weights,
            shard=shard,
            result=str(self.outbox.new_block(lease.task)),
            copy=str(self._workspace.trained(lease.run) / f"{work.name}{fold}.h5"),
        )
        if self.trainer.ready is None:
            self._say("Waiting for the backend to be imported; training begins then.")
        try:
            await self.trainer.train(order)
        except LanfitError as wrong:
            self._fail(work, wrong, ())

    async def _fetch(self, link: Link, spec: BlockSpec) -> ArrayFile:
        """Receive a block into a memory-mapped file, unless it lies there already."""
        check_specs(spec.arrays, LARGEST_BLOCK)
        path = self._cache / f"{bytes.fromhex(spec.id).hex()}.block"
        if not path.exists():
            size = block_size(spec.arrays)
            part = BlockFile.create(path.with_suffix(".part"), size)
            try:
                await link.fetch(spec.id, part.view[:size])
            finally:
                part.close()
            part.path.replace(path)
        return ArrayFile(str(path), spec)

    # --- what the trainer says ----------------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        work = self._work
        if isinstance(answer, Ready):
            self._say(f"The backend is ready: {answer}.")
        if isinstance(answer, NotReady) and work is not None and (work.receiving is None or work.receiving.done()):
            self._fail(work, TrainingError(answer.error, answer.hint), ())
        if isinstance(answer, Ready | NotReady) or work is None or answer.number != work.number:
            return
        match answer:
            case Step():
                work.step = answer
            case EpochDone(epoch=epoch, metrics=metrics):
                self._send(Epoch(work.lease.run, work.lease.task, epoch, metrics))
                if work.history is not None:
                    work.history.add(epoch, metrics)
                shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                self._log(work, f"Epoch {epoch + 1}/{work.lease.fit.epochs}  {shown}")
            case Trained():
                self._finish(work, answer)
            case NotTrained(stopped=False):
                self._fail(work, TrainingError(answer.error, answer.hint), ())

    def _finish(self, work: Work, trained: Trained) -> None:
        ready = self.trainer.ready
        assert ready is not None
        result = Result(
            run=work.lease.run,
            task=work.lease.task,
            attempt=work.lease.attempt,
            block=trained.block.block,
            metrics=trained.metrics,
            best_epoch=trained.best_epoch,
            scores=trained.scores,
            seconds={**work.seconds, "import": ready.seconds, **trained.seconds},
            backend=ready.backend,
            device=ready.device,
            threads=ready.threads,
        )
        self.outbox.add(self.outbox.new_block(work.lease.task), Entry(work.server_id, result))
        self._work = None
        self._log(work, f"Trained {work.lease.task}; best epoch {trained.best_epoch + 1}. Handing it back.")
        self._send(Offer(result))

    def _on_death(self, died: TrainingError, last_lines: Sequence[str]) -> None:
        self._say(f"{died.message}.")
        if self._work is not None:
            self._fail(self._work, died, last_lines)

    def _fail(self, work: Work, error: LanfitError, last_lines: Sequence[str]) -> None:
        if self._work is work:
            self._work = None
        self.failures += 1
        hint = "" if last_lines else error.hint
        self._log(work, f"{work.lease.task} could not be trained: {error.message}. {hint}".strip())
        self._send(Failed(work.lease.run, work.lease.task, error.message, hint, tuple(last_lines)))

    def _log(self, work: Work, line: str) -> None:
        """Tell the user, the client's own log, and the client's log on the server."""
        self._say(line)
        append_log(self._workspace.trained_logs(work.lease.run, work.name) / "client.log", [line])
        self._send(LogLines(work.lease.run, (line,)))

    def progress(self) -> Progress | None:
        """What to report now; None without a task."""
        work = self._work
        if work is None:
            return None
        step = work.step
        return Progress(
            run=work.lease.run,
            task=work.lease.task,
            epoch=step.epoch,
            epochs=step.epochs,
            step=step.step,
            steps=step.steps,
            loss=step.loss,
            samples_per_second=step.samples_per_second,
            state=step.state,
        )

    async def close(self) -> None:
        """End the trainer; what is in the outbox stays there."""
        with contextlib.suppress(LanfitError):
            await self.stop()
        await self.trainer.close()
        self._clear_cache()
