"""A false server that knows the passphrase and has taken the public id of another one: it gets no result of that one.

A real agent joins it over loopback TLS; its trainer is never started.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest
from scripted_server import ScriptedServer, scripted_server

from lanfit.core.workspace import Workspace
from lanfit.net.link import Link
from lanfit.net.tls import Identity, format_fingerprint
from lanfit.transfer.blocks import ArrayFile
from lanfit.wire.messages import Ack, AnyMessage, Commit, Fetch, Later, Offer, Reject, Result, RunEnded, Status, Welcome
from lanfit_client.connect import ServerIdentity
from lanfit_client.store.known_servers import KnownServers
from lanfit_client.store.outbox import Entry, Outbox
from lanfit_client.store.state import ClientState

OTHER = b"o" * 32


def waiting(folder: Path, fingerprint: bytes | None) -> tuple[Identity, str]:
    """The identity of the server, and the block of a result that waits for its id; None: for its certificate, too."""
    identity = Identity.load_or_create(folder / "server")
    state = ClientState.take(Workspace(folder))
    outbox = Outbox(state.outbox)
    file = ArrayFile.write(outbox.new_block("shard-1"), {"w": np.ones(3)})
    result = Result("run-0", "shard-1", 1, file.block, ("loss",), 0, {}, {}, "tensorflow", "cpu", 1)
    outbox.add(
        outbox.new_block("shard-1"),
        Entry(identity.server_id, result, identity.fingerprint if fingerprint is None else fingerprint),
    )
    state.lock.release()
    return identity, file.block.id


async def welcomed(scripted: ScriptedServer) -> Link:
    link = await scripted.links.get()
    await link.receive()
    await link.send(Welcome("0", "lab", False))
    return link


async def messages_until_quiet(link: Link) -> list[AnyMessage]:
    """What the client sends until it answers to the end of a run by going."""
    await link.send(Status("nothing"))
    await link.send(RunEnded("run-0", "done", "it is over"))
    return await until_the_end(link)


async def until_the_end(link: Link) -> list[AnyMessage]:
    """What the client sends until the link ends."""
    received: list[AnyMessage] = []
    while not link.closed.is_set():
        try:
            received.append(await link.receive())
        except Exception:  # noqa: BLE001 - the link has ended, however
            break
    return received


def test_a_server_with_anothers_id_is_offered_nothing_and_deletes_nothing(tmp_path: Path) -> None:
    output: list[str] = []

    async def run_script() -> None:
        identity, block = waiting(tmp_path, OTHER)
        async with scripted_server(tmp_path, output, warm=False) as (scripted, agent, running):
            agent.sleep = lambda seconds: asyncio.sleep(0)
            link = await welcomed(scripted)
            for message in (Ack(block), Reject(block, "forget it"), Later(block, 0.0, "later"), Fetch(block, 7)):
                await link.send(message)
            before = await until_the_end(link)
            received = before + await messages_until_quiet(await welcomed(scripted))
            await running
            assert not [message for message in received if isinstance(message, Offer | Commit)]
            assert len(agent.worker.outbox) == 1
            assert agent.worker.outbox.block(block).exists()
        assert any("a block that it was not offered" in line for line in output), "that ended the first link"
        [line] = [line for line in output if "another certificate: kept here" in line]
        assert line == (
            "1 finished result for a server with this id but another certificate: kept here, as any server can claim "
            "an id. If it is the same server with a new key, restart this client with --fingerprint "
            f"{format_fingerprint(identity.fingerprint)}."
        )

    asyncio.run(run_script())


@pytest.mark.parametrize("named", [False, True])
def test_the_server_that_it_is_for_gets_it_and_so_does_one_that_the_user_names(tmp_path: Path, named: bool) -> None:
    async def run_script() -> None:
        identity, block = waiting(tmp_path, OTHER if named else None)
        async with scripted_server(tmp_path, [], warm=False) as (scripted, agent, running):
            if named:
                agent.trust(identity.fingerprint)
            link = await welcomed(scripted)
            while not isinstance(message := await link.receive(), Offer):
                pass
            assert message.result.block.id == block
            await link.send(Ack(block))
            await messages_until_quiet(link)
            await running
            assert len(agent.worker.outbox) == 0

    asyncio.run(run_script())


@pytest.mark.parametrize("remembered", [False, True])
def test_a_result_of_an_earlier_version_is_for_the_certificate_that_is_remembered(
    tmp_path: Path, remembered: bool
) -> None:
    async def run_script() -> None:
        identity, _ = waiting(tmp_path, b"")
        state = ClientState.take(Workspace(tmp_path))
        state.lock.release()
        known = KnownServers(state.known_servers)
        fingerprint = identity.fingerprint if remembered else OTHER
        known.remember("lab.example:8470", ServerIdentity(identity.server_id, fingerprint))
        async with scripted_server(tmp_path, [], warm=False) as (scripted, _agent, running):
            link = await welcomed(scripted)
            received = await messages_until_quiet(link)
            await running
            assert bool([message for message in received if isinstance(message, Offer)]) == remembered

    asyncio.run(run_script())
