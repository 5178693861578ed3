"""The agent's end of its trainer: starts it, hears it, starts another when it dies or a task wants another runtime."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from lanfit.child import Child, backend_environment
from lanfit.errors import InputError, LanfitError, TrainingError
from lanfit.models.runtime import check_backend, unusable
from lanfit.training.orders import Answer, Fit, NotReady, Order, Ready, Stop, Work, shown
from lanfit.training.trainer import RUNTIME_VARIABLE
from lanfit.wire.messages import Runtime

#: A trainer that was told to stop and does not within so many seconds hangs. A model that is built or compiled for the
#: first time notices a stop only then.
STOP_SECONDS = 60.0


class TrainerProcess:
    """A trainer that is replaced when it dies, and when a task wants another runtime.

    Args:
        runtime: what to run with where a task says nothing else.
        fixed: which parts of it no task may change.
        on_answer: called with everything that the trainer says.
        on_death: called with the reason and the trainer's last lines when it dies.
    """

    def __init__(
        self,
        runtime: Runtime,
        fixed: frozenset[str],
        on_answer: Callable[[Answer], None],
        on_death: Callable[[TrainingError, Sequence[str]], None],
    ) -> None:
        self._own = runtime
        self._fixed = fixed
        self._on_answer = on_answer
        self._on_death = on_death
        self._child: Child[Answer] | None = None
        self._listening: asyncio.Task[None] | None = None
        self._settled = asyncio.Event()
        self._refused: LanfitError | None = None
        self.unusable = asyncio.Event()
        """Set once the backend turned out to be of no use on this machine; `settled` says why."""
        self._stopping: tuple[int, asyncio.TimerHandle] | None = None
        self.hung = False
        """The last one that died was killed here, because it did not stop when it was told to."""
        self.runtime = runtime
        self.ready: Ready | None = None

    async def start(self) -> None:
        """Start a trainer, which begins to import its backend.

        Raises:
            InputError: the backend is not installed.
        """
        runtime = self.runtime
        check_backend(runtime.backend)
        environment = dict(backend_environment(runtime.backend, runtime.threads))
        environment[RUNTIME_VARIABLE] = msgspec.json.encode(runtime).decode()
        self.ready = self._refused = None
        self.unusable.clear()
        self.hung = False
        self._settled.clear()
        self._child = await Child.start("lanfit.training.trainer", Answer, "trainer", environment)
        self._listening = asyncio.create_task(self._listen(self._child))

    async def settled(self) -> None:
        """Wait until the trainer has its backend.

        Raises:
            InputError: the backend can't be used as the runtime wants it.
            TrainingError: the trainer died.
        """
        await self._settled.wait()
        if self._refused is not None:
            raise self._refused

    async def _listen(self, child: Child[Answer]) -> None:
        while True:
            try:
                answer = shown(await child.receive())
            except TrainingError as died:
                self._stops()
                why = unusable(self.runtime.backend, child.exit_code, child.last_lines)
                self._child, self._refused = None, why or died
                self._settled.set()
                if why is not None:
                    self.unusable.set()
                    self._on_answer(NotReady(why.message, why.hint))
                    return
                self._on_death(died, list(child.last_lines))
                return
            if self._stopping is not None and getattr(answer, "number", 0) >= self._stopping[0]:
                self._stops()
            if isinstance(answer, Ready):
                self.ready = answer
                self._settled.set()
            self._on_answer(answer)
            if isinstance(answer, NotReady):
                self._child, self._refused = None, InputError(answer.error, answer.hint)
                self._settled.set()
                await child.stop()
                return

    async def do(self, order: Work) -> None:
        """Give the trainer an order; a trainer with another runtime than a task wants is replaced.

        Raises:
            InputError: the task wants a backend that is not installed, and the trainer stays as it is; or the backend
                can't be used on this machine.
        """
        wanted = combined(self._own, order.fit.runtime, self._fixed) if isinstance(order, Fit) else self.runtime
        if wanted != self.runtime:
            check_backend(wanted.backend)
            await self.close()
            self.runtime = wanted
        elif self.unusable.is_set():
            await self.settled()  # another trainer would end in the same way
        if self._child is None:
            await self.start()
        await self._send(order)

    async def stop(self, number: int) -> None:
        """Let the trainer stop working on an order, at its next chance; one that does not is killed after a while."""
        await self._send(Stop(number))
        self._stops()
        if self._child is not None:
            timer = asyncio.get_running_loop().call_later(STOP_SECONDS, self._kill, self._child)
            self._stopping = (number, timer)

    def _stops(self) -> None:
        """Nothing is waited for any more."""
        if self._stopping is not None:
            self._stopping[1].cancel()
            self._stopping = None

    def _kill(self, child: Child[Answer]) -> None:
        self.hung = True
        child.kill()

    async def _send(self, order: Order) -> None:
        if self._child is not None:
            await self._child.send(order)

    async def close(self) -> None:
        """End the trainer and wait until it is gone."""
        self._stops()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()


def combined(own: Runtime, wanted: Runtime, fixed: frozenset[str]) -> Runtime:
    """What a task wants, and for the rest this client's own; what is fixed stays the client's own in any case."""
    changes = {key: value for key, value in msgspec.structs.asdict(wanted).items() if value and key not in fixed}
    return msgspec.structs.replace(own, **changes)
