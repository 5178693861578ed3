"""A link: messages and blocks to and from one peer that has logged in. The same class on both sides.

Pings, deadlines and pacing happen here. What the messages mean does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lanfit.errors import LanfitError
from lanfit.mistakes import mistake
from lanfit.net.pulse import Dead, LinkTimes, Pulse, Reading
from lanfit.net.transport import Wire
from lanfit.wire.frames import Chunk, slices
from lanfit.wire.messages import AnyMessage, Fetch, Message, Ping, Pong
from lanfit.wire.session import Event, Session

#: Bytes of a block in one data frame: large enough to be fast, small enough for messages to come between (measured,
#: see bench/push.py).
SLICE = 1024 * 1024
#: A slice is never smaller than that: with more links that send than have room, they have more on their way together.
LEAST_SLICE = 64 * 1024
#: Bytes of blocks on their way in all links that share a `Budget`.
IN_FLIGHT = 64 * 1024 * 1024
#: After so many messages of one peer all others have their turn.
MESSAGES_A_TURN = 32
#: Messages that wait to be received may have so many bytes; a peer that sends more is cut off.
WAITING_LIMIT = 4 * 1024 * 1024

log = logging.getLogger(__name__)


class Budget:
    """What links share so that together they have some IN_FLIGHT bytes of blocks on their way.

    Nobody waits for anybody: each link that sends has one slice on its way, and slices become smaller with their
    number. A link whose peer takes nothing keeps what it has, and no other link notices.
    """

    def __init__(self) -> None:
        self._sending = 0

    def slice_size(self) -> int:
        """How many bytes a link may have on its way."""
        return max(LEAST_SLICE, min(SLICE, IN_FLIGHT // max(1, self._sending)))

    @contextlib.contextmanager
    def sending(self) -> Iterator[None]:
        """While one more link sends."""
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

    `peer` is who it is, for logs; `closed` is set when the link has ended, `reason` then says why.
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
        self._pulse = Pulse(times, self._loop.time())
        self._waiting: deque[tuple[AnyMessage, int]] = deque()
        self._received_until = 0
        self._received = 0
        self._news = asyncio.Event()
        self._heard = asyncio.Event()
        self._incoming: dict[int, _Incoming] = {}
        self._fetched = 0
        self.stood_still = ""
        """What stood still for so long that the link was given up here: a cause of `pulse.Dead`; else empty."""
        self._timer = self._loop.call_later(times.tick, self._tick)
        wire.take_over(self._on_event, self._on_end)

    @property
    def bytes_received(self) -> int:
        """Bytes of frames from the peer, login included, TLS not."""
        return self._wire.bytes_received

    @property
    def bytes_sent(self) -> int:
        """Bytes of frames to the peer, login included, TLS not."""
        return self._wire.bytes_sent

    @property
    def closed(self) -> asyncio.Event:
        """Set when the link has ended, whoever ended it."""
        return self._wire.closed

    @property
    def reason(self) -> str:
        """Why the link has ended; empty while it lives."""
        return self._wire.reason

    @property
    def said_goodbye(self) -> bool:
        """Whether the peer ended the link on purpose."""
        return self._wire.said_goodbye

    @property
    def silence(self) -> float:
        """Seconds for which nothing came from the peer, not counting times in which this process stood still."""
        return self._pulse.silence(self._loop.time())

    async def send(self, message: Message) -> None:
        """Send a message; between the pieces of a block, if one is on its way.

        Raises:
            ConnectionFailed: the link has ended.
        """
        self._check_open()
        self._wire.write([self._session.encode(message)])
        await self._drained()

    async def receive(self) -> AnyMessage:
        """Wait for the next message; pings are answered without it.

        Raises:
            ConnectionFailed: the link has ended, and all that came before was received.
        """
        while not self._waiting:
            self._check_open()
            self._news.clear()
            await self._news.wait()
        message, self._received_until = self._waiting.popleft()
        self._received += 1
        if self._received % MESSAGES_A_TURN == 0:
            await asyncio.sleep(0)  # a peer that says much must not keep the loop from everybody else
        return message

    async def fetch(
        self, block_id: str, into: memoryview, offset: int = 0, progress: Callable[[int], None] | None = None
    ) -> None:
        """Get a block from the peer, from byte `offset` on, until `into` (writable, the whole block) is full.

        `progress` is called with the number of bytes of the block that are there, after each piece: what a later
        fetch can go on from. When this is cancelled, `into` is not written to any more.

        Raises:
            ConnectionFailed: the link ended, or the block did not get on for `LinkTimes.stall` seconds.
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
        self, fetch: Fetch, pieces: Iterable[memoryview], progress: Callable[[int], None] | None = None
    ) -> None:
        """Answer the peer's Fetch with the bytes of `pieces` (the whole block), paced; return when all are sent.

        `progress` is called with the number of bytes of the block that are on their way or there, after each piece.

        Raises:
            ConnectionFailed: the link ended.
        """
        position = fetch.offset
        try:
            with self._budget.sending():
                for parts in slices(pieces, fetch.offset, self._budget.slice_size):
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
        """Ping the peer; return whether anything comes from it within so many seconds, before the link ends."""
        self._heard.clear()
        if self.closed.is_set():
            return False
        self._wire.write([self._session.encode(Ping())])
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._heard.wait()
        return self._heard.is_set() and not self.closed.is_set()

    async def close(self, reason: str = "") -> None:
        """Send what was written, then end the link. Harmless when it has ended already."""
        await self._wire.close(f"closed here: {reason}" if reason else "closed here")

    def abort(self, reason: str) -> None:
        """End the link now, without a goodbye."""
        self._wire.abort(reason)

    async def _drained(self) -> None:
        if self._wire.is_writable:
            await asyncio.sleep(0)  # a fast peer must not keep the loop from everybody else
        else:
            await self._wire.drained()

    def _check_open(self) -> None:
        if self.closed.is_set():
            raise self._ended()

    def _ended(self) -> LanfitError:
        return mistake("link.ended", peer=self.peer, reason=self.reason)

    def _on_event(self, event: Event) -> None:
        self._heard.set()
        if isinstance(event, Chunk):
            self._on_chunk(event)
        elif isinstance(event, Ping):
            # A peer that pings without reading the answers must not fill our memory; and what waits for it to be read
            # tells it as much as a pong.
            if self._wire.is_writable:
                self._wire.write([self._session.encode(Pong())])
        elif isinstance(event, Message) and not isinstance(event, Pong):
            so_far = self.bytes_received - self._fetched
            self._waiting.append((event, so_far))
            self._news.set()
            if so_far - self._received_until > WAITING_LIMIT and len(self._waiting) > 1:
                self.abort(f"{len(self._waiting)} messages came faster than they could be handled")

    def _on_chunk(self, chunk: Chunk) -> None:
        self._fetched += chunk.size
        incoming = self._incoming.get(chunk.stream)
        if incoming is None:
            return  # dropped meanwhile
        if incoming.progress:
            incoming.progress(chunk.offset + chunk.size)
        if chunk.last and not incoming.done.done():
            incoming.done.set_result(None)

    def _on_end(self) -> None:
        self._timer.cancel()
        self._news.set()
        self._heard.set()
        for incoming in self._incoming.values():
            if not incoming.done.done():
                incoming.done.set_exception(self._ended())
        log.debug("the link to %s ended: %s", self.peer, self.reason)

    def _tick(self) -> None:
        wire = self._wire
        reading = Reading(wire.bytes_received, wire.bytes_sent, wire.unsent, self._fetched, bool(self._incoming))
        verdict = self._pulse.tick(self._loop.time(), reading)
        if isinstance(verdict, Dead):
            self.stood_still = verdict.cause
            self.abort(verdict.reason)
            return
        if verdict.ping and not wire.closed.is_set():
            wire.write([self._session.encode(Ping())])
        self._timer = self._loop.call_later(self._times.tick, self._tick)
