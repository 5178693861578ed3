"""Trigger the errors of the table from the outside: each case breaks something, and states which error must follow.

A case is a function that breaks a workspace and returns how to start the command; `fails_with` registers it with the
code that the command must end with, so that a test can tell which codes have no case.
"""

from __future__ import annotations

import json
import os
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from error_tables import ERRORS
from running import PASSPHRASE, Place, Program, flags, free_port
from warm import WarmModels, run_here

#: A program that makes models in the folder that it is given; each takes rows of two columns.
TINY_MODELS = """
import pathlib, sys
import keras

def save(name, outputs, activation, loss):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs, activation)])
    model.compile("adam", loss)
    model.save(pathlib.Path(sys.argv[1]) / f"{name}.h5")

save("classes", 3, "softmax", "sparse_categorical_crossentropy")
save("one_hot", 3, "softmax", "categorical_crossentropy")
save("yes_no", 1, "sigmoid", "binary_crossentropy")
save("numbers", 1, None, "mean_squared_error")
"""


@dataclass(frozen=True)
class Start:
    """How the server is started on what was spoilt."""

    changes: Mapping[str, object] = field(default_factory=dict)
    """Flags beside those that answer every question; with `answers` they are the only ones."""
    arguments: Sequence[object] = ()
    answers: str | None = None
    """Lines for standard input, for the questions that are not answered by flags."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of `Program`."""


Corrupt = Callable[[Place], Start | None]


@dataclass(frozen=True)
class ErrorCase:
    """What is done, the code that the server must end with, and what must be named beside the table's own words."""

    corrupt: Corrupt
    code: str
    causes: Sequence[str]
    named: Sequence[str]
    """Codes of errors that are told inside of the message of the first."""

    def __str__(self) -> str:
        return f"{self.code}-{self.corrupt.__name__}"


class ErrorCases(list[ErrorCase]):
    """The scenarios of a module."""

    def fails_with(self, code: str, *causes: str, named: Sequence[str] = ()) -> Callable[[Corrupt], Corrupt]:
        """Write a scenario down."""

        def add(corrupt: Corrupt) -> Corrupt:
            self.append(ErrorCase(corrupt, code, causes, named))
            return corrupt

        return add


def check(place: Place, case: ErrorCase, models: WarmModels, **usual: object) -> None:
    """Run a scenario: exit code, cause and hint are those of the table, no traceback shows, and nothing was changed.

    It runs in this process, unless it needs an environment of its own.
    """
    start = case.corrupt(place) or Start()
    before = place.files()
    values = {"port": free_port(), "clients": 2, **usual, **start.changes}
    arguments = (
        flags(**values)
        if start.answers is None
        else [part for key, value in start.changes.items() for part in (f"--{key.replace('_', '-')}", value)]
    )
    arguments = ["server", "--json", *start.arguments, *arguments]
    if "environment" in start.options:
        with Program(*arguments, folder=place.root, answers=start.answers, **start.options) as server:
            server.finish(exit_code(case.code))
        printed, output = server.output, server.stdout.decode()
    else:
        options = {"passphrase": PASSPHRASE, "answers": start.answers, **start.options}
        done = run_here(models, place.root, arguments, **options)
        assert done.exit_code == exit_code(case.code), (done.output, done.exception)
        printed, output = done.stderr, done.stdout
    assert "Traceback" not in printed
    error = json.loads(output)
    assert set(error) == {"error", "hint", "code"}
    assert error["code"] == case.code, error
    assert_reported(case.code, error["error"] + "\n" + error["hint"])
    for code in case.named:
        assert_reported(code, error["error"])
    for cause in case.causes:
        assert cause in error["error"] + error["hint"], error
    assert f"Error: {error['error']}\n  → {error['hint']}\n" in printed.replace("\r\n", "\n")
    assert place.files() == before


def hide(place: Place, *libraries: str) -> Mapping[str, Any]:
    """Options of a program for which these libraries are not installed."""
    folder = place.root / "server" / "state" / "hidden"
    folder.mkdir(parents=True)
    for name in libraries:
        (folder / f"{name}.py").write_text(f"raise ImportError({name!r})\n")
    before = os.environ.get("PYTHONPATH")
    return {"environment": {"PYTHONPATH": os.pathsep.join([str(folder), *([before] if before else [])])}}


class Dialogue:
    """What is said at a terminal, heard once, in order."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self._read = 0

    def expect(self, words: str) -> str:
        """Wait for these words; returns what was said since the last ones, up to them."""
        found = self._program.expect(rf"(?s)\A.{{{self._read}}}(.*?){re.escape(words)}")
        self._read = found.end()
        return found[1]

    def answer(self, question: str, text: str) -> str:
        """Wait for a question, and type an answer; returns what was said until it came."""
        printed = self.expect(question)
        self._program.type(text)
        return printed

    def explains(self, code: str, question: str) -> str:
        """The answer is explained in the words of this error, and the question comes again; returns what was said."""
        printed = self.expect(f"\n{question}")
        assert_reported(code, printed)
        self._read -= len(question)
        return printed


def exit_code(code: str) -> int:
    """What the design says: 2 for wrong input, 3 for a refusal, 4 for all else."""
    return {"InputError": 2, "RefusedError": 3}.get(ERRORS[code].kind.__name__, 4)


def assert_reported(code: str, text: str) -> None:
    """The message of an error, and behind it the hint, stand in a text, whatever their fields hold."""
    entry = ERRORS[code]
    found = re.search(pattern(entry.message) + ".*" + pattern(entry.hint), text, re.DOTALL)
    assert found, f"{code} is not told by:\n{text}"


def pattern(template: str) -> str:
    """A regular expression for what a template becomes."""
    return "".join(
        re.escape(text) + ("" if name is None else ".*?") for text, name, _, _ in string.Formatter().parse(template)
    )
