"""A client that joins is told what it is waiting for at that moment."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

from fakes.results import record
from memory_links import memory_links

from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.wire.messages import Join, Status, Welcome
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.run.wait_for_clients import ClientWait
from lanfit_server.store.result_store import ResultStore
from lanfit_server.ui.display import Display


async def first_message(cluster: LanCluster, name: str) -> str:
    """What a client is told that joins now, and goes."""
    client, server = memory_links()
    serving = asyncio.create_task(cluster._serve(server, name.encode().ljust(16, b"0"), "127.0.0.1"))
    await client.send(Join(name, "0", "tensorflow", "cpu", 1, 0))
    assert isinstance(await client.receive(), Welcome)
    status = await client.receive()
    assert isinstance(status, Status)
    await client.close("gone")
    await serving
    return status.text


def test_the_operator_is_answering_questions_only_until_clients_are_waited_for(tmp_path: Path) -> None:
    async def run_script() -> tuple[str, str]:
        cluster = LanCluster(ResultStore(Workspace(tmp_path), record("run-1").server_id))
        before = await first_message(cluster, "early")
        display = Display(Terminal(io.StringIO(), io.StringIO()))
        collecting = asyncio.create_task(ClientWait(cluster, display).wait(2))
        await asyncio.sleep(0)
        later = await first_message(cluster, "late")
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        return before, later

    before, later = asyncio.run(run_script())
    assert before == "the operator is still answering questions"
    assert later.startswith("training starts when 2 clients are here")
