"""Questions 2 and 6, about the way in: the port and the passphrase; and the line to run on the clients."""

from __future__ import annotations

from lanfit.job import Job
from lanfit.net.addresses import lan_address
from lanfit.passphrase import given_passphrase
from lanfit.terminal import Terminal
from lanfit.workspace import Workspace
from lanfit_server.entrance import Entrance
from lanfit_server.opening import Options
from lanfit_server.passphrase import make_passphrase
from lanfit_server.questions import Answers


class Admission:
    """Asks for what an entrance needs."""

    def __init__(self, entrance: Entrance, options: Options, answers: Answers, terminal: Terminal) -> None:
        self._entrance = entrance
        self._options = options
        self._answers = answers
        self._terminal = terminal

    def open(self) -> None:
        """Question 2: listen at once, and print the line to run on a client."""
        entrance = self._entrance
        self._answers.ask("port", check=lambda port: entrance.listen(int(str(port))))
        self._terminal.say(f"Listening on {entrance.host}, port {entrance.port}. On each client run:")
        self._terminal.say(f"\n    {join_line(entrance, self._options.workspace)}\n")

    def unlock(self) -> str | None:
        """Question 6: from now on clients can log in. Returns the passphrase, None for the kept one."""
        kept = self._entrance.kept_passphrase() if self._entrance.cluster.collecting else None
        passphrase = self._options.passphrase or self._answers.passphrase(
            self._options.passphrase_file, self._entrance.host, make_passphrase, keep=kept is not None
        )
        self._entrance.let_in(passphrase, kept)
        return passphrase

    def unlock_again(self, job: Job) -> str | None:
        """Let a run's clients in by the passphrase that they know; returns it where it is known."""
        kept = None if job.local else self._entrance.kept_passphrase()
        passphrase = self._options.passphrase or given_passphrase(self._options.passphrase_file)
        if job.local == job.clients and passphrase is None:
            passphrase = make_passphrase()  # nobody else needs to know it
        if passphrase is None and kept is None:
            if self._entrance.lost_passphrase:
                self._terminal.say(
                    "Note: the passphrase that was kept for this run can't be read back from server/state/. Give the "
                    "one that the clients know; with another one they have to be started again."
                )
            passphrase = self._answers.passphrase(None, self._entrance.host, make_passphrase, keep=False)
        self._entrance.let_in(passphrase, kept)
        self._entrance.keep_passphrase()
        return passphrase


def join_line(entrance: Entrance, workspace: Workspace) -> str:
    """The line to run on a client."""
    shown = lan_address() if entrance.host in ("0.0.0.0", "::", "") else entrance.host
    in_a_clone = (workspace.root / "client" / "__main__.py").is_file()
    program = "python client" if in_a_clone else "lanfit client"
    address = f"[{shown}]:{entrance.port}" if ":" in shown else f"{shown}:{entrance.port}"
    return f"{program} {address} --fingerprint {entrance.fingerprint}"
