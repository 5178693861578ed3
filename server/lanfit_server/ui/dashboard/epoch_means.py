"""The mean of the clients' curves by epoch. A point is final as soon as every client that trains so long has it."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

#: Metric, part, per, x, and the mean.
Point = tuple[str, str, str, float, float]


@dataclass
class _Curve:
    sums: dict[float, tuple[float, int]] = field(default_factory=dict)
    """By x that has no mean yet: the sum of values, and their number."""
    ahead: list[float] = field(default_factory=list)
    """The same x as a heap."""
    tops: dict[tuple[str, int], float] = field(default_factory=dict)
    """By model: the last x that counts. What is trained again counts once."""


class Means:
    """Means over models, of the runs of which each belongs to a client, or to a fold of one.

    Args:
        models: their number.
    """

    def __init__(self, models: int) -> None:
        self._models = models
        self._curves: dict[tuple[str, str], _Curve] = {}
        self._done: set[tuple[str, int]] = set()

    def add(self, client: str, fold: int, metric: str, part: str, x: float, value: float) -> Iterator[Point]:
        """Add a value; return the points that are final now."""
        curve, model = self._curves.setdefault((metric, part), _Curve()), (client, fold)
        if x > curve.tops.get(model, 0.0):
            curve.tops[model] = x
            if x not in curve.sums:
                heapq.heappush(curve.ahead, x)
            total, count = curve.sums.get(x, (0.0, 0))
            curve.sums[x] = (total + value, count + 1)
        yield from self._final(metric, part)

    def done(self, client: str, fold: int) -> Iterator[Point]:
        """Record that a model is trained; return the points that are final now, because it has no further epochs."""
        self._done.add((client, fold))
        for metric, part in self._curves:
            yield from self._final(metric, part)

    def rest(self) -> Iterator[Point]:
        """Return the points of all other epochs: the run is over."""
        for (metric, part), curve in self._curves.items():
            for x in sorted(curve.sums):
                total, count = curve.sums.pop(x)
                yield metric, part, "epoch", x, total / count
            curve.ahead.clear()

    def _final(self, metric: str, part: str) -> Iterator[Point]:
        curve = self._curves[metric, part]
        while curve.ahead:
            x = curve.ahead[0]
            total, count = curve.sums[x]
            if count + len(self._done) < self._models:
                return
            if count + sum(curve.tops.get(model, 0.0) < x for model in self._done) < self._models:
                return
            heapq.heappop(curve.ahead)
            del curve.sums[x]
            yield metric, part, "epoch", x, total / count
