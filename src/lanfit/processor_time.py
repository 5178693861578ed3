"""Ends this process when reading a file takes too long: a damaged one can keep native code busy for ever.

Such code hears of nothing else, neither of an exception nor of another thread, as it may hold Python's lock. Processor
time is counted, so that a slow disk or a busy machine is no reason. Only in processes that are there to be ended.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: For any file, and for each megabyte of it beyond: some ten times what files of people took that were slow to read.
LEAST_SECONDS = 180.0
SECONDS_PER_MEGABYTE = 5.0
#: The signal, as the exit code of a process that it ended; None where there is no such limit, as on Windows.
ENDED: int | None = -signal.SIGPROF if hasattr(signal, "SIGPROF") else None


def most_seconds(size: int) -> float:
    """Seconds of processor time in which a file of so many bytes is to be read."""
    return LEAST_SECONDS + SECONDS_PER_MEGABYTE * size / 1e6


@contextlib.contextmanager
def limit_processor_time(seconds: float) -> Iterator[None]:
    """End this process with the signal SIGPROF when what is done in the block takes more of its processor time."""
    if ENDED is None:
        yield
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
