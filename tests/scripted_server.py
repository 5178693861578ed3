"""A server whose lines a test speaks, and a real agent that joins it: real TLS and login, a fake backend."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fakes.backend import NAME, registered

from lanfit.core.workspace import Workspace
from lanfit.data.labels import Target
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.net.tls import Identity
from lanfit.wire.arrays import AnyArray, block_of
from lanfit.wire.auth import stretch
from lanfit.wire.messages import AnyMessage, FitTask, Lease, Model, Runtime
from lanfit_client.agent import Agent, Server
from lanfit_client.store.state import ClientState
from lanfit_server.clusters.listen import listen

PATIENCE = 120
#: A model that a client takes a task of: nothing is built of it before rows have come.
NETWORK = '{"module": "keras", "class_name": "Sequential", "config": {"name": "net", "layers": []}}'
COMPILED = '{"optimizer": {"module": "keras.optimizers", "class_name": "SGD", "config": {}}, "loss": "mse"}'


class FakeGate:
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


class ScriptedServer:
    """A server whose lines the test speaks."""

    def __init__(self) -> None:
        self.links: asyncio.Queue[Link] = asyncio.Queue()

    async def __call__(self, link: Link, client_id: bytes, address: str) -> None:
        self.links.put_nowait(link)
        await link.closed.wait()


@asynccontextmanager
async def scripted_server(
    folder: Path,
    output: list[str],
    *,
    warm: bool = True,
    server: str = "server",
    once: bool = True,
    backends: Sequence[str] = (),
    **options: Any,
) -> AsyncIterator[tuple[ScriptedServer, Agent, asyncio.Task[None]]]:
    """A stage, and an agent that is on its way to it.

    Args:
        warm: its trainer is started at once; else with the first order.
        server: a name for the server's key; another name is another server.
        once: whether the agent ends with a run.
        backends: other names under which the fake backend is there.
        options: of the agent.
    """
    with registered(*backends):
        async with _scripted_server(folder, output, warm, server, once, options) as with_clients:
            yield with_clients


@asynccontextmanager
async def _scripted_server(
    folder: Path, output: list[str], warm: bool, server: str, once: bool, options: Mapping[str, Any]
) -> AsyncIterator[tuple[ScriptedServer, Agent, asyncio.Task[None]]]:
    identity = Identity.load_or_create(folder / server)
    scripted = ScriptedServer()
    listener = await listen("127.0.0.1", 0, identity, FakeGate(stretch("a b c d", identity.salt)), scripted)
    state = ClientState.take(Workspace(folder))
    runtime = Runtime(NAME, "auto", 1)
    agent = Agent(
        Server("127.0.0.1", listener.port), state, Workspace(folder), "lab", runtime, output.append, **options
    )
    if warm:
        await agent.start()
    running = asyncio.create_task(agent.run("a b c d", once=once))
    try:
        async with asyncio.timeout(PATIENCE):
            yield scripted, agent, running
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


def task() -> tuple[Lease, dict[str, dict[str, AnyArray]]]:
    """A lease of two epochs on 96 rows of noise, and the blocks that go with it, by id."""
    random = np.random.default_rng(0)
    start: dict[str, AnyArray] = {
        "dense/kernel": random.random((64, 10), np.float32),
        "dense/bias": np.zeros(10, np.float32),
    }
    rows = {
        "x_train": random.random((96, 8, 8, 1), np.float32),
        "y_train": random.integers(0, 10, 96),
        "x_validation": random.random((8, 8, 8, 1), np.float32),
        "y_validation": random.integers(0, 10, 8),
        **TrainedModel({}).constants(),
    }
    weights, shard = block_of(start), block_of(rows)
    model = Model(NETWORK, COMPILED, (None, 8, 8, 1), (None, 10), Target.CLASSES, "minmax", "none")
    fit = FitTask(model, 2, 32, 7, 0, Runtime(), None, None)
    return Lease("run-1", "shard-1", 1, "lab", fit, weights, shard), {weights.id: start, shard.id: rows}
