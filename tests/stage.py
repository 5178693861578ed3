"""A server whose lines a test speaks, and a real agent, with a real trainer, that joins it: real TLS, real login."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lanfit.net.link import Link
from lanfit.net.listen import listen
from lanfit.net.tls import Identity
from lanfit.wire.auth import stretch
from lanfit.wire.messages import AnyMessage, Runtime
from lanfit.workspace import Workspace
from lanfit_client.agent import Agent, Server
from lanfit_client.state import ClientState

PATIENCE = 120


class Door:
    """Lets everybody in who knows the passphrase."""

    def __init__(self, stretched: bytes) -> None:
        self._stretched = stretched

    def admit(self, address: str, client_id: bytes) -> bytes:
        return self._stretched

    def begin(self, address: str, client_id: bytes) -> float:
        return 0.0

    def abandoned(self, address: str, client_id: bytes) -> None:
        pass

    def failed(self, address: str, client_id: bytes) -> None:
        raise AssertionError("the passphrase was right")

    def joined(self, address: str, client_id: bytes) -> None:
        pass


class Stage:
    """A server whose lines the test speaks."""

    def __init__(self) -> None:
        self.links: asyncio.Queue[Link] = asyncio.Queue()

    async def __call__(self, link: Link, client_id: bytes, address: str) -> None:
        self.links.put_nowait(link)
        await link.closed.wait()


@asynccontextmanager
async def playing(
    folder: Path, said: list[str], *, warm: bool = True, server: str = "server", **options: Any
) -> AsyncIterator[tuple[Stage, Agent, asyncio.Task[None]]]:
    """A stage, and an agent that is on its way to it.

    Args:
        warm: its trainer is started at once, and imports TensorFlow; else with the first order.
        server: a name for the server's key; another name is another server.
        options: of the agent.
    """
    identity = Identity.load_or_create(folder / server)
    stage = Stage()
    listener = await listen("127.0.0.1", 0, identity, Door(stretch("a b c d", identity.salt)), stage)
    state = ClientState.take(Workspace(folder))
    runtime = Runtime("tensorflow", "auto", 1)
    agent = Agent(Server("127.0.0.1", listener.port), state, Workspace(folder), "lab", runtime, said.append, **options)
    if warm:
        await agent.start()
    running = asyncio.create_task(agent.run("a b c d", once=True))
    try:
        async with asyncio.timeout(PATIENCE):
            yield stage, agent, running
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await agent.close()
        await listener.close()
        state.lock.release()


async def until(link: Link, kind: type[AnyMessage], seen: list[AnyMessage]) -> AnyMessage:
    """The next message of a kind; the others are noted."""
    while not isinstance(message := await link.receive(), kind):
        seen.append(message)
    return message
