"""Frames: how bytes become messages and chunks of blocks, and back.

A frame is `length` (u32, bytes of the payload), `kind` (u8) and the payload; numbers are big-endian. The reader
provides the memory for the next bytes, so that the bytes of a block are received in place, without a copy. The meaning
of frames is defined elsewhere: see auth.py and session.py.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

from lanfit.errors import LocalProtocolError, RemoteProtocolError

HEADER = struct.Struct("!IB")
DATA_HEADER = struct.Struct("!IQ")

LOGIN_LIMIT = 512
CONTROL_LIMIT = 1024 * 1024
CONTROL_LIMIT_FROM_CLIENT = 64 * 1024
DATA_LIMIT = 8 * 1024 * 1024


class Kind(enum.IntEnum):
    """The kinds of frames."""

    CLIENT_HELLO = 1
    SERVER_HELLO = 2
    CLIENT_EXCHANGE = 3
    SERVER_EXCHANGE = 4
    CLIENT_PROOF = 5
    SERVER_PROOF = 6
    REFUSE = 7
    CLIENT_REFUSE = 8
    CONTROL = 16
    DATA = 17


class Size(NamedTuple):
    """The minimum and maximum payload of a kind of frame, in bytes."""

    smallest: int
    largest: int


#: After login; the limit for messages of clients is lower.
DATA_SIZE = Size(DATA_HEADER.size + 1, DATA_HEADER.size + DATA_LIMIT)
OPEN_TO_CLIENT: Mapping[Kind, Size] = {Kind.CONTROL: Size(1, CONTROL_LIMIT), Kind.DATA: DATA_SIZE}
OPEN_TO_SERVER: Mapping[Kind, Size] = {Kind.CONTROL: Size(1, CONTROL_LIMIT_FROM_CLIENT), Kind.DATA: DATA_SIZE}


@dataclass(frozen=True)
class Frame:
    """A complete frame; DATA frames are returned as `Chunk` instead."""

    kind: Kind
    payload: bytes

    def __str__(self) -> str:
        text = f"{self.kind.name} {len(self.payload)} bytes"
        if self.kind is Kind.CONTROL:  # messages before login stay out of the logs
            text += f": {self.payload[:40].hex(' ')}{' …' if len(self.payload) > 40 else ''}"
        return text

    __repr__ = __str__


@dataclass(frozen=True)
class Chunk:
    """A complete DATA frame; its bytes are already in the memory given for its stream."""

    stream: int
    offset: int
    size: int
    last: bool

    def __str__(self) -> str:
        return f"DATA stream {self.stream}: {self.size} bytes at {self.offset}{', the last' if self.last else ''}"


def encode_frame(kind: Kind, payload: bytes) -> bytes:
    """Return a complete frame."""
    return HEADER.pack(len(payload), kind) + payload


def encode_data_header(stream: int, offset: int, size: int) -> bytes:
    """Return the header in front of the `size` bytes of a DATA frame."""
    if not 1 <= size <= DATA_LIMIT:
        raise LocalProtocolError(f"a data frame of {size} bytes was about to be sent; 1 to {DATA_LIMIT} are allowed")
    return HEADER.pack(DATA_HEADER.size + size, Kind.DATA) + DATA_HEADER.pack(stream, offset)


#: Discarded bytes are written here; it is never read, so all readers share it.
_SINK = memoryview(bytearray(64 * 1024))


def slices(buffers: Iterable[memoryview], offset: int, size: Callable[[], int]) -> Iterator[list[memoryview]]:
    """Divide the bytes of `buffers` from `offset` on into slices, the last one shorter, without copying.

    Args:
        size: gives the bytes of a slice, asked for each.
    """
    slice_: list[memoryview] = []
    free = size()
    for buffer in buffers:
        rest = buffer[offset:]
        offset = max(0, offset - len(buffer))
        while rest:
            slice_.append(rest[:free])
            free -= len(slice_[-1])
            rest = rest[len(slice_[-1]) :]
            if not free:
                yield slice_
                slice_, free = [], size()
    if slice_:
        yield slice_


@dataclass
class _Stream:
    into: memoryview | None
    """None: the bytes are no longer needed; they are read and discarded."""
    position: int
    end: int


class FrameReader:
    """Bytes in, frames out: write up to `len(get_buffer())` bytes there, then call `buffer_updated` with their number.

    `sizes` defines the kinds that are allowed now, and their sizes; it changes after the login. A violation raises
    RemoteProtocolError as soon as the header is received, before anything is allocated; the reader can't be used after
    that.
    """

    def __init__(self, sizes: Mapping[Kind, Size]) -> None:
        self.sizes = sizes
        self._streams: dict[int, _Stream] = {}
        self._header = memoryview(bytearray(HEADER.size))
        self._data_header = memoryview(bytearray(DATA_HEADER.size))
        self._await_header()

    def expect(self, stream: int, into: memoryview, offset: int) -> None:
        """Receive DATA frames of this stream into `into` (writable, format B) from `offset` to its end."""
        if stream in self._streams or into.readonly or not 0 <= offset < len(into):
            raise LocalProtocolError(f"stream {stream} can't be received into {len(into)} bytes from {offset} on")
        self._streams[stream] = _Stream(into, offset, len(into))

    def drop(self, stream: int) -> None:
        """Discard the rest of a stream; its memory is not written to again."""
        if found := self._streams.get(stream):
            found.into = None
            if self._current is found:
                self._aim_at_payload()

    def get_buffer(self, sizehint: int = -1) -> memoryview:
        """Return the memory for the next bytes; never empty."""
        return self._target[self._filled :]

    def buffer_updated(self, count: int) -> Frame | Chunk | None:
        """Process `count` bytes that were written to the buffer; return the frame that they complete, if any."""
        if not 0 <= count <= len(self._target) - self._filled:
            raise LocalProtocolError(f"{count} bytes were read into a buffer of {len(self._target) - self._filled}")
        self._filled += count
        if self._current is not None:
            self._left -= count
            self._current.position += count
        if self._filled < len(self._target):
            return None
        if self._current is not None:
            return self._after_payload(self._current)
        if self._target is self._header:
            self._after_header()
        elif self._target is self._data_header:
            self._after_data_header()
        else:
            frame = Frame(self._kind, bytes(self._target))
            self._await_header()
            return frame
        return None

    def _await_header(self) -> None:
        self._kind = Kind.CONTROL
        self._length = 0
        self._current: _Stream | None = None
        self._number = self._left = 0
        self._aim(self._header)

    def _aim(self, target: memoryview) -> None:
        self._target, self._filled = target, 0

    def _after_header(self) -> None:
        self._length, number = HEADER.unpack(self._header)
        kind = next((kind for kind in self.sizes if kind == number), None)
        if kind is None:
            raise RemoteProtocolError(f"a frame of kind {number} came, which may not come now")
        smallest, largest = self.sizes[kind]
        if not smallest <= self._length <= largest:
            raise RemoteProtocolError(
                f"a {kind.name} frame of {self._length} bytes was announced; {smallest} to {largest} are allowed"
            )
        self._kind = kind
        self._aim(self._data_header if kind is Kind.DATA else memoryview(bytearray(self._length)))

    def _after_data_header(self) -> None:
        self._number, offset = DATA_HEADER.unpack(self._data_header)
        size = self._length - DATA_HEADER.size
        stream = self._streams.get(self._number)
        if stream is None:
            raise RemoteProtocolError(f"data arrived for stream {self._number}, which was not requested")
        if offset != stream.position:
            raise RemoteProtocolError(
                f"data of stream {self._number} came for byte {offset}; {stream.position} is the next"
            )
        if size > stream.end - offset:
            raise RemoteProtocolError(
                f"{size} bytes came for stream {self._number}, of which only {stream.end - offset} are missing"
            )
        self._current, self._left = stream, size
        self._aim_at_payload()

    def _aim_at_payload(self) -> None:
        assert self._current is not None
        if self._current.into is None:
            self._aim(_SINK[: self._left])
        else:
            self._aim(self._current.into[self._current.position : self._current.position + self._left])

    def _after_payload(self, stream: _Stream) -> Chunk | None:
        if self._left:
            self._aim_at_payload()
            return None
        size = self._length - DATA_HEADER.size
        chunk = Chunk(self._number, stream.position - size, size, last=stream.position == stream.end)
        if chunk.last:
            del self._streams[self._number]
        self._await_header()
        return chunk


Event = TypeVar("Event", covariant=True)


class Receiver(Protocol[Event]):
    """The interface of receivers of bytes: a FrameReader, a Session."""

    def get_buffer(self, sizehint: int = -1) -> memoryview: ...

    def buffer_updated(self, count: int) -> Event: ...


def feed(receiver: Receiver[Event], data: bytes | bytearray | memoryview) -> list[Event]:
    """Feed bytes that are already in memory to a receiver; return its results, in order."""
    rest, returned = memoryview(data), []
    while rest:
        buffer = receiver.get_buffer()
        count = min(len(buffer), len(rest))
        buffer[:count] = rest[:count]
        rest = rest[count:]
        returned.append(receiver.buffer_updated(count))
    return returned
