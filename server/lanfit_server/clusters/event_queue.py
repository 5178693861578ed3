"""The events of a cluster on their way to who runs the job, with so much room for each client.

Whoever runs the job may look at nothing for a while: it evaluates, or writes a model. What a client says meanwhile
waits here, and there is room for a lot of what honest clients say. From a client that says more nothing more is taken,
until too much waits on its link, which is then cut; others are heard as before.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Protocol, TypeVar

#: So much of one client may wait; an event is one and what it is long for. In bytes some 4 MB.
MOST_WAITING = 2000


class Waiting(Protocol):
    """What waits: something of a client."""

    @property
    def client(self) -> str: ...


T = TypeVar("T", bound=Waiting)


class EventQueue(asyncio.Queue[T]):
    """An unbounded queue in which each client's part is bounded, for those that put by `put_when_room`."""

    def __init__(self) -> None:
        super().__init__()
        self._weights: Counter[str] = Counter()
        self._taken = asyncio.Event()
        self._aside: list[T] = []

    async def put_when_room(self, event: T, ended: asyncio.Event) -> bool:
        """Put an event of a client when there is room for it; returns False when `ended` is set before there is."""
        while self._weights[event.client] >= MOST_WAITING:
            taken = self._taken
            waits = [asyncio.ensure_future(each.wait()) for each in (taken, ended)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
            if ended.is_set():
                return False
        self.put_nowait(event)
        return True

    def set_aside(self, event: T) -> None:
        """Keep an event that was taken, and is for somebody else, until `bring_back`. It takes its room meanwhile."""
        self._weights[event.client] += _weight(event)
        self._aside.append(event)

    def bring_back(self) -> None:
        """What was set aside is there again, before all that came later."""
        later = [self.get_nowait() for _ in range(self.qsize())]
        aside, self._aside = self._aside, []
        for event in aside:
            self._less(event)
        for event in (*aside, *later):
            self.put_nowait(event)

    # What asyncio.Queue has for its subclasses.

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
    """What an event counts: one, one more for each 1,000 characters, and for each ten of its figures."""
    texts = (*getattr(event, "lines", ()), getattr(event, "error", ""))
    figures = getattr(event, "metrics", ())
    return 1 + sum(len(text) for text in texts if isinstance(text, str)) // 1000 + len(figures) // 10
