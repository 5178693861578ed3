"""Progress for people: fractions, bytes, remaining time. Pure: the time is passed in."""

from __future__ import annotations

import math
import unicodedata
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from lanfit.core.memory import readable_size

#: The remaining time can't be estimated before this fraction is done and this many seconds have passed.
LEAST_SHARE = 0.005
LEAST_SECONDS = 3.0
#: The remaining time is estimated from the speed of the last seconds, because the first batches are slow.
RECENT_SECONDS = 60.0
#: Without a progress bar, a transfer is reported at most this often, in seconds, and after each such fraction.
SPEAKS = 2.0
STEP = 0.1


def clock(seconds: float) -> str:
    """Return a duration for people: `0:41`, `12:05`, `1:02:03`."""
    minutes, rest = divmod(math.ceil(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def bar(share: float, width: int) -> str:
    """Return a bar of this many characters, filled to this fraction."""
    full = min(width, max(0, math.floor(share * width + 1e-9)))
    return "█" * full + "░" * (width - full)


def percent(share: float) -> str:
    """Return `  7%`; it is 100 only when everything is done."""
    return f"{min(100, max(0, math.floor(100 * share + 1e-9))):3d}%"


def short(value: float) -> str:
    """Return a loss in a few characters, with the significant digits of a small one."""
    if value and not 0.1 <= abs(value) < 1000:
        return f"{value:.3g}"
    return f"{value:.4f}"


def cut(text: str, width: int) -> str:
    """Return a text truncated to this many columns of a terminal."""
    if _columns(text) <= width:
        return text
    taken = 0
    for index, character in enumerate(text):
        taken += _columns(character)
        if taken > width - 1:
            return f"{text[:index]}…"
    return text


def _columns(text: str) -> int:
    """Return the maximum number of columns that a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)


@dataclass
class Pace:
    """An estimate of the remaining time from recent progress."""

    looks: deque[tuple[float, float]] = field(default_factory=deque)
    """The times of observations and the progress then; at most one per second."""
    what: Hashable = None

    def of(self, what: Hashable, share: float, now: float) -> float | None:
        """Return the same as `left`; another key starts again."""
        if what != self.what:
            self.what = what
            self.looks.clear()
        return self.left(share, now)

    def left(self, share: float, now: float) -> float | None:
        """Return the seconds until everything is done; None if unknown. `share` is the fraction done, 0 to 1."""
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
    """A transfer in one direction: `done` of `total` bytes, first observed at `since`."""

    total: int
    done: int
    since: float
    first: int = -1
    """The bytes transferred at that time."""
    spoken: float = 0.0

    def __post_init__(self) -> None:
        if self.first < 0:
            self.first = self.done
        self._spoken_at = self.since

    @property
    def share(self) -> float:
        return self.done / self.total if self.total else 1.0

    def left(self, now: float) -> float | None:
        """Return the seconds until the transfer is complete; None if unknown."""
        done, passed = self.done - self.first, now - self.since
        if done <= 0 or passed < LEAST_SECONDS:
            return None
        return (self.total - self.done) * passed / done

    def describe(self, now: float) -> str:
        """Return the text after the percentage: `12.1 of 33.0 MB, 0:41 left`."""
        left = self.left(now)
        done, total = readable_size(self.done), readable_size(self.total)
        if done.split()[-1] == total.split()[-1]:
            done = done.split()[0]
        amount = f"{done} of {total}"
        return amount if left is None else f"{amount}, {clock(left)} left"

    def step(self, now: float) -> str:
        """Return a line for output without progress bars, at each tenth of a long transfer; empty if there is nothing
        new."""
        tenth = math.floor(self.share / STEP + 1e-9) * STEP
        if self.done >= self.total or tenth <= self.spoken or now - self._spoken_at < SPEAKS:
            return ""
        self.spoken, self._spoken_at = tenth, now
        return f"{percent(self.share).strip()}, {self.describe(now)}"
