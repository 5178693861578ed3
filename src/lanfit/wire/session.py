"""One side of one connection: the login, then messages and blocks. Bytes in, events out.

Theory of operation. A session has three states:

- *login*: only frames of the login are accepted, with their own size limits; `lanfit.wire.auth` has their state
  machine. `LoggedIn` opens the session.
- *open*: messages of the other side are decoded to their types; the type of the decoder allows only those that the
  other side may send. A `Fetch` requests a block: its bytes follow in chunks on a numbered stream, interleaved with
  messages. The receiver gives the memory in advance (`begin_fetch`), so chunks are written to their final place, and a
  chunk on a stream that was not requested is a violation.
- *broken*: after the first violation of the protocol, everything is refused. The link is cut.

Everything that a peer can demand is bounded: frames by size, requested blocks by `UNANSWERED_FETCHES`. The session does
no I/O, uses no clock, and decides neither who is admitted nor what a message causes.
"""

from __future__ import annotations

import enum
import re
from typing import Any

import msgspec

from lanfit.core.text import sanitize
from lanfit.errors import LocalProtocolError, RemoteProtocolError
from lanfit.wire.auth import LOGIN_TO_CLIENT, LOGIN_TO_SERVER, ClientLogin, LoggedIn, LoginEvent, ServerLogin
from lanfit.wire.frames import (
    CONTROL_LIMIT,
    CONTROL_LIMIT_FROM_CLIENT,
    OPEN_TO_CLIENT,
    OPEN_TO_SERVER,
    Chunk,
    Frame,
    FrameReader,
    Kind,
    encode_data_header,
    encode_frame,
    feed,
)
from lanfit.wire.messages import AnyMessage, Fetch, FromClient, FromServer, Message
from lanfit.wire.texts import clean

#: How many blocks a peer may request before it has received one of them.
UNANSWERED_FETCHES = 16

Event = LoginEvent | AnyMessage | Chunk

_PATTERN = re.compile("matching regex '.*'", re.DOTALL)
_encoder = msgspec.msgpack.Encoder()


class Side(enum.Enum):
    """The side of the connection."""

    CLIENT = "client"
    SERVER = "server"


class Session:
    """A connection without its socket: feed it bytes, send the bytes that it returns.

    With a login it starts there, and is open after LoggedIn; without one (`login=None`) it is open immediately, for
    links in memory. After a RemoteProtocolError it accepts nothing more.
    """

    def __init__(self, side: Side, login: ClientLogin | ServerLogin | None) -> None:
        self.side = side
        self.login = login
        is_client = side is Side.CLIENT
        self._open_sizes = OPEN_TO_CLIENT if is_client else OPEN_TO_SERVER
        self._ours: Any = FromClient if is_client else FromServer
        self._limit = CONTROL_LIMIT_FROM_CLIENT if is_client else CONTROL_LIMIT
        self._decoder: msgspec.msgpack.Decoder[AnyMessage] = msgspec.msgpack.Decoder(
            FromServer if is_client else FromClient
        )
        self.is_open = login is None
        self._broken = False
        self._next_stream = 0
        self._asked_of_us: set[int] = set()
        login_sizes = LOGIN_TO_CLIENT if is_client else LOGIN_TO_SERVER
        self._reader = FrameReader(self._open_sizes if self.is_open else login_sizes)

    # --- bytes in

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Return the memory for the next bytes from the peer; never empty."""
        return self._reader.get_buffer(sizehint)

    def buffer_updated(self, count: int) -> list[Event]:
        """Process `count` bytes that were written to the buffer; return what happened.

        Raises:
            RemoteProtocolError: the peer violated the protocol, now or before.
        """
        if self._broken:
            raise RemoteProtocolError("the peer violated the protocol before; nothing more is accepted from it")
        try:
            arrived = self._reader.buffer_updated(count)
            if arrived is None:
                return []
            if isinstance(arrived, Chunk):
                return [arrived]
            if arrived.kind is Kind.CONTROL:
                return [self._message(arrived)]
            return self._login_frame(arrived)
        except RemoteProtocolError:
            self._broken = True
            raise

    def receive_bytes(self, data: bytes | bytearray | memoryview) -> list[Event]:
        """Process bytes that are already in memory; return what happened."""
        return [event for events in feed(self, data) for event in events]

    def _login_frame(self, frame: Frame) -> list[Event]:
        assert self.login is not None  # the reader accepts no login frames without a login
        events: list[Event] = [*self.login.receive(frame)]
        if any(isinstance(event, LoggedIn) for event in events):
            self.is_open = True
            self._reader.sizes = self._open_sizes
        return events

    def _message(self, frame: Frame) -> AnyMessage:
        try:
            message: AnyMessage = clean(self._decoder.decode(frame.payload))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            # The library quotes what it does not know, and regular expressions that are of no interest.
            reason = sanitize(_PATTERN.sub("of the right form", str(error)), 300)
            raise RemoteProtocolError(f"a message came that can't be read: {reason}") from error
        if isinstance(message, Fetch):
            if message.stream in self._asked_of_us:
                raise RemoteProtocolError(f"stream {message.stream} was asked for twice")
            if len(self._asked_of_us) >= UNANSWERED_FETCHES:
                raise RemoteProtocolError(f"more than {UNANSWERED_FETCHES} blocks were asked for at once")
            self._asked_of_us.add(message.stream)
        return message

    # --- bytes out

    def take_output(self) -> bytes:
        """Return what the login has to send now; returned only once."""
        return self.login.take_output() if self.login else b""

    def encode(self, message: Message) -> bytes:
        """Return the bytes of a message.

        Raises:
            LocalProtocolError: the login is not done, this side may not send this message, or it is too large.
        """
        name = type(message).__name__
        if not self.is_open:
            raise LocalProtocolError(f"{name} was about to be sent before the login was done")
        if not isinstance(message, self._ours):
            raise LocalProtocolError(f"{name} was about to be sent by a {self.side.value}, which must not send it")
        payload = _encoder.encode(message)
        if len(payload) > self._limit:
            raise LocalProtocolError(f"{name} has {len(payload)} bytes; a {self.side.value} may send {self._limit}")
        return encode_frame(Kind.CONTROL, payload)

    def begin_fetch(self, block_id: str, into: memoryview, offset: int) -> tuple[int, bytes]:
        """Request a block from `offset` on, to fill `into` (writable bytes) to its end; return the stream and the bytes
        to send."""
        stream = self._next_stream
        request = self.encode(Fetch(block=block_id, stream=stream, offset=offset))
        self._reader.expect(stream, into, offset)
        self._next_stream += 1
        return stream, request

    def drop_fetch(self, stream: int) -> None:
        """Discard the rest of this stream: its memory is not written to any more."""
        self._reader.drop(stream)

    def encode_data_header(self, stream: int, offset: int, size: int) -> bytes:
        """Return the header in front of the `size` bytes of a chunk of a block that the peer fetches."""
        if stream not in self._asked_of_us:
            raise LocalProtocolError(f"data was about to be sent on stream {stream}, which the peer did not ask for")
        return encode_data_header(stream, offset, size)

    def end_answer(self, stream: int) -> None:
        """Record that the block that the peer fetched was sent completely."""
        self._asked_of_us.discard(stream)
