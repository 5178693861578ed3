"""How far something is, for people: shares, bytes, time left. Pure: time is passed in."""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from lanfit.data.memory import readable_size

#: Before so much is done, and so many seconds have gone by, nobody can say how long the rest takes.
LEAST_SHARE = 0.005
LEAST_SECONDS = 3.0
#: How fast it was in so many seconds tells how long the rest takes: the first batches are slow.
RECENT_SECONDS = 60.0
#: Where nothing is drawn, a transfer is spoken of so often at most, in seconds, and each time so much more is there.
SPEAKS = 2.0
STEP = 0.1


def clock(seconds: float) -> str:
    """A time for people: `0:41`, `12:05`, `1:02:03`."""
    minutes, rest = divmod(math.ceil(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(share: float, width: int) -> str:
    """A bar of so many characters, filled to this share."""
    full = min(width, max(0, math.floor(share * width + 1e-9)))
    return "█" * full + "░" * (width - full)


def percent(share: float) -> str:
    """`  7%`; it is 100 only when all is done."""
    return f"{min(100, max(0, math.floor(100 * share + 1e-9))):3d}%"


def short(value: float) -> str:
    """A loss in a few characters; of a small one the digits that count."""
    if value and not 0.1 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:.4f}"


def cut(text: str, width: int) -> str:
    """A text in so many columns of a terminal; what does not fit is cut off."""
    if _columns(text) <= width:
        return text
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > width - 1:
            return f"{text[:index]}…"
    return text


def _columns(text: str) -> int:
    """How many columns a text takes on a terminal, at most."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


@dataclass
class Pace:
    """How long the rest takes, from what was done lately."""

    looks: deque[tuple[float, float]] = field(default_factory=deque)
    """When it was looked at, and what was done then; at most once a second."""
    what: Hashable = None

    def of(self, what: Hashable, share: float, now: float) -> float | None:
        """As `left`; with another thing it begins anew."""
        if what != self.what:
            self.what = what
            self.looks.clear()
        return self.left(share, now)

    def left(self, share: float, now: float) -> float | None:
        """Seconds until all is done; None while nobody can say. `share` is what is done, 0 to 1."""
        looks = self.looks
        if looks and share < looks[-1][1]:
            looks.clear()
        if not looks or now - looks[-1][0] >= 1:
            looks.append((now, share))
        while len(looks) > 1 and now - looks[0][0] > RECENT_SECONDS:
            looks.popleft()
        done, passed = share - looks[0][1], now - looks[0][0]
        if done < LEAST_SHARE or passed < LEAST_SECONDS:
            return None
        return (1 - share) * passed / done


@dataclass
class Transfer:
    """Bytes on their way, one way: `done` of `total`, the first of them looked at `since`."""

    total: int
    done: int
    since: float
    first: int = -1
    """How many were there then."""
    spoken: float = 0.0

    def __post_init__(self) -> None:
        if self.first < 0:
            self.first = self.done
        self._spoken_at = self.since

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def left(self, now: float) -> float | None:
        """Seconds until all is there; None while nobody can say."""
        done, passed = self.done - self.first, now - self.since
        if done <= 0 or passed < LEAST_SECONDS:
            return None
        return (self.total - self.done) * passed / done

    def said(self, now: float) -> str:
        """What stands beside its percentage: `12.1 of 33.0 MB, 0:41 left`."""
        left = self.left(now)
        done, total = readable_size(self.done), readable_size(self.total)
        if done.split()[-1] == total.split()[-1]:
            done = done.split()[0]
        amount = f"{done} of {total}"
        return amount if left is None else f"{amount}, {clock(left)} left"

    def step(self, now: float) -> str:
        """A line where no bar is drawn: at each tenth of a transfer that takes long; empty if there is nothing new."""
        tenth = math.floor(self.share / STEP + 1e-9) * STEP
        if self.done >= self.total or tenth <= self.spoken or now - self._spoken_at < SPEAKS:
            return ""
        self.spoken, self._spoken_at = tenth, now
        return f"{percent(self.share).strip()}, {self.said(now)}"
