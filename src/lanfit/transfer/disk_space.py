"""Retry writes on a full disk until there is space, and report it.

Writes nothing itself.
"""

from __future__ import annotations

import asyncio
import math
import sqlite3
import time
from collections.abc import Callable
from typing import Final, TypeVar

from lanfit.core.system import refused
from lanfit.errors import LanfitError
from lanfit.transfer.partial import is_full

#: Seconds between two attempts.
AGAIN_SECONDS: Final = 10.0
#: How often it is reported, in seconds.
REMIND_SECONDS: Final = 60.0
T = TypeVar("T")


class RetryWhenFull:
    """The messages while writes wait for disk space.

    Args:
        what: the beginning of a sentence: what has to wait.
        log: called with whole sentences.
    """

    def __init__(self, what: str, log: Callable[[str], None]) -> None:
        self._what = what
        self._log = log
        self._last_reminder = -math.inf

    def is_missing(self, wrong: OSError | LanfitError | sqlite3.OperationalError) -> None:
        """Report that there was no space, for this reason."""
        now = time.monotonic()
        if now - self._last_reminder >= REMIND_SECONDS:
            self._last_reminder = now
            reason = (wrong if isinstance(wrong, LanfitError) else refused(wrong)).message
            self._log(
                f"{self._what}: {reason}. Retrying every {AGAIN_SECONDS:.0f} s; free some space on this machine's disk."
            )

    async def for_(self, write: Callable[[], T], *, thread: bool = True) -> T:
        """Return the result of `write`; it is called in a thread or here, and again while the disk is full.

        Raises:
            OSError, LanfitError, sqlite3.OperationalError: any other error of `write`.
        """
        while True:
            try:
                return await asyncio.to_thread(write) if thread else write()
            except (OSError, LanfitError, sqlite3.OperationalError) as error:
                if not is_full(error):
                    raise
                await self.wait(error)

    async def wait(self, wrong: OSError | LanfitError | sqlite3.OperationalError) -> None:
        """Report that there was no space, for this reason; return when to retry."""
        self.is_missing(wrong)
        await asyncio.sleep(AGAIN_SECONDS)
