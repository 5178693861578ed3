"""Work in threads whose results come in order: several files at the same time, several pieces of one file."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def _cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: More would only hold more blocks of some MiB at the same time.
CORES = min(8, _cores())
#: At least two, so that one file is read while the system waits for another.
THREADS = max(2, CORES)
_at_once = THREADS


def in_order(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Call the function for all items at the same time; results, and the first error, in order."""
    items = list(items)
    if len(items) < 2:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(len(items), _at_once)) as pool:
        return list(pool.map(function, items))


def one_at_a_time() -> None:
    """From now on `in_order` takes one item after the other."""
    global _at_once
    _at_once = 1


def ahead(function: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """Yield what the function makes of each item, in order, while the next few are worked on.

    No more than `threads` + 2 items are taken before their results are wanted. With one thread nothing is done ahead.
    """
    if threads == 1:
        yield from map(function, items)
        return
    waiting: deque[Future[B]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
