from __future__ import annotations

import io
import os
import pty
import threading

import pytest

from lanfit.errors import InputError
from lanfit.terminal import Terminal


def number(text: str) -> int:
    if not text.isdecimal():
        raise InputError(f"{text!r} is no number", "type digits")
    return int(text)


def piped(answers: str, *, take_defaults: bool = False) -> tuple[Terminal, io.StringIO]:
    talk = io.StringIO()
    return Terminal(io.StringIO(answers), talk, take_defaults=take_defaults), talk


def test_answers_come_line_by_line_and_an_empty_one_is_the_default() -> None:
    terminal, talk = piped("7\n\n")
    assert terminal.ask("How many", "--many", number, default="3") == 7
    assert terminal.ask("How many", "--many", number, default="3") == 3
    assert talk.getvalue() == "How many [3]: \nHow many [3]: \n"


def test_a_piped_wrong_answer_ends_it() -> None:
    terminal, _ = piped("x\n4\n")
    with pytest.raises(InputError, match="'x' is no number"):
        terminal.ask("How many", "--many", number, default=None)


def test_the_end_of_the_input_names_question_and_flag() -> None:
    terminal, _ = piped("")
    with pytest.raises(InputError, match="'How many'") as wrong:
        terminal.ask("How many", "--many", number, default="3")
    assert "--many" in wrong.value.hint


def test_a_question_without_a_default_needs_an_answer() -> None:
    terminal, _ = piped("\n")
    with pytest.raises(InputError, match="no default"):
        terminal.ask("How many", "--many", number, default=None)


def test_defaults_are_taken_without_asking() -> None:
    terminal, talk = piped("9\n", take_defaults=True)
    assert terminal.ask("How many", "--many", number, default="3") == 3
    assert talk.getvalue() == ""


class FakeScreen(io.StringIO):
    """What was shown, with a way to wait for it."""

    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def write(self, text: str) -> int:
        with self.changed:
            self.changed.notify_all()
            return super().write(text)

    def wait_for(self, text: str, times: int = 1) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.getvalue().count(text) >= times, 30), self.getvalue()


def test_at_a_terminal_a_wrong_answer_is_explained_and_asked_again_and_a_secret_is_not_echoed() -> None:
    master, slave = pty.openpty()
    screen = FakeScreen()
    with os.fdopen(slave, "r") as keyboard:
        terminal = Terminal(keyboard, screen)
        assert terminal.interactive
        found: list[int] = []
        asking = threading.Thread(
            target=lambda: found.append(terminal.ask("Secret number", "--many", number, default=None, secret=True))
        )
        asking.start()
        for times, text in enumerate((b"abc\n", b"\n", b"41\n"), start=1):
            screen.wait_for("Secret number: ", times)
            os.write(master, text)
        asking.join(30)
        assert found == [41]
        os.set_blocking(master, False)
        try:
            echoed = os.read(master, 1000)
        except BlockingIOError:
            echoed = b""
    os.close(master)
    assert "'abc' is no number" in screen.getvalue()
    assert "has no default" in screen.getvalue()
    assert b"41" not in echoed
