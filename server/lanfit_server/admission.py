"""Questions 2 and 6, about the way in: the port and the passphrase; and the line to run on the clients."""

from __future__ import annotations

from collections.abc import Sequence

from lanfit.job import Job
from lanfit.net.addresses import ALL_ADDRESSES, is_loopback, with_port
from lanfit.passphrase import given_passphrase
from lanfit.terminal import Terminal
from lanfit.workspace import Workspace
from lanfit_server.entrance import Entrance
from lanfit_server.interfaces import Candidate, interfaces_here, ranked
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
        self._terminal.say(how_to_join(entrance, self._options.workspace))
        if entrance.note:
            self._terminal.say(f"Note: {entrance.note}.")

    def unlock(self, runs: Sequence[str] = ()) -> str | None:
        """Question 6: from now on clients can log in. Returns the passphrase, None for the kept one.

        Args:
            runs: the unfinished ones whose results are collected, oldest first: the newest one's may be kept.
        """
        of = self._entrance.kept_passphrases(runs)
        kept = of[max(of, key=runs.index)] if of else None
        passphrase = self._options.passphrase or self._answers.passphrase(
            self._options.passphrase_file, self._entrance.host, make_passphrase, keep=kept is not None
        )
        self._entrance.let_in(passphrase, kept)
        if passphrase is None and (others := [run for run in of if of[run] != kept]):
            self._terminal.say(
                f"Note: the clients of run {', '.join(others)} know another passphrase. To collect their results, too, "
                "start again then, and give that one."
            )
        return passphrase

    def unlock_again(self, job: Job, run: str) -> str | None:
        """Let a run's clients in by the passphrase that they know; returns it where it is known."""
        kept = None if job.local else self._entrance.kept_passphrase(run)
        passphrase = self._options.passphrase or given_passphrase(self._options.passphrase_file)
        if job.local == job.clients and passphrase is None:
            passphrase = make_passphrase()  # nobody else needs to know it
        if passphrase is None and kept is None:
            if self._entrance.lost_passphrase(run):
                self._terminal.say(
                    "Note: the passphrase that was kept for this run can't be read back from server/state/. Give the "
                    "one that the clients know; with another one they have to be started again."
                )
            passphrase = self._answers.passphrase(None, self._entrance.host, make_passphrase, keep=False)
        self._entrance.let_in(passphrase, kept)
        self._entrance.keep_passphrase(run)
        return passphrase


def how_to_join(entrance: Entrance, workspace: Workspace) -> str:
    """What the operator is told: where the server listens, the line to run on a client, and what to know about it."""
    here = [each for each in ranked(interfaces_here()) if _listens(entrance.addresses, each.address)]
    in_a_clone = (workspace.root / "client" / "__main__.py").is_file()
    program = "python client" if in_a_clone else "lanfit client"
    return said_of_joining(entrance.host, entrance.port, entrance.addresses, here, program, entrance.fingerprint)


def _listens(addresses: Sequence[str], address: str) -> bool:
    return ("::" if ":" in address else "0.0.0.0") in addresses


def said_of_joining(
    host: str, port: int, addresses: Sequence[str], here: Sequence[Candidate], program: str, fingerprint: str
) -> str:
    """The lines for the operator.

    Args:
        host: what the operator chose to listen on.
        addresses: what that stands for.
        here: where that is all addresses: those of this machine, the best first.
    """
    host = host.strip().removeprefix("[").removesuffix("]")
    everywhere = host in ALL_ADDRESSES
    remarks = []
    joined = (here[0].address if here else "127.0.0.1") if everywhere else host
    if everywhere and not here:
        remarks.append("This machine is in no network: only clients on this machine can join.")
    elif not is_loopback(host) and all(map(is_loopback, addresses)):
        remarks.append(f"{host} is an address that no other machine reaches: only clients on this machine can join.")
    if "%" in joined:
        zone = joined.partition("%")[2]
        remarks.append(f"Instead of {zone}, each client needs the name of its own interface.")
    if others := here[1:]:
        which = "Another address" if len(others) == 1 else "Other addresses"
        remarks.append(f"{which} of this machine: {', '.join(other.said for other in others)}.")
    if not is_loopback(host):
        remarks.append("--fingerprint may be left out at the first join: the passphrase is enough.")
    line = f"{program} {with_port(joined, port)} --fingerprint {fingerprint}"
    where = "all addresses" if everywhere else host
    return "\n".join([f"Listening on {where}, port {port}. On each client run:", f"\n    {line}\n", *remarks])
