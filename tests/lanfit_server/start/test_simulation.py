"""What a simulation has in its workspace, beside what a server has there."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lanfit.core.lock import scratch_folder
from lanfit.core.workspace import Workspace
from lanfit_server.start.simulation import Simulation


def test_a_server_that_starts_in_its_workspace_leaves_a_simulation_its_files(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    simulation = Simulation(place, clients=2, backend="jax")
    try:
        held = [path for path in place.server_state.rglob("lock") if path.is_file()]
        assert held
        # As every server does first; what dead processes have left is removed.
        scratch_folder(place.server_state / "scratch").remove()
        assert all(path.is_file() for path in held)
    finally:
        asyncio.run(simulation.close())
    assert not any(path.exists() for path in held)
