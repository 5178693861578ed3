"""Asking and telling: questions from a terminal or from piped lines, talk on stderr. Decides nothing about answers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TextIO, TypeVar

from lanfit.errors import InputError, LanfitError
from lanfit.mistakes import mistake

T = TypeVar("T")


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
