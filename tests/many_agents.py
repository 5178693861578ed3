"""A crowd of agents in one process that have joined a real server: what they are told, and when they are back.

They are real agents with their own ids, logins and retries; only their trainers are never started, because one client
that the crowd is not part of has the only task.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator
from pathlib import Path
from unittest import mock

from running import PASSPHRASE, Place, flags, free_port, port_of

from lanfit.core.workspace import Workspace
from lanfit.net.link import Link
from lanfit.wire.messages import Join, Lease, Runtime
from lanfit_client import connect as connecting
from lanfit_client.agent import Agent, Server
from lanfit_client.connect import connect
from lanfit_client.store.state import ClientState

PATIENCE = 120.0


class ManyAgents:
    """`count` agents, and what each has been told."""

    def __init__(self, folder: Path, port: int, count: int) -> None:
        self.output: list[list[str]] = [[] for _ in range(count)]
        self.states = [ClientState.take(Workspace(folder / f"crowd-{number}")) for number in range(count)]
        self.agents = [
            Agent(
                Server("127.0.0.1", port),
                state,
                Workspace(folder / f"crowd-{number}"),
                f"crowd-{number}",
                Runtime("tensorflow", "cpu", 1),
                output.append,
            )
            for number, (state, output) in enumerate(zip(self.states, self.output, strict=True))
        ]

    def joined(self) -> int:
        """How often agents have joined, all together."""
        return sum(line.startswith("Joined ") for output in self.output for line in output)

    async def until_joined(self, times: int) -> float:
        """Wait until each has joined so often; returns how many seconds that took."""
        began = time.monotonic()
        async with asyncio.timeout(PATIENCE):
            while self.joined() < times * len(self.agents):
                await asyncio.sleep(0.05)
        return time.monotonic() - began


@contextlib.asynccontextmanager
async def many_agents(folder: Path, port: int, count: int) -> AsyncIterator[ManyAgents]:
    """Agents that join, and come back for as long as this lasts."""
    people = ManyAgents(folder, port, count)
    # Each of a hundred machines stretches the passphrase for itself; here it would be a hundred times 0.1 s on one.
    one_for_all = mock.patch.object(connecting, "stretch", functools.cache(connecting.stretch))
    running = [asyncio.create_task(agent.run(PASSPHRASE, once=False)) for agent in people.agents]
    try:
        with one_for_all:
            yield people
    finally:
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await asyncio.gather(*(agent.close() for agent in people.agents), return_exceptions=True)
        for state in people.states:
            state.lock.release()


async def take_the_task(port: int) -> Link:
    """Join as a client that gets the run's only task, and never does it."""
    link, _ = await connect("127.0.0.1", port, b"holds the task !", PASSPHRASE)
    await link.send(Join("a-holder", "0", "tensorflow", "cpu", 1, 0))
    while not isinstance(await link.receive(), Lease):
        pass
    return link


async def come_back(place: Place, folder: Path, count: int, **job: object) -> tuple[float, list[str]]:
    """Kill a server that `count` agents have joined, and start it again.

    Returns:
        The seconds from when it listened again until all were back, and all that the agents were told.
    """
    port = free_port()
    with place.server(*flags(port, 1, **job)) as server:
        await asyncio.to_thread(server.expect, "Waiting for 1 more")
        link = await take_the_task(port)
        async with many_agents(folder, port, count) as people:
            await people.until_joined(1)
            server.kill()
            await asyncio.to_thread(server.finish, None)
            await link.close()
            [run] = [path.parent.name for path in (place.root / "logs").glob("*/ledger.sqlite")]
            with place.server("--resume", run, passphrase=None) as again:
                await asyncio.to_thread(port_of, again)
                seconds = await people.until_joined(2)
                again.interrupt()
                await asyncio.to_thread(again.finish, 130)
            return seconds, [line for output in people.output for line in output]
