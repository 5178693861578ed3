"""Starting where somebody is always missing: Enter begins without them, and what is written down repeats it."""

from __future__ import annotations

import tomllib

from running import Program, assert_same_weights, each_model, free_port
from small_workspace import SmallWorkspace


def test_enter_begins_with_those_who_came_and_the_job_of_the_run_repeats_it(small_workspace: SmallWorkspace) -> None:
    arguments = (
        "--model",
        "classes.h5",
        "--batch-size",
        2,
        "--epochs",
        1,
        "--clients",
        3,
        "--local",
        1,
        "--threads",
        1,
    )
    with small_workspace.server(
        *arguments, "--host", "127.0.0.1", "--port", free_port(), "--yes", terminal=True
    ) as server:
        server.expect(r"Press\s+Enter")
        server.type("")
        server.finish()
        assert "Starting with 1 of 3 clients: local-1." in server.output
    assert b"It started with 1 of 3 clients." in server.stdout
    summary = small_workspace.summary()
    assert (summary["clients_wanted"], len(summary["clients"])) == (3, 1)
    run = summary["run"]
    job = tomllib.loads((small_workspace.root / "logs" / run / "job.toml").read_text())
    assert job["clients"] == 1
    assert summary["data"]["samples"] == 12, "all rows are dealt to the one that came"
    again = small_workspace.root / "again.toml"
    again.write_text((small_workspace.root / "logs" / run / "job.toml").read_text())
    with Program("simulate", again, folder=small_workspace.root) as simulation:
        simulation.finish()
    repeated = small_workspace.summary()
    assert repeated["run"] != run
    assert repeated["clients_wanted"] is None
    [ours], [theirs] = each_model(small_workspace, run), each_model(small_workspace, repeated["run"])
    assert_same_weights(ours, theirs)
