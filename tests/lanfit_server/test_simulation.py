"""What a simulation has in its workspace, beside what a server has there."""

from __future__ import annotations

from pathlib import Path

from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.workspace import Workspace
from lanfit_server.simulation import Simulation


def test_a_server_that_starts_in_its_workspace_leaves_a_simulation_its_files(tmp_path: Path) -> None:
    place = Workspace(tmp_path)
    with LoopThread() as loop:
        simulation = Simulation(place, loop, clients=2, backend="jax")
        try:
            held = [path for path in place.server_state.rglob("lock") if path.is_file()]
            assert held
            # As every server does first; what dead processes have left is removed.
            scratch_folder(place.server_state / "scratch").remove()
            assert all(path.is_file() for path in held)
        finally:
            simulation.close()
    assert not any(path.exists() for path in held)
