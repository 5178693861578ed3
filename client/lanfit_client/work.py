"""The current work item: receives its blocks, and passes it to the executor. Independent of the connection.

A work item survives the link over which it was received. Results do not depend on the client that trains, so a task
that is leased again while it is trained here is simply finished.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from lanfit.core.gauge import Transfer
from lanfit.core.memory import readable_size
from lanfit.core.text import sentence
from lanfit.core.workspace import Workspace
from lanfit.errors import ConnectionFailed, LanfitError
from lanfit.models.custom_files import Allowed
from lanfit.models.runtime import keras_version
from lanfit.net.link import Link
from lanfit.training import commands, executor
from lanfit.training.commands import NotReady, Ready
from lanfit.training.executor import HUNG, Death, Dropped, Executor
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Adjustment, Message, Progress, Runtime
from lanfit_client.settings import LEAST_ROWS
from lanfit_client.store.cache import CACHE_LIMIT, Cache
from lanfit_client.store.checkpoints import Checkpoints
from lanfit_client.store.outbox import Outbox
from lanfit_client.store.state import ClientState
from lanfit_client.work_items import Context, Surveying, WorkItem

#: The statuses of runs that a server can resume.
RESUMABLE = frozenset({"failed", "interrupted"})


@dataclass(frozen=True)
class CachePolicy:
    """How much received data is kept beyond the current run.

    Args:
        limit: the maximum size of the cache, in bytes.
        data: also when a run has ended.
        restarts: while a run is unfinished also across restarts of the client.
    """

    limit: int = CACHE_LIMIT
    data: bool = False
    restarts: bool = True


@dataclass
class Work:
    """The current work item, and its link."""

    item: WorkItem
    link: Link
    moved: Transfer | None = None
    """The transfer for it, while it is in progress."""


class Worker:
    """Does one work item at a time.

    Args:
        data: the folder of this client's own files.
        runtime, fixed: of the trainer; see TrainerProcess.
        send: called with every message for the server; the agent sends it when there is a link.
        log: called with lines for the client's user.
        keeping: which received data is cached.
        allowed: the files with custom objects that may be executed.
        detail: called instead with lines that a progress bar makes unnecessary.
        log_now: called instead with what no question may keep back.
        least_rows: a server gets nothing of fewer training rows of the own files.
    """

    def __init__(
        self,
        state: ClientState,
        workspace: Workspace,
        data: Path,
        runtime: Runtime,
        fixed: frozenset[str],
        send: Callable[[Message], None],
        log: Callable[[str], None],
        cache_policy: CachePolicy,
        allowed: Allowed | None = None,
        detail: Callable[[str], None] | None = None,
        log_now: Callable[[str], None] | None = None,
        least_rows: int = LEAST_ROWS,
    ) -> None:
        self._log_now = log_now or log
        self.outbox = Outbox(state.outbox, log)
        self._cache_policy = cache_policy
        self._cache = Cache(state.cache, log, cache_policy.limit)
        self.executor = Executor(runtime, fixed, self)
        self.trainer = self.executor.trainer
        checkpoints = Checkpoints(state.checkpoints)
        self.context = Context(
            *(workspace, data, self.outbox, state.cache, checkpoints, send, log, allowed or Allowed(), detail),
            *(least_rows, self._surveyed),
        )
        self.failures = 0
        self.is_unsuitable = False
        """Whether this client's own data can't be used in its current state."""
        self._work: Work | None = None
        self._survey: ArrayFile | None = None
        self._passing = ""
        self.server_keras = ""
        """The version of the server's Keras, from the login."""
        self._can_build = ("", "")
        """Architecture and compile options of the last model that was checked by building it."""

    def _clear_cache(self) -> None:
        self._survey = None
        self._cache.clear()

    # --- requests of the server ----------------------------------------------------------------------------------

    async def take(self, item: WorkItem, link: Link) -> None:
        """Start this item and drop any other, unless it is in progress or done."""
        work = self._work
        if work is not None and work.item.key == item.key and (self.executor.is_given or work.link is link):
            work.item.renew(item)
            await self.executor.adjust()
            return
        if item.is_done():
            return
        await self.stop()
        work = self._work = Work(item, link)
        item.begin()
        self.executor.begin(item, partial(self._receive, work))

    async def cancel(self, run: str, task: str) -> None:
        """Stop a task that is not needed any more."""
        if self._work is not None and self._work.item.key == ("task", run, task):
            await self.stop()
        self.context.checkpoints.forget(run, task)

    async def adjust(self, run: str, task: str, adjustment: Adjustment) -> None:
        """Pause or continue a task, or change its settings; without this task nothing happens."""
        if self._work is not None and self._work.item.key == ("task", run, task):
            self._work.item.adjust(adjustment)
            await self.executor.adjust()

    async def end_run(self, run: str, status: str) -> None:
        """Handle the end of a run: stop its work, and remove received data unless the run can be resumed."""
        if self._work is not None and self._work.item.run == run:
            await self.stop()
        resumable = bool(run) and status in RESUMABLE
        if not resumable:
            self.context.checkpoints.end_run(run)
        if self._work is None and not self._cache_policy.data and not resumable:
            self._clear_cache()

    async def stop(self) -> None:
        """Stop the current work item."""
        self._work = None
        await self.executor.drop()

    def block(self, block_id: str) -> ArrayFile | None:
        """Return a block that was announced to the server: of a result, or of the last survey."""
        entry = self.outbox.get(block_id)
        if entry is not None:
            return ArrayFile(str(self.outbox.block(block_id)), entry.result.block)
        return self._survey if self._survey is not None and self._survey.block.id == block_id else None

    # --- the work item ------------------------------------------------------------------------------------------

    async def _receive(self, work: Work, number: int) -> commands.Work:
        """Receive the blocks of the item; return its command."""
        began = time.perf_counter()
        try:
            work.item.allow()
            await self._try_model(work, number)
            files = await self._cache.get(
                work.link, work.item.blocks, work.item.wait, lambda came, total: self._coming(work, came, total)
            )
            if work.moved is None:
                work.item.receives(0)
        except ConnectionFailed as ended:
            raise Dropped from ended  # the server requested it again
        finally:
            moved, work.moved = work.moved, None
        if moved is not None and moved.spoken:
            self.context.log_detail(f"Received {readable_size(moved.total)}.")
        if self._passing not in ("", work.item.passing):
            self._cache.forget(self._passing)
        self._passing = work.item.passing
        return work.item.make_command(number, files, time.perf_counter() - began)

    def _coming(self, work: Work, came: int, total: int) -> None:
        """Update the progress of receiving."""
        if work.moved is None:
            work.moved = Transfer(total, came, time.monotonic())
            work.item.receives(total)
        work.moved.done = came
        if line := work.moved.step(time.monotonic()):
            self.context.log_detail(f"Receiving: {line}.")

    async def _try_model(self, work: Work, number: int) -> None:
        """Let the trainer build the model once if the server has another Keras, before rows are received."""
        order = work.item.build(number, self.server_keras)
        if order is None or self.server_keras in ("", keras_version()):
            return
        tried = (order.model.architecture, order.model.compile)
        if tried != self._can_build:
            await self.executor.build(order)
            self._can_build = tried

    # --- outcomes -------------------------------------------------------------------------------------

    def on_ready(self, ready: Ready) -> None:
        self.context.log(f"The backend is ready: {ready}.")

    def on_unusable(self, why: NotReady) -> None:
        self._log_now(f"{sentence(why.error)}.")

    def on_early_command(self) -> None:
        self.context.log("Waiting for the backend to be imported.")

    def on_death(self, died: LanfitError, then: Death) -> None:
        reason = sentence(died.message)
        match then:
            case Death.HUNG:
                self.context.log(HUNG)
            case Death.PREPARED:
                self.context.log(f"{reason}; it is restarted. Receiving continues.")
            case Death.LOST:
                self.context.log(f"{reason}.")
            case Death.GOES_ON:
                pass  # the item has reported it

    def on_full_disk(self, line: str) -> None:
        self.context.log(line)

    def on_free(self) -> None:
        self._work = None

    def on_failed(self, item: executor.WorkItem, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.refuse(item, error, last_lines)

    def _surveyed(self, block: ArrayFile) -> None:
        """Announce the block of a survey, which the server may fetch."""
        self._survey = block
        self.is_unsuitable = False

    def refuse(self, item: executor.WorkItem, error: LanfitError, last_lines: Sequence[str] = ()) -> None:
        """Report that a work item failed or is not allowed, before anything was read or received for it."""
        if isinstance(item, Surveying):
            self.is_unsuitable = True
        else:
            self.failures += 1
        item.fail(error, last_lines)

    def progress(self) -> Progress | None:
        """Return the progress to report; None if there is none."""
        work = self._work
        progress = work.item.progress() if work is not None else None
        if work is None or progress is None or (moved := work.moved) is None or progress.state == "no room":
            return progress
        return msgspec.structs.replace(progress, state="receiving", epoch=0, step=moved.done, steps=moved.total)

    @property
    def receiving(self) -> Transfer | None:
        """The current transfer."""
        return self._work.moved if self._work is not None else None

    async def close(self) -> None:
        """End the trainer. The outbox and the received data of an unfinished run are kept."""
        self._work = None
        await self.executor.close()
        if not self._cache_policy.restarts:
            self._clear_cache()
