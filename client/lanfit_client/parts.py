"""The parts of the rows that this client trains on: asked in the main thread, while the agent stays connected."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Mapping

from lanfit.core.terminal import Terminal
from lanfit.core.text import pluralize
from lanfit.settings.fields import Value
from lanfit.settings.parts import PartRange, read_range
from lanfit.wire.messages import TakeParts
from lanfit_client.prompts import Prompts


class PartsPrompts:
    """Asks for a name and for parts once per run, however often the server requests them.

    Args:
        given: values of flags, which are not asked.
        settings: of client.toml: they are defaults.
        name: the default of the name.
        questions: carries them to the main thread.
    """

    def __init__(
        self,
        terminal: Terminal,
        given: Mapping[str, Value],
        settings: Mapping[str, Value],
        name: str,
        prompts: Prompts,
    ) -> None:
        self._terminal = terminal
        self._given = given
        self._settings = settings
        self._name = name
        self._prompts = prompts
        self._answers: dict[int, concurrent.futures.Future[TakeParts]] = {}

    async def answer(self, of: int) -> TakeParts:
        """Return the answer for a job with this many parts, for the agent; waits until the user has given it."""
        if of not in self._answers:
            self._answers[of] = self._prompts.submit(lambda: self.ask(of))
        # Shielded: the answer is still needed when a link that ended is replaced.
        return await asyncio.shield(asyncio.wrap_future(self._answers[of]))

    def forget(self) -> None:
        """End the run: the next one asks again. An open question stays."""
        self._answers = {of: future for of, future in self._answers.items() if not future.done()}

    def ask(self, of: int) -> TakeParts:
        """Ask for the name and the parts.

        Raises:
            InputError: there is no such part, or the input ended.
        """
        terminal = self._terminal
        if self._given.get("name") is None or self._given.get("parts") is None:
            terminal.log(
                f"The rows of this job are divided into {pluralize(of, 'part')}; several clients may choose the same "
                f"parts."
            )
        name = self._given.get("name")
        if name is None:
            name = terminal.ask("Client id", "--name", self._read_name, default=self._name)
        parts = self._given.get("parts")
        if parts is None:
            setting = self._settings.get("parts")
            taken: PartRange = terminal.ask(
                f"Parts to train on, from 1 to {of} (such as 4 or 3-5)",
                "--parts",
                lambda text: self._read_parts(text, of),
                default="" if setting is None else str(setting),
            )
        else:
            taken = read_range(str(parts), of)
        return TakeParts(str(name), taken.first, taken.last)

    def _read_name(self, text: str) -> str:
        self._prompts.check_wanted()
        return text

    def _read_parts(self, text: str, of: int) -> PartRange:
        self._prompts.check_wanted()
        return read_range(text, of)
