"""A disk without room: what is to be written is not given up. It is tried again until there is some, and that is said.

Writes nothing itself.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from lanfit.errors import LanfitError
from lanfit.partial import is_full
from lanfit.system import refused

#: Seconds between two attempts.
AGAIN_SECONDS: Final = 10.0
#: How often it is said, in seconds.
REMIND_SECONDS: Final = 60.0
T = TypeVar("T")


class Room:
    """What is said while room is waited for.

    Args:
        what: the beginning of a sentence: what has to wait.
        say: called with whole sentences.
    """

    def __init__(self, what: str, say: Callable[[str], None]) -> None:
        self._what = what
        self._say = say
        self._said = -math.inf

    def is_missing(self, wrong: OSError | LanfitError | sqlite3.OperationalError) -> None:
        """There was none just now, for this reason."""
        now = time.monotonic()
        if now - self._said >= REMIND_SECONDS:
            self._said = now
            reason = (wrong if isinstance(wrong, LanfitError) else refused(wrong)).message
            self._say(
                f"{self._what}: {reason}. It is tried again every {AGAIN_SECONDS:.0f} s; make room on this machine's "
                "disk."
            )

    async def for_(self, write: Callable[[], T], *, thread: bool = True) -> T:
        """Return what `write` returns; it is called in a thread, or here, and again while the disk has no room.

        Raises:
            OSError, LanfitError, sqlite3.OperationalError: whatever else it raises.
        """
        while True:
            try:
                return await asyncio.to_thread(write) if thread else write()
            except (OSError, LanfitError, sqlite3.OperationalError) as wrong:
                if not is_full(wrong):
                    raise
                await self.wait(wrong)

    async def wait(self, wrong: OSError | LanfitError | sqlite3.OperationalError) -> None:
        """There was none just now, for this reason: return when it is to be tried again."""
        self.is_missing(wrong)
        await asyncio.sleep(AGAIN_SECONDS)
