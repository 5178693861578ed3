"""The table of docs/errors.md: every error, from the one table of the code."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from error_texts import ERRORS
from tables_markdown import table

from lanfit.core.text import noun


def _errors() -> str:
    """Every error, one table an area; what differs from case to case is in italics."""
    areas = dict.fromkeys(code.partition(".")[0] for code in ERRORS)
    return "\n\n".join(f"### {area}\n\n{_errors_of(area)}" for area in areas)


def _field(found: re.Match[str]) -> str:
    """What differs from case to case, in italics; behind a number its noun."""
    behind = f" {noun(found[2], 2)}" if found[2] else ""
    return f"*{found[1].replace('_', ' ')}*{behind}"


def _errors_of(area: str) -> str:
    def shown(template: str) -> str:
        template = template.replace("{guess}", " (did you mean …?)")
        return re.sub(r"\{(\w+)[^:}]*(?::,?([a-z][a-z ]+)?[^}]*)?\}", _field, template)

    rows = [
        (f"`{code}`", entry.kind.exit_code, shown(entry.message), shown(entry.hint))
        for code, entry in ERRORS.items()
        if code.startswith(f"{area}.")
    ]
    return table(["code", "exit code", "what it says", "what to do"], rows)


TABLES: Mapping[str, Callable[[], str]] = {"errors": _errors}
