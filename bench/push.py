"""How fast is a block pushed to a client, against a bare `ssl` socket pair in the same run?

Two processes, each pinned to a core of its own where the system can: the server holds the block, the client receives
it into its final buffer, a memory-mapped file and plain memory. Link and bare socket take turns; the baseline is the
best of several write sizes. Then: how much memory does the server need on top of the block, while it serves many?

    python bench/push.py [--megabytes 256] [--rounds 7] [--clients 8]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import mmap
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil

from lanfit.net.link import Link
from lanfit.net.tls import Identity, client_context, server_context
from lanfit.wire.auth import Refused, stretch
from lanfit.wire.messages import Fetch
from lanfit_client.connect import connect
from lanfit_server.clusters.listen import listen

PASSPHRASE = "for this bench only"
BLOCK = "0" * 64
WRITE_SIZES = (16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20)
MEMORY_LIMIT = 64


def pin(core: int) -> None:
    """Keep this process on one core, where the system can."""
    with contextlib.suppress(AttributeError, OSError):
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})


class OpenGate:
    """Lets everybody try."""

    def __init__(self, stretched: bytes) -> None:
        self.stretched = stretched

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        return self.stretched

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        return 0.0

    def abandoned(self, address: str, client_id: bytes) -> None:
        pass

    def failed(self, address: str, client_id: bytes) -> None:
        raise RuntimeError("the bench's own passphrase was refused")

    def joined(self, address: str, client_id: bytes) -> None:
        pass


# --- the server process -----------------------------------------------------------------------------------------


class PeakMemory:
    """The largest resident memory of this process since `start`, looked at every few milliseconds."""

    def start(self) -> None:
        self._process = psutil.Process()
        self._before = self._peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(0.005):
            self._peak = max(self._peak, self._process.memory_info().rss)

    def growth(self) -> int:
        """Stop; return the growth in bytes."""
        self._stop.set()
        self._thread.join()
        return self._peak - self._before


def serve(state: Path, size: int) -> None:
    """Serve the block both ways; commands on standard input."""
    pin(0)
    identity = Identity.load_or_create(state)
    block = bytearray(os.urandom(1 << 20) * (size >> 20))
    view = memoryview(block)
    bare = socket.create_server(("127.0.0.1", 0))
    bare_context = server_context(identity)

    def bare_push() -> None:
        """Take one connection, which first says how large the writes are to be."""
        plain, _ = bare.accept()
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with bare_context.wrap_socket(plain, server_side=True) as connection:
            step = int.from_bytes(connection.recv(8), "big")
            for start in range(0, len(view), step):
                connection.sendall(view[start : start + step])
            connection.recv(1)

    async def link_push(link: Link, client_id: bytes, address: str) -> None:
        while True:
            request = await link.receive()
            if isinstance(request, Fetch):
                await link.send_block(request, [view])

    async def main() -> None:
        gate = OpenGate(stretch(PASSPHRASE, identity.salt))
        listener = await listen("127.0.0.1", 0, identity, gate, link_push)
        print(listener.port, bare.getsockname()[1], flush=True)
        peak = PeakMemory()
        while command := (await asyncio.to_thread(sys.stdin.readline)).strip():
            if command == "bare":
                bare_push()
            elif command == "watch":
                peak.start()
            elif command == "growth":
                print(peak.growth(), flush=True)
        await listener.close()

    asyncio.run(main())


# --- the client process -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def file_memory(size: int) -> Iterator[memoryview]:
    """A new memory-mapped file, as the client receives blocks into."""
    with tempfile.TemporaryFile() as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as mapped, memoryview(mapped) as view:
            yield view


@contextlib.contextmanager
def plain_memory(size: int) -> Iterator[memoryview]:
    """New memory of the process."""
    with mmap.mmap(-1, size) as mapped, memoryview(mapped) as view:
        yield view


Memory = Callable[[int], contextlib.AbstractContextManager[memoryview]]


class Bench:
    """The client process: measures one way and the other."""

    def __init__(self, server: subprocess.Popen[str], size: int) -> None:
        assert server.stdin is not None
        assert server.stdout is not None
        self._in, self._out, self._size = server.stdin, server.stdout, size
        self._link_port, self._bare_port = map(int, self._out.readline().split())
        self._context = client_context()

    def command(self, text: str) -> None:
        print(text, file=self._in, flush=True)

    def bare(self, memory: Memory, step: int) -> float:
        """Seconds that a bare ssl socket takes."""
        self.command("bare")
        with memory(self._size) as into, socket.create_connection(("127.0.0.1", self._bare_port)) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._context.wrap_socket(plain) as connection:
                begin = time.perf_counter()
                connection.send(step.to_bytes(8, "big"))
                position = 0
                while position < self._size:
                    position += connection.recv_into(into[position:])
                seconds = time.perf_counter() - begin
                connection.send(b".")
        return seconds

    async def link(self, memory: Memory) -> float:
        """Seconds that a link takes."""
        link, _ = await connect("127.0.0.1", self._link_port, bytes(16), PASSPHRASE)
        with memory(self._size) as into:
            begin = time.perf_counter()
            await link.fetch(BLOCK, into)
            seconds = time.perf_counter() - begin
        await link.close()
        return seconds

    async def many_clients(self, clients: int) -> int:
        """Bytes that the server's memory grows by while it serves many clients at once."""
        links = [(await connect("127.0.0.1", self._link_port, bytes(16), PASSPHRASE))[0] for _ in range(clients)]
        self.command("watch")
        with plain_memory(self._size) as into:  # what the clients do with the bytes does not matter here
            await asyncio.gather(*(link.fetch(BLOCK, into) for link in links))
        self.command("growth")
        growth = int(self._out.readline())
        await asyncio.gather(*(link.close() for link in links))
        return growth


def main() -> int:
    parser = argparse.ArgumentParser(description="How fast is a block pushed, against a bare ssl socket pair?")
    parser.add_argument("--megabytes", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    size = arguments.megabytes << 20
    if arguments.serve:
        serve(arguments.serve, size)
        return 0
    print("$ python", *sys.argv)
    print(f"{datetime.date.today()}, {platform.platform()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    pin(-1)
    with tempfile.TemporaryDirectory() as state:
        command = [sys.executable, __file__, "--serve", state, "--megabytes", str(arguments.megabytes)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
            try:
                worst, growth = measure(Bench(server, size), arguments.rounds, arguments.clients, arguments.megabytes)
            finally:
                server.stdin and server.stdin.close()
    print(f"ratio {worst:.2f} (at least 0.80), memory {growth / 2**20:.0f} MiB (at most {MEMORY_LIMIT})")
    return 0 if worst >= 0.8 and growth <= MEMORY_LIMIT << 20 else 1


def measure(bench: Bench, rounds: int, clients: int, megabytes: int) -> tuple[float, int]:
    """Print all measurements; return the worse ratio and the growth of the memory in bytes."""
    ratios = []
    for name, memory in (("memory-mapped file", file_memory), ("plain memory", plain_memory)):
        tries = {step: min(bench.bare(memory, step) for _ in range(2)) for step in WRITE_SIZES}
        step = min(tries, key=lambda step: tries[step])
        link, bare = [], []
        for turn in range(rounds):
            if turn % 2:
                bare.append(bench.bare(memory, step))
            link.append(asyncio.run(bench.link(memory)))
            if not turn % 2:
                bare.append(bench.bare(memory, step))
        speeds = [megabytes / statistics.median(seconds) for seconds in (link, bare)]
        # Other programs slow both of a pair alike: the median of the pairs' ratios is steadier than that of the speeds.
        ratios.append(statistics.median(theirs / ours for ours, theirs in zip(link, bare, strict=True)))
        print(
            f"{name}: {megabytes} MiB, medians of {rounds}: link {speeds[0]:.0f} MiB/s, "
            f"bare ssl {speeds[1]:.0f} MiB/s (writes of {step >> 10} KiB), ratio of pairs {ratios[-1]:.2f}"
        )
    growth = asyncio.run(bench.many_clients(clients))
    print(f"server memory over the block while {clients} clients fetch it at once: {growth / 2**20:.1f} MiB")
    return min(ratios), growth


if __name__ == "__main__":
    sys.exit(main())
