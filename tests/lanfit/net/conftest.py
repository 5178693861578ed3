"""What the tests of lanfit.net share: a gate and a running server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lanfit.net.keepalive import LinkTimes
from lanfit.net.link import Link
from lanfit.net.tls import Identity
from lanfit.wire.auth import Refused, stretch
from lanfit_server.clusters.listen import Listener, listen

PASSPHRASE = "tiger lamp seven oceans"


@dataclass
class OpenGate:
    """Lets everybody try, or refuses everybody; writes down what it is told."""

    stretched: bytes
    refusal: Refused | None = None
    admitted: list[bytes] = field(default_factory=list)
    failures: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    joins: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        self.admitted.append(client_id)
        return self.refusal or self.stretched

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        return 0.0

    def abandoned(self, address: str, client_id: bytes) -> None:
        pass

    def failed(self, address: str, client_id: bytes) -> None:
        self.failures.put_nowait(address)

    def joined(self, address: str, client_id: bytes) -> None:
        self.joins.put_nowait(client_id)


class TestServer:
    """A listener on loopback whose links wait in a queue, and stay open until the test ends."""

    __test__ = False

    def __init__(self, identity: Identity, gate: OpenGate) -> None:
        self.identity, self.gate = identity, gate
        self.listener: Listener
        self.links: asyncio.Queue[Link] = asyncio.Queue()

    @property
    def port(self) -> int:
        return self.listener.port

    async def on_link(self, link: Link, client_id: bytes, address: str) -> None:
        self.links.put_nowait(link)
        await link.closed.wait()


Serve = Callable[..., contextlib.AbstractAsyncContextManager[TestServer]]


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    return Identity.load_or_create(tmp_path / "state")


@pytest.fixture
def serve(identity: Identity) -> Serve:
    """Start a server on a free port: `async with serve() as server`."""

    @contextlib.asynccontextmanager
    async def start(
        who: Identity = identity, times: LinkTimes | None = None, login_seconds: float = 10.0
    ) -> AsyncIterator[TestServer]:
        server = TestServer(who, OpenGate(stretch(PASSPHRASE, who.salt)))
        server.listener = await listen(
            "127.0.0.1", 0, who, server.gate, server.on_link, times=times, login_seconds=login_seconds
        )
        try:
            yield server
        finally:
            await server.listener.close()

    return start
