"""What a server can want of this client: train a task, survey its own files, score models. One class for each.

An errand knows which blocks it needs, what to order of the trainer, and what to tell the server of the answer. What is
at hand, and how blocks and orders travel, is work.py's business.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lanfit.crash import crash_point
from lanfit.data.memory import readable_size
from lanfit.errors import ChildDied, LanfitError
from lanfit.files import ArrayFile
from lanfit.logs import HistoryFile, append_log
from lanfit.models.custom import Allowed, AllowedFile
from lanfit.models.size import check_size
from lanfit.text import pluralize, sentence
from lanfit.training import orders
from lanfit.training.checkpoint import epochs_kept
from lanfit.training.orders import Answer, EpochDone, Note, Ready, Resumed, Step, Trained
from lanfit.wire import messages
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.messages import Epoch, Failed, Lease, LogLines, Message, Offer, Progress
from lanfit.workspace import Workspace
from lanfit_client.checkpoints import Checkpoints
from lanfit_client.outbox import Entry, Outbox
from lanfit_client.settings import LEAST_ROWS

#: What a server is told of own files must fit into a message: so many notes, and so many characters each.
MOST_NOTES = 20
LONGEST_TEXT = 600
#: What messages quote: cells, but not the names of columns.
_QUOTED = re.compile(r'(column "[^"]*")|".*"|\[.*\]', re.DOTALL)


@dataclass(frozen=True)
class Means:
    """What every errand needs.

    Args:
        data: the folder of this client's own files, with `X/` and `Y/`.
        cache: for what is not needed once the run has ended.
        send: called with every message for the server.
        say: called with lines for the client's user.
        allowed: the files with custom objects that the trainer may execute.
        detail: called instead with lines that a progress bar makes unnecessary.
        least_rows: a server gets nothing of fewer training rows of the own files.
    """

    workspace: Workspace
    data: Path
    outbox: Outbox
    cache: Path
    checkpoints: Checkpoints
    send: Callable[[Message], None]
    say: Callable[[str], None]
    allowed: Allowed = field(default_factory=Allowed)
    detail: Callable[[str], None] | None = None
    least_rows: int = LEAST_ROWS

    def say_detail(self, text: str) -> None:
        """A line that a progress bar makes unnecessary."""
        (self.detail or self.say)(text)

    def custom(self, model: messages.Model) -> tuple[AllowedFile, ...]:
        """The files on this machine that a model needs.

        Raises:
            InputError: the user does not allow one of them.
        """
        return self.allowed.of(model.custom, model.objects)

    def presentable(self, text: str) -> str:
        """An error as a server is told it: without folders of this machine, and without what is in a row."""
        for folder in (self.data, self.workspace.root):
            text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(str(folder), folder.name)
        return _QUOTED.sub(lambda found: found[1] or '"…"', text)[:LONGEST_TEXT]


class Errand(Protocol):
    """One thing that a server wants."""

    @property
    def key(self) -> Hashable:
        """What tells it from others: the same again is not begun again."""
        ...

    @property
    def run(self) -> str:
        """The run that it is for; empty before there is one."""
        ...

    @property
    def own(self) -> bool:
        """Whether rows of this client's own files are used for it."""
        ...

    @property
    def blocks(self) -> Sequence[BlockSpec]:
        """What has to be received for it."""
        ...

    @property
    def passing(self) -> str:
        """The id of that block of it which is of no use once the next one is here; empty for none."""
        ...

    def is_done(self) -> bool:
        """Whether it was done before."""
        ...

    def renew(self, again: Errand) -> None:
        """The server wants it again while it is at hand."""
        ...

    def begin(self) -> None:
        """It is at hand now."""
        ...

    def receives(self, size: int) -> None:
        """So many bytes have to come for it; 0: everything is here."""
        ...

    def allow(self) -> None:
        """Raise InputError if its model needs custom objects that are not allowed here, or is larger than its weights.

        Nothing was received yet.
        """
        ...

    def build(self, number: int, keras: str) -> orders.Build | None:
        """The order to try its model, before its rows are received; None if no rows are. `keras`: the server's."""
        ...

    def wait(self, text: str, waits: bool) -> None:
        """Its blocks have to wait for this reason, or not any more."""
        ...

    def order(self, number: int, files: Sequence[ArrayFile], receive: float) -> orders.Work:
        """What the trainer is to do, with the blocks, which took `receive` seconds."""
        ...

    def hear(self, answer: Answer, ready: Ready) -> bool:
        """Take in what the trainer says, and tell the server; returns whether that was all."""
        ...

    def again(self, died: LanfitError) -> bool:
        """The trainer died of it: whether another one is to go on with the same order."""
        ...

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        """Tell that it could not be done."""
        ...

    def progress(self) -> Progress | None:
        """How far it is, if a server wants to know."""
        ...


class Training:
    """A leased task."""

    def __init__(
        self, means: Means, lease: Lease, server_id: bytes, name: str, join_seconds: float, fingerprint: bytes = b""
    ) -> None:
        """`name` is what the server calls this client; the result is for the server of this id and certificate."""
        self.lease = lease
        self.server_id = server_id
        self.fingerprint = fingerprint
        self._means = means
        self._name = name
        self._seconds = {"join": join_seconds}
        self._step = _step("receiving", lease)
        self._history: HistoryFile | None = None
        self._went_on = 0

    @property
    def key(self) -> Hashable:
        return "task", self.lease.run, self.lease.task

    @property
    def run(self) -> str:
        return self.lease.run

    @property
    def own(self) -> bool:
        return self.lease.fit.own is not None

    @property
    def blocks(self) -> Sequence[BlockSpec]:
        return self.lease.weights, self.lease.shard

    @property
    def passing(self) -> str:
        return self.lease.weights.id if self.lease.fit.round else ""

    def is_done(self) -> bool:
        return self._means.outbox.find(self.server_id, self.fingerprint, self.lease.run, self.lease.task) is not None

    def renew(self, again: Errand) -> None:
        if isinstance(again, Training):
            self.lease = again.lease  # it counts the attempts

    def begin(self) -> None:
        pass  # it is said when it is known what has to come

    def receives(self, size: int) -> None:
        lease, comes = self.lease, f"receiving {readable_size(size)}"
        if lease.fit.own:
            what = "training on this client's own rows"
        else:
            what = comes if size else "what it needs is here already"
        self._brief(f"Task {lease.task} of run {lease.run}: {what}.")

    def _brief(self, text: str) -> None:
        """A line of a task; of one of many rounds a progress bar says as much."""
        (self._means.say_detail if self.lease.fit.round else self._means.say)(text)

    def allow(self) -> None:
        self._means.custom(self.lease.fit.model)
        check_size(self.lease.fit.model.architecture, self.lease.weights.arrays)

    def build(self, number: int, keras: str) -> orders.Build | None:
        model = self.lease.fit.model
        return orders.Build(number, model, keras, self._means.custom(model))

    def wait(self, text: str, waits: bool) -> None:
        self._step = _step("no room" if waits else "receiving", self.lease)
        self._log(text, self._means.presentable(text))

    def order(self, number: int, files: Sequence[ArrayFile], receive: float) -> orders.Fit:
        lease, workspace = self.lease, self._means.workspace
        weights, shard = files
        self._seconds["receive"] = receive
        self._step = _step("preparing", lease)
        fold = f"-fold-{lease.fit.fold.number}" if lease.fit.fold else ""
        history = workspace.trained_logs(lease.run, self._name) / f"history{fold}.csv"
        with suppress(OSError):
            self._history = HistoryFile(history, lease.fit.round)
        return orders.Fit(
            number=number,
            fit=lease.fit,
            weights=weights,
            shard=shard,
            data=str(self._means.data),
            result=str(self._means.outbox.new_block(lease.task)),
            # Of a round there is none: the model is everybody's, and the server keeps it.
            copy=""
            if lease.fit.round
            else str(workspace.trained(lease.run) / f"{self._name}{fold}{lease.fit.model.ending}"),
            checkpoint=str(self._means.checkpoints.of(lease.run, lease.task)),
            custom=self._means.custom(lease.fit.model),
            least_rows=self._means.least_rows,
        )

    def hear(self, answer: Answer, ready: Ready) -> bool:
        match answer:
            case Step():
                self._step = answer
            case Resumed(epochs=epochs):
                if epochs != self._went_on:  # else it has been said
                    self._log(f"Going on with {self.lease.task} after epoch {epochs}, from its checkpoint.")
            case Note(text=text):
                self._log(f"Note: {text}", self._means.presentable(f"Note: {text}"))
            case EpochDone(epoch=epoch, metrics=metrics, again=again):
                self._means.send(Epoch(self.lease.run, self.lease.task, epoch, metrics))
                if self._history is not None:
                    with suppress(OSError):  # training goes on without its curve when the disk is full
                        self._history.add(epoch, metrics)
                if again:
                    return False
                shown = "  ".join(f"{key} {value:.4g}" for key, value in metrics.items())
                of_round = f"Round {self.lease.fit.round}, epoch" if self.lease.fit.round else "Epoch"
                self._log(f"{of_round} {epoch + 1}/{self._step.epochs}  {shown}", is_detail=True)
            case Trained():
                self._finish(answer, ready)
        return isinstance(answer, Trained)

    def _finish(self, trained: Trained, ready: Ready) -> None:
        outbox = self._means.outbox
        result = orders.result_of(self.lease, trained, ready, self._seconds)
        crash_point("client.trained")
        outbox.add(outbox.new_block(self.lease.task), Entry(self.server_id, result, self.fingerprint))
        crash_point("client.in-outbox")
        self._means.checkpoints.forget(self.lease.run, self.lease.task)
        self._means.send(Offer(result))  # first of all: the server may wait for nothing else
        which = "last" if self.lease.fit.keep_last else "best"
        self._log(
            f"Trained {self.lease.task}; {which} epoch {trained.best_epoch + 1}. Handing it back.",
            is_detail=self.lease.fit.round > 0,
        )

    def again(self, died: LanfitError) -> bool:
        """Go on if there is a later checkpoint than when the trainer died before; else the task kills its trainers."""
        epochs = epochs_kept(self._means.checkpoints.of(self.lease.run, self.lease.task))
        if epochs <= self._went_on:
            return False
        self._went_on = epochs
        self._step = _step("preparing", self.lease)
        self._log(f"{sentence(died.message)}; going on after epoch {epochs}.")
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        hint = "" if last_lines else error.hint
        said = f"{self.lease.task} could not be trained: "
        self._log(f"{said}{error.message}. {hint}".strip(), f"{said}{self._means.presentable(error.message)}")
        # What a library prints as it dies may be of the rows; those of this client's own files stay here.
        lines = () if self.lease.fit.own else tuple(last_lines)
        message, hint = self._means.presentable(error.message), self._means.presentable(hint)
        died = isinstance(error, ChildDied)
        self._means.send(Failed(self.lease.run, self.lease.task, message, hint, lines, died, error.code))

    def _log(self, line: str, told: str = "", *, is_detail: bool = False) -> None:
        """Tell the user, the client's own log, and, perhaps in other words, the client's log on the server."""
        (self._means.say_detail if is_detail else self._means.say)(line)
        with suppress(OSError):  # a full disk is what it may be about
            append_log(self._means.workspace.trained_logs(self.lease.run, self._name) / "client.log", [line])
        self._means.send(LogLines(self.lease.run, (told or line,)))

    def progress(self) -> Progress:
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


def _step(state: str, lease: Lease) -> Step:
    return Step(0, state, 0, lease.fit.epochs, 0, 0, 0.0, 0.0)


@dataclass(frozen=True)
class _Own:
    """Of an errand about the own files: it may be done again at any time, and gives the same."""

    means: Means
    passing = ""

    def is_done(self) -> bool:
        return False

    def renew(self, again: Errand) -> None:
        pass

    def wait(self, text: str, waits: bool) -> None:
        self.means.say(text)

    def receives(self, size: int) -> None:
        pass

    def again(self, died: LanfitError) -> bool:
        return False


@dataclass(frozen=True)
class Surveying(_Own):
    """The own files are read and checked; the server is told counts, statistics and names of labels."""

    message: messages.Survey
    run: str = ""

    @property
    def key(self) -> Hashable:
        return self.message

    @property
    def own(self) -> bool:
        return True

    @property
    def blocks(self) -> Sequence[BlockSpec]:
        return (self.message.weights,)

    def begin(self) -> None:
        self.means.say(f"Reading and checking this client's own files in {self.means.data}; their rows stay here.")

    def order(self, number: int, files: Sequence[ArrayFile], receive: float) -> orders.Survey:
        path = str(self.means.cache / "survey.block")
        model, own, data = self.message.model, self.message.own, str(self.means.data)
        custom = self.means.custom(model)
        return orders.Survey(number, model, own, files[0], data, path, custom, self.means.least_rows)

    def allow(self) -> None:
        self.means.custom(self.message.model)
        check_size(self.message.model.architecture, self.message.weights.arrays)

    def build(self, number: int, keras: str) -> orders.Build | None:
        return None

    def hear(self, answer: Answer, ready: Ready) -> bool:
        if not isinstance(answer, orders.Surveyed):
            return False
        rows = pluralize(answer.train, "row", grouped=True)
        self.means.say(f"{rows} to train on, {answer.validation:,} for validation, {answer.test:,} to test.")
        for note in answer.notes:
            self.means.say(f"Note: {note}.")
        self.means.send(
            messages.Surveyed(
                train=answer.train,
                validation=answer.validation,
                test=answer.test,
                values=answer.values,
                target_values=answer.target_values,
                block=answer.block.block,
                notes=tuple(note[:LONGEST_TEXT] for note in answer.notes[:MOST_NOTES]),
            )
        )
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.means.say(f"The files in {self.means.data} can't be used: {error.message}. {error.hint}")
        hint = "" if last_lines else self.means.presentable(error.hint)
        self.means.send(messages.Unsuitable(self.means.presentable(error.message), hint))

    def progress(self) -> Progress:
        return Progress("", "survey", 0, 0, 0, 0, 0.0, 0.0, "checking")


@dataclass(frozen=True)
class Scoring(_Own):
    """Models are scored on the own test or validation rows."""

    message: messages.ScoreTask

    @property
    def key(self) -> Hashable:
        return self.message

    @property
    def run(self) -> str:
        return self.message.run

    @property
    def own(self) -> bool:
        return self.message.own is not None

    @property
    def blocks(self) -> Sequence[BlockSpec]:
        return self.message.shard, *self.message.members

    def begin(self) -> None:
        task, run = self.message.task, self.message.run
        self.means.say(f"Scoring {task} of run {run} on this client's own {self.message.rows} rows.")

    def order(self, number: int, files: Sequence[ArrayFile], receive: float) -> orders.Score:
        shard, *members = files
        message = self.message
        own, data = message.own, str(self.means.data)
        custom, least = self.means.custom(message.model), self.means.least_rows
        return orders.Score(number, message.model, own, shard, tuple(members), data, message.rows, custom, least)

    def allow(self) -> None:
        self.means.custom(self.message.model)
        for member in self.message.members:
            check_size(self.message.model.architecture, member.arrays)

    def build(self, number: int, keras: str) -> orders.Build | None:
        return None

    def hear(self, answer: Answer, ready: Ready) -> bool:
        if not isinstance(answer, orders.Scored):
            return False
        self.means.send(messages.Scored(self.message.run, self.message.task, answer.rows, answer.metrics))
        return True

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.means.say(f"{self.message.task} could not be scored: {error.message}. {error.hint}")
        told = self.means.presentable(error.message)
        self.means.send(Failed(self.message.run, self.message.task, told, "", ()))

    def progress(self) -> Progress:
        return Progress(self.message.run, self.message.task, 0, 0, 0, 0, 0.0, 0.0, "scoring")
