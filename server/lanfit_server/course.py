"""What happened in a run, kept for its summary. Holds figures; decides nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

from lanfit.timing import Timings
from lanfit_server.tasks import TaskTable


@dataclass
class ClientTimes:
    """When things happened to a client, on the monotonic clock; None for not yet."""

    joined: float
    leased: float | None = None
    returned: float | None = None
    sending: float = 0.0

    def waited(self, now: float) -> float:
        """Seconds without a task."""
        before = (self.leased if self.leased is not None else now) - self.joined
        return before + (now - self.returned if self.returned is not None else 0.0)


@dataclass
class Course:
    """What happened in a run, for its summary."""

    table: TaskTable = field(default_factory=TaskTable)
    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    """By task: measured by the server on its test rows."""
    times: dict[str, ClientTimes] = field(default_factory=dict)
    timings: Timings = field(default_factory=Timings)
    too_late: set[str] = field(default_factory=set)
    """Tasks that were not waited for any longer."""
