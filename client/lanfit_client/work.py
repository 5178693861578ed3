"""The errand at hand: receives its blocks, has the trainer do it, hands answers back. Knows messages, but no server.

An errand survives the link that it came over. Results are the same whoever trains, so a task that is leased again while
it is trained here is simply finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lanfit.crash import crash_point
from lanfit.errors import ConnectionFailed, LanfitError, TrainingError
from lanfit.files import ArrayFile, BlockFile
from lanfit.net.link import Link
from lanfit.wire.arrays import BlockSpec, block_size, check_specs
from lanfit.wire.messages import Message, Progress, Runtime
from lanfit.workspace import Workspace
from lanfit_client.errands import Errand, Means
from lanfit_client.orders import Answer, NotDone, NotReady, Ready, Surveyed
from lanfit_client.outbox import Outbox
from lanfit_client.state import ClientState
from lanfit_client.trainers import TrainerProcess

#: The largest block that is taken from a server; whether the disk has room is found out before it is fetched.
LARGEST_BLOCK = 1 << 40


@dataclass
class Work:
    """The errand that is done, and how far that is."""

    number: int
    errand: Errand
    link: Link
    receiving: asyncio.Task[None] | None = None

    def is_received(self) -> bool:
        return self.receiving is not None and self.receiving.done()


class Worker:
    """Does one errand at a time.

    Args:
        data: the folder of this client's own files.
        runtime, fixed: of the trainer; see TrainerProcess.
        send: called with every message for the server; the agent sends it when there is a link.
        say: called with lines for the client's user.
    """

    def __init__(
        self,
        state: ClientState,
        workspace: Workspace,
        data: Path,
        runtime: Runtime,
        fixed: frozenset[str],
        send: Callable[[Message], None],
        say: Callable[[str], None],
    ) -> None:
        self.outbox = Outbox(state.outbox)
        self.trainer = TrainerProcess(runtime, fixed, self._on_answer, self._on_death)
        self.means = Means(workspace, data, self.outbox, state.cache, send, say)
        self.failures = 0
        self._work: Work | None = None
        self._told: ArrayFile | None = None
        self._count = 0
        self._clear_cache()

    def _clear_cache(self) -> None:
        self._told = None
        shutil.rmtree(self.means.cache, ignore_errors=True)

    # --- what the server wants ----------------------------------------------------------------------------------

    async def take(self, errand: Errand, link: Link) -> None:
        """Do this, unless it is being done or has been, and nothing else."""
        work = self._work
        if work is not None and work.errand.key == errand.key and (work.is_received() or work.link is link):
            work.errand.renew(errand)
            return
        if errand.is_done():
            return
        await self.stop()
        self._count += 1
        work = self._work = Work(self._count, errand, link)
        errand.begin()
        work.receiving = asyncio.create_task(self._receive(work))

    async def cancel(self, run: str, task: str) -> None:
        """Stop a task: nobody needs it any more."""
        if self._work is not None and self._work.errand.key == ("task", run, task):
            await self.stop()

    async def end_run(self, run: str) -> None:
        """The run is over: stop what is still done for it, and remove what was received for it."""
        if self._work is not None and self._work.errand.run == run:
            await self.stop()
        if self._work is None:
            self._clear_cache()

    async def stop(self) -> None:
        """Stop the errand at hand."""
        work, self._work = self._work, None
        if work is None:
            return
        if work.receiving is not None and not work.receiving.done():
            work.receiving.cancel()
            await asyncio.gather(work.receiving, return_exceptions=True)
        else:
            await self.trainer.stop(work.number)

    def block(self, block_id: str) -> ArrayFile | None:
        """A block that the server was told of: of a result, or of the last survey."""
        entry = self.outbox.get(block_id)
        if entry is not None:
            return ArrayFile(str(self.outbox.block(block_id)), entry.result.block)
        return self._told if self._told is not None and self._told.block.id == block_id else None

    # --- the errand ---------------------------------------------------------------------------------------------

    async def _receive(self, work: Work) -> None:
        began = time.perf_counter()
        try:
            files = [await self._fetch(work.link, spec) for spec in work.errand.blocks]
        except ConnectionFailed:
            if self._work is work:
                self._work = None  # the server wants it again
            return
        except LanfitError as wrong:
            self._fail(work, wrong, ())
            return
        order = work.errand.order(work.number, files, time.perf_counter() - began)
        if self.trainer.ready is None:
            self.means.say("Waiting for the backend to be imported; it goes on then.")
        try:
            await self.trainer.do(order)
        except LanfitError as wrong:
            self._fail(work, wrong, ())

    async def _fetch(self, link: Link, spec: BlockSpec) -> ArrayFile:
        """Receive a block into a memory-mapped file, unless it lies there already."""
        check_specs(spec.arrays, LARGEST_BLOCK)
        path = self.means.cache / f"{bytes.fromhex(spec.id).hex()}.block"
        if not path.exists():
            size = block_size(spec.arrays)
            part = BlockFile.create(path.with_suffix(".part"), size)
            try:
                await link.fetch(spec.id, part.view[:size])
            finally:
                part.close()
            part.path.replace(path)
            crash_point("client.block-received")
        return ArrayFile(str(path), spec)

    # --- what the trainer says ----------------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        work, ready = self._work, self.trainer.ready
        if isinstance(answer, Ready):
            self.means.say(f"The backend is ready: {answer}.")
            return
        if isinstance(answer, NotReady):
            if work is not None and work.is_received():
                self._fail(work, TrainingError(answer.error, answer.hint), ())
            return
        if work is None or answer.number != work.number:
            return
        if isinstance(answer, NotDone):
            if not answer.stopped:
                self._fail(work, TrainingError(answer.error, answer.hint), ())
            return
        assert ready is not None
        if isinstance(answer, Surveyed):
            self._told = answer.block
        if work.errand.hear(answer, ready):
            self._work = None

    def _on_death(self, died: TrainingError, last_lines: Sequence[str]) -> None:
        self.means.say(f"{died.message}.")
        if self._work is not None:
            self._fail(self._work, died, last_lines)

    def _fail(self, work: Work, error: LanfitError, last_lines: Sequence[str]) -> None:
        if self._work is work:
            self._work = None
        self.failures += 1
        work.errand.fail(error, last_lines)

    def progress(self) -> Progress | None:
        """What to report now; None when there is nothing."""
        return self._work.errand.progress() if self._work is not None else None

    async def close(self) -> None:
        """End the trainer; what is in the outbox stays there."""
        with contextlib.suppress(LanfitError):
            await self.stop()
        await self.trainer.close()
        self._clear_cache()
