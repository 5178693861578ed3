"""Whether a server may train on this machine's own data: only if its user said so, by --data or at a question.

Weights give rows away, so without a word from the user nothing is read and nothing is told. A yes at the question holds
for the server with that certificate, and is kept in client/state; --data, a line in client.toml and the server that
started this client itself are a yes for the servers of this start.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from pathlib import Path

import msgspec

from lanfit.data.memory import readable_size
from lanfit.durable import write_whole
from lanfit.fields import yes_or_no
from lanfit.net.tls import format_fingerprint
from lanfit.terminal import Terminal
from lanfit.text import pluralize
from lanfit_client.corrections import snapshot
from lanfit_client.questions import Questions


class Consented(msgspec.Struct, frozen=True):
    """A server that may use the own data, as the file has it under the server's fingerprint."""

    address: str
    """Where it was when the user said yes; for people."""


class Consents:
    """The servers in the file; read each time it is asked, so that a line that is removed counts at once."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def has(self, fingerprint: bytes) -> bool:
        """Whether the user said yes to the server with this certificate."""
        return fingerprint.hex() in self._read()

    def add(self, fingerprint: bytes, address: str) -> None:
        """Keep a yes.

        Raises:
            OSError: it can't be written.
        """
        consents = {**self._read(), fingerprint.hex(): Consented(address)}
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(consents), indent=2) + b"\n", mode=0o600)

    def _read(self) -> dict[str, Consented]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Consented])
        except (OSError, msgspec.DecodeError, UnicodeDecodeError):  # what can't be read is no yes: it is asked again
            return {}


class Consent:
    """Knows, and asks once, whether a server may use the own data.

    Args:
        folder: the own data.
        file: where a yes at the question is kept.
        given: whether the user said yes when the client was started.
        terminal, questions: where the user is asked; nobody is without them, and where the terminal is none.
    """

    def __init__(
        self,
        folder: Path,
        file: Path,
        *,
        given: bool,
        terminal: Terminal | None = None,
        questions: Questions | None = None,
    ) -> None:
        self._folder = folder
        self._consents = Consents(file)
        self._given = given
        self._terminal = terminal
        self._questions = questions
        self._answers: dict[bytes, concurrent.futures.Future[bool]] = {}

    def is_given(self, fingerprint: bytes) -> bool:
        """Whether the server with this certificate may use the data, by what is known without a question."""
        return self._given or self._consents.has(fingerprint)

    async def ask(self, fingerprint: bytes, address: str) -> bool:
        """Ask the user, if one is there; a no holds until this client ends, so that no server can ask again and again.

        For the agent. The question stays open when the link that it came up on has ended.
        """
        terminal, questions = self._terminal, self._questions
        if terminal is None or questions is None or not terminal.interactive:
            return False
        if fingerprint not in self._answers:
            self._answers[fingerprint] = questions.submit(lambda: self._ask(terminal, questions, fingerprint, address))
        return await asyncio.shield(asyncio.wrap_future(self._answers[fingerprint]))

    def _ask(self, terminal: Terminal, questions: Questions, fingerprint: bytes, address: str) -> bool:
        """In the main thread."""
        files = snapshot(self._folder)
        held = f"{pluralize(len(files), 'file')}, {readable_size(sum(size for _, size, _ in files))}"
        terminal.say(
            f"The server at {address}, fingerprint {format_fingerprint(fingerprint)}, wants to train on this machine's "
            f"own data: {self._folder} ({held}).\n"
            "No row leaves this machine. What is computed from rows does: weights, scores, how many rows there are, "
            "the mean, smallest and largest value of each column, the names of labels. From weights, who has the "
            "server may find out what single rows hold."
        )

        def read(text: str) -> bool:
            questions.check_wanted()
            return yes_or_no(text)

        allowed = terminal.ask("May it use this data, now and in later runs? (y/N)", "--data", read, default="N")
        if not allowed:
            terminal.say("It may not, and is told so. Start this client again to be asked again.")
            return False
        try:
            self._consents.add(fingerprint, address)
        except OSError as wrong:
            terminal.say(f"It may, until this client ends: that could not be written down ({wrong.strerror or wrong}).")
        return True
