"""The way in: who this server is, where it listens, and which passphrase lets clients in. Asks nothing.

It outlives runs: clients that came in for one are there for the next.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from lanfit.errors import LanfitError
from lanfit.loop import LoopThread
from lanfit.models.custom import AllowedFile
from lanfit.net.addresses import with_port
from lanfit.net.listen import Listener
from lanfit.net.tls import format_fingerprint
from lanfit.waits import Waits
from lanfit.wire.auth import stretch
from lanfit.workspace import Workspace
from lanfit_server.clusters import Hopeless
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.clusters.local import LocalClients, own_address
from lanfit_server.collect import FINISHED, Desk
from lanfit_server.gate import GateKeeper
from lanfit_server.identity import load_identity
from lanfit_server.resuming import unfinished
from lanfit_server.state import KeptPassphrase


class Entrance:
    """A server's identity, port and gate, and the cluster of those who came in. Close it.

    Args:
        host: the address or name to listen on.
    """

    def __init__(self, workspace: Workspace, loop: LoopThread, waits: Waits, host: str) -> None:
        self.host = host
        self._workspace = workspace
        self._loop = loop
        self._waits = waits
        state = workspace.server_state
        self._identity, self.note = load_identity(state, lambda: _has_unfinished_run(workspace))
        self._gate_file = state / "gate.json"
        self._gate = GateKeeper(self._gate_file)
        self._kept = KeptPassphrase(state)
        self._local: LocalClients | None = None
        self.desk = Desk(workspace, self._identity.server_id)
        self.cluster = LanCluster(self.desk)

    @property
    def server_id(self) -> bytes:
        return self._identity.server_id

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def addresses(self) -> list[str]:
        """Where it listens; "0.0.0.0" and "::" are all addresses of a family."""
        return self._listener.addresses

    @property
    def fingerprint(self) -> str:
        return format_fingerprint(self._identity.fingerprint)

    def listen(self, port: int) -> None:
        """Listen; clients are let in as soon as there is a passphrase.

        Raises:
            InputError: the address or port can't be listened on.
        """
        opening = self.cluster.open(self.host, port, self._identity, self._gate, self._waits)
        self._listener: Listener = self._loop.call(opening)

    def start_local(
        self, count: int, threads: int, passphrase: str, say: Callable[[str], None], *, once: bool = True
    ) -> None:
        """Start clients on this machine; they are ended with the entrance.

        Args:
            threads: of each one's trainer.
            once: they end with the run; otherwise they stay for the next one.
        """
        address = with_port(own_address(self.addresses), self.port)
        clients = LocalClients(self._workspace, address, passphrase, self.fingerprint, threads, once=once)
        clients.on_death = lambda name, why: say(f"The local client {name}: {why}")
        clients.on_trouble = lambda name, what: say(f"The local client {name}: {what}")
        clients.on_giving_up = lambda wrong, name: self.cluster.events.put_nowait(Hopeless(name, wrong))
        self._local = clients
        self._loop.call(clients.start(count))

    async def allow(self, files: Sequence[AllowedFile]) -> None:
        """Let the clients that were started here execute these files: they are this operator's own."""
        if self._local is not None:
            for file in files:
                self._local.allow(Path(file.path))

    def close(self) -> None:
        """End local clients, let go of all others."""
        if self._local is not None:
            self._loop.call(self._local.stop())
        self._loop.call(self._close())

    async def _close(self) -> None:
        await self.cluster.close()
        # In the loop's thread, as everything with the ledgers.
        self.desk.close()

    # --- the passphrase -----------------------------------------------------------------------------------------

    def kept_passphrase(self, run: str) -> bytes | None:
        """The stretched passphrase that a run was begun under, if it is kept."""
        return self._kept.load(run)

    def kept_runs(self) -> list[str]:
        """The runs that one is kept for: unfinished, or interrupted."""
        return self._kept.runs()

    def kept_passphrases(self, runs: Sequence[str]) -> dict[str, bytes]:
        """Those of several runs that are kept."""
        found = {run: self._kept.load(run) for run in runs}
        return {run: stretched for run, stretched in found.items() if stretched is not None}

    def lost_passphrase(self, run: str) -> bool:
        """Whether there was one that the disk has spoilt."""
        return self._kept.is_damaged(run)

    def let_in(self, passphrase: str | None, kept: bytes | None = None) -> None:
        """From now on clients can log in: with this passphrase; without one with the kept one."""
        stretched = kept if passphrase is None else stretch(passphrase, self._identity.salt)
        assert stretched is not None  # without a kept one a passphrase is made or asked for
        self._gate.stretched = self._stretched = stretched

    def keep_passphrase(self, run: str) -> None:
        """Keep the stretched passphrase, for a server that goes on with the run."""
        self._kept.keep(run, self._stretched)

    def forget_passphrase(self, run: str) -> None:
        """Forget that of a run which nobody goes on with; in the loop's thread."""
        self._kept.forget(run)
        if not self.desk.unfinished():
            self._kept.forget_of_all()

    def forget_passphrases(self) -> None:
        """Forget those of all runs that are over, or gone; in the loop's thread."""
        for run in self._kept.runs():
            found = self.desk.find(run)
            gone = found is None and not self._workspace.run_folder(run).exists()
            if gone or (found is not None and found.ledger.status in FINISHED):
                self._kept.forget(run)
        if not self.desk.unfinished():
            self._kept.forget_of_all()

    def notes(self) -> list[str]:
        """What stands below the live table."""
        bans = self._gate.bans()
        if not bans:
            return []
        listed = ", ".join(f"{ban.address} for {ban.seconds:.0f} s" for ban in bans)
        return [f"refused after wrong passphrases: {listed} (in {self._gate_file}; delete it to let them try again)"]


def _has_unfinished_run(workspace: Workspace) -> bool:
    try:
        return unfinished(workspace) is not None
    except (LanfitError, sqlite3.DatabaseError, msgspec.DecodeError):  # a damaged ledger: what it was can't be told
        return True
