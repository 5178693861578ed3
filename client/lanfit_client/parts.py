"""Which parts of the rows this client trains on: asked in the main thread, while the agent stays in touch meanwhile."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import queue
from collections.abc import Mapping
from typing import Any, TypeVar

from lanfit.fields import Value
from lanfit.parts import PartRange, read_range
from lanfit.terminal import Terminal
from lanfit.text import pluralize
from lanfit.wire.messages import TakeParts

T = TypeVar("T")
_Question = tuple[int, "concurrent.futures.Future[TakeParts]"]
#: How often a wait looks for a question, in seconds.
LOOK_SECONDS = 0.2


class _Over(Exception):
    """Nobody wants the answer any more."""


class PartsQuestions:
    """Asks for a name and for parts once a run, however often the server wants to know.

    Args:
        given: what flags say: that is not asked.
        settings: of client.toml: they are defaults.
        name: the default of the name.
    """

    def __init__(
        self, terminal: Terminal, given: Mapping[str, Value], settings: Mapping[str, Value], name: str
    ) -> None:
        self._terminal = terminal
        self._given = given
        self._settings = settings
        self._name = name
        self._wanted: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self._answers: dict[int, concurrent.futures.Future[TakeParts]] = {}
        self._work: concurrent.futures.Future[Any] | None = None
        self._asking = False

    async def answer(self, of: int) -> TakeParts:
        """For the agent: the answer for a job with so many parts; waits until the user has given it."""
        if of not in self._answers:
            self._answers[of] = concurrent.futures.Future()
            self._wanted.put((of, self._answers[of]))
        # Shielded: the answer is wanted again when a link that ended is there again.
        return await asyncio.shield(asyncio.wrap_future(self._answers[of]))

    def forget(self) -> None:
        """The run is over: the next one asks anew. A question that is being asked stays."""
        self._answers = {of: future for of, future in self._answers.items() if not future.done()}

    def serve(self, work: concurrent.futures.Future[T]) -> T:
        """For the main thread: ask what is to be asked until the work is done; returns its result.

        Raises:
            InputError: an answer was wrong, or the input ended.
        """
        self._work = work
        work.add_done_callback(self._end)
        try:
            while not work.done():
                # In short waits: on Windows a long one can't be interrupted by Ctrl-C.
                with contextlib.suppress(queue.Empty, _Over):
                    question = self._wanted.get(timeout=LOOK_SECONDS)
                    if question is not None:
                        self._answer(question)
            return work.result()
        except BaseException:
            work.cancel()
            raise

    def _answer(self, question: _Question) -> None:
        of, answer = question
        self._asking = True
        try:
            answer.set_result(self.ask(of))
        finally:
            self._asking = False

    def _end(self, work: concurrent.futures.Future[T]) -> None:
        """The work is done: nobody wants an answer any more, and the main thread must not wait for one."""
        self._wanted.put(None)
        if self._asking and not work.cancelled():
            self._terminal.say_now("Nothing is asked any more: press Enter.")

    def _check_wanted(self) -> None:
        if self._work is not None and self._work.done():
            raise _Over

    def ask(self, of: int) -> TakeParts:
        """The name and the parts.

        Raises:
            InputError: there is no such part, or the input ended.
        """
        terminal = self._terminal
        if self._given.get("name") is None or self._given.get("parts") is None:
            terminal.say(
                f"The rows of this job are cut into {pluralize(of, 'part')}; several clients may take the same ones."
            )
        name = self._given.get("name")
        if name is None:
            name = terminal.ask("Client id", "--name", self._read_name, default=self._name)
        parts = self._given.get("parts")
        if parts is None:
            setting = self._settings.get("parts")
            taken: PartRange = terminal.ask(
                f"Parts to train on, of 1 to {of} (as in 4 or 3-5)",
                "--parts",
                lambda text: self._read_parts(text, of),
                default="" if setting is None else str(setting),
            )
        else:
            taken = read_range(str(parts), of)
        return TakeParts(str(name), taken.first, taken.last)

    def _read_name(self, text: str) -> str:
        self._check_wanted()
        return text

    def _read_parts(self, text: str, of: int) -> PartRange:
        self._check_wanted()
        return read_range(text, of)
