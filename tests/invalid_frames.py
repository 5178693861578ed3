"""Peers that send frames which are none: to a server's port, through TLS, many of them, and more than one at a time."""

from __future__ import annotations

import asyncio
import contextlib
import random
import struct

from lanfit.net.tls import client_context
from lanfit.wire.frames import Kind

#: Connections that are open at the same time; a server has room for 32 logins, and an honest client needs one.
AT_ONCE = 8
PATIENCE = 120.0


def invalid_frame(chance: random.Random) -> bytes:
    """A frame of a kind, a length or a payload that no server takes before the login."""
    rubbish = chance.randbytes(chance.randrange(64))
    kind = chance.choice([*Kind, 0, 99, 255])
    length = chance.choice([0, len(rubbish), 513, 2**16, 2**31, 2**32 - 1])
    return struct.pack("!IB", length, kind) + rubbish


async def pour(port: int, connections: int, frames: int, seed: int = 0) -> int:
    """Send so many broken frames over each of so many connections; returns how many the server cut.

    Every connection is one that the server has to notice by itself: what is sent is never followed by a FIN.
    """
    context, turn, cut = client_context(), asyncio.Semaphore(AT_ONCE), 0

    async def one(number: int) -> None:
        nonlocal cut
        chance = random.Random(seed * 1_000_003 + number)
        async with turn, asyncio.timeout(PATIENCE):
            try:
                reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="")
            except OSError:  # the server has ended
                return
            try:
                with contextlib.suppress(OSError):
                    # The first one is never half a frame: that would be cut by its deadline, not for what it is.
                    writer.write(struct.pack("!IB", 2**32 - 1, Kind.DATA))
                    for _ in range(frames - 1):
                        writer.write(invalid_frame(chance))
                    while await reader.read(65536):
                        pass
                cut += 1
            finally:
                writer.transport.abort()

    await asyncio.gather(*(one(number) for number in range(connections)))
    return cut
