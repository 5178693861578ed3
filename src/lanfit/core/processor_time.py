"""End this process if reading a file takes too long: a damaged file can keep native code busy forever.

Such code reacts neither to an exception nor to another thread, as it may hold Python's lock. Processor time is
measured, so that a slow disk or a busy machine does not matter. Used only in processes that may be killed.
"""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator

#: For any file, and for each additional megabyte: some ten times what slow files of real users took.
LEAST_SECONDS = 180.0
SECONDS_PER_MEGABYTE = 5.0
#: The signal as the exit code of a process that it killed; None if there is no such limit, as on Windows.
ENDED: int | None = -signal.SIGPROF if hasattr(signal, "SIGPROF") else None


def most_seconds(size: int) -> float:
    """Return the seconds of processor time that are allowed to read a file of this size."""
    return LEAST_SECONDS + SECONDS_PER_MEGABYTE * size / 1e6


@contextlib.contextmanager
def limit_processor_time(seconds: float) -> Iterator[None]:
    """Kill this process with the signal SIGPROF if the block takes more of its processor time."""
    if ENDED is None:
        yield
        return
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
