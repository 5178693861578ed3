"""Runs on simulated clients on this machine: no port, no passphrase, no waiting. Asks nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from lanfit.backends import check_backend, default_backend
from lanfit.core.lock import scratch_folder
from lanfit.core.memory import free_memory
from lanfit.core.text import pluralize
from lanfit.core.workspace import Workspace
from lanfit.errors import lanfit_error
from lanfit.models.custom_files import AllowedFile
from lanfit.wire.messages import Runtime
from lanfit_server.clusters.pool import TrainerPool
from lanfit_server.clusters.simulated import SimulatedCluster
from lanfit_server.run import resume as resuming
from lanfit_server.store.result_store import OpenRun, ResultStore

#: The comment above a job with simulated clients in job.toml.
REMARK = """\
# The clients of this run were simulated. To repeat it bit for bit, with any --pool: lanfit simulate job.toml
# On real clients, which produce the same models with the same number of threads: lanfit server --job job.toml
"""


class Simulation:
    """A `lanfit_server.run.runner.RunHost`: simulated clients and the trainers that they share. Close it.

    Args:
        clients: their number.
        pool: the number of trainers; None for the number of cores.
        threads: of each trainer; None for the cores divided by the trainers.
        backend: of the trainers; None for the one that is installed.
        log: called with lines for the operator.
    """

    def __init__(
        self,
        workspace: Workspace,
        clients: int,
        pool: int | None = None,
        threads: int | None = None,
        backend: str | None = None,
        device: str = "auto",
        log: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.clients = clients
        self.pool, self.threads = sizes(pool, threads)
        self.server_id = resuming.SIMULATED
        self.store = ResultStore(workspace, self.server_id)
        self._log = log
        self._runtime = Runtime(backend or default_backend(), device, self.threads)
        check_backend(self._runtime.backend)
        self._closing = contextlib.ExitStack()
        scratch = scratch_folder(workspace.server_state / "simulated")
        self._closing.callback(scratch.remove)
        # More trainers than clients would be idle.
        self._trainers = TrainerPool(
            self._runtime,
            min(self.pool, clients),
            on_ready=lambda ready: log(f"The first trainer is ready: {ready}."),
            on_death=log,
            on_unusable=lambda error: self.cluster.unusable(error),
        )
        self.cluster = SimulatedCluster(self.store, self._trainers, scratch.folder, log)

    async def open(self) -> None:
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
        self._log(f"{who} {share}.")
        self.cluster.join(self.clients, self._runtime, free_memory() // min(self.pool, self.clients))
        await self._trainers.start()

    async def take_up(self, run_id: str) -> OpenRun:
        """Open a run of an earlier simulation; before `open`.

        Raises:
            InputError: its clients were not simulated.
        """
        run = self.store.find(run_id)
        if run is None:
            raise lanfit_error("resume.not-simulated", run=run_id)
        # Its clients have ended with it: their tasks are not trained.
        run.ledger.end_leases("lost")
        results = len(run.ledger.results())
        self._log(f"Resuming run {run_id}: {pluralize(results, 'result is', 'results are')} on disk.")
        return run

    async def close(self) -> None:
        """Stop the trainers."""
        with self._closing:
            await self.cluster.close()
            self.store.close()

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
    """Return the number of trainers, and of threads of each. Results depend on the threads, never on the trainers."""
    cores = os.cpu_count() or 1
    return pool or cores, threads or max(1, cores // (pool or cores))
