"""Statistics of a run for its summary: a subscriber of its events. Decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from lanfit.core.timing import Timings
from lanfit_server.run.events import ClientJoined, ModelEvaluated, ResultCommitted, RunEvent, TaskLeased
from lanfit_server.run.tasks import TaskTable


@dataclass
class ClientTimes:
    """Times of events of a client, on the monotonic clock; None if it has not happened."""

    joined: float
    leased: float | None = None
    returned: float | None = None
    sending: float = 0.0

    def waited(self, now: float) -> float:
        """Return the seconds without a task."""
        before = (self.leased if self.leased is not None else now) - self.joined
        return before + (now - self.returned if self.returned is not None else 0.0)


@dataclass
class RunStats:
    """Statistics of a run, for its summary."""

    table: TaskTable = field(default_factory=TaskTable)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """By task: measured by the server on its test rows."""
    times: dict[str, ClientTimes] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)

    def __call__(self, event: RunEvent, now: float) -> None:
        match event:
            case ClientJoined():
                self._of(event.client, now)
            case TaskLeased():
                self._of(event.client, now).leased = now
            case ResultCommitted():
                times = self._of(event.client, now)
                times.returned, times.sending = now, event.seconds
            case ModelEvaluated():
                self.metrics[event.task] = event.figures

    def _of(self, client: str, now: float) -> ClientTimes:
        return self.times.setdefault(client, ClientTimes(now))
