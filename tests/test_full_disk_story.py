"""A disk that gets full while a run goes on: nothing is lost, it is said, and it goes on when there is room.

The limit of a process on the size of its files stands for the disk: the system refuses what would pass it, as a full
disk does. It is set and lifted while the process runs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import psutil
import pytest
from running import Place, Program, client, flags, free_port, port_of

pytestmark = [
    pytest.mark.story,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only there limits of a running process change"),
]


def limit(program: Program, size: int) -> None:
    psutil.Process(program.process.pid).rlimit(psutil.RLIMIT_FSIZE, (size, psutil.RLIM_INFINITY))


def test_a_server_without_room_puts_results_off_and_goes_on_when_there_is_some(tmp_path: Path) -> None:
    place = Place(tmp_path / "server")
    with (
        place.server(*flags(free_port(), 2, epochs=15), "--threads", 1) as server,
        client(tmp_path / "a", port_of(server), "lab-1") as first,
        client(tmp_path / "b", port_of(server), "lab-2") as second,
    ):
        server.expect("epoch 1/15")
        limit(server, 1)
        for worker in (first, second):
            worker.expect("The server can't take a result yet: the server's disk is full")
        server.expect(r"Results have to wait: the server's disk is full\. Make room")
        limit(server, psutil.RLIM_INFINITY)
        server.expect("There is room again")
        server.finish()
        for worker in (first, second):
            worker.finish()
    assert place.summary()["status"] == "done"
    assert server.said.count("Results have to wait") == 1
    assert not list(tmp_path.rglob("*.part"))
