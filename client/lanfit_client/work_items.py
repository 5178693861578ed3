"""The work items of a client: train a task, survey the client's own data, evaluate models. One class for each.

The commands for the trainer and the messages to the server are in lanfit.training.work_items, which simulated clients
share. This module adds what a real client needs: the blocks of an item, the consent of the user, and where results,
logs and copies go. work.py receives the blocks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lanfit.core.failpoints import failpoint
from lanfit.core.logs import HistoryFile, append_log
from lanfit.core.memory import readable_size
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace, inside
from lanfit.errors import LanfitError
from lanfit.models.custom_files import Allowed, AllowedFile
from lanfit.training import commands, executor
from lanfit.training.commands import Answer, Ready
from lanfit.training.work_items import LeasedTask, ModelsToEvaluate
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire import messages
from lanfit.wire.arrays import BlockSpec
from lanfit.wire.messages import Adjustment, Lease, LogLines, Message, Offer, Progress, Result
from lanfit_client.limits import check_evaluation, check_lease, check_survey
from lanfit_client.settings import LEAST_ROWS
from lanfit_client.store.checkpoints import Checkpoints
from lanfit_client.store.outbox import Entry, Outbox

#: Bounds of a survey, which must fit into a message: the number of notes, and the characters of each.
MOST_NOTES = 20
LONGEST_TEXT = 600
#: Quoted text in messages: cells, but not the names of columns.
_QUOTED = re.compile(r'(column "[^"]*")|".*"|\[.*\]', re.DOTALL)


@dataclass(frozen=True)
class Context:
    """The objects that every work item uses.

    Args:
        data: the folder of this client's own files, with `X/` and `Y/`.
        cache: for data that is not needed once the run has ended.
        send: called with every message for the server.
        log: called with lines for the client's user.
        allowed: the files with custom objects that the trainer may execute.
        detail: called instead with lines that a progress bar makes unnecessary.
        least_rows: a server gets nothing of fewer training rows of the own files.
        on_survey: called with the block that a server may fetch, before the server receives its id.
    """

    workspace: Workspace
    data: Path
    outbox: Outbox
    cache: Path
    checkpoints: Checkpoints
    send: Callable[[Message], None]
    log: Callable[[str], None]
    allowed: Allowed = field(default_factory=Allowed)
    detail: Callable[[str], None] | None = None
    least_rows: int = LEAST_ROWS
    on_survey: Callable[[ArrayFile], None] = lambda block: None

    def log_detail(self, text: str) -> None:
        """Log a line that a progress bar replaces."""
        (self.detail or self.log)(text)

    def custom(self, model: messages.Model) -> tuple[AllowedFile, ...]:
        """Return the custom objects files on this machine that a model needs.

        Raises:
            InputError: the user does not allow one of them.
        """
        return self.allowed.of(model.custom, model.objects)

    def presentable(self, text: str) -> str:
        """Return the text of an error for the server: without folders of this machine, and without values of rows."""
        for folder in (self.data, self.workspace.root):
            text = text.replace(f"{folder}/", "").replace(f"{folder}\\", "").replace(str(folder), folder.name)
        return _QUOTED.sub(lambda found: found[1] or '"…"', text)[:LONGEST_TEXT]


class WorkItem(executor.WorkItem, Protocol):
    """One request of a server."""

    @property
    def key(self) -> Hashable:
        """Return its key: an item with the same key is not started again."""
        ...

    @property
    def run(self) -> str:
        """The run of the item; empty before there is one."""
        ...

    @property
    def own(self) -> bool:
        """Whether it uses this client's own data."""
        ...

    @property
    def blocks(self) -> Sequence[BlockSpec]:
        """Return the blocks that have to be received for it."""
        ...

    @property
    def passing(self) -> str:
        """Return the id of the block that is only used until the next item; empty if there is none."""
        ...

    def is_done(self) -> bool:
        """Handle a repeated request of a finished item; return whether there is one."""
        ...

    def renew(self, again: WorkItem) -> None:
        """Handle a repeated request of the current item."""
        ...

    def adjust(self, adjustment: Adjustment) -> None:
        """Handle what the operator changes about the item."""
        ...

    def begin(self) -> None:
        """Handle the start of the item."""
        ...

    def receives(self, size: int) -> None:
        """Handle the number of bytes that have to be received; 0: nothing is missing."""
        ...

    def allow(self) -> None:
        """Raise a LanfitError if its model needs custom objects that are not allowed here, or limits.py refuses it.

        Nothing was received yet.
        """
        ...

    def build(self, number: int, keras: str) -> commands.Build | None:
        """Return the command that checks its model before rows are received; None without rows."""
        ...

    def wait(self, text: str, timeouts: bool) -> None:
        """Handle a reason why its blocks have to wait; empty: they do not wait any more."""
        ...

    def make_command(self, number: int, files: Sequence[ArrayFile], receive: float) -> commands.Work:
        """Return the command for the trainer with these blocks, which took `receive` seconds to receive."""
        ...

    def progress(self) -> Progress | None:
        """Return the progress for the server; None if it is not reported."""
        ...


class Training(LeasedTask):
    """A leased task."""

    def __init__(
        self, context: Context, lease: Lease, server_id: bytes, name: str, join_seconds: float, fingerprint: bytes = b""
    ) -> None:
        """`name` is the server's name of this client; the result is for the server with this id and certificate."""
        super().__init__(lease, "receiving", {"join": join_seconds})
        self.server_id = server_id
        self.fingerprint = fingerprint
        self._context = context
        self._name = name
        self._history: HistoryFile | None = None

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
        lease = self.lease
        return lease.weights, lease.shard, *(each for each in (lease.rows, lease.shown) if each is not None)

    @property
    def passing(self) -> str:
        return self.lease.weights.id if self.lease.fit.round else ""

    def is_done(self) -> bool:
        return self._context.outbox.find(self.server_id, self.fingerprint, self.lease.run, self.lease.task) is not None

    def renew(self, again: WorkItem) -> None:
        if isinstance(again, Training):
            self.renew_lease(again.lease)

    def adjust(self, adjustment: Adjustment) -> None:
        before, self.adjustment = self.adjustment or Adjustment(), adjustment
        if adjustment.paused != before.paused:
            self._log("The operator paused the run." if adjustment.paused else "The operator resumed the run.")
        epochs = self.lease.fit.epochs
        if (adjustment.epochs or epochs) != (before.epochs or epochs):
            self._log(f"The operator changed the number of epochs to {adjustment.epochs or epochs}.")
        if adjustment.learning_rate != before.learning_rate:
            self._log(f"The operator set the learning rate to {adjustment.learning_rate:g}, from the next epoch on.")

    def begin(self) -> None:
        pass  # logged when the number of bytes is known

    def receives(self, size: int) -> None:
        lease, comes = self.lease, f"receiving {readable_size(size)}"
        if lease.fit.own:
            what = "training on the data of this client"
        else:
            what = comes if size else "all that it needs is here already"
        self._brief(f"Task {lease.task} of run {lease.run}: {what}.")

    def _brief(self, text: str) -> None:
        """Log a line about a task; in rounds only if there is no progress bar."""
        (self._context.log_detail if self.lease.fit.round else self._context.log)(text)

    def allow(self) -> None:
        self._context.custom(self.lease.fit.model)
        check_lease(self.lease)

    def build(self, number: int, keras: str) -> commands.Build | None:
        model = self.lease.fit.model
        return commands.Build(number, model, keras, self._context.custom(model))

    def wait(self, text: str, timeouts: bool) -> None:
        self._is_now("no room" if timeouts else "receiving")
        self._log(text, self._presentable(text))

    @property
    def checkpoint(self) -> Path:
        return self._context.checkpoints.of(self.lease.run, self.lease.task)

    def make_command(self, number: int, files: Sequence[ArrayFile], receive: float) -> commands.Fit:
        lease, context = self.lease, self._context
        weights, shard, *more = files
        rows = more.pop(0) if lease.rows is not None else None
        shown = more[0] if lease.shown is not None else None
        self._seconds["receive"] = receive
        fold = f"-fold-{lease.fit.fold.number}" if lease.fit.fold else ""
        history = context.workspace.trained_logs(lease.run, self._name) / f"history{fold}.csv"
        with suppress(OSError):
            self._history = HistoryFile(history, lease.fit.round)
        result, custom = context.outbox.new_block(lease.task), context.custom(lease.fit.model)
        # No copy is written in rounds: the model is the global one, which the server keeps.
        own_copy = inside(context.workspace.trained(lease.run), f"{self._name}{fold}{lease.fit.model.ending}")
        copy = "" if lease.fit.round else str(own_copy)
        data, least = str(context.data), context.least_rows
        return self.command(number, weights, shard, result, custom, data, copy, least, rows, shown)

    def _on_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if self._history is not None:
            with suppress(OSError):  # training continues without a chart if the disk is full
                self._history.add(epoch, metrics)

    def _hand_over(self, result: Result, block: ArrayFile) -> None:
        outbox = self._context.outbox
        failpoint("client.trained")
        outbox.add(outbox.new_block(self.lease.task), Entry(self.server_id, result, self.fingerprint))
        failpoint("client.in-outbox")
        self._context.checkpoints.forget(self.lease.run, self.lease.task)
        self._send(Offer(result))  # first: the server may only wait for this

    def _send(self, message: Message) -> None:
        self._context.send(message)

    def _presentable(self, text: str) -> str:
        return self._context.presentable(text)

    def _log(self, line: str, on_server: str = "", *, is_detail: bool = False) -> None:
        """Notify the user, the client's own log, and the client's log on the server, perhaps with another text."""
        (self._context.log_detail if is_detail else self._context.log)(line)
        with suppress(OSError):  # the message may be about a full disk
            append_log(self._context.workspace.trained_logs(self.lease.run, self._name) / "client.log", [line])
        self._send(LogLines(self.lease.run, (on_server or line,)))


@dataclass(frozen=True)
class _ClientDataItem:
    """A work item on the client's own data, which can be repeated at any time."""

    context: Context
    passing = ""
    adjustment = None

    def is_done(self) -> bool:
        return False

    def renew(self, again: WorkItem) -> None:
        pass

    def adjust(self, adjustment: Adjustment) -> None:
        pass

    def wait(self, text: str, timeouts: bool) -> None:
        self.context.log(text)

    def receives(self, size: int) -> None:
        pass

    def again(self, died: LanfitError) -> bool:
        return False


@dataclass(frozen=True)
class Surveying(_ClientDataItem):
    """Read and check the client's own data; send counts, statistics and names of labels to the server."""

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
        self.context.log(
            f"Reading and checking the data of this client in {self.context.data}; no row leaves this machine."
        )

    def make_command(self, number: int, files: Sequence[ArrayFile], receive: float) -> commands.Survey:
        path = str(self.context.cache / "survey.block")
        model, own, data = self.message.model, self.message.own, str(self.context.data)
        custom = self.context.custom(model)
        return commands.Survey(number, model, own, files[0], data, path, custom, self.context.least_rows)

    def allow(self) -> None:
        self.context.custom(self.message.model)
        check_survey(self.message)

    def build(self, number: int, keras: str) -> commands.Build | None:
        return None

    def on_answer(self, answer: Answer, ready: Ready) -> None:
        if not isinstance(answer, commands.Surveyed):
            return
        self.context.on_survey(answer.block)
        rows = pluralize(answer.train, "row", grouped=True)
        self.context.log(f"{rows} to train on, {answer.validation:,} for validation, {answer.test:,} for testing.")
        for note in answer.notes:
            self.context.log(f"Note: {note}.")
        self.context.send(
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

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.context.log(f"The files in {self.context.data} can't be used: {error.message}. {error.hint}")
        hint = "" if last_lines else self.context.presentable(error.hint)
        self.context.send(messages.Unsuitable(self.context.presentable(error.message), hint))

    def progress(self) -> Progress:
        return Progress("", "survey", 0, 0, 0, 0, 0.0, 0.0, "checking")


@dataclass(frozen=True)
class EvaluationItem(_ClientDataItem, ModelsToEvaluate):
    """Evaluate models on the client's own test or validation rows."""

    message: messages.EvaluateTask

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
        self.context.log(f"Evaluating {task} of run {run} on the {self.message.rows} rows of this client.")

    def make_command(self, number: int, files: Sequence[ArrayFile], receive: float) -> commands.Evaluate:
        shard, *members = files
        custom, data = self.context.custom(self.message.model), str(self.context.data)
        return self.command(number, shard, members, custom, data, self.context.least_rows)

    def allow(self) -> None:
        self.context.custom(self.message.model)
        check_evaluation(self.message)

    def build(self, number: int, keras: str) -> commands.Build | None:
        return None

    def _send(self, message: Message) -> None:
        self.context.send(message)

    def _presentable(self, text: str) -> str:
        return self.context.presentable(text)

    def fail(self, error: LanfitError, last_lines: Sequence[str]) -> None:
        self.context.log(f"{self.message.task} could not be evaluated: {error.message}. {error.hint}")
        super().fail(error, last_lines)

    def progress(self) -> Progress:
        return Progress(self.message.run, self.message.task, 0, 0, 0, 0, 0.0, 0.0, "scoring")
