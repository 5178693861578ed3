"""The way in: who this server is, where it listens, which passphrase lets clients in, and the line to run on them."""

from __future__ import annotations

from lanfit.job import Job
from lanfit.loop import LoopThread
from lanfit.net.addresses import lan_address
from lanfit.net.listen import Listener
from lanfit.net.tls import Identity, format_fingerprint
from lanfit.passphrase import given_passphrase
from lanfit.terminal import Terminal
from lanfit.waits import Waits
from lanfit.wire.auth import stretch
from lanfit_server.clusters.lan import LanCluster
from lanfit_server.collect import Desk
from lanfit_server.gate import GateKeeper
from lanfit_server.opening import Options
from lanfit_server.passphrase import make_passphrase
from lanfit_server.questions import Answers
from lanfit_server.state import KeptPassphrase


class Entrance:
    """A server's identity, port and gate, and the cluster of those who came in."""

    def __init__(
        self, options: Options, answers: Answers, terminal: Terminal, loop: LoopThread, waits: Waits, host: str
    ) -> None:
        self._options = options
        self._answers = answers
        self._terminal = terminal
        self._loop = loop
        self._waits = waits
        self._host = host
        state = options.workspace.server_state
        self.identity = Identity.load_or_create(state)
        self._gate_file = state / "gate.json"
        self._gate = GateKeeper(self._gate_file)
        self._kept = KeptPassphrase(state)
        self.desk = Desk(options.workspace, self.identity.server_id)
        self.cluster = LanCluster(self.desk)

    @property
    def port(self) -> int:
        return self._listener.port

    @property
    def fingerprint(self) -> str:
        return format_fingerprint(self.identity.fingerprint)

    def open(self) -> None:
        """Question 2: listen at once, and print the line to run on a client."""
        self._answers.ask("port", check=lambda port: self._listen(int(str(port))))
        shown = lan_address() if self._host in ("0.0.0.0", "::", "") else self._host
        in_a_clone = (self._options.workspace.root / "client" / "__main__.py").is_file()
        program = "python client" if in_a_clone else "lanfit client"
        address = f"[{shown}]:{self.port}" if ":" in shown else f"{shown}:{self.port}"
        self._terminal.say(f"Listening on {self._host}, port {self.port}. On each client run:")
        self._terminal.say(f"\n    {program} {address} --fingerprint {self.fingerprint}\n")

    def _listen(self, port: int) -> None:
        opening = self.cluster.open(self._host, port, self.identity, self._gate, self._waits)
        self._listener: Listener = self._loop.call(opening)

    def close(self) -> None:
        self._loop.call(self._close())

    async def _close(self) -> None:
        await self.cluster.close()
        # In the loop's thread, as everything with the ledgers.
        self.desk.close()

    def unlock(self) -> str | None:
        """Question 6: from now on clients can log in. Returns the passphrase, None for the kept one."""
        kept = self._kept.load() if self.cluster.collecting else None
        passphrase = self._options.passphrase or self._answers.passphrase(
            self._options.passphrase_file, self._host, make_passphrase, keep=kept is not None
        )
        self._let_in(passphrase, kept)
        return passphrase

    def unlock_again(self, job: Job) -> str | None:
        """Let a run's clients in by the passphrase that they know; returns it where it is known."""
        kept = None if job.local else self._kept.load()
        passphrase = self._options.passphrase or given_passphrase(self._options.passphrase_file)
        if job.local == job.clients and passphrase is None:
            passphrase = make_passphrase()  # nobody else needs to know it
        if passphrase is None and kept is None:
            passphrase = self._answers.passphrase(None, self._host, make_passphrase, keep=False)
        self._let_in(passphrase, kept)
        self.keep_passphrase()
        return passphrase

    def _let_in(self, passphrase: str | None, kept: bytes | None) -> None:
        stretched = kept if passphrase is None else stretch(passphrase, self.identity.salt)
        assert stretched is not None  # without a kept one a passphrase is made or asked for
        self._gate.stretched = self._stretched = stretched

    def keep_passphrase(self) -> None:
        """Keep the stretched passphrase, for a server that goes on with the run."""
        self._kept.keep(self._stretched)

    def forget_passphrase(self) -> None:
        """Forget it, unless a run is unfinished."""
        if not self.desk.unfinished():
            self._kept.forget()

    def notes(self) -> list[str]:
        """What stands below the live table."""
        bans = self._gate.bans()
        if not bans:
            return []
        listed = ", ".join(f"{ban.address} for {ban.seconds:.0f} s" for ban in bans)
        return [f"refused after wrong passphrases: {listed} (in {self._gate_file}; delete it to let them try again)"]
