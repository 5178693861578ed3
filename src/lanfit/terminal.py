"""Asking and telling: questions from a terminal or from piped lines, talk on stderr. Decides nothing about answers."""

from __future__ import annotations

import contextlib
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TextIO, TypeVar

from lanfit.errors import InputError, LanfitError
from lanfit.mistakes import mistake

T = TypeVar("T")
#: How often a thread that waits for Enter looks whether it is still to wait, in seconds.
LOOK_SECONDS = 0.2


class Terminal:
    """Where questions are asked and things are told.

    At a terminal a wrong answer is explained and asked again. Otherwise answers come line by line from standard input,
    and a wrong one ends the program.
    """

    def __init__(
        self, answers: TextIO | None = None, talk: TextIO | None = None, *, take_defaults: bool = False
    ) -> None:
        self._answers = answers or sys.stdin
        self._talk = talk or sys.stderr
        self.take_defaults = take_defaults
        self.interactive = self._answers is not None and self._answers.isatty()

    @property
    def stream(self) -> TextIO:
        """Where people read: for what is laid out for its width."""
        return self._talk

    def say(self, text: str = "") -> None:
        """Print a line for people."""
        print(text, file=self._talk, flush=True)

    def explain(self, wrong: LanfitError) -> None:
        """Print an error that does not end the program, and what to do about it."""
        self.say(f"  {wrong.message}" + (f"\n  → {wrong.hint}" if wrong.hint else ""))

    def ask(
        self,
        question: str,
        flag: str,
        accept: Callable[[str], T],
        *,
        default: str | None,
        shown_default: str = "",
        secret: bool = False,
    ) -> T:
        """Ask until `accept` returns for an answer; an empty answer is the default.

        Args:
            question: what is asked, without a colon.
            flag: what answers it on the command line; named in errors.
            accept: makes a value of the answer or raises InputError.
            default: the text that an empty answer stands for; None when there is none.
            shown_default: what to show as the default, where that is not the text itself.
            secret: do not echo what is typed.

        Raises:
            InputError: the input ended, or, when it is no terminal, the answer was wrong.
        """
        hint = shown_default or default or ""
        prompt = f"{question} [{hint}]: " if hint else f"{question}: "
        while True:
            if self.take_defaults:
                answer = ""
            else:
                line = self._read_line(prompt, secret)
                if not line:
                    self._talk.write("\n")
                    raise mistake("question.input-ended", question=question, flag=flag)
                if not self.interactive:
                    self._talk.write("\n")
                answer = line.strip("\r\n") if secret else line.strip()
            if not answer:
                if default is None:
                    self._explain_or_raise(mistake("question.no-default", question=question, flag=flag))
                    continue
                answer = default
            try:
                return accept(answer)
            except InputError as wrong:
                self._explain_or_raise(wrong)

    @contextlib.contextmanager
    def on_enter(self, call: Callable[[], None]) -> Iterator[bool]:
        """Call this, in a thread, each time that Enter is pressed inside this block; yields whether that is possible.

        It is at a terminal only. Nothing is read before the block and nothing after it, so no answer is lost; what was
        typed before the block is thrown away, because it can't be meant.
        """
        if not self.interactive:
            yield False
            return
        over = threading.Event()
        with _no_echo(self._answers):
            watching = threading.Thread(target=_watch, args=(self._answers.fileno(), call, over), daemon=True)
            _forget_typed(self._answers.fileno())
            watching.start()
            try:
                yield True
            finally:
                over.set()
                watching.join()

    def _explain_or_raise(self, wrong: LanfitError) -> None:
        if self.take_defaults or not self.interactive:
            raise wrong
        self.explain(wrong)

    def _read_line(self, prompt: str, secret: bool) -> str:
        # The echo is off before the prompt invites to type.
        with _no_echo(self._answers) if secret and self.interactive else contextlib.nullcontext(False) as hidden:
            self._talk.write(prompt)
            self._talk.flush()
            line = self._answers.readline()
        if hidden:
            self._talk.write("\n")
        return line


@contextlib.contextmanager
def _no_echo(stream: TextIO) -> Iterator[bool]:
    """Turn the echo of a terminal off where the system can; yields whether it is off.

    Not `getpass`: that throws away what was typed ahead.
    """
    try:
        import termios
    except ImportError:  # Windows: typed answers stay visible
        yield False
        return
    descriptor = stream.fileno()
    before = termios.tcgetattr(descriptor)
    silent = termios.tcgetattr(descriptor)
    silent[3] &= ~termios.ECHO
    termios.tcsetattr(descriptor, termios.TCSANOW, silent)
    try:
        yield True
    finally:
        termios.tcsetattr(descriptor, termios.TCSANOW, before)


def _watch(descriptor: int, call: Callable[[], None], over: threading.Event) -> None:
    """Call this for every Enter until it is over. Never blocks in a read, which nobody could end."""
    if sys.platform == "win32":
        import msvcrt

        while not over.wait(LOOK_SECONDS):
            while msvcrt.kbhit():
                if msvcrt.getwch() in "\r\n":
                    call()
        return
    while not over.is_set():
        readable, _, _ = select.select([descriptor], [], [], LOOK_SECONDS)
        if not readable:
            continue
        if _in_background(descriptor):  # to read would stop the process; what is typed is for the shell
            over.wait(LOOK_SECONDS)
            continue
        try:
            typed = os.read(descriptor, 4096)
        except OSError:  # the terminal is gone
            return
        if not typed:
            return
        for _ in range(typed.count(b"\n")):
            call()


def _in_background(descriptor: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        return os.tcgetpgrp(descriptor) != os.getpgrp()
    except OSError:  # not the terminal that this process is controlled by
        return False


def _forget_typed(descriptor: int) -> None:
    """Throw away what was typed and not read."""
    if sys.platform == "win32":
        import msvcrt

        while msvcrt.kbhit():
            msvcrt.getwch()
        return
    import termios

    termios.tcflush(descriptor, termios.TCIFLUSH)
