"""Two links joined in memory: no socket, no TLS, no login. For tests, and for clusters that are only simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Budget, Link
from lanfit.net.transport import Wire
from lanfit.wire.session import Session, Side


def memory_links(times: LinkTimes | None = None) -> tuple[Link, Link]:
    """Return the client's and the server's end of a link; to be called in a running loop."""
    client, server = Wire(), Wire()
    to_server, to_client = MemoryTransport(client, server), MemoryTransport(server, client)
    to_server.other, to_client.other = to_client, to_server
    for wire, transport, side in ((client, to_server, Side.CLIENT), (server, to_client, Side.SERVER)):
        wire.connection_made(transport)
        wire.begin(Session(side, login=None))
    times = times or LinkTimes()
    budget = Budget()
    return Link(client, "the server in memory", times, budget), Link(server, "the client in memory", times, budget)


class MemoryTransport(asyncio.Transport):
    """What one end writes, the other end's protocol gets at the loop's next turn."""

    other: MemoryTransport

    def __init__(self, protocol: Wire, peer: Wire) -> None:
        super().__init__()
        self._protocol, self._peer = protocol, peer
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._high = 64 * 1024
        self._reading = True
        self._paused = self._scheduled = self._closing = self._lost = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._closing:
            return
        self._buffer += data
        if len(self._buffer) > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()
        self._schedule()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        for data in list_of_data:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = self._high if high is None else high

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        self.other._schedule()

    def is_reading(self) -> bool:
        return self._reading

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def close(self) -> None:
        """Let the peer have what was written, then end both ends."""
        self._closing = True
        self._schedule()

    def abort(self) -> None:
        """End both ends; what was written and not delivered is lost."""
        self._closing = True
        self._buffer.clear()
        self._loop.call_soon(self._lose)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        self._scheduled = False
        if not self.other._reading or self._lost:
            return
        data, self._buffer = memoryview(self._buffer), bytearray()
        while data and self.other._reading and not self.other._closing:
            buffer = self._peer.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            data = data[count:]
            self._peer.buffer_updated(count)
        if data and not self.other._closing:  # the other end rests; it says when it goes on
            self._buffer[:0] = data
            return
        if self._paused:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing:
            self._peer.eof_received()
            self._lose()

    def _lose(self) -> None:
        for end in (self, self.other):
            if not end._lost:
                end._lost = end._closing = True
                end._protocol.connection_lost(None)
