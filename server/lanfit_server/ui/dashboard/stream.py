"""Sends the board to its readers: one event stream per tab, and polling.

The state of a stream is the version of its reader, and nothing else: slow readers get larger updates.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

from lanfit_server.ui.dashboard.board import Board

#: Changes are looked for, and sent, this often while there are readers.
FLUSH_SECONDS = 0.5
#: A stream without news sends a comment after this time, so that a lost connection is noticed.
ALIVE_SECONDS = 5.0
SAMPLE_SECONDS = 1.0


class Publisher:
    """Flushes a board while there are readers. Use it in the loop of the session; `close` ends all streams."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._news = asyncio.Event()
        self._readers = 0
        self._is_closed = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._flushing: asyncio.Task[None] | None = None
        self._start(self._sample())

    def _start(self, work: object) -> asyncio.Task[None]:
        task: asyncio.Task[None] = asyncio.ensure_future(work)  # type: ignore[call-overload]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _sample(self) -> None:
        while True:
            await asyncio.sleep(SAMPLE_SECONDS)
            self._board.sample()

    async def _flush(self) -> None:
        version = self._board.seq
        while self._readers:
            await asyncio.sleep(FLUSH_SECONDS)
            self.flush()
            if version != (version := self._board.seq):  # polling flushes as well
                self._wake()

    def _wake(self) -> None:
        self._news.set()
        self._news = asyncio.Event()

    def flush(self) -> None:
        """Take note of what has changed."""
        self._board.flush(time.monotonic())

    def snapshot(self, role: str) -> dict[str, Any]:
        """Return everything as it is now."""
        self.flush()
        return self._board.snapshot(role)

    def state(self, role: str) -> bytes:
        """Return the same as JSON."""
        self.flush()
        return self._board.encoded(None, role)

    def poll(self, since: int, role: str) -> bytes:
        """Return the changes since a version."""
        self.flush()
        return self._board.encoded(since, role)

    async def events(self, since: int, role: str) -> AsyncIterator[bytes]:
        """Yield server-sent events: the changes since a version, then further changes, until `close`."""
        self._readers += 1
        try:
            if self._flushing is None or self._flushing.done():
                self._flushing = self._start(self._flush())
            self.flush()
            yield self._message(since, role)
            since = self._board.seq
            while not self._is_closed:
                news = self._news
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(ALIVE_SECONDS):
                        await news.wait()
                if self._is_closed:
                    return
                if self._board.seq == since:
                    yield b": still here\n\n"
                    continue
                message, since = self._message(since, role), self._board.seq
                yield message
        finally:
            self._readers -= 1

    def _message(self, since: int, role: str) -> bytes:
        data = self._board.encoded(since, role)
        return b"id: %d\ndata: %b\n\n" % (self._board.seq, data)

    @property
    def readers(self) -> int:
        """The number of open streams."""
        return self._readers

    async def close(self) -> None:
        """End all streams."""
        self._is_closed = True
        self._wake()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
