"""The agent's end of its trainer: starts it, hears it, and starts another when it dies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from lanfit.child import Child, backend_environment
from lanfit.errors import TrainingError
from lanfit_client.orders import Answer, Fit, Order, Ready, Stop
from lanfit_client.trainer import THREADS_VARIABLE


class TrainerProcess:
    """A trainer that is replaced when it dies.

    Args:
        threads: of the backend.
        on_answer: called with everything that the trainer says.
        on_death: called with the reason and the trainer's last lines when it dies.
    """

    def __init__(
        self,
        threads: int,
        on_answer: Callable[[Answer], None],
        on_death: Callable[[TrainingError, Sequence[str]], None],
    ) -> None:
        self._on_answer = on_answer
        self._on_death = on_death
        self._child: Child[Answer] | None = None
        self._listening: asyncio.Task[None] | None = None
        self.threads = threads
        self.ready: Ready | None = None

    async def start(self) -> None:
        """Start a trainer, which begins to import its backend."""
        environment = {**dict(backend_environment("tensorflow", self.threads)), THREADS_VARIABLE: str(self.threads)}
        self.ready = None
        self._child = await Child.start("lanfit_client.trainer", Answer, "trainer", environment)
        self._listening = asyncio.create_task(self._listen(self._child))

    async def _listen(self, child: Child[Answer]) -> None:
        while True:
            try:
                answer = await child.receive()
            except TrainingError as died:
                self._child = None
                self._on_death(died, list(child.last_lines))
                return
            if isinstance(answer, Ready):
                self.ready = answer
            self._on_answer(answer)

    async def train(self, order: Fit) -> None:
        """Give the trainer a task; a trainer with another number of threads than the task wants is replaced."""
        wanted = order.fit.runtime.threads or self.threads
        if wanted != self.threads:
            await self.close()
            self.threads = wanted
        if self._child is None:
            await self.start()
        await self._send(order)

    async def stop(self, number: int) -> None:
        """Let the trainer stop working on an order, at its next chance."""
        await self._send(Stop(number))

    async def _send(self, order: Order) -> None:
        if self._child is not None:
            await self._child.send(order)

    async def close(self) -> None:
        """End the trainer and wait until it is gone."""
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()
