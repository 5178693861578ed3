"""Starting a run with fewer clients than requested: after `--start-after`, or when the operator presses Enter. Pure.

Clients are often missing, but only the operator can decide how many are enough, so by default the run waits for all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.core.text import pluralize
from lanfit.errors import InputError
from lanfit.settings.fields import readable_duration
from lanfit.settings.job import Job
from lanfit_server.clusters.roster import Roster


@dataclass
class EarlyStart:
    """The conditions for starting a run without some of its clients.

    Args:
        least: the minimum number of clients.
        after: how many seconds to wait for the others; infinite: unlimited.
        local: the clients of the server's own machine, which always arrive: they are waited for.
        check: raises InputError if the job is not possible with this many clients.
        by_key: whether Enter is read.
    """

    least: int = 1
    after: float = math.inf
    local: Sequence[str] = ()
    check: Callable[[int], object] = lambda clients: None
    by_key: bool = False
    _began: float = 0.0
    _asked: bool = False
    _answered: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, job: Job, check: Callable[[int], object]) -> EarlyStart:
        """Return the conditions of a job."""
        local = [f"local-{number + 1}" for number in range(job.local)]
        after = math.inf if job.start_after is None else job.start_after
        return cls(max(job.min_clients or 1, job.local), after, local, check)

    @classmethod
    def never(cls) -> EarlyStart:
        """Return the conditions of a run that can't start with fewer clients."""
        return cls(least=0, after=math.inf)

    def begin(self, now: float) -> None:
        """Start the wait, at this time of the monotonic clock."""
        self._began, self._asked = now, False

    def press(self) -> None:
        """Record that the operator has pressed Enter."""
        self._asked = True

    def left(self, now: float) -> float:
        """Return the seconds until `--start-after` is over; infinite without it, and after it."""
        left = self._began + self.after - now
        return left if left > 0 else math.inf

    @property
    def is_possible(self) -> bool:
        return self.by_key or self.after < math.inf

    def is_due(self, now: float) -> bool:
        """Return whether the run should start now, if that is possible with the clients that are ready."""
        return self._asked or now - self._began >= self.after

    def begins(self, ready: Sequence[str], roster: Roster, log: Callable[[str], None], now: float) -> bool:
        """Return whether the run starts with these clients now; if it was requested but is impossible, report why."""
        if not self.is_due(now):
            return False
        asked, self._asked = self._asked, False
        if not (why := self._refusal(ready, roster)):
            return True
        if asked or why not in self._answered:  # Enter is always answered; the end of the time is reported once
            self._answered.add(why)
            log(f"Training can't start yet: {why}")
        return False

    def _refusal(self, ready: Sequence[str], roster: Roster) -> str:
        """Return why it can't start with these clients; empty if it can."""
        if len(ready) < max(1, self.least):
            least = f"at least {pluralize(max(1, self.least), 'client')}"
            there = f"{len(ready)} {'is' if len(ready) == 1 else 'are'} ready" if ready else "no client is ready"
            return f"{there}, but {least} must be."
        if missing := [name for name in self.local if roster.name_of(name) not in ready]:
            return f"{' and '.join(missing)} on this machine {'is' if len(missing) == 1 else 'are'} still starting."
        try:
            self.check(len(ready))
        except InputError as error:
            return f"with {pluralize(len(ready), 'client')} {error.message}. {error.hint}"
        return ""

    def invitation(self, ready: int, now: float) -> str:
        """Return how the run can start without the missing clients. Begins with a space, or is empty."""
        text = ""
        if self.by_key and ready >= max(1, self.least):
            text = f" Press Enter to start with the {ready} {'that is' if ready == 1 else 'that are'} ready."
        elif self.by_key and self.least > 1:
            text = f" As soon as {self.least} are ready, Enter starts without the others."
        if (left := self.left(now)) < math.inf:
            text += f" In {readable_duration(left)} the run starts without them."
        elif self.after < math.inf:
            text += f" The run starts as soon as {max(1, self.least)} are ready."
        return text


def with_fewer(job: Job, owners: Sequence[str]) -> Job:
    """Return the job as it runs with these clients, so that repeating it repeats the run: it waits for as many."""
    return msgspec.structs.replace(job, clients=len(owners), start_after=None)


def announcement(job: Job, owners: Sequence[str]) -> str:
    """Return the message when a run starts without some of the requested clients."""
    late = (
        "Clients that join later take part in the next run, because only the clients have the rows of this one"
        if job.data == "client"
        else "Clients that join later take over unfinished tasks, and take part in the next run"
    )
    return f"Starting with {len(owners)} of {pluralize(job.clients, 'client')}: {', '.join(owners)}. {late}."
