"""Question 6: what is typed is not seen, and can be seen later; asked once, as every question."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import pytest
from screens import Screen, screen

from lanfit.core.terminal import Terminal
from lanfit.errors import InputError
from lanfit_server.start.passphrase import make_passphrase
from lanfit_server.start.prompts import Answers

TYPED = "velvet otter rinse cargo"


class Asked:
    """The question at a terminal, asked in a thread."""

    def __init__(self, shown: Screen) -> None:
        self.answers: list[str | None] = []
        answers = Answers(Terminal(shown.keyboard, shown.stream), {}, {})
        self._asking = threading.Thread(
            target=lambda: self.answers.append(answers.passphrase(None, "0.0.0.0", make_passphrase, keep=False))
        )
        self._asking.start()

    def end(self) -> str | None:
        self._asking.join(60)
        [answer] = self.answers
        return answer


def test_a_typed_passphrase_is_not_shown_and_how_to_see_it_is_reported() -> None:
    with screen() as shown:
        asked = Asked(shown)
        shown.wait_for(r"Passphrase \[four random words\]: ")
        shown.type(f"{TYPED}\n")
        assert asked.end() == TYPED
        shown.wait_for("type p and press Enter")
        assert "velvet" not in shown.written


def test_one_that_is_too_easy_is_refused() -> None:
    with screen() as shown:
        asked = Asked(shown)
        shown.wait_for("Passphrase .*: ")
        shown.type("dragon\n")
        shown.wait_for(r"(?s)too easy.*Passphrase \[four random words\]: ")
        shown.type("\n")
        made = asked.end()
        assert made is not None
        shown.wait_for(f"The passphrase is: {made}")


def test_without_a_terminal_it_is_one_line(tmp_path: Path) -> None:
    talk = io.StringIO()
    answers = Answers(Terminal(io.StringIO(f"{TYPED}\nthe next answer\n"), talk), {}, {})
    kwargs: dict[str, Any] = {"keep": False}
    assert answers.passphrase(None, "0.0.0.0", make_passphrase, **kwargs) == TYPED
    assert "p and Enter" not in talk.getvalue()
    with pytest.raises(InputError):
        Answers(Terminal(io.StringIO("dragon\n"), talk), {}, {}).passphrase(None, "0.0.0.0", make_passphrase, **kwargs)
