"""Is the peer still there? Decides when to ping and when to give a link up; knows no socket and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lanfit.waits import Waits


@dataclass(frozen=True)
class LinkTimes:
    """How patient a link is, in seconds."""

    ping: float = 5.0
    """We sent nothing for so long: ping."""
    dead: float = 60.0
    """No byte from the peer, or none taken by it, for so long: the link is dead."""
    stall: float = 600.0
    """A block that we fetch does not get on for so long: the link is given up."""
    gap: float = 5.0
    """Our own loop stood still for so long (a suspended machine): all deadlines begin anew."""

    @classmethod
    def of(cls, waits: Waits) -> LinkTimes:
        """What the settings say."""
        return cls(ping=waits.heartbeat, dead=waits.lost, stall=waits.no_progress)

    @property
    def tick(self) -> float:
        """How often to look."""
        return min(1.0, self.ping / 5, self.dead / 10)


@dataclass(frozen=True)
class Reading:
    """What a link's counters say at a moment; all in bytes."""

    received: int
    sent: int
    unsent: int
    """Of `sent`, what the transport still holds."""
    fetched: int
    fetching: bool
    """Is a block on its way to us?"""


@dataclass(frozen=True)
class Alive:
    """The link lives; `ping` says whether to send one now."""

    ping: bool


@dataclass(frozen=True)
class Dead:
    """Give the link up, for this reason; `cause` is what stood still."""

    reason: str
    cause: Literal["silent", "stuck", "stalled"]


class _Since:
    """When a value last changed."""

    def __init__(self, now: float) -> None:
        self.value: object = None
        self.when = now

    def look(self, value: object, now: float) -> float:
        """Return for how many seconds the value has been the same."""
        if value != self.value:
            self.value, self.when = value, now
        return now - self.when


class Pulse:
    """The watch over one link: give `tick` the time and the counters at least every `times.tick` seconds."""

    def __init__(self, times: LinkTimes, now: float) -> None:
        self._times = times
        self._last = now
        self._received, self._sent, self._taken, self._fetched = (_Since(now) for _ in range(4))

    def silence(self, now: float) -> float:
        """Seconds since bytes were last seen to come in; as exact as ticks are frequent."""
        return max(0.0, min(now, self._last) - self._received.when)

    def tick(self, now: float, reading: Reading) -> Alive | Dead:
        """Decide on what the counters say now."""
        times = self._times
        if (passed := now - self._last) > times.tick + times.gap:
            # We stood still ourselves: nobody's silence can be blamed on them for that time.
            for since in (self._received, self._sent, self._taken, self._fetched):
                since.when += passed
        self._last = now
        silent = self._received.look(reading.received, now)
        quiet = self._sent.look(reading.sent, now)
        # With nothing to take, or nothing to fetch, the value is new each time: no deadline runs.
        stuck = self._taken.look(reading.sent - reading.unsent if reading.unsent else now, now)
        stalled = self._fetched.look(reading.fetched if reading.fetching else now, now)
        if silent > times.dead:
            return Dead(f"nothing came for {silent:.0f} s", "silent")
        if stuck > times.dead:
            return Dead(f"the peer took nothing of what is sent to it for {stuck:.0f} s", "stuck")
        if stalled > times.stall:
            return Dead(f"the block that is fetched did not get on for {stalled:.0f} s", "stalled")
        # It is our own silence that counts: the peer's ping may stand behind megabytes of a block, and while we only
        # receive, our pings are all that tells it that we live.
        return Alive(ping=quiet > times.ping)
