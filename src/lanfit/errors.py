"""The error tree of lanfit, and the texts of errors by their codes.

Every error for users states what happened and where (`message`) and what to do next (`hint`), and has the exit code of
the command that it ends. Scripts distinguish errors by their `code`: an area and some words, as `csv.empty-cell`. Each
package has a table of its errors, `errors.py`, which it registers when it is imported; the code that detects an error
raises `lanfit_error(code, …)`. Only protocol errors, which are not caused by users, are worded where they are raised.

    LanfitError              4   failed
    ├── InputError           2   wrong input: a file, an answer, a flag
    ├── RefusedError         3   the other side refused: passphrase, version, fingerprint
    ├── TrainingError        4   a task could not be trained
    ├── ConnectionFailed     4   no link, or the link ended
    ├── LocalProtocolError   4   our own bug: we were about to break the protocol
    └── RemoteProtocolError  4   the peer broke the protocol; the link is cut
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self


class LanfitError(Exception):
    """An error for the user: what happened, and what to do next."""

    exit_code = 4

    def __init__(self, message: str, hint: str = "", code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.code = code

    def at(self, where: str, about: str = "") -> Self:
        """Return the same error with the place in front of it, and an explanation of that place after the hint."""
        return type(self)(f"{where}: {self.message}", f"{self.hint} {about}".strip(), self.code)


class InputError(LanfitError):
    """Wrong input; nothing was changed."""

    exit_code = 2


class RefusedError(LanfitError):
    """The other side refused to let us in."""

    exit_code = 3


class TrainingError(LanfitError):
    """A task could not be trained."""


class ChildDied(TrainingError):
    """A process died while training its task."""


class ConnectionFailed(LanfitError):
    """There is no connection to the peer, or it ended."""


class LocalProtocolError(LanfitError):
    """We were about to violate the protocol: a bug in lanfit."""


class RemoteProtocolError(LanfitError):
    """The peer violated the protocol; the connection is closed."""


@dataclass(frozen=True)
class ErrorText:
    """The text of an error.

    Message and hint are templates of `str.format` with named fields. A noun after the colon is put into the plural if
    necessary: `{count:row}` and `{count:,row}`.
    """

    kind: type[LanfitError]
    """Decides the exit code."""
    message: str
    """What happened, and where: no initial capital, no final full stop."""
    hint: str
    """What to do next: one or more sentences."""

    @property
    def fields(self) -> frozenset[str]:
        """The names that the templates need."""
        parsed = (part for text in (self.message, self.hint) for part in string.Formatter().parse(text))
        return frozenset(name for _, name, _, _ in parsed if name)


#: The texts of all packages that were imported, by code.
_TEXTS: dict[str, ErrorText] = {}


def register(table: Mapping[str, ErrorText]) -> None:
    """Add the errors of a package."""
    assert not table.keys() & _TEXTS.keys(), f"registered twice: {table.keys() & _TEXTS.keys()}"
    _TEXTS.update(table)


def lanfit_error(code: str, /, **fields: object) -> LanfitError:
    """Return the error with this code, of its own class; `fields` are the fields of its templates."""
    return _TEXTS[code].kind(*texts(code, **fields))


def texts(code: str, /, **fields: object) -> tuple[str, str, str]:
    """Return message, hint and code, the arguments of every error class; for errors with further attributes.

    Quoted text, such as a label in a file, is sanitized, so that it can't control a terminal, a log or a page.
    """
    from lanfit.core.text import printable  # not at the top: lanfit.core registers errors itself

    found = _TEXTS[code]
    # A hint may begin with a field that is empty.
    return printable(_fill(found.message, fields)), printable(_fill(found.hint, fields)).strip(), code


def _fill(template: str, fields: Mapping[str, object]) -> str:
    return _FORMATTER.vformat(template, (), fields)


class _Formatter(string.Formatter):
    def format_field(self, value: object, format_spec: str) -> str:
        from lanfit.core.text import noun, pluralize

        found = _NOUN.fullmatch(format_spec)
        if found is None:
            return format(value, format_spec)
        if isinstance(value, int):
            return pluralize(value, found[2], grouped=bool(found[1]))
        return f"{value} {noun(found[2], 1 if value == '1' else 2)}"  # a shape, or a number that is text already


#: No format of a number has more than one letter without a digit in front.
_NOUN = re.compile(r"(,?)([a-z][a-z ]+)")
_FORMATTER = _Formatter()
