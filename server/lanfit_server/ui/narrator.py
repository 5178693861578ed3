"""Sentences about the events of a run, for the operator. `sentence` is pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lanfit.core.text import pluralize
from lanfit.settings.fields import readable_duration
from lanfit_server.run.events import (
    ClientJoined,
    ClientLeft,
    ClientSeen,
    ClientSilent,
    Commanded,
    CutShort,
    EarlierResult,
    EpochCompleted,
    EvaluationAwaited,
    EvaluationFailed,
    EvaluationMissed,
    EvaluationSkipped,
    LogFull,
    ModelEvaluated,
    NoClient,
    RoundCompleted,
    RoundExtended,
    RunBegan,
    RunEvent,
    ServerStoodStill,
    TaskFailed,
    TaskGivenUp,
    TaskLeased,
    WaitingForClient,
)
from lanfit_server.ui.display import Display


class Narrator:
    """Shows the events of a run on a display.

    Args:
        joined: makes the line about a client that has come.
    """

    def __init__(self, display: Display, joined: Callable[[str], str]) -> None:
        self._display = display
        self._joined = joined

    def __call__(self, event: RunEvent, now: float) -> None:
        match event:
            case RunBegan():
                self._display.began(event.run)
            case ClientJoined(came=True):
                self._display.log(self._joined(event.client))
            case EpochCompleted(crowded=False):
                part = (event.client, event.fold or None, event.round or None)
                self._display.epoch(*part, event.epoch, event.epochs, event.metrics)
            case _:
                for line in sentences(event):
                    self._display.log(line)
        if isinstance(event, RoundCompleted):
            self._display.round(event.round, event.logs)


def sentences(event: RunEvent) -> list[str]:
    """Return the lines about an event, which may be none."""
    if isinstance(event, RoundCompleted):
        return _of_round(event)
    line = sentence(event)
    return [line] if line else []


def sentence(event: RunEvent) -> str:
    """Return the sentence about an event; empty when there is none."""
    match event:
        case ServerStoodStill():
            return f"This server was suspended for {event.seconds:.0f} s; every client keeps its task."
        case Commanded(command="stop client"):
            return ""  # it leaves
        case Commanded() if event.value:
            return f"{event.command.removeprefix('set ')} is now {event.value}{_from_when(event)}."
        case CutShort():
            return f"The run ends with the results so far: {event.reason}."
        case ClientLeft(expected=True):
            return f"The connection to {event.client} ended ({event.reason}); it is expected to reconnect."
        case ClientLeft():
            return f"{event.client} {'was lost' if event.lost else 'left'} ({event.reason}){_then(event)}."
        case ClientSilent():
            return f"{event.client} has been silent for {event.seconds:.0f} s; after {event.limit:.0f} s it is lost."
        case ClientSeen():
            return f"{event.client} is back after {event.seconds:.0f} s of silence."
        case WaitingForClient():
            return f"Waiting for {event.client}: {_waited_for(event.deadline)}."
        case NoClient():
            return (
                f"No client is connected; the shards of {', '.join(event.clients)} are waiting. Restart the clients, "
                "or stop with Ctrl-C."
            )
        case LogFull():
            return f"{event.client} has filled its client.log; nothing more is added."
        case TaskLeased(others=()):
            if event.client == event.owner:
                return ""
            what = f"fold {event.fold}" if event.fold else "the shard"
            return f"{event.client} takes over {what} of {event.owner}."
        case TaskLeased():
            others = " and ".join(event.others)
            return f"{event.client} also trains {event.task}: {others} takes more than twice the median time."
        case TaskFailed():
            then = "it is tried again" if event.again else "it is given up"
            return f"{event.client} could not train {event.task}: {event.error} — {then}."
        case TaskGivenUp():
            return f"{event.task} is given up: {event.reason}."
        case EarlierResult():
            return f"{event.client} delivered a result of the earlier run {event.run}: it is kept there."
        case ModelEvaluated():
            what = f"{event.client}, fold {event.fold} of {event.folds}," if event.fold else event.client
            return _with_figures(f"{what} is done", event.figures) if event.client else ""
        case RoundExtended():
            return (
                f"Round {event.round} has {event.updates} of at least {event.least} updates; "
                f"{', '.join(event.missing)} did not answer in time (--round-deadline). The server waits "
                f"{event.seconds:.0f} s more for them (--deadline), then the run ends."
            )
        case EvaluationSkipped():
            return f"{event.client} is not asked to evaluate {event.model}: it did not answer in time before."
        case EvaluationFailed():
            return f"{event.client} could not evaluate {event.model}: {event.reason}."
        case EvaluationMissed(limit=None):
            why = "it was away for longer than --deadline" if event.waited else "it has left"
            return f"{event.client} does not evaluate {event.model}: {why}."
        case EvaluationMissed():
            limit = readable_duration(event.limit or 0.0)
            return f"{event.client} does not evaluate {event.model}: it has not answered for {limit}."
        case EvaluationAwaited():
            return f"Waiting for {', '.join(event.clients)} to evaluate {event.model} on their {event.rows} rows."
        case _:
            return ""


def _from_when(event: Commanded) -> str:
    if event.round:
        return f" from round {event.round} on"
    parts = []
    if event.begun:
        parts.append(f"for {pluralize(len(event.begun), 'task')} from the next epoch on")
    if event.tasks:
        parts.append(f"for {pluralize(len(event.tasks), 'task')} that no client has received yet")
    return f" {' and '.join(parts)}" if parts else ""


def _then(event: ClientLeft) -> str:
    if event.deadline is not None:
        return f"; {_waited_for(event.deadline)}"
    if event.task:
        return f"; its task {event.task} waits for the next free client, or for its return"
    return ""


def _waited_for(seconds: float) -> str:
    return f"no other client has its rows; waiting {max(0.0, seconds):.0f} s more for it (--deadline)"


def _of_round(event: RoundCompleted) -> list[str]:
    lines = [f"Round {event.round} continued without {client}: {why}." for client, why in event.left_out.items()]
    clients = pluralize(event.clients, "client")
    line = f"Round {event.round}/{event.rounds}, {clients}, {event.seconds:.1f} s"
    return [*lines, _with_figures(line, event.figures)]


def _with_figures(line: str, figures: Mapping[str, float]) -> str:
    shown = "  ".join(f"{key} {value:.4f}" for key, value in figures.items())
    return f"{line}: {shown}" if shown else f"{line}."
