"""The table of all errors that a user can meet: what each says, and what to do about it. One module an area.

Decides nothing: who finds a mistake raises `mistake(code, …)`. A code is an area and some words, as `csv.empty-cell`.
"""

from __future__ import annotations

from collections.abc import Mapping

from lanfit.errors import LanfitError
from lanfit.mistakes import (
    answers,
    client,
    custom,
    dealing,
    files,
    models,
    net,
    own_data,
    prepare,
    python,
    rows,
    server,
    training,
)
from lanfit.mistakes.entry import Mistake, fill
from lanfit.text import printable

MISTAKES: Mapping[str, Mistake] = {
    **answers.MISTAKES,
    **files.MISTAKES,
    **rows.MISTAKES,
    **dealing.MISTAKES,
    **models.MISTAKES,
    **training.MISTAKES,
    **server.MISTAKES,
    **client.MISTAKES,
    **custom.MISTAKES,
    **net.MISTAKES,
    **own_data.MISTAKES,
    **prepare.MISTAKES,
    **python.MISTAKES,
}


def mistake(code: str, /, **fields: object) -> LanfitError:
    """The error of this code, in its own class; `fields` are what its templates name."""
    return MISTAKES[code].kind(*texts(code, **fields))


def texts(code: str, /, **fields: object) -> tuple[str, str, str]:
    """Message, hint and code: what the constructor of every error takes; for errors that carry more than that.

    What they quote, such as a label in a file, can't steer the terminal, the log or the page that shows them.
    """
    found = MISTAKES[code]
    # A hint may begin with a field that is empty this time.
    return printable(fill(found.message, fields)), printable(fill(found.hint, fields)).strip(), code
