"""Threads with results in order: for several files, or several chunks of one file."""

from __future__ import annotations

import contextlib
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def _cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


#: A bound, because more threads would hold more blocks of some MiB at the same time.
CORES = min(8, _cores())
#: At least two, so that one file is read while the system waits for another.
THREADS = max(2, CORES)
_at_once = THREADS
#: The memory that a new thread needs, in bytes: its stack, 8 MiB on most systems, and a little more.
TO_BEGIN = 9 << 20


def in_order(function: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Call the function for all items at the same time; results, and the first error, in order."""
    items = list(items)
    threads = min(len(items), _at_once)
    if len(items) < 2 or not can_start_threads(threads):
        return [function(item) for item in items]
    with _pool(threads) as pool:
        return list(pool.map(function, items))


def one_at_a_time() -> None:
    """Let `in_order` process one item at a time from now on."""
    global _at_once
    _at_once = 1


def ahead(function: Callable[[A], B], items: Iterable[A], threads: int) -> Iterator[B]:
    """Yield the results of the function for the items in order, while it runs for the next few in threads.

    At most `threads` + 2 items are consumed in advance. With one thread nothing is done in advance.
    """
    if threads == 1 or not can_start_threads(threads):
        yield from map(function, items)
        return
    waiting: deque[Future[B]] = deque()
    with _pool(threads) as pool:
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > threads + 1:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def can_start_threads(threads: int = 1) -> bool:
    """Return whether there is memory for this many threads: Python hangs if a thread can't start."""
    private = (
        {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_ANONYMOUS") else {}
    )  # as a stack is
    try:
        mmap.mmap(-1, threads * TO_BEGIN, **private).close()  # untouched; NumPy might reuse freed memory
    except (MemoryError, OSError):
        return False
    return True


@contextlib.contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """Yield a pool whose threads have all started before the first works, which could exhaust the memory for them.

    Raises:
        MemoryError: there is not enough memory for the threads themselves.
    """
    with ThreadPoolExecutor(threads) as pool:
        all_there = threading.Barrier(threads)
        try:
            begun = [pool.submit(all_there.wait) for _ in range(threads)]
        except RuntimeError as error:  # "can't start new thread"
            all_there.abort()
            raise MemoryError(str(error)) from error
        for each in begun:
            each.result()
        yield pool
