"""One line of the table of mistakes."""

from __future__ import annotations

import string
from dataclasses import dataclass

from lanfit.errors import LanfitError


@dataclass(frozen=True)
class Mistake:
    """What is said when something goes wrong. Message and hint are templates of `str.format` with named fields."""

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
