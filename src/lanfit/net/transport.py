"""A session on an asyncio transport: bytes from the transport into the session, its events out, with back-pressure.

Used by the login and the link; they interpret the events.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence

from lanfit.errors import ConnectionFailed, RemoteProtocolError
from lanfit.net.reasons import why_lost
from lanfit.net.secure import CLOSING_SECONDS
from lanfit.wire.frames import Chunk
from lanfit.wire.session import Event, Session

#: Pause writing when the transport holds more than this many bytes; resume below a quarter of it.
WRITE_HIGH = 64 * 1024
#: After this many messages of one connection, others are served: a socket buffer holds thousands.
MESSAGES_A_TURN = 64

logger = logging.getLogger(__name__)


class Wire(asyncio.BufferedProtocol):
    """The protocol object of one connection. Reads nothing before `begin`."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.bytes_received = 0
        self.bytes_sent = 0
        self.closed = asyncio.Event()
        self.reason = ""
        self.closed_cleanly = False
        """Whether the other side closed the connection on purpose."""
        self.broken = ""
        """How the other side violated the protocol, for which the connection was closed; otherwise empty."""
        self._transport: asyncio.Transport | None = None
        self._events: deque[Event] = deque()
        self._news = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._messages = 0
        self._on_event: Callable[[Event], None] | None = None
        self._on_end: Callable[[], None] | None = None

    def begin(self, session: Session) -> None:
        """Pass the bytes to this session from now on, and send its pending data first."""
        self.session = session
        self.flush()
        if self._transport is not None:
            self._transport.resume_reading()

    async def next_event(self) -> Event:
        """Wait for the next event, until `take_over`.

        Raises:
            ConnectionFailed: the connection ended.
        """
        while not self._events:
            if self.closed.is_set():
                raise ConnectionFailed(self.reason)
            self._news.clear()
            await self._news.wait()
        return self._events.popleft()

    def take_over(self, on_event: Callable[[Event], None], on_end: Callable[[], None]) -> None:
        """Call these with each event and at the end from now on; pending events come first."""
        self._on_event, self._on_end = on_event, on_end
        while self._events:
            on_event(self._events.popleft())
        if self.closed.is_set():
            on_end()

    # --- out

    def flush(self) -> None:
        """Send the pending data of the session's login."""
        if self.session and (output := self.session.take_output()):
            self.write([output])

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Pass bytes to the transport; wait for `drained` before the next ones."""
        if self._transport is None or self.closed.is_set():
            raise ConnectionFailed(self.reason or "the connection is closed")
        self.bytes_sent += sum(len(part) for part in parts)
        self._transport.writelines(parts)

    @property
    def unsent(self) -> int:
        """How many bytes the transport holds."""
        return self._transport.get_write_buffer_size() if self._transport and not self.closed.is_set() else 0

    @property
    def is_writable(self) -> bool:
        """Return whether `drained` would return immediately."""
        return self._writable.is_set()

    async def drained(self) -> None:
        """Wait until the transport accepts more.

        Raises:
            ConnectionFailed: the connection ended.
        """
        await self._writable.wait()
        if self.closed.is_set():
            raise ConnectionFailed(self.reason)

    def abort(self, reason: str) -> None:
        """Close the connection now."""
        self.reason = self.reason or reason
        if self._transport is not None:
            self._transport.abort()

    def cut(self, broken: str) -> None:
        """Close the connection because the other side violated the protocol."""
        self.broken = self.broken or broken
        self.abort(f"the peer violated the protocol: {broken}")

    async def close(self, reason: str) -> None:
        """Send pending data, then close the connection; a peer that does not receive it is disconnected."""
        self.reason = self.reason or reason
        if self._transport is None or self.closed.is_set():
            return
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSING_SECONDS):
                await self.closed.wait()
        except TimeoutError:
            self._transport.abort()
            await self.closed.wait()

    # --- what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=WRITE_HIGH)
        if self.session is None:
            transport.pause_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        assert self.session is not None
        return self.session.get_buffer(sizehint)

    def buffer_updated(self, nbytes: int) -> None:
        assert self.session is not None
        self.bytes_received += nbytes
        try:
            events = self.session.buffer_updated(nbytes)
        except RemoteProtocolError as error:
            self.cut(error.message)
            return
        self.flush()
        for event in events:
            if self._on_event:
                self._on_event(event)
            elif not isinstance(event, Chunk):
                self._events.append(event)
                self._news.set()
            if not isinstance(event, Chunk):
                self._messages += 1
                if self._messages % MESSAGES_A_TURN == 0 and self._transport is not None:
                    self._transport.pause_reading()
                    asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        if self._transport is not None and not self.closed.is_set():
            self._transport.resume_reading()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def eof_received(self) -> None:
        self.reason = self.reason or "the other side closed the connection"
        self.closed_cleanly = True

    def connection_lost(self, exc: Exception | None) -> None:
        self.reason = self.reason or why_lost(exc)
        self.closed.set()
        self._news.set()
        self._writable.set()
        if self._on_end:
            self._on_end()
