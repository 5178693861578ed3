"""A client without room for its shard is named before anything is sent to it, and nothing of the run is left."""

from __future__ import annotations

import asyncio
import contextlib
import os
from pathlib import Path

import pytest
from error_cases import assert_reported
from running import PASSPHRASE, Place, flags, free_port, port_of

from lanfit.errors import ConnectionFailed
from lanfit.wire.messages import Join, Lease
from lanfit_client.connect import connect

pytestmark = pytest.mark.story


@pytest.mark.parametrize(
    ("free", "code", "causes"),
    [
        (500_000, "client.no-room-for-rows", ["small has 500.0 kB of free memory", "its shard of 1,437 rows"]),
        (
            100_000,
            "client.no-room-for-model",
            ["small has 100.0 kB of free memory", "the model takes 383.1 kB"],
        ),
    ],
)
def test_a_shard_or_model_that_will_not_fit_is_named(tmp_path: Path, free: int, code: str, causes: list[str]) -> None:
    place = Place(tmp_path / "server")
    before = place.files()
    with place.server(*flags(free_port(), 1)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")

        async def join() -> None:
            link, _ = await connect("127.0.0.1", port, os.urandom(16), PASSPHRASE)
            await link.send(Join("small", "0", "tensorflow", "cpu", 1, free))
            with contextlib.suppress(ConnectionFailed):
                while True:
                    assert not isinstance(await link.receive(), Lease)

        asyncio.run(join())
        server.finish(2)
    assert_reported(code, server.output)
    for cause in causes:
        assert cause in server.output
    assert place.files() == before
