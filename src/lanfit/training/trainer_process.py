"""The agent's side of the trainer: starts it, receives its answers, and replaces it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import msgspec

from lanfit.backends import check_backend, unusable
from lanfit.core.child import Child
from lanfit.errors import InputError, LanfitError, TrainingError
from lanfit.training.commands import Adjust, Answer, Command, Fit, NotReady, Ready, Stop, Work, shown
from lanfit.training.trainer import SETUP_VARIABLE, Setup
from lanfit.wire.messages import Adjustment, Runtime

#: A trainer that does not stop within this time, in seconds, is considered hung. A stop takes effect only after a model
#: is built and compiled.
STOP_SECONDS = 60.0


class TrainerProcess:
    """A trainer that is replaced when it dies, and when a task wants another runtime.

    Args:
        runtime: the runtime of tasks that do not set their own.
        fixed: the parts of it that tasks can't change.
        on_answer: called with each answer of the trainer.
        on_death: called with the reason and the last lines of output when the trainer dies.
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
        """Whether the backend can't be used on this machine; `settled` raises the reason."""
        self._stopping: tuple[int, asyncio.TimerHandle] | None = None
        self.hung = False
        """Whether the last trainer that died was killed because it did not stop when requested."""
        self.runtime = runtime
        self.ready: Ready | None = None

    async def start(self) -> None:
        """Start a trainer, which imports its backend at once.

        Raises:
            InputError: the backend is not installed.
        """
        runtime = self.runtime
        entry = check_backend(runtime.backend)
        setup = msgspec.json.encode(Setup(runtime, entry.make)).decode()
        environment = {**entry.variables(runtime.threads), SETUP_VARIABLE: setup}
        self.ready = self._refused = None
        self.unusable.clear()
        self.hung = False
        self._settled.clear()
        self._child = await Child.start("lanfit.training.trainer", Answer, "trainer", environment)
        self._listening = asyncio.create_task(self._listen(self._child))

    async def settled(self) -> None:
        """Wait until the trainer has loaded its backend.

        Raises:
            InputError: the backend can't be used with this runtime.
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

    async def do(self, command: Work) -> None:
        """Send a command to the trainer, after replacing it if the task needs another runtime.

        Raises:
            InputError: the backend of the task is not installed, and the trainer stays as it is; or the backend can't
                be used on this machine.
        """
        wanted = combined(self._own, command.fit.runtime, self._fixed) if isinstance(command, Fit) else self.runtime
        if wanted != self.runtime:
            check_backend(wanted.backend)
            await self.close()
            self.runtime = wanted
        elif self.unusable.is_set():
            await self.settled()  # another trainer would fail for the same reason
        if self._child is None:
            await self.start()
        await self._send(command)

    async def stop(self, number: int) -> None:
        """Stop a command as soon as possible. A trainer that does not react is killed after STOP_SECONDS."""
        await self._send(Stop(number))
        self._stops()
        if self._child is not None:
            timer = asyncio.get_running_loop().call_later(STOP_SECONDS, self._kill, self._child)
            self._stopping = (number, timer)

    async def adjust(self, number: int, adjustment: Adjustment) -> None:
        """Pause or continue a fit, or change its settings from the next epoch on."""
        await self._send(Adjust(number, adjustment))

    def _stops(self) -> None:
        """Cancel the timer for a hung trainer."""
        if self._stopping is not None:
            self._stopping[1].cancel()
            self._stopping = None

    def _kill(self, child: Child[Answer]) -> None:
        self.hung = True
        child.kill()

    async def _send(self, command: Command) -> None:
        if self._child is not None:
            await self._child.send(command)

    async def close(self) -> None:
        """End the trainer and wait for its end."""
        self._stops()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._child is not None:
            child, self._child = self._child, None
            await child.stop()


def combined(own: Runtime, wanted: Runtime, fixed: frozenset[str]) -> Runtime:
    """Return the runtime for a task: its own settings, where it may set them, else those of this client."""
    changes = {key: value for key, value in msgspec.structs.asdict(wanted).items() if value and key not in fixed}
    return msgspec.structs.replace(own, **changes)
