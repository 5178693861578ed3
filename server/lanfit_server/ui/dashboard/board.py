"""The state of the live page: runs, queue and clients, for any number of readers.

Theory of operation. The board follows events; each costs a constant amount of work, and nothing is sent. While there
are readers, `flush` compares the views of clients, lobby and queue with the previous ones, and everything that has
changed since the last flush gets one new version (`seq`). Every entry has the version at which it last changed: so a
reader with version v gets exactly the entries that it lacks (`delta`), for any v, and there are no queues of messages
for readers. When a run begins, the state of the previous one is dropped; a reader from before gets everything.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from lanfit.core.gauge import Pace
from lanfit.settings.changes import NO_CHANGES, Changes
from lanfit.wire.figures import part_of
from lanfit_server.clusters.roster import Member, in_order
from lanfit_server.replay.curves import RATE, TRAINING, points_of_round, rate_of_round
from lanfit_server.requests import RunHandle, RunInterrupted, State
from lanfit_server.run.events import (
    ClientJoined,
    ClientLeft,
    Commanded,
    EpochCompleted,
    ModelEvaluated,
    ResultCommitted,
    RoundCompleted,
    RunEvent,
    TaskFailed,
    TaskGivenUp,
    TaskLeased,
    WaitingForClient,
)
from lanfit_server.ui.dashboard.epoch_means import Means
from lanfit_server.ui.dashboard.run_view import view_of
from lanfit_server.ui.dashboard.series import Series
from lanfit_server.ui.dashboard.tiles import tile_of
from lanfit_server.ui.live_table import Facts, share_done
from lanfit_server.ui.narrator import sentence
from lanfit_server.watchers import RunFacts, Watcher

#: Points of one curve, and of all curves together; with very many curves each has fewer.
MOST_POINTS = 1000
ALL_POINTS = 300_000
LEAST_POINTS = 100
#: What is kept of lines and spans.
MOST_LINES = 1000
MOST_SPANS = 20_000
TEACHER, VIEWER = "teacher", "viewer"
#: Keys of the section `server` that only the teacher is shown.
FOR_TEACHER = ("passphrase", "class_link")
Feed = Callable[["Board", RunEvent, float], None]


class Board(Watcher):
    """Follows runs for the page.

    Args:
        members: returns the clients.
        server: the section of that name.
        feeds: called for each event; they show more of it.
        began: called with each run that begins.
        wall_clock: seconds since 1970.
    """

    follows_predictions = True

    def __init__(
        self,
        members: Callable[[], Sequence[Member]],
        server: Mapping[str, Any],
        feeds: Sequence[Feed] = (),
        began: Sequence[Callable[[Board, RunFacts], None]] = (),
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._members = members
        self._feeds, self._on_began = tuple(feeds), tuple(began)
        self._wall_clock = wall_clock
        self.seq = 0
        self._changed = False
        """Whether something has changed that has no version yet."""
        self._sections: dict[str, tuple[int, Any]] = {}
        self._run: dict[str, tuple[int, Any]] | None = None
        """The section `run`, each key with its version."""
        self._handles: list[RunHandle] = []
        """Requests that have not ended, the oldest first."""
        self.current: RunHandle | None = None
        """The request that has its turn."""
        self._ids: dict[RunHandle, int] = {}
        self._last_id = 0
        self._waiting = ""
        self._logged: deque[tuple[float, str]] = deque(maxlen=MOST_LINES)
        self._log: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MOST_LINES)
        self._runs_changed = 0
        self._encoded: dict[tuple[int | None, str], bytes] = {}
        """Answers at this version, by the version of the reader and its role."""
        self._forget()
        self.set("server", dict(server))
        self.set("runs_changed", 0)

    def _forget(self) -> None:
        """Drop what belongs to a run."""
        self._reset = self._next
        self._facts = Facts()
        self._pace = Pace()
        self._tiles: dict[str, tuple[int, dict[str, Any] | None]] = {}
        self._series: dict[str, Series] = {}
        self._spans: deque[tuple[int, dict[str, Any]]] = deque(maxlen=MOST_SPANS)
        self._shown: dict[str, tuple[int, dict[str, Any], dict[str, tuple[int, Any]]]] = {}
        self._reasons: dict[str, str] = {}
        self._rows: dict[str, int] = {}
        self._metrics: dict[str, dict[str, float]] = {}
        self._means = Means(0)
        self._rounds = _Rounds()
        self._rate: float | None = None
        """The learning rate with which the run has begun; None if a schedule changes it."""
        self._changes = NO_CHANGES

    @property
    def _next(self) -> int:
        """The version of what changes now."""
        self._changed = True
        return self.seq + 1

    # --- updates ------------------------------------------------------------------------------------------------

    def set(self, section: str, value: Any) -> None:
        """Show another value of a section."""
        if section not in self._sections or self._sections[section][1] != value:
            self._sections[section] = (self._next, value)

    def update(self, section: str, **values: Any) -> None:
        """Show other values of some keys of a section."""
        self.set(section, {**self._sections[section][1], **values})

    def section(self, section: str) -> Any:
        """Return the content of a section."""
        return self._sections[section][1]

    def set_run(self, **values: Any) -> None:
        """Show other values of the run."""
        if self._run is not None:
            for key, value in values.items():
                if key not in self._run or self._run[key][1] != value:
                    self._run[key] = (self._next, value)

    def show(self, section: str, meta: dict[str, Any], models: Mapping[str, Any]) -> None:
        """Show what models make of test rows, in the section `samples` or `confusion`; other models stay.

        Args:
            meta: what does not depend on models.
        """
        version = self._next
        old_meta, shown = (self._shown[section][1], self._shown[section][2]) if section in self._shown else (None, {})
        began = self._shown[section][0] if meta == old_meta else version
        self._shown[section] = (began, meta, {**shown, **{name: (version, value) for name, value in models.items()}})

    def add_spans(self, spans: Sequence[dict[str, Any]]) -> None:
        """Show what clients and server have done, in the section `timeline`."""
        version = self._next
        self._spans.extend((version, span) for span in spans)

    def notice(self, level: str, text: str, client: str = "", at: float | None = None) -> None:
        """Add a line to the log."""
        at = self._wall_clock() if at is None else at
        self._log.append((self._next, {"at": round(at, 3), "level": level, "text": text, "client": client}))

    def point(self, client: str, metric: str, part: str, per: str, x: float, y: float, fold: int = 0) -> None:
        """Add a point to a curve."""
        if not math.isfinite(y):
            return
        key = "|".join((client, str(fold), metric, part, per))
        version = self._next
        if key not in self._series:
            meta = {"client": client, "fold": fold, "metric": metric, "part": part, "per": per}
            self._series[key] = Series(meta, version)
        most = max(LEAST_POINTS, min(MOST_POINTS, ALL_POINTS // len(self._series)))
        self._series[key].add(x, y, version, most)

    def runs_changed(self) -> None:
        """Update the list of runs."""
        self._runs_changed += 1
        self.set("runs_changed", self._runs_changed)

    # --- requests -------------------------------------------------------------------------------------------------

    def id_of(self, handle: RunHandle) -> int:
        """Return the number of a request, by which the page names it."""
        if handle not in self._ids:
            self._last_id += 1
            self._ids[handle] = self._last_id
        return self._ids[handle]

    def handle(self, number: int) -> RunHandle | None:
        """Return the request with this number, if it has not ended."""
        return next((each for each in self._handles if self._ids[each] == number), None)

    def request(self, handle: RunHandle) -> None:
        self.id_of(handle)
        match handle.state:
            case State.QUEUED:
                self._handles.append(handle)
            case State.STARTING:
                self._start(handle)
            case State.RUNNING:
                self.set_run(state="running", run=handle.run)
                self.runs_changed()
            case State.FINISHING:
                self.set_run(state="finishing", progress=1.0, seconds_left=0.0)
                self._outcome(handle)
            case State.ENDED:
                if handle in self._handles:
                    self._handles.remove(handle)
                if handle is self.current:
                    self.current = None
                    self._end(handle)
                self._ids.pop(handle, None)
        self._changed = True

    def _start(self, handle: RunHandle) -> None:
        self._forget()
        self.current = handle
        self._waiting = ""
        version, job = self._next, handle.request.job
        values = view_of(job, began=self._wall_clock())
        self._run = {key: (version, value) for key, value in {**values, "run": handle.run}.items()}

    def _outcome(self, handle: RunHandle) -> None:
        if handle.summary is not None:
            final = handle.summary.final
            metrics = dict(final.metrics) if final is not None else {}
            self.set_run(status=handle.summary.status, metrics=metrics, error=handle.summary.error or "")
            for client in handle.summary.clients:
                if client.metrics:
                    self._metrics[client.name] = dict(client.metrics)

    def _end(self, handle: RunHandle) -> None:
        self._waiting = ""
        self._finish_means()
        self.set_run(state="ended", progress=1.0 if handle.summary else None, seconds_left=None)
        self._outcome(handle)
        if handle.error is not None:
            status = "interrupted" if isinstance(handle.error, RunInterrupted) else "failed"
            hint = getattr(handle.error, "hint", "")
            self.set_run(status=status, error=str(handle.error), hint=hint)
            if str(handle.error):
                self.notice("error", f"{handle.error}" + (f". {hint}" if hint else ""))
        self._facts = replace(self._facts, held={}, at_work=frozenset())
        self.runs_changed()

    # --- the current run --------------------------------------------------------------------------------------------

    def began(self, facts: RunFacts) -> None:
        version = self._next
        self._run = self._run or {}
        values = view_of(facts.job, facts, began=self._wall_clock())
        self._run.update({key: (version, value) for key, value in values.items()})
        for owner, rows in zip(facts.owners, facts.data.samples, strict=True):
            self._rows[owner] = rows
        self._means = Means(len(facts.owners) * max(1, values["folds"]))
        self._rate, self._changes = values["first_learning_rate"], Changes.of(facts.job.changes)
        for began in self._on_began:
            began(self, facts)

    def event(self, event: RunEvent, now: float) -> None:
        self._changed = True
        match event:
            case EpochCompleted():
                self.epoch(event)
            case RoundCompleted():
                self.round(event)
            case ModelEvaluated():
                self._evaluated(event)
            case ResultCommitted(round=0):
                for mean in self._means.done(event.owner, event.fold):
                    self.point("", *mean)
            case ClientJoined() | TaskLeased():
                self._reasons.pop(event.client, None)
            case ClientLeft() | WaitingForClient() | TaskFailed() | TaskGivenUp():
                self._reasons[event.client] = sentence(event).rstrip(".")
            case Commanded():
                self._commanded(event)
        for feed in self._feeds:
            feed(self, event, now)

    def epoch(self, event: EpochCompleted) -> None:
        """Add an epoch to the curves."""
        x = float(self._rounds.base(event.round, event.epochs) + event.epoch + 1)
        self._rounds.reached(x)
        for name, value in event.metrics.items():
            metric, part = part_of(name)
            self.point(event.owner, metric, part, "epoch", x, value, event.fold)
            if not event.round:
                for mean in self._means.add(event.owner, event.fold, metric, part, x, value):
                    self.point("", *mean)
        self._metrics[event.owner] = dict(event.metrics)

    def round(self, event: RoundCompleted) -> None:
        """Add a round to the curves."""
        x = float(event.round)
        for metric, part, value in points_of_round(event.figures, event.logs):
            self.point("", metric, part, "round", x, value)
        if RATE not in event.logs and (rate := rate_of_round(event.round, self._rate, self._changes)):
            self.point("", RATE, TRAINING, "round", x, rate)
        self.set_run(round=event.round, metrics=dict(event.figures or event.logs))

    def _evaluated(self, event: ModelEvaluated) -> None:
        if event.client:
            self._metrics[event.client] = {**self._metrics.get(event.client, {}), **event.figures}

    def _commanded(self, event: Commanded) -> None:
        match event.command:
            case "pause" | "resume":
                self.set_run(paused=event.command == "pause")
            case "stop":
                self.set_run(stopping=True)
            case _ if event.value and self._run is not None:
                setting = event.command.removeprefix("set ")
                if setting == RATE and event.round:
                    self._changes = self._changes.from_round(event.round, setting, float(event.value))
                change = {"setting": setting, "value": event.value, "from": event.round or None}
                self.set_run(changes=[*self._run["changes"][1], change])
                if setting in ("learning_rate", "epochs", "rounds"):
                    self.set_run(**{setting: float(event.value) if setting == "learning_rate" else int(event.value)})

    def _finish_means(self) -> None:
        for mean in self._means.rest():
            self.point("", *mean)

    def facts(self, facts: Facts) -> None:
        self._facts = facts

    def waiting(self, text: str) -> None:
        self._waiting = text

    def on_log(self, text: str) -> None:
        self._logged.append((self._wall_clock(), text))  # a deque may be filled from any thread

    def sample(self) -> None:
        """Add what clients report within epochs to the curves; to be called about once a second."""
        for member in self._members():
            if member.loss is not None and member.steps and member.epoch:
                held = self._facts.held.get(member.name)
                owner = held.owner or member.name if held else member.name
                epochs = int(member.epoch.partition("/")[2] or 1)
                epoch = self._rounds.base(self._facts.round, epochs) + int(member.epoch.partition("/")[0]) - 1
                x, fold = float(epoch * member.steps + member.step), held.fold if held else 0
                known = self._series.get(f"{owner}|{fold}|loss|training|batch")
                if known is None or known.last != x:
                    self.point(owner, "loss", "training", "batch", x, member.loss, fold)

    # --- readers ----------------------------------------------------------------------------------------------------

    def flush(self, now: float) -> bool:
        """Give what has changed a version; return whether something has.

        Args:
            now: seconds on the monotonic clock.
        """
        while self._logged:
            at, text = self._logged.popleft()
            self._note(text, at)
        members = self._members()
        self._show_tiles(members)
        self._show_progress(members, now)
        self._show_lobby(members)
        self._show_queue()
        return self._commit()

    def _commit(self) -> bool:
        """Give what has changed a version: what has none yet must not be sent, or it would be sent twice."""
        if not self._changed:
            return False
        self._changed = False
        self.seq += 1
        self._encoded.clear()
        return True

    def _note(self, text: str, at: float) -> None:
        level = "warning" if text.startswith("Note: ") else "info"
        self.notice(level, text, at=at)
        if level == "warning" and self._run is not None and "warnings" in self._run:
            self.set_run(warnings=[*self._run["warnings"][1], text.removeprefix("Note: ")][-100:])

    def _show_tiles(self, members: Sequence[Member]) -> None:
        current = self.current
        is_running = current is not None and current.state in (State.RUNNING, State.FINISHING)
        is_waiting = current is not None and current.state == State.STARTING
        names = set()
        for member in members:
            if not member.has_connected and not is_running:
                continue
            names.add(member.name)
            tile = tile_of(
                member,
                self._facts,
                self._reasons,
                self._rows,
                self._metrics,
                is_running=is_running,
                is_waiting=is_waiting,
            )
            if member.name not in self._tiles or self._tiles[member.name][1] != tile:
                self._tiles[member.name] = (self._next, tile)
        for name, (_, shown) in self._tiles.items():
            if shown is not None and name not in names:
                self._tiles[name] = (self._next, None)

    def _show_progress(self, members: Sequence[Member], now: float) -> None:
        current = self.current
        if current is None or current.state != State.RUNNING:
            return
        share = share_done(self._facts, members)
        left = self._pace.left(share, now)
        self.set_run(progress=round(share, 3), seconds_left=None if left is None else float(round(left)))
        if self._facts.round:
            self.set_run(round=self._facts.round)

    def _show_lobby(self, members: Sequence[Member]) -> None:
        joined = in_order(member.name for member in members if member.connected and not member.lacks)
        current = self.current
        starting = current is not None and current.state == State.STARTING
        wanted = current.request.job.clients if current is not None else 0
        can_start = starting and current is not None and current.request.enter_starts and bool(self._waiting)
        lobby = {
            "wanted": wanted,
            "joined": joined,
            "missing": max(0, wanted - len(joined)) if starting else 0,
            "waiting_for": self._waiting if starting else "",
            "can_start_now": can_start,
        }
        self.set("lobby", lobby)

    def _show_queue(self) -> None:
        queued = [each for each in self._handles if each.state == State.QUEUED]
        self.set(
            "queue",
            [
                {
                    "id": self._ids[each],
                    "method": each.request.job.method,
                    "model": each.request.job.model,
                    "position": position,
                }
                for position, each in enumerate(queued, 1)
            ],
        )

    def snapshot(self, role: str) -> dict[str, Any]:
        """Return everything at the current version."""
        self._commit()
        return {
            "seq": self.seq,
            **{name: self._for(role, name, value) for name, (_, value) in self._sections.items()},
            "run": None if self._run is None else {key: value for key, (_, value) in self._run.items()},
            "clients": {name: tile for name, (_, tile) in self._tiles.items() if tile is not None},
            "series": {key: series.all_points() for key, series in self._series.items()},
            **{section: self._shown_since(section, -1) for section in ("samples", "confusion")},
            "timeline": [span for _, span in self._spans],
            "log": [line for _, line in self._log],
        }

    def delta(self, since: int, role: str) -> dict[str, Any]:
        """Return what a reader lacks that has version `since`: everything if that is from before this run."""
        self._commit()
        if since < self._reset or since > self.seq:
            return {"seq": self.seq, "snapshot": self.snapshot(role)}
        found: dict[str, Any] = {"seq": self.seq}
        changed = {
            name: self._for(role, name, value) for name, (version, value) in self._sections.items() if version > since
        }
        merged = {key: value for key, (version, value) in (self._run or {}).items() if version > since}
        parts: dict[str, Any] = {
            "set": changed,
            "merge": {"run": merged} if merged else {},
            "clients": {name: tile for name, (version, tile) in self._tiles.items() if version > since},
            "append": {key: each.since(since) for key, each in self._series.items() if each.changed > since},
            **{section: self._shown_since(section, since) for section in ("samples", "confusion")},
            "timeline": _later(self._spans, since),
            "log": _later(self._log, since),
        }
        return found | {name: part for name, part in parts.items() if part}

    def _for(self, role: str, section: str, value: Any) -> Any:
        if section != "server":
            return value
        return {
            **{key: None if key in FOR_TEACHER and role != TEACHER else each for key, each in value.items()},
            "role": role,
        }

    def _shown_since(self, section: str, since: int) -> dict[str, Any] | None:
        if section not in self._shown:
            return None
        began, meta, models = self._shown[section]
        if began > since:
            return {**meta, "models": {name: value for name, (_, value) in models.items()}}
        later = {name: value for name, (version, value) in models.items() if version > since}
        return {"models": later} if later else None

    def encoded(self, since: int | None, role: str) -> bytes:
        """Return the JSON of the delta since a version, or of the snapshot; made once per version."""
        self._commit()
        key = (since, role)
        if key not in self._encoded:
            what = self.snapshot(role) if since is None else self.delta(since, role)
            self._encoded[key] = msgspec.json.encode(what)
        return self._encoded[key]


def _later(kept: deque[tuple[int, dict[str, Any]]], since: int) -> list[dict[str, Any]]:
    """Return what came after a version, the oldest first."""
    found: list[dict[str, Any]] = []
    for version, what in reversed(kept):
        if version <= since:
            break
        found.append(what)
    return found[::-1]


class _Rounds:
    """Where the epochs of each round begin on the axis of all epochs."""

    def __init__(self) -> None:
        self._bases: dict[int, int] = {}
        self._highest = 0.0

    def base(self, round_: int, epochs: int) -> int:
        """Return how many epochs came before a round (0: a run without rounds)."""
        if not round_:
            return 0
        if round_ not in self._bases:
            # After a resumption nothing is known of the rounds before.
            self._bases[round_] = int(self._highest) or (round_ - 1) * epochs
        return self._bases[round_]

    def reached(self, x: float) -> None:
        self._highest = max(self._highest, x)
