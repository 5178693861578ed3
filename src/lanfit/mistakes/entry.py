"""One line of the table of mistakes."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from dataclasses import dataclass

from lanfit.errors import LanfitError
from lanfit.text import noun, pluralize


@dataclass(frozen=True)
class Mistake:
    """What is said when something goes wrong.

    Message and hint are templates of `str.format` with named fields. A noun behind the colon is put into the plural:
    `{count:row}` and `{count:,row}`.
    """

    kind: type[LanfitError]
    """Decides the exit code."""
    message: str
    """What happened, and where: no capital in front, no full stop behind."""
    hint: str
    """What to do next: a sentence, or several."""

    @property
    def fields(self) -> frozenset[str]:
        """The names that the templates need."""
        parsed = (part for text in (self.message, self.hint) for part in string.Formatter().parse(text))
        return frozenset(name for _, name, _, _ in parsed if name)


def fill(template: str, fields: Mapping[str, object]) -> str:
    """Return a template with its fields filled in."""
    return _FORMATTER.vformat(template, (), fields)


class _Formatter(string.Formatter):
    def format_field(self, value: object, format_spec: str) -> str:
        found = _NOUN.fullmatch(format_spec)
        if found is None:
            return format(value, format_spec)
        if isinstance(value, int):
            return pluralize(value, found[2], grouped=bool(found[1]))
        return f"{value} {noun(found[2], 1 if value == '1' else 2)}"  # a shape, or a number that is text already


#: No format of a number has more than one letter without a digit in front.
_NOUN = re.compile(r"(,?)([a-z][a-z ]+)")
_FORMATTER = _Formatter()
