"""The errand at hand: receives its blocks, has the trainer do it, hands answers back. Knows messages, but no server.

An errand survives the link that it came over. Results are the same whoever trains, so a task that is leased again while
it is trained here is simply finished.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from lanfit.data.memory import readable_size
from lanfit.errors import ConnectionFailed, LanfitError, TrainingError
from lanfit.files import ArrayFile
from lanfit.gauge import Transfer
from lanfit.models.custom import Allowed
from lanfit.models.runtime import keras_version
from lanfit.net.link import Link
from lanfit.partial import is_full
from lanfit.room import AGAIN_SECONDS, Room
from lanfit.system import refused
from lanfit.text import sentence
from lanfit.training import orders
from lanfit.training.orders import Answer, Built, NotDone, NotReady, Ready, Surveyed, Trained
from lanfit.training.trainer_process import TrainerProcess
from lanfit.wire.messages import Message, Progress, Runtime
from lanfit.workspace import Workspace
from lanfit_client.cache import CACHE_LIMIT, Cache
from lanfit_client.checkpoints import Checkpoints
from lanfit_client.errands import Errand, Means, Surveying
from lanfit_client.outbox import Outbox
from lanfit_client.settings import LEAST_ROWS
from lanfit_client.state import ClientState

#: A model whose building has killed so many trainers is given up.
MOST_BUILDS = 2
#: A server can go on with a run that ended so.
RESUMABLE = frozenset({"failed", "interrupted"})


@dataclass(frozen=True)
class Keeping:
    """What is kept of the data that was received, beyond what the run at hand needs.

    Args:
        limit: what may lie in the cache, in bytes.
        data: also when a run has ended.
        restarts: while a run is unfinished also across restarts of the client.
    """

    limit: int = CACHE_LIMIT
    data: bool = False
    restarts: bool = True


@dataclass
class Work:
    """The errand that is done, and how far that is."""

    number: int
    errand: Errand
    link: Link
    receiving: asyncio.Task[None] | None = None
    writing: asyncio.Task[None] | None = None
    """The result waits for room on the disk."""
    order: orders.Work | None = None
    """What the trainer was told to do."""
    built: asyncio.Future[bool] | None = None
    """While the trainer tries to build the model: whether it could, or died of it."""
    deaths: int = 0
    """Of trainers while they tried to."""
    moved: Transfer | None = None
    """What is received for it, while it is."""

    def is_received(self) -> bool:
        return self.receiving is not None and self.receiving.done()


class Worker:
    """Does one errand at a time.

    Args:
        data: the folder of this client's own files.
        runtime, fixed: of the trainer; see TrainerProcess.
        send: called with every message for the server; the agent sends it when there is a link.
        say: called with lines for the client's user.
        keeping: what is kept of the data that was received.
        allowed: the files with custom objects that may be executed.
        detail: called instead with lines that a progress bar makes unnecessary.
        say_now: called instead with what no question may keep back.
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
        say: Callable[[str], None],
        keeping: Keeping,
        allowed: Allowed | None = None,
        detail: Callable[[str], None] | None = None,
        say_now: Callable[[str], None] | None = None,
        least_rows: int = LEAST_ROWS,
    ) -> None:
        self._say_now = say_now or say
        self.outbox = Outbox(state.outbox, say)
        self._keeping = keeping
        self._cache = Cache(state.cache, say, keeping.limit)
        self.trainer = TrainerProcess(runtime, fixed, self._on_answer, self._on_death)
        checkpoints = Checkpoints(state.checkpoints)
        self.means = Means(
            workspace, data, self.outbox, state.cache, checkpoints, send, say, allowed or Allowed(), detail, least_rows
        )
        self.failures = 0
        self.is_unsuitable = False
        """This client's own files can't be used, as they are."""
        self._work: Work | None = None
        self._told: ArrayFile | None = None
        self._count = 0
        self._passing = ""
        self.server_keras = ""
        """The version of the server's Keras, as it said when it let this client in."""
        self._can_build = ("", "")
        """Architecture and compile options of the model that was built last, to see whether it can be."""

    def _clear_cache(self) -> None:
        self._told = None
        self._cache.clear()

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
        self.means.checkpoints.forget(run, task)

    async def end_run(self, run: str, status: str) -> None:
        """The run is over: stop what is still done for it, and remove what was received, unless it can be gone on."""
        if self._work is not None and self._work.errand.run == run:
            await self.stop()
        resumable = bool(run) and status in RESUMABLE
        if not resumable:
            self.means.checkpoints.end_run(run)
        if self._work is None and not self._keeping.data and not resumable:
            self._clear_cache()

    async def stop(self) -> None:
        """Stop the errand at hand."""
        work, self._work = self._work, None
        if work is None:
            return
        if work.writing is not None:
            work.writing.cancel()
        elif work.receiving is not None and not work.receiving.done():
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
            work.errand.allow()
            await self._try_model(work)
            files = await self._cache.get(
                work.link, work.errand.blocks, work.errand.wait, lambda came, total: self._coming(work, came, total)
            )
            if work.moved is None:
                work.errand.receives(0)
        except ConnectionFailed:
            if self._work is work:
                self._work = None  # the server wants it again
            return
        except (LanfitError, OSError) as wrong:
            self._fail(work, refused(wrong) if isinstance(wrong, OSError) else wrong, ())
            return
        finally:
            moved, work.moved = work.moved, None
        if moved is not None and moved.spoken:
            self.means.say_detail(f"Received {readable_size(moved.total)}.")
        if self._passing not in ("", work.errand.passing):
            self._cache.forget(self._passing)
        self._passing = work.errand.passing
        work.order = work.errand.order(work.number, files, time.perf_counter() - began)
        await self._order(work, work.order)

    def _coming(self, work: Work, came: int, total: int) -> None:
        """So much of what is received for the work has come."""
        if work.moved is None:
            work.moved = Transfer(total, came, time.monotonic())
            work.errand.receives(total)
        work.moved.done = came
        if line := work.moved.step(time.monotonic()):
            self.means.say_detail(f"Receiving: {line}.")

    async def _try_model(self, work: Work) -> None:
        """Let the trainer build the model, once, if the server has another Keras: no rows are received in vain."""
        order = work.errand.build(work.number, self.server_keras)
        if order is None or self.server_keras in ("", keras_version()):
            return
        tried = (order.model.architecture, order.model.compile)
        while tried != self._can_build:
            work.built = asyncio.get_running_loop().create_future()
            await self.trainer.do(order)
            if await work.built:
                self._can_build = tried

    async def _order(self, work: Work, order: orders.Work) -> None:
        if self.trainer.ready is None:
            self.means.say("Waiting for the backend to be imported; it goes on then.")
        try:
            await self.trainer.do(order)
        except LanfitError as wrong:
            self._fail(work, wrong, ())

    # --- what the trainer says ----------------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        work, ready = self._work, self.trainer.ready
        if isinstance(answer, Ready):
            self.means.say(f"The backend is ready: {answer}.")
            return
        if isinstance(answer, NotReady):
            self._say_now(f"{sentence(answer.error)}.")
            if work is not None and (work.is_received() or work.built is not None):
                self._fail(work, TrainingError(answer.error, answer.hint), ())
            return
        if work is None or answer.number != work.number:
            return
        if isinstance(answer, NotDone):
            if not answer.stopped:
                self._fail(work, TrainingError(answer.error, answer.hint, answer.code), ())
            return
        if isinstance(answer, Built):
            if work.built is not None:
                work.built.set_result(True)
            return
        assert ready is not None
        if isinstance(answer, Surveyed):
            self._told = answer.block
            self.is_unsuitable = False
        try:
            done = work.errand.hear(answer, ready)
        except OSError as wrong:
            if isinstance(answer, Trained):
                work.writing = asyncio.create_task(self._keep_trying(work, answer, ready, wrong))
            else:
                self._fail(work, refused(wrong), ())
            return
        if done:
            self._work = None

    async def _keep_trying(self, work: Work, answer: Answer, ready: Ready, wrong: OSError) -> None:
        """Hand a result in that could not be written; the trainer's own file of it stays until that is done."""
        room = Room("A finished result can't be written", self.means.say)
        while self._work is work:
            if not is_full(wrong):
                self._fail(work, refused(wrong), ())
                return
            room.is_missing(wrong)
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                work.errand.hear(answer, ready)
            except OSError as again:
                wrong = again
            else:
                self.means.say("There was room for the result.")
                self._work = None

    def _on_death(self, died: TrainingError, last_lines: Sequence[str]) -> None:
        work = self._work
        if self.trainer.hung:
            self.means.say("The trainer did not stop when it was told to: it was killed, and another one is started.")
        if work is not None and work.order is not None and (self.trainer.hung or work.errand.again(died)):
            work.receiving = asyncio.create_task(self._order(work, work.order))
            return
        if self.trainer.hung:
            return
        said = sentence(died.message)
        if work is not None and work.order is None and self._begins_again(work):
            self.means.say(f"{said}; another one is started. Receiving goes on.")
            return
        self.means.say(f"{said}.")
        if work is not None:
            self._fail(work, died, last_lines)

    def _begins_again(self, work: Work) -> bool:
        """Whether the work goes on whose blocks are still on their way: only building its model kills trainers."""
        if work.built is not None and not work.built.done():
            work.deaths += 1
            if work.deaths == MOST_BUILDS:
                return False
            work.built.set_result(False)
        return True

    def _fail(self, work: Work, error: LanfitError, last_lines: Sequence[str]) -> None:
        if self._work is work:
            self._work = None
        if work.built is not None:
            work.built.cancel()
        self.refuse(work.errand, error, last_lines)

    def refuse(self, errand: Errand, error: LanfitError, last_lines: Sequence[str] = ()) -> None:
        """Tell that an errand could not be done, or may not be: then nothing was read or received for it."""
        if isinstance(errand, Surveying):
            self.is_unsuitable = True
        else:
            self.failures += 1
        errand.fail(error, last_lines)

    def progress(self) -> Progress | None:
        """What to report now; None when there is nothing."""
        work = self._work
        progress = work.errand.progress() if work is not None else None
        if work is None or progress is None or (moved := work.moved) is None or progress.state == "no room":
            return progress
        return msgspec.structs.replace(progress, state="receiving", epoch=0, step=moved.done, steps=moved.total)

    @property
    def receiving(self) -> Transfer | None:
        """What is received at this moment."""
        return self._work.moved if self._work is not None else None

    async def close(self) -> None:
        """End the trainer; what is in the outbox stays there, and what was received for an unfinished run."""
        with contextlib.suppress(LanfitError):
            await self.stop()
        await self.trainer.close()
        if not self._keeping.restarts:
            self._clear_cache()
