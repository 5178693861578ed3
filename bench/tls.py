"""Does lanfit's own TLS transport (`lanfit.net.secure`) win anything over asyncio's?

    python bench/tls.py [--megabytes 100] [--rounds 7] [--only link|loopback]

Both kinds take turns, each on both sides of the connection, in processes of their own:

- `link`: a block is pushed over a link of 1 Gbit/s between two network namespaces (tbf). Needs root, `ip` and `tc`.
- `loopback`: what a federated round of 25 million parameters moves: 100 MB to each of two clients at once, and back.

Printed are medians of seconds and of processor seconds of all processes, and the median of the pairs' ratios: below 1
lanfit's own is faster. Other work on the machine moves everything but the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import datetime
import functools
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median

from push import BLOCK, PASSPHRASE, OpenGate

from lanfit.net.link import Link
from lanfit.net.secure import open_tls
from lanfit.net.tls import Identity
from lanfit.wire.auth import stretch
from lanfit.wire.messages import Fetch
from lanfit_client import connect as connecting
from lanfit_server.clusters import listen as listening

KINDS = ("own", "asyncio")
ADDRESSES = ("10.99.7.1", "10.99.7.2")


def use(kind: str) -> None:
    """Let this process have one kind of TLS."""
    chosen = functools.partial(open_tls, direct=kind == "own")
    connecting.open_tls = listening.open_tls = chosen  # type: ignore[assignment]


def processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


# --- the other processes --------------------------------------------------------------------------------------------


async def serve(host: str, state: Path, size: int) -> None:
    """Push the block to who asks for it, fetch it back where that is wanted, tell what that cost; until input ends."""
    identity = Identity.load_or_create(state)
    block = memoryview(bytearray(os.urandom(1 << 20) * (size >> 20)))

    async def push(link: Link, client_id: bytes, address: str) -> None:
        request = await link.receive()
        assert isinstance(request, Fetch)
        await link.send_block(request, [block])
        if client_id[0]:
            await link.fetch(BLOCK, memoryview(bytearray(size)))
        await link.close("that was all")

    listener = await listening.listen(host, 0, identity, OpenGate(stretch(PASSPHRASE, identity.salt)), push)
    print(listener.port, flush=True)
    while (await asyncio.to_thread(sys.stdin.readline)).strip():
        print(processor_seconds(), flush=True)
    await listener.close()


async def take(host: str, port: int, size: int, both_ways: bool) -> None:
    """Fetch the block, and give it back where that is wanted; print seconds and processor seconds."""
    into = memoryview(bytearray(size))
    link, _ = await connecting.connect(host, port, bytes([both_ways]) * 16, PASSPHRASE)
    print("ready", flush=True)
    sys.stdin.readline()
    began, used = time.perf_counter(), processor_seconds()
    await link.fetch(BLOCK, into)
    if both_ways:
        request = await link.receive()
        assert isinstance(request, Fetch)
        await link.send_block(request, [into])
    await link.closed.wait()
    print(json.dumps([time.perf_counter() - began, processor_seconds() - used]), flush=True)


# --- measuring ------------------------------------------------------------------------------------------------------


class Kind:
    """A server with one kind of TLS."""

    def __init__(self, kind: str, where: Sequence[Sequence[str]], host: str, size: int, state: Path) -> None:
        self._kind, self._prefix, self._host, self._size = kind, where[1], host, size
        words = [*where[0], sys.executable, __file__, "--kind", kind, "--bytes", str(size)]
        self.server = subprocess.Popen(
            [*words, "--serve", str(state / kind), "--host", host],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.server.stdin is not None
        assert self.server.stdout is not None
        self._in, self._out = self.server.stdin, self.server.stdout
        self._port = self._out.readline().strip()

    def _used(self) -> float:
        print("used", file=self._in, flush=True)
        return float(self._out.readline())

    def run(self, clients: int, both_ways: bool) -> tuple[float, float]:
        """Seconds until the last client is done, and processor seconds of all."""
        words = [*self._prefix, sys.executable, __file__, "--kind", self._kind, "--bytes", str(self._size)]
        words += ["--host", self._host, "--take", self._port, *(["--both-ways"] if both_ways else [])]
        pipe = subprocess.PIPE
        others = [subprocess.Popen(words, stdin=pipe, stdout=pipe, text=True) for _ in range(clients)]
        for other in others:
            assert other.stdout is not None
            assert other.stdout.readline() == "ready\n"
        before = self._used()
        for other in others:
            print("go", file=other.stdin, flush=True)
        found = [json.loads(other.communicate()[0]) for other in others]
        return max(seconds for seconds, _ in found), sum(used for _, used in found) + self._used() - before

    def close(self) -> None:
        self._in.close()
        self.server.wait()


def compare(
    name: str, where: Sequence[Sequence[str]], host: str, size: int, rounds: int, clients: int, both_ways: bool
) -> None:
    """Let both take turns; print what that took."""
    with tempfile.TemporaryDirectory() as state, contextlib.ExitStack() as closing:
        kinds = {kind: Kind(kind, where, host, size, Path(state)) for kind in KINDS}
        for kind in kinds.values():
            closing.callback(kind.close)
            kind.run(clients, both_ways)  # to be warm
        found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
        for turn in range(rounds):
            for kind in KINDS if turn % 2 else reversed(KINDS):
                found[kind].append(kinds[kind].run(clients, both_ways))
    for kind in KINDS:
        seconds, used = (median(each[place] for each in found[kind]) for place in (0, 1))
        print(f"{name}, {kind}: {seconds:.3f} s, {used:.3f} s of processors, medians of {rounds}")
    ratios = [
        median(ours[place] / theirs[place] for ours, theirs in zip(found["own"], found["asyncio"], strict=True))
        for place in (0, 1)
    ]
    print(f"{name}: own / asyncio {ratios[0]:.2f} of the time, {ratios[1]:.2f} of the processors' time")


@contextlib.contextmanager
def gigabit() -> Iterator[Sequence[Sequence[str]]]:
    """Two namespaces with a cable of 1 Gbit/s between them; what to put before a command to run it in each."""
    names = [f"lanfit-{uuid.uuid4().hex[:8]}" for _ in ADDRESSES]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True)

    try:
        for name in names:
            ip("netns", "add", name)
        ip("-n", names[0], "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", names[1])
        for name, address in zip(names, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
            ip("-n", name, "link", "set", "eth0", "up")
            ip("-n", name, "link", "set", "lo", "up")
            shape = ["tc", "-n", name, "qdisc", "add", "dev", "eth0", "root", "tbf"]
            subprocess.run([*shape, "rate", "1gbit", "burst", "256kb", "latency", "50ms"], check=True)
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", choices=("link", "loopback"))
    for hidden in ("--kind", "--serve", "--take", "--host", "--bytes"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--both-ways", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.kind:
        use(given.kind)
    if given.serve:
        asyncio.run(serve(given.host, Path(given.serve), int(given.bytes)))
    elif given.take:
        asyncio.run(take(given.host, int(given.take), int(given.bytes), given.both_ways))
    else:
        print("$ python", *sys.argv)
        print(f"{datetime.date.today()}, {platform.platform()}, {os.cpu_count()} cores, {platform.python_version()}")
        size = given.megabytes << 20
        if given.only != "link":
            compare("loopback, two clients, there and back", [[], []], "127.0.0.1", size, given.rounds, 2, True)
        if given.only != "loopback":
            if os.geteuid() or not shutil.which("ip") or not shutil.which("tc"):
                sys.exit("The link of 1 Gbit/s needs root, ip and tc: --only loopback goes without.")
            with gigabit() as where:
                compare("1 Gbit/s, one client, there", where, ADDRESSES[0], size, given.rounds, 1, False)


if __name__ == "__main__":
    main()
