"""A few warm trainers for many clients: orders queue until one is free. Knows no run and no client.

A trainer keeps nothing of an order but its compiled model, so memory goes by the number of trainers.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Protocol

from lanfit.errors import InputError, LanfitError, TrainingError
from lanfit.system import refused
from lanfit.text import sentence
from lanfit.training.orders import Answer, NotDone, NotReady, Ready, Scored, Surveyed, Trained, Work
from lanfit.training.trainer_process import TrainerProcess
from lanfit.wire.messages import Runtime


class Errand(Protocol):
    """What somebody wants a trainer to do."""

    @property
    def warm(self) -> str:
        """The block that its trainer reads: one that read the same last is the best."""
        ...

    async def order(self, number: int) -> Work:
        """A trainer is free: what it is to do.

        Raises:
            LanfitError, OSError: it can't be done.
        """
        ...

    def hear(self, answer: Answer, ready: Ready) -> None:
        """Take in what the trainer says. It is free again when this was the last of it."""
        ...

    def again(self, died: LanfitError) -> bool:
        """The trainer died of it: whether another one is to go on with the same order."""
        ...

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        """It could not be done."""
        ...


class Pool(Protocol):
    """Whatever does errands."""

    def submit(self, errand: Errand) -> None:
        """Do this when its turn comes."""
        ...

    async def withdraw(self, errand: Errand) -> None:
        """Do it no more; nothing is heard of it from now on."""
        ...

    def waiting(self) -> Collection[Errand]:
        """Those whose turn has not come yet."""
        ...

    async def close(self) -> None:
        """End all trainers."""
        ...


class TrainerPool:
    """Trainer processes of this machine.

    Args:
        runtime: what each runs with; a task may want another backend or device, but never other threads.
        size: how many there are.
    """

    def __init__(self, runtime: Runtime, size: int) -> None:
        self.on_ready: Callable[[Ready], None] = lambda ready: None
        """Called when the first of them has its backend."""
        self.on_death: Callable[[str], None] = lambda line: None
        """Called with what is said when one of them dies."""
        self.on_unusable: Callable[[LanfitError], None] = lambda error: None
        """Called when the backend can't be used as the runtime wants it."""
        self._queue: deque[Errand] = deque()
        self._count = 0
        self._slots = [Slot(partial(TrainerProcess, runtime, frozenset({"threads"})), self) for _ in range(size)]

    async def start(self) -> None:
        """Start them all; they import their backend while nobody needs them yet.

        Raises:
            InputError: the backend is not installed.
        """
        await asyncio.gather(*(slot.trainer.start() for slot in self._slots))

    def submit(self, errand: Errand) -> None:
        self._queue.append(errand)
        self.dispatch()

    async def withdraw(self, errand: Errand) -> None:
        if errand in self._queue:
            self._queue.remove(errand)
        for slot in self._slots:
            if slot.errand is errand:
                await slot.stop()

    def waiting(self) -> Collection[Errand]:
        return self._queue

    def dispatch(self) -> None:
        """Give out what waits, in its order; but of equal trainers the one that read the same last.

        Results are the same whoever trains, so this changes nothing but times.
        """
        for slot in self._free():
            if (errand := next((each for each in self._queue if each.warm == slot.warm), None)) is not None:
                self._give(slot, errand)
        for slot in sorted(self._free(), key=lambda slot: slot.trainer.ready is None):
            if self._queue:
                self._give(slot, self._queue[0])

    def _free(self) -> list[Slot]:
        return [slot for slot in self._slots if slot.errand is None]

    def _give(self, slot: Slot, errand: Errand) -> None:
        self._queue.remove(errand)
        self._count += 1
        slot.begin(self._count, errand)

    async def close(self) -> None:
        self._queue.clear()
        await asyncio.gather(*(slot.close() for slot in self._slots))


class Slot:
    """One trainer of a pool, and what it does."""

    def __init__(self, make: Callable[..., TrainerProcess], pool: TrainerPool) -> None:
        self.trainer = make(self._on_answer, self._on_death)
        self.errand: Errand | None = None
        self.warm = ""
        self._pool = pool
        self._number = 0
        self._order: Work | None = None
        self._stopped = False
        self._working: asyncio.Task[None] | None = None

    def begin(self, number: int, errand: Errand) -> None:
        """Do this; it was free."""
        self.errand, self._number, self.warm = errand, number, errand.warm
        self._order, self._stopped = None, False
        self._working = asyncio.create_task(self._begin(errand))

    async def _begin(self, errand: Errand) -> None:
        try:
            order = await errand.order(self._number)
        except (LanfitError, OSError) as wrong:
            self._fail(refused(wrong) if isinstance(wrong, OSError) else wrong, ())
            return
        if self._stopped:
            self._end()
            self._pool.dispatch()
        else:
            await self._do(order)

    async def _do(self, order: Work) -> None:
        self._order = order
        try:
            await self.trainer.do(order)
            if self._stopped:  # while the trainer was started
                await self.trainer.stop(self._number)
        except LanfitError as wrong:
            self._fail(wrong, ())

    async def stop(self) -> None:
        """Stop what it does; it is free when the trainer has noticed."""
        self._stopped = True
        if self._order is not None:
            await self.trainer.stop(self._number)

    def _end(self) -> Errand | None:
        """It is free again; returns what it did, unless nobody wants to hear of that."""
        errand, self.errand, self._order = self.errand, None, None
        return None if self._stopped else errand

    def _fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        if (errand := self._end()) is not None:
            errand.fail(error, last_lines)
        self._pool.dispatch()

    # --- what the trainer says ----------------------------------------------------------------------------------

    def _on_answer(self, answer: Answer) -> None:
        ready = self.trainer.ready
        match answer:
            case Ready():
                self._pool.on_ready(answer)
                self._pool.on_ready = lambda ready: None
            case NotReady(error, hint):
                self._pool.on_unusable(InputError(error, hint))
                if self.errand is not None:
                    self._fail(TrainingError(error, hint), ())
            case _ if answer.number != self._number or self.errand is None:
                pass
            case NotDone(_, stopped, error, hint, code):
                self._stopped = self._stopped or stopped
                self._fail(TrainingError(error, hint, code), ())
            case Trained() | Scored() | Surveyed():
                errand = self._end()
                self._pool.dispatch()  # first of all: what is heard takes its time
                if errand is not None and ready is not None:
                    errand.hear(answer, ready)
            case _:
                if not self._stopped and ready is not None:
                    self.errand.hear(answer, ready)

    def _on_death(self, died: TrainingError, last_lines: Sequence[str]) -> None:
        errand, order = self.errand, self._order
        self.warm = ""
        if self.trainer.hung:
            self._pool.on_death(
                "A trainer did not stop when it was told to: it was killed, and another one is started."
            )
        else:
            self._pool.on_death(f"{sentence(died.message)}.")
        if errand is None or order is None:
            return  # another one is started when there is something to do
        if not self._stopped and errand.again(died):
            self._working = asyncio.create_task(self._do(order))
        else:
            self._fail(died, last_lines)

    async def close(self) -> None:
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
        self.errand = None
        with contextlib.suppress(LanfitError):
            await self.trainer.close()
