"""A server that has no descriptor left: what it can't open it puts off, in words, and takes in when there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from peer import AttackedCluster, arrays, result, run_script

from lanfit.wire.arrays import buffers
from lanfit.wire.messages import Ack, Commit, Fetch, Later, Offer

resource = pytest.importorskip("resource", reason="this system has no such limit")


def test_a_server_without_a_descriptor_puts_results_off_and_takes_them_when_it_has_one(tmp_path: Path) -> None:
    async def go() -> None:
        attacked = AttackedCluster(tmp_path)
        values = arrays()
        async with attacked.client("lab-1") as client:
            soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
            free = os.dup(0)
            os.close(free)  # the next one: there is none from here on
            resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))
            try:
                await client.send(Offer(result(values)))
                later = await client.receive()
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert isinstance(later, Later)
            assert "Too many open files" in later.reason
            assert any("Too many open files" in line for line in attacked.messages)
            await client.send(Offer(result(values)))
            fetch = await client.receive()
            assert isinstance(fetch, Fetch)
            await client.send_block(fetch, buffers(values))
            await client.send(Commit(fetch.block))
            assert isinstance(await client.receive(), Ack)
        attacked.close()

    run_script(go())
