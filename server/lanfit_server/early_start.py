"""When a run begins with fewer clients than it wants: after `--start-after`, or when the operator presses Enter. Pure.

Somebody is always missing; but how many are enough only the operator can say, so without a word all are waited for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import msgspec

from lanfit.errors import InputError
from lanfit.fields import readable_duration
from lanfit.job import Job
from lanfit.text import pluralize
from lanfit_server.roster import Roster


@dataclass
class EarlyStart:
    """What a run needs to begin without some of its clients.

    Args:
        least: so many have to be there.
        after: how many seconds are waited for the others; infinite: for ever.
        local: the clients of the server's own machine, which always come: they are waited for.
        check: raises InputError if the job can't be done with so many clients.
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
        """What a job says of it."""
        local = [f"local-{number + 1}" for number in range(job.local)]
        after = math.inf if job.start_after is None else job.start_after
        return cls(max(job.min_clients or 1, job.local), after, local, check)

    @classmethod
    def never(cls) -> EarlyStart:
        """Of a run that can't begin with fewer clients."""
        return cls(least=0, after=math.inf)

    def begin(self, now: float) -> None:
        """The wait begins, at this time of the monotonic clock."""
        self._began, self._asked = now, False

    def press(self) -> None:
        """The operator has pressed Enter."""
        self._asked = True

    def left(self, now: float) -> float:
        """Seconds until `--start-after` is over; infinite without it, and when it is over."""
        left = self._began + self.after - now
        return left if left > 0 else math.inf

    @property
    def is_possible(self) -> bool:
        return self.by_key or self.after < math.inf

    def is_due(self, now: float) -> bool:
        """Whether it should begin now, if that is possible with those who are there."""
        return self._asked or now - self._began >= self.after

    def begins(self, ready: Sequence[str], roster: Roster, say: Callable[[str], None], now: float) -> bool:
        """Whether the run begins with these now; if somebody wants that, and it can't be, it is said why."""
        if not self.is_due(now):
            return False
        asked, self._asked = self._asked, False
        if not (why := self._refusal(ready, roster)):
            return True
        if asked or why not in self._answered:  # Enter is always answered; that the time is over is said once
            self._answered.add(why)
            say(f"It can't begin yet: {why}")
        return False

    def _refusal(self, ready: Sequence[str], roster: Roster) -> str:
        """Why it can't begin with these; empty if it can."""
        if len(ready) < max(1, self.least):
            least = f"at least {pluralize(max(1, self.least), 'client')}"
            there = f"{len(ready)} {'is' if len(ready) == 1 else 'are'} ready" if ready else "nobody is ready"
            return f"{there}, and it takes {least}."
        if missing := [name for name in self.local if roster.name_of(name) not in ready]:
            return f"{' and '.join(missing)} on this machine {'is' if len(missing) == 1 else 'are'} still starting."
        try:
            self.check(len(ready))
        except InputError as wrong:
            return f"with {pluralize(len(ready), 'client')} {wrong.message}. {wrong.hint}"
        return ""

    def invitation(self, ready: int, now: float) -> str:
        """What is said behind who is waited for: how the run begins without them. Begins with a blank, or is empty."""
        told = ""
        if self.by_key and ready >= max(1, self.least):
            told = f" Press Enter to begin with the {ready} {'that is' if ready == 1 else 'that are'} ready."
        elif self.by_key and self.least > 1:
            told = f" As soon as {self.least} are ready, Enter begins without the others."
        if (left := self.left(now)) < math.inf:
            told += f" In {readable_duration(left)} it begins without them."
        elif self.after < math.inf:
            told += f" It begins as soon as {max(1, self.least)} are ready."
        return told


def with_fewer(job: Job, owners: Sequence[str]) -> Job:
    """The job as it is done with these clients, so that repeating it repeats the run: it waits for as many."""
    return msgspec.structs.replace(job, clients=len(owners), start_after=None)


def announcement(job: Job, owners: Sequence[str]) -> str:
    """What is said when a run begins without some of the clients that the job wants."""
    late = (
        "Who comes later takes part in the next run: the rows of this one are its clients' own"
        if job.data == "client"
        else "Who comes later helps with what others leave undone, and takes part in the next run"
    )
    return f"Beginning with {len(owners)} of {pluralize(job.clients, 'client')}: {', '.join(owners)}. {late}."
