"""Limits on how many messages of a server a client accepts, and how soon it rejoins one that violates the protocol.

Pure: the time is passed in. An honest server comes nowhere near either limit. The first limits what a client prints,
logs or starts because of a message, also in sum over time; the second what it decodes.
"""

from __future__ import annotations

from dataclasses import dataclass

from lanfit.wire.messages import (
    AnyMessage,
    AskParts,
    Cancel,
    EvaluateTask,
    Later,
    Lease,
    NeedsCustom,
    Reject,
    RunEnded,
    Status,
    Survey,
    Welcome,
)

#: The budget for messages of a server, in characters: an initial amount, and a rate per second. A message costs its
#: text, and the output that it causes; a round of a small model costs 300 of them, and may take 20 ms.
MOST_AT_ONCE = 256 * 1024
MOST_A_SECOND = 32 * 1024
#: The delay in seconds before rejoining a server that violated the protocol, doubled each time, up to a maximum; a
#: link that lasted this long, and ended otherwise, resets it.
FIRST_WAIT = 2.0
LONGEST_WAIT = 600.0
FORGIVEN_AFTER = 60.0
#: The approximate output caused by each message.
WEIGHT = 50
WEIGHT_OF_WORK = 200


def weight(message: AnyMessage) -> int:
    """Return the cost of a message: its text, and the output or work that it causes."""
    match message:
        case Status(text) | RunEnded(text=text) | Cancel(reason=text) | Later(reason=text) | Reject(reason=text):
            return WEIGHT + len(text)
        case Lease() | Survey() | EvaluateTask() | Welcome() | AskParts():
            return WEIGHT_OF_WORK
        case NeedsCustom(files, objects):
            return WEIGHT_OF_WORK + 100 * (len(files) + len(objects))
        case _:
            return WEIGHT


@dataclass
class Flow:
    """A token bucket that refills over time."""

    since: float
    budget: float = MOST_AT_ONCE

    def wait(self, size: int, now: float) -> float:
        """Consume an amount; return for how many seconds to accept nothing more."""
        self.budget = min(MOST_AT_ONCE, self.budget + max(0.0, now - self.since) * MOST_A_SECOND) - size
        self.since = now
        return max(0.0, -self.budget / MOST_A_SECOND)


@dataclass
class BackOff:
    """The delay before the next link, after links that ended because the server violated the protocol."""

    breaks: int = 0

    def ended(self, *, broken: bool, lasted: float) -> float:
        """Record that a link has ended after this many seconds; return the delay before the next one."""
        if not broken:
            if lasted >= FORGIVEN_AFTER:
                self.breaks = 0
            return 0.0
        self.breaks += 1
        return min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(self.breaks - 1, 30))
