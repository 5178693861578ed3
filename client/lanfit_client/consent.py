"""Whether a server may train on this client's own data: only if its user allowed it, with --data or at a question.

Weights reveal rows, so without consent nothing is read and nothing is reported. A yes at the question applies to the
server with that certificate, and is saved in client/state; --data, a line in client.toml and the server that started
this client itself count as a yes for the servers of this start.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import msgspec

from lanfit.core.decoding import decode_json
from lanfit.core.durable import atomic_write
from lanfit.core.memory import readable_size
from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.net.tls import format_fingerprint
from lanfit.settings.fields import yes_or_no
from lanfit_client.corrections import snapshot
from lanfit_client.prompts import Prompts


class Consented(msgspec.Struct, frozen=True):
    """A server that may use the data; the file has it under the server's fingerprint."""

    address: str
    """Its address when the user agreed; for people."""


class Consents:
    """The servers in the file; read each time, so that a removed line takes effect at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, fingerprint: bytes) -> bool:
        """Return whether the user agreed to the server with this certificate."""
        return fingerprint.hex() in self._read()

    def add(self, fingerprint: bytes, address: str) -> None:
        """Save a yes.

        Raises:
            OSError: it can't be written.
        """
        consents = {**self._read(), fingerprint.hex(): Consented(address)}
        atomic_write(self._path, msgspec.json.format(msgspec.json.encode(consents), indent=2) + b"\n", mode=0o600)

    def _read(self) -> dict[str, Consented]:
        try:
            return decode_json(self._path.read_bytes(), dict[str, Consented])
        except (OSError, ValueError):
            return {}  # an unreadable file is not a yes: the user is asked again


class Consent:
    """Knows, and asks once, whether a server may use the data.

    Args:
        folder: the client's own data.
        file: where a yes at the question is saved.
        given: whether the user agreed when the client was started.
        terminal, questions: for the prompt; without them, or without a terminal, there is no prompt.
    """

    def __init__(
        self,
        folder: Path,
        file: Path,
        *,
        given: bool,
        terminal: Terminal | None = None,
        prompts: Prompts | None = None,
    ) -> None:
        self._folder = folder
        self._consents = Consents(file)
        self._given = given
        self._terminal = terminal
        self._prompts = prompts
        self._answers: dict[bytes, concurrent.futures.Future[bool]] = {}

    def is_given(self, fingerprint: bytes) -> bool:
        """Return whether the server with this certificate may use the data, without asking."""
        return self._given or self._consents.has(fingerprint)

    async def ask(self, fingerprint: bytes, address: str) -> bool:
        """Ask the user, if present; a no applies until this client exits, so that no server can ask repeatedly.

        For the agent. The question stays open when the link that caused it has ended.
        """
        terminal, prompts = self._terminal, self._prompts
        if terminal is None or prompts is None or not terminal.interactive:
            return False
        if fingerprint not in self._answers:
            self._answers[fingerprint] = prompts.submit(lambda: self._ask(terminal, prompts, fingerprint, address))
        return await asyncio.shield(asyncio.wrap_future(self._answers[fingerprint]))

    def _ask(self, terminal: Terminal, prompts: Prompts, fingerprint: bytes, address: str) -> bool:
        """Ask for consent; runs in the main thread."""
        files = snapshot(self._folder)
        held = f"{pluralize(len(files), 'file')}, {readable_size(sum(size for _, size, _ in files))}"
        terminal.log(
            f"The server at {address}, fingerprint {format_fingerprint(fingerprint)}, wants to train on this machine's "
            f"own data: {self._folder} ({held}).\n"
            "No row leaves this machine, but results computed from rows do: weights, metrics, the number of rows, "
            "the mean, minimum and maximum of each column, and the names of labels. The server's operator may be able "
            "to infer single rows from weights."
        )

        def read(text: str) -> bool:
            prompts.check_wanted()
            return yes_or_no(text)

        allowed = terminal.ask(
            "May the server use this data, now and in later runs? (y/N)", "--data", read, default="N"
        )
        if not allowed:
            terminal.log("The server may not use the data. Restart this client to be asked again.")
            return False
        try:
            self._consents.add(fingerprint, address)
        except OSError as error:
            terminal.log(
                "The server may use the data until this client ends; the answer could not be saved "
                f"({error.strerror or error})."
            )
        return True
