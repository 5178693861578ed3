"""A link: messages and blocks to and from one authenticated peer. The same class on both sides.

Handles pings, timeouts and pacing, but not the meaning of messages.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lanfit.errors import LanfitError, lanfit_error
from lanfit.net.keepalive import Dead, Keepalive, LinkTimes, Reading
from lanfit.net.transport import Wire
from lanfit.wire.frames import Chunk, slices
from lanfit.wire.messages import AnyMessage, Fetch, Message, Ping, Pong
from lanfit.wire.session import Event, Session

#: The bytes of a block in one data frame: large enough for throughput, small enough to send messages in between
#: (measured, see bench/push.py).
SLICE = 1024 * 1024
#: The minimum size of a slice: if more links send, they have more bytes in flight together.
LEAST_SLICE = 64 * 1024
#: The bytes of blocks in flight on all links that share a `Budget`.
IN_FLIGHT = 64 * 1024 * 1024
#: After this many messages of one peer, other links are served.
MESSAGES_A_TURN = 32
#: The maximum size of messages waiting to be received; a peer that sends more is disconnected.
WAITING_LIMIT = 4 * 1024 * 1024

logger = logging.getLogger(__name__)


class Budget:
    """The budget that links share, so that together they have some IN_FLIGHT bytes of blocks in flight.

    No link waits for another: each link that sends has one slice in flight, and slices shrink as their number grows. A
    link whose peer receives nothing keeps its slice, and no other link is affected.
    """

    def __init__(self) -> None:
        self._sending = 0

    def slice_size(self) -> int:
        """Return how many bytes a link may have in flight."""
        return max(LEAST_SLICE, min(SLICE, IN_FLIGHT // max(1, self._sending)))

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """Count one more link while it sends."""
        self._sending += 1
        try:
            yield
        finally:
            self._sending -= 1


@dataclass
class _Incoming:
    done: asyncio.Future[None]
    progress: Callable[[int], None] | None


class Link:
    """Messages and blocks to and from one peer. Every method may be called from any task of the loop.

    `peer` identifies it in logs; `closed` is set when the link has ended, and `reason` then explains why.
    """

    def __init__(self, wire: Wire, peer: str, times: LinkTimes, budget: Budget) -> None:
        assert wire.session is not None
        assert wire.session.is_open
        self.peer = peer
        self._wire = wire
        self._session: Session = wire.session
        self._budget = budget
        self._turn = asyncio.Lock()
        self._loop = asyncio.get_running_loop()
        self._times = times
        self._keepalive = Keepalive(times, self._loop.time())
        self._waiting: deque[tuple[AnyMessage, int]] = deque()
        self._received_until = 0
        self._received = 0
        self._news = asyncio.Event()
        self._received_something = asyncio.Event()
        self._incoming: dict[int, _Incoming] = {}
        self._fetched = 0
        self.stalled = ""
        """The timeout that closed the link here: a cause of `keepalive.Dead`; otherwise empty."""
        self._timer = self._loop.call_later(times.tick, self._tick)
        wire.take_over(self._on_event, self._on_end)

    @property
    def bytes_received(self) -> int:
        """The bytes of frames from the peer, including the login, excluding TLS."""
        return self._wire.bytes_received

    @property
    def bytes_sent(self) -> int:
        """The bytes of frames to the peer, including the login, excluding TLS."""
        return self._wire.bytes_sent

    @property
    def closed(self) -> asyncio.Event:
        """Set when the link has ended on either side."""
        return self._wire.closed

    @property
    def reason(self) -> str:
        """Why the link has ended; empty while it is open."""
        return self._wire.reason

    @property
    def closed_cleanly(self) -> bool:
        """Whether the peer closed the link on purpose."""
        return self._wire.closed_cleanly

    @property
    def broken(self) -> str:
        """How the peer violated the protocol, for which the link was closed; otherwise empty."""
        return self._wire.broken

    @property
    def silence(self) -> float:
        """The seconds for which nothing was received from the peer, not counting times in which this process was
        suspended."""
        return self._keepalive.silence(self._loop.time())

    async def send(self, message: Message) -> None:
        """Send a message; between the chunks of a block, if one is being sent.

        Raises:
            ConnectionFailed: the link has ended.
        """
        self._check_open()
        self._wire.write([self._session.encode(message)])
        await self._drained()

    async def receive(self) -> AnyMessage:
        """Wait for the next message; pings are answered independently.

        Raises:
            ConnectionFailed: the link has ended, and everything before was received.
        """
        while not self._waiting:
            self._check_open()
            self._news.clear()
            await self._news.wait()
        message, self._received_until = self._waiting.popleft()
        self._received += 1
        if self._received % MESSAGES_A_TURN == 0:
            await asyncio.sleep(0)  # a peer that sends many messages must not block the loop
        return message

    async def fetch(
        self, block_id: str, into: memoryview, offset: int = 0, progress: Callable[[int], None] | None = None
    ) -> None:
        """Fetch a block from the peer, from byte `offset` on, until `into` (writable, the whole block) is full.

        `progress` is called with the number of received bytes of the block after each chunk: a later fetch can resume
        there. After a cancellation, `into` is not written to any more.

        Raises:
            ConnectionFailed: the link ended, or the block made no progress for `LinkTimes.stall` seconds.
        """
        self._check_open()
        into = into.cast("B") if into.format != "B" or into.ndim != 1 else into
        if offset == len(into):
            return
        stream, request = self._session.begin_fetch(block_id, into, offset)
        incoming = _Incoming(self._loop.create_future(), progress)
        self._incoming[stream] = incoming
        try:
            self._wire.write([request])
            await incoming.done
        finally:
            del self._incoming[stream]
            self._session.drop_fetch(stream)

    async def send_block(
        self, fetch: Fetch, buffers: Iterable[memoryview], progress: Callable[[int], None] | None = None
    ) -> None:
        """Answer the peer's Fetch with the bytes of `buffers` (the whole block), paced; return when all are sent.

        `progress` is called with the number of bytes of the block that are sent or in flight, after each chunk.

        Raises:
            ConnectionFailed: the link ended.
        """
        position = fetch.offset
        try:
            with self._budget.sending():
                for parts in slices(buffers, fetch.offset, self._budget.slice_size):
                    size = sum(len(part) for part in parts)
                    header = self._session.encode_data_header(fetch.stream, position, size)
                    # One slice of this link at a time: its blocks take turns.
                    async with self._turn:
                        self._check_open()
                        self._wire.write([header, *parts])
                        await self._drained()
                    position += size
                    if progress:
                        progress(position)
        finally:
            self._session.end_answer(fetch.stream)

    async def answers(self, seconds: float) -> bool:
        """Ping the peer; return whether anything is received from it within this many seconds, before the link ends."""
        self._received_something.clear()
        if self.closed.is_set():
            return False
        self._wire.write([self._session.encode(Ping())])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._received_something.wait()
        return self._received_something.is_set() and not self.closed.is_set()

    async def close(self, reason: str = "") -> None:
        """Send pending data, then close the link. Has no effect if it has ended already."""
        await self._wire.close(f"closed here: {reason}" if reason else "closed here")

    def abort(self, reason: str) -> None:
        """Close the link now, without a goodbye."""
        self._wire.abort(reason)

    def cut(self, broken: str) -> None:
        """Close the link now because the peer violated the protocol."""
        self._wire.cut(broken)

    async def _drained(self) -> None:
        if self._wire.is_writable:
            await asyncio.sleep(0)  # a fast peer must not block the loop
        else:
            await self._wire.drained()

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise self._ended()

    def _ended(self) -> LanfitError:
        return lanfit_error("link.ended", peer=self.peer, reason=self.reason)

    def _on_event(self, event: Event) -> None:
        self._received_something.set()
        if isinstance(event, Chunk):
            self._on_chunk(event)
        elif isinstance(event, Ping):
            # A peer that pings without reading the answers must not fill our memory; the pending data has the same
            # effect as a pong.
            if self._wire.is_writable:
                self._wire.write([self._session.encode(Pong())])
        elif isinstance(event, Message) and not isinstance(event, Pong):
            so_far = self.bytes_received - self._fetched
            self._waiting.append((event, so_far))
            self._news.set()
            if so_far - self._received_until > WAITING_LIMIT and len(self._waiting) > 1:
                self.cut(f"{len(self._waiting)} messages arrived faster than they could be handled")

    def _on_chunk(self, chunk: Chunk) -> None:
        self._fetched += chunk.size
        incoming = self._incoming.get(chunk.stream)
        if incoming is None:
            return  # dropped during the wait
        if incoming.progress:
            incoming.progress(chunk.offset + chunk.size)
        if chunk.last and not incoming.done.done():
            incoming.done.set_result(None)

    def _on_end(self) -> None:
        self._timer.cancel()
        self._news.set()
        self._received_something.set()
        for incoming in self._incoming.values():
            if not incoming.done.done():
                incoming.done.set_exception(self._ended())
        logger.debug("the link to %s ended: %s", self.peer, self.reason)

    def _tick(self) -> None:
        wire = self._wire
        reading = Reading(wire.bytes_received, wire.bytes_sent, wire.unsent, self._fetched, bool(self._incoming))
        verdict = self._keepalive.tick(self._loop.time(), reading)
        if isinstance(verdict, Dead):
            self.stalled = verdict.cause
            self.abort(verdict.reason)
            return
        if verdict.ping and not wire.closed.is_set():
            wire.write([self._session.encode(Ping())])
        self._timer = self._loop.call_later(self._times.tick, self._tick)
