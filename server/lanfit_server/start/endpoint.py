"""The endpoint: the server's identity, its address, and the passphrase for its clients. Asks nothing.

It outlives runs: clients that joined for one are there for the next.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from lanfit.core.workspace import Workspace
from lanfit.errors import LanfitError, lanfit_error
from lanfit.models.custom_files import AllowedFile
from lanfit.net.addresses import with_port
from lanfit.net.tls import format_fingerprint
from lanfit.settings.timeouts import Timeouts
from lanfit.wire.auth import stretch
from lanfit_server.clusters.events import ClientUnavailable
from lanfit_server.clusters.gate import Ban, GateShell
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.clusters.listen import Listener
from lanfit_server.clusters.local import LocalClients, own_address
from lanfit_server.run.resume import is_simulated, unfinished
from lanfit_server.start.identity import load_identity
from lanfit_server.start.state import StoredPassphrase
from lanfit_server.store.result_store import FINISHED, OpenRun, ResultStore


class Endpoint:
    """A server's identity, port and gate, and the cluster of its clients. Close it.

    Args:
        host: the address or name to listen on.
        log: called with lines for the operator.
    """

    def __init__(self, workspace: Workspace, timeouts: Timeouts, host: str, log: Callable[[str], None]) -> None:
        self.host = host
        self._workspace = workspace
        self._log = log
        self._timeouts = timeouts
        state = workspace.server_state
        self._identity, self.note = load_identity(state, lambda: _has_unfinished_run(workspace))
        self._gate_file = state / "gate.json"
        self._gate = GateShell(self._gate_file)
        self._stored = StoredPassphrase(state)
        self._local: LocalClients | None = None
        self._stretched: bytes | None = None
        """The passphrase; None until clients are admitted."""
        self.store = ResultStore(workspace, self._identity.server_id)
        self.cluster = LanCluster(self.store, log)

    @property
    def server_id(self) -> bytes:
        return self._identity.server_id

    @property
    def admits(self) -> bool:
        """Whether there is a passphrase, so that clients are admitted."""
        return self._stretched is not None

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def addresses(self) -> list[str]:
        """The addresses that it listens on; "0.0.0.0" and "::" are all addresses of a family."""
        return self._listener.addresses

    @property
    def fingerprint(self) -> str:
        return format_fingerprint(self._identity.fingerprint)

    @property
    def certificate(self) -> Path:
        """The file with the key and the certificate."""
        return self._identity.path

    def bans(self) -> Sequence[Ban]:
        """Return the addresses that are banned now, the longest first."""
        return self._gate.bans()

    def lift_ban(self, address: str) -> bool:
        """Lift the ban of an address; return whether it had guessed wrong."""
        return self._gate.lift(address)

    async def listen(self, port: int) -> None:
        """Listen; clients are admitted as soon as there is a passphrase.

        Raises:
            InputError: it is not possible to listen on the address or port.
        """
        self._listener: Listener = await self.cluster.open(self.host, port, self._identity, self._gate, self._timeouts)

    async def start_local(self, count: int, threads: int, *, once: bool = True) -> None:
        """Start clients on this machine; they are stopped with the endpoint.

        Args:
            threads: of each trainer.
            once: they exit with the run; otherwise they wait for the next one.
        """
        if self._local is not None:  # of an earlier run: their names are free again
            await self._local.stop()
        assert self._stretched is not None
        address = with_port(own_address(self.addresses), self.port)
        self._local = LocalClients(
            self._workspace,
            address,
            self._stretched,
            self.fingerprint,
            threads,
            once=once,
            on_trouble=lambda name, what: self._log(f"The local client {name}: {what}"),
            on_death=lambda name, why: self._log(f"The local client {name}: {why}"),
            on_giving_up=lambda name, wrong: self.cluster.events.put_nowait(ClientUnavailable(name, wrong)),
        )
        await self._local.start(count)

    async def take_up(self, run_id: str) -> OpenRun:
        """Open a run of an earlier server, whose clients are expected back; before `listen`.

        Raises:
            InputError: it does not belong to this server.
        """
        run = self.store.find(run_id)
        if run is None:
            if is_simulated(self._workspace, run_id):
                raise lanfit_error("resume.simulated", run=run_id)
            raise lanfit_error("resume.other-server", run=run_id)
        for name, client_id in run.ledger.clients().items():
            self.cluster.roster.restore(name, client_id, time.monotonic())
        return run

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        """Let the clients that were started here execute these files, because they belong to this operator."""
        if self._local is not None:
            for file in files:
                self._local.allow(Path(file.path))

    async def close(self) -> None:
        """Stop local clients, disconnect all others."""
        if self._local is not None:
            await self._local.stop()
        await self.cluster.close()
        self.store.close()

    # --- the passphrase -----------------------------------------------------------------------------------------

    def kept_passphrase(self, run: str) -> bytes | None:
        """Return the stretched passphrase of a run, if it is saved."""
        return self._stored.load(run)

    def kept_runs(self) -> list[str]:
        """Return the runs with a saved one: unfinished, or interrupted."""
        return self._stored.runs()

    def kept_passphrases(self, runs: Sequence[str]) -> dict[str, bytes]:
        """Return those of several runs that are saved."""
        found = {run: self._stored.load(run) for run in runs}
        return {run: stretched for run, stretched in found.items() if stretched is not None}

    def lost_passphrase(self, run: str) -> bool:
        """Return whether there was one that the disk has corrupted."""
        return self._stored.is_damaged(run)

    def let_in(self, passphrase: str | None, stored: bytes | None = None) -> None:
        """Admit clients from now on: with this passphrase, or with the saved one."""
        stretched = stored if passphrase is None else stretch(passphrase, self._identity.salt)
        assert stretched is not None  # without a saved one, a passphrase is generated or asked for
        self._gate.stretched = self._stretched = stretched

    def keep_passphrase(self, run: str) -> None:
        """Save the stretched passphrase, for a server that resumes the run."""
        assert self._stretched is not None  # the clients of the run were admitted
        self._stored.keep(run, self._stretched)

    def forget_passphrase(self, run: str) -> None:
        """Forget the passphrase of a run that is not resumed; in the loop's thread."""
        self._stored.forget(run)
        if not self.store.unfinished():
            self._stored.forget_of_all()

    def forget_passphrases(self) -> None:
        """Forget those of all runs that are over or removed; in the loop's thread."""
        for run in self._stored.runs():
            found = self.store.find(run)
            gone = found is None and not self._workspace.run_folder(run).exists()
            if gone or (found is not None and found.ledger.status in FINISHED):
                self._stored.forget(run)
        if not self.store.unfinished():
            self._stored.forget_of_all()

    def notes(self) -> list[str]:
        """Return the notes below the live table."""
        bans = self._gate.bans()
        if not bans:
            return []
        listed = ", ".join(f"{ban.address} for {ban.seconds:.0f} s" for ban in bans)
        return [f"refused after wrong passphrases: {listed} (in {self._gate_file}; delete it to let them try again)"]


def _has_unfinished_run(workspace: Workspace) -> bool:
    try:
        return unfinished(workspace) is not None
    except (LanfitError, sqlite3.DatabaseError, msgspec.DecodeError):  # a damaged ledger: its content is unknown
        return True
