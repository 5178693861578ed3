"""Detect dead peers: decide when to ping and when to close a link. Knows no sockets and no clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lanfit.settings.timeouts import Timeouts


@dataclass(frozen=True)
class LinkTimes:
    """The timeouts of a link, in seconds."""

    ping: float = 5.0
    """Send a ping after sending nothing for this long."""
    dead: float = 60.0
    """The link is dead if no byte was received, or none accepted by the peer, for this long."""
    stall: float = 600.0
    """The link is closed if a block that is fetched makes no progress for this long."""
    gap: float = 5.0
    """If our own loop was suspended for this long, all timeouts start again."""

    @classmethod
    def of(cls, timeouts: Timeouts) -> LinkTimes:
        """Return the timeouts of the settings."""
        return cls(ping=timeouts.heartbeat, dead=timeouts.lost, stall=timeouts.no_progress)

    @property
    def tick(self) -> float:
        """How often to check."""
        return min(1.0, self.ping / 5, self.dead / 10)


@dataclass(frozen=True)
class Reading:
    """The counters of a link at one moment, in bytes."""

    received: int
    sent: int
    unsent: int
    """The part of `sent` that the transport still holds."""
    fetched: int
    fetching: bool
    """Whether a block is being received."""


@dataclass(frozen=True)
class Alive:
    """The link is alive; `ping` is whether to send one now."""

    ping: bool


@dataclass(frozen=True)
class Dead:
    """Close the link for this reason; `cause` is what made no progress."""

    reason: str
    cause: Literal["silent", "stuck", "stalled"]


class _Since:
    """The time of a value's last change."""

    def __init__(self, now: float) -> None:
        self.value: object = None
        self.when = now

    def look(self, value: object, now: float) -> float:
        """Return for how many seconds the value has not changed."""
        if value != self.value:
            self.value, self.when = value, now
        return now - self.when


class Keepalive:
    """The supervision of one link: call `tick` with the time and the counters at least every `times.tick` seconds."""

    def __init__(self, times: LinkTimes, now: float) -> None:
        self._times = times
        self._last = now
        self._received, self._sent, self._taken, self._fetched = (_Since(now) for _ in range(4))

    def silence(self, now: float) -> float:
        """Return the seconds since bytes were last received, with the resolution of the ticks."""
        return max(0.0, min(now, self._last) - self._received.when)

    def tick(self, now: float, reading: Reading) -> Alive | Dead:
        """Decide according to the current counters."""
        times = self._times
        if (passed := now - self._last) > times.tick + times.gap:
            # We were suspended ourselves: the silence of peers does not count for that time.
            for since in (self._received, self._sent, self._taken, self._fetched):
                since.when += passed
        self._last = now
        silent = self._received.look(reading.received, now)
        quiet = self._sent.look(reading.sent, now)
        # If there is nothing to send or to fetch, the value is new each time: no timeout runs.
        stuck = self._taken.look(reading.sent - reading.unsent if reading.unsent else now, now)
        stalled = self._fetched.look(reading.fetched if reading.fetching else now, now)
        if silent > times.dead:
            return Dead(f"nothing was received for {silent:.0f} s", "silent")
        if stuck > times.dead:
            return Dead(f"the peer received nothing for {stuck:.0f} s", "stuck")
        if stalled > times.stall:
            return Dead(f"the transfer of a block made no progress for {stalled:.0f} s", "stalled")
        # Our own silence matters: the peer's ping may be queued behind megabytes of a block, and while we only
        # receive, our pings are the only sign that we are alive.
        return Alive(ping=quiet > times.ping)
