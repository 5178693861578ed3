"""A curve of bounded size: points are thinned evenly, and a reader gets only the missing points.

Theory of operation. Points arrive in the order of x. When there are more than `most`, the range of x is divided into
equal buckets, and of each the lowest and the highest point stay: peaks remain visible, and old and new parts of the
curve are equally dense. Each point has the version of the board at which it was added. A reader with version v lacks
the points that were added later, unless the series was thinned after v: then it lacks all.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from typing import Any


class Series:
    """One curve.

    Args:
        meta: what it shows; part of the message that starts it.
        version: of the board, when it begins.
    """

    def __init__(self, meta: dict[str, Any], version: int) -> None:
        self.meta = meta
        self._x, self._y, self._versions = array("d"), array("d"), array("q")
        self._began = version
        """The version at which it was replaced: an earlier reader needs all of it."""
        self.changed = version

    def __len__(self) -> int:
        return len(self._x)

    @property
    def last(self) -> float | None:
        """The last x; None without points."""
        return self._x[-1] if self._x else None

    def add(self, x: float, y: float, version: int, most: int) -> None:
        """Add a point. Those from its x on are replaced: a task that is tried again starts its curve again."""
        if self._x and x <= self._x[-1]:
            keep = bisect_left(self._x, x)
            del self._x[keep:], self._y[keep:], self._versions[keep:]
            self._began = version
        self._x.append(x)
        self._y.append(y)
        self._versions.append(version)
        self.changed = version
        if len(self._x) > most:
            self._thin(most // 4, version)

    def _thin(self, buckets: int, version: int) -> None:
        """Keep the lowest and the highest point of each bucket, and the first and the last of all."""
        x, y = self._x, self._y
        first, width = x[0], (x[-1] - x[0]) / buckets or 1.0
        kept: list[int] = [0]
        low = high = 0
        current = 0
        for index in range(len(x)):
            bucket = min(buckets - 1, int((x[index] - first) / width))
            if bucket != current:
                kept += sorted({low, high})
                current, low, high = bucket, index, index
            elif y[index] < y[low]:
                low = index
            elif y[index] > y[high]:
                high = index
        kept = sorted({*kept, low, high, len(x) - 1})
        self._x, self._y = array("d", (x[i] for i in kept)), array("d", (y[i] for i in kept))
        self._versions = array("q", [version]) * len(kept)
        self._began = version

    def points(self, since: int = -1) -> list[tuple[float, float]]:
        """Return the points that came after a version."""
        start = bisect_right(self._versions, since)
        return list(zip(self._x[start:], self._y[start:], strict=True))

    def since(self, version: int) -> dict[str, Any]:
        """Return what a reader with this version lacks."""
        if version < self._began:
            return {"new": self.meta, "points": self.points()}
        return {"points": self.points(version)}

    def all_points(self) -> dict[str, Any]:
        return {**self.meta, "points": self.points()}
