"""Clients that a server starts on its own machine: where they join, and what is heard of them."""

import asyncio
import sys
from pathlib import Path

import pytest

from lanfit.core.child import CANT_JOIN
from lanfit.core.workspace import Workspace
from lanfit_server.clusters.local import LocalClients, own_address


@pytest.mark.parametrize(
    ("addresses", "joined"),
    [
        (["0.0.0.0", "::"], "127.0.0.1"),
        (["::"], "::1"),
        (["127.0.0.1"], "127.0.0.1"),
        (["10.99.0.1"], "10.99.0.1"),
        (["::1"], "::1"),
        (["fd00::1"], "fd00::1"),
        (["fe80::1%eth0"], "fe80::1%eth0"),
        (["10.99.0.1", "127.0.0.1"], "127.0.0.1"),
    ],
)
def test_they_join_at_an_address_that_listens(addresses: list[str], joined: str) -> None:
    assert own_address(addresses) == joined


@pytest.mark.skipif(sys.platform == "win32", reason="the client is a script of a shell")
def test_what_keeps_one_from_joining_is_shown_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "python"
    client.write_text(
        f'#!/bin/sh\necho "$4" >&2\necho "{CANT_JOIN}the port is wrong." >&2\nwhile read line; do :; done\n'
    )
    client.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(client))

    async def test() -> tuple[str, str]:
        received: asyncio.Queue[tuple[str, str]] = asyncio.Queue()
        clients = LocalClients(Workspace(tmp_path), "10.99.0.1:8470", b"s" * 32, "3c59", 1, once=True,
            on_trouble=lambda name, what: received.put_nowait((name, what)))  # fmt: skip
        await clients.start(1)
        try:
            return await asyncio.wait_for(received.get(), 60)  # while the client still runs
        finally:
            await clients.stop()

    assert asyncio.run(test()) == ("local-1", "the port is wrong.")
