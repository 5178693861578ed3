"""A whole building comes back at once: its server was started again, and nobody is asked for anything.

How long that takes is measured by bench/return.py.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from many_agents import come_back
from small_workspace import TINY_JOB, SmallWorkspace

pytestmark = pytest.mark.story


def test_a_hundred_clients_come_back_by_themselves_when_their_server_is_started_again(
    small_workspace: SmallWorkspace, tmp_path: Path
) -> None:
    job = {key: value for key, value in TINY_JOB.items() if key != "clients"}
    _, output = asyncio.run(come_back(small_workspace, tmp_path, 100, **job))
    # Of a wrong one, or of too many; a server that is being set up says that it has none yet, and they come again.
    assert not [line for line in output if "wrong passphrase" in line]
