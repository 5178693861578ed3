"""Enter pressed while something else goes on: heard inside its block, and never at the cost of an answer."""

from __future__ import annotations

import contextlib
import os
import queue
import sys
from collections.abc import Iterator
from io import StringIO

import pytest

from lanfit.core.terminal import Terminal

if sys.platform == "win32":
    pytest.skip("there are no pseudo terminals", allow_module_level=True)

import pty
import termios


@contextlib.contextmanager
def at_a_terminal() -> Iterator[tuple[int, Terminal]]:
    """What types, and a Terminal of which standard input is a terminal."""
    keyboard, screen = pty.openpty()
    try:
        with open(screen, closefd=False) as answers:
            yield keyboard, Terminal(answers, StringIO())
    finally:
        os.close(keyboard)
        os.close(screen)


def echoes(terminal: Terminal) -> bool:
    return bool(termios.tcgetattr(terminal._answers.fileno())[3] & termios.ECHO)


def test_each_enter_inside_the_block_is_noticed() -> None:
    pressed: queue.SimpleQueue[None] = queue.SimpleQueue()
    with at_a_terminal() as (keyboard, terminal), terminal.on_enter(lambda: pressed.put(None)) as possible:
        assert possible
        for _ in range(2):
            os.write(keyboard, b"\n")
            pressed.get(timeout=60)


def test_what_was_typed_before_the_block_is_not_meant_and_what_is_typed_after_it_is_an_answer() -> None:
    pressed: queue.SimpleQueue[None] = queue.SimpleQueue()
    with at_a_terminal() as (keyboard, terminal):
        os.write(keyboard, b"\n\n")
        with terminal.on_enter(lambda: pressed.put(None)):
            os.write(keyboard, b"now\n")
            pressed.get(timeout=60)
        os.write(keyboard, b"3\n")
        assert terminal.ask("How many", "--clients", int, default=None) == 3
    assert pressed.empty()


def test_what_is_typed_is_not_shown_inside_the_block_and_is_again_behind_it() -> None:
    with at_a_terminal() as (_, terminal):
        with terminal.on_enter(lambda: None):
            assert not echoes(terminal)
        assert echoes(terminal)


def test_without_a_terminal_nothing_is_read() -> None:
    answers = StringIO("\n3\n")
    terminal = Terminal(answers, StringIO())
    with terminal.on_enter(pytest.fail) as possible:
        assert not possible
    assert answers.tell() == 0
