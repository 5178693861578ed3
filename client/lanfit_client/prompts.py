"""Questions that arise while the agent works: asked in the main thread, one after another, while the agent
continues."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
from collections.abc import Callable
from typing import Any, TypeVar

from lanfit.core.terminal import Terminal

T = TypeVar("T")
#: How often a wait checks for a question, in seconds.
LOOK_SECONDS = 0.2


class Over(Exception):
    """The answer is no longer needed."""


class Prompts:
    """Carries questions from the agent's thread to the main thread, which alone reads input."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._wanted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work: concurrent.futures.Future[Any] | None = None
        self._is_prompting = False

    def submit(self, question: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Ask this in the main thread; from any thread. An exception of the question ends the work."""
        answer = concurrent.futures.Future[T]()
        self._wanted.put(lambda: answer.set_result(question()))
        return answer

    def serve(self, work: concurrent.futures.Future[T]) -> T:
        """Ask questions in the main thread until the work is done; return its result.

        Raises:
            InputError: an answer was invalid, or the input ended.
        """
        self._work = work
        work.add_done_callback(self._end)
        try:
            while not work.done():
                # In short waits: on Windows a long one can't be interrupted by Ctrl-C.
                with contextlib.suppress(queue.Empty, Over):
                    ask = self._wanted.get(timeout=LOOK_SECONDS)
                    if ask is not None:
                        self._ask(ask)
            return work.result()
        except BaseException:
            work.cancel()
            raise

    def _ask(self, ask: Callable[[], None]) -> None:
        self._is_prompting = True
        try:
            ask()
        finally:
            self._is_prompting = False

    def _end(self, work: concurrent.futures.Future[T]) -> None:
        """Wake the main thread: the work is done, and no answer is needed any more."""
        self._wanted.put(None)
        if self._is_prompting and not work.cancelled():
            self._terminal.log_now("No answer is needed any more: press Enter.")

    def check_wanted(self) -> None:
        """Raise Over if the work is done while a question is open."""
        if self._work is not None and self._work.done():
            raise Over
