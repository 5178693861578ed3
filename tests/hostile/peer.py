"""A scripted client: it speaks the real protocol, in this process, and keeps to it only as far as a test wants.

Logging in goes over a real socket with real TLS; what comes after login goes over a link in memory to a real cluster.
Nothing here starts a process, or needs Keras.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from memory_links import memory_links

from lanfit.core.workspace import Workspace
from lanfit.models.trained_model import TrainedModel
from lanfit.net.link import Link
from lanfit.net.tls import Identity, client_context, fingerprint_of
from lanfit.wire.arrays import AnyArray, ArraySpec, BlockSpec, block_of
from lanfit.wire.auth import LOGIN_TO_CLIENT, ClientLogin, LoggedIn, NeedPassword, Refused, stretch
from lanfit.wire.frames import Frame, FrameReader, Kind, feed
from lanfit.wire.messages import Join, Model, Result, Status, Welcome
from lanfit_server.clusters.gate import GateShell
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.clusters.listen import Listener, listen
from lanfit_server.store.ledger import Ledger, OwnedTask, RunRecord
from lanfit_server.store.result_store import OpenRun, ResultStore

PASSPHRASE = "velvet otter rinse cargo"
RUN = "run-1"
WEIGHTS = (ArraySpec("dense/kernel", "float32", (3, 2)), ArraySpec("dense/bias", "float32", (2,)))


def run_script(script: Coroutine[Any, Any, Any]) -> Any:
    """Run a script; one that hangs fails."""

    async def within() -> Any:
        async with asyncio.timeout(120):
            return await script

    return asyncio.run(within())


# --- before login -------------------------------------------------------------------------------------------------


class Elsewhere(GateShell):
    """The real gate, which sees a client where its id says: every test is on loopback, which is never banned."""

    def admit(self, address: str, client_id: bytes) -> bytes | Refused:
        return super().admit(at(client_id), client_id)

    def begin(self, address: str, client_id: bytes) -> Refused | float | None:
        return super().begin(at(client_id), client_id)

    def failed(self, address: str, client_id: bytes) -> None:
        super().failed(at(client_id), client_id)

    def abandoned(self, address: str, client_id: bytes) -> None:
        super().abandoned(at(client_id), client_id)

    def joined(self, address: str, client_id: bytes) -> None:
        super().joined(at(client_id), client_id)


def who(address: str, number: int = 0) -> bytes:
    """The id of a client at an address."""
    return bytes(int(part) for part in address.split(".")) + number.to_bytes(12)


def at(client_id: bytes) -> str:
    """Where `Elsewhere` sees a client."""
    return ".".join(str(part) for part in client_id[:4])


class LoginServer:
    """A listener with the real gate; `gate` is it, `port` where it listens; links wait until they are ended."""

    def __init__(self, folder: Path) -> None:
        self.identity = Identity.load_or_create(folder / "machine")
        self.gate = Elsewhere(folder / "state" / "gate.json")
        self.gate.stretched = self.right = stretch(PASSPHRASE, self.identity.salt)
        self.port = 0
        self.listener: Listener

    @contextlib.asynccontextmanager
    async def listening(self, login_seconds: float = 60) -> AsyncIterator[LoginServer]:
        async def serve(link: Link, client_id: bytes, address: str) -> None:
            await link.closed.wait()

        self.listener = await listen("127.0.0.1", 0, self.identity, self.gate, serve, login_seconds=login_seconds)
        self.port = self.listener.port
        try:
            yield self
        finally:
            await self.listener.close()

    async def guess(
        self, client_id: bytes, password: bytes | None = None, hold: asyncio.Barrier | None = None
    ) -> Refused | LoggedIn:
        """Log in with a stretched passphrase, the right one if none is given; return how it ended.

        Args:
            hold: waited for with the proof in hand, so that many are sent at once. Who is refused before leaves it.
        """
        async for frame, login, write in self._login(client_id, password or self.right):
            if frame.kind is Kind.SERVER_EXCHANGE and hold is not None:
                await hold.wait()
            for event in login.receive(frame):
                if isinstance(event, Refused | LoggedIn):
                    return event
                if isinstance(event, NeedPassword):
                    login.password(password or self.right)
            write(login.take_output())
        raise AssertionError("the server ended the connection without a word")

    async def half(self, client_id: bytes) -> bool:
        """Go as far as the server's answer to the exchange, then cut; return whether there was an answer."""
        async for frame, login, write in self._login(client_id, self.right):
            if frame.kind is not Kind.SERVER_HELLO:
                return frame.kind is Kind.SERVER_EXCHANGE
            login.receive(frame)
            login.password(self.right)
            write(login.take_output())
        return False

    async def _login(self, client_id: bytes, password: bytes) -> AsyncIterator[tuple[Frame, ClientLogin, Any]]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, ssl=client_context(), server_hostname="")
        try:
            certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            login, frames = ClientLogin(client_id, fingerprint_of(certificate)), FrameReader(LOGIN_TO_CLIENT)
            writer.write(login.take_output())
            while data := await reader.read(1):
                for frame in feed(frames, data):
                    if isinstance(frame, Frame):
                        yield frame, login, writer.write
        finally:
            writer.transport.abort()


# --- after login --------------------------------------------------------------------------------------------------


def record(run: str = RUN, weights: Sequence[ArraySpec] = WEIGHTS, **changes: Any) -> RunRecord:
    """What a ledger knows of a run of two tasks."""
    fields: dict[str, Any] = {
        "run": run, "server_id": b"s" * 16, "job": "", "file": "net.h5", "parameters": 8, "epochs": 5,
        "model": Model("{}", "{}", (None, 3), (None, 2), "values", "none", "none"), "weights": tuple(weights),
        "shards": (), "constants": block_of(TrainedModel({}).constants()).arrays, "labels": None, "own": None,
        "samples": (10, 10), "train": 16, "validation": 4, "test": 5,
    }  # fmt: skip
    return RunRecord(**{**fields, **changes})


def arrays(seed: int = 0, weights: Sequence[ArraySpec] = WEIGHTS) -> dict[str, AnyArray]:
    """What a client would deliver for such a run."""
    random = np.random.default_rng(seed)
    made = {spec.name: random.random(spec.shape).astype(spec.dtype) for spec in weights}
    return {**made, **TrainedModel({}).constants(), "history": np.array([[0.5]])}


def result(values: dict[str, AnyArray], task: str = "shard-1", attempt: int = 1) -> Result:
    """The offer of these arrays."""
    return Result(RUN, task, attempt, block_of(values), ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)


def made_up(values: dict[str, AnyArray], number: int, task: str = "shard-1") -> Result:
    """An offer of a block that has the right form, and an id of its own."""
    block = BlockSpec(hashlib.sha256(b"%d" % number).hexdigest(), block_of(values).arrays)
    return Result(RUN, task, 1, block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)


def id_of(name: str) -> bytes:
    return name.encode().ljust(16, b"\0")


class AttackedCluster:
    """A real cluster with one open run, and links to it whose clients the test speaks for.

    Args:
        holder: the client that has every task; the owner of each otherwise.
    """

    def __init__(self, folder: Path, tasks: int = 2, weights: Sequence[ArraySpec] = WEIGHTS, holder: str = "") -> None:
        place = Workspace(folder)
        ledger = Ledger(place.run_folder(RUN))
        ledger.open_run(record(weights=weights))
        ledger.add_tasks([OwnedTask(f"shard-{number}", f"lab-{number}") for number in range(1, tasks + 1)])
        for number in range(1, tasks + 1):
            name = holder or f"lab-{number}"
            ledger.remember(name, id_of(name))
            ledger.lease(f"shard-{number}", 1, name)
        self.store = ResultStore(place, b"s" * 16)
        self.run = OpenRun(place, RUN, ledger, record(weights=weights))
        self.store.open(self.run)
        self.store.disk_usage = lambda path: (100 << 30, 0, 50 << 30)
        self.cluster = LanCluster(self.store)
        self.cluster.later_seconds = 0.0
        self.messages: list[str] = []
        self.cluster.log = self.messages.append

    def close(self) -> None:
        self.store.close()

    @contextlib.asynccontextmanager
    async def client(self, name: str, **join: Any) -> AsyncIterator[Link]:
        """A client that joined, and was welcomed."""
        client, server = memory_links()
        serving = asyncio.create_task(self.cluster._serve(server, id_of(name), "10.0.0.9"))
        output: dict[str, Any] = {"version": "0", "backend": "tensorflow", "device": "cpu", "threads": 1}
        await client.send(Join(name=name, **{**output, "free_memory": 0, **join}))
        assert isinstance(await client.receive(), Welcome)
        assert isinstance(await client.receive(), Status)
        try:
            yield client
        finally:
            await client.close("gone")
            await serving
