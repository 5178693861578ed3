"""A pool of trainers for many clients: work items queue until one is free. Independent of runs and clients.

A trainer keeps nothing of a command but its compiled model, so memory goes by the number of trainers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from lanfit.core.text import sentence
from lanfit.errors import InputError, LanfitError
from lanfit.training import executor
from lanfit.training.commands import NotReady, Ready, Work
from lanfit.training.executor import HUNG, Death, Executor
from lanfit.wire.messages import Runtime


class WorkItem(executor.WorkItem, Protocol):
    """Work for a trainer."""

    @property
    def warm(self) -> str:
        """Return the block that its trainer reads: a trainer that read the same one last is preferred."""
        ...

    async def make_command(self, number: int) -> Work:
        """Return the command for a trainer, which is free.

        Raises:
            LanfitError, OSError: it can't be done.
        """
        ...


class Pool(Protocol):
    """The interface of pools."""

    @property
    def size(self) -> int:
        """Return the number of trainers."""
        ...

    def submit(self, item: WorkItem) -> None:
        """Queue an item."""
        ...

    async def withdraw(self, item: WorkItem) -> None:
        """Cancel an item; its methods are not called any more."""
        ...

    async def adjust(self, item: WorkItem) -> None:
        """Pass the adjustment of an item on to its trainer; an item that waits brings it along."""
        ...

    def waiting(self) -> Collection[WorkItem]:
        """Return the items that wait."""
        ...

    async def close(self) -> None:
        """End all trainers."""
        ...


class TrainerPool:
    """Trainer processes of this machine.

    Args:
        runtime: what each runs with; a task may want another backend or device, but never other threads.
        size: how many there are.
        on_ready: called when the first of them has its backend.
        on_death: called with a message when one of them dies.
        on_unusable: called when the backend can't be used as the runtime wants it.
    """

    def __init__(
        self,
        runtime: Runtime,
        size: int,
        *,
        on_ready: Callable[[Ready], None] = lambda ready: None,
        on_death: Callable[[str], None] = lambda line: None,
        on_unusable: Callable[[LanfitError], None] = lambda error: None,
    ) -> None:
        self.on_death = on_death
        self.on_unusable = on_unusable
        self._on_ready = on_ready
        self._is_ready = False
        self._queue: deque[WorkItem] = deque()
        self._slots = [Slot(runtime, self) for _ in range(size)]

    @property
    def size(self) -> int:
        return len(self._slots)

    async def start(self) -> None:
        """Start all trainers, which import their backend in advance.

        Raises:
            InputError: the backend is not installed.
        """
        await asyncio.gather(*(slot.trainer.start() for slot in self._slots))

    def ready(self, ready: Ready) -> None:
        """Handle a trainer that has loaded its backend."""
        if not self._is_ready:
            self._is_ready = True
            self._on_ready(ready)

    def submit(self, item: WorkItem) -> None:
        self._queue.append(item)
        self.dispatch()

    async def withdraw(self, item: WorkItem) -> None:
        if item in self._queue:
            self._queue.remove(item)
        for slot in self._slots:
            if slot.executor.item is item:
                await slot.executor.stop()

    async def adjust(self, item: WorkItem) -> None:
        for slot in self._slots:
            if slot.executor.item is item:
                await slot.executor.adjust()

    def waiting(self) -> Collection[WorkItem]:
        return self._queue

    def dispatch(self) -> None:
        """Assign waiting items in order, preferably to the trainer that read the same block last.

        Results do not depend on the trainer, so this only changes times.
        """
        for slot in self._free():
            if (item := next((each for each in self._queue if each.warm == slot.warm), None)) is not None:
                self._give(slot, item)
        for slot in sorted(self._free(), key=lambda slot: slot.trainer.ready is None):
            if self._queue:
                self._give(slot, self._queue[0])

    def _free(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.executor.item is None]

    def _give(self, slot: Slot, item: WorkItem) -> None:
        self._queue.remove(item)
        slot.begin(item)

    async def close(self) -> None:
        self._queue.clear()
        await asyncio.gather(*(slot.executor.close() for slot in self._slots))


class Slot:
    """One trainer of a pool, and its item."""

    def __init__(self, runtime: Runtime, pool: TrainerPool) -> None:
        self.executor = Executor(runtime, frozenset({"threads"}), self)
        self.trainer = self.executor.trainer
        self.warm = ""
        self._pool = pool

    def begin(self, item: WorkItem) -> None:
        """Start an item on this free trainer."""
        self.warm = item.warm
        self.executor.begin(item, item.make_command)

    def on_ready(self, ready: Ready) -> None:
        self._pool.ready(ready)

    def on_unusable(self, why: NotReady) -> None:
        self._pool.on_unusable(InputError(why.error, why.hint))

    def on_early_command(self) -> None:
        pass  # reported when the first of them is ready

    def on_death(self, died: LanfitError, then: Death) -> None:
        self.warm = ""
        self._pool.on_death(HUNG if then is Death.HUNG else f"{sentence(died.message)}.")

    def on_full_disk(self, line: str) -> None:
        self._pool.on_death(line)

    def on_free(self) -> None:
        self._pool.dispatch()

    def on_failed(self, item: executor.WorkItem, error: LanfitError, last_lines: Sequence[str]) -> None:
        item.fail(error, last_lines)
