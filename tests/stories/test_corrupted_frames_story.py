"""Row of the fault table: garbage and huge lengths are cut at once; memory does not grow; an honest run goes on.

How much later that ends is measured by bench/hostile.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from invalid_frames import pour
from running import fake_client, flags, free_port, port_of
from small_workspace import SmallWorkspace

pytestmark = pytest.mark.story
MIB = 1024 * 1024


def test_a_flood_of_broken_frames_costs_no_memory_and_an_honest_run_beside_it_ends(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    with small_workspace.server(*flags(free_port(), 1, model="classes.h5", batch_size=2)) as server:
        port = port_of(server)
        server.expect("Waiting for 1 more")
        process = psutil.Process(server.process.pid)
        assert asyncio.run(pour(port, 20, 100)) == 20  # so that what is allocated once is there
        before, descriptors = process.memory_info().rss, process.num_fds()
        assert asyncio.run(pour(port, 1000, 100, seed=1)) == 1000
        assert process.memory_info().rss - before < 50 * MIB
        assert process.num_fds() <= descriptors + 8, "connections that were cut are still held"
        with fake_client(tmp_path / "a", port, "honest") as honest:
            asyncio.run(pour(port, 50, 100, seed=2))
            server.finish()
            honest.finish()
    assert small_workspace.summary()["status"] == "done"
    assert "Traceback" not in server.output
