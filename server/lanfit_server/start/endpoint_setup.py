"""Questions 2 and 6, about connections: the port and the passphrase; and the command to run on the clients."""

from __future__ import annotations

from collections.abc import Sequence

from lanfit.core.loop import LoopThread
from lanfit.core.passphrase import given_passphrase
from lanfit.core.terminal import Terminal
from lanfit.core.workspace import Workspace
from lanfit.net.addresses import ALL_ADDRESSES, is_loopback, with_port
from lanfit.settings.job import Job
from lanfit_server.start.endpoint import Endpoint
from lanfit_server.start.interfaces import Candidate, interfaces_here, ranked
from lanfit_server.start.options import Options
from lanfit_server.start.passphrase import make_passphrase
from lanfit_server.start.prompts import Answers


class EndpointSetup:
    """Asks for the settings of an endpoint."""

    def __init__(
        self, endpoint: Endpoint, options: Options, answers: Answers, terminal: Terminal, loop: LoopThread
    ) -> None:
        self._endpoint = endpoint
        self._loop = loop
        self._options = options
        self._answers = answers
        self._terminal = terminal

    def open(self) -> None:
        """Question 2: listen immediately, and print the command to run on a client."""
        endpoint = self._endpoint
        self._answers.ask("port", check=lambda port: self._loop.call(endpoint.listen(int(str(port)))))
        self._terminal.log(how_to_join(endpoint, self._options.workspace))
        if endpoint.note:
            self._terminal.log(f"Note: {endpoint.note}.")

    def unlock(self, runs: Sequence[str] = ()) -> str | None:
        """Question 6: admit clients from now on. Return the passphrase, None for the saved one.

        Args:
            runs: the unfinished runs whose results are collected, oldest first: the newest passphrase may be kept.
        """
        of = self._endpoint.kept_passphrases(runs)
        stored = of[max(of, key=runs.index)] if of else None
        passphrase = self._options.passphrase or self._answers.passphrase(
            self._options.passphrase_file, self._endpoint.host, make_passphrase, keep=stored is not None
        )
        self._endpoint.let_in(passphrase, stored)
        if passphrase is None and (others := [run for run in of if of[run] != stored]):
            self._terminal.log(
                f"Note: the clients of run {', '.join(others)} use another passphrase. To collect their results as "
                "well, restart the server later with that passphrase."
            )
        return passphrase

    def unlock_again(self, job: Job, run: str) -> str | None:
        """Admit the clients of a run by the passphrase that they know; return it if it is known."""
        stored = self._endpoint.kept_passphrase(run)
        passphrase = self._options.passphrase or given_passphrase(self._options.passphrase_file)
        if job.local == job.clients and passphrase is None and stored is None:
            passphrase = make_passphrase()  # no user needs to know it
        if passphrase is None and stored is None:
            if self._endpoint.lost_passphrase(run):
                self._terminal.log(
                    "Note: the saved passphrase of this run can't be read from server/state/. Enter the one that the "
                    "clients know; with another one they must be restarted."
                )
            passphrase = self._answers.passphrase(None, self._endpoint.host, make_passphrase, keep=False)
        self._endpoint.let_in(passphrase, stored)
        self._endpoint.keep_passphrase(run)
        return passphrase


def how_to_join(endpoint: Endpoint, workspace: Workspace) -> str:
    """Return the lines for the operator: the addresses of the server, the command for a client, and notes."""
    here, program = _reachable(endpoint), _program(workspace)
    return joining_lines(endpoint.host, endpoint.port, endpoint.addresses, here, program, endpoint.fingerprint)


def join_command(endpoint: Endpoint, workspace: Workspace) -> str:
    """Return the command to run on a client."""
    host = joined_host(endpoint.host, _reachable(endpoint))
    return f"{_program(workspace)} {with_port(host, endpoint.port)} --fingerprint {endpoint.fingerprint}"


def _reachable(endpoint: Endpoint) -> list[Candidate]:
    return [each for each in ranked(interfaces_here()) if _listens(endpoint.addresses, each.address)]


def _program(workspace: Workspace) -> str:
    in_a_clone = (workspace.root / "client" / "__main__.py").is_file()
    return "python client" if in_a_clone else "lanfit client"


def joined_host(host: str, here: Sequence[Candidate]) -> str:
    """Return the address that clients join: if the server listens on all addresses, the best of them."""
    host = host.strip().removeprefix("[").removesuffix("]")
    if host in ALL_ADDRESSES:
        return here[0].address if here else "127.0.0.1"
    return host


def _listens(addresses: Sequence[str], address: str) -> bool:
    return ("::" if ":" in address else "0.0.0.0") in addresses


def joining_lines(
    host: str, port: int, addresses: Sequence[str], here: Sequence[Candidate], program: str, fingerprint: str
) -> str:
    """Return the lines for the operator.

    Args:
        host: the address that the operator chose.
        addresses: the addresses that it resolves to.
        here: if that is all addresses: those of this machine, the best first.
    """
    host = host.strip().removeprefix("[").removesuffix("]")
    everywhere = host in ALL_ADDRESSES
    remarks = []
    joined = joined_host(host, here)
    if everywhere and not here:
        remarks.append("This machine is not on a network: only clients on this machine can join.")
    elif not is_loopback(host) and all(map(is_loopback, addresses)):
        remarks.append(f"{host} is not reachable from other machines: only clients on this machine can join.")
    if "%" in joined:
        zone = joined.partition("%")[2]
        remarks.append(f"Each client must replace {zone} with the name of its own interface.")
    if others := here[1:]:
        which = "Another address" if len(others) == 1 else "Other addresses"
        remarks.append(f"{which} of this machine: {', '.join(other.description for other in others)}.")
    if not is_loopback(host):
        remarks.append("--fingerprint may be omitted when joining for the first time: the passphrase is enough.")
    line = f"{program} {with_port(joined, port)} --fingerprint {fingerprint}"
    where = "all addresses" if everywhere else host
    return "\n".join([f"Listening on {where}, port {port}. On each client run:", f"\n    {line}\n", *remarks])
