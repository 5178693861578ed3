"""Work items, which a server leases or requests: the command for the trainer, and the messages to the server.

Real and simulated clients share these classes. The abstract methods cover what differs: where results and log lines go.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from lanfit.core.text import sentence
from lanfit.errors import ChildDied, LanfitError
from lanfit.models.custom_files import AllowedFile
from lanfit.training import commands
from lanfit.training.checkpoint import epochs_kept
from lanfit.training.commands import Answer, EpochDone, Note, Ready, Resumed, Step, Trained
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire import messages
from lanfit.wire.messages import Adjustment, Epoch, EvaluateTask, Failed, Lease, Message, Progress, Result


class LeasedTask(ABC):
    """A leased task.

    Args:
        seconds: the times that were measured before the command is complete.
    """

    def __init__(self, lease: Lease, state: str, seconds: Mapping[str, float]) -> None:
        self.lease = lease
        self.adjustment: Adjustment | None = None
        self._seconds = dict(seconds)
        self._is_now(state)
        self._went_on = 0
        """After how many epochs the task was resumed when a trainer died."""

    def _is_now(self, state: str) -> None:
        self._step = Step(0, state, 0, self.lease.fit.epochs, 0, 0, 0.0, 0.0)

    # --- what differs between real and simulated clients
    # --------------------------------------------------------------------------

    @property
    @abstractmethod
    def checkpoint(self) -> Path:
        """The file for its checkpoints."""

    @abstractmethod
    def _send(self, message: Message) -> None:
        """Send a message to the server."""

    @abstractmethod
    def _log(self, line: str, on_server: str = "", *, is_detail: bool = False) -> None:
        """Log a line, with another text on the server if `on_server` is given.

        A detail is also visible in a progress bar.
        """

    @abstractmethod
    def _hand_over(self, result: Result, block: ArrayFile) -> None:
        """Store a result, and offer it to the server.

        Raises:
            OSError: it can't be stored.
        """

    def _presentable(self, text: str) -> str:
        """Return the text of an error in the form in which the server may see it."""
        return text

    def _on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Handle the end of an epoch."""
        return

    def _on_step(self) -> None:
        """Handle progress within an epoch."""
        return

    # --- what they share -------------------------------------------------------------------------------------------

    def renew_lease(self, lease: Lease) -> None:
        """Handle another lease of this task, which counts the attempts. It is not paused any more."""
        self.lease = lease
        if self.adjustment is not None:
            self.adjustment = msgspec.structs.replace(self.adjustment, paused=False)

    def command(
        self,
        number: int,
        weights: ArrayFile,
        shard: ArrayFile,
        result: Path,
        custom: tuple[AllowedFile, ...],
        data: str = "",
        copy: str = "",
        least_rows: int = 1,
        rows: ArrayFile | None = None,
        shown: ArrayFile | None = None,
    ) -> commands.Fit:
        """Return the command for the trainer; see `commands.Fit` for the files."""
        self._is_now("preparing")
        self._on_step()
        fit, checkpoint = self.lease.fit, str(self.checkpoint)
        files = number, fit, weights, shard, data, str(result), copy, checkpoint, custom, least_rows
        return commands.Fit(*files, rows, shown)

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        """Handle an answer of the trainer, and send messages to the server."""
        lease = self.lease
        match answer:
            case Step():
                self._step = answer
                self._on_step()
            case Resumed(epochs=epochs):
                if epochs != self._went_on:  # else it has been logged
                    self._log(f"Resuming {lease.task} from the checkpoint after epoch {epochs}.")
            case Note(text=text):
                self._log(f"Note: {text}", self._presentable(f"Note: {text}"))
            case EpochDone(epoch=epoch, metrics=metrics, again=again):
                seconds = {} if again else commands.all_seconds(self._seconds, ready, answer.seconds)
                self._send(Epoch(lease.run, lease.task, epoch, metrics, seconds, answer.predictions))
                self._on_epoch(epoch, metrics)
                if not again:
                    shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                    of_round = f"Round {lease.fit.round}, epoch" if lease.fit.round else "Epoch"
                    self._log(f"{of_round} {epoch + 1}/{self._step.epochs}  {shown}", is_detail=True)
            case Trained():
                self._hand_over(commands.result_of(lease, answer, ready, self._seconds), answer.block)
                which = "last" if lease.fit.keep_last else "best"
                self._log(
                    f"Trained {lease.task}; {which} epoch {answer.best_epoch + 1}. Returning it.",
                    is_detail=lease.fit.round > 0,
                )

    def again(self, died: LanfitError) -> bool:
        """Return whether there is a later checkpoint than at the last death of a trainer."""
        epochs = epochs_kept(self.checkpoint)
        if epochs <= self._went_on:
            return False
        self._went_on = epochs
        self._is_now("preparing")
        self._on_step()
        self._log(f"{sentence(died.message)}; resuming after epoch {epochs}.")
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        """Report to the server that it failed."""
        lease, hint = self.lease, "" if last_lines else error.hint
        prefix = f"{lease.task} could not be trained: "
        self._log(f"{prefix}{error.message}. {hint}".strip(), f"{prefix}{self._presentable(error.message)}")
        # The last output of a library may contain rows, and those of the client's own data must not leave it.
        lines = () if lease.fit.own else tuple(last_lines)
        message, hint = self._presentable(error.message), self._presentable(hint)
        died = isinstance(error, ChildDied)
        self._send(Failed(lease.run, lease.task, message, hint, lines, died, error.code))

    def progress(self) -> Progress:
        """Return the progress of the task."""
        step = self._step
        return Progress(
            run=self.lease.run,
            task=self.lease.task,
            epoch=step.epoch,
            epochs=step.epochs,
            step=step.step,
            steps=step.steps,
            loss=step.loss,
            samples_per_second=step.samples_per_second,
            state=step.state,
        )


class ModelsToEvaluate(ABC):
    """A request to evaluate models on rows of a client."""

    message: EvaluateTask
    adjustment = None

    @abstractmethod
    def _send(self, message: Message) -> None:
        """Send a message to the server."""

    def _presentable(self, text: str) -> str:
        """Return the text of an error in the form in which the server may see it."""
        return text

    def command(
        self,
        number: int,
        shard: ArrayFile,
        members: Sequence[ArrayFile],
        custom: tuple[AllowedFile, ...],
        data: str = "",
        least_rows: int = 1,
    ) -> commands.Evaluate:
        """Return the command for the trainer; see `commands.Evaluate` for the files."""
        message = self.message
        return commands.Evaluate(
            number, message.model, message.own, shard, tuple(members), data, message.rows, custom, least_rows
        )

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        """Handle an answer of the trainer, and send messages to the server."""
        if isinstance(answer, commands.Evaluated):
            self._send(messages.EvaluationResult(self.message.run, self.message.task, answer.rows, answer.metrics))

    def again(self, died: LanfitError) -> bool:
        """Return False: an evaluation is short, and the server requests it again."""
        return False

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        """Report to the server that it failed."""
        self._send(Failed(self.message.run, self.message.task, self._presentable(error.message), "", ()))
