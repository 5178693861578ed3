"""The executor carries out work items with one trainer, one at a time, for real and simulated clients. No network code.

Theory of operation. An item is current from `begin` until it is done, has failed, or is stopped or dropped. It is in
one of three states:

- *prepared*: its command is being prepared: blocks are received or written. The trainer has not got it yet, so its
  death does not affect the item, unless it dies MOST_BUILDS times while it builds the model (`build`).
- *given*: the trainer has the command. Its answers go to the item; answers with another number belong to an earlier
  item and are ignored. When the trainer dies, the item decides whether a new trainer gets the same command, which is
  the case if there is a later checkpoint than at the last death.
- *handed over*: the trainer is done, but its result could not be stored because the disk is full, which is tried
  again. The death of the trainer has no effect any more.

`stop` waits for the answer of the trainer before the next item may begin; a pool uses it, which has other trainers.
`drop` does not wait; a client uses it, which has only this trainer. `TrainerProcess` kills a trainer that hangs, and
commands that it received until then are given to its replacement.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from typing import Protocol

from lanfit.core.system import refused
from lanfit.errors import LanfitError, TrainingError
from lanfit.training import commands
from lanfit.training.commands import Answer, Built, Evaluated, NotDone, NotReady, Ready, Surveyed, Trained
from lanfit.training.trainer_process import TrainerProcess
from lanfit.transfer.disk_space import AGAIN_SECONDS, RetryWhenFull
from lanfit.transfer.partial import is_full
from lanfit.wire.messages import Adjustment, Runtime

#: A model is given up when this many trainers died while they built it.
MOST_BUILDS = 2
#: The message about a trainer that was killed because it did not stop.
HUNG = "The trainer did not stop when requested: it was killed and is restarted."


class Dropped(Exception):
    """Raised while a command is prepared: the item is dropped without a message."""


class WorkItem(Protocol):
    """Work for a trainer, as far as the executor needs to know it."""

    @property
    def adjustment(self) -> Adjustment | None:
        """Return what the operator wants of it; None if that is nothing special."""
        ...

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        """Handle an answer of the trainer.

        Raises:
            OSError: a result can't be stored. It is handed over again when there may be space.
        """
        ...

    def again(self, died: LanfitError) -> bool:
        """Return whether a new trainer gets the same command. Called when the trainer died."""
        ...

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        """Report that the item failed."""
        ...


class Death(Enum):
    """The consequence of a trainer's death."""

    HUNG = "it was killed here, because it did not stop"
    GOES_ON = "the replacement continues the command"
    PREPARED = "the current item has not been given to it, and continues"
    LOST = "there was no current item, or it fails"


class Host(Protocol):
    """The owner of an executor, which is notified of events."""

    def on_ready(self, ready: Ready) -> None:
        """Handle a trainer that has loaded its backend."""
        ...

    def on_unusable(self, why: NotReady) -> None:
        """Handle a backend that can't be used with this runtime."""
        ...

    def on_early_command(self) -> None:
        """Handle a command that waits for a trainer to load its backend."""
        ...

    def on_death(self, died: LanfitError, then: Death) -> None:
        """Handle the death of the trainer."""
        ...

    def on_full_disk(self, line: str) -> None:
        """Handle a result that waits for free disk space; empty when the wait is over."""
        ...

    def on_free(self) -> None:
        """Handle the end of the current item."""
        ...

    def on_failed(self, item: WorkItem, error: LanfitError, last_lines: Sequence[str]) -> None:
        """Handle the failure of the current item; its own `fail` was not called yet."""
        ...


class Executor:
    """One trainer, and its current item.

    Args:
        runtime, fixed: see TrainerProcess.
    """

    def __init__(self, runtime: Runtime, fixed: frozenset[str], host: Host) -> None:
        self.trainer = TrainerProcess(runtime, fixed, self._on_answer, self._on_death)
        self.item: WorkItem | None = None
        self._host = host
        self._number = 0
        self._command: commands.Work | None = None
        """The command that the trainer was given."""
        self._built: asyncio.Future[bool] | None = None
        """Set while the trainer builds the model: the future result of that."""
        self._deaths = 0
        """The number of trainers that died while they built the model."""
        self._stopped = False
        """The current item was stopped: its answers are ignored."""
        self._is_handed_over = False
        self.working: asyncio.Task[None] | None = None
        """The coroutine that prepares and gives a command, or waits for disk space."""

    @property
    def is_given(self) -> bool:
        """Whether the command of the current item is complete."""
        return self._command is not None

    # --- requests -----------------------------------------------------------------------------------------

    def begin(self, item: WorkItem, prepare: Callable[[int], Awaitable[commands.Work]]) -> None:
        """Start this item. There must be no current item.

        Args:
            prepare: returns the command with this number, or raises Dropped, a LanfitError or an OSError.
        """
        self._number += 1
        self.item, self._deaths = item, 0
        self._stopped = self._is_handed_over = False
        self.working = asyncio.create_task(self._begin(item, prepare))

    async def _begin(self, item: WorkItem, prepare: Callable[[int], Awaitable[commands.Work]]) -> None:
        try:
            command = await prepare(self._number)
        except Dropped:
            self._end()
        except (LanfitError, OSError) as error:
            self._fail(refused(error) if isinstance(error, OSError) else error, ())
        else:
            if self._stopped:
                self._end()
            else:
                await self._give(command)

    async def build(self, command: commands.Build) -> None:
        """Let the trainer build the model of a command that is being prepared. The item ends if that fails."""
        while True:
            self._built = asyncio.get_running_loop().create_future()
            await self.trainer.do(command)
            if await self._built:
                self._built = None
                return

    async def _give(self, command: commands.Work) -> None:
        self._command = command
        if self.trainer.ready is None:
            self._host.on_early_command()
        try:
            await self.trainer.do(command)
            if self._stopped:  # stopped while the trainer was starting
                await self.trainer.stop(self._number)
            await self.adjust()
        except LanfitError as error:
            self._fail(error, ())

    async def stop(self) -> None:
        """Stop the current item. It stays current until the trainer has answered."""
        self._stopped = True
        if self._is_handed_over:
            await self._cancel()
            self._end()
        elif self._command is not None:
            await self.trainer.stop(self._number)

    async def adjust(self) -> None:
        """Give the trainer the adjustment of the current item; it gets that later if it has no command yet."""
        if self._command is not None and self.item is not None and self.item.adjustment is not None:
            await self.trainer.adjust(self._number, self.item.adjustment)

    async def drop(self) -> None:
        """Drop the current item at once."""
        if self.item is None:
            return
        self._forget()
        if not await self._cancel():
            await self.trainer.stop(self._number)

    async def _cancel(self) -> bool:
        """Cancel the running coroutine, if there is one; return whether there was."""
        if self.working is None or self.working.done():
            return False
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)
        return True

    async def close(self) -> None:
        """End the trainer."""
        self._forget()
        await self._cancel()
        with contextlib.suppress(LanfitError):
            await self.trainer.close()

    # --- how it ends ----------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self.item = self._command = None
        if self._built is not None:
            self._built.cancel()
            self._built = None

    def _end(self) -> None:
        self._forget()
        self._host.on_free()

    def _fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        item, stopped = self.item, self._stopped
        self._end()
        if item is not None and not stopped:
            self._host.on_failed(item, error, last_lines)

    # --- answers of the trainer ------------------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        item, ready = self.item, self.trainer.ready
        match answer:
            case Ready():
                self._host.on_ready(answer)
            case NotReady(error, hint):
                self._host.on_unusable(answer)
                if self._command is not None or self._built is not None:  # else it is reported with the next command
                    self._fail(TrainingError(error, hint), ())
            case _ if item is None or answer.number != self._number or self._is_handed_over:
                pass
            case NotDone(_, stopped, error, hint, code):
                self._stopped = self._stopped or stopped
                self._fail(TrainingError(error, hint, code), ())
            case Built():
                if self._built is not None:
                    self._built.set_result(True)
            case _ if ready is not None:
                self._pass_on(item, answer, ready)

    def _pass_on(self, item: WorkItem, answer: Answer, ready: Ready) -> None:
        is_last = isinstance(answer, Trained | Evaluated | Surveyed)
        try:
            if not self._stopped:
                item.on_answer(answer, ready)
        except OSError as error:
            if isinstance(answer, Trained):
                self._is_handed_over = True
                self.working = asyncio.create_task(self._hand_over(item, answer, ready, error))
            else:
                self._fail(refused(error), ())
        else:
            if is_last:
                self._end()

    async def _hand_over(self, item: WorkItem, answer: Trained, ready: Ready, wrong: OSError) -> None:
        """Retry storing a result. The trainer's own file of it is kept until that succeeds."""
        retry = RetryWhenFull("A finished result can't be written", self._host.on_full_disk)
        while True:
            if not is_full(wrong):
                self._fail(refused(wrong), ())
                return
            retry.is_missing(wrong)
            await asyncio.sleep(AGAIN_SECONDS)
            try:
                item.on_answer(answer, ready)
            except OSError as again:
                wrong = again
            else:
                self._host.on_full_disk("The result fits on the disk again.")
                self._end()
                return

    def _on_death(self, died: TrainingError, last_lines: Sequence[str]) -> None:
        item, command, hung = self.item, self._command, self.trainer.hung
        if item is None or self._is_handed_over:
            self._host.on_death(died, Death.HUNG if hung else Death.LOST)
        elif command is None:
            if self._goes_on_without(hung=hung):
                self._host.on_death(died, Death.HUNG if hung else Death.PREPARED)
            else:
                self._host.on_death(died, Death.LOST)
                self._fail(died, last_lines)
        elif not self._stopped and (hung or item.again(died)):
            self._host.on_death(died, Death.HUNG if hung else Death.GOES_ON)
            self.working = asyncio.create_task(self._give(command))
        else:
            self._host.on_death(died, Death.HUNG if hung else Death.LOST)
            self._fail(died, last_lines)

    def _goes_on_without(self, *, hung: bool) -> bool:
        """Return whether an item whose command is not complete continues after the death of the trainer."""
        if self._built is not None and not self._built.done():
            self._deaths += not hung  # a hung trainer died of an earlier command
            if self._deaths == MOST_BUILDS:
                return False
            self._built.set_result(False)
        return True
