"""TLS over an asyncio loop, directly between the socket and the memory that the bytes belong in.

asyncio's own TLS copies every byte through more buffers: a block then moves at 0.75 of the speed of a bare ssl socket,
here at 0.9 (measured as in bench/push.py), and a slow peer needs no memory, because pending data is kept as views.
Therefore this is our own transport if the loop can watch sockets; otherwise (Windows' proactor loop) asyncio's TLS is
used.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

#: The size of one TLS record: smaller parts are joined up to it, so that a header is not sent alone.
RECORD = 16 * 1024
#: A connection with more to read than this lets others be served.
TURN = 1024 * 1024
#: asyncio's transport: a peer that does not answer the end of TLS has this many seconds.
CLOSING_SECONDS = 3.0


async def open_tls(
    connection: socket.socket,
    protocol: asyncio.BufferedProtocol,
    context: ssl.SSLContext,
    *,
    server_side: bool,
    seconds: float,
    direct: bool = True,
) -> asyncio.Transport:
    """Do the TLS handshake on a connected, non-blocking socket, which the returned transport then owns.

    The protocol's `connection_made` has been called when this returns. `direct=False` uses asyncio's own TLS.

    Raises:
        TimeoutError: the handshake took longer than `seconds`.
        OSError: it failed; ssl.SSLError is one.
    """
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(seconds):
            if direct and can_watch(loop, connection):
                tls = await _handshake(loop, connection, context, server_side)
                return TlsTransport(loop, tls, protocol)
            return await _asyncio_tls(loop, connection, protocol, context, server_side)
    except BaseException:
        connection.close()
        raise


def can_watch(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> bool:
    """Return whether the loop can report when a socket is ready: Windows' proactor loop can't."""
    try:
        loop.remove_writer(connection)
    except NotImplementedError:
        return False
    return True


async def _asyncio_tls(
    loop: asyncio.AbstractEventLoop,
    connection: socket.socket,
    protocol: asyncio.BufferedProtocol,
    context: ssl.SSLContext,
    server_side: bool,
) -> asyncio.Transport:
    # asyncio.timeout around us is the deadline: asyncio's own would only differ in the error.
    if server_side:
        made = await loop.connect_accepted_socket(
            lambda: protocol, connection, ssl=context, ssl_shutdown_timeout=CLOSING_SECONDS
        )
    else:
        made = await loop.create_connection(
            lambda: protocol,
            sock=connection,
            ssl=context,
            server_hostname="",
            ssl_shutdown_timeout=CLOSING_SECONDS,
        )
    transport = made[0]
    assert isinstance(transport, asyncio.Transport)
    return transport


async def _handshake(
    loop: asyncio.AbstractEventLoop, connection: socket.socket, context: ssl.SSLContext, server_side: bool
) -> ssl.SSLSocket:
    tls = context.wrap_socket(
        connection, server_side=server_side, do_handshake_on_connect=False, suppress_ragged_eofs=False
    )
    try:
        while True:
            try:
                tls.do_handshake()
                return tls
            except ssl.SSLWantReadError:
                await until_ready(loop.add_reader, loop.remove_reader, tls)
            except ssl.SSLWantWriteError:
                await until_ready(loop.add_writer, loop.remove_writer, tls)
    except BaseException:
        tls.close()
        raise


async def until_ready(add: Callable[..., None], remove: Callable[..., object], sock: socket.socket) -> None:
    """Wait until the loop reports that a socket is ready, with `add_reader` and `remove_reader` or those of writers."""
    ready = asyncio.Event()
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)


class TlsTransport(asyncio.Transport):
    """A TLS socket after its handshake: reads into the protocol's buffers, writes views without copying them."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tls: ssl.SSLSocket, protocol: asyncio.BufferedProtocol) -> None:
        super().__init__()
        self._loop, self._tls, self._protocol = loop, tls, protocol
        self._queue: deque[memoryview] = deque()
        self._unsent = 0
        self._high, self._low = 64 * 1024, 16 * 1024
        self._reading = True
        self._paused = self._closing = self._lost = False
        protocol.connection_made(self)
        if self._reading:
            loop.add_reader(tls, self._read)

    # --- in

    def pause_reading(self) -> None:
        self._reading = False
        if not self._lost:
            self._loop.remove_reader(self._tls)

    def resume_reading(self) -> None:
        if not self._reading and not self._lost:
            self._reading = True
            self._loop.add_reader(self._tls, self._read)
            self._loop.call_soon(self._read)  # TLS may hold bytes that the socket no longer reports

    def is_reading(self) -> bool:
        return self._reading

    def _read(self) -> None:
        taken = 0
        try:
            while self._reading and not self._lost:
                if taken >= TURN:
                    self._loop.call_soon(self._read)  # TLS may hold bytes that the socket no longer reports
                    return
                taken += self._read_some()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLWantWriteError:  # TLS itself has something to send, and the socket is full
            if not self._lost:
                self._loop.add_writer(self._tls, self._write)
        except ssl.SSLZeroReturnError:
            self._on_end()
        except OSError as error:
            self._lose(error)
        except BaseException:
            self._lose(None)
            raise

    def _read_some(self) -> int:
        """Fill the protocol's buffer as far as the socket allows; return the number of bytes."""
        buffer = _SINK if self._closing else memoryview(self._protocol.get_buffer(-1))
        filled, size, receive = 0, len(buffer), self._tls.recv_into
        try:
            while filled < size:  # one record at a time: this line determines the speed of a block
                count = receive(buffer[filled:])
                if not count:
                    raise ssl.SSLZeroReturnError
                filled += count
        finally:
            if filled and not self._closing:
                self._protocol.buffer_updated(filled)
        return filled

    def _on_end(self) -> None:
        """Stop waiting: the peer closed its side, and accepts nothing any more."""
        if not self._closing:
            self._protocol.eof_received()
            self._send_goodbye()
        self._lose(None)

    # --- out

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        if self._closing:
            return
        idle = not self._queue
        for part in _joined(list_of_data):
            self._queue.append(part)
            self._unsent += len(part)
        if idle:
            self._write()
        if self._unsent > self._high and not self._paused:
            self._paused = True
            self._protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return self._unsent

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._high = 64 * 1024 if high is None else high
        self._low = self._high // 4 if low is None else low

    def _write(self) -> None:
        try:
            while self._queue:
                count = self._tls.send(self._queue[0])
                self._unsent -= count
                if count == len(self._queue[0]):
                    self._queue.popleft()
                else:
                    self._queue[0] = self._queue[0][count:]
            self._loop.remove_writer(self._tls)
        except (ssl.SSLWantWriteError, ssl.SSLWantReadError):
            self._loop.add_writer(self._tls, self._write)
        except OSError as error:
            self._lose(error)
            return
        if self._paused and self._unsent <= self._low:
            self._paused = False
            self._protocol.resume_writing()
        if self._closing and not self._queue:
            self._send_goodbye()

    # --- the end

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        """Send pending data, say goodbye, and wait for the peer's goodbye: anything it still sends is discarded."""
        if self._closing:
            return
        self._closing = True
        self.resume_reading()
        if not self._queue:
            self._send_goodbye()

    def abort(self) -> None:
        self._lose(None)

    def _send_goodbye(self) -> None:
        try:
            self._tls.unwrap()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return  # sent; the peer's goodbye is still to come
        except (OSError, ValueError) as error:
            self._lose(error if isinstance(error, OSError) else None)
            return
        self._lose(None)

    def _lose(self, error: OSError | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._loop.remove_reader(self._tls)
        self._loop.remove_writer(self._tls)
        self._queue.clear()
        self._unsent = 0
        self._tls.close()
        self._loop.call_soon(self._protocol.connection_lost, error)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._tls if name == "ssl_object" else default


#: Bytes that arrive after we closed are written here.
_SINK = memoryview(bytearray(RECORD))


def _joined(parts: Iterable[bytes | bytearray | memoryview]) -> Iterable[memoryview]:
    """Return the same bytes in order, with small parts joined into records; of large ones at most the beginning is
    copied."""
    small = bytearray()
    for part in parts:
        rest = memoryview(part)
        if small or len(rest) < RECORD:
            free = RECORD - len(small)
            small += rest[:free]
            rest = rest[free:]
            if len(small) == RECORD:
                yield memoryview(small)
                small = bytearray()
        if len(rest) >= RECORD:
            yield rest
        else:
            small += rest
    if small:
        yield memoryview(small)
