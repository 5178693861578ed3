from __future__ import annotations

import io
import logging
import os
import pty
import queue
import re
import threading

import pytest
from screens import screen, seen

from lanfit.core.terminal import Terminal
from lanfit.errors import InputError


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
    assert "needs an answer" in screen.getvalue()
    assert b"41" not in echoed


def test_what_others_say_waits_until_an_open_question_is_answered() -> None:
    """Also where typing is hidden; and a warning of a log that nobody takes."""
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        found: list[str] = []
        for secret, question in ((True, "Passphrase"), (False, "Port")):
            asking = threading.Thread(
                target=lambda q=question, s=secret: found.append(terminal.ask(q, "--flag", str, default=None, secret=s))
            )
            asking.start()
            shown.wait_for(f"{question}: ")
            terminal.log(f"The backend is ready, {question}.")
            shown.type("velvet\n")
            asking.join(30)
            shown.wait_for(f"The backend is ready, {question}")
        terminal.log("All is said at once again.")
        shown.wait_for("at once again")
        assert found == ["velvet", "velvet"]
        assert seen(shown.written) == [
            "Passphrase:",
            "The backend is ready, Passphrase.",
            "Port: velvet",
            "The backend is ready, Port.",
            "All is said at once again.",
        ]


def test_what_ends_the_program_does_not_wait_for_an_answer() -> None:
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        asking = threading.Thread(target=lambda: terminal.ask("Port", "--port", str, default="1"))
        asking.start()
        shown.wait_for("Port")
        terminal.log_now("There is no backend.")
        shown.wait_for("no backend")
        shown.type("\n")
        asking.join(30)


def test_the_one_who_asks_explains_at_once() -> None:
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        asking = threading.Thread(target=lambda: terminal.ask("How many", "--many", number, default=None))
        asking.start()
        shown.wait_for("How many")
        shown.type("x\n")
        shown.wait_for(r"'x' is no number(?s:.*)How many: $")
        shown.type("4\n")
        asking.join(30)


def test_lines_stand_above_what_is_kept_up_to_date_and_a_question_takes_its_place() -> None:
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        with terminal.area(lambda width, height: [(f"{width}x{height} at work", "")]):
            shown.wait_for("80x24 at work")
            terminal.detail("epoch 1: the bar shows it")
            terminal.log("a client [joined]")
            shown.wait_for("joined")
            asking = threading.Thread(target=lambda: terminal.ask("Parts", "--parts", str, default="1"))
            asking.start()
            shown.wait_for("Parts")
            before = shown.written
            terminal.log("said meanwhile")
            assert seen(before) == ["a client [joined]", "Parts [1]:"]
            shown.type("3\n")
            asking.join(30)
            shown.wait_for("said meanwhile")
        terminal.log("the end")
        shown.wait_for("the end")
        assert seen(shown.written) == ["a client [joined]", "Parts [1]: 3", "said meanwhile", "the end"]
        assert "epoch 1" not in shown.written


def test_what_is_typed_meanwhile_leaves_nothing_on_the_screen() -> None:
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        with terminal.area(lambda width, height: [("a table", ""), ("of two lines", "")]):
            shown.wait_for("of two lines")
            shown.type("is it over?\n\n")
            terminal.log("a line")
            shown.wait_for("a line")
        terminal.log("the end")
        shown.wait_for("the end")
        assert seen(shown.written) == ["a line", "the end"]


def test_what_can_not_be_drawn_ends_nothing_and_a_pipe_is_not_drawn_on() -> None:
    def draw(width: int, height: int) -> list[tuple[str, str]]:
        raise RuntimeError("a bug")

    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        with terminal.area(draw):
            terminal.log("still here")
            shown.wait_for("still here")
    terminal, talk = piped("")
    with terminal.area(draw):
        terminal.detail("epoch 1")
    assert talk.getvalue() == "epoch 1\n"


def test_a_terminal_that_can_not_move_its_cursor_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        with terminal.area(lambda width, height: [("a bar", "")]):
            terminal.detail("epoch 1")
            shown.wait_for("epoch 1")
        assert not re.search("\x1b|a bar", shown.written)


def test_warnings_that_no_log_takes_wait_for_the_answer_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "lastResort", logging.lastResort)
    terminal, talk = piped("")
    terminal.take_logs()
    logger = logging.Logger("nobody's")
    logger.warning("a peer is %s", "odd")
    logger.info("not this")
    assert talk.getvalue() == "a peer is odd\n"


def test_a_key_before_enter_does_what_it_is_for_and_enter_what_is_waited_for() -> None:
    with screen() as shown:
        terminal = Terminal(shown.keyboard, shown.stream)
        pressed: queue.Queue[str] = queue.Queue()
        with terminal.on_enter(lambda: pressed.put("enter"), {"p": lambda: pressed.put("p")}) as possible:
            assert possible
            for line, meant in (("p\n", "p"), ("\n", "enter"), (" P \n", "p"), ("x\n", "enter")):
                shown.type(line)
                assert pressed.get(timeout=60) == meant
        assert "p" not in shown.written, "it was echoed"
