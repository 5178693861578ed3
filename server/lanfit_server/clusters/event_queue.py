"""The queue of cluster events for the run, with a bound for each client.

The consumer may be busy for a while: it evaluates, or writes a model. Messages of clients wait here until then; the
bound is far above what honest clients send. From a client above its bound nothing more is read, until too much waits on
its link, which is then cut; other clients are not affected.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol, TypeVar

#: The bound for one client, in the units of `_size`: about 4 MB.
MOST_WAITING = 2000


class Waiting(Protocol):
    """A queued event."""

    @property
    def client(self) -> str: ...


T = TypeVar("T", bound=Waiting)


class EventQueue(asyncio.Queue[T]):
    """An unbounded queue in which the events of each client are bounded, if they are added by `put_when_free`."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: Counter[str] = Counter()
        self._taken = asyncio.Event()
        self._aside: list[T] = []

    async def put_when_free(self, event: T, ended: asyncio.Event) -> bool:
        """Add an event of a client when there is space; return False if `ended` is set before."""
        while self._weights[event.client] >= MOST_WAITING:
            taken = self._taken
            timeouts = [asyncio.ensure_future(each.wait()) for each in (taken, ended)]
            try:
                await asyncio.wait(timeouts, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in timeouts:
                    wait.cancel()
            if ended.is_set():
                return False
        self.put_nowait(event)
        return True

    def set_aside(self, event: T) -> None:
        """Set an event aside for another consumer, until `bring_back`. It still counts for the bound."""
        self._weights[event.client] += _weight(event)
        self._aside.append(event)

    def bring_back(self) -> None:
        """Put the events that were set aside back at the front."""
        later = [self.get_nowait() for _ in range(self.qsize())]
        aside, self._aside = self._aside, []
        for event in aside:
            self._less(event)
        for event in (*aside, *later):
            self.put_nowait(event)

    # Hooks of asyncio.Queue for subclasses.

    def _put(self, item: T) -> None:
        super()._put(item)
        self._weights[item.client] += _weight(item)

    def _get(self) -> T:
        item = super()._get()
        self._less(item)
        return item

    def _less(self, item: T) -> None:
        self._weights[item.client] -= _weight(item)
        if not self._weights[item.client]:
            del self._weights[item.client]
        self._taken.set()
        self._taken = asyncio.Event()


def _weight(event: object) -> int:
    """Return the size of an event: one, plus one per 1,000 characters and per ten numbers."""
    texts = (*getattr(event, "lines", ()), getattr(event, "error", ""))
    figures = getattr(event, "metrics", ())
    return 1 + sum(len(text) for text in texts if isinstance(text, str)) // 1000 + len(figures) // 10
