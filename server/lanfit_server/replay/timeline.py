"""The timeline of clients: the section `timeline` of the live page. Pure.

Theory of operation. Clients measure how long each part of a task takes, and report it with every epoch and with the
result; the server knows when these messages arrived. So the parts since the last message are laid out backwards from
the time of a message, in the order in which they happen. Receiving is at the beginning of a task, and the import of the
backend in a gap after it. The time between two tasks is waiting. After a run the timeline is built from `events.jsonl`,
which has no epochs: then a task has one span of each kind.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from lanfit.core.decoding import decode_json
from lanfit_server.run import events
from lanfit_server.run.events import EVENTS, RunEvent

#: How many spans are kept: the last ones.
MOST_SPANS = 20_000
#: What a client measures, in the order in which it happens, and what it is called here.
PARTS = (("prepare", "compile"), ("compile", "compile"), ("train", "train"), ("validate", "validate"))
#: The evaluation that comes before training in rounds, and after it in folds.
EVALUATION = (("score", "evaluate"),)
#: Shorter spans are left out, in seconds.
SHORTEST = 0.0005
#: The name of the server in spans.
SERVER = ""

Span = dict[str, Any]


@dataclass
class _Open:
    """A task that a client has."""

    task: str
    round: int
    reported: dict[str, float] = field(default_factory=dict)
    """The seconds of each part that are laid out."""


@dataclass
class _Lane:
    """A client, or the server."""

    end: float
    """Until then everything is laid out."""
    open: _Open | None = None
    is_imported: bool = False


class TimelineView:
    """The section `timeline` of one run. Times are in seconds since its beginning."""

    def __init__(self) -> None:
        self._spans: deque[Span] = deque(maxlen=MOST_SPANS)
        self._new: list[Span] = []
        self._origin: float | None = None
        self._lanes: dict[str, _Lane] = {}
        self._committed: dict[str, float] = {}
        """When results came whose models are not evaluated yet."""
        self._last_results: dict[int, float] = {}
        """When the last result of a round came that is not complete yet."""

    def update(self, event: RunEvent, now: float) -> bool:
        """Follow an event at a time of any clock, in seconds; return whether there are new spans."""
        if self._origin is None:
            self._origin = now
        at, before = now - self._origin, len(self._new)
        match event:
            case events.ClientJoined(client=client):
                self._lane(client, at)
            case events.TaskLeased(task=task, client=client, round=round_):
                lane = self._lane(client, at)
                self._add(client, "wait", lane.end, at, round_)
                lane.end, lane.open = max(lane.end, at), _Open(task, round_)
            case events.EpochCompleted(client=client, epoch=epoch, spent=spent):
                lane = self._lane(client, at)
                if lane.open is not None:
                    self._lay(client, lane, lane.open, spent, at, epoch + 1)
            case events.ResultCommitted(task=task, client=client, seconds=seconds, round=round_, spent=spent):
                if not round_:
                    self._committed[task] = at
                self._returned(client, task, seconds, spent, at)
            case events.TaskLost(client=client) | events.TaskFailed(client=client) | events.ClientLeft(client=client):
                self._drop(client, at)
            case events.TaskLeftOut(task=task) | events.TaskGivenUp(task=task):
                for client in [name for name, each in self._lanes.items() if each.open and each.open.task == task]:
                    self._drop(client, at)
            case events.ModelEvaluated(task=task) if task in self._committed:
                server = self._lane(SERVER, 0.0)
                self._add(SERVER, "evaluate", max(server.end, self._committed.pop(task)), at)
                server.end = max(server.end, at)
            case events.RoundCompleted(round=round_, spent=spent):
                self._server_round(round_, spent, at)
            case events.RunEnded():
                for client, lane in self._lanes.items():
                    if client != SERVER:
                        self._add(client, "wait", lane.end, at)
                        lane.end = max(lane.end, at)
            case _:
                pass
        return len(self._new) > before

    def snapshot(self) -> list[Span]:
        """Return the spans, in the order in which they became known."""
        return list(self._spans)

    def take_new(self) -> list[Span]:
        """Return the spans that have become known since the last call."""
        new, self._new = self._new, []
        return new

    # --- lanes ----------------------------------------------------------------------------------------------------

    def _lane(self, client: str, at: float) -> _Lane:
        return self._lanes.setdefault(client, _Lane(at))

    def _drop(self, client: str, at: float) -> None:
        """Drop the open spans of a client that no longer has its task: their ends are unknown."""
        lane = self._lanes.get(client)
        if lane is not None:
            lane.end, lane.open = max(lane.end, at) if lane.open else lane.end, None

    def _returned(self, client: str, task: str, upload: float, spent: Mapping[str, float], at: float) -> None:
        lane = self._lane(client, at)
        if lane.open is None or lane.open.task != task:
            return  # of an earlier server, or of a lease that was given up
        self._lay(client, lane, lane.open, spent, max(lane.end, at - upload), 0)
        self._add(client, "send", lane.end, at, lane.open.round)
        if lane.open.round:
            self._last_results[lane.open.round] = at
        lane.end, lane.open = at, None

    def _lay(self, client: str, lane: _Lane, task: _Open, spent: Mapping[str, float], until: float, epoch: int) -> None:
        """Lay out what a client has done since its last message."""
        if not spent:  # an older client, or an epoch that is reported again
            self._add(client, "train", lane.end, until, task.round, epoch)
            lane.end = max(lane.end, until)
            return
        laid, end = list[tuple[str, float, float]](), until
        parts = (*EVALUATION, *PARTS) if task.round else (*PARTS, *EVALUATION)
        for part, what in reversed(parts):
            begin = max(lane.end, end - max(0.0, spent.get(part, 0.0) - task.reported.get(part, 0.0)))
            laid.append((what, begin, end))
            end = begin
        if not task.reported:
            received = min(end, lane.end + spent.get("receive", 0.0))
            laid.append(("receive", lane.end, received))
            if not lane.is_imported:
                laid.append(("import", max(received, end - spent.get("import", 0.0)), end))
                lane.is_imported = True
        for what, begin, finish in sorted(laid, key=lambda span: span[1:]):
            self._add(client, what, begin, finish, task.round, epoch)
        task.reported, lane.end = dict(spent), max(lane.end, until)

    def _server_round(self, round_: int, spent: Mapping[str, float], at: float) -> None:
        server = self._lane(SERVER, 0.0)
        self._add(SERVER, "evaluate", max(server.end, at - spent.get("evaluate", 0.0)), at, round_)
        server.end = max(server.end, at)
        # Results are added up when the last one has come. Meanwhile, an earlier round may be evaluated.
        came = self._last_results.pop(round_, None)
        if came is not None:
            self._add(SERVER, "aggregate", came, min(at, came + spent.get("aggregate", 0.0)), round_)

    def _add(self, client: str, what: str, begin: float, end: float, round_: int = 0, epoch: int = 0) -> None:
        if end - begin < SHORTEST:
            return
        span = {"client": client, "what": what, "from": round(begin, 4), "to": round(end, 4), "round": round_}
        self._spans.append({**span, "epoch": epoch})
        self._new.append(self._spans[-1])
        if len(self._new) > MOST_SPANS:
            del self._new[: MOST_SPANS // 2]


# --- after a run --------------------------------------------------------------------------------------------------


_KINDS = (
    events.RunBegan | events.RunEnded | events.ClientJoined | events.ClientLeft | events.TaskLeased | events.TaskLost
    | events.TaskFailed | events.TrainerDied | events.TaskGivenUp | events.TaskLeftOut | events.ResultCommitted
    | events.ModelEvaluated | events.RoundCompleted
)  # fmt: skip


def read_events(folder: Path, containing: bytes = b"") -> Iterator[tuple[RunEvent, float]]:
    """Yield the events of a run that matter here, with their times in seconds since 1970, from `events.jsonl`.

    Args:
        containing: only lines with this text are decoded.
    """
    try:
        lines = (folder / EVENTS).read_bytes().splitlines()
    except OSError:
        return
    for line in lines:
        if containing not in line:
            continue
        # Other kinds of events, and lines that can't be read, are left out.
        with suppress(ValueError):
            facts = decode_json(line, dict[str, Any])
            # The figures are among the facts, and are not needed.
            event = msgspec.convert({"figures": {}, **facts}, _KINDS)
            yield event, msgspec.convert(facts.get("time"), float)


def timeline_of_run(folder: Path) -> list[Span]:
    """Return the section of a run from its files."""
    view = TimelineView()
    for event, time in read_events(folder):
        view.update(event, time)
    return view.snapshot()
