"""Questions that come up while the agent works: asked in the main thread, one after the other, as the agent goes on."""

from __future__ import annotations

import concurrent.futures
import contextlib
import queue
from collections.abc import Callable
from typing import Any, TypeVar

from lanfit.terminal import Terminal

T = TypeVar("T")
#: How often a wait looks for a question, in seconds.
LOOK_SECONDS = 0.2


class Over(Exception):
    """Nobody wants the answer any more."""


class Questions:
    """Carries questions from the agent's thread to the main thread, which alone reads what is typed."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._wanted: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._work: concurrent.futures.Future[Any] | None = None
        self._asking = False

    def submit(self, question: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Ask this in the main thread; from any thread. What the question raises ends the work."""
        answer = concurrent.futures.Future[T]()
        self._wanted.put(lambda: answer.set_result(question()))
        return answer

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
                with contextlib.suppress(queue.Empty, Over):
                    ask = self._wanted.get(timeout=LOOK_SECONDS)
                    if ask is not None:
                        self._ask(ask)
            return work.result()
        except BaseException:
            work.cancel()
            raise

    def _ask(self, ask: Callable[[], None]) -> None:
        self._asking = True
        try:
            ask()
        finally:
            self._asking = False

    def _end(self, work: concurrent.futures.Future[T]) -> None:
        """The work is done: nobody wants an answer any more, and the main thread must not wait for one."""
        self._wanted.put(None)
        if self._asking and not work.cancelled():
            self._terminal.say_now("Nothing is asked any more: press Enter.")

    def check_wanted(self) -> None:
        """Raise Over when the work is done, in the middle of a question."""
        if self._work is not None and self._work.done():
            raise Over
