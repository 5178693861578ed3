"""A cable with faults, between a client and a server on loopback: slow, cut, deaf, or with a bit turned over.

It has a thread and a loop of its own; a test calls its methods at any time, and they count for links that stand already
and for those to come. Passes bytes on and knows nothing of what they mean.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal

Way = Literal["up", "down"]
"""`up` is from the client to the server."""
CHUNK = 64 * 1024
#: Bytes that may be on their way in a slow cable: what a real one would hold.
IN_THE_CABLE = 256 * 1024


@dataclass
class Faults:
    """What is wrong with one direction of every link."""

    delay: float = 0.0
    """Seconds that each byte is on its way."""
    rate: float = 0.0
    """Bytes a second; 0: as fast as it goes."""
    slices: int = CHUNK
    """Bytes that are passed on at a time."""
    flip_at: int | None = None
    """The byte, counted over all links, of which the lowest bit is turned over; once."""
    cut_at: int | None = None
    """The byte, counted over all links, before which its link is cut; once."""
    carried: int = 0
    """Bytes that were passed on so far, in all links."""
    flipped: int = 0


@dataclass(eq=False)
class _Cable:
    """One connection through the proxy."""

    client: socket.socket
    server: socket.socket
    open_ways: int = 2
    deaf: bool = False
    pumps: list[asyncio.Task[None]] = field(default_factory=list)

    def cut(self, *, reset: bool) -> None:
        """End both connections: by an RST, or by a FIN."""
        for pump in self.pumps:
            pump.cancel()
        for end in (self.client, self.server):
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()


class Proxy:
    """Listens on `port` and passes on to `target`. Use it in a `with`."""

    def __init__(self, target: int) -> None:
        self.up, self.down = Faults(), Faults()
        self.accepted = 0
        self._target = target
        self._cables: set[_Cable] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._refusing = False
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None

    # --- what a test does to it ---------------------------------------------------------------------------------

    def slow_down(self, *, delay: float = 0.0, rate: float = 0.0) -> None:
        """Let every byte be on its way for `delay` seconds, at `rate` bytes a second, each way."""
        for faults in (self.up, self.down):
            faults.delay, faults.rate = delay, rate

    def slice(self, size: int) -> None:
        """Pass on so many bytes at a time."""
        self.up.slices = self.down.slices = size

    def flip(self, way: Way, after: int = 0) -> None:
        """Turn over a bit of the byte that comes after so many more bytes."""
        faults = self._of(way)
        faults.flip_at = faults.carried + after

    def cut_after(self, way: Way, after: int) -> None:
        """Cut the link (RST) on which so many more bytes have gone that way."""
        faults = self._of(way)
        faults.cut_at = faults.carried + after

    def cut(self, *, reset: bool = True) -> None:
        """Cut every link now: by an RST, or by a FIN each way."""
        self._call(self._cut_all, reset)

    def go_deaf(self) -> None:
        """Cut every link without a word: nothing passes any more, and both ends believe that the link stands."""
        self._call(lambda: [setattr(cable, "deaf", True) for cable in self._cables])

    def close_way(self, way: Way) -> None:
        """Half-close every link: nothing more goes this way, and the receiving end is told so by a FIN."""
        self._call(self._half_close, way)

    def refuse(self, refusing: bool = True) -> None:
        """Cut every new connection at once, or take them again."""
        self._refusing = refusing

    @property
    def links(self) -> int:
        """Connections that stand."""
        return len(self._cables)

    def _of(self, way: Way) -> Faults:
        return self.up if way == "up" else self.down

    def _call(self, work: Callable[..., object], *arguments: object) -> None:
        """Do something in the loop, and wait for it."""

        async def run() -> None:
            work(*arguments)

        self._wait(run())

    def _wait(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    # --- what it does -------------------------------------------------------------------------------------------

    def __enter__(self) -> Proxy:
        self._thread.start()
        self._call(self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._wait(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(60)
        self._loop.close()

    def _start(self) -> None:
        self._accepting = self._loop.create_task(self._accept())

    async def _end(self) -> None:
        self._cut_all(True)
        self._listening.close()
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def _cut_all(self, reset: bool) -> None:
        for cable in list(self._cables):
            self._cut(cable, reset=reset)

    def _cut(self, cable: _Cable, *, reset: bool) -> None:
        self._cables.discard(cable)
        cable.cut(reset=reset)

    def _half_close(self, way: Way) -> None:
        for cable in list(self._cables):
            cable.pumps[0 if way == "up" else 1].cancel()
            with contextlib.suppress(OSError):
                (cable.server if way == "up" else cable.client).shutdown(socket.SHUT_WR)

    async def _accept(self) -> None:
        while True:
            client, _ = await self._loop.sock_accept(self._listening)
            self.accepted += 1
            server = socket.socket()
            server.setblocking(False)
            cable = _Cable(client, server)
            try:
                if self._refusing:
                    raise ConnectionRefusedError
                await self._loop.sock_connect(server, ("127.0.0.1", self._target))
            except OSError:
                cable.cut(reset=True)
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._cables.add(cable)
            cable.pumps = [
                self._loop.create_task(self._pump(cable, client, server, self.up)),
                self._loop.create_task(self._pump(cable, server, client, self.down)),
            ]

    async def _pump(self, cable: _Cable, source: socket.socket, target: socket.socket, faults: Faults) -> None:
        """Pass on what comes from one end, with what is wrong with this direction."""
        on_their_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(IN_THE_CABLE // CHUNK)
        arriving = self._loop.create_task(self._arrive(cable, on_their_way, target, faults))
        try:
            while not arriving.done():
                data = await self._loop.sock_recv(source, min(faults.slices, CHUNK))
                await on_their_way.put((self._loop.time() + faults.delay, data))
                if not data:
                    await arriving
        except OSError:
            self._cut(cable, reset=True)
        finally:
            arriving.cancel()

    async def _arrive(
        self, cable: _Cable, on_their_way: asyncio.Queue[tuple[float, bytes]], target: socket.socket, faults: Faults
    ) -> None:
        while True:
            due, data = await on_their_way.get()
            await asyncio.sleep(max(0.0, due - self._loop.time()))
            if cable.deaf:
                continue
            if not data:
                self._end_way(cable, target)
                return
            if (end := faults.cut_at) is not None and faults.carried + len(data) > end:
                faults.cut_at = None
                self._cut(cable, reset=True)
                return
            data, faults.carried = _flipped(data, faults), faults.carried + len(data)
            try:
                await self._loop.sock_sendall(target, data)
            except OSError:
                self._cut(cable, reset=True)
                return
            if faults.rate:
                await asyncio.sleep(len(data) / faults.rate)

    def _end_way(self, cable: _Cable, target: socket.socket) -> None:
        """One end is done: tell the other; when both are, the cable is gone."""
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)
        cable.open_ways -= 1
        if not cable.open_ways:
            self._cut(cable, reset=False)


def _flipped(data: bytes, faults: Faults) -> bytes:
    """The data, with the bit turned over that is to be."""
    if faults.flip_at is None or not 0 <= (at := faults.flip_at - faults.carried) < len(data):
        return data
    faults.flip_at = None
    faults.flipped += 1
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
