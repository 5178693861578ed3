"""Data that a server can't use: the user corrects the files, and they are read again, while the server waits.

At a terminal, Enter reads them again. Otherwise they are read again when they have changed and then been stable for a
moment, because copying a large file takes time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

#: Like `Terminal.on_enter`.
OnEnter = Callable[[Callable[[], None]], contextlib.AbstractContextManager[bool]]
#: How often the files are checked, in seconds.
LOOK_SECONDS = 1.0

Snapshot = frozenset[tuple[str, int, int]]


def snapshot(folder: Path) -> Snapshot:
    """Return names, sizes and times of all files of a folder: any change of a file changes them."""
    found = set()
    for root, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # it was just removed
                path = os.path.join(root, name)
                info = os.stat(path)
                found.add((path, info.st_size, info.st_mtime_ns))
    return frozenset(found)


class Corrections:
    """Waits for corrected files, from the server's request for them to its first task.

    Args:
        log: called with lines for the user.
        on_enter: calls something for every Enter inside its block; yields whether it can.
    """

    def __init__(
        self,
        folder: Path,
        log: Callable[[str], None],
        on_enter: OnEnter = lambda call: contextlib.nullcontext(False),
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._folder = folder
        self._log = log
        self._on_enter = on_enter
        self._look_seconds = look_seconds
        self._waiting: asyncio.Task[None] | None = None
        self._by_key = False

    def begin(self, again: Callable[[], Awaitable[None]]) -> None:
        """Read the files again with this function when the user requests it or has changed them."""
        if self._waiting is None:
            self._waiting = asyncio.create_task(self._wait(again))

    async def end(self) -> None:
        """Stop reading the files: training has started, or the server has disconnected."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)

    def invite(self) -> None:
        """Print how corrected files are read, if they are."""
        if self._waiting is None:
            return
        if self._by_key:
            self._log("Correct them and press Enter here to read them again.")
        else:
            self._log("Correct them: they are read again as soon as they change.")

    async def _wait(self, again: Callable[[], Awaitable[None]]) -> None:
        pressed, loop = asyncio.Event(), asyncio.get_running_loop()

        def press() -> None:
            loop.call_soon_threadsafe(pressed.set)

        with self._on_enter(press) as self._by_key:
            seen = await self._look()
            while True:
                if self._by_key:
                    await pressed.wait()
                    pressed.clear()
                else:
                    seen = await self._changed(seen)
                await again()

    async def _changed(self, seen: Snapshot) -> Snapshot:
        """Return when the files have changed and are stable."""
        before = seen
        while True:
            await asyncio.sleep(self._look_seconds)
            now = await self._look()
            if now != seen and now == before:
                return now
            before = now

    async def _look(self) -> Snapshot:
        return await asyncio.to_thread(snapshot, self._folder)
