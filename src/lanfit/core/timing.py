"""Named spans of wall time: a context manager and a table. They fill `seconds` in the summary.

A span is open while at least one block of that name runs: nested or simultaneous blocks of one name, in any thread or
task, count once. So no name can take longer than the wall time. It measures only named spans.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Span:
    """The time of one name; enter it to start the clock. Created by `Timings.span`."""

    __slots__ = ("_clock", "_lock", "_open", "_started", "_total", "count")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._open = 0
        self._started = 0.0
        self._total = 0.0
        self.count = 0

    def __enter__(self) -> Span:
        with self._lock:
            if self._open == 0:
                self._started = self._clock()
            self._open += 1
            self.count += 1
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._lock:
            self._open -= 1
            if self._open == 0:
                self._total += self._clock() - self._started

    def add(self, seconds: float, count: int) -> None:
        """Add time that was measured elsewhere."""
        with self._lock:
            self._total += seconds
            self.count += count

    @property
    def seconds(self) -> float:
        """The seconds so far, including an open block."""
        with self._lock:
            return self._total + (self._clock() - self._started if self._open else 0.0)


class Timings:
    """Seconds by name, in the order in which the names first came.

    >>> timings = Timings()
    >>> with timings.span("train"):
    ...     pass
    >>> list(timings.seconds)
    ['train']
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._spans: dict[str, Span] = {}

    def span(self, name: str) -> Span:
        """Return the span of this name, to be used as `with timings.span("train"): ...`."""
        span = self._spans.get(name)
        # setdefault, because two threads can come here at once and must get the same span
        return span if span is not None else self._spans.setdefault(name, Span(self._clock))

    def add(self, name: str, seconds: float, count: int = 1) -> None:
        """Add time that was measured elsewhere, e.g. by another process."""
        self.span(name).add(seconds, count)

    def merge(self, other: Timings) -> None:
        """Add all times of another object."""
        for name, span in list(other._spans.items()):
            self.add(name, span.seconds, span.count)

    @property
    def seconds(self) -> dict[str, float]:
        """Return seconds by name, including open spans."""
        return {name: span.seconds for name, span in list(self._spans.items())}

    def table(self) -> str:
        """Return name, count, seconds and share of the sum, the longest first; for a terminal."""
        spans = sorted(((span.seconds, name, span.count) for name, span in list(self._spans.items())), reverse=True)
        total = sum(seconds for seconds, _, _ in spans)
        width = max([len("name"), *(len(name) for _, name, _ in spans)])
        lines = [f"{'name':<{width}}  {'count':>8}  {'seconds':>10}  {'share':>6}"]
        for seconds, name, count in spans:
            share = seconds / total if total else 0.0
            lines.append(f"{name:<{width}}  {count:>8}  {seconds:>10.3f}  {share:>6.1%}")
        return "\n".join(lines)
