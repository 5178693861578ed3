"""Runs on clients that are simulated on this machine: no port, no passphrase, nobody to wait for. Asks nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lanfit.data.memory import free_memory
from lanfit.lock import scratch_folder
from lanfit.loop import LoopThread
from lanfit.mistakes import mistake
from lanfit.models.custom import AllowedFile
from lanfit.models.runtime import check_backend, default_backend
from lanfit.text import pluralize
from lanfit.wire.messages import Runtime
from lanfit.workspace import Workspace
from lanfit_server import resuming
from lanfit_server.clusters.pool import TrainerPool
from lanfit_server.clusters.simulated import SimulatedCluster
from lanfit_server.collect import Desk, OpenRun

#: Stands in job.toml above a job whose clients were simulated.
REMARK = """\
# The clients of this run were simulated. Again, with the same bits, whatever --pool: lanfit simulate job.toml
# On real clients, which give the same models with as many threads: lanfit server --job job.toml
"""


class Simulation:
    """A `lanfit_server.runner.Ground`: simulated clients and the trainers that they share. Close it.

    Args:
        clients: how many.
        pool: how many trainers; None for as many as this machine has cores.
        threads: of each trainer; None for the cores divided by the trainers.
        backend: what trains; None for what is installed.
        say: called with lines for the operator.
    """

    def __init__(
        self,
        workspace: Workspace,
        loop: LoopThread,
        clients: int,
        pool: int | None = None,
        threads: int | None = None,
        backend: str | None = None,
        device: str = "auto",
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.clients = clients
        self.pool, self.threads = sizes(pool, threads)
        self.server_id = resuming.SIMULATED
        self.desk = Desk(workspace, self.server_id)
        self._loop = loop
        self._say = say
        self._runtime = Runtime(backend or default_backend(), device, self.threads)
        check_backend(self._runtime.backend)
        self._closing = contextlib.ExitStack()
        scratch = scratch_folder(workspace.server_state / "simulated")
        self._closing.callback(scratch.remove)
        # More trainers than clients would have nothing to do.
        self._trainers = TrainerPool(self._runtime, min(self.pool, clients))
        self.cluster = SimulatedCluster(self.desk, self._trainers, scratch.folder)
        self.cluster.say = say
        self._trainers.on_ready = lambda ready: say(f"The first trainer is ready: {ready}.")
        self._trainers.on_death = say
        self._trainers.on_unusable = self.cluster.unusable

    def open(self) -> None:
        """Let the clients join, and start their trainers.

        Raises:
            InputError: the backend is not installed.
        """
        trainers = min(self.pool, self.clients)
        share = f"{pluralize(trainers, 'trainer')} of {pluralize(self.threads, 'thread')}"
        who = (
            "1 client is simulated; it has"
            if self.clients == 1
            else f"{self.clients} clients are simulated; they share"
        )
        self._say(f"{who} {share}.")
        self._loop.call(self._open())

    async def _open(self) -> None:
        self.cluster.join(self.clients, self._runtime, free_memory() // min(self.pool, self.clients))
        await self._trainers.start()

    def take_up(self, run_id: str) -> OpenRun:
        """Open a run that an earlier simulation left behind; before `open`.

        Raises:
            InputError: its clients were not simulated.
        """
        return self._loop.call(self._take_up(run_id))

    async def _take_up(self, run_id: str) -> OpenRun:
        run = self.desk.find(run_id)
        if run is None:
            raise mistake("resume.not-simulated", run=run_id)
        # Its clients went with it: nobody trains what they had.
        run.ledger.end_leases("lost")
        results = len(run.ledger.results())
        self._say(f"Going on with run {run_id}: {pluralize(results, 'result is', 'results are')} on disk.")
        return run

    def close(self) -> None:
        """End the trainers."""
        with self._closing:
            self._loop.call(self._close())

    async def _close(self) -> None:
        await self.cluster.close()
        # In the loop's thread, as everything with the ledgers.
        self.desk.close()

    # --- what only real clients need ----------------------------------------------------------------------------

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        """Let the trainers execute these files."""
        for file in files:
            self.cluster.allowed.add(Path(file.path))

    def keep_passphrase(self, run: str) -> None:
        pass

    def forget_passphrase(self, run: str) -> None:
        pass

    def notes(self) -> list[str]:
        return []


def sizes(pool: int | None, threads: int | None) -> tuple[int, int]:
    """How many trainers there are, and threads of each. Results depend on the threads, never on the trainers."""
    cores = os.cpu_count() or 1
    return pool or cores, threads or max(1, cores // (pool or cores))
