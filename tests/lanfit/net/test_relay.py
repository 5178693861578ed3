"""A relay that ends TLS and passes the login on must fail; without the binding to the certificate it would not."""

import asyncio
import contextlib
import dataclasses
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lanfit.errors import RefusedError
from lanfit.net.tls import Identity, client_context, server_context
from lanfit_client import connect as connect_module
from lanfit_client.connect import connect

PASSPHRASE = "tiger lamp seven oceans"


@contextlib.asynccontextmanager
async def relay(port: int, to_client: ssl.SSLContext | None, to_server: ssl.SSLContext | None) -> AsyncIterator[int]:
    """Stand between client and server; with contexts, end TLS on both sides, so that everything can be read."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()

    async def on_client(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=to_server, server_hostname="" if to_server else None
        )
        for ends in ((reader, up_writer), (up_reader, writer)):
            tasks.add(asyncio.create_task(pump(*ends)))

    server = await asyncio.start_server(on_client, "127.0.0.1", 0, ssl=to_client)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def join_through_a_relay(server: Any, relays_identity: Identity) -> None:
    async with relay(server.port, server_context(relays_identity), client_context()) as port:
        link, _ = await connect("127.0.0.1", port, b"c" * 16, PASSPHRASE)
        await link.close()


def test_a_relay_that_ends_tls_and_passes_the_login_on_is_found_out(serve: Any, tmp_path: Path) -> None:
    async def test() -> None:
        async with serve() as server:
            with pytest.raises(RefusedError, match="wrong passphrase"):
                await join_through_a_relay(server, Identity.load_or_create(tmp_path / "relay"))
            assert server.gate.joins.empty()

    asyncio.run(asyncio.wait_for(test(), 60))


def test_the_same_relay_gets_through_when_the_certificate_is_left_out_of_the_binding(
    serve: Any, identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The negative control: it shows that the test above fails for the reason that it names.
    monkeypatch.setattr(connect_module, "fingerprint_of", lambda der: bytes(32))

    async def test() -> None:
        async with serve(dataclasses.replace(identity, fingerprint=bytes(32))) as server:
            await join_through_a_relay(server, Identity.load_or_create(tmp_path / "relay"))
            assert await server.gate.joins.get() == b"c" * 16

    asyncio.run(asyncio.wait_for(test(), 60))


def test_a_relay_that_only_passes_bytes_on_does_no_harm(serve: Any) -> None:
    async def test() -> None:
        async with serve() as server, relay(server.port, None, None) as port:
            link, _ = await connect("127.0.0.1", port, b"c" * 16, PASSPHRASE)
            await link.close()

    asyncio.run(asyncio.wait_for(test(), 60))
