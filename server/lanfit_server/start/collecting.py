"""Question 3 answered with n: train nothing, and collect results that clients still hold for runs of this server."""

from __future__ import annotations

from lanfit.core.text import pluralize
from lanfit.wire.messages import RunEnded
from lanfit_server.clusters.base import next_event
from lanfit_server.clusters.events import ClientJoined, ClientLeft, ResultCommitted, TaskFailed
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.run.wait_for_clients import differing_versions
from lanfit_server.store.result_store import ResultStore
from lanfit_server.ui.display import Display

REMIND_SECONDS = 30.0


class Collector:
    """Waits for deliveries.

    Args:
        wanted: end when this many clients have delivered; 0: when no unfinished run lacks a result, or never if there
            is none.
    """

    def __init__(self, cluster: LanCluster, store: ResultStore, display: Display, wanted: int) -> None:
        self._cluster = cluster
        self._store = store
        self._display = display
        self._wanted = wanted
        self._missing = {
            (run.run, task.key)
            for run in store.unfinished()
            for task in run.ledger.tasks()
            if run.ledger.result(task.key) is None and not run.ledger.is_over(task.key)
        }
        self._may_end = bool(self._missing) or wanted > 0
        self.delivered: set[str] = set()
        self.runs: list[str] = []

    def waiting_for(self) -> str:
        """Return the missing results, as a sentence."""
        if self._wanted:
            return f"{len(self.delivered)} of {pluralize(self._wanted, 'client has', 'clients have')} delivered."
        if self._missing:
            return f"{pluralize(len(self._missing), 'result is', 'results are')} still missing."
        return "No run is unfinished; all results are accepted. Press Ctrl-C to stop."

    @property
    def _is_done(self) -> bool:
        if not self._may_end:
            return False
        return len(self.delivered) >= self._wanted if self._wanted else not self._missing

    async def end(self) -> None:
        """Notify the clients that collecting is over."""
        await self._cluster.end_all(RunEnded("", "done", "the server has collected the results"))

    async def run(self) -> None:
        """Return when everything has arrived."""
        self._display.log(f"Collecting: {self.waiting_for()}")
        while not self._is_done:
            match await next_event(self._cluster, REMIND_SECONDS):
                case None:
                    self._display.log(f"Still collecting: {self.waiting_for()}")
                case ClientJoined(client):
                    versions = differing_versions(self._cluster.roster[client])
                    self._display.log(" ".join([f"{client} has joined.", *versions]))
                case ClientLeft(client, reason, _):
                    self._display.log(f"{client} has left ({reason}).")
                case ResultCommitted(client, run, task, _):
                    self.delivered.add(client)
                    self._missing.discard((run, task))
                    if run not in self.runs:
                        self.runs.append(run)
                    self._display.log(f"{client} delivered {task} of run {run}. {self.waiting_for()}")
                case TaskFailed(client, run, task, error):
                    self._display.log(f"{client} could not deliver {task} of run {run}: {error}")
                case _:
                    pass
